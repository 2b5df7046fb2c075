"""`SymPOTrainer`: DPOTrainer with the paper's losses."""

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import cross_entropy
from trl import DPOTrainer

from sympo.trainer.card import describe_policy
from sympo.trainer.config import TRL_LOSSES, SymPOConfig
from sympo.trainer.objective import OwnLoss, read_own_loss
from sympo.trainer.posterior import NoisePosterior
from sympo.trainer.shared import FLIP_COLUMN, WEIGHT_COLUMN

# TRL's names for the log-probabilities of the reference model, nats.
REFERENCE_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")


def _read_log_probs(output: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Log-probabilities of all tokens but the first, `(2·pairs, tokens)`; 0 outside the answer."""
    if hasattr(output, "log_probs"):
        log_probs: Tensor = output.log_probs
        return log_probs
    # Models that TRL before 1.15 has prepared return logits alone.
    tokens = inputs["input_ids"][:, 1:]
    logits = output.logits[:, -tokens.size(1) - 1 : -1].float()
    losses = cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
    return -losses * inputs["completion_mask"][:, 1:]


class SymPOTrainer(NoisePosterior, DPOTrainer):
    """DPOTrainer that minimises `SymPOConfig.loss_type`; takes what DPOTrainer takes.

    With a column `is_flipped` in the data (true, false, 0 or 1; none where it is unknown) it logs,
    beside TRL's metrics (which see noisy labels), `accuracy_true`, `margin_true` (β·log-ratio
    difference, nats) and `flipped_fit` (the share of flipped pairs whose wrong label the policy
    agrees with); with a clip, `clip_fraction`; for repo, `eta`.

    Every loss is a mean over pairs, so that batch 8 is 2 × 4 accumulated and 2 processes × 4,
    except `drdpo`, which couples the pairs of a batch. A column `weight` (numbers from 0 on) scales
    the loss of each pair; it is still the number of pairs that the mean divides by. With
    `precompute_ref_log_probs=True`, data that already has `ref_chosen_logps` and
    `ref_rejected_logps` keeps them: one reference pass serves a sweep (a flip swaps these two
    columns as well). Metrics of several evaluation sets carry their names: `eval_a_accuracy_true`.

    Args:
        loss: the loss that "custom" in `SymPOConfig.loss_type` stands for: a function from margins
            `(pairs,)` to losses `(pairs,)`, or an entry of `sympo.losses`. If it is symmetric,
            which is found out by trying, "auto" bounds its rewards.
    Source: Section 4. Check: tests/library/test_trainer.py, tests/library/test_extended.py.
    """

    # TRL's, and changed here.
    precompute_ref_logps: bool

    def __init__(
        self,
        model: Any,
        ref_model: Any = None,
        args: SymPOConfig | None = None,
        *rest: Any,
        loss: OwnLoss | None = None,
        **kwargs: Any,
    ) -> None:
        args = SymPOConfig() if args is None else args
        # A DPOConfig lacks the fields that are read here, and its names mean TRL's losses.
        if not isinstance(args, SymPOConfig):
            raise TypeError(f"args is a {type(args).__name__}: SymPOTrainer takes a SymPOConfig")
        terms = args.resolve_terms(read_own_loss(loss, args.loss_type))
        whole = len(terms) == len(args.loss_type)
        card = describe_policy(args, [term.loss for term in terms])
        super().__init__(
            model, ref_model, args, *rest, card=card, terms=terms, whole=whole, **kwargs
        )
        # TRL adds up those that it has, and always measures.
        weights = args.loss_weights or [1.0] * len(args.loss_type)
        theirs = [
            (name, weight)
            for name, weight in zip(args.loss_type, weights, strict=True)
            if name in TRL_LOSSES
        ]
        self.loss_types: list[str] = [name for name, _ in theirs]
        self.loss_weights: list[float] = [weight for _, weight in theirs]

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        # TRL would compute them anew for every dataset of a sweep, although flips only swap them.
        if set(REFERENCE_COLUMNS) <= set(dataset.column_names or ()):
            return dataset
        return super()._precompute_ref_logps(dataset, name, batch_size)

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """TRL's, without our columns.

        Returns:
            log-probabilities of chosen and of rejected, each `(pairs,)`, nats.
        """
        # It passes the whole batch to the model, which knows no such argument.
        ours = (FLIP_COLUMN, WEIGHT_COLUMN)
        known = {name: value for name, value in inputs.items() if name not in ours}
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
        self._check_weights(inputs)
        inputs = dict(inputs)  # the caller's batch stays as it is
        flipped = inputs.pop(FLIP_COLUMN, None)
        weights = inputs.pop(WEIGHT_COLUMN, None)
        result, log_probs = self._forward(model, inputs, return_outputs=return_outputs)
        loss = result[0] if return_outputs else result
        # With ld_alpha TRL's rewards are not log-ratios, and none of this applies.
        if self.ld_alpha is None:
            rewards = self._rewards(log_probs, inputs)
            self._measure(rewards[0] - rewards[1], flipped)
            loss = loss + self._minimise(rewards, weights)
        self._watch(loss)
        return (loss, result[1]) if return_outputs else loss

    def _forward(
        self, model: Any, inputs: dict[str, Any], *, return_outputs: bool
    ) -> tuple[Any, Tensor]:
        """TRL's `compute_loss` on a batch that holds the reference, or is given it here.

        Returns:
            what TRL returns, and the policy's log-probs `(2·pairs, tokens)`, which it keeps to
            itself: they are read from the outputs of the forward pass.
        """
        outputs: list[Any] = []
        precomputed = self.precompute_ref_logps

        # In the model's place: what TRL's first call returns is what the loss needs. The reference
        # pass follows it as it does in TRL, which explains the errors of both in the same words.
        def recorded(*args: Any, **kwargs: Any) -> Any:
            output = model(*args, **kwargs)
            if not outputs and not precomputed:
                reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
                inputs.update(zip(REFERENCE_COLUMNS, reference, strict=True))
            outputs.append(output)
            return output

        # TRL then takes the reference from the batch. It is put back, since the dataloaders look
        # at it too.
        self.precompute_ref_logps = True
        try:
            result = super().compute_loss(recorded, inputs, return_outputs=return_outputs)
        finally:
            self.precompute_ref_logps = precomputed
        return result, _read_log_probs(outputs[0], inputs)

    def _rewards(self, log_probs: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Implicit rewards β·log π/π_ref, `(2, pairs)`: chosen, rejected.

        With `length_normalized` the log-ratio is divided by the answer's number of tokens.
        """
        # Prompt-learning PEFT puts virtual tokens in front, so count from the end.
        tokens = inputs["completion_mask"].size(1) - 1
        # Zero outside the completion; summed in float32, whatever the model computes in.
        policy = log_probs[:, -tokens:].float().sum(dim=1)
        reference = torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
        rewards: Tensor = self.beta * (policy - reference)
        if self.args.length_normalized:
            rewards = rewards / inputs["completion_mask"].sum(dim=1).clamp(min=1)
        return rewards.view(2, -1)

    def _prepare_for_margins(self, dataset: Dataset) -> Dataset:
        if self.ld_alpha is not None:
            raise ValueError("with ld_alpha there are no margins of log-ratios: leave it out")
        if self._is_vision_dataset:  # the collator prepares its rows
            return dataset
        from accelerate.utils import is_peft_model  # comes with TRL

        gone = self.ref_model is None and not is_peft_model(self.model)
        given = set(REFERENCE_COLUMNS) <= set(dataset.column_names)
        if self.precompute_ref_logps and gone and not given and self.state.global_step > 0:
            raise ValueError(
                "precompute_ref_log_probs=True keeps no reference model, and the model has been "
                "trained: give a ref_model, or a dataset that has ref_chosen_logps and "
                "ref_rejected_logps"
            )
        prepared = super()._prepare_for_margins(dataset)
        if not self.precompute_ref_logps:
            return prepared
        batch = self.args.precompute_ref_batch_size or self.args.per_device_eval_batch_size
        return self._precompute_ref_logps(prepared, "noise_posterior", batch)
