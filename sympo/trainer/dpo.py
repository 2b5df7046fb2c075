"""`SymPOTrainer`: DPOTrainer with the paper's losses."""

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOTrainer

from sympo import losses
from sympo.trainer.card import describe_policy
from sympo.trainer.config import SymPOConfig, own_losses
from sympo.trainer.shared import FLIP_COLUMN, TrueLabels

# TRL's names for the log-probabilities of the reference model, nats.
REFERENCE_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")


class SymPOTrainer(TrueLabels, DPOTrainer):
    """DPOTrainer that minimises `SymPOConfig.loss_type`; takes what DPOTrainer takes.

    With a column `is_flipped` in the data (true, false, 0 or 1; none where it is unknown) it logs,
    beside TRL's metrics (which see noisy labels), `accuracy_true`, `margin_true` (β·log-ratio
    difference, nats) and `flipped_fit` (the share of flipped pairs whose wrong label the policy
    agrees with); with a clip, `clip_fraction`; for repo, `eta`.

    Every loss is a mean over pairs, so that batch 8 is 2 × 4 accumulated and 2 processes × 4,
    except `drdpo`, which couples the pairs of a batch. With `precompute_ref_log_probs=True`, data
    that already has `ref_chosen_logps` and `ref_rejected_logps` keeps them: one reference pass
    serves a sweep (a flip swaps these two columns as well).
    Source: Section 4. Check: tests/library/test_trainer.py.
    """

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
        super().__init__(model, ref_model, args, *rest, card=describe_policy(args), **kwargs)
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
        result, log_probs = self._forward(model, inputs, return_outputs=return_outputs)
        loss = result[0] if return_outputs else result
        # With ld_alpha TRL's rewards are not log-ratios, and none of this applies.
        if self.ld_alpha is None:
            rewards = self._rewards(log_probs, inputs)
            self._measure(rewards[0] - rewards[1], flipped)
            if self._own_loss:
                chosen, rejected = self._clip(rewards)
                loss = loss + self._margin_loss(self._own_loss, chosen - rejected)
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
        return result, outputs[0].log_probs

    def _rewards(self, log_probs: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Implicit rewards β·log π/π_ref, `(2, pairs)`: chosen, rejected."""
        # Prompt-learning PEFT puts virtual tokens in front, so count from the end.
        tokens = inputs["completion_mask"].size(1) - 1
        # Zero outside the completion; summed in float32, whatever the model computes in.
        policy = log_probs[:, -tokens:].float().sum(dim=1)
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
