"""Flips near ties: rates that average to what was asked, and flips counted."""

import numpy as np
import pytest
from datasets import Dataset

from sympo import noise, preferences
from sympo.studies.text import flips

GAPS = np.repeat([0.5, 1.0, 2.0, 4.0], 500)


@pytest.mark.parametrize("mean_rate", [0.05, 0.2, 0.4, 0.49])
def test_rates_average_to_the_mean_rate(mean_rate):
    rates = flips.near_tie_rates(GAPS, mean_rate)
    assert rates.mean() == pytest.approx(mean_rate, abs=1e-9)
    # one temperature for all: the log odds are in the proportion of the gaps
    odds = np.log(rates / (1 - rates))
    np.testing.assert_allclose(odds / GAPS, odds[0] / GAPS[0], rtol=1e-9)
    assert rates.max() < 0.5


def test_no_noise_flips_nothing():
    assert not flips.near_tie_rates(GAPS, 0.0).any()


@pytest.mark.parametrize("gaps", [[1.0, 0.0], [1.0, -2.0], [np.nan]])
def test_a_tie_has_no_rate(gaps):
    with pytest.raises(ValueError, match="a gap is not above 0"):
        flips.near_tie_rates(gaps, 0.2)


def test_without_scores_nothing_is_near_a_tie():
    with pytest.raises(ValueError, match="no pair has scores"):
        flips.near_tie_rates([], 0.2)


@pytest.mark.parametrize("mean_rate", [flips.EDGE, 0.5 - flips.EDGE])
def test_the_ends_have_temperatures(mean_rate):
    gaps = [1e-3, 1.0, 1e3]
    assert flips.near_tie_rates(gaps, mean_rate).mean() == pytest.approx(mean_rate, rel=1e-6)


@pytest.mark.parametrize("mean_rate", [-0.1, 0.5, 0.9, 1e-30, 0.4999999999])
def test_a_rate_that_no_temperature_gives_is_refused(mean_rate):
    with pytest.raises(ValueError, match=r"no rate of this noise"):
        flips.near_tie_rates(GAPS, mean_rate)


@pytest.fixture(scope="module")
def dataset():
    rows = [
        {"prompt": f"question {i}", "chosen": f"yes {i}", "rejected": f"no {i}"}
        for i in range(len(GAPS))
    ]
    return preferences.parse_rows(rows).dataset


def test_flips_are_counted_where_the_rates_say(dataset: Dataset):
    rates = flips.near_tie_rates(GAPS, 0.2)
    flipped = flips.draw_numbers(dataset, seed=0) < rates
    for gap in np.unique(GAPS):
        here = gap == GAPS
        error = np.sqrt(rates[here][0] * (1 - rates[here][0]) / here.sum())
        assert abs(flipped[here].mean() - rates[here][0]) < 4 * error


def test_a_single_rate_flips_as_the_library_does(dataset: Dataset):
    labels = np.ones(len(dataset), dtype=int)
    generator = preferences.row_generator(dataset, 5)
    expected = noise.flip(labels, 0.3, 0.3, generator) < 0
    assert ((flips.draw_numbers(dataset, seed=5) < 0.3) == expected).all()
