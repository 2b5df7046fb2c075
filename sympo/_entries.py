"""What an entry of the registry of losses is: `sympo.losses` is made of these.

Here are the two kinds, `Loss` of a margin and `PairLoss` of a method, the constants that may be
set, and how a function of your own becomes an entry.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from sympo._names import is_number, show
from sympo.noise import check_rate

if TYPE_CHECKING:
    import sympy

CUSTOM = "custom"  # the name of a loss that is given as a function


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
        if is_number(value) and 0 < value < self.high:
            return float(value)
        bounds = "a positive number" if self.high == math.inf else f"a number in (0, {self.high:g})"
        raise ValueError(
            f"{name} = {show(value)} is no value of {self.symbol}: give {bounds}, or leave it out "
            f"for the paper's {self.default:g}"
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
    constants: Mapping[str, Constant] = field(default_factory=dict, hash=False)

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
        values = _check_constants(self, self.fn, values)
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
    constants: Mapping[str, Constant] = field(default_factory=dict, hash=False)
    couples: bool = False

    def __post_init__(self) -> None:
        _fill_label(self)

    def with_constants(self, **values: float) -> "PairLoss":
        """This loss with other constants; whether it is symmetric is found out anew.

        Raises:
            ValueError: the loss has no such constant, or a value is out of range.
        Check: tests/library/test_losses.py::test_constants_reach_function_and_formula.
        """
        values = _check_constants(self, self.function, values)
        if not values or self.function is None:
            return self
        function = partial(self.function, **values)
        formula = partial(self.formula, **values)
        # Only a loss of the margin alone can be tried out.
        alone = self.needs is None and not self.couples
        symmetric = alone and find_constant(function) is not None
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
            noise_rate: ε in [0, ½), used by cdpo and rdpo alone.
            reliability: η, used by repo alone.
        Returns:
            `(pairs,)`.
        Raises:
            ValueError: an argument that the loss needs is missing, a noise rate is out of range, or
                the loss runs in TRL's code.
        Source: `source`. Check: tests/library/test_trainer.py::test_pair_loss_is_its_formula.
        """
        if self.function is None:
            raise ValueError(
                f"pair loss '{self.name}' has no function here: TRL's own code runs it"
            )
        if self.needs is None:
            return self.function(margin)
        if self.needs == "noise_rate":
            return self.function(margin, check_rate(self._require("noise_rate", noise_rate)))
        return self.function(margin, self._require("reliability", reliability))

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


def _check_constants(
    loss: Loss | PairLoss, fn: object, values: Mapping[str, Any]
) -> dict[str, float]:
    """The values that differ from those of `fn`, the loss's, once all are known to be possible."""
    for name in values:
        if name not in loss.constants:
            has = ", ".join(loss.constants) or "none"
            raise ValueError(f"loss '{loss.name}' has no constant '{name}'; it has {has}")
    checked = {name: loss.constants[name].check(name, value) for name, value in values.items()}
    # The paper's values, unless the entry has been given others before.
    held = {name: constant.default for name, constant in loss.constants.items()}
    if isinstance(fn, partial):
        held.update(fn.keywords)
    return {name: value for name, value in checked.items() if value != held[name]}


def find_constant(fn: Callable[[Tensor], Tensor]) -> float | None:
    """K where ℓ(z) + ℓ(−z) = K for every z that is tried, None where there is no such K.

    Args:
        fn: maps margins `(pairs,)` to losses `(pairs,)`; it is called with 501 of them, from 0 to
            20, in float32, as the trainers call it.
    Raises:
        ValueError: the function cannot be applied to margins.
    Check: tests/library/test_losses.py::test_a_constant_is_found_by_trying.
    """
    margin = torch.linspace(0, 20, 501)
    sides = torch.stack([_apply(fn, margin), _apply(fn, -margin)])
    precision = _find_precision(sides)
    sides = sides.double()
    sums = sides.sum(dim=0)
    constant = float(sums.mean())
    # A few roundings of losses of this size, and far below what any asymmetry leaves.
    if not bool((sums - constant).abs().max() <= 8 * precision * (1 + sides.abs().max())):
        return None
    return round(constant, 6 if precision < 1e-6 else 2)


def _find_precision(values: Tensor) -> float:
    """The rounding of the coarsest type that holds all values; of float32 for finer ones."""
    # A function may compute in a coarser type than it returns.
    coarse = (torch.float16, torch.bfloat16)
    held = [dtype for dtype in coarse if values.to(dtype).to(values.dtype).equal(values)]
    return max(torch.finfo(dtype).eps for dtype in (torch.float32, *held))


def of_margin(loss: Loss) -> Callable[..., Any]:
    """The formula of a margin loss, under the arguments that a method's formula has."""

    def formula(sp: Any, h: Any, **told: Any) -> Any:
        return loss.formula(sp, h, **{name: told[name] for name in loss.constants if name in told})

    return formula


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
            formula=of_margin(loss),
            source=loss.source,
            symmetric=loss.symmetric,
            label=loss.label,
            constants=loss.constants,
        )
    if not callable(loss):
        raise ValueError(
            f"loss = {show(loss)}: give a function of margins, or an entry of sympo.losses"
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


def _apply(fn: Callable[[Tensor], Tensor], margin: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            return fn(margin)
    except Exception as error:  # whatever a stranger's function raises
        # Some of torch's messages have several lines.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"the loss cannot be applied to a tensor of margins ({reason})") from error


def _try_out(fn: Callable[[Tensor], Tensor]) -> bool:
    """Whether a function couples the pairs of a batch, once it is known to be a loss."""
    margin = torch.linspace(-9, 9, 8)
    losses = _apply(fn, margin)
    part = _apply(fn, margin[:3])
    if not isinstance(losses, Tensor) or losses.shape != margin.shape:
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ValueError(
            f"the loss gives {shape} for 8 margins: give one loss per pair, and take no mean"
        )
    if not losses.is_floating_point():
        raise ValueError(
            f"the loss gives {str(losses.dtype).removeprefix('torch.')}: give floating-point "
            "numbers, which have a gradient"
        )
    if not losses.isfinite().all():
        raise ValueError("the loss is not finite for margins between −9 and 9")
    return not torch.allclose(losses[:3], part)
