"""Drop-ins for TRL: `SymPOTrainer` for DPOTrainer and `SymmetricRewardTrainer` for RewardTrainer.

A TRL user changes the two classes, trainer and config, and sets `loss_type`. Everything else, from
PEFT to checkpoints, stays TRL's: it makes the forward pass and its own metrics, and only the loss
of the margin is ours. Names that TRL knows run TRL's code: its `hinge` and `ipo` are exactly the
losses meant here, so neither has a second copy. Its `sigmoid` is the logistic loss, our `dpo`; the
symmetric sigmoid is `sympo_sigmoid`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from sympo import losses
from sympo._names import unknown_name

if TYPE_CHECKING:
    # A mixin's class comes before a trainer of TRL in the bases, and type checkers are told so.
    from transformers import Trainer as _Mixin
else:
    _Mixin = object

__all__ = [
    "FLIP_COLUMN",
    "REFERENCE_COLUMNS",
    "SYMPO_CLIP",
    "TRL_LOSSES",
    "FlipCollator",
    "SymPOConfig",
    "SymPOTrainer",
    "SymmetricRewardConfig",
    "SymmetricRewardTrainer",
    "loss_types",
    "own_losses",
]

FLIP_COLUMN = "is_flipped"  # true where chosen and rejected were swapped by label noise
# TRL's names for the log-probabilities of the reference model, nats.
REFERENCE_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")
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


def own_losses() -> dict[str, losses.PairLoss]:
    """The pair losses that run here, by name, as the registry knows them now; TRL runs the rest."""
    return {name: loss for name, loss in losses.pair_losses().items() if name not in TRL_LOSSES}


def loss_types() -> tuple[str, ...]:
    """Every name that `SymPOConfig.loss_type` takes: ours first, then TRL's."""
    return (*own_losses(), *sorted(TRL_LOSSES))


def _resolve_clip(reward_clip: float | str | None, *, default: float | None) -> float | None:
    """The bound that `reward_clip` asks for; the command line gives it as a string."""
    # A config that was saved holds the number, so that reading it again changes nothing.
    if reward_clip == "auto":
        return default
    if reward_clip is None or reward_clip == "none":
        return None
    try:
        clip = float(reward_clip)
    except (TypeError, ValueError):
        clip = math.nan  # fails the next comparison, and so ends in the same message
    if not 0 < clip < math.inf:
        raise ValueError(
            f"reward_clip = {reward_clip!r}: give a positive number, None (off) or 'auto'"
        )
    return clip


@dataclass
class SymPOConfig(DPOConfig):
    """DPOConfig with the paper's losses.

    Args:
        loss_type: one of `loss_types()`: our names, or TRL's (which may be mixed among themselves).
            "sympo_sigmoid" if none is set; "sigmoid" is TRL's name for the logistic loss.
        noise_rate: ε in [0, ½), the rate of wrong labels; required by cdpo and rdpo, refused
            elsewhere.
        reward_clip: bound on each implicit reward before the margin is taken; beyond it a reward
            has no gradient. "auto": 10 for the SymPO losses, off for the others; None: off.
    Raises:
        ValueError: when it is built: an unknown name, a noise rate that is missing, out of range or
            unused, a setting that would not act on the chosen loss.
    Check: tests/library/test_trainer.py::test_config_refuses.
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

    def __post_init__(self) -> None:
        # DPOConfig turns a single name into a list, but only after these checks.
        names = [self.loss_type] if isinstance(self.loss_type, str) else list(self.loss_type)
        known = loss_types()
        for name in names or [""]:
            if name not in known:
                raise ValueError(unknown_name("loss_type", name, known))

        # TRL adds several losses up; ours replaces what it computes, so it has to be alone.
        own = [name for name in names if name in own_losses()]
        if own:
            self._check_alone(own[0], names)
            self._check_inert_settings(own[0])
        self._check_noise_rate(names[0])

        # The authors clip for their own losses alone.
        sympo = bool(own) and own[0].startswith("sympo_")
        self.reward_clip = _resolve_clip(self.reward_clip, default=SYMPO_CLIP if sympo else None)
        if self.reward_clip and not own:
            raise ValueError(
                f"reward_clip does not act on TRL's loss '{names[0]}': "
                "leave it out, or take a SymPO loss"
            )
        super().__post_init__()

    def _check_alone(self, name: str, names: list[str]) -> None:
        if len(names) > 1:
            raise ValueError(f"loss_type '{name}' cannot be mixed with {names}: give it alone")

    def _check_inert_settings(self, name: str) -> None:
        """Refuse the settings of TRL's losses that would be ignored without a word."""
        for setting, off in _INERT_SETTINGS.items():
            value = getattr(self, setting)
            if value == off:
                continue
            remedy = f"leave it at {off!r}"
            # What cDPO's and rDPO's noise rate is called in TRL: a likely slip, so name the cure.
            if setting == "label_smoothing":
                remedy = "give the noise rate as noise_rate"
            raise ValueError(f"{setting} = {value!r} does not act on loss_type '{name}': {remedy}")

    def _check_noise_rate(self, name: str) -> None:
        # A rate that no loss reads is refused too: whoever gives one believes that it acts.
        rate = self.noise_rate
        loss = own_losses().get(name)
        if loss is None or loss.needs != "noise_rate":
            if rate is not None:
                raise ValueError(
                    f"noise_rate = {rate} does not act on loss_type '{name}': leave it out"
                )
        elif rate is None:
            raise ValueError(
                f"loss_type '{name}' needs noise_rate, the rate of wrong labels, in [0, 0.5)"
            )
        elif not 0 <= rate < 0.5:
            raise ValueError(f"noise_rate = {rate} is out of range: give a number in [0, 0.5)")


