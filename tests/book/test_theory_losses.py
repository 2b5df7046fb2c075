"""T5 and T6: the family of symmetric losses, their calibration, their minimisers, and the claims of
notebook 03.
"""

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import load_functions

from sympo.book import figures, theory
from sympo.losses import LOSSES, get

page = load_functions("03_symmetric_losses")

Z = sympy.Symbol("z", real=True)
SYMMETRIC = [name for name, loss in LOSSES.items() if loss.symmetric]
LAWS = {
    "sigmoid": scipy.stats.logistic(),
    "ramp": scipy.stats.uniform(-1, 2),
    "erf": scipy.stats.norm(),
    "cauchy": scipy.stats.cauchy(),
    "laplace": scipy.stats.laplace(),
    "student_t2": scipy.stats.t(2),
}
MARGINS = np.linspace(-4, 4, 801)


def sum_with_mirror(expr):
    return expr + expr.subs(Z, -Z)


def test_split_pieces_cuts_at_every_seam_and_nowhere_else():
    assert theory.split_pieces(sympy.Abs(Z) + sympy.Max(0, 1 - Z), Z) == [
        1 - 2 * Z,
        sympy.Integer(1),
        Z,
    ]
    assert theory.split_pieces(Z**2, Z) == [Z**2]
    # seams so far apart that a point beside one lies beyond none
    steps = sympy.Piecewise((1, Z < -5), (2, Z < 5), (3, True))
    assert theory.split_pieces(steps, Z) == [1, 2, 3]


@pytest.mark.parametrize("name", ["ramp", "laplace", "hinge", "truncated_hinge"])
def test_pieces_are_the_loss_between_the_seams(name):
    at = {"ramp": (-2, 0, 2), "laplace": (-1, 1), "hinge": (0, 2), "truncated_hinge": (-1, 0.5, 2)}[
        name
    ]
    pieces = theory.split_pieces(get(name).expr(Z), Z)
    expected = get(name).fn(torch.tensor(at, dtype=torch.float64)).tolist()
    assert [
        float(piece.subs(Z, point)) for piece, point in zip(pieces, at, strict=True)
    ] == pytest.approx(expected)


@pytest.mark.parametrize("name", LOSSES)
def test_the_proved_constant_is_the_registered_one_and_the_counted_one(name):
    loss = get(name)
    assert theory.find_constant(loss.expr(Z), Z) == loss.constant
    z = torch.linspace(-6, 6, 121, dtype=torch.float64)
    counted = loss.fn(z) + loss.fn(-z)
    assert loss.symmetric == bool((counted - counted[0]).abs().max() < 1e-12)


@pytest.mark.parametrize("name", LAWS)
def test_a_shifted_loss_is_not_symmetric(name):
    assert theory.find_constant(get(name).expr(Z).subs(Z, Z - 1), Z) is None


@pytest.mark.parametrize("name", LAWS)
def test_loss_is_the_distribution_function_and_weight_the_density(name):
    z = np.linspace(-5.05, 5.05, 102)  # no kink lies on it
    table = theory.tabulate_losses([name], z)
    np.testing.assert_allclose(table.value, LAWS[name].cdf(-z), atol=1e-12)
    np.testing.assert_allclose(table.weight, LAWS[name].pdf(z), atol=1e-12)
    np.testing.assert_allclose(table["sum"], 1, atol=1e-12)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (sympy.Rational(1, 3), -5)])
def test_the_law_is_read_off_a_loss_of_any_scale_and_shift(name, scale, shift):
    law = page.recover_law(shift + scale * get(name).expr(Z), Z)
    recovered = sympy.lambdify(Z, law, ["scipy", "numpy"])(MARGINS)
    np.testing.assert_allclose(recovered, LAWS[name].cdf(MARGINS), atol=1e-12)


@pytest.mark.parametrize(
    ("loss", "failing"),
    [
        (get("sigmoid").expr(Z), []),
        (get("savage").expr(Z), ["symmetric"]),
        (sympy.sign(-Z), ["continuous"]),
        (-Z / (1 + Z**2), ["nowhere increasing"]),
        (-Z, ["bounded"]),
        (0 * Z, ["not constant"]),
        (sympy.Abs(Z), ["symmetric", "nowhere increasing", "bounded"]),
    ],
)
def test_hypotheses_of_the_converse(loss, failing):
    properties = page.list_properties(loss, Z)
    assert {name for name, holds in properties.items() if not holds} == set(failing)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (2, 2), (3, 1)])
