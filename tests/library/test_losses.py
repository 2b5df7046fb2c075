"""The margin losses against sympy, finite differences and brute force."""

import numpy as np
import pytest
import sympy
import torch
from scipy import stats

from sympo.losses import LOSSES, get

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


def test_get():
    assert get("ramp") is LOSSES["ramp"]
    nearest = r"unknown loss 'sigmiod'\. Did you mean 'sigmoid'\? Known: sigmoid, .*"
    with pytest.raises(ValueError, match=nearest):
        get("sigmiod")
    with pytest.raises(ValueError, match=r"unknown loss 'xyz'\. Known: "):
        get("xyz")
