"""Policies compared: the family of each noise rate, and what is said about it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from sympo import stats
from sympo.book.contrasts import contrast_policies, describe_contrasts, describe_difference

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
