"""What both trainers share: the flip column, the clip, metrics on true labels, and divergence."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import Tensor

from sympo.preferences import read_flip
from sympo.trainer.card import Card
from sympo.trainer.contract import check_version

if TYPE_CHECKING:
    # A mixin's class comes before a trainer of TRL in the bases, and type checkers are told so.
    from transformers import Trainer as _Mixin
else:
    _Mixin = object

FLIP_COLUMN = "is_flipped"  # true where chosen and rejected were swapped by label noise
_UNKNOWN = -1  # in a batch, for a pair of which nobody knows whether it was flipped


class DivergedError(RuntimeError):
    """A training loss was not finite; the message names the loss, its seed, its rate and a step."""


class FlipCollator:
    """Another collator's batch, with `is_flipped` where any row has it.

    `is_flipped` is `(pairs,)` int8: 1 flipped, 0 not, −1 unknown. In everything else, such as
    `pad_token_id`, this is the other collator: what is read or set here is read or set there.
    """

    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        # Past __setattr__, which hands on.
        self.__dict__["collate"] = collate

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of `examples`, the rows of a dataset.

        Raises:
            ValueError: a value of `is_flipped` that `sympo.preferences.read_flip` refuses.
        """
        batch = self.collate(examples)
        # Row by row: rows from a stream may have the column or not.
        if any(FLIP_COLUMN in example for example in examples):
            flips = [
                _read_flip(example.get(FLIP_COLUMN), f"row {row} of a batch")
                for row, example in enumerate(examples)
            ]
            encoded = [_UNKNOWN if flip is None else int(flip) for flip in flips]
            batch[FLIP_COLUMN] = torch.tensor(encoded, dtype=torch.int8)
        return batch

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is not found here. Copies and workers ask for special names before
        # there is a `collate` to hand on to.
        if name == "collate" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.collate, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.collate, name, value)


def _read_flip(value: Any, place: str) -> bool | None:
    try:
        return read_flip(value)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def check_flips(dataset: Any, name: str) -> None:
    """Refuse a value of `is_flipped` before anything is tokenised.

    Args:
        name: of the dataset, for the message.
    Raises:
        ValueError: the first row whose value `sympo.preferences.read_flip` refuses.
    """
    # The rows of a stream are read as they come, by the collator.
    if not isinstance(dataset, Dataset) or FLIP_COLUMN not in dataset.column_names:
        return
    if getattr(dataset.features[FLIP_COLUMN], "dtype", None) == "bool":
        return
    for row, value in enumerate(dataset.with_format(None)[FLIP_COLUMN]):
        _read_flip(value, f"row {row} of the dataset '{name}'")


def _share(condition: Tensor, values: Tensor) -> Tensor:
    """`condition`, a comparison of `values`, as 0 and 1, and NaN where a value is NaN."""
    # A comparison with NaN is false, which would pass for a wrong answer.
    return condition.float().masked_fill(values.isnan(), math.nan)


class TrueLabels(_Mixin):
    """A trainer of TRL with the flip column, the clip, and metrics on true labels.

    Args:
        card: what a model card says of the method.
    """

    # TRL's, and changed here.
    data_collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    _signature_columns: list[str]
    _name: str
    _paper: dict[str, str]
    _tag_names: list[str]

    def __init__(self, *args: Any, card: Card, **kwargs: Any) -> None:
        check_version(type(self))
        # Before TRL's own, which tags the model with them.
        self._name = card.name
        self._paper = card.paper
        self._tag_names = card.tags
        super().__init__(*args, **kwargs)
        # TRL's collators keep only the columns that they know.
        self.data_collator = FlipCollator(self.data_collator)
        self._reward_clip: float | None = self.args.resolve_clip()
        # The first step since the last log whose loss was not finite, on the device; ∞ for none.
        self._diverged_at: Tensor | None = None

    def _prepare_dataset(self, dataset: Any, *rest: Any, **named: Any) -> Any:
        name = named.get("dataset_name", rest[-1] if rest else "train")
        check_flips(dataset, name)
        return super()._prepare_dataset(dataset, *rest, **named)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        # Columns outside this list are dropped before the collator sees a row. It is called once
        # per dataloader, hence no second entry.
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, FLIP_COLUMN]))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's; then an error if the training loss was not finite at a step since the last log.

        Raises:
            DivergedError: it was not, and the config has `stop_on_divergence`.
        """
        super().log(logs, start_time)
        if self._diverged_at is None:
            return
        step = self._diverged_at.item()
        self._diverged_at = None
        if self.args.stop_on_divergence and step < math.inf:
            raise DivergedError(
                f"training diverged: the loss of step {step:.0f} is not finite "
                f"({self._name}, seed {self.args.seed}); lower learning_rate, which is "
                f"{self.args.learning_rate:g}, or set stop_on_divergence=False to go on"
            )

    def _watch(self, loss: Tensor) -> None:
        """Remember the first step whose training loss is not finite."""
        if not self.model.training:
            return
        # Gathered, so that all processes stop together; read only when something is logged, so that
        # no step waits for the device.
        losses = self._gather(loss.detach().float().reshape(1))
        step = torch.where(losses.isfinite().all(), math.inf, float(self.state.global_step + 1))
        earlier = step if self._diverged_at is None else self._diverged_at
        self._diverged_at = torch.minimum(step, earlier)

    def _clip(self, rewards: Tensor) -> Tensor:
        """`rewards` `(2, pairs)` within ±reward_clip; logs the share outside, `clip_fraction`."""
        bound = self._reward_clip
        if bound is None:
            return rewards
        outside = _share(rewards.detach().abs() > bound, rewards.detach()).mean(dim=0)
        # Logged, because a bound that cuts off most pairs looks like training that has stalled.
        self._keep(clip_fraction=self._gather(outside))
        return rewards.clamp(-bound, bound)

    def _measure(self, margin: Tensor, flipped: Tensor | None) -> None:
        """Log accuracy and mean of unclipped margins `(pairs,)` on true labels, and flips fitted.

        Margins are those of the labels in the data, so a flipped pair's true one has the other
        sign. Pairs of which nobody knows whether they were flipped are left out.
        """
        margin = margin.detach().float()
        # Where no row has the column, others' rows may: all processes exchange, and always.
        if flipped is None:
            flipped = torch.full_like(margin, _UNKNOWN)
        # One tensor, so that the processes exchange once.
        both = self._gather(torch.stack([margin, flipped.to(margin)], dim=1))
        known = both[both[:, 1] != _UNKNOWN]
        margin, flipped = known.unbind(dim=1)
        # A flip swaps the two answers, so the true margin is the other way round.
        true_margin = torch.where(flipped > 0, -margin, margin)
        wrong = margin[flipped > 0]
        self._keep(
            accuracy_true=_share(true_margin > 0, true_margin),
            margin_true=true_margin,
            flipped_fit=_share(wrong > 0, wrong),
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
