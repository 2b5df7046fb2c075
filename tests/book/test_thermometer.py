"""T14: magnitudes and the noise rate from the labels of several pairs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import load_functions
from scipy.special import expit

from sympo import audit
from sympo.book import figures, theory, thermometer

page = load_functions("13_noise_patterns")

REWARDS = np.array([4, 3.5, 2, 1.5, 0])
FIRST, SECOND = np.triu_indices(5, 1)
GAPS = REWARDS[FIRST] - REWARDS[SECOND]


def share(gaps, rate):
    """P(the first wins), once flipped: kept and won, or flipped and lost."""
    return (1 - rate) * expit(gaps) + rate * expit(-np.asarray(gaps))


def fit(shares, labels=1000, **options):
    plus = labels * np.asarray(shares)
    return thermometer.fit_magnitudes(FIRST, SECOND, plus, labels - plus, **options)


@pytest.mark.parametrize("rate", [0, 0.1, 0.3, 0.45])
def test_exact_shares_give_gaps_and_rate_exactly(rate):
    fitted = fit(share(GAPS, rate))
    np.testing.assert_allclose(fitted.gaps.estimate, GAPS, atol=1e-6)
    assert fitted.noise_rate.estimate == pytest.approx(rate, abs=1e-7)


def test_a_told_rate_is_not_fitted():
    told = fit(share(GAPS, 0.2), noise_rate=0.2)
    np.testing.assert_allclose(told.gaps.estimate, GAPS, atol=1e-6)
    assert told.noise_rate == (0.2, 0.2, 0.2, len(GAPS))
    fitted = fit(share(GAPS, 0.2))
    widths = [(each.gaps.high - each.gaps.low).to_numpy() for each in (told, fitted)]
    assert (widths[0] < widths[1]).all()


def test_a_rate_that_is_too_low_shrinks_the_gaps():
    gaps = fit(share(GAPS, 0.2), noise_rate=0.1).gaps.estimate.to_numpy()
    assert (gaps < 0.9 * GAPS).all()


def test_without_noise_it_is_the_logistic_fit():
    drawn = np.random.default_rng(0).binomial(200, share(GAPS, 0.1)) / 200
    assumed = fit(drawn, 200, noise_rate=0).gaps.estimate
    logistic = theory.fit_logistic(np.full((1, len(GAPS)), 0.1), drawn[None])
    np.testing.assert_allclose(assumed, theory.compute_gaps(logistic)[0], atol=1e-6)


def test_one_triangle_is_solved_by_the_thermometer():
    """As many labels as unknowns: the fit meets each share, and ε is that of the formula."""
    ends = np.array([0, 1, 0]), np.array([1, 2, 2])
    plus = np.array([770, 690, 800])
    fitted = thermometer.fit_magnitudes(*ends, plus, 1000 - plus)
    x, y, z = (2 * plus / 1000 - 1) * [1, 1, -1]
    kept = np.sqrt(-x * y * z / (x + y + z))
    assert fitted.noise_rate.estimate == pytest.approx((1 - kept) / 2, abs=1e-9)
    by_hand = 2 * np.arctanh((2 * plus / 1000 - 1) / kept)
    np.testing.assert_allclose(fitted.gaps.estimate, by_hand, atol=1e-7)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3])
def test_intervals_hold_gaps_and_rate_in_95_percent_of_draws(rate):
    generator = np.random.default_rng([7, round(10 * rate)])
    gaps_held, rate_held = [], []
    for drawn in generator.binomial(1000, share(GAPS, rate), size=(300, len(GAPS))):
        fitted = fit(drawn / 1000)
        gaps_held.append(((fitted.gaps.low <= GAPS) & (fitted.gaps.high >= GAPS)).mean())
        rate_held.append(fitted.noise_rate.low <= rate <= fitted.noise_rate.high)
    for held in (gaps_held, rate_held):
        assert abs(np.mean(held) - 0.95) <= 4 * np.std(held) / np.sqrt(len(held))


def test_labels_that_look_cleaner_than_clean_have_a_limit_of_zero():
    held = []
    for drawn in np.random.default_rng(3).binomial(300, share(GAPS, 0), size=(100, len(GAPS))):
        rate = fit(drawn / 300, 300).noise_rate
        assert 0 <= rate.low <= rate.high <= 0.5
        held.append(rate.low == 0)
    assert np.mean(held) > 0.9


@pytest.mark.parametrize(
    ("ends", "plus"),
    [
        (([0, 1], [1, 2]), [800, 700]),  # no triangle: ε is open
        (([0, 1, 0], [1, 2, 2]), [999, 999, 999]),  # all labels agree as often: gaps are open
    ],
)
def test_what_labels_leave_open_is_refused_in_a_sentence(ends, plus):
    with pytest.raises(ValueError, match="leave a gap or the noise rate open"):
        thermometer.fit_magnitudes(*ends, plus, 1000 - np.array(plus))


def test_without_a_triangle_a_told_rate_is_enough():
    fitted = thermometer.fit_magnitudes([0, 1], [1, 2], [800, 700], [200, 300], noise_rate=0.1)
    np.testing.assert_allclose(fitted.gaps.estimate, 2 * np.arctanh([0.75, 0.5]), atol=1e-7)


def test_a_rate_of_one_half_is_refused():
    with pytest.raises(ValueError, match="nothing can be learned"):
        fit(share(GAPS, 0.2), noise_rate=0.5)


def test_the_fit_and_the_triangles_read_one_rate():
    """Two routes through the same labels, of which one fits no rewards."""
    drawn = np.random.default_rng(5).binomial(100_000, share(GAPS, 0.2))
    triangles = audit.rate_from_triangles(FIRST, SECOND, drawn, 100_000 - drawn)
    fitted = fit(drawn / 100_000, 100_000)
    assert fitted.noise_rate.estimate == pytest.approx(triangles.interval.estimate, abs=0.005)


def test_fig_t14_draws_the_truth_the_links_and_both_fits():
    gaps = [1.0, 2.0]
    rows = {
        "noise_rate": 0.2,
        "labels": 1000.0,
        "gap": gaps,
        "low": [0.2, 0.3],
        "high": [1.2, 0.45],
    }
    parts = [pd.DataFrame({"panel": "reading", "series": "one triangle", "value": 0.36, **rows})]
    parts[0]["draws"] = 400.0
    for name in ("Bradley–Terry", "probit", "Laplace", "Cauchy"):
        parts.append(pd.DataFrame({"panel": "link", "series": name, "gap": gaps, "value": 0.9}))
    for name, value in (("ε fitted", gaps), ("ε = 0 assumed", [0.4, 0.8])):
        limits = {"value": value, "low": np.subtract(value, 0.1), "high": np.add(value, 0.2)}
        parts.append(pd.DataFrame({"panel": "magnitude", "series": name, **{**rows, **limits}}))
    reading, link, magnitude = figures.fig_t14_thermometer(pd.concat(parts)).axes
    assert reading.lines[1].get_ydata()[0] == pytest.approx(0.36)  # (1 − 2·0.2)²
    assert "400 draws,\n1000 labels" in reading.texts[0].get_text()
    assert len(link.lines) == 4
    assert {text.get_text() for text in link.get_legend().get_texts()} >= {"Cauchy", "probit"}
    fitted, assumed = (bars.lines[0] for bars in magnitude.containers)
    np.testing.assert_array_equal(fitted.get_ydata(), gaps)
    np.testing.assert_array_equal(assumed.get_ydata(), [0.4, 0.8])
    (bars,) = magnitude.containers[0].lines[2]
    np.testing.assert_allclose(bars.get_segments()[0], [[1, 0.9], [1, 1.2]])


# What the notebook defines


@given(st.floats(0.2, 5), st.floats(0.2, 5), st.floats(0, 0.49))
@settings(max_examples=50)
def test_the_thermometer_reads_any_triangle(upper, lower, rate):
    wins = share([upper, lower, -upper - lower], rate)
    assert page.read_thermometer(*(2 * wins - 1)) == pytest.approx((1 - 2 * rate) ** 2, rel=1e-6)


def test_wins_are_drawn_and_flipped_by_each_pairs_own_rate():
    wins, rates = np.array([0.9, 0.9, 0.5]), np.array([0.0, 0.3, 0.3])
    drawn = page.draw_wins(wins, rates, 100, np.random.default_rng(0), draws=20_000)
    expected = wins + rates * (1 - 2 * wins)
    assert drawn.shape == (20_000, 3)
    np.testing.assert_allclose(drawn.mean(axis=0) / 100, expected, atol=5 * 0.05 / np.sqrt(20_000))
    np.testing.assert_allclose(drawn.var(axis=0) / 100, expected * (1 - expected), rtol=0.06)


def test_prompts_have_four_answers_and_four_triangles_each():
    first, second, plus, minus = page.draw_prompts(3, 7, 0.2, np.random.default_rng(0))
    assert (plus + minus == 7).all()
    assert (first // 4 == second // 4).all()
    assert (first < second).all()
    assert np.bincount(first // 4).tolist() == [6, 6, 6]
    assert len(audit.list_triangles(first, second)) == 12


@pytest.mark.parametrize("fresh", [True, False])
def test_two_ratings_agree_as_counted_by_hand(fresh):
    agreed = page.rate_twice(
        np.full(400_000, 0.8), (0.1, 0.3), np.random.default_rng(0), fresh=fresh
    )
    if fresh:
        ups = 0.8 + np.array([0.1, 0.3]) * (1 - 1.6)
        expected = ups.prod() + (1 - ups).prod()
    else:
        expected = 0.9 * 0.7 + 0.1 * 0.3  # none flipped, or both
    assert agreed == pytest.approx(expected, abs=5 * 0.5 / np.sqrt(400_000))
