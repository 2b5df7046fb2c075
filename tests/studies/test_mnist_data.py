"""Runs of a config, pairs and their labels, against formulas and counts."""

import numpy as np
import pytest
from tiny_mnist import make_noise_run, make_run

from sympo.studies import mnist
from sympo.studies.profiles import study_config


@pytest.fixture
def digits():
    return np.random.default_rng(0).integers(0, 10, 60_000).astype(np.uint8)


def test_pairs_use_no_image_twice_and_differ_in_digit(digits):
    pairs = mnist.draw_pairs(digits, 10_000, seed=0)
    used = np.concatenate([pairs.first, pairs.second])
    assert len(np.unique(used)) == 20_000
    assert (digits[pairs.first] != digits[pairs.second]).all()


def test_more_pairs_begin_with_the_same_ones(digits):
    few = mnist.draw_pairs(digits, 100, seed=2, class_prior=0.4)
    many = mnist.draw_pairs(digits, 300, seed=2, class_prior=0.4)
    for name in ("first", "second", "labels"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:100])


def test_held_out_pairs_share_no_image_with_training_pairs(digits):
    run = make_run(pairs=10_000, validation_pairs=1_000)
    training, held_out = mnist.split_pairs(digits, run)
    assert len(training.labels) == 10_000
    assert len(held_out.labels) == 1_000
    used = np.concatenate([training.first, training.second, held_out.first, held_out.second])
    assert len(np.unique(used)) == 22_000
    alone = mnist.draw_pairs(digits, 10_000, seed=run.seed)
    np.testing.assert_array_equal(training.first, alone.first)


def test_preferences_follow_bradley_terry(digits):
    pairs = mnist.draw_pairs(digits, 20_000, seed=1, class_prior=0.3)
    first_minus_second = digits[pairs.first].astype(int) - digits[pairs.second]
    winner_minus_loser = first_minus_second * pairs.labels
    for gap in (1, 2, 3):
        right = (winner_minus_loser == gap).sum()
        total = (np.abs(winner_minus_loser) == gap).sum()
        expected = 1 / (1 + np.exp(-gap))
        error = np.sqrt(expected * (1 - expected) / total)
        assert right / total == pytest.approx(expected, abs=4 * error)
    assert (pairs.labels > 0).mean() == pytest.approx(0.3, abs=0.015)


def test_more_pairs_than_images_is_refused(digits):
    with pytest.raises(ValueError, match="pairs = 400 is more than"):
        mnist.draw_pairs(digits[:300], 400, seed=0)


def test_flips_nest_over_rates_and_tied_noise_follows_ink(digits):
    pairs = mnist.draw_pairs(digits, 20_000, seed=0)
    ink = np.random.default_rng(5).random(60_000)

    def flipped(run):
        return mnist.noisy_labels(pairs, run, ink) != pairs.labels

    low = flipped(make_run(rate=0.2))
    high = flipped(make_run(rate=0.4))
    assert high[low].all()
    assert high.mean() == pytest.approx(0.4, abs=0.015)

    tied = flipped(make_noise_run("tied", 0.0, 0.4, first_rate=0.9))
    more_ink_wins = np.where(ink[pairs.first] >= ink[pairs.second], 1, -1) == pairs.labels
    assert tied[more_ink_wins].mean() == pytest.approx(0.1 * 0.4, abs=0.01)
    assert tied[~more_ink_wins].mean() == pytest.approx(0.9 * 0.4, abs=0.02)


def test_noise_without_a_tied_order_is_symmetric_or_by_position(digits):
    pairs = mnist.draw_pairs(digits, 20_000, seed=0)
    run = make_noise_run("asymmetric", 0.0, 0.4)
    flipped = mnist.noisy_labels(pairs, run, np.zeros(60_000)) != pairs.labels
    assert not flipped[pairs.labels > 0].any()
    assert flipped[pairs.labels < 0].mean() == pytest.approx(0.4, abs=0.02)


def test_a_study_has_a_run_per_rate_seed_and_loss():
    sizes = {"losses": ["ramp", "sigmoid"], "noise_rates": [0.0, 0.4], "seeds": 2}
    config = study_config("mnist_losses", "smoke", **sizes)
    assert [(run.noise, run.seed, run.method) for run in config.runs()] == [
        ("symmetric-0", 0, "ramp"),
        ("symmetric-0", 0, "sigmoid"),
        ("symmetric-0", 1, "ramp"),
        ("symmetric-0", 1, "sigmoid"),
        ("symmetric-0.4", 0, "ramp"),
        ("symmetric-0.4", 0, "sigmoid"),
        ("symmetric-0.4", 1, "ramp"),
        ("symmetric-0.4", 1, "sigmoid"),
    ]


def test_the_three_noise_models_share_their_pair_of_rates():
    sizes = {"losses": ["ramp"], "noise_pairs": [[0.2, 0.6]], "seeds": 1}
    runs = study_config("mnist_noise", "smoke", first_rate=0.9, class_prior=0.25, **sizes).runs()
    equivalent = pytest.approx(0.25 * 0.2 + 0.75 * 0.6)
    assert [(run.condition, run.rate_pos, run.rate_neg, run.first_rate) for run in runs] == [
        ("asymmetric", 0.2, 0.6, None),
        ("equivalent", equivalent, equivalent, None),
        ("tied", 0.2, 0.6, 0.9),
    ]
    assert {run.noise_pair for run in runs} == {"0.2-0.6"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"epochs": "3"}, "epochs"),
        ({"epochs": 0}, "epochs"),
        ({"losses": ["logistik"]}, "Did you mean 'logistic'"),
        ({"noise_rates": [0.0, 0.5]}, "noise_rates.1"),
        ({"noise_rates": [0.1, 0.1]}, "noise_rates.*0.1"),
        ({"losses": ["ramp", "hinge", "ramp"]}, "losses.*ramp"),
    ],
)
def test_bad_parameters_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        study_config("mnist_losses", "smoke", **overrides)


def test_a_pair_of_rates_named_twice_is_refused():
    with pytest.raises(ValueError, match="noise_pairs"):
        study_config("mnist_noise", "smoke", noise_pairs=[[0.0, 0.4], [0.1, 0.2], [0.0, 0.4]])


def test_noise_that_cannot_be_learned_from_is_refused():
    with pytest.raises(ValueError, match="nothing can be learned"):
        study_config("mnist_noise", "smoke", noise_pairs=[[0.4, 0.6]])


@pytest.mark.parametrize(
    ("study", "profile", "message"),
    [("mnist_loses", "smoke", "mnist_losses"), ("mnist_losses", "labtop", "laptop")],
)
def test_unknown_study_or_profile_names_the_nearest(study, profile, message):
    with pytest.raises(ValueError, match=f"Did you mean '{message}'"):
        study_config(study, profile)
