"""The configs of both trainers: TRL's, with the losses here, and a sentence for what cannot be."""

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from trl import DPOConfig, RewardConfig

from sympo import losses
from sympo._names import unknown_name

SYMPO_CLIP = 10.0  # bound on each reward; the authors' for language models

# DPOTrainer dispatches on these in a private method and lists them nowhere else; a test reads them
# off its source.
TRL_LOSSES = frozenset(
    {
        "aot",
        "aot_unpaired",
        "apo_down",
        "apo_zero",
        "bco_pair",
        "discopop",
        "exo_pair",
        "hinge",
        "ipo",
        "nca_pair",
        "robust",
        "sft",
        "sigmoid",
        "sigmoid_norm",
        "sppo_hard",
    }
)

# Settings of DPOConfig that act on TRL's losses alone, with the value that switches each off.
_INERT_SETTINGS: dict[str, Any] = {
    "f_divergence_type": "reverse_kl",
    "ld_alpha": None,
    "loss_weights": None,
    "use_weighting": False,
    "label_smoothing": 0.0,
}

# Divergence is the same question for both trainers.
_STOP_HELP = "End training with an error where a loss is not finite, instead of going on with NaN."


def own_losses() -> dict[str, losses.PairLoss]:
    """The pair losses that run here, by name, as the registry knows them now; TRL runs the rest."""
    return {name: loss for name, loss in losses.pair_losses().items() if name not in TRL_LOSSES}


def loss_types() -> tuple[str, ...]:
    """Every name that `SymPOConfig.loss_type` takes: ours first, then TRL's."""
    return (*own_losses(), *sorted(TRL_LOSSES))


def _is_number(value: object) -> bool:
    """Whether `value` is a number that can be meant as one: True and "0.2" are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _read_clip(reward_clip: object) -> float | str | None:
    """`reward_clip` as a config keeps it: "auto", None or a number; a command line gives text.

    "auto" stays what it is: resolved here, it would outlive the loss that it was resolved for when
    the config is copied with another one.
    """
    if reward_clip is None or reward_clip == "auto":
        return reward_clip
    if isinstance(reward_clip, str) and reward_clip.casefold() in ("none", "null"):
        return None
    try:
        # float(True) is 1, which nobody means.
        clip = math.nan if isinstance(reward_clip, bool) else float(reward_clip)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        clip = math.nan  # fails the next comparison, and so ends in the same message
    if not 0 < clip < math.inf:
        raise ValueError(
            f"reward_clip = {reward_clip!r}: give a positive number, none (off) or 'auto'"
        )
    return clip


def _read_names(loss_type: object) -> list[str]:
    """The names of `loss_type`, each of them known."""
    names = [loss_type] if isinstance(loss_type, str) else loss_type
    if not isinstance(names, list | tuple) or not names:
        raise ValueError(
            f"loss_type = {loss_type!r}: give a name or a list of names, such as 'sympo_sigmoid'"
        )
    known = loss_types()
    for name in names:
        if name not in known:
            raise ValueError(_refuse_name(name, known))
    return list(names)


def _refuse_name(name: object, known: tuple[str, ...]) -> str:
    margin_loss = losses.LOSSES.get(str(name).removeprefix("sympo_"))
    # The nearest name would be of another loss: say instead why there is none.
    if margin_loss and str(name) == f"sympo_{margin_loss.name}":
        symmetric = [name for name in known if name.startswith("sympo_")]
        return (
            f"unknown loss_type '{name}': '{margin_loss.name}' is not symmetric, as a SymPO loss "
            f"has to be; give one of {', '.join(symmetric)}"
        )
    return unknown_name("loss_type", name, known)


@dataclass
class SymPOConfig(DPOConfig):
    """DPOConfig with the paper's losses.

    Args:
        loss_type: one of `loss_types()`: our names, or TRL's (which may be mixed among themselves).
            "sympo_sigmoid" if none is set; "sigmoid" is TRL's name for the logistic loss.
        noise_rate: ε in [0, ½), the rate of wrong labels; required by cdpo and rdpo, refused
            elsewhere.
        reward_clip: bound on each implicit reward before the margin is taken; beyond it a reward
            has no gradient. "auto": 10 for the SymPO losses, off for the others; None: off. It is
            kept as given; `resolve_clip` says what it comes to.
        stop_on_divergence: whether a training loss that is not finite ends in a `DivergedError`; a
            search over learning rates may want to go on.
    Raises:
        ValueError: when it is built: an unknown name, a noise rate that is missing, out of range or
            unused, a setting that would not act on the chosen loss.
    Check: tests/library/test_trainer_config.py.
    """

    loss_type: list[str] = field(
        default_factory=lambda: ["sympo_sigmoid"],
        metadata={"help": f"One of {', '.join(loss_types())}."},
    )
    noise_rate: float | None = field(
        default=None, metadata={"help": "Rate of wrong labels; for cdpo and rdpo only."}
    )
    reward_clip: float | str | None = field(
        default="auto",
        metadata={
            "help": "Bound on implicit rewards: a number, none, or auto (10 for SymPO losses)."
        },
    )
    stop_on_divergence: bool = field(default=True, metadata={"help": _STOP_HELP})

    def __post_init__(self) -> None:
        self.loss_type = _read_names(self.loss_type)
        self.reward_clip = _read_clip(self.reward_clip)
        # TRL adds several losses up; ours replaces what it computes, so it has to be alone.
        own = [name for name in self.loss_type if name in own_losses()]
        if own:
            self._check_alone(own[0])
            self._check_inert_settings(own[0])
            if not _is_number(self.beta) or not 0 < self.beta < math.inf:
                raise ValueError(f"beta = {self.beta!r}: give a positive number")
        self._check_noise_rate(self.loss_type[0])
        if not own and self.resolve_clip() is not None:
            raise ValueError(
                f"reward_clip does not act on TRL's loss '{self.loss_type[0]}': "
                "leave it out, or take a SymPO loss"
            )
        super().__post_init__()

    def resolve_clip(self) -> float | None:
        """The bound on rewards that `reward_clip` comes to with this loss; None where it is off."""
        if self.reward_clip != "auto":
            return self.reward_clip  # type: ignore[return-value]
        # The authors clip for their own losses alone.
        return SYMPO_CLIP if self.loss_type[0].startswith("sympo_") else None

    def _check_alone(self, name: str) -> None:
        if len(self.loss_type) > 1:
            raise ValueError(
                f"loss_type '{name}' cannot be mixed with {self.loss_type}: give it alone"
            )

    def _check_inert_settings(self, name: str) -> None:
        """Refuse the settings of TRL's losses that would be ignored without a word."""
        for setting, off in _INERT_SETTINGS.items():
            value = getattr(self, setting)
            if value == off:
                continue
            remedy = f"leave it at {off!r}"
            # What cDPO's and rDPO's noise rate is called in TRL: a likely slip, so name the cure.
            if setting == "label_smoothing" and own_losses()[name].needs == "noise_rate":
                remedy = "give the noise rate as noise_rate"
            raise ValueError(f"{setting} = {value!r} does not act on loss_type '{name}': {remedy}")

    def _check_noise_rate(self, name: str) -> None:
        # A rate that no loss reads is refused too: whoever gives one believes that it acts.
        rate = self.noise_rate
        loss = own_losses().get(name)
        if loss is None or loss.needs != "noise_rate":
            if rate is not None:
                # TRL's rDPO is told the rate under another name.
                remedy = "give it as label_smoothing" if name == "robust" else "leave it out"
                raise ValueError(
                    f"noise_rate = {rate!r} does not act on loss_type '{name}': {remedy}"
                )
        elif rate is None:
            raise ValueError(
                f"loss_type '{name}' needs noise_rate, the rate of wrong labels, in [0, 0.5)"
            )
        elif not _is_number(rate) or not 0 <= rate < 0.5:
            raise ValueError(f"noise_rate = {rate!r} is out of range: give a number in [0, 0.5)")


