"""Intervals, tests and verdicts, by hand, by simulation and against scipy and statsmodels."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from sympo import stats


def test_mean_interval_by_hand():
    # mean 2, s = 1, t(0.975, 2) = 4.302653 from a printed table, half width 4.302653 / √3
    interval = stats.mean_interval([1, 2, 3])
    assert interval == pytest.approx((2, 2 - 2.484138, 2 + 2.484138, 3), abs=1e-5)


def test_a_clustered_mean_is_that_of_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    generator = np.random.default_rng(0)
    clusters = generator.integers(0, 40, 150)
    # what the values of a cluster share makes the interval wider than that of independent ones
    values = generator.normal(0.3, 1, 150) + generator.normal(0, 1, 40)[clusters]
    options = {"groups": clusters, "use_correction": False, "df_correction": False}
    fit = api.OLS(values, np.ones(150)).fit(cov_type="cluster", cov_kwds=options)
    names = np.unique(clusters)
    error = fit.bse[0] * np.sqrt(len(names) / (len(names) - 1))
    half = scipy_stats.t.ppf(0.975, len(names) - 1) * error
    found = stats.clustered_mean(values, clusters)
    assert found[:4] == pytest.approx(
        (values.mean(), values.mean() - half, values.mean() + half, len(names))
    )
    assert found.p == pytest.approx(2 * scipy_stats.t.sf(values.mean() / error, len(names) - 1))
    assert found.high - found.low > 1.2 * np.ptp(stats.mean_interval(values)[1:3])


def test_a_clustered_mean_of_single_values_is_a_mean():
    values = np.random.default_rng(1).normal(0.2, 1, 30)
    found = stats.clustered_mean(values, [f"prompt {i}" for i in range(30)])
    assert found == pytest.approx(stats.paired_difference(values, np.zeros(30)))


def test_a_clustered_mean_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(2)
    clusters = np.repeat(np.arange(30), 3)
    covered = []
    for _ in range(1000):
        values = generator.normal(size=90) + generator.normal(size=30)[clusters]
        interval = stats.clustered_mean(values, clusters)
        covered.append(interval.low <= 0 <= interval.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 1000))


def test_a_clustered_mean_without_a_spread_or_without_clusters():
    assert stats.clustered_mean([0.5, 0.5, 0.5], [0, 0, 1])[:5] == (0.5, 0.5, 0.5, 2, 0.0)
    assert stats.clustered_mean([0, 0], [0, 1]).p == 1
    with pytest.raises(ValueError, match="clusters has 1 different names"):
        stats.clustered_mean([1, 2], ["a", "a"])
    with pytest.raises(ValueError, match="clusters has 3 names for 2 values: give one of each"):
        stats.clustered_mean([1, 2], ["a", "b", "c"])


@pytest.mark.parametrize("scale", [1e-13, 1, 1e9])
def test_values_that_cancel_but_for_rounding_are_no_evidence(scale):
    clusters = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    found = stats.clustered_mean(scale * np.array([0.1, 0.2, -0.3] * 3), clusters)
    assert found == (0, 0, 0, 3, 1, 0)
    assert {type(found.low), type(found.high)} == {float}
    # all 0.7 but for rounding: no spread, as in paired_difference
    same = stats.clustered_mean(scale * np.array([0.7, 0.1 + 0.6, 1.4 - 0.7]), [0, 1, 1])
    assert (same.low, same.high, same.p) == (same.estimate, same.estimate, 0)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_mean_interval_covers_the_mean_as_often_as_it_says(level):
    samples = np.random.default_rng(0).normal(3, 2, (2000, 4))
    intervals = [stats.mean_interval(sample, level=level) for sample in samples]
    covered = np.mean([interval.low <= 3 <= interval.high for interval in intervals])
    assert covered == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 2000))


def test_one_value_has_no_spread_and_equal_values_have_none_either():
    assert stats.mean_interval([0.7]) == (0.7, -np.inf, np.inf, 1)
    equal = stats.mean_interval([0.1] * 3)
    assert equal.low == equal.estimate == equal.high


def test_the_interval_of_a_proportion_stays_in_0_to_1():
    accuracies = [0.99, 0.9, 1.0]
    whole = stats.mean_interval(accuracies)
    assert whole.high > 1
    cut = stats.mean_interval(accuracies, proportion=True)
    assert cut == (whole.estimate, whole.low, 1.0, 3)
    errors = stats.mean_interval([0.01, 0.1, 0.0], proportion=True)
    assert (errors.low, errors.high) == pytest.approx((0, 1 - whole.low))
    assert stats.mean_interval([0.7], proportion=True) == (0.7, 0.0, 1.0, 1)
    inside = [0.4, 0.5, 0.6]
    assert stats.mean_interval(inside, proportion=True) == stats.mean_interval(inside)


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_a_value_that_is_no_proportion_is_refused(value):
    with pytest.raises(ValueError, match=f"{value} is no proportion: give values in"):
        stats.mean_interval([0.5, value], proportion=True)
    stats.mean_interval([0.0, 1.0], proportion=True)


def test_cutting_an_interval_at_0_and_1_loses_no_coverage():
    # accuracies near 1: most intervals are cut
    samples = np.random.default_rng(4).beta(9.5, 0.5, (2000, 3))
    whole = [stats.mean_interval(sample) for sample in samples]
    cut = [stats.mean_interval(sample, proportion=True) for sample in samples]
    holds = [[each.low <= 0.95 <= each.high for each in kind] for kind in (whole, cut)]
    assert holds[0] == holds[1]
    assert sum(each.high > 1 for each in whole) > 1000


@pytest.mark.parametrize("values", [[], [0.1, np.nan], [0.1, np.inf], [[0.1]]])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(ValueError, match="values must be a list of at least one finite number"):
        stats.mean_interval(values)


def test_of_many_values_the_first_that_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"values\[7\] = nan") as caught:
        stats.mean_interval([0.1] * 7 + [np.nan] * 5000)
    assert len(str(caught.value)) < 200
    with pytest.raises(ValueError, match="values must be a list") as caught:
        stats.mean_interval([[0.1] * 5000] * 2)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("level", [0, 0.2, 1, 95])
def test_a_level_at_which_nothing_is_detectable_is_refused(level):
    sentence = rf"^level = {level}: give a number in \(0.2, 1\)"
    with pytest.raises(ValueError, match=sentence):
        stats.paired_difference([1, 2], [0, 0], level=level)
    with pytest.raises(ValueError, match=sentence):
        stats.clustered_mean([1, 2], [0, 1], level=level)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_that_is_no_coverage_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        stats.mean_interval([1, 2], level=level)


def test_paired_difference_is_scipys():
    generator = np.random.default_rng(1)
    a = generator.normal(0.8, 0.1, 5)
    b = a - generator.normal(0.1, 0.05, 5)
    ours = stats.paired_difference(a, b, level=0.9)
    theirs = scipy_stats.ttest_rel(a, b)
    low, high = theirs.confidence_interval(0.9)
    assert ours[:5] == pytest.approx((np.mean(a - b), low, high, 5, theirs.pvalue), rel=1e-9)
    # the test that the interval belongs to
    spread = np.std(a - b, ddof=1)
    assert ours.detectable == stats.detectable_difference(spread, 5, alpha=1 - 0.9)


def test_pairing_removes_what_a_pair_shares():
    shared = np.array([0.0, 1.0, 2.0, 3.0])
    difference = stats.paired_difference(shared + np.array([0.11, 0.1, 0.1, 0.09]), shared)
    assert difference.p < 0.001
    assert difference.high - difference.low < 0.05


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([0.3, 0.4, 0.9], [0.1, 0.2, 0.7], 0.0),  # all 0.2, but for rounding
        ([0.3, 0.4, 0.2], [0.1, 0.2, 0.0], 0.0),  # the same where a value is 0
        ([3e5, 4e5 + 1e-9, 9e5], [1e5, 2e5, 7e5], 0.0),  # and where values are large
        ([0.1 + 0.2, 0.3], [0.3, 0.3], 1.0),  # all 0, but for rounding
        ([0.0, 0.0], [0.0, 0.0], 1.0),
        ([0.5], [0.1], 1.0),
    ],
)
def test_differences_without_a_spread_have_a_p(a, b, p, recwarn):
    difference = stats.paired_difference(a, b)
    assert difference.p == p
    assert difference.n == len(a)
    assert difference.detectable == (np.inf if len(a) == 1 else 0)
    assert (difference.low, difference.high) == (
        (-np.inf, np.inf) if len(a) == 1 else (difference.estimate,) * 2
    )
    assert not recwarn


def test_a_small_spread_of_small_differences_is_a_spread():
    a = np.array([3e-13, 5e-13, 4.1e-13])
    theirs = scipy_stats.ttest_rel(a, np.zeros(3))
    assert stats.paired_difference(a, np.zeros(3)).p == pytest.approx(theirs.pvalue)


def test_a_pair_needs_both():
    with pytest.raises(ValueError, match="a has 2 values and b has 1"):
        stats.paired_difference([1, 2], [1])


@pytest.mark.parametrize(("n", "power"), [(2, 0.8), (5, 0.5), (5, 0.8), (10, 0.99)])
def test_a_detectable_difference_is_seen_as_often_as_it_says(n, power):
    runs = 20_000
    spread = 3.0
    difference = stats.detectable_difference(spread, n, power=power)
    samples = np.random.default_rng(5).normal(difference, spread, (runs, n))
    seen = np.mean(scipy_stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05)
    assert seen == pytest.approx(power, abs=4 * np.sqrt(power * (1 - power) / runs))


@pytest.mark.parametrize("n", [3, 4, 5, 20, 1000])
def test_a_detectable_difference_is_that_of_statsmodels(n):
    power = pytest.importorskip("statsmodels.stats.power").TTestPower()
    # at a power this low both tails count
    low = stats.detectable_difference(1.0, n, power=0.06)
    assert power.power(low, n, 0.05) == pytest.approx(0.06, abs=1e-6)
    for alpha in (0.05, 0.01):
        for sought in (0.5, 0.8, 0.95):
            ours = stats.detectable_difference(1.0, n, power=sought, alpha=alpha)
            # the other tail is 0 to four digits, and NaN in statsmodels
            one_tail = power.power(ours, n, alpha / 2, alternative="larger")
            assert one_tail == pytest.approx(sought, abs=1e-4)


def test_a_detectable_difference_grows_with_the_spread_and_needs_two_pairs():
    one = stats.detectable_difference(0.1, 5)
    assert stats.detectable_difference(0.3, 5) == pytest.approx(3 * one)
    assert stats.detectable_difference(0.0, 5) == 0
    assert stats.detectable_difference(0.0, 1) == np.inf
    assert stats.detectable_difference(0.1, 2) < np.inf


@pytest.mark.parametrize(
    ("spread", "n", "options", "message"),
    [
        (-0.1, 5, {}, "give a finite spread"),
        (np.inf, 5, {}, "give a finite spread"),
        (np.nan, 5, {}, "give a finite spread"),
        (0.1, 0, {}, "n ≥ 1"),
        (0.1, 5, {"power": 0.05}, "0 < alpha < power < 1"),
        (0.1, 5, {"power": 1}, "0 < alpha < power < 1"),
        (0.1, 5, {"alpha": 0}, "0 < alpha < power < 1"),
    ],
)
def test_what_no_study_can_have_is_refused(spread, n, options, message):
    with pytest.raises(ValueError, match=message):
        stats.detectable_difference(spread, n, **options)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.5: ×4 = 0.04, ×3 = 0.06, ×2 = 0.06, ×1 = 0.5; each at least the one
    # before
    assert stats.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert stats.holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert stats.holm([0.6, 0.0, 1.0]).tolist() == [1, 0, 1]
    assert stats.holm([]).size == 0
    for impossible in (np.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="without NaN"):
            stats.holm([0.1, impossible])


@pytest.mark.nightly
def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    generator = np.random.default_rng(3)
    for tests in range(1, 30):
        p_values = generator.random(tests) ** 4
        p_values[::3] = p_values[0]  # ties
        _, expected, *_ = multitest.multipletests(p_values, method="holm")
        np.testing.assert_allclose(stats.holm(p_values), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [
        (-0.01, 0.015, True),
        (-0.02, 0.02, True),
        (-0.03, 0.01, False),
        (0.01, 0.021, False),
        (-np.inf, np.inf, False),
    ],
)
def test_agree_asks_for_the_whole_interval(low, high, inside):
    assert stats.agree(stats.Interval(0.0, low, high, 5)) is inside


def test_kendall_by_hand():
    assert stats.kendall([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert stats.kendall([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert stats.kendall([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx((5 - 1) / 6)
    # one tie in b: 5 concordant, 0 discordant, τ_b = 5 / √(6 · 5)
    assert stats.kendall([1, 2, 3, 4], [1, 2, 3, 3]) == pytest.approx(5 / np.sqrt(30))
    assert np.isnan(stats.kendall([1, 2, 3], [1, 1, 1]))
    with pytest.raises(ValueError, match="a has 3 scores and b has 1: give one of each per item"):
        stats.kendall([1, 2, 3], [1])


def test_wilson_by_its_formula():
    share = 0.3
    n = 20
    z = scipy_stats.norm.ppf(0.975)
    centre = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    expected = [(centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)]
    assert stats.wilson(6, 20) == pytest.approx((share, *expected, 20))
    assert stats.wilson(0, 10).low == pytest.approx(0)
    assert stats.wilson(0, 10).high > 0.2
    for successes, n in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="is not a share"):
            stats.wilson(successes, n)
    with pytest.raises(ValueError, match="level"):
        stats.wilson(6, 20, level=95)


def test_wilson_stays_in_0_to_1_whatever_the_rounding():
    for n in range(1, 400):
        assert stats.wilson(0, n).low >= 0
        assert stats.wilson(n, n).high <= 1


def test_wilson_holds_its_own_share():
    for n in range(1, 400):
        for successes in {0, 1, n - 1, n}:
            interval = stats.wilson(successes, n)
            assert interval.low <= interval.estimate <= interval.high


def test_wilson_is_that_of_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for n in (1, 7, 500):
        for successes in np.linspace(0, n, 15).round(1):
            for level in (0.9, 0.999):
                ours = stats.wilson(successes, n, level=level)
                theirs = proportion.proportion_confint(successes, n, 1 - level, method="wilson")
                np.testing.assert_allclose((ours.low, ours.high), theirs, rtol=1e-12, atol=1e-15)


@pytest.fixture
def accuracies():
    generator = np.random.default_rng(2)
    rows = []
    for seed in range(5):
        luck = generator.normal(0, 0.1)
        for method, mean in (("sigmoid", 0.8), ("ramp", 0.7), ("logistic", 0.7), ("hinge", 0.9)):
            rows.append(
                {
                    "method": method,
                    "seed": seed,
                    "accuracy": mean + luck + generator.normal(0, 0.01),
                }
            )
    # pairs must not depend on the order of rows
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def compare(table, **options):
    options = {"methods": ["sigmoid", "ramp"], "baselines": ["logistic", "hinge"], **options}
    return stats.contrasts(table, value="accuracy", method="method", **options)


def test_contrasts_pair_by_seed_and_correct_over_all_rows(accuracies):
    result = compare(accuracies)
    assert list(result.columns) == [
        "method",
        "baseline",
        "estimate",
        "low",
        "high",
        "n",
        "p",
        "detectable",
        "p_holm",
    ]
    by_method = {
        name: rows.sort_values("seed").accuracy.to_numpy()
        for name, rows in accuracies.groupby("method")
    }
    for row in result.itertuples():
        theirs = scipy_stats.ttest_rel(by_method[row.method], by_method[row.baseline])
        assert (row.p, row.low) == pytest.approx((theirs.pvalue, theirs.confidence_interval().low))
        assert row.n == 5
        spread = np.std(by_method[row.method] - by_method[row.baseline], ddof=1)
        assert row.detectable == pytest.approx(stats.detectable_difference(spread, 5))
    assert result.p_holm.to_list() == pytest.approx(stats.holm(result.p))
    assert (result.p_holm > result.p).any()


def test_contrasts_use_the_pairs_that_both_have(accuracies):
    part = accuracies[~((accuracies.method == "ramp") & (accuracies.seed == 4))]
    assert compare(part).set_index(["method", "baseline"]).n.to_dict() == {
        ("sigmoid", "logistic"): 5,
        ("sigmoid", "hinge"): 5,
        ("ramp", "logistic"): 4,
        ("ramp", "hinge"): 4,
    }


def test_contrasts_of_two_seeds_are_no_test_and_have_no_interval(accuracies):
    few = accuracies[(accuracies.method != "ramp") | (accuracies.seed < 2)]
    result = compare(few).set_index("method")
    assert result.loc["ramp", "n"].to_list() == [2, 2]
    inferred = result.loc["ramp", ["low", "high", "p", "detectable", "p_holm"]]
    assert inferred.isna().all(axis=None)
    assert result.estimate.notna().all()
    # Holm counts the two that remain
    tested = result.loc["sigmoid"]
    assert tested.p_holm.to_list() == pytest.approx(stats.holm(tested.p))
    assert [stats.verdict(row) for row in result.loc["ramp"].itertuples()] == [
        "not seen at this scale"
    ] * 2


def test_contrasts_take_no_rows_of_one_seed_for_independent_pairs(accuracies):
    table = pd.concat([accuracies.assign(noise="a"), accuracies.assign(noise="b")])
    with pytest.raises(ValueError, match="average over noise within a seed first"):
        compare(table, pair_by=["noise", "seed"])
    with pytest.raises(ValueError, match="average over what they differ in"):
        compare(table)


def test_contrasts_refuse_names_that_are_none(accuracies):
    with pytest.raises(ValueError, match="no column 'seed': give one of method, key, accuracy"):
        compare(accuracies.rename(columns={"seed": "key"})[["method", "key", "accuracy"]])
    with pytest.raises(ValueError, match="'ramp' is among methods and among baselines"):
        compare(accuracies, baselines=["hinge", "ramp"])


def test_contrasts_refuse_what_is_not_paired(accuracies):
    with pytest.raises(ValueError, match="no rows whose method is ropo"):
        compare(accuracies, baselines=["ropo"])
    with pytest.raises(ValueError, match="several rows share"):
        compare(pd.concat([accuracies, accuracies]))
    with pytest.raises(ValueError, match=r"accuracy has NaN for .*sigmoid of seed 0"):
        compare(accuracies.assign(accuracy=accuracies.accuracy.where(accuracies.seed > 0)))
    apart = accuracies.assign(seed=accuracies.seed + 10 * (accuracies.method == "logistic"))
    with pytest.raises(ValueError, match="'sigmoid' and 'logistic' share no seed"):
        compare(apart)


def test_verdicts_follow_the_rule(accuracies):
    verdicts = [stats.verdict(row) for row in compare(accuracies).itertuples()]
    # the methods' means are .8, .7, .7, .9, and the noise of a seed is .01
    same = "no difference larger than 0.02"
    assert verdicts == ["reproduced", "contradicted", same, "contradicted"]
    rows = [row for _, row in compare(accuracies).iterrows()]
    assert stats.verdict(rows[1], expected=-1) == "reproduced"
    assert stats.verdict(rows[2], margin=0.001) == "not seen at this scale"


def test_a_verdict_reads_the_corrected_p_first():
    row = pd.Series({"estimate": 0.1, "low": 0.01, "high": 0.19, "n": 5, "p": 0.01, "p_holm": 0.06})
    assert stats.verdict(row) == "not seen at this scale"
    assert stats.verdict(row.drop("p_holm")) == "reproduced"
    assert stats.verdict(row.drop(["p", "p_holm"])) == "reproduced"
    assert stats.verdict(row.drop("p_holm"), alpha=0.01) == "not seen at this scale"
    with pytest.raises(ValueError, match="not a direction"):
        stats.verdict(row, expected=0)


@pytest.mark.parametrize(
    ("low", "high", "n", "expected"),
    [
        (0.05, 0.15, 5, "reproduced"),
        (-0.15, -0.05, 5, "contradicted"),
        (-0.1, 0.1, 5, "not seen at this scale"),
        (0.0, 0.1, 5, "not seen at this scale"),
        (-0.1, 0.0, 5, "not seen at this scale"),
        # significant, and too small to matter
        (0.001, 0.019, 5, "no difference larger than 0.02"),
        (-0.019, -0.001, 5, "no difference larger than 0.02"),
        (0.001, 0.021, 5, "reproduced"),
        # whatever two seeds say
        (0.05, 0.15, 2, "not seen at this scale"),
        (0.001, 0.019, 2, "not seen at this scale"),
        (-np.inf, np.inf, 1, "not seen at this scale"),
        (0.05, 0.15, 3, "reproduced"),
    ],
)
def test_a_difference_too_small_to_matter_is_no_replication(low, high, n, expected):
    assert stats.verdict(stats.Interval((low + high) / 2, low, high, n)) == expected


def test_the_margin_is_part_of_the_verdict():
    interval = stats.Interval(0.02, 0.01, 0.03, 5)
    assert stats.verdict(interval, margin=0.05) == "no difference larger than 0.05"
    assert stats.verdict(interval) == "reproduced"


def test_of_one_or_two_values_only_the_estimate_and_n_are_printed():
    few = stats.withhold(stats.paired_difference([0.9, 0.8], [0.5, 0.5]))
    assert (few.estimate, few.n) == (pytest.approx(0.35), 2)
    assert np.isnan([few.low, few.high, few.p, few.detectable]).all()
    interval = stats.withhold(stats.mean_interval([0.4]))
    assert (interval.estimate, interval.n) == (0.4, 1)
    assert np.isnan([interval.low, interval.high]).all()
    three = stats.mean_interval([0.4, 0.5, 0.6])
    assert stats.withhold(three) == three


@pytest.mark.parametrize(
    ("low", "high", "learned", "expected"),
    [
        (-0.01, 0.015, True, "reproduced"),
        (-0.01, 0.015, False, "not seen at this scale"),
        (0.005, 0.03, True, "not seen at this scale"),
        (-np.inf, np.inf, True, "not seen at this scale"),
        (0.021, 0.04, True, "contradicted"),
        (-0.04, -0.021, True, "contradicted"),
        (0.021, 0.04, False, "contradicted"),
        # the margin itself does not matter yet
        (0.02, 0.04, True, "not seen at this scale"),
        (-0.04, -0.02, True, "not seen at this scale"),
    ],
)
def test_agreement_is_judged_by_the_margin(low, high, learned, expected):
    interval = stats.Interval(0.0, low, high, 5)
    assert stats.verdict_agreement(interval, learned=learned) == expected
    assert stats.verdict_agreement(interval._replace(n=3), learned=learned) == expected
    two = interval._replace(n=2)
    assert stats.verdict_agreement(two, learned=learned) == "not seen at this scale"


def test_agreement_has_a_margin_of_its_own():
    interval = stats.Interval(0.03, 0.02, 0.04, 5)
    assert stats.verdict_agreement(interval, learned=True, margin=0.05) == "reproduced"
    assert stats.verdict_agreement(interval, learned=True, margin=0.01) == "contradicted"
