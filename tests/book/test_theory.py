"""What notebooks 00, 01 and 02 define, against sampling, closed forms and scipy."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import load_functions
from scipy.optimize import minimize
from scipy.special import expit, logit

from sympo.book import figures, theory
from sympo.losses import LOSSES, get, get_pair
from sympo.noise import equivalent_rate, flip

page = load_functions("02_noise_equivalence")

REWARDS = np.array([0.0, 1.0, 2.5])
SCORES = np.array([0.3, 0.1, 1.7])
PAIRS = page.list_pairs(REWARDS, SCORES)
rate = st.floats(0, 0.49)
share = st.floats(0, 1)


def test_pairs_by_hand():
    assert PAIRS.probability.sum() == pytest.approx(1)
    row = PAIRS[(PAIRS.winner == 1) & (PAIRS.loser == 2)].iloc[0]
    assert row.probability == pytest.approx(np.exp(1) / (np.exp(1) + np.exp(2.5)) / 3)
    assert row.margin == pytest.approx(0.1 - 1.7)


@given(rate, rate, share)
@settings(max_examples=50)
def test_annotation_conditions_on_the_written_label(rate_pos, rate_neg, prior):
    outcomes = page.annotate(PAIRS, rate_pos, rate_neg, prior=prior)
    assert outcomes.probability.sum() == pytest.approx(1)
    assert outcomes.probability[outcomes.label > 0].sum() == pytest.approx(prior, abs=1e-12)
    rates = page.measure_rates(outcomes)
    if prior > 1e-3:
        assert rates[1] == pytest.approx(rate_pos)
    if prior < 1 - 1e-3:
        assert rates[-1] == pytest.approx(rate_neg)


def test_exact_risk_is_what_sampling_finds():
    generator = np.random.default_rng(0)
    rows = PAIRS.iloc[generator.choice(len(PAIRS), 200_000, p=PAIRS.probability)]
    labels = np.where(generator.random(len(rows)) < 0.3, 1, -1)
    noisy = flip(labels, 0.1, 0.4, generator)
    losses = get("logistic").fn(torch.from_numpy(noisy * labels * rows.margin.to_numpy())).numpy()
    exact = page.measure_risk(page.annotate(PAIRS, 0.1, 0.4, prior=0.3), get("logistic").fn)
    assert abs(losses.mean() - exact) < 5 * losses.std() / np.sqrt(len(losses))


@pytest.mark.parametrize("name", LOSSES)
@given(rate, rate, share)
@settings(max_examples=10)
def test_lemma_1(name, rate_pos, rate_neg, prior):
    fn, equivalent = get(name).fn, equivalent_rate(rate_pos, rate_neg, prior)
    outcomes = page.annotate(PAIRS, rate_pos, rate_neg, prior=prior)
    symmetric = page.annotate(PAIRS, equivalent, equivalent, prior=0.5)
    assert page.measure_risk(outcomes, fn) == pytest.approx(page.measure_risk(symmetric, fn))
    swapped = page.swap_half(outcomes)
    assert page.measure_risk(swapped, fn) == pytest.approx(page.measure_risk(outcomes, fn))
    assert page.measure_rates(swapped).to_numpy() == pytest.approx(equivalent, abs=1e-12)


def test_lemma_1_needs_an_order_that_is_independent_of_the_winner():
    tied = page.annotate(PAIRS, 0.1, 0.4, prior=np.where(PAIRS.winner > PAIRS.loser, 0.9, 0.1))
    prior = tied.probability[tied.label > 0].sum()
    rate = equivalent_rate(0.1, 0.4, prior)
    symmetric = page.annotate(PAIRS, rate, rate, prior=0.5)
    gap = page.measure_risk(tied, get("ramp").fn) - page.measure_risk(symmetric, get("ramp").fn)
    assert abs(gap) > 0.01
    by_pair = page.measure_rates(page.swap_half(tied), by="winner")
    assert np.ptp(by_pair) > 0.05


def test_rates_that_cannot_be_learned_from_are_refused():
    with pytest.raises(ValueError, match="rate_pos \\+ rate_neg"):
        page.annotate(PAIRS, 0.6, 0.6, prior=0.5)


@pytest.mark.parametrize("name", LOSSES)
def test_noise_undoes_the_correction(name):
    z = torch.linspace(-5, 5, 101, dtype=torch.float64)
    fn = get(name).fn
    corrected = page.correct(fn, 0.3)
    torch.testing.assert_close(page.add_noise(corrected, 0.3)(z), fn(z))
    affine = torch.allclose(corrected(z) - fn(z) / 0.4, (corrected(z) - fn(z) / 0.4)[0])
    assert affine == get(name).symmetric


def test_corrected_logistic_is_rdpo():
    h = sympy.Symbol("h", real=True)
    s = 1 / (1 + sympy.exp(-h))
    kept, flipped = sympy.Rational(7, 10), sympy.Rational(3, 10)
    rdpo = (-kept * sympy.log(s) + flipped * sympy.log(1 - s)) / (kept - flipped)
    corrected = page.correct(page.logistic_loss, flipped)(h)
    for other in (rdpo, get_pair("rdpo").expr(h, noise_rate=0.3)):
        gaps = [float((corrected - other).subs(h, at).evalf(30)) for at in (-3, 0, 2)]
        assert gaps == pytest.approx([0, 0, 0], abs=1e-15)


@pytest.mark.parametrize("name", ["logistic", "sigmoid"])
def test_the_two_losses_of_the_pages_are_the_registered_ones(name):
    z = sympy.Symbol("z", real=True)
    on_page = getattr(page, f"{name}_loss")(z)
    assert sympy.simplify(on_page - get(name).expr(z)) == 0
    margins = torch.linspace(-9, 9, 37, dtype=torch.float64)
    start = getattr(load_functions("00_start_here"), f"{name}_loss")
    torch.testing.assert_close(start(margins), get(name).fn(margins))


def test_reward_accuracy_is_the_share_of_sampled_winners():
    wins = expit(REWARDS[:, None] - REWARDS)
    accuracy = load_functions("01_preferences_as_classification").reward_accuracy(wins, SCORES)
    generator = np.random.default_rng(0)
    drawn = PAIRS.margin.to_numpy()[generator.choice(len(PAIRS), 200_000, p=PAIRS.probability)]
    assert accuracy == pytest.approx((drawn > 0).mean(), abs=5 * 0.5 / np.sqrt(len(drawn)))


@given(st.floats(-3, 3), st.floats(-3, 3), rate)
@settings(max_examples=50)
def test_moments_are_those_of_a_drawn_gradient(kept, flipped, noise_rate):
    mean, variance = page.find_moments(kept, flipped, noise_rate)
    drawn = scipy.stats.rv_discrete(values=([0, 1], [1 - noise_rate, noise_rate]))
    gradients = np.array([kept, flipped])
    assert mean == pytest.approx(drawn.expect(lambda index: gradients[index.astype(int)]))
    assert variance == pytest.approx(noise_rate * (1 - noise_rate) * (kept - flipped) ** 2)


@pytest.mark.parametrize("assumed", [0.0, 0.2, 0.3, 0.34])
@pytest.mark.parametrize("gap", [-1.5, 0.5, 2.0])
def test_one_margin_is_fitted_as_the_formula_says(gap, assumed):
    fitted = page.fit_margin(gap, noise_rate=0.3, assumed_rate=assumed)
    belief = page.looks_like(gap, noise_rate=0.3, assumed_rate=assumed)
    assert fitted == pytest.approx(logit(belief), abs=1e-4)
    if assumed == 0.3:
        assert fitted == pytest.approx(gap, abs=1e-4)


def test_told_too_much_a_margin_has_no_end():
    assert page.looks_like(2.0, noise_rate=0.3, assumed_rate=0.4) > 1
    assert page.fit_margin(2.0, noise_rate=0.3, assumed_rate=0.4, bound=12) > 11.9


def test_fig_t4_draws_the_formula_as_lines_and_the_fit_as_dots():
    told = np.array([0.0, 0.1, 0.2])
    panels = {"margin": [1.0, 2.0, np.nan], "fitted": [1.1, 2.1, 30.0]}
    series = [(panel, str(gap), values) for panel, values in panels.items() for gap in (0.5, 1, 2)]
    series.append(("order", "ramp: wrong", [0.0, 0.0, 0.0]))
    parts = [
        pd.DataFrame({"panel": panel, "series": name, "assumed_rate": told, "value": values})
        for panel, name, values in series
    ]
    figure = figures.fig_t4_wrong_rate(pd.concat(parts).assign(noise_rate=0.1))
    left = figure.axes[0].lines
    for line, dots in zip(left[0:9:3], left[1:9:3], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), panels["margin"])
        np.testing.assert_array_equal(dots.get_ydata(), panels["fitted"])
        assert line.get_linestyle() == "--"
        assert (dots.get_linestyle(), dots.get_marker()) == ("None", "o")


PROBLEMS = theory.draw_problems(8, spread=2, unevenness=1.5, generator=np.random.default_rng(1))


def fit_told(assumed, *, clip):
    """The best rewards of rDPO that is told `assumed`, on labels flipped at 0.3."""
    gaps = theory.compute_gaps(PROBLEMS.reward)
    belief = page.looks_like(gaps, noise_rate=0.3, assumed_rate=assumed)
    return theory.fit_logistic(PROBLEMS.sampling, belief, clip=clip)


def test_the_true_rate_recovers_the_true_rewards():
    learned = theory.compute_gaps(fit_told(0.3, clip=20))
    np.testing.assert_allclose(learned, theory.compute_gaps(PROBLEMS.reward), atol=1e-6)


@pytest.mark.parametrize("assumed", [0.0, 0.2, 0.33, 0.45])
def test_corrected_fit_is_scipys(assumed):
    learned = fit_told(assumed, clip=5)
    first, second = np.array(list(itertools.combinations(range(4), 2))).T
    corrected = page.correct(lambda z: np.logaddexp(0, -z), assumed)
    for reward, sampling, ours in zip(PROBLEMS.reward, PROBLEMS.sampling, learned, strict=True):
        wins = 0.3 + 0.4 * expit(reward[first] - reward[second])

        def risk(r, wins=wins, sampling=sampling):
            z = r[first] - r[second]
            return sampling @ (wins * corrected(z) + (1 - wins) * corrected(-z))

        box = [(-5, 5)] * 4
        options = {"ftol": 1e-14, "maxiter": 999}
        best = minimize(risk, np.zeros(4), method="SLSQP", bounds=box, options=options)
        assert abs(ours).max() <= 5
        assert risk(ours) == pytest.approx(best.fun, abs=1e-6)
        assert risk(ours) <= best.fun + 1e-12


def test_a_wrong_rate_costs_order_and_the_true_one_none():
    generator = np.random.default_rng(0)
    problems = theory.draw_problems(100, spread=2, unevenness=1.5, generator=generator)
    settings = {"noise_rate": 0.3, "clip": 20}
    dpo, told_right, told_too_much = (
        page.count_wrong_orders(problems, assumed_rate=assumed, **settings)
        for assumed in (0.0, 0.3, 0.45)
    )
    assert told_right == [0, 0]
    assert dpo[0] > 0.02
    assert told_too_much[1] > 0.5
