"""What both trainers minimise of their own: losses of a margin, weighted, and RE-PO's estimate."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sympo import losses
from sympo.trainer.config import Term
from sympo.trainer.shared import WEIGHT_COLUMN, TrueLabels, share

# What a trainer takes as `loss`: a function of margins, or an entry of the registry.
OwnLoss = Callable[[Tensor], Tensor] | losses.Loss | losses.PairLoss


def read_own_loss(loss: OwnLoss | None, names: Sequence[str]) -> losses.PairLoss | None:
    """The loss that a trainer is given, which "custom" in `loss_type` stands for.

    Raises:
        ValueError: one of the two is missing, or the loss is none.
    """
    named = losses.CUSTOM in names
    if loss is None and named:
        raise ValueError(
            f"loss_type names '{losses.CUSTOM}', and there is no such loss: give the trainer loss="
        )
    if loss is not None and not named:
        raise ValueError(
            f"loss is given, and loss_type = {', '.join(names)} does not use it: "
            f"put '{losses.CUSTOM}' where it is meant"
        )
    return None if loss is None else losses.as_pair(loss)


class Objective(TrueLabels):
    """A trainer of TRL that adds Σ weight·mean ℓ(h) to its loss, over our losses.

    Args:
        terms: our losses; none where TRL's code runs alone.
        whole: whether TRL adds no loss of its own to these.
    """

    def __init__(self, *args: Any, terms: Sequence[Term], whole: bool, **kwargs: Any) -> None:
        self._terms = tuple(terms)
        self._whole = whole
        self._posteriors: list[Tensor] = []  # RE-PO's, since the last optimiser step
        super().__init__(*args, **kwargs)

    @property
    def symmetric(self) -> bool:
        """Whether what is minimised is symmetric: ℓ(h) + ℓ(−h) is a constant in every term."""
        return self._whole and all(term.loss.symmetric for term in self._terms)

    @property
    def eta(self) -> float:
        """RE-PO's estimate η of the share of right labels.

        It lives in TrainerState, and so in every checkpoint.
        """
        start = self.args.repo_start
        eta: float = self.state.stateful_callbacks.get(
            "repo_eta", losses.REPO_START if start is None else start
        )
        return eta

    def _prepare_dataset(self, dataset: Any, *rest: Any, **named: Any) -> Any:
        # Before anything is tokenised; the columns of a stream may be unknown until it is read.
        self._check_weights(dataset.column_names or ())
        return super()._prepare_dataset(dataset, *rest, **named)

    def _check_weights(self, names: Any) -> None:
        """Refuse weights of pairs where a term would not heed them."""
        if WEIGHT_COLUMN not in names:
            return
        # A loss that couples the pairs of a batch has none of one pair that a weight could scale.
        deaf = [f"'{term.loss.name}' couples" for term in self._terms if term.loss.couples]
        if not self._whole:
            deaf.append("a loss of TRL's averages")
        if deaf:
            raise ValueError(
                f"the data has a column '{WEIGHT_COLUMN}', which cannot act: {deaf[0]} the pairs "
                "of a batch by itself; remove the column, or take our other losses alone"
            )

    def _minimise(
        self, rewards: Tensor, weights: Tensor | None, advantage: Tensor | float = 0.0
    ) -> Tensor:
        """Σ over our losses of weight·mean over pairs of ℓ(h), with h from bounded rewards.

        With weights of pairs it is Σᵢ wᵢ·ℓ(hᵢ)/n over the n pairs of the batch. It is n that is
        divided by, and not Σwᵢ: so a pair counts the same in whatever batch it comes, and batch 8
        is 2 × 4 accumulated. Weights with mean 1 leave the size of a step as it is.

        Args:
            rewards: `(2, pairs)` chosen and rejected.
            weights: `(pairs,)`, or None for 1 each.
            advantage: by how much chosen should win.
        """
        total = rewards.new_zeros(())
        for term in self._terms:
            chosen, rejected = self._clip(rewards, term.clip)
            margin = chosen - rejected - advantage
            # Each loss takes what it needs; the config has refused what none does.
            each = term.loss.fn(margin, noise_rate=self.args.noise_rate, reliability=self.eta)
            each = each if weights is None else each * weights
            total = total + term.weight * each.mean()
            if term.loss.needs == "reliability":
                self._follow_eta(margin)
        return total

    def _clip(self, rewards: Tensor, bound: float | None) -> Tensor:
        """`rewards` `(2, pairs)` within ±bound; logs the share outside, `clip_fraction`."""
        if bound is None:
            return rewards
        outside = share(rewards.detach().abs() > bound, rewards.detach()).mean(dim=0)
        # Logged, because a bound that cuts off most pairs looks like training that has stalled.
        self._keep(clip_fraction=self._gather(outside))
        return rewards.clamp(-bound, bound)

    def _follow_eta(self, margin: Tensor) -> None:
        # After the loss: the step that moves η still minimises with the old one.
        if self.model.training:
            self._update_eta(losses.repo_posterior(margin, self.eta))
        self._metrics["train" if self.model.training else "eval"]["eta"] = [self.eta]

    def _update_eta(self, posterior: Tensor) -> None:
        """η ← 0.9·η + 0.1·mean(w), once per optimiser step.

        The mean is over the step's micro-batches and processes, each pair counted once.

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
