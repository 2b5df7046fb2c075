"""`SymmetricRewardTrainer`: RewardTrainer with a loss of `sympo.losses`."""

from typing import Any

from torch import Tensor
from trl import RewardTrainer

from sympo.trainer.card import describe_reward_model
from sympo.trainer.config import SymmetricRewardConfig, Term
from sympo.trainer.objective import OwnLoss, read_own_loss
from sympo.trainer.posterior import NoisePosterior
from sympo.trainer.shared import FLIP_COLUMN, WEIGHT_COLUMN

_MARGIN_COLUMN = "margin"  # TRL's: by how much chosen should win


class SymmetricRewardTrainer(NoisePosterior, RewardTrainer):
    """RewardTrainer that minimises a loss ℓ(r(chosen) − r(rejected)) of `sympo.losses`.

    Takes what RewardTrainer takes, and `loss` as SymPOTrainer does; logs what SymPOTrainer logs,
    with the margin of the rewards; heeds the column `weight` as it does.
    A column `margin` in the data is refused with a symmetric loss: ℓ(z − m) + ℓ(−z − m) is no
    constant, so that the loss would not be symmetric any more.
    Source: Section 3. Check: tests/library/test_trainer.py.
    """

    def __init__(
        self,
        model: Any,
        args: SymmetricRewardConfig | None = None,
        *rest: Any,
        loss: OwnLoss | None = None,
        **kwargs: Any,
    ) -> None:
        args = SymmetricRewardConfig() if args is None else args
        if not isinstance(args, SymmetricRewardConfig):
            raise TypeError(
                f"args is a {type(args).__name__}: "
                "SymmetricRewardTrainer takes a SymmetricRewardConfig"
            )
        own = args.resolve_loss(read_own_loss(loss, [args.loss_type]))
        clip = args.resolve_clip(own)
        card = describe_reward_model(args, own)
        terms = [Term(own, 1.0, clip)]
        super().__init__(model, args, *rest, card=card, terms=terms, whole=True, **kwargs)

    def _prepare_dataset(self, dataset: Any, *rest: Any, **named: Any) -> Any:
        # Before anything is tokenised; the columns of a stream may be unknown until it is read.
        self._check_margin(dataset.column_names or ())
        return super()._prepare_dataset(dataset, *rest, **named)

    def _check_margin(self, names: Any) -> None:
        (term,) = self._terms
        if _MARGIN_COLUMN in names and term.loss.symmetric:
            raise ValueError(
                f"the data has a column '{_MARGIN_COLUMN}', with which loss_type "
                f"'{term.loss.name}' is not symmetric: remove the column, or take a loss that is "
                "not symmetric, such as 'logistic'"
            )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """TRL's forward pass and metrics, and the mean of our loss over the pairs."""
        self._check_margin(inputs)
        inputs = dict(inputs)  # the caller's batch stays as it is
        self._check_weights(inputs)
        flipped = inputs.pop(FLIP_COLUMN, None)
        weights = inputs.pop(WEIGHT_COLUMN, None)
        # TRL's loss is dropped; its pass and its metrics are kept.
        _, outputs = super().compute_loss(model, inputs, return_outputs=True)
        # In float32: the difference of two rewards in bf16 would keep three digits.
        rewards = outputs.logits.float().reshape(2, -1)
        self._measure(rewards[0] - rewards[1], flipped)
        loss = self._minimise(rewards, weights, inputs.get(_MARGIN_COLUMN, 0.0))
        # TRL's term that keeps rewards near 0, on unclipped ones as there.
        weight = self.args.center_rewards_coefficient
        if weight is not None:
            loss = loss + weight * rewards.sum(dim=0).square().mean()
        self._watch(loss)
        return (loss, outputs) if return_outputs else loss
