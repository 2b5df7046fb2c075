"""The margin losses against sympy, finite differences and brute force."""

from dataclasses import replace

import numpy as np
import pytest
import sympy
import torch
from scipy import stats

from sympo.losses import LOSSES, as_pair, find_constant, get, get_pair

NAMES = list(LOSSES)
SYMMETRIC = [name for name in NAMES if LOSSES[name].symmetric]
# Off the kinks at 0 and ±1, where a derivative is a matter of convention.
GRID = np.linspace(-6.05, 6.05, 122)


def sympy_values(name, points, *, order=0):
    z = sympy.Symbol("z", real=True)
    expr = LOSSES[name].expr(z).diff(z, order) if order else LOSSES[name].expr(z)
    return np.broadcast_to(sympy.lambdify(z, expr, ["scipy", "numpy"])(points), points.shape)


def gradient(name, margin):
    margin = margin.detach().requires_grad_()
    LOSSES[name].fn(margin).sum().backward()
    return margin.grad


@pytest.mark.parametrize("name", NAMES)
def test_torch_and_sympy_agree(name):
    values = LOSSES[name].fn(torch.from_numpy(GRID))
    assert values.dtype == torch.float64
    np.testing.assert_allclose(values.numpy(), sympy_values(name, GRID), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_sympy_derivative(name):
    slopes = gradient(name, torch.from_numpy(GRID)).numpy()
    expected = sympy_values(name, GRID, order=1)
    np.testing.assert_allclose(slopes, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "name", ["sigmoid", "erf", "cauchy", "laplace", "student_t2", "ramp", "holder"]
)
def test_gradient_at_zero_where_every_margin_starts(name):
    step = 1e-6
    below, above = LOSSES[name].fn(torch.tensor([-step, step], dtype=torch.float64))
    slope = gradient(name, torch.zeros(1, dtype=torch.float64)).item()
    assert slope == pytest.approx((above - below).item() / (2 * step), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_symmetric(name):
    # On both sides of every kink, and to 30 digits: a sum that is nearly constant shows.
    z = sympy.Symbol("z", real=True)
    pair = LOSSES[name].expr(z) + LOSSES[name].expr(-z)
    sums = [float(pair.subs(z, sympy.Rational(k, 7)).evalf(30)) for k in range(0, 60, 3)]
    if LOSSES[name].symmetric:
        assert sums == pytest.approx([LOSSES[name].constant] * len(sums), abs=1e-12)
    else:
        assert np.ptp(sums) > 0.1


def test_the_symmetric_losses_are_these():
    by_laws = ["sigmoid", "ramp", "erf", "cauchy", "laplace", "student_t2"]
    others = ["unhinged", "holder"]
    assert by_laws + others == SYMMETRIC


@pytest.mark.parametrize("law", ["logistic", "uniform", "norm", "cauchy", "laplace", "t"])
def test_family_from_distribution_functions(law):
    names = {"logistic": "sigmoid", "uniform": "ramp", "norm": "erf", "t": "student_t2"}
    name = names.get(law, law)
    frozen = {"uniform": stats.uniform(-1, 2), "t": stats.t(2)}.get(law) or getattr(stats, law)()
    values = LOSSES[name].fn(torch.from_numpy(GRID)).numpy()
    np.testing.assert_allclose(values, frozen.cdf(-GRID), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_large_margins_stay_finite(name, dtype):
    margin = torch.tensor([-1e4, -95.0, 0.0, 95.0, 1e4], dtype=dtype)
    values = LOSSES[name].fn(margin)
    slopes = gradient(name, margin)
    assert values.dtype == slopes.dtype == dtype
    assert values.shape == margin.shape
    if name == "exponential":  # e^z itself leaves the range of the type
        assert not values.isnan().any()
        assert not slopes.isnan().any()
        values = values[2:]
        slopes = slopes[2:]
    assert values.isfinite().all()
    assert slopes.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(set(SYMMETRIC) - {"unhinged"}))
def test_bounded_losses_keep_their_range_and_never_push_backwards(name, dtype):
    margin = torch.cat([-torch.logspace(4, -2, 200), torch.logspace(-2, 4, 200)]).to(dtype)
    low, high = (-1, 0) if name == "holder" else (0, 1)
    values = LOSSES[name].fn(margin)
    assert values.min() >= low
    assert values.max() <= high
    assert gradient(name, margin).max() <= 0


@pytest.mark.parametrize("name", NAMES)
def test_convex_flag(name):
    curvature = np.diff(LOSSES[name].fn(torch.from_numpy(GRID)).numpy(), 2)
    assert (curvature.min() > -1e-12) == LOSSES[name].convex


def minimiser_has_the_right_sign(fn, eta):
    grid = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    risk = eta * fn(grid) + (1 - eta) * fn(-grid)
    best = grid[risk <= risk.min() + 1e-12]
    return bool((best.sign() == np.sign(2 * eta - 1)).all())


@pytest.mark.parametrize("name", NAMES)
def test_calibrated(name):
    shares = (0.05, 0.3, 0.45, 0.55, 0.7, 0.95)
    right = all(minimiser_has_the_right_sign(LOSSES[name].fn, eta) for eta in shares)
    assert right == LOSSES[name].calibrated


@pytest.mark.parametrize("fn", [torch.sigmoid, torch.ones_like, lambda z: (z + 1).square()])
def test_the_calibration_check_can_fail(fn):
    assert not minimiser_has_the_right_sign(fn, 0.7)


# Where a loss itself leaves float16: e^z beyond z = 11, (1 − z)² beyond 255.
HALF_RANGE = {"exponential": 10.0, "square": 250.0}


@pytest.mark.parametrize("name", NAMES)
def test_float16_is_the_rounded_loss_far_out_too(name):
    reach = HALF_RANGE.get(name, 6e4)
    margin = reach * torch.linspace(-1, 1, 401, dtype=torch.float64) ** 3
    margin = margin.half().double()
    half = margin.half().requires_grad_()
    LOSSES[name].fn(half).sum().backward()
    values = LOSSES[name].fn(margin)
    # One rounding is 2⁻¹¹, and each loss takes a few operations.
    tolerance = {"rtol": 4e-3, "atol": 1e-3}
    torch.testing.assert_close(LOSSES[name].fn(half).double(), values, **tolerance)
    torch.testing.assert_close(half.grad.double(), gradient(name, margin), **tolerance)


# --- constants: the paper's, or others

# For each constant, the loss as its paper writes it, in h and its constant.
H, C = sympy.symbols("h c", positive=True)
S = 1 / (1 + sympy.exp(-H))
WRITTEN = {
    ("ropo", "ropo_alpha"): 4 * C / (1 + C) ** 2 * (-sympy.log(S) + C * (1 - S)),
    ("holder", "holder_gamma"): -(1 + C) * S**C + C * S ** (1 + C),
}


@pytest.mark.parametrize("value", [0.5, 2, 3.25])
@pytest.mark.parametrize(("name", "constant"), WRITTEN)
def test_constants_reach_function_and_formula(name, constant, value):
    loss = get_pair(name, **{constant: value})
    margin = torch.from_numpy(GRID).requires_grad_()
    written = WRITTEN[name, constant].subs(C, value)
    h = sympy.Symbol("h", real=True)
    for order in (0, 1):
        from_paper = sympy.lambdify(H, written.diff(H, order), "numpy")(GRID)
        of_entry = sympy.lambdify(h, loss.expr(h).diff(h, order), "numpy")(GRID)
        np.testing.assert_allclose(of_entry, from_paper, rtol=1e-9, atol=1e-14)
        values = loss.fn(margin)
        if order:
            (values,) = torch.autograd.grad(values.sum(), margin)
        np.testing.assert_allclose(values.detach().numpy(), from_paper, rtol=1e-9, atol=1e-14)


def test_drdpo_of_another_temperature():
    shares = torch.tensor([0.04, 0.25, 0.81], dtype=torch.float64)
    margin = torch.logit(shares).requires_grad_()
    loss = get_pair("drdpo", drdpo_beta=2)
    # −2·log of the mean of 0.2, 0.5 and 0.9
    values = loss.fn(margin)
    np.testing.assert_allclose(values.detach().numpy(), -2 * np.log(1.6 / 3))
    (slopes,) = torch.autograd.grad(values.mean(), margin)
    # The formula of one pair holds the batch's mean fixed: its slope is that pair's, times 3.
    h, mean = sympy.Symbol("h", real=True), sympy.Symbol("m", positive=True)
    slope = sympy.lambdify((h, mean), loss.expr(h).diff(h), "numpy")
    expected = slope(margin.detach().numpy(), 1.6 / 3) / 3
    np.testing.assert_allclose(slopes.numpy(), expected, rtol=1e-12)


def test_holder_is_symmetric_for_no_other_gamma():
    for gamma in (0.5, 1, 1.9, 3):
        assert not get("holder", holder_gamma=gamma).symmetric
        assert not get_pair("holder", holder_gamma=gamma).symmetric
    assert get("holder", holder_gamma=2.0) is LOSSES["holder"]
    assert get_pair("holder", holder_gamma=2.0).symmetric


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
def test_a_constant_is_found_by_trying(name, dtype, back):
    """In whatever precision a function computes, and whether or not it turns back to the given."""

    def compute(margin):
        losses = LOSSES[name].fn(margin.to(dtype))
        return losses.to(margin.dtype) if back else losses

    assert find_constant(compute) == LOSSES[name].constant
    other = get("holder", holder_gamma=3).fn
    assert find_constant(lambda margin: other(margin.to(dtype))) is None


def test_a_constant_can_be_set_back():
    away = get("holder", holder_gamma=3)
    back = away.with_constants(holder_gamma=2)
    margin = torch.from_numpy(GRID)
    torch.testing.assert_close(back.fn(margin), LOSSES["holder"].fn(margin))
    assert (away.constant, back.constant) == (None, -1)
    assert get_pair("holder", holder_gamma=3).with_constants(holder_gamma=2).symmetric
    assert as_pair(away).with_constants(holder_gamma=2).symmetric
    ropo = replace(get_pair("ropo", ropo_alpha=3), name="ropo3")
    values = ropo.with_constants(ropo_alpha=14).fn(margin)
    torch.testing.assert_close(values, get_pair("ropo").fn(margin))
    h = sympy.Symbol("h", real=True)
    assert ropo.with_constants(ropo_alpha=14).expr(h) == get_pair("ropo").expr(h)


@pytest.mark.parametrize("value", [np.int64(3), np.float32(3)])
def test_a_constant_may_be_a_number_of_numpy(value):
    h = sympy.Symbol("h", real=True)
    assert get_pair("ropo", ropo_alpha=value).expr(h) == get_pair("ropo", ropo_alpha=3).expr(h)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ropo_beta": 1}, "loss 'ropo' has no constant 'ropo_beta'; it has ropo_alpha"),
        ({"ropo_alpha": 0}, "ropo_alpha = 0 is no value of α: give a positive number, or leave"),
        ({"ropo_alpha": True}, "ropo_alpha = True is no value"),
        ({"ropo_alpha": "6"}, "ropo_alpha = '6' is no value"),
        ({"ropo_alpha": float("nan")}, "ropo_alpha = nan is no value"),
    ],
)
def test_impossible_constants_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        get_pair("ropo", **values)


