"""Policies compared: the family of each noise rate, and what is said about it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from sympo import stats
from sympo.book.contrasts import (
    contrast_at_budget,
    contrast_policies,
    describe_contrasts,
    describe_difference,
    spend,
)

METHODS = ("dpo", "cdpo", "rdpo", "ropo", "ipo", "sympo_sigmoid", "sympo_ramp")
SEEDS = {0.0: 3, 0.4: 4}


@pytest.fixture
def table():
    """Win rates and accuracies of all methods; at the higher rate ropo has only two seeds."""
    generator = np.random.default_rng(0)
    rows = [
        {
            "method": method,
            "noise_rate": rate,
            "seed": seed,
            "win_rate": 0.5 + 0.2 * (method == "sympo_ramp") + generator.normal(0, 0.01),
            "accuracy": 0.6 + generator.normal(0, 0.1),
        }
        for method in METHODS
        for rate, seeds in SEEDS.items()
        for seed in range(seeds)
        if method != "ropo" or rate == 0 or seed < 2
    ]
    return pd.DataFrame(rows)


def test_every_sympo_loss_meets_every_method_of_others_at_every_rate(table):
    contrasts = contrast_policies(table, values=["win_rate", "accuracy"])
    cells = contrasts[["value", "noise_rate", "method", "baseline"]]
    # at ε = 0 cdpo and rdpo are dpo
    baselines = {0.0: ["dpo", "ropo"], 0.4: ["dpo", "cdpo", "rdpo", "ropo"]}
    expected = {
        (value, rate, method, baseline)
        for value in ("win_rate", "accuracy")
        for rate, names in baselines.items()
        for method in ("sympo_sigmoid", "sympo_ramp")
        for baseline in names
    }
    assert set(cells.itertuples(index=False, name=None)) == expected
    assert len(cells) == len(expected)


def test_a_diverged_policy_is_named(table):
    diverged = (table.method == "rdpo") & (table.noise_rate == 0.4) & (table.seed == 2)
    damaged = table.assign(win_rate=table.win_rate.mask(diverged))
    with pytest.raises(ValueError, match=r"a policy diverged \(rdpo, seed 2, noise rate 0.4\)"):
        contrast_policies(damaged, values=["win_rate"])
    # what it is not part of is not held up
    contrast_policies(damaged, values=["accuracy"])


def test_each_value_and_rate_is_a_family_of_its_own(table):
    contrasts = contrast_policies(table, values=["win_rate", "accuracy"])
    for (value, rate), family in contrasts.groupby(["value", "noise_rate"]):
        wide = table[table.noise_rate == rate].pivot(index="seed", columns="method", values=value)
        tested = family[family.baseline != "ropo"] if rate == 0.4 else family
        p_values = [
            scipy_stats.ttest_rel(wide[row.method], wide[row.baseline]).pvalue
            for row in tested.itertuples()
        ]
        assert tested.p.to_list() == pytest.approx(p_values)
        assert tested.p_holm.to_list() == pytest.approx(stats.holm(p_values))


def test_two_seeds_in_common_are_no_test(table):
    contrasts = contrast_policies(table, values=["win_rate"])
    few = contrasts[(contrasts.noise_rate == 0.4) & (contrasts.baseline == "ropo")]
    assert few.n.to_list() == [2, 2]
    assert few[["low", "high", "p", "p_holm", "detectable"]].isna().all(axis=None)
    assert set(few.verdict) == {"not seen at this scale"}
    line = describe_contrasts(few).splitlines()[0]
    assert "(n = 2, too few for an interval): **not seen at this scale**." in line


def test_a_contrast_is_described_with_its_verdict_and_what_could_have_been_seen():
    # differences 0.2, 0.201, 0.202: half of the interval is 4.30265 · 0.001/√3 = 0.0025
    ours = [0.7, 0.711, 0.722]
    rows = [
        {"method": method, "noise_rate": 0.4, "seed": seed, "win_rate": win_rate}
        for method, win_rates in (("sympo_ramp", ours), ("dpo", [0.5, 0.51, 0.52]))
        for seed, win_rate in enumerate(win_rates)
    ]
    (line,) = describe_contrasts(
        contrast_policies(pd.DataFrame(rows), values=["win_rate"])
    ).splitlines()
    detectable = stats.detectable_difference(0.001, 3)
    assert line == (
        "- At ε = 0.4, win rate of SymPO ramp − DPO = +0.201 (95% interval +0.199 to +0.203, "
        f"n = 3, Holm p = 8.3e-06; a true difference of {detectable:.3f} would have been seen four "
        "times in five, before Holm’s correction): **reproduced**."
    )


def test_a_single_difference_has_no_holm_p():
    text = describe_difference(stats.paired_difference([0.1, 0.2, 0.4], [0.1, 0.1, 0.1]))
    assert ", n = 3, p = 0.27; " in text


def test_without_policies_there_are_no_contrasts(table):
    contrasts = contrast_policies(table.iloc[:0], values=["win_rate", "accuracy"])
    assert contrasts.empty
    names = ["value", "noise_rate", "method", "baseline"]
    rest = [*stats.Difference._fields, "p_holm", "verdict"]
    assert contrasts.columns.to_list() == [*names, *rest]
    assert describe_contrasts(contrasts) == ""
    for none in (table.iloc[:0], table[table.method == "ipo"]):
        assert contrast_policies(none, values=["win_rate"]).empty


# At a budget of KL


def policies_of(method, kl, *, seed=0, lead=0.0):
    """A policy at each KL, whose gain is a tenth of its root, and a lead."""
    rows = pd.DataFrame({"kl": kl, "method": method, "noise_rate": 0.4, "seed": seed})
    return rows.assign(win_rate=0.5 + 0.1 * np.sqrt(rows.kl) + lead)


@pytest.mark.parametrize("budget", [0.2499, 4.0001, 0.0])
def test_beyond_the_nearest_and_the_farthest_policy_nothing_is_measured(budget):
    assert np.isnan(spend(policies_of("dpo", [4.0, 0.25, 1.0]), budget))


@pytest.mark.parametrize("budget", [0.25, 0.3, 1.0, 2.0, 4.0])
def test_between_two_policies_a_gain_grows_like_the_root(budget):
    found = spend(policies_of("dpo", [4.0, 0.25, 1.0]), budget)
    assert np.isclose(found, 0.5 + 0.1 * np.sqrt(budget))


def cross_budget(reaching):
    """DPO on both sides of one nat in every seed, and SymPO sigmoid in `reaching` of them."""
    numbers = np.random.default_rng(0).normal(0.1, 0.01, 10)
    parts = []
    for seed, lead in enumerate(numbers):
        nearest = 0.5 if seed < reaching else 1.5
        parts.append(policies_of("dpo", [0.5, 2.0], seed=seed))
        parts.append(policies_of("sympo_sigmoid", [nearest, 2.0], seed=seed, lead=lead))
    return pd.concat(parts, ignore_index=True), numbers[:reaching]


@pytest.mark.parametrize("reaching", [0, 1, 4])
def test_a_row_that_most_seeds_do_not_reach_is_not_measured(reaching):
    (row,) = contrast_at_budget(cross_budget(reaching)[0], budget=1.0).itertuples()
    assert (row.value, row.method, row.baseline) == ("win_rate", "sympo_sigmoid", "dpo")
    assert (row.verdict, row.n) == ("not measured", reaching)
    assert np.isnan([row.estimate, row.low, row.high, row.p_holm]).all()
    numbers = contrast_at_budget(cross_budget(reaching)[0], budget=1.0)
    assert {str(numbers[name].dtype) for name in ("estimate", "low", "p_holm")} == {"float64"}
    told = describe_contrasts(contrast_at_budget(cross_budget(reaching)[0], budget=1.0))
    assert f"too few seeds: {reaching}): **not measured**" in told


@pytest.mark.parametrize("reaching", [5, 10])
def test_from_half_of_the_seeds_on_the_seeds_that_reach_it_are_compared(reaching):
    table, leads = cross_budget(reaching)
    (row,) = contrast_at_budget(table, budget=1.0).itertuples()
    interval = stats.mean_interval(leads)
    assert np.allclose([row.estimate, row.low, row.high], interval[:3])
    assert (row.n, row.verdict) == (reaching, "reproduced")


def test_holm_does_not_count_what_is_not_measured():
    table = cross_budget(10)[0]
    far = table[table.method != "dpo"].assign(method="sympo_ramp", kl=table.kl + 9)
    rows = contrast_at_budget(pd.concat([table, far]), budget=1.0).set_index("method")
    assert rows.verdict["sympo_ramp"] == "not measured"
    assert rows.p_holm["sympo_sigmoid"] == rows.p["sympo_sigmoid"]
    # and neither does DPO stopping short leave a measurement
    short = table.assign(kl=table.kl.where(table.method != "dpo", table.kl / 9))
    assert set(contrast_at_budget(short, budget=1.0).verdict) == {"not measured"}
