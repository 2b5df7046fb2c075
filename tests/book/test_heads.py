"""Contrasts of reward heads: two intervals, by hand, and the verdict of their union."""

import numpy as np
import pytest

from sympo import stats
from sympo.book import heads

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
    assert found["low"] == min(seeds.low, prompts.low)
    assert found["high"] == max(seeds.high, prompts.high)


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
