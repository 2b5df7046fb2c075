"""The registry of losses: margin losses ℓ(z), and what the methods of the paper do with a pair.

Adding a loss is one entry in `_MARGIN_LOSSES` (or in `_METHODS`, where a method is more than a loss
of the margin): the trainers, the derivations and the figures look it up in `LOSSES` and
`PAIR_LOSSES`, which are made of these. An entry holds the torch function that trains (ipo and hinge
as methods are TRL's own) and the sympy expression that the derivations use.

A loss is symmetric when ℓ(z) + ℓ(−z) = K for every z. Most symmetric ones here are ℓ(z) = F(−z),
with F the distribution function of a law symmetric about 0, so that K = 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import logsigmoid

from sympo._names import unknown_name

if TYPE_CHECKING:
    import sympy

__all__ = [
    "BATCH_MEAN",
    "CONFIDENCE",
    "DRDPO_BETA",
    "LOSSES",
    "PAIR_LOSSES",
    "REPO_MEMORY",
    "REPO_START",
    "ROPO_ALPHA",
    "Loss",
    "PairLoss",
    "get",
    "get_pair",
    "pair_losses",
    "repo_posterior",
]

# The methods' own constants, as their papers set them.
ROPO_ALPHA = 14
DRDPO_BETA = 1.0  # β′
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


@dataclass(frozen=True)
class Loss:
    """A margin loss ℓ(z), z = y·(r(a₁) − r(a₂)).

    Attributes:
        fn: maps a margin of any shape to the loss of the same shape and dtype, unreduced.
        formula: maps the module sympy and a real symbol to ℓ as a sympy expression; `expr` calls
            it.
        constant: K where ℓ(z) + ℓ(−z) = K for every z, None where there is no such K.
        source: where the loss comes from.
        calibrated: whether the minimiser of the conditional risk has the sign of 2η − 1 (theory
            T6).
        label: its name in figures; the entry's own name if none is set.
    Check: notebook 03, tests/library/test_losses.py.
    """

    name: str
    fn: Callable[[Tensor], Tensor]
    formula: Callable[[Any, Any], Any]
    constant: float | None
    convex: bool
    source: str
    calibrated: bool = True
    label: str = ""

    def __post_init__(self) -> None:
        _fill_label(self)

    @property
    def symmetric(self) -> bool:
        """Whether ℓ(z) + ℓ(−z) is a constant."""
        return self.constant is not None

    def expr(self, z: "sympy.Expr") -> "sympy.Expr":
        """ℓ(z) as a sympy expression."""
        import sympy  # here, so that training does not load it

        return self.formula(sympy, z)


@dataclass(frozen=True)
class PairLoss:
    """What a method minimises per pair, a function of h = β·(log-ratio chosen − rejected).

    Attributes:
        function: maps margins `(pairs,)`, and the argument named by `needs` if there is one, to
            losses `(pairs,)`; None where TRL's own code runs. `fn` calls it.
        formula: maps the module sympy, h, and the keywords `noise_rate` and `beta` to the
            expression; `expr` calls it.
        source: the method's paper.
        needs: "noise_rate" for ε, the rate of wrong labels that the method is told; "reliability"
            for RE-PO's η, the share of right labels that it estimates.
        symmetric: whether the losses of h and of −h add up to a constant.
        label: its name in figures; the entry's own name if none is set.
    Check: notebook 04, tests/library/test_trainer.py.
    """

    name: str
    function: Callable[..., Tensor] | None
    formula: Callable[..., Any]
    source: str
    # One argument would do for both, and say ε in one method and 1 − ε in the next.
    needs: Literal["noise_rate", "reliability"] | None = None
    symmetric: bool = False
    label: str = ""

    def __post_init__(self) -> None:
        _fill_label(self)

    def fn(
        self,
        margin: Tensor,
        *,
        noise_rate: float | None = None,
        reliability: float | None = None,
    ) -> Tensor:
        """Per-pair loss ℓ(h), unreduced; the caller takes the mean.

        Dr.DPO couples the batch, and gives its one value to every pair: it alone depends on how a
        batch is split over accumulation steps and processes.

        Args:
            margin: `(pairs,)` h, nats, after clipping if there is any.
            noise_rate: ε, used by cdpo and rdpo alone.
            reliability: η, used by repo alone.
        Returns:
            `(pairs,)`.
        Raises:
            ValueError: an argument that the loss needs is missing, or the loss runs in TRL's code.
        Source: `source`. Check: tests/library/test_trainer.py::test_pair_loss_is_its_formula.
        """
        if self.function is None:
            raise ValueError(
                f"pair loss '{self.name}' has no function here: TRL's own code runs it"
            )
        if self.needs is None:
            return self.function(margin)
        values = {"noise_rate": noise_rate, "reliability": reliability}
        return self.function(margin, self._require(self.needs, values[self.needs]))

    def expr(
        self,
        h: "sympy.Expr",
        *,
        noise_rate: "float | sympy.Expr | None" = None,
        beta: "float | sympy.Expr | None" = None,
    ) -> "sympy.Expr":
        """The loss of one pair as a sympy expression.

        RE-PO's confidence is held fixed as the symbol `CONFIDENCE`. Dr.DPO couples the batch, −log
        mean σ(h); its expression here, −σ/m with the batch mean m = `BATCH_MEAN` held fixed, has
        the gradient of one pair's share.

        Args:
            noise_rate: ε that cdpo and rdpo are told.
            beta: β, which scales ipo alone.
        Raises:
            ValueError: an argument that the loss needs is missing.
        Source: theory T9 and its table of losses. Check: notebook 04.
        """
        import sympy

        if self.needs == "noise_rate":
            self._require("noise_rate", noise_rate)
        # Exact numbers, so that sympy can cancel them: 0.2 becomes 1/5.
        settings = {
            name: None if value is None else sympy.nsimplify(value)
            for name, value in {"noise_rate": noise_rate, "beta": beta}.items()
        }
        return self.formula(sympy, h, **settings)

    def _require(self, argument: str, value: Any) -> Any:
        if value is None:
            raise ValueError(f"pair loss '{self.name}' needs {argument}")
        return value


def _fill_label(loss: Loss | PairLoss) -> None:
    if not loss.label:
        object.__setattr__(loss, "label", loss.name.replace("_", " "))  # the class is frozen


# The torch functions that take more than one line.


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
    # In powers of s, which lies in [0, 1]: nothing can overflow.
    s = torch.sigmoid(margin)
    return s.square() * (2 * s - 3)


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
        formula=lambda sp, z: _sigma(sp, z) ** 2 * (2 * _sigma(sp, z) - 3),
        constant=-1,
        convex=False,
        source="Hölder-DPO with γ = 2, as a function of the margin",
        label="Hölder",
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


def _ropo(margin: Tensor) -> Tensor:
    # DPO's loss plus α times the symmetric sigmoid, which outweighs it around 0; the factor
    # 4α/(1+α)² is the paper's.
    scale = 4 * ROPO_ALPHA / (1 + ROPO_ALPHA) ** 2
    return scale * (ROPO_ALPHA * torch.sigmoid(-margin) - logsigmoid(margin))


def _ropo_formula(sp: Any, h: Any, **_: Any) -> Any:
    alpha = sp.Integer(ROPO_ALPHA)
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


def _repo(margin: Tensor, reliability: float) -> Tensor:
    return _cdpo(margin, 1 - repo_posterior(margin, reliability))


def _repo_formula(sp: Any, h: Any, **_: Any) -> Any:
    confidence = __getattr__("CONFIDENCE")
    return confidence * _right(sp, h) + (1 - confidence) * _wrong(sp, h)


def _drdpo(margin: Tensor) -> Tensor:
    # −β′·log of the batch's mean of σ(h)^(1/β′): pairs of a low σ(h), likely flipped, weigh little.
    # In logarithms, since σ(h) is 0 in float32 below h = −104, and 0 has none.
    log_mean = torch.logsumexp(logsigmoid(margin) / DRDPO_BETA, dim=0) - math.log(len(margin))
    return (-DRDPO_BETA * log_mean).expand_as(margin)


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
    ),
    PairLoss(
        "repo",
        function=_repo,
        formula=_repo_formula,
        source="Cao et al. 2025 (arXiv 2509.24159)",
        needs="reliability",
        label="RE-PO",
    ),
    PairLoss(
        "drdpo",
        function=_drdpo,
        formula=lambda sp, h, **_: -_sigma(sp, h) / __getattr__("BATCH_MEAN"),
        source="Wu et al. 2024 (arXiv 2407.07880)",
        label="Dr.DPO",
    ),
    PairLoss(
        "holder",
        function=LOSSES["holder"].fn,
        formula=lambda sp, h, **_: LOSSES["holder"].formula(sp, h),
        source="Fujisawa et al. 2025 (arXiv 2505.17859), γ = 2",
        symmetric=True,
        label="Hölder",
    ),
)

PAIR_LOSSES: dict[str, PairLoss] = {loss.name: loss for loss in _METHODS}


def _sympo(loss: Loss) -> PairLoss:
    """The SymPO method of a symmetric margin loss: the loss itself, of h."""
    return PairLoss(
        f"sympo_{loss.name}",
        function=loss.fn,
        formula=lambda sp, h, **_: loss.formula(sp, h),
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


def get(name: str) -> Loss:
    """The margin loss called `name`.

    Raises:
        ValueError: no such loss; the message lists the names and the nearest one.
    """
    if name not in LOSSES:
        raise ValueError(unknown_name("loss", name, LOSSES))
    return LOSSES[name]


def get_pair(name: str) -> PairLoss:
    """The loss of a pair called `name`.

    Raises:
        ValueError: no such loss; the message lists the names and the nearest one.
    """
    losses = pair_losses()
    if name not in losses:
        raise ValueError(unknown_name("pair loss", name, losses))
    return losses[name]