def test_beta_loss_counts_the_log_odds_of_a_beta_variable(a, b):
    drawn = scipy.special.logit(np.random.default_rng(0).beta(a, b, 100_000))
    at = np.array([-2.0, 0.3, 1.0])
    counted = (drawn[:, None] <= -at).mean(axis=0)
    np.testing.assert_allclose(page.compute_beta_loss(at, a, b), counted, atol=5 * 0.5 / 316)


def test_counted_labels_are_binomial_at_the_noisy_probability():
    counted = page.count_labels(0.8, 0.3, 7)
    seen = 0.8 * 0.7 + 0.2 * 0.3
    np.testing.assert_allclose(counted, scipy.stats.binom(7, seen).pmf(np.arange(8)), atol=1e-12)


def test_holder_is_the_law_of_the_log_odds_of_a_beta_variable():
    z = np.linspace(-5, 5, 101)
    s, beta = scipy.special.expit(z), scipy.stats.beta(2, 2)
    table = theory.tabulate_losses(["holder"], z)
    np.testing.assert_allclose(table.value + 1, beta.cdf(1 - s), atol=1e-12)
    np.testing.assert_allclose(table.weight, beta.pdf(s) * s * (1 - s), atol=1e-12)


@pytest.mark.parametrize(("gamma", "symmetric"), [(0.5, False), (1, False), (2, True), (3, False)])
def test_holder_is_symmetric_at_gamma_two_only(gamma, symmetric):
    s = scipy.special.expit(np.linspace(-8, 8, 81))
    values = -(1 + gamma) * s**gamma + gamma * s ** (1 + gamma)
    assert (np.ptp(values + values[::-1]) < 1e-12) == symmetric


def test_off_centre_laws_give_the_truncated_hinge_and_savage():
    z = np.linspace(-3, 3, 61)
    rows = theory.tabulate_losses(["truncated_hinge", "savage"], z)
    assert rows.index.is_unique
    table = rows.pivot_table("value", index="margin", columns="loss")
    np.testing.assert_allclose(
        table.truncated_hinge, scipy.stats.uniform(-1, 1).cdf(-z), atol=1e-12
    )
    np.testing.assert_allclose(table.savage, scipy.stats.logistic().cdf(-z) ** 2, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sigmoid", 2 * np.arccosh(10)),
        ("cauchy", np.sqrt(99)),
        ("laplace", np.log(100)),
        ("erf", np.sqrt(2 * np.log(100))),
        ("student_t2", np.sqrt(2 * (100 ** (2 / 3) - 1))),
        ("holder", 2 * np.arccosh(np.sqrt(10))),
        ("ramp", 1),
        ("unhinged", 50),  # the bound: its weight never falls
    ],
)
def test_reach_to_one_hundredth(name, expected):
    assert theory.find_reach(name, share=0.01) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_conditional_risk_is_the_mean_over_the_two_labels(name):
    expr, z, eta = get(name).expr(Z), 0.7, 0.3
    expected = 0.3 * float(expr.subs(Z, z)) + 0.7 * float(expr.subs(Z, -z))
    assert page.compute_conditional_risk(get(name).fn, [0.0, z], [0.9, eta])[1, 1] == pytest.approx(
        expected
    )


@pytest.mark.parametrize("name", ["logistic", "square", "exponential", "savage"])
@pytest.mark.parametrize("eta", [0.2, 0.7])
def test_minimiser_agrees_with_a_continuous_optimiser(name, eta):
    fn = get(name).fn
    found = scipy.optimize.minimize_scalar(
        lambda z: page.compute_conditional_risk(fn, [z], [eta]).item(),
        bounds=(-4, 4),
        method="bounded",
    )
    (best,) = page.find_minimisers(fn, MARGINS, [eta])
    assert best == pytest.approx(found.x, abs=0.01)


def test_every_tied_minimiser_is_found():
    clear, tie = page.find_minimisers(get("ramp").fn, MARGINS, [0.8, 0.5])
    np.testing.assert_array_equal(clear, MARGINS[MARGINS >= 1])
    np.testing.assert_array_equal(tie, MARGINS)


@settings(max_examples=40)
@given(st.sampled_from(SYMMETRIC), st.floats(0.51, 1), st.floats(0.51, 1), st.floats(0.1, 30))
def test_no_symmetric_loss_tells_two_probabilities_apart(name, eta, other, bound):
    margins = np.linspace(-bound, bound, 101)
    low, high = page.find_minimisers(get(name).fn, margins, [eta, other])
    # Near its limit a loss is flat to within rounding, and how many margins then tie depends on the
    # factor 2η − 1.
    both = np.intersect1d(low, high)
    assert bound in both
    assert (both > 0).all()
    assert np.ptp(get(name).fn(torch.tensor(np.union1d(low, high))).numpy()) < 1e-9


