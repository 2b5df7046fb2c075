"""The configs of both trainers: TRL's, with the losses here, and a sentence for what cannot be."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trl import DPOConfig, RewardConfig

from sympo import losses
from sympo._names import is_number, show, unknown_name
from sympo.noise import check_rate

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
    "use_weighting": False,
    "label_smoothing": 0.0,
}
# TRL's losses that read the last of these.
_SMOOTHED = {"robust", "exo_pair"}

# Fields of both configs: the constants of the registry's losses.
CONSTANTS = ("ropo_alpha", "drdpo_beta", "holder_gamma", "repo_start")


def own_losses() -> dict[str, losses.PairLoss]:
    """The pair losses that run here, by name, as the registry knows them now; TRL runs the rest."""
    return {name: loss for name, loss in losses.pair_losses().items() if name not in TRL_LOSSES}


def loss_types() -> tuple[str, ...]:
    """Every loss that `SymPOConfig.loss_type` may name: ours first, then TRL's.

    "custom", the loss that a trainer is given as `loss`, may stand there as well.
    """
    return (*own_losses(), *sorted(TRL_LOSSES))


def reward_loss_types() -> tuple[str, ...]:
    """Every loss that `SymmetricRewardConfig.loss_type` may name.

    These are the margin losses, and what the methods here do with a margin beyond these. Where a
    name is of both, such as "hinge", the margin loss is meant.
    """
    methods = [name for name, loss in losses.PAIR_LOSSES.items() if loss.function is not None]
    return tuple(dict.fromkeys([*losses.LOSSES, *methods]))


class Term(NamedTuple):
    """A loss of our own, with its constants, its weight in the sum, and its bound on rewards."""

    loss: losses.PairLoss
    weight: float
    clip: float | None


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
    except (TypeError, ValueError, OverflowError):
        clip = math.nan  # fails the next comparison, and so ends in the same message
    if not 0 < clip < math.inf:
        raise ValueError(
            f"reward_clip = {show(reward_clip)}: give a positive number, none (off) or 'auto'"
        )
    return clip


def _read_names(loss_type: object) -> list[str]:
    """The names of `loss_type`, each of them known."""
    names = [loss_type] if isinstance(loss_type, str) else loss_type
    if not isinstance(names, list | tuple) or not names:
        raise ValueError(
            f"loss_type = {show(loss_type)}: give a name or a list of names, such as "
            "'sympo_sigmoid'"
        )
    known = loss_types()
    for name in names:
        if name not in (*known, losses.CUSTOM):
            raise ValueError(_refuse_name(name, known))
    return list(names)


def _check_switch(name: str, value: object) -> None:
    # The text "false" would switch it on.
    if not isinstance(value, bool):
        raise ValueError(f"{name} = {show(value)}: give True or False")


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


def _constant_field(name: str) -> Any:
    # Entries that were registered before this module was imported may have the constant as well.
    users = [loss for loss in losses.PAIR_LOSSES.values() if name in loss.constants]
    constant = users[0].constants[name]
    names = " and ".join(loss.name for loss in users)
    text = f"{constant.symbol} of {names}; its paper's {constant.default:g} if none is given."
    return field(default=None, metadata={"help": text})


@dataclass
class _LossSettings:
    """The fields of both configs that say more of a loss than its name."""

    noise_rate: float | None = field(
        default=None,
        metadata={"help": "Rate of wrong labels, in [0, 0.5); for cdpo and rdpo only."},
    )
    reward_clip: float | str | None = field(
        default="auto",
        metadata={
            "help": "Bound on each reward before margins are taken: a number, none, or auto (10 "
            "for a policy's SymPO losses and a reward model's symmetric ones, else none)."
        },
    )
    stop_on_divergence: bool = field(
        default=True,
        metadata={
            "help": "End training with an error where a loss is not finite, instead of going on "
            "with NaN."
        },
    )
    ropo_alpha: float | None = _constant_field("ropo_alpha")
    drdpo_beta: float | None = _constant_field("drdpo_beta")
    holder_gamma: float | None = _constant_field("holder_gamma")
    repo_start: float | None = _constant_field("repo_start")

    def _own_entries(self) -> dict[str, losses.PairLoss]:
        """Our entries among the losses that are named, by name, as the registry has them."""
        raise NotImplementedError

    def _constants(self, loss: losses.PairLoss) -> dict[str, float]:
        """What this config sets of the constants of `loss`."""
        settings = {name: getattr(self, name, None) for name in loss.constants}
        return {name: value for name, value in settings.items() if value is not None}

    def _check_constants(self, named: str) -> None:
        own = self._own_entries().values()
        for setting in CONSTANTS:
            value = getattr(self, setting)
            if value is None:
                continue
            users = [loss for loss in own if setting in loss.constants]
            # A constant that no loss reads is refused: whoever gives one believes that it acts.
            if not users:
                raise ValueError(
                    f"{setting} = {show(value)} does not act on loss_type {named}: leave it out"
                )
            for loss in users:
                loss.with_constants(**{setting: value})
            setattr(self, setting, float(value))  # numpy's numbers are no JSON

    def _check_noise_rate(self, named: str) -> None:
        told = [name for name, loss in self._own_entries().items() if loss.needs == "noise_rate"]
        rate = self.noise_rate
        if rate is not None and losses.CUSTOM in self._names():
            # Whether that loss is told a rate is known once there is the loss.
            self.noise_rate = check_rate(rate)
        elif not told:
            if rate is not None:
                # TRL's rDPO is told the rate under another name.
                remedy = "give it as label_smoothing" if "robust" in named else "leave it out"
                raise ValueError(
                    f"noise_rate = {show(rate)} does not act on loss_type {named}: {remedy}"
                )
        elif rate is None:
            raise ValueError(
                f"loss_type '{told[0]}' needs noise_rate, the rate of wrong labels, in [0, 0.5)"
            )
        else:
            self.noise_rate = check_rate(rate)

    def _check_custom(self, custom: losses.PairLoss | None) -> None:
        """Refuse a loss that "custom" cannot stand for, or a noise rate that does not act on it."""
        if custom is None:
            return
        if custom.function is None:
            raise ValueError(
                f"loss '{custom.name}' has no function here, since TRL's own code runs it: name it "
                f"in loss_type in place of '{losses.CUSTOM}'"
            )
        used = [custom, *self._own_entries().values()]
        told = any(loss.needs == "noise_rate" for loss in used)
        if custom.needs == "noise_rate" and self.noise_rate is None:
            raise ValueError(
                f"loss '{custom.name}' needs noise_rate, the rate of wrong labels, in [0, 0.5): "
                "give it to the config"
            )
        if self.noise_rate is not None and not told:
            raise ValueError(
                f"noise_rate = {show(self.noise_rate)} does not act on loss '{custom.name}': "
                "leave it out"
            )

    def _names(self) -> list[str]:
        """The names in `loss_type`."""
        raise NotImplementedError


def _need_custom(custom: losses.PairLoss | None) -> None:
    if custom is None:
        raise ValueError(
            f"the bound of '{losses.CUSTOM}' depends on the loss that it stands for: give custom"
        )


@dataclass
class SymPOConfig(_LossSettings, DPOConfig):
    """DPOConfig with the paper's losses.

    Several losses are added up with `loss_weights`, ours and TRL's alike: `loss_type=
    ["sympo_sigmoid", "sft"], loss_weights=[1.0, 0.2]` adds 0.2 times the negative log-likelihood of
    the chosen answers per token, TRL's term, as RPO and MPO do. Each loss is what it is alone, with
    its own bound on rewards.

    Args:
        loss_type: a name of `loss_types()`, or several. "sympo_sigmoid" if none is set; "sigmoid"
            is TRL's name for the logistic loss; "custom" is the loss that the trainer is given.
        loss_weights: one number per loss; 1 each if none is set.
        noise_rate: ε in [0, ½), the rate of wrong labels; required by cdpo and rdpo, and by a
            "custom" loss that is told it, refused elsewhere.
        reward_clip: bound on each implicit reward before the margin is taken; beyond it a reward
            has no gradient. "auto": 10 for the SymPO losses, off for the others; None: off. It is
            kept as given; `resolve_clip` says what it comes to.
        length_normalized: whether our losses see h = β·(mean log π/π_ref over the tokens of chosen
            − the same of rejected), as TRL's "sigmoid_norm" does, in place of the sums.
        stop_on_divergence: whether a training loss that is not finite ends in a `DivergedError`; a
            search over learning rates may want to go on.
        ropo_alpha, drdpo_beta, holder_gamma, repo_start: ROPO's α, Dr.DPO's β′, Hölder's γ and
            RE-PO's η before the first step; None: the paper's.
    Raises:
        ValueError: when it is built: an unknown name, a noise rate that is missing, out of range or
            unused, a setting that would not act on the chosen loss.
    Check: tests/library/test_trainer_config.py, tests/library/test_extended.py.
    """

    loss_type: list[str] = field(
        default_factory=lambda: ["sympo_sigmoid"],
        metadata={"help": f"One or several of {', '.join(loss_types())}."},
    )
    length_normalized: bool = field(
        default=False,
        metadata={"help": "Take margins of log-ratios per token, as sigmoid_norm does."},
    )

    def __post_init__(self) -> None:
        self.loss_type = _read_names(self.loss_type)
        self.reward_clip = _read_clip(self.reward_clip)
        named = ", ".join(f"'{name}'" for name in self.loss_type)
        own = [name for name in self.loss_type if name not in TRL_LOSSES]
        _check_switch("stop_on_divergence", self.stop_on_divergence)
        _check_switch("length_normalized", self.length_normalized)
        self._check_weights()
        if own:
            self._check_inert_settings(own[0])
            if not is_number(self.beta) or not 0 < self.beta < math.inf:
                raise ValueError(f"beta = {show(self.beta)}: give a positive number")
        else:
            self._check_unused(named)
        self._check_noise_rate(named)
        self._check_constants(named)
        super().__post_init__()

    def resolve_clip(self, custom: losses.PairLoss | None = None) -> float | None:
        """The bound on rewards that `reward_clip` comes to; None where it is off.

        In a mix it is that of the losses that are bounded.

        Args:
            custom: the loss that "custom" stands for.
        Raises:
            ValueError: it is "auto", which depends on that loss, and there is none.
        """
        if self.reward_clip != "auto":
            return self.reward_clip  # type: ignore[return-value]
        if losses.CUSTOM in self.loss_type:
            _need_custom(custom)
        clips = [term.clip for term in self.resolve_terms(custom)]
        return SYMPO_CLIP if SYMPO_CLIP in clips else None

    def resolve_terms(self, custom: losses.PairLoss | None = None) -> list[Term]:
        """Our losses of `loss_type`, each with its constants, weight and bound.

        Args:
            custom: the loss that "custom" stands for.
        Raises:
            ValueError: that loss runs in TRL's code, or the noise rate does not go with it.
        """
        self._check_custom(custom)
        weights = self.loss_weights or [1.0] * len(self.loss_type)
        entries = self._own_entries()
        if custom is not None:
            entries[losses.CUSTOM] = custom
        terms = []
        for name, weight in zip(self.loss_type, weights, strict=True):
            if name not in entries:
                continue
            loss = entries[name].with_constants(**self._constants(entries[name]))
            # The authors clip for their own losses alone; one of yours is bounded where it is
            # symmetric.
            bounded = loss.symmetric if name == losses.CUSTOM else name.startswith("sympo_")
            automatic = SYMPO_CLIP if bounded else None
            clip = automatic if self.reward_clip == "auto" else self.reward_clip
            terms.append(Term(loss, weight, clip))  # type: ignore[arg-type]
        return terms

    def _own_entries(self) -> dict[str, losses.PairLoss]:
        known = own_losses()
        return {name: known[name] for name in self.loss_type if name in known}

    def _names(self) -> list[str]:
        return self.loss_type

    def _check_weights(self) -> None:
        weights = self.loss_weights
        if weights is None:
            return
        numbers = isinstance(weights, list | tuple) and all(map(is_number, weights))
        if (
            not numbers
            or len(weights) != len(self.loss_type)
            or not all(map(math.isfinite, weights))
        ):
            raise ValueError(
                f"loss_weights = {show(weights)}: give one number for each of "
                f"{show(self.loss_type)}"
            )
        # numpy's numbers are no JSON
        self.loss_weights: list[float] | None = [float(weight) for weight in weights]

    def _check_inert_settings(self, name: str) -> None:
        """Refuse the settings of TRL's losses that would be ignored without a word."""
        for setting, off in _INERT_SETTINGS.items():
            value = getattr(self, setting)
            if value == off or (setting == "label_smoothing" and _SMOOTHED & {*self.loss_type}):
                continue
            remedy = f"leave it at {show(off)}"
            # What cDPO's and rDPO's noise rate is called in TRL: a likely slip, so name the cure.
            told = [loss for loss in self._own_entries().values() if loss.needs == "noise_rate"]
            if setting == "label_smoothing" and told:
                remedy = "give the noise rate as noise_rate"
            raise ValueError(
                f"{setting} = {show(value)} does not act on loss_type '{name}': {remedy}"
            )

    def _check_unused(self, named: str) -> None:
        """Refuse the settings of our losses where there is none."""
        if self.reward_clip not in ("auto", None):
            raise ValueError(
                f"reward_clip does not act on TRL's loss {named}: "
                "leave it out, or take a SymPO loss"
            )
        if self.length_normalized:
            raise ValueError(
                f"length_normalized does not act on TRL's loss {named}: leave it out, or take "
                "'sigmoid_norm'"
            )


@dataclass
class SymmetricRewardConfig(_LossSettings, RewardConfig):
    """RewardConfig with the margin losses of `sympo.losses`.

    Args:
        loss_type: a name of `reward_loss_types()`: a margin loss, of which "logistic" is what
            RewardTrainer minimises, or a method such as "cdpo", "rdpo" and "repo" on the margin of
            the rewards; "custom" is the loss that the trainer is given.
        noise_rate: as in `SymPOConfig`.
        reward_clip: bound on each reward before the margin is taken. "auto": 10 for symmetric
            losses, off for the others; None: off. It is kept as given; `resolve_clip` says what it
            comes to.
        stop_on_divergence, ropo_alpha, drdpo_beta, holder_gamma, repo_start: as in `SymPOConfig`.
    Raises:
        ValueError: when it is built: an unknown name, a bound that is not positive, a noise rate or
            a constant that is missing, out of range or unused.
    Check: tests/library/test_trainer_config.py, tests/library/test_extended.py.
    """

    loss_type: str = field(
        default="sigmoid", metadata={"help": f"One of {', '.join(reward_loss_types())}."}
    )

    def __post_init__(self) -> None:
        # SymPOConfig takes a list, a reward model has one loss.
        if not isinstance(self.loss_type, str):
            raise ValueError(
                f"loss_type = {show(self.loss_type)}: give one name, such as 'sigmoid'"
            )
        known = reward_loss_types()
        if self.loss_type not in (*known, losses.CUSTOM):
            raise ValueError(unknown_name("loss_type", self.loss_type, known))
        self.reward_clip = _read_clip(self.reward_clip)
        self._check_noise_rate(f"'{self.loss_type}'")
        self._check_constants(f"'{self.loss_type}'")
        _check_switch("stop_on_divergence", self.stop_on_divergence)
        super().__post_init__()

    def resolve_clip(self, custom: losses.PairLoss | None = None) -> float | None:
        """The bound on rewards that `reward_clip` comes to with this loss; None where it is off.

        Args:
            custom: the loss that "custom" stands for.
        Raises:
            ValueError: it is "auto", which depends on that loss, and there is none.
        """
        if self.reward_clip != "auto":
            return self.reward_clip  # type: ignore[return-value]
        if self.loss_type == losses.CUSTOM:
            _need_custom(custom)
        return SYMPO_CLIP if self.resolve_loss(custom).symmetric else None

    def resolve_loss(self, custom: losses.PairLoss | None = None) -> losses.PairLoss:
        """The loss, with its constants.

        Args:
            custom: the loss that "custom" stands for.
        Raises:
            ValueError: that loss runs in TRL's code, or the noise rate does not go with it.
        """
        self._check_custom(custom)
        if custom is not None:
            return custom
        loss = self._own_entries()[self.loss_type]
        return loss.with_constants(**self._constants(loss))

    def _own_entries(self) -> dict[str, losses.PairLoss]:
        name = self.loss_type
        if name in losses.LOSSES:
            return {name: losses.as_pair(losses.LOSSES[name])}
        return {name: losses.PAIR_LOSSES[name]} if name in losses.PAIR_LOSSES else {}

    def _names(self) -> list[str]:
        return [self.loss_type]