def test_a_share_stays_below_one():
    with pytest.raises(ValueError, match=r"η₀: give a number in \(0, 1\), or .* the paper's 0.9"):
        get_pair("repo", repo_start=1.0)


# --- a loss of your own


def test_a_function_becomes_a_loss():
    tempered = as_pair(lambda h: torch.sigmoid(-h / 3))
    assert tempered.symmetric
    assert not tempered.couples
    margin = torch.from_numpy(GRID)
    torch.testing.assert_close(tempered.fn(margin), torch.sigmoid(-margin / 3))
    assert not as_pair(lambda h: (1 - h).clamp(min=0)).symmetric
    assert as_pair(lambda h: torch.tanh(-h), symmetric=False).symmetric is False
    with pytest.raises(ValueError, match="has no formula"):
        tempered.expr(sympy.Symbol("h"))


def test_a_function_of_float32_parameters_becomes_a_loss():
    layer = torch.nn.Linear(1, 1)
    assert as_pair(lambda h: layer(h[:, None])[:, 0]).symmetric


def test_a_function_of_the_batch_is_told_from_one_of_the_margin():
    assert as_pair(lambda h: torch.sigmoid(-h) - torch.sigmoid(-h).mean()).couples


def test_entries_become_losses_of_pairs():
    ramp = as_pair(LOSSES["ramp"])
    assert (ramp.name, ramp.symmetric) == ("ramp", True)
    assert as_pair(get("holder", holder_gamma=3)).symmetric is False
    assert as_pair(ramp) is ramp
    # An entry's constants come along.
    h = sympy.Symbol("h", real=True)
    holder = as_pair(LOSSES["holder"])
    assert holder.with_constants(holder_gamma=3).expr(h) == get("holder", holder_gamma=3).expr(h)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda h: h.mean(), r"gives \(\) for 8 margins: give one loss per pair, and take no mean"),
        (lambda h: 0.5, "gives float for 8 margins"),
        (lambda h: torch.log(h), "not finite for margins between −9 and 9"),
        (lambda h: h @ h.missing, "cannot be applied to a tensor of margins .*missing"),
        (lambda h: (h < 0).long(), "the loss gives int64: give floating-point numbers"),
        ("sigmoid", "loss = 'sigmoid': give a function of margins, or an entry"),
    ],
)
def test_what_is_no_loss_is_refused(fn, message):
    with pytest.raises(ValueError, match=message):
        as_pair(fn)


def test_get():
    assert get("ramp") is LOSSES["ramp"]
    nearest = r"unknown loss 'sigmiod'\. Did you mean 'sigmoid'\? Known: sigmoid, .*"
    with pytest.raises(ValueError, match=nearest):
        get("sigmiod")
    with pytest.raises(ValueError, match=r"unknown loss 'xyz'\. Known: "):
        get("xyz")


@pytest.mark.parametrize("name", ["cdpo", "rdpo"])
@pytest.mark.parametrize("rate", [0.5, 0.7, 2, -0.1, float("nan"), True, "0.2"])
def test_a_noise_rate_that_is_none_is_refused(name, rate):
    with pytest.raises(ValueError, match=r"^noise_rate = .* is out of range: give a number in"):
        get_pair(name).fn(torch.zeros(2), noise_rate=rate)


def test_an_entry_can_be_a_key():
    entries = [*LOSSES.values(), *(as_pair(loss) for loss in LOSSES.values()), get_pair("ropo")]
    assert len({loss: loss.name for loss in entries}) == len(entries)
    assert hash(get("sigmoid")) == hash(get("sigmoid"))