@dataclass
class SymmetricRewardConfig(RewardConfig):
    """RewardConfig with the margin losses of `sympo.losses`.

    Args:
        loss_type: a name in `sympo.losses.LOSSES`; "logistic" is what RewardTrainer minimises.
        reward_clip: bound on each reward before the margin is taken. "auto": 10 for symmetric
            losses, off for the others; None: off.
    Raises:
        ValueError: when it is built: an unknown name, or a bound that is not positive.
    Check: tests/library/test_trainer.py::test_reward_config_refuses.
    """

    loss_type: str = field(
        default="sigmoid", metadata={"help": f"One of {', '.join(losses.LOSSES)}."}
    )
    reward_clip: float | str | None = field(
        default="auto",
        metadata={"help": "Bound on rewards: a number, none, or auto (10 for symmetric losses)."},
    )

    def __post_init__(self) -> None:
        default = SYMPO_CLIP if losses.get(self.loss_type).symmetric else None
        self.reward_clip = _resolve_clip(self.reward_clip, default=default)
        super().__post_init__()


@dataclass
class FlipCollator:
    """Another collator's batch, with `is_flipped` `(pairs,)` bool where the rows have it."""

    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of `examples`, the rows of a dataset."""
        batch = self.collate(examples)
        # The first row speaks for all: a dataset has a column, or has not.
        if FLIP_COLUMN in examples[0]:
            batch[FLIP_COLUMN] = torch.tensor([bool(example[FLIP_COLUMN]) for example in examples])
        return batch


class _TrueLabels(_Mixin):
    """What both trainers share: the flip column, the clip, and metrics on true labels."""

    # TRL's, and changed here.
    data_collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    _signature_columns: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # TRL's collators keep only the columns that they know.
        self.data_collator = FlipCollator(self.data_collator)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        # Columns outside this list are dropped before the collator sees a row. It is called once
        # per dataloader, hence no second entry.
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, FLIP_COLUMN]))

    def _clip(self, rewards: Tensor) -> Tensor:
        """`rewards` `(2, pairs)` within ±reward_clip; logs the share outside, `clip_fraction`."""
        bound = self.args.reward_clip
        if bound is None:
            return rewards
        outside = (rewards.detach().abs() > bound).float().mean(dim=0)
        # Logged, because a bound that cuts off most pairs looks like training that has stalled.
        self._keep(clip_fraction=self._gather(outside))
        return rewards.clamp(-bound, bound)

    def _measure(self, margin: Tensor, flipped: Tensor | None) -> None:
        """Log accuracy and mean of unclipped margins `(pairs,)` on true labels, and flips fitted.

        Margins are those of the labels in the data, so a flipped pair's true one has the other
        sign.
        """
        if flipped is None:
            return
        # One tensor, so that the processes exchange once.
        both = self._gather(torch.stack([margin.detach().float(), flipped.float()], dim=1))
        margin, flipped = both.unbind(dim=1)
        # A flip swaps the two answers, so the true margin is the other way round.
        true_margin = torch.where(flipped > 0, -margin, margin)
        self._keep(
            accuracy_true=true_margin > 0,
            margin_true=true_margin,
            flipped_fit=margin[flipped > 0] > 0,
        )

    def _gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes; in evaluation without those that fill up the last batch."""
        training = self.model.training
        gather = self.accelerator.gather if training else self.accelerator.gather_for_metrics
        gathered: Tensor = gather(rows)
        return gathered

    def _keep(self, **values: Tensor) -> None:
        """Add values `(pairs,)` to TRL's running means, one metric per keyword."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in values.items():
            # One by one, so that a mean is over pairs however they were batched; and no entry for
            # a batch without a flip, whose mean would be 0/0.
            if len(value):
                metrics[name].extend(value.float().tolist())


class SymPOTrainer(_TrueLabels, DPOTrainer):
    """DPOTrainer that minimises `SymPOConfig.loss_type`; takes what DPOTrainer takes.

    With a boolean column `is_flipped` in the data it logs, beside TRL's metrics (which see noisy
    labels), `accuracy_true`, `margin_true` (β·log-ratio difference, nats) and `flipped_fit` (the
    share of flipped pairs whose wrong label the policy agrees with); with a clip, `clip_fraction`;
    for repo, `eta`.

    Every loss is a mean over pairs, so that batch 8 is 2 × 4 accumulated and 2 processes × 4,
    except `drdpo`, which couples the pairs of a batch. With `precompute_ref_log_probs=True`, data
    that already has `ref_chosen_logps` and `ref_rejected_logps` keeps them: one reference pass
    serves a sweep (a flip swaps these two columns as well).
    Source: Section 4. Check: tests/library/test_trainer.py.
    """

    _tag_names = ("trl", "sympo")
    _name = "SymPO"
    _paper = {  # noqa: RUF012 — the type that TRL's model card reads
        "title": "On Symmetric Losses for Robust Policy Optimization with Noisy Preferences",
        "id": "2505.24709",
    }
    # TRL's, and changed here.
    precompute_ref_logps: bool

    def __init__(
        self,
        model: Any,
        ref_model: Any = None,
        args: SymPOConfig | None = None,
        *rest: Any,
        **kwargs: Any,
    ) -> None:
        args = SymPOConfig() if args is None else args
        # A DPOConfig lacks the fields that are read here, and its names mean TRL's losses.
        if not isinstance(args, SymPOConfig):
            raise TypeError(f"args is a {type(args).__name__}: SymPOTrainer takes a SymPOConfig")
        super().__init__(model, ref_model, args, *rest, **kwargs)
        self._posteriors: list[Tensor] = []  # RE-PO's, since the last optimiser step
        # None: TRL's own code runs, and this class only measures.
        self._own_loss = own_losses().get(args.loss_type[0])
        if self._own_loss:
            # TRL then adds no loss of its own, and still measures.
            self.loss_types: list[str] = []
            self.loss_weights: list[float] = []

    @property
    def eta(self) -> float:
        """RE-PO's estimate η of the share of right labels.

        It lives in TrainerState, and so in every checkpoint.
        """
        eta: float = self.state.stateful_callbacks.get("repo_eta", losses.REPO_START)
        return eta

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        # TRL would compute them anew for every dataset of a sweep, although flips only swap them.
        if set(REFERENCE_COLUMNS) <= set(dataset.column_names or ()):
            return dataset
        return super()._precompute_ref_logps(dataset, name, batch_size)

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """TRL's, without the flip column.

        Returns:
            log-probabilities of chosen and of rejected, each `(pairs,)`, nats.
        """
        # It passes the whole batch to the model, which knows no such argument.
        known = {name: value for name, value in inputs.items() if name != FLIP_COLUMN}
        chosen, rejected = super().compute_ref_log_probs(model, known)
        return chosen, rejected

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """TRL's forward pass and metrics, and the mean of our loss over the pairs."""
        inputs = dict(inputs)  # the caller's batch stays as it is
        flipped = inputs.pop(FLIP_COLUMN, None)
        if not self.precompute_ref_logps:
            # Before TRL's pass, because ours needs it too and TRL keeps it to itself.
            reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
            inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = reference
        result, log_probs = self._forward(model, inputs, return_outputs=return_outputs)
        loss = result[0] if return_outputs else result
        # With ld_alpha TRL's rewards are not log-ratios, and none of this applies.
        if self.ld_alpha is None:
            rewards = self._rewards(log_probs, inputs)
            self._measure(rewards[0] - rewards[1], flipped)
            if self._own_loss:
                chosen, rejected = self._clip(rewards)
                loss = loss + self._margin_loss(self._own_loss, chosen - rejected)
        return (loss, result[1]) if return_outputs else loss

    def _forward(
        self, model: Any, inputs: dict[str, Any], *, return_outputs: bool
    ) -> tuple[Any, Tensor]:
        """TRL's `compute_loss` on a batch that holds the reference, and its log-probs.

        Returns:
            what TRL returns, and the policy's log-probs `(2·pairs, tokens)`, which it keeps to
            itself: they are read from the outputs of the forward pass.
        """
        outputs: list[Any] = []

        # In the model's place: TRL calls it once, and what it returns is what the loss needs.
        def recorded(*args: Any, **kwargs: Any) -> Any:
            outputs.append(model(*args, **kwargs))
            return outputs[-1]

        # TRL then takes the reference from the batch. It is put back, since the dataloaders look
        # at it too.
        precomputed = self.precompute_ref_logps
        self.precompute_ref_logps = True
        try:
            result = super().compute_loss(recorded, inputs, return_outputs=return_outputs)
        finally:
            self.precompute_ref_logps = precomputed
        return result, outputs[0].log_probs

    def _rewards(self, log_probs: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Implicit rewards β·log π/π_ref, `(2, pairs)`: chosen, rejected."""
        # Prompt-learning PEFT puts virtual tokens in front, so count from the end.
        tokens = inputs["completion_mask"].size(1) - 1
        policy = log_probs[:, -tokens:].sum(dim=1)  # zero outside the completion
        reference = torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
        rewards: Tensor = self.beta * (policy - reference)
        return rewards.view(2, -1)

    def _margin_loss(self, own_loss: losses.PairLoss, margin: Tensor) -> Tensor:
        # Each loss takes the one that it needs; the config has refused what it does not.
        noise_rate = self.args.noise_rate
        loss = own_loss.fn(margin, noise_rate=noise_rate, reliability=self.eta).mean()
        if own_loss.needs == "reliability":
            # After the loss: the step that moves η still minimises with the old one.
            if self.model.training:
                self._update_eta(losses.repo_posterior(margin, self.eta))
            self._metrics["train" if self.model.training else "eval"]["eta"] = [self.eta]
        return loss

    def _update_eta(self, posterior: Tensor) -> None:
        """η ← 0.9·η + 0.1·mean(w), once per optimiser step.

        The mean is over the step's micro-batches and processes.

        Args:
            posterior: `(pairs,)` w of one micro-batch.
        """
        # In float32: bf16 would round a mean near 1 by more than a step moves it.
        self._posteriors.append(posterior.float())
        if not self.accelerator.sync_gradients:
            return
        # Sums and counts, and not means: processes may hold different numbers of pairs.
        seen = torch.cat(self._posteriors)
        sums = torch.stack([seen.sum(), seen.new_tensor(len(seen))])
        total, pairs = self.accelerator.reduce(sums).tolist()
        memory = losses.REPO_MEMORY
        eta = memory * self.eta + (1 - memory) * total / pairs
        self.state.stateful_callbacks["repo_eta"] = eta
        self._posteriors.clear()


class SymmetricRewardTrainer(_TrueLabels, RewardTrainer):
    """RewardTrainer that minimises a margin loss ℓ(r(chosen) − r(rejected)) of `sympo.losses`.

    Takes what RewardTrainer takes; logs what SymPOTrainer logs, with the margin of the rewards.
    Source: Section 3. Check: tests/library/test_trainer.py.
    """

    _tag_names = ("trl", "sympo", "reward-trainer")

    def __init__(
        self, model: Any, args: SymmetricRewardConfig | None = None, *rest: Any, **kwargs: Any
    ) -> None:
        args = SymmetricRewardConfig() if args is None else args
        if not isinstance(args, SymmetricRewardConfig):
            raise TypeError(
                f"args is a {type(args).__name__}: "
                "SymmetricRewardTrainer takes a SymmetricRewardConfig"
            )
        super().__init__(model, args, *rest, **kwargs)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """TRL's forward pass and metrics, and the mean of our loss over the pairs."""
        inputs = dict(inputs)  # the caller's batch stays as it is
        flipped = inputs.pop(FLIP_COLUMN, None)
        # TRL's loss is dropped; its pass and its metrics are kept.
        _, outputs = super().compute_loss(model, inputs, return_outputs=True)
        rewards = outputs.logits.reshape(2, -1)
        self._measure(rewards[0] - rewards[1], flipped)
        chosen, rejected = self._clip(rewards)
        # The data may hold a column `margin`: by how much chosen should win.
        margin = chosen - rejected - inputs.get("margin", 0)
        loss = losses.get(self.args.loss_type).fn(margin).mean()
        # TRL's term that keeps rewards near 0, on unclipped ones as there.
        weight = self.args.center_rewards_coefficient
        if weight is not None:
            loss = loss + weight * rewards.sum(dim=0).square().mean()
        return (loss, outputs) if return_outputs else loss
