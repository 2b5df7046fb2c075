"""Study noise_patterns: where the flips of each pattern fall, and the orders that are compared."""

from typing import get_args

import numpy as np
import pytest
from tiny_mnist import TRAINING, banded_digits

from sympo.studies import mnist
from sympo.studies.mnist import patterns
from sympo.studies.profiles import study_config

PATTERNS = get_args(patterns.Pattern)
MEAN = 0.2
PAIRS = 20_000


@pytest.fixture(scope="module")
def images():
    """Digits and ink of images that are never looked at."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 10, 60_000).astype(np.uint8), generator.random(60_000)


@pytest.fixture(scope="module")
def pairs(images):
    return mnist.draw_pairs(images[0], PAIRS, seed=1)


def make_run(pattern, **changes):
    one_sided = pattern == "position"
    values = {
        **TRAINING,
        "study": "noise_patterns",
        "method": "sigmoid",
        "noise": f"{pattern}-{MEAN:g}",
        "rate_pos": 0.0 if one_sided else MEAN,
        "rate_neg": 2 * MEAN if one_sided else MEAN,
        "pattern": pattern,
    }
    return mnist.PatternRun(**{**values, **changes})


def flip(pattern, pairs, images, **changes):
    return mnist.pattern_labels(pairs, make_run(pattern, **changes), *images) != pairs.labels


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_has_the_mean_rate(pattern, pairs, images):
    flipped = flip(pattern, pairs, images)
    assert flipped.mean() == pytest.approx(MEAN, abs=4 * np.sqrt(MEAN * (1 - MEAN) / PAIRS) + 0.004)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_labels_flip_at_the_rates_of_who_is_preferred(pattern, pairs, images):
    rates = mnist.winner_rates(pairs, make_run(pattern), *images)
    flipped = flip(pattern, pairs, images)
    for label, expected in ((1, rates.first), (-1, rates.second)):
        members = pairs.labels == label
        error = 4 * np.sqrt(0.25 / members.sum())
        assert flipped[members].mean() == pytest.approx(expected[members].mean(), abs=error)


def test_near_ties_flip_more_the_closer_the_digits(pairs, images):
    digits = images[0].astype(int)
    gaps = np.abs(digits[pairs.first] - digits[pairs.second])
    rates = mnist.winner_rates(pairs, make_run("near ties"), *images)
    np.testing.assert_array_equal(rates.first, rates.second)
    by_gap = [np.unique(rates.first[gaps == gap].round(12)) for gap in range(1, 10)]
    assert all(len(values) == 1 for values in by_gap)  # the gap says all
    values = np.concatenate(by_gap)
    assert (np.diff(values) < 0).all()
    assert values.max() < 0.5
    # σ(−gap/T) for one T
    logits = np.log(values / (1 - values))
    np.testing.assert_allclose(logits / logits[0], np.arange(1, 10), rtol=1e-6)


def test_hard_digits_flip_most_and_never_more_than_half(pairs, images):
    digits = images[0]
    rates = mnist.winner_rates(pairs, make_run("digits"), *images)
    np.testing.assert_array_equal(rates.first, rates.second)
    hard = np.isin(digits[pairs.first], (4, 9)) | np.isin(digits[pairs.second], (4, 9))
    (high,) = np.unique(rates.first[hard])
    (low,) = np.unique(rates.first[~hard])
    assert low == pytest.approx(MEAN / 4)
    assert 0.4 < high < 0.5


def test_ink_favours_the_image_that_has_more(pairs, images):
    ink = images[1]
    flipped = flip("ink", pairs, images)
    more_ink_wins = (ink[pairs.first] >= ink[pairs.second]) == (pairs.labels > 0)
    assert not flipped[more_ink_wins].any()
    assert flipped[~more_ink_wins].mean() == pytest.approx(2 * MEAN, abs=0.02)
    # Position has the same two rates, and ink plays no part.
    by_position = flip("position", pairs, images)
    assert not by_position[pairs.labels > 0].any()
    assert by_position[more_ink_wins].mean() == pytest.approx(MEAN, abs=0.02)


def test_an_annotator_is_drawn_for_each_pair_whatever_it_shows(pairs, images):
    flipped = flip("annotators", pairs, images)
    mean = flip("symmetric", pairs, images)
    assert (flipped & ~mean).any()
    assert (mean & ~flipped).any()
    # Who is above a coin is so for all digits and both labels: on the whole it is symmetric noise.
    for members in (pairs.labels > 0, images[0][pairs.first] > 4):
        assert flipped[members].mean() == pytest.approx(MEAN, abs=0.02)
    assert max(patterns.ANNOTATORS) * MEAN > 0.5
    assert np.mean(patterns.ANNOTATORS) == pytest.approx(1)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pair_keeps_its_label_whatever_else_is_drawn(pattern, pairs, images):
    run = make_run(pattern)
    half = mnist.Pairs(*(column[:5_000] for column in vars(pairs).values()))
    few = mnist.pattern_labels(half, run, *images)
    np.testing.assert_array_equal(few, mnist.pattern_labels(pairs, run, *images)[:5_000])
    other = mnist.pattern_labels(half, make_run(pattern, seed=4), *images)
    assert (few != other).any()


def test_a_study_has_a_run_per_pattern_seed_and_loss():
    sizes = {"losses": ["ramp"], "patterns": ["position", "ink"], "seeds": 2, "first_seed": 7}
    config = study_config("noise_patterns", "smoke", mean_rate=0.1, **sizes)
    assert [(run.pattern, run.seed, run.rate_pos, run.rate_neg) for run in config.runs()] == [
        ("position", 7, 0.0, 0.2),
        ("position", 8, 0.0, 0.2),
        ("ink", 7, 0.1, 0.1),
        ("ink", 8, 0.1, 0.1),
    ]
    assert {run.mean_rate for run in config.runs()} == {0.1}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"patterns": ["ink", "ink"]}, "patterns.*ink"),
        ({"patterns": ["inc"]}, "patterns"),
        ({"mean_rate": 0.3}, "mean_rate"),
        ({"first_seed": -1}, "first_seed"),
    ],
)
def test_bad_patterns_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        study_config("noise_patterns", "smoke", **overrides)


def make_record(rewards, chosen):
    config = {"pattern": "ink", "method": "ramp", "seed": 3}
    return {"config": config, "metrics": {"rewards": rewards, "chosen": {"rewards": chosen}}}


def test_orders_are_counted_by_gap_and_ink():
    data = banded_digits()
    digits = data.test_labels[:60].astype(float)
    ink = data.test_images[:60].mean((1, 2))
    table = mnist.compare_orders([make_record([*digits], [*ink])], data)
    final = table[table.epoch == "final"]
    assert (final.ordered == 1).all()
    # Rewards that are ink put the larger digit first exactly where it has more of it.
    by_ink = table[table.epoch == "chosen"]
    assert (by_ink.ordered == by_ink.more_ink).all()
    # Every pair of different digits is in one class.
    assert final.pairs.sum() == sum(a != b for i, a in enumerate(digits) for b in digits[:i])
    assert {*final.gap} <= {*range(1, 10)}


def test_a_tie_counts_one_half():
    table = mnist.compare_orders([make_record([0.0] * 40, [1.0] * 40)], banded_digits())
    assert (table.ordered == 0.5).all()
