"""The registry of losses: margin losses ℓ(z), and what the methods of the paper do with a pair.

Adding a loss is one entry in `_MARGIN_LOSSES` (or in `_METHODS`, where a method is more than a loss
of the margin): the trainers, the derivations and the figures look it up in `LOSSES` and
`PAIR_LOSSES`, which are made of these. An entry holds the torch function that trains (ipo and hinge
as methods are TRL's own) and the sympy expression that the derivations use.

A loss is symmetric when ℓ(z) + ℓ(−z) = K for every z. Most symmetric ones here are ℓ(z) = F(−z),
with F the distribution function of a law symmetric about 0, so that K = 1.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
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
    "constants",
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

CUSTOM = "custom"  # the name of a loss that is given as a function

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
class Constant:
    """A number in a loss that its paper sets, and that a user may set otherwise.

    Attributes:
        default: the paper's value.
        symbol: how the paper writes it.
        source: where the paper sets it.
        high: values lie in (0, high).
    """

    default: float
    symbol: str
    source: str
    high: float = math.inf

    def check(self, name: str, value: Any) -> float:
        """`value`, a number that this constant may have.

        Raises:
            ValueError: it is none; the message names the constant, `name`.
        """
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and 0 < value < self.high:
            return float(value)
        bounds = "a positive number" if self.high == math.inf else f"a number in (0, {self.high:g})"
        raise ValueError(
            f"{name} = {value!r} is no value of {self.symbol}: give {bounds}, or leave it out for "
            f"the paper's {self.default:g}"
        )


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
        constants: the numbers that may be set, by the keyword under which `fn` and `formula` take
            them.
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
    constants: Mapping[str, Constant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _fill_label(self)

    @property
    def symmetric(self) -> bool:
        """Whether ℓ(z) + ℓ(−z) is a constant."""
        return self.constant is not None

    def with_constants(self, **values: float) -> "Loss":
        """This loss with other constants; whether it is symmetric is found out anew.

        Raises:
            ValueError: the loss has no such constant, or a value is out of range.
        Check: tests/library/test_losses.py::test_constants_reach_function_and_formula.
        """
        values = _check_constants(self, values)
        if not values:
            return self
        fn = partial(self.fn, **values)
        formula = partial(self.formula, **values)
        return replace(self, fn=fn, formula=formula, constant=find_constant(fn))

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
        constants: the numbers that may be set, by the keyword under which `function` and `formula`
            take them.
        couples: whether the loss of a pair depends on the other pairs of its batch.
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
    constants: Mapping[str, Constant] = field(default_factory=dict)
    couples: bool = False

    def __post_init__(self) -> None:
        _fill_label(self)

    def with_constants(self, **values: float) -> "PairLoss":
        """This loss with other constants; whether it is symmetric is found out anew.

        Raises:
            ValueError: the loss has no such constant, or a value is out of range.
        Check: tests/library/test_losses.py::test_constants_reach_function_and_formula.
        """
        values = _check_constants(self, values)
        if not values or self.function is None:
            return self
        function = partial(self.function, **values)
        formula = partial(self.formula, **values)
        # Only a loss of the margin alone can be tried out.
        symmetric = self.symmetric and find_constant(function) is not None
        return replace(self, function=function, formula=formula, symmetric=symmetric)

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


def _check_constants(loss: Loss | PairLoss, values: Mapping[str, Any]) -> dict[str, float]:
    """The values that differ from the paper's, once all are known to be possible."""
    for name in values:
        if name not in loss.constants:
            has = ", ".join(loss.constants) or "none"
            raise ValueError(f"loss '{loss.name}' has no constant '{name}'; it has {has}")
    checked = {name: loss.constants[name].check(name, value) for name, value in values.items()}
    return {name: value for name, value in checked.items() if value != loss.constants[name].default}


def find_constant(fn: Callable[[Tensor], Tensor]) -> float | None:
    """K where ℓ(z) + ℓ(−z) = K for every z that is tried, None where there is no such K.

    Args:
        fn: maps margins `(pairs,)` to losses `(pairs,)`; it is called with 501 of them, from 0 to
            20, in float64.
    Check: tests/library/test_losses.py::test_a_constant_is_found_by_trying.
    """
    margin = torch.linspace(0, 20, 501, dtype=torch.float64)
    sums = fn(margin) + fn(-margin)
    constant = float(sums.mean())
    # Far above the rounding of sums of this size, and far below what any asymmetry leaves.
    if not bool((sums - constant).abs().max() <= 1e-9 * (1 + abs(constant))):
        return None
    return round(constant, 9)


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


def _of_margin(loss: Loss) -> Callable[..., Any]:
    """The formula of a margin loss, under the arguments that a method's formula has."""

    def formula(sp: Any, h: Any, **told: Any) -> Any:
        return loss.formula(sp, h, **{name: told[name] for name in loss.constants if name in told})

    return formula


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
        formula=_of_margin(LOSSES["holder"]),
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
        formula=_of_margin(loss),
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


def constants() -> dict[str, Constant]:
    """Every constant of the losses of a pair, by its keyword."""
    return {
        name: constant
        for loss in pair_losses().values()
        for name, constant in loss.constants.items()
    }


def as_pair(
    loss: Callable[[Tensor], Tensor] | Loss | PairLoss, *, symmetric: bool | None = None
) -> PairLoss:
    """A loss of your own as the loss of a pair.

    Args:
        loss: an entry, or a function that maps margins `(pairs,)` to losses `(pairs,)`, unreduced.
        symmetric: whether a function's losses of h and of −h add up to a constant, which decides
            whether the trainers bound the rewards unless told; None: found out by trying.
    Raises:
        ValueError: the function cannot be applied to margins, or gives anything but a finite loss
            for each.
    Check: tests/library/test_losses.py::test_a_function_becomes_a_loss.
    """
    if isinstance(loss, PairLoss):
        return loss
    if isinstance(loss, Loss):
        return PairLoss(
            loss.name,
            function=loss.fn,
            formula=_of_margin(loss),
            source=loss.source,
            symmetric=loss.symmetric,
            label=loss.label,
            constants=loss.constants,
        )
    if not callable(loss):
        raise ValueError(
            f"loss = {loss!r}: give a function of margins, or an entry of sympo.losses"
        )
    couples = _try_out(loss)
    if symmetric is None:
        symmetric = not couples and find_constant(loss) is not None
    return PairLoss(
        CUSTOM,
        function=loss,
        formula=_refuse_formula,
        source="yours",
        symmetric=symmetric,
        couples=couples,
    )


def _refuse_formula(*_: Any, **__: Any) -> Any:
    raise ValueError("a loss that is a function has no formula: make it an entry of sympo.losses")


def _try_out(fn: Callable[[Tensor], Tensor]) -> bool:
    """Whether a function couples the pairs of a batch, once it is known to be a loss."""
    margin = torch.linspace(-9, 9, 8)
    try:
        losses = fn(margin)
        part = fn(margin[:3])
    except Exception as error:  # whatever a stranger's function raises
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"the loss cannot be applied to a tensor of margins ({reason})") from error
    if not isinstance(losses, Tensor) or losses.shape != margin.shape:
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ValueError(
            f"the loss gives {shape} for 8 margins: give one loss per pair, and take no mean"
        )
    if not losses.isfinite().all():
        raise ValueError("the loss is not finite for margins between −9 and 9")
    return not torch.allclose(losses[:3], part)


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
