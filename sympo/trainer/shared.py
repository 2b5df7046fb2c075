"""What both trainers share: the columns of ours, the clip, metrics on true labels, divergence."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from sympo._names import show
from sympo.preferences import read_flip
from sympo.trainer.card import Card
from sympo.trainer.contract import check_version

if TYPE_CHECKING:
    # A mixin's class comes before a trainer of TRL in the bases, and type checkers are told so.
    from transformers import Trainer as _Mixin
else:
    _Mixin = object

FLIP_COLUMN = "is_flipped"  # true where chosen and rejected were swapped by label noise
WEIGHT_COLUMN = "weight"  # how much a pair counts, 1 where nothing else is said
_UNKNOWN = -1  # in a batch, for a pair of which nobody knows whether it was flipped


class DivergedError(RuntimeError):
    """A loss was not finite; the message names the method, its seed, its rate and a step."""


class FlipCollator:
    """Another collator's batch, with `is_flipped` and `weight` where any row has them.

    `is_flipped` is `(pairs,)` int8: 1 flipped, 0 not, −1 unknown; `weight` is `(pairs,)` float32.
    In everything else, such as `pad_token_id`, this is the other collator: what is read or set here
    is read or set there.
    """

    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        # Past __setattr__, which hands on.
        self.__dict__["collate"] = collate

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of `examples`, the rows of a dataset.

        Raises:
            ValueError: a value of `is_flipped` that `sympo.preferences.read_flip` refuses, or a
                weight that is no number or negative.
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
        if any(WEIGHT_COLUMN in example for example in examples):
            weights = [
                _read_weight(example.get(WEIGHT_COLUMN), f"row {row} of a batch")
                for row, example in enumerate(examples)
            ]
            batch[WEIGHT_COLUMN] = torch.tensor(weights, dtype=torch.float32)
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


def _read_weight(value: Any, place: str) -> float:
    if value is None:
        return 1.0
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # NaN is no smaller and no larger than anything.
    if is_number and 0 <= value < math.inf:
        return float(value)
    raise ValueError(
        f"{place}: {WEIGHT_COLUMN} = {show(value)}: give a number from 0 on, 1 for a pair that "
        "counts as any other"
    )


def check_columns(dataset: Any, name: str) -> None:
    """Refuse a value of `is_flipped` or `weight` before anything is tokenised.

    Args:
        name: of the dataset, for the message.
    Raises:
        ValueError: the first row whose value the collator would refuse.
    """
    # The rows of a stream are read as they come, by the collator.
    if not isinstance(dataset, Dataset):
        return
    for column, read in ((FLIP_COLUMN, _read_flip), (WEIGHT_COLUMN, _read_weight)):
        if column not in dataset.column_names:
            continue
        # Nothing else can be in such a column, of however many rows.
        if column == FLIP_COLUMN and getattr(dataset.features[column], "dtype", None) == "bool":
            continue
        for row, value in enumerate(dataset.with_format(None)[column]):
            read(value, f"row {row} of the dataset '{name}'")


def share(condition: Tensor, values: Tensor) -> Tensor:
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
        # Of the evaluation that is under way, for the names of its metrics.
        self._prefix = "eval"
        # Where margins are wanted, those of the batches so far.
        self._margins: list[NDArray[np.float32]] | None = None
        # The first step since the last log whose loss was not finite, on the device; ∞ for none.
        self._diverged_at: Tensor | None = None

    def _prepare_dataset(self, dataset: Any, *rest: Any, **named: Any) -> Any:
        name = named.get("dataset_name", rest[-1] if rest else "train")
        check_columns(dataset, name)
        return super()._prepare_dataset(dataset, *rest, **named)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        # Columns outside this list are dropped before the collator sees a row. It is called once
        # per dataloader, hence no second entry.
        ours = (FLIP_COLUMN, WEIGHT_COLUMN)
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, *ours]))

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """TRL's, with metrics of this evaluation alone, named as its losses are."""
        # What an evaluation that was broken off has left, or a call of predict, which logs nothing.
        self._metrics["eval"].clear()
        self._prefix = metric_key_prefix
        return super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's; then an error if an evaluation's loss is not finite, or one of training was not.

        That is a training loss of any step since the last log. The metrics of several evaluation
        sets have the names of their sets, as their losses have: TRL would call those of each
        `eval_…`, and keep the last set's.

        Raises:
            DivergedError: so it is, and the config has `stop_on_divergence`.
        """
        if not self.model.training:
            # The mean that TRL would take, under the right name.
            metrics = self._metrics["eval"]
            logs.update({f"{self._prefix}_{k}": sum(v) / len(v) for k, v in metrics.items()})
            metrics.clear()
        super().log(logs, start_time)
        if self._diverged_at is not None:
            step = self._diverged_at.item()
            self._diverged_at = None
            if step < math.inf:
                self._end_diverged(f"the loss of step {step:.0f}")
        # The last step may spoil a model without a further loss of training to show it.
        if not math.isfinite(logs.get(f"{self._prefix}_loss", 0.0)):
            self._end_diverged(f"{self._prefix}_loss after step {self.state.global_step}")

    def _end_diverged(self, what: str) -> None:
        if not self.args.stop_on_divergence:
            return
        raise DivergedError(
            f"training diverged: {what} is not finite "
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
        if self._margins is not None:
            self._margins.append(both[:, 0].cpu().numpy())
        known = both[both[:, 1] != _UNKNOWN]
        margin, flipped = known.unbind(dim=1)
        # A flip swaps the two answers, so the true margin is the other way round.
        true_margin = torch.where(flipped > 0, -margin, margin)
        wrong = margin[flipped > 0]
        self._keep(
            accuracy_true=share(true_margin > 0, true_margin),
            margin_true=true_margin,
            flipped_fit=share(wrong > 0, wrong),
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