def test_logistic_tells_them_apart():
    low, high = page.find_minimisers(get("logistic").fn, MARGINS, [0.6, 0.9])
    assert np.intersect1d(low, high).size == 0


def test_noise_shrinks_the_logistic_minimiser_and_leaves_symmetric_ones():
    etas = np.array([0.1, 0.3, 0.7, 0.9])
    table = page.tabulate_minimisers(
        ["logistic", "ramp", "sigmoid"], noise_rates=[0, 0.3], etas=etas, margins=MARGINS
    ).set_index(["loss", "noise_rate"])
    for rate in (0, 0.3):
        seen = (1 - rate) * etas + rate * (1 - etas)  # clean and kept, or lost and flipped
        np.testing.assert_allclose(
            table.loc[("logistic", rate), "low"], np.log(seen / (1 - seen)), atol=0.006
        )
    for name in ("ramp", "sigmoid"):
        np.testing.assert_array_equal(table.loc[(name, 0)], table.loc[(name, 0.3)])


def test_price_of_a_wrong_sign_in_closed_form():
    etas = np.array([0.05, 0.4, 0.6, 0.95])
    entropy = -etas * np.log(etas) - (1 - etas) * np.log(1 - etas)
    measured = {
        name: page.measure_calibration(get(name).fn, MARGINS, etas)
        for name in ("logistic", "hinge", "ramp")
    }
    np.testing.assert_allclose(measured["logistic"], np.log(2) - entropy, atol=1e-5)
    np.testing.assert_allclose(measured["hinge"], np.abs(2 * etas - 1), atol=1e-12)
    np.testing.assert_allclose(measured["ramp"], np.abs(2 * etas - 1) / 2, atol=1e-12)


@pytest.mark.parametrize(
    ("fn", "calibrated"),
    [
        (get("sigmoid").fn, True),
        (torch.sigmoid, False),  # increases
        (torch.zeros_like, False),  # constant
        (lambda z: 0.5 - torch.sin(z) / 2, False),  # as low on the wrong side
        (lambda z: 0.5 - z / (1 + z**2), True),  # exercise 4: not monotone, yet calibrated
    ],
)
def test_calibration_of_symmetric_losses(fn, calibrated):
    margins = np.arange(-40, 41) * np.pi / 2
    margins = np.union1d(margins, [-1.0, 1.0])
    prices = page.measure_calibration(fn, margins, [0.1, 0.45, 0.55, 0.9])
    assert bool((prices > 1e-9).all()) == calibrated


def test_exercise_three_the_odd_part_of_logistic_and_square_is_a_line():
    logistic, square = get("logistic").expr(Z), get("square").expr(Z)
    difference = sympy.diff(logistic - logistic.subs(Z, -Z) + Z, Z)
    assert sympy.simplify(difference) == 0
    assert sympy.expand(square - square.subs(Z, -Z) + 4 * Z) == 0


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("eta", [0.2, 0.55, 0.9])
def test_exercise_five_some_logistic_loss_makes_eta_readable(share, eta):
    margins = np.linspace(-12, 12, 240_001)
    (best,) = page.find_minimisers(
        lambda z: get("sigmoid").fn(z) + share * get("logistic").fn(z), margins, [eta]
    )
    u = scipy.special.expit(best.mean()) - 0.5
    assert 0.5 + share * u / (share + 0.5 - 2 * u**2) == pytest.approx(eta, abs=1e-3)


def test_fig_t5_draws_symmetric_losses_solid_on_the_left_and_flat():
    figure = figures.fig_t5_losses(theory.tabulate_losses(LOSSES, np.linspace(-3, 3, 31)))
    left, right = figure.axes[2].lines, figure.axes[3].lines  # the row of the sums
    assert len(left) == len(SYMMETRIC)
    assert len(left) + len(right) == len(LOSSES)
    assert {line.get_linestyle() for line in left} == {"-"}
    assert {line.get_linestyle() for line in right} == {"--"}
    assert all(np.ptp(line.get_ydata()) < 1e-9 for line in left)
    assert all(np.ptp(line.get_ydata()) > 0.1 for line in right)


def test_fig_t6_has_a_panel_per_rate_and_leaves_ties_at_one_half_out():
    table = page.tabulate_minimisers(
        ["ramp", "logistic"], noise_rates=[0, 0.4], etas=[0.4, 0.5, 0.6], margins=MARGINS
    )
    figure = figures.fig_t6_minimisers(table)
    assert len(figure.axes) == 2
    ramp, logistic = figure.axes[0].lines[:2]
    np.testing.assert_allclose(np.asarray(ramp.get_ydata(), dtype=float), [-1, np.nan, 1])
    assert logistic.get_ydata()[1] == pytest.approx(0)
