"""Contrasts of reward heads: two sources of chance, by hand, and the verdict of their sum."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from sympo import stats
from sympo.book import heads
from sympo.studies import profiles

PROMPTS = np.array([0, 0, 1, 2, 3, 4, 5, 6])


@pytest.fixture
def outcomes():
    """Three methods over five seeds and eight test pairs."""
    generator = np.random.default_rng(0)
    return {name: generator.integers(0, 3, (5, 8)) / 2 for name in ("a", "b", "c")}


def test_both_intervals_are_those_of_the_library(outcomes):
    found = heads.compare(outcomes["a"], outcomes["b"], PROMPTS)
    difference = outcomes["a"] - outcomes["b"]
    seeds = stats.mean_interval(difference.mean(1))
    prompts = stats.clustered_mean(difference.mean(0), PROMPTS)
    assert found["estimate"] == pytest.approx(difference.mean())
    assert (found["seeds_low"], found["seeds_high"]) == pytest.approx((seeds.low, seeds.high))
    assert (found["prompts_low"], found["prompts_high"]) == (prompts.low, prompts.high)
    assert (found["n"], found["prompts"]) == (5, 7)


def test_variances_of_both_sources_add(outcomes):
    found = heads.compare(outcomes["a"], outcomes["b"], PROMPTS)
    difference = outcomes["a"] - outcomes["b"]
    mean = difference.mean()
    over_seeds = difference.mean(1).var(ddof=1) / 5
    sums = [(difference.mean(0) - mean)[prompt == PROMPTS].sum() for prompt in range(7)]
    over_prompts = 7 / 6 * np.square(sums).sum() / 8**2
    error = np.sqrt(over_seeds + over_prompts)
    half = scipy_stats.t.ppf(0.975, 4) * error  # five seeds are fewer than seven prompts
    assert (found["low"], found["high"]) == pytest.approx((mean - half, mean + half))
    assert found["p"] == pytest.approx(2 * scipy_stats.t.sf(abs(mean) / error, 4))
    detectable = stats.detectable_difference(error * np.sqrt(5), 5)
    assert found["detectable"] == pytest.approx(detectable)
    assert found["low"] < min(found["seeds_low"], found["prompts_low"])
    assert found["high"] > max(found["seeds_high"], found["prompts_high"])


@pytest.mark.parametrize(("of_seeds", "of_prompts"), [(1.0, 1.0), (1.0, 0.2), (0.2, 1.0)])
def test_the_interval_covers_where_seeds_and_prompts_both_vary(of_seeds, of_prompts):
    generator = np.random.default_rng(0)
    covered, united = [], []
    for _ in range(150):
        seeds = of_seeds * generator.normal(size=(10, 1)) / np.sqrt(1 / 10)
        prompts = of_prompts * generator.normal(size=40) / np.sqrt(1 / 40)
        found = heads.compare(seeds + prompts, np.zeros(40), range(40))
        covered.append(found["low"] <= 0 <= found["high"])
        low = min(found["seeds_low"], found["prompts_low"])
        united.append(low <= 0 <= max(found["seeds_high"], found["prompts_high"]))
    assert np.mean(covered) > 0.92  # 0.95, but for the luck of 150 draws
    if of_seeds == of_prompts:
        # the union of the two intervals, which a first version of notebook 08 took
        assert np.mean(united) < 0.91


def test_heads_that_agree_everywhere_differ_by_nothing():
    same = np.ones((5, 8))
    found = heads.compare(same, same, PROMPTS)
    assert (found["low"], found["high"], found["p"], found["detectable"]) == (0, 0, 1, 0)
    assert heads.compare(same, 0 * same, PROMPTS)["p"] == 0


def test_a_rule_without_seeds_is_compared_with_every_seed(outcomes):
    rule = np.array([1, 0, 1, 1, 0.5, 0, 0, 1])
    found = heads.compare(outcomes["a"], rule, PROMPTS)
    assert found == heads.compare(outcomes["a"], np.tile(rule, (5, 1)), PROMPTS)


def test_what_only_the_seeds_call_significant_is_not():
    # Every seed is right on the same two of eight prompts: sure for seeds, chance for prompts.
    ours = np.tile([1, 1, 0, 0, 0, 0, 0, 0], (5, 1)).astype(float)
    ours[0, 2] = 1
    theirs = np.zeros((5, 8))
    found = heads.contrast({"a": ours, "b": theirs}, range(8), methods=["a"], baselines=["b"])
    assert stats.paired_difference(ours.mean(1), theirs.mean(1)).p < 1e-3
    assert found.p_holm[0] > 0.05
    assert found.verdict[0] == "not seen at this scale"


def test_holm_counts_every_contrast(outcomes):
    table = heads.contrast(outcomes, PROMPTS, methods=["a", "b"], baselines=["c"])
    np.testing.assert_allclose(table.p_holm, stats.holm(table.p))
    assert list(zip(table.method, table.baseline, strict=True)) == [("a", "c"), ("b", "c")]


def test_two_seeds_have_no_interval(outcomes):
    few = {name: values[:2] for name, values in outcomes.items()}
    table = heads.contrast(few, PROMPTS, methods=["a"], baselines=["b"])
    assert table[["low", "high", "p", "p_holm"]].isna().all().all()
    assert table.verdict[0] == "not seen at this scale"


# What is committed


@pytest.mark.parametrize(
    ("stem", "family"),
    [
        ("table8_real_text_contrasts", ["corpus", "noise_rate", "setting", "epoch"]),
        ("table8_longer", ["subset", "noise_rate"]),
        ("table8_score_noise", ["gap", "compared_with"]),
    ],
)
def test_committed_intervals_hold_both_sources(stem, family):
    table = pd.read_csv(profiles.committed_figures("laptop") / "data" / f"{stem}.csv")
    variance = 0.0
    for source, n in (("seeds", table.n), ("prompts", table.prompts)):
        half = (table[f"{source}_high"] - table[f"{source}_low"]) / 2
        variance += (half / scipy_stats.t.ppf(0.975, n - 1)) ** 2
    assert (table.prompts > table.n).all()
    error = np.sqrt(variance)
    half = scipy_stats.t.ppf(0.975, table.n - 1) * error
    np.testing.assert_allclose(table.low, table.estimate - half, atol=1e-5)
    np.testing.assert_allclose(table.high, table.estimate + half, atol=1e-5)
    p = 2 * scipy_stats.t.sf(abs(table.estimate) / error, table.n - 1)
    np.testing.assert_allclose(table.p, p, rtol=0.02)
    p_holm = table.groupby(family).p.transform(stats.holm)
    np.testing.assert_allclose(table.p_holm, p_holm, rtol=0.02)


def test_committed_seeds_give_the_committed_estimates():
    folder = profiles.committed_figures("laptop") / "data"
    runs = pd.read_csv(folder / "fig13_real_text.csv")
    wide = runs.pivot(index=["corpus", "noise_rate", "seed"], columns="method", values="accuracy")
    table = pd.read_csv(folder / "table8_real_text_contrasts.csv")
    shown = table[(table.setting == "own") & (table.epoch == "final")]
    for row in shown.itertuples():
        pairs = wide.loc[row.corpus, row.noise_rate]
        found = stats.paired_difference(pairs[row.method], pairs[row.baseline])
        ends = (row.estimate, row.seeds_low, row.seeds_high)
        assert ends == pytest.approx((found.estimate, found.low, found.high), abs=1e-5)