@dataclass
class SymmetricRewardConfig(RewardConfig):
    """RewardConfig with the margin losses of `sympo.losses`.

    Args:
        loss_type: a name in `sympo.losses.LOSSES`; "logistic" is what RewardTrainer minimises.
        reward_clip: bound on each reward before the margin is taken. "auto": 10 for symmetric
            losses, off for the others; None: off. It is kept as given; `resolve_clip` says what it
            comes to.
        stop_on_divergence: as in `SymPOConfig`.
    Raises:
        ValueError: when it is built: an unknown name, or a bound that is not positive.
    Check: tests/library/test_trainer_config.py.
    """

    loss_type: str = field(
        default="sigmoid", metadata={"help": f"One of {', '.join(losses.LOSSES)}."}
    )
    reward_clip: float | str | None = field(
        default="auto",
        metadata={"help": "Bound on rewards: a number, none, or auto (10 for symmetric losses)."},
    )
    stop_on_divergence: bool = field(default=True, metadata={"help": _STOP_HELP})

    def __post_init__(self) -> None:
        # SymPOConfig takes a list, a reward model has one loss.
        if not isinstance(self.loss_type, str):
            raise ValueError(f"loss_type = {self.loss_type!r}: give one name, such as 'sigmoid'")
        losses.get(self.loss_type)
        self.reward_clip = _read_clip(self.reward_clip)
        super().__post_init__()

    def resolve_clip(self) -> float | None:
        """The bound on rewards that `reward_clip` comes to with this loss; None where it is off."""
        if self.reward_clip != "auto":
            return self.reward_clip  # type: ignore[return-value]
        return SYMPO_CLIP if losses.get(self.loss_type).symmetric else None
