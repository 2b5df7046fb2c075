"""Margin losses ℓ(z): the torch function that trains, and the sympy expression that the derivations
use.

A loss is symmetric when ℓ(z) + ℓ(−z) = K for every z. Most symmetric ones here are ℓ(z) = F(−z),
with F the distribution function of a law symmetric about 0, so that K = 1.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import sympy
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Loss:
    """A margin loss ℓ(z), z = y·(r(a₁) − r(a₂)).

    Attributes:
        fn: maps a margin of any shape to the loss of the same shape and dtype, unreduced.
        expr: maps a real sympy symbol to ℓ as a sympy expression.
        constant: K where ℓ(z) + ℓ(−z) = K for every z, None where there is no such K.
        calibrated: whether the minimiser of the conditional risk has the sign of 2η − 1 (theory
            T6).
        source: where the loss comes from.
    Check: notebook 03, tests/test_losses.py.
    """

    name: str
    fn: Callable[[Tensor], Tensor]
    expr: Callable[[sympy.Symbol], sympy.Expr]
    constant: float | None
    convex: bool
    source: str
    calibrated: bool = True

    @property
    def symmetric(self) -> bool:
        """Whether ℓ(z) + ℓ(−z) is a constant."""
        return self.constant is not None


def _laplace(margin: Tensor) -> Tensor:
    # Each branch sees only the margins it is exact for: exp never overflows, and its gradient is
    # never inf · 0.
    tail = torch.exp(-margin.clamp(min=0)) / 2
    return torch.where(margin >= 0, tail, 1 - torch.exp(margin.clamp(max=0)) / 2)


def _student_t2(margin: Tensor) -> Tensor:
    # ½ − z/(2√(2+z²)) cancels in the tails, where its gradient then changes sign; this form of it
    # does not.
    size = torch.where(margin >= 0, margin.clamp(min=0), -margin.clamp(max=0))
    root = torch.sqrt(2 + size.square())
    tail = 1 / (root * (root + size))
    return torch.where(margin >= 0, tail, 1 - tail)


def _holder(margin: Tensor) -> Tensor:
    s = torch.sigmoid(margin)
    return s.square() * (2 * s - 3)


def _sigma(z: sympy.Expr) -> sympy.Expr:
    return 1 / (1 + sympy.exp(-z))


def _clip01(z: sympy.Expr) -> sympy.Expr:
    return sympy.Piecewise((0, z <= 0), (z, z < 1), (1, True))


_LOSSES = (
    # Symmetric.
    Loss(
        "sigmoid",
        lambda z: torch.sigmoid(-z),
        lambda z: _sigma(-z),
        1,
        False,
        "SymPO Section 4; logistic law",
    ),
    Loss(
        "ramp",
        lambda z: ((1 - z) / 2).clamp(0, 1),
        lambda z: _clip01((1 - z) / 2),
        1,
        False,
        "SymPO Section 4; uniform law on [−1, 1]",
    ),
    Loss(
        "erf",
        lambda z: torch.erfc(z / math.sqrt(2)) / 2,
        lambda z: (1 - sympy.erf(z / sympy.sqrt(2))) / 2,
        1,
        False,
        "standard normal law",
    ),
    Loss(
        "cauchy",
        lambda z: 0.5 - torch.atan(z) / math.pi,
        lambda z: sympy.Rational(1, 2) - sympy.atan(z) / sympy.pi,
        1,
        False,
        "standard Cauchy law",
    ),
    Loss(
        "laplace",
        _laplace,
        lambda z: sympy.Piecewise((sympy.exp(-z) / 2, z >= 0), (1 - sympy.exp(z) / 2, True)),
        1,
        False,
        "standard Laplace law",
    ),
    Loss(
        "student_t2",
        _student_t2,
        lambda z: (1 - z / sympy.sqrt(2 + z**2)) / 2,
        1,
        False,
        "Student-t law with ν = 2",
    ),
    Loss(
        "unhinged",
        lambda z: 1 - z,
        lambda z: 1 - z,
        2,
        True,
        "van Rooyen et al. 2015 (arXiv 1505.07634); no lower bound",
    ),
    Loss(
        "holder",
        _holder,
        lambda z: _sigma(z) ** 2 * (2 * _sigma(z) - 3),
        -1,
        False,
        "Hölder-DPO with γ = 2, as a function of the margin",
    ),
    # Not symmetric.
    Loss(
        "logistic",
        lambda z: functional.softplus(-z),
        lambda z: sympy.log(1 + sympy.exp(-z)),
        None,
        True,
        "negative log-likelihood of Bradley–Terry",
    ),
    Loss(
        "hinge",
        lambda z: (1 - z).clamp(min=0),
        lambda z: sympy.Max(0, 1 - z),
        None,
        True,
        "support vector machine",
    ),
    Loss("square", lambda z: (1 - z).square(), lambda z: (1 - z) ** 2, None, True, "least squares"),
    Loss("exponential", lambda z: torch.exp(-z), lambda z: sympy.exp(-z), None, True, "AdaBoost"),
    Loss(
        "savage",
        lambda z: torch.sigmoid(-z).square(),
        lambda z: _sigma(-z) ** 2,
        None,
        False,
        "Masnadi-Shirazi and Vasconcelos 2008; bounded, yet not symmetric",
    ),
    Loss(
        "truncated_hinge",
        lambda z: (1 - z).clamp(0, 1),
        lambda z: _clip01(1 - z),
        None,
        False,
        "the authors' released code, where it is called ramp",
    ),
)

LOSSES: dict[str, Loss] = {loss.name: loss for loss in _LOSSES}


def get(name: str) -> Loss:
    """The loss called `name`.

    Raises:
        ValueError: no such loss; the message lists the names and the nearest one.
    """
    if name in LOSSES:
        return LOSSES[name]
    nearest = difflib.get_close_matches(str(name), LOSSES, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    raise ValueError(f"unknown loss '{name}'.{hint} Losses: {', '.join(LOSSES)}.")
