"""flip_each: rates of each pair's own, against counts and against flip."""

import numpy as np
import pytest

from sympo.noise import flip, flip_each

COUNT = 40_000


def draw_labels():
    return np.where(np.random.default_rng(5).random(COUNT) < 0.3, 1, -1)


def test_each_pair_flips_at_the_rate_of_its_own_label():
    labels = draw_labels()
    group = np.arange(COUNT) % 2
    rates_pos = np.where(group == 0, 0.1, 0.4)
    rates_neg = np.where(group == 0, 0.7, 0.25)
    flipped = flip_each(labels, rates_pos, rates_neg, np.random.default_rng(0)) != labels
    for label, rates in ((1, (0.1, 0.4)), (-1, (0.7, 0.25))):
        for number, rate in enumerate(rates):
            members = (labels == label) & (group == number)
            error = np.sqrt(rate * (1 - rate) / members.sum())
            assert flipped[members].mean() == pytest.approx(rate, abs=4 * error)


@pytest.mark.parametrize("rates", [(0.2, 0.35), (0.0, 0.4)])
def test_equal_rates_are_those_of_flip(rates):
    labels = draw_labels()
    each = flip_each(labels, *rates, np.random.default_rng(1))
    np.testing.assert_array_equal(each, flip(labels, *rates, np.random.default_rng(1)))
    spread = [np.full(COUNT, rate) for rate in rates]
    np.testing.assert_array_equal(each, flip_each(labels, *spread, np.random.default_rng(1)))


def test_rates_of_zero_and_one_leave_nothing_to_chance():
    labels = draw_labels()
    generator = np.random.default_rng(2)
    np.testing.assert_array_equal(flip_each(labels, 0, 0, generator), labels)
    np.testing.assert_array_equal(flip_each(labels, 1, 1, generator), -labels)
    np.testing.assert_array_equal(flip_each(labels, 1, 0, generator), np.full(COUNT, -1))


@pytest.mark.parametrize(
    ("rates_pos", "rates_neg", "field"),
    [
        ([0.1, 0.2], 0.1, "rates_pos"),
        (0.1, [0.1, 1.1, 0.1], "rates_neg"),
        ([0.1, -0.1, 0.1], 0.1, "rates_pos"),
        ([0.1, np.nan, 0.1], 0.1, "rates_pos"),
    ],
)
def test_what_is_no_rate_is_named(rates_pos, rates_neg, field):
    with pytest.raises(ValueError, match=f"{field} must hold a rate"):
        flip_each([1, -1, 1], rates_pos, rates_neg, np.random.default_rng(0))


def test_labels_other_than_one_are_refused():
    with pytest.raises(ValueError, match="labels"):
        flip_each([1, 0], 0.1, 0.1, np.random.default_rng(0))
