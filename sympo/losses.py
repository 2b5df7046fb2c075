"""The registry of losses: margin losses ℓ(z), and what the methods of the paper do with a pair.

Adding a loss is one entry in `_MARGIN_LOSSES` (or in `_METHODS`, where a method is more than a loss
of the margin): the trainers, the derivations and the figures look it up in `LOSSES` and
`PAIR_LOSSES`, which are made of these. An entry holds the torch function that trains (ipo and hinge
as methods are TRL's own) and the sympy expression that the derivations use.

A loss is symmetric when ℓ(z) + ℓ(−z) = K for every z. Most symmetric ones here are ℓ(z) = F(−z),
with F the distribution function of a law symmetric about 0, so that K = 1.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import logsigmoid

from sympo._entries import CUSTOM, Constant, Loss, PairLoss, as_pair, find_constant, of_margin
from sympo._names import unknown_name

if TYPE_CHECKING:
    import sympy

__all__ = [
    "CUSTOM",
    "DRDPO_BETA",
    "HOLDER_GAMMA",
    "LOSSES",
    "PAIR_LOSSES",
    "REPO_MEMORY",
    "REPO_START",
    "ROPO_ALPHA",
    "Constant",
    "Loss",
    "PairLoss",
    "as_pair",
    "find_constant",
    "get",
    "get_pair",
    "pair_losses",
    "repo_posterior",
]

# The methods' own constants, as their papers set them.
ROPO_ALPHA = 14
DRDPO_BETA = 1.0  # β′
HOLDER_GAMMA = 2
REPO_START = 0.9  # η before the first step
REPO_MEMORY = 0.9  # weight of the old η in its running mean

if TYPE_CHECKING:
    # What RE-PO and Dr.DPO hold fixed when they differentiate: the confidence w, and the batch
    # mean m of σ(h).
    CONFIDENCE: sympy.Symbol
    BATCH_MEAN: sympy.Symbol


def __getattr__(name: str) -> Any:
    # Symbols are made on first use, so that whoever only trains need not load sympy.
    letters = {"CONFIDENCE": "w", "BATCH_MEAN": "m"}
    if name not in letters:
        raise AttributeError(f"module 'sympo.losses' has no attribute '{name}'")
    import sympy

    return sympy.Symbol(letters[name], positive=True)


# The torch functions that take more than one line.


def _laplace(margin: Tensor) -> Tensor:
    # Each branch sees only the margins it is exact for: exp never overflows, and its gradient is
    # never inf · 0.
    tail = torch.exp(-margin.clamp(min=0)) / 2
    return torch.where(margin >= 0, tail, 1 - torch.exp(margin.clamp(max=0)) / 2)


def _student_t2(margin: Tensor) -> Tensor:
    # ½ − z/(2√(2+z²)) cancels in the tails, where its gradient then changes sign; this form of it
    # does not. In float16 the square of 256 is too large already.
    if margin.dtype == torch.float16:
        return _student_t2(margin.float()).half()
    size = torch.where(margin >= 0, margin.clamp(min=0), -margin.clamp(max=0))
    root = torch.sqrt(2 + size.square())
    tail = 1 / (root * (root + size))
    return torch.where(margin >= 0, tail, 1 - tail)


def _holder(margin: Tensor, *, holder_gamma: float = HOLDER_GAMMA) -> Tensor:
    # −(1+γ)·s^γ + γ·s^(1+γ). In powers of s, which lies in [0, 1]: nothing can overflow.
    if holder_gamma == 2:
        s = torch.sigmoid(margin)
        return s.square() * (2 * s - 3)
    # By way of log s: the slope of s^γ itself is infinite at s = 0 where γ < 1.
    log_s = logsigmoid(margin)
    power = torch.exp(holder_gamma * log_s)
    return power * (holder_gamma * torch.exp(log_s) - (1 + holder_gamma))


def _holder_formula(sp: Any, z: Any, *, holder_gamma: float = HOLDER_GAMMA) -> Any:
    gamma = sp.nsimplify(holder_gamma)
    return _sigma(sp, z) ** gamma * (gamma * _sigma(sp, z) - (1 + gamma))


_HOLDER_CONSTANTS = {
    "holder_gamma": Constant(
        HOLDER_GAMMA, symbol="γ", source="Fujisawa et al. 2025 (arXiv 2505.17859)"
    )
}


# Shared parts of the formulas; `sp` is the module sympy.


def _sigma(sp: Any, z: Any) -> Any:
    return 1 / (1 + sp.exp(-z))


def _clip01(sp: Any, z: Any) -> Any:
    return sp.Piecewise((0, z <= 0), (z, z < 1), (1, True))


_MARGIN_LOSSES = (
    # Symmetric: on average over symmetric label noise, each is (1 − 2ε) times itself plus a
    # constant, so that noise moves no minimiser.
    #
    # The paper's main choice. It is bounded, so that a wrong label costs at most 1, and smooth, so
    # that every pair has a gradient.
    Loss(
        "sigmoid",
        fn=lambda z: torch.sigmoid(-z),
        formula=lambda sp, z: _sigma(sp, -z),
        constant=1,
        convex=False,
        source="SymPO Section 4; logistic law",
    ),
    # Linear between −1 and 1, and flat outside: a pair that is far off has no gradient at all.
    Loss(
        "ramp",
        fn=lambda z: ((1 - z) / 2).clamp(0, 1),
        formula=lambda sp, z: _clip01(sp, (1 - z) / 2),
        constant=1,
        convex=False,
        source="SymPO Section 4; uniform law on [−1, 1]",
    ),
    # The lightest tail of the smooth ones. erfc, since 1 − erf is 0 beyond z = 6 in float32.
    Loss(
        "erf",
        fn=lambda z: torch.erfc(z / math.sqrt(2)) / 2,
        formula=lambda sp, z: (1 - sp.erf(z / sp.sqrt(2))) / 2,
        constant=1,
        convex=False,
        source="standard normal law",
    ),
    # The heaviest tail: its weight falls as 1/z², so that pairs far off are still heard.
    Loss(
        "cauchy",
        fn=lambda z: 0.5 - torch.atan(z) / math.pi,
        formula=lambda sp, z: sp.Rational(1, 2) - sp.atan(z) / sp.pi,
        constant=1,
        convex=False,
        source="standard Cauchy law",
        label="Cauchy",
    ),
    # It decays as the sigmoid does, e^(−z), with a kink in its slope at 0.
    Loss(
        "laplace",
        fn=_laplace,
        formula=lambda sp, z: sp.Piecewise((sp.exp(-z) / 2, z >= 0), (1 - sp.exp(z) / 2, True)),
        constant=1,
        convex=False,
        source="standard Laplace law",
        label="Laplace",
    ),
    # Between cauchy and sigmoid: its weight falls as 1/z³.
    Loss(
        "student_t2",
        fn=_student_t2,
        formula=lambda sp, z: (1 - z / sp.sqrt(2 + z**2)) / 2,
        constant=1,
        convex=False,
        source="Student-t law with ν = 2",
        label="Student t₂",
    ),
    # The only convex one, up to scale: linear, hence without a minimum. Where it is trained with,
    # the rewards have to be bounded.
    Loss(
        "unhinged",
        fn=lambda z: 1 - z,
        formula=lambda sp, z: 1 - z,
        constant=2,
        convex=True,
        source="van Rooyen et al. 2015 (arXiv 1505.07634); no lower bound",
    ),
    # F(−z) − 1, with F the law of the median of three logistic numbers; so K = −1.
    Loss(
        "holder",
        fn=_holder,
        formula=_holder_formula,
        constant=-1,
        convex=False,
        source="Hölder-DPO with γ = 2, as a function of the margin; no other γ is symmetric",
        label="Hölder",
        constants=_HOLDER_CONSTANTS,
    ),
    # Not symmetric: the baselines, and counterexamples to what the theory says of the others.
    #
    # DPO's loss. softplus, since log(1 + exp(−z)) overflows below z = −88 in float32.
    Loss(
        "logistic",
        fn=lambda z: functional.softplus(-z),
        formula=lambda sp, z: sp.log(1 + sp.exp(-z)),
        constant=None,
        convex=True,
        source="negative log-likelihood of Bradley–Terry",
    ),
    # The conditional risk is least at ±1, whatever the probability: it tells who wins, not how
    # often.
    Loss(
        "hinge",
        fn=lambda z: (1 - z).clamp(min=0),
        formula=lambda sp, z: sp.Max(0, 1 - z),
        constant=None,
        convex=True,
        source="support vector machine",
    ),
    # The conditional risk is least at 2η − 1, the probability itself on another scale.
    Loss(
        "square",
        fn=lambda z: (1 - z).square(),
        formula=lambda sp, z: (1 - z) ** 2,
        constant=None,
        convex=True,
        source="least squares",
    ),
    # The least robust: the weight of a wrong label grows exponentially as its margin falls.
    Loss(
        "exponential",
        fn=lambda z: torch.exp(-z),
        formula=lambda sp, z: sp.exp(-z),
        constant=None,
        convex=True,
        source="AdaBoost",
    ),
    # Bounded but not symmetric: boundedness is not enough.
    Loss(
        "savage",
        fn=lambda z: torch.sigmoid(-z).square(),
        formula=lambda sp, z: _sigma(sp, -z) ** 2,
        constant=None,
        convex=False,
        source="Masnadi-Shirazi and Vasconcelos 2008; bounded, yet not symmetric",
        label="Savage",
    ),
    # ramp(2z − 1): bounded and piecewise linear as ramp is, but off centre, hence not symmetric.
    Loss(
        "truncated_hinge",
        fn=lambda z: (1 - z).clamp(0, 1),
        formula=lambda sp, z: _clip01(sp, 1 - z),
        constant=None,
        convex=False,
        source="the authors' released code, where it is called ramp",
    ),
)

# The registry itself is a plain dict: add an entry to it, from outside too, and it is known.
LOSSES: dict[str, Loss] = {loss.name: loss for loss in _MARGIN_LOSSES}


# Losses of a pair. −log σ(h) is the loss of a label that is right, −log σ(−h) of one that is wrong.


def _right(sp: Any, h: Any) -> Any:
    return -sp.log(_sigma(sp, h))


def _wrong(sp: Any, h: Any) -> Any:
    return -sp.log(1 - _sigma(sp, h))


def _cdpo(margin: Tensor, noise_rate: float | Tensor) -> Tensor:
    # A rate per pair is allowed too: RE-PO's loss is this one with the rate that it estimates.
    return -(1 - noise_rate) * logsigmoid(margin) - noise_rate * logsigmoid(-margin)


def _rdpo(margin: Tensor, noise_rate: float) -> Tensor:
    # The correction that makes the mean over flips equal to the loss of the true label. It is not
    # bounded below where the margin is large: the price of being unbiased.
    right = logsigmoid(margin)
    wrong = logsigmoid(-margin)
    return (noise_rate * wrong - (1 - noise_rate) * right) / (1 - 2 * noise_rate)


def _ropo(margin: Tensor, *, ropo_alpha: float = ROPO_ALPHA) -> Tensor:
    # DPO's loss plus α times the symmetric sigmoid, which outweighs it around 0; the factor
    # 4α/(1+α)² is the paper's.
    scale = 4 * ropo_alpha / (1 + ropo_alpha) ** 2
    return scale * (ropo_alpha * torch.sigmoid(-margin) - logsigmoid(margin))


def _ropo_formula(sp: Any, h: Any, *, ropo_alpha: float = ROPO_ALPHA, **_: Any) -> Any:
    alpha = sp.nsimplify(ropo_alpha)
    return 4 * alpha / (1 + alpha) ** 2 * (_right(sp, h) + alpha * (1 - _sigma(sp, h)))


def repo_posterior(margin: Tensor, reliability: float) -> Tensor:
    """RE-PO's probability that a label is right, w = ηs/(ηs + (1−η)(1−s)) with s = σ(h).

    Args:
        margin: `(pairs,)` h, nats.
        reliability: η, the share of labels that are right.
    Returns:
        `(pairs,)`, detached: the loss is differentiated with w held fixed.
    Source: Cao et al. 2025 (arXiv 2509.24159). Check: tests/library/test_trainer.py.
    """
    # w reaches 1 in float32, and η with it; held inside (0, 1), its log-odds stay finite.
    eta = min(max(reliability, 1e-6), 1 - 1e-6)
    return torch.sigmoid(margin.detach() + math.log(eta / (1 - eta)))


def _repo(margin: Tensor, reliability: float, **_: float) -> Tensor:
    # Its one constant, η₀, is where a trainer begins; here η is told.
    return _cdpo(margin, 1 - repo_posterior(margin, reliability))


def _repo_formula(sp: Any, h: Any, **_: Any) -> Any:
    confidence = __getattr__("CONFIDENCE")
    return confidence * _right(sp, h) + (1 - confidence) * _wrong(sp, h)


def _drdpo(margin: Tensor, *, drdpo_beta: float = DRDPO_BETA) -> Tensor:
    # −β′·log of the batch's mean of σ(h)^(1/β′): pairs of a low σ(h), likely flipped, weigh little.
    # In logarithms, since σ(h) is 0 in float32 below h = −104, and 0 has none.
    log_mean = torch.logsumexp(logsigmoid(margin) / drdpo_beta, dim=0) - math.log(len(margin))
    return (-drdpo_beta * log_mean).expand_as(margin)


def _drdpo_formula(sp: Any, h: Any, *, drdpo_beta: float = DRDPO_BETA, **_: Any) -> Any:
    beta = sp.nsimplify(drdpo_beta)
    return -beta * _sigma(sp, h) ** (1 / beta) / __getattr__("BATCH_MEAN")


def _ipo_formula(sp: Any, h: Any, *, beta: Any, **_: Any) -> Any:
    if beta is None:
        raise ValueError("pair loss 'ipo' needs beta")
    return (h / beta - 1 / (2 * beta)) ** 2


_METHODS = (
    # Tables that list every method keep this order.
    PairLoss(
        "dpo",
        function=LOSSES["logistic"].fn,
        formula=lambda sp, h, **_: _right(sp, h),
        source="Rafailov et al. 2023 (arXiv 2305.18290)",
        label="DPO",
    ),
    PairLoss(
        "cdpo",
        function=_cdpo,
        formula=lambda sp, h, *, noise_rate, **_: (
            (1 - noise_rate) * _right(sp, h) + noise_rate * _wrong(sp, h)
        ),
        source="Mitchell 2023, a note on DPO with noisy preferences",
        needs="noise_rate",
        label="cDPO",
    ),
    PairLoss(
        "rdpo",
        function=_rdpo,
        formula=lambda sp, h, *, noise_rate, **_: (
            ((1 - noise_rate) * _right(sp, h) - noise_rate * _wrong(sp, h)) / (1 - 2 * noise_rate)
        ),
        source="Chowdhury et al. 2024 (arXiv 2403.00409)",
        needs="noise_rate",
        label="rDPO",
    ),
    # TRL's ipo and hinge are exactly the losses that are meant here, so neither has a second copy.
    PairLoss(
        "ipo",
        function=None,
        formula=_ipo_formula,
        source="Azar et al. 2023 (arXiv 2310.12036), τ = β",
        label="IPO",
    ),
    PairLoss(
        "hinge",
        function=None,
        formula=lambda sp, h, **_: sp.Piecewise((1 - h, h < 1), (0, True)),
        source="Zhao et al. 2023 (SLiC, arXiv 2305.10425)",
    ),
    PairLoss(
        "ropo",
        function=_ropo,
        formula=_ropo_formula,
        source="Liang et al. 2024 (arXiv 2404.04102)",
        label="ROPO",
        constants={"ropo_alpha": Constant(ROPO_ALPHA, "α", "Liang et al. 2024 (arXiv 2404.04102)")},
    ),
    PairLoss(
        "repo",
        function=_repo,
        formula=_repo_formula,
        source="Cao et al. 2025 (arXiv 2509.24159)",
        needs="reliability",
        label="RE-PO",
        constants={
            "repo_start": Constant(REPO_START, "η₀", "Cao et al. 2025 (arXiv 2509.24159)", high=1)
        },
    ),
    PairLoss(
        "drdpo",
        function=_drdpo,
        formula=_drdpo_formula,
        source="Wu et al. 2024 (arXiv 2407.07880)",
        label="Dr.DPO",
        constants={"drdpo_beta": Constant(DRDPO_BETA, "β′", "Wu et al. 2024 (arXiv 2407.07880)")},
        couples=True,
    ),
    PairLoss(
        "holder",
        function=LOSSES["holder"].fn,
        formula=of_margin(LOSSES["holder"]),
        source="Fujisawa et al. 2025 (arXiv 2505.17859), γ = 2",
        symmetric=True,
        label="Hölder",
        constants=_HOLDER_CONSTANTS,
    ),
)

PAIR_LOSSES: dict[str, PairLoss] = {loss.name: loss for loss in _METHODS}


def _sympo(loss: Loss) -> PairLoss:
    """The SymPO method of a symmetric margin loss: the loss itself, of h."""
    return PairLoss(
        f"sympo_{loss.name}",
        function=loss.fn,
        formula=of_margin(loss),
        source=f"SymPO Section 4; {loss.source}",
        symmetric=True,
        label=f"SymPO {loss.label}",
    )


def pair_losses() -> dict[str, PairLoss]:
    """Every loss of a pair by name: `PAIR_LOSSES`, and `sympo_<name>` per symmetric margin loss.

    It is put together at the call, so that an entry added to `LOSSES` is known everywhere.
    """
    symmetric = [loss for loss in LOSSES.values() if loss.symmetric]
    return {**PAIR_LOSSES, **{f"sympo_{loss.name}": _sympo(loss) for loss in symmetric}}


def get(name: str, **values: float) -> Loss:
    """The margin loss called `name`, with the constants `values` in place of the paper's.

    Raises:
        ValueError: no such loss, and the message lists the names and the nearest one; or no such
            constant.
    """
    if name not in LOSSES:
        raise ValueError(unknown_name("loss", name, LOSSES))
    return LOSSES[name].with_constants(**values)


def get_pair(name: str, **values: float) -> PairLoss:
    """The loss of a pair called `name`, with the constants `values` in place of the paper's.

    Raises:
        ValueError: no such loss, and the message lists the names and the nearest one; or no such
            constant.
    """
    losses = pair_losses()
    if name not in losses:
        raise ValueError(unknown_name("pair loss", name, losses))
    return losses[name].with_constants(**values)
