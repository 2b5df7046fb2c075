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


@pytest.mark.parametrize("values", [[], [0.1, np.nan], [0.1, np.inf], [[0.1]]])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(ValueError, match="values must be a list of at least one finite number"):
        stats.mean_interval(values)


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
    assert ours == pytest.approx((np.mean(a - b), low, high, 5, theirs.pvalue), rel=1e-9)


def test_pairing_removes_what_a_pair_shares():
    shared = np.array([0.0, 1.0, 2.0, 3.0])
    difference = stats.paired_difference(shared + np.array([0.11, 0.1, 0.1, 0.09]), shared)
    assert difference.p < 0.001
    assert difference.high - difference.low < 0.05


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([0.3, 0.4, 0.9], [0.1, 0.2, 0.7], 0.0),  # all 0.2, but for rounding
        ([0.1 + 0.2, 0.3], [0.3, 0.3], 1.0),  # all 0, but for rounding
        ([0.0, 0.0], [0.0, 0.0], 1.0),
        ([0.5], [0.1], 1.0),
    ],
)
def test_differences_without_a_spread_have_a_p(a, b, p, recwarn):
    difference = stats.paired_difference(a, b)
    assert difference.p == p
    assert difference.n == len(a)
    assert (difference.low, difference.high) == (
        (-np.inf, np.inf) if len(a) == 1 else (difference.estimate,) * 2
    )
    assert not recwarn


def test_a_pair_needs_both():
    with pytest.raises(ValueError, match="a has 2 values and b has 1"):
        stats.paired_difference([1, 2], [1])


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.5: ×4 = 0.04, ×3 = 0.06, ×2 = 0.06, ×1 = 0.5; each at least the one
    # before
    assert stats.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert stats.holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert stats.holm([]).size == 0
    with pytest.raises(ValueError, match="without NaN"):
        stats.holm([0.1, np.nan])


@pytest.mark.slow
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


def test_contrasts_pair_by_several_columns(accuracies):
    table = pd.concat([accuracies.assign(noise="a"), accuracies.assign(noise="b")])
    assert compare(table, pair_by=["noise", "seed"]).n.to_list() == [10] * 4


def test_contrasts_refuse_what_is_not_paired(accuracies):
    with pytest.raises(ValueError, match="no rows whose method is ropo"):
        compare(accuracies, baselines=["ropo"])
    with pytest.raises(ValueError, match="several rows share"):
        compare(pd.concat([accuracies, accuracies]))
    with pytest.raises(ValueError, match="accuracy has NaN"):
        compare(accuracies.assign(accuracy=accuracies.accuracy.where(accuracies.seed > 0)))
    apart = accuracies.assign(seed=accuracies.seed + 10 * (accuracies.method == "logistic"))
    with pytest.raises(ValueError, match="'sigmoid' and 'logistic' share no seed"):
        compare(apart)


def test_verdicts_follow_the_rule(accuracies):
    verdicts = [stats.verdict(row) for row in compare(accuracies).itertuples()]
    assert verdicts == ["reproduced", "contradicted", "not seen at this scale", "contradicted"]
    rows = [row for _, row in compare(accuracies).iterrows()]
    assert stats.verdict(rows[1], expected=-1) == "reproduced"


def test_a_verdict_reads_the_corrected_p_first():
    row = pd.Series({"estimate": 0.1, "p": 0.01, "p_holm": 0.06})
    assert stats.verdict(row) == "not seen at this scale"
    assert stats.verdict(row.drop("p_holm")) == "reproduced"
    assert stats.verdict(stats.Difference(-0.1, -0.3, 0.1, 3, 0.2)) == "not seen at this scale"
    assert stats.verdict(stats.Interval(0.1, 0.05, 0.15, 5)) == "reproduced"
    assert stats.verdict(stats.Interval(-0.1, -0.15, -0.05, 5)) == "contradicted"
    assert stats.verdict(stats.mean_interval([0.3])) == "not seen at this scale"
    with pytest.raises(ValueError, match="not a direction"):
        stats.verdict(row, expected=0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.01, 0.015, "reproduced"),
        (0.005, 0.03, "not seen at this scale"),
        (-np.inf, np.inf, "not seen at this scale"),
        (0.021, 0.04, "contradicted"),
        (-0.04, -0.021, "contradicted"),
    ],
)
def test_agreement_is_judged_by_the_margin(low, high, expected):
    assert stats.verdict_agreement(stats.Interval(0.0, low, high, 5)) == expected
