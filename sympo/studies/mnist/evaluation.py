"""What a model is measured by: the order of test images, held-out pairs, and training labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sympo.studies import sources
from sympo.studies.mnist.data import draw_pairs
from sympo.studies.mnist.fast.grid import Grid, load_batch

# Ours: images per forward pass. It bounds the memory of a chunk, together with the training batch.
# A processor is faster where the features of a batch stay in its cache.
EVALUATION_BATCH = {"cpu": 512, "cuda": 2048}
# Numbers per image and model that the first convolution writes, 6 maps of 24×24: no tensor has
# more.
MAPS = 6 * 24 * 24
# The most of them in a tensor: CUDA's kernels count in 32 bits.
MOST_NUMBERS = 2**31 - 1
# Ours: how many held-out pairs a person may have who has few.
FEWER_PAIRS = (50, 200)


@dataclass(frozen=True)
class EvaluationData:
    """What models are evaluated on, on their device.

    Attributes:
        images: `(images, 28, 28)`, uint8.
        digits: `(images,)`.
        better: `(images // 3,)`, for the clean test risk: the image of each pair with the larger
            digit.
        worse: `(images // 3,)`, the other image of each pair.
    """

    images: Tensor
    digits: Tensor
    better: Tensor
    worse: Tensor

    @classmethod
    def prepare(cls, data: sources.MNIST, device: str) -> Self:
        """The test images and their pairs, the same for every seed."""
        digits = data.test_labels
        # A third of the images leaves a margin for the pairs with equal digits, which are dropped.
        pairs = draw_pairs(digits, len(digits) // 3, seed=0)
        # Ordered by digit, not by their Bradley–Terry label: the risk is that of clean labels.
        first_better = digits[pairs.first] > digits[pairs.second]
        arrays = (
            data.test_images,
            digits.astype(np.int64),
            np.where(first_better, pairs.first, pairs.second),
            np.where(first_better, pairs.second, pairs.first),
        )
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))


@dataclass(frozen=True)
class HeldOutData:
    """The held-out pairs of each seed of a chunk, on the models' device.

    Attributes:
        images: `(seeds, 2·pairs, 28, 28)`, uint8: the first image of every pair, then the second.
        noisy: `(seeds, models, pairs)`, ±1: labels as noisy as those that are trained on.
        clean: `(seeds, 1, pairs)`, ±1: the same labels before the flips.
        order: `(seeds, 1, pairs)`, ±1: which of the two digits is larger.
        masks: of dropout, `(seeds, 384, 2·pairs)`, the same at every evaluation.
    """

    images: Tensor
    noisy: Tensor
    clean: Tensor
    order: Tensor
    masks: Tensor

    def measure(self, grid: Grid) -> dict[str, list[float]]:
        """Metrics of each model, `seeds·models` numbers under each name.

        `validation`: the share of noisy labels that the model agrees with, ties counted one half;
        `validation_50` and so on: of the first pairs only (`FEWER_PAIRS`); `validation_clean`: of
        all the labels before the flips; `held_out_accuracy` and
        `held_out_accuracy_dropout`: the share of pairs whose digits it puts in order, ties counted
        as wrong, with dropout off and on. The last is the measure of the authors' released code.
        """
        # Both images of a pair have masks of their own, as in the authors' released code.
        without, with_dropout = evaluate_dropout(grid, self.images, self.masks)
        margins = self._margins(without)
        dropped = self._margins(with_dropout)
        measured = {
            "validation": _agreement(margins * self.noisy),
            **{
                f"validation_{pairs}": _agreement((margins * self.noisy)[..., :pairs])
                for pairs in FEWER_PAIRS
                if pairs <= self.noisy.shape[-1]
            },
            "validation_clean": _agreement(margins * self.clean),
            "held_out_accuracy": (margins * self.order > 0).float().mean(-1),
            "held_out_accuracy_dropout": (dropped * self.order > 0).float().mean(-1),
        }
        return {name: values.flatten().tolist() for name, values in measured.items()}

    def _margins(self, rewards: Tensor) -> Tensor:
        """r(first) − r(second), `(seeds, models, pairs)`."""
        first, second = rewards.chunk(2, 1)
        return (first - second).unflatten(0, (len(self.images), -1))


def _agreement(margins: Tensor) -> Tensor:
    """The share of margins above 0, with a tie as one half: noise then acts as in T13."""
    return (margins > 0).float().mean(-1) + (margins == 0).float().mean(-1) / 2


@torch.no_grad()
def evaluate_rewards(grid: Grid, images: Tensor) -> Tensor:
    """Rewards `(seeds·models, images)` with the batch norms' remembered mean and variance.

    Args:
        images: `(seeds, images, 28, 28)`, uint8; with a first axis of 1, all models see the same.
    """
    parts = _list_parts(grid, images)
    return torch.cat([grid.rewards(_load(images, part)) for part in parts], 1)


@torch.no_grad()
def evaluate_dropout(grid: Grid, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """As `evaluate_rewards`, and the same with dropout.

    Args:
        images: as there.
        masks: of dropout, `(seeds, 384, images)`.
    """
    both = [
        grid.rewards_without_and_with(_load(images, part), masks[..., part])
        for part in _list_parts(grid, images)
    ]
    without, with_dropout = (torch.cat(parts, 1) for parts in zip(*both, strict=True))
    return without, with_dropout


def _list_parts(grid: Grid, images: Tensor) -> Sequence[Tensor]:
    """Numbers of images, as many in each part as go through the network together."""
    count = images.shape[1]
    models = len(grid.parameters["conv1.weight"])
    together = min(EVALUATION_BATCH[images.device.type], most_beside(models))
    return torch.arange(count, device=images.device).split(together)


def most_beside(count: int) -> int:
    """How many images `count` models may see together, and how many models `count` images.

    Check: tests/studies/test_mnist.py::test_no_tensor_has_more_numbers_than_can_be_counted.
    """
    return max(1, MOST_NUMBERS // (MAPS * count))


def _load(images: Tensor, part: Tensor) -> Tensor:
    return load_batch(images, part.expand(len(images), -1))


def reward_accuracy(rewards: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
    """P(sign(r₁ − r₂) = sign(digit₁ − digit₂)) over all pairs of different digits, and P(r₁ = r₂).

    A tie is not a correct order, and NaN, the reward of a model that diverged, is neither correct
    nor a tie.

    Args:
        rewards: `(models, images)`, finite or NaN.
        digits: `(images,)`.
    Returns:
        accuracy `(models,)`, ties `(models,)`.
    Source: Section 5.1, over every pair instead of a sample. Check: tests/studies/test_mnist.py,
    by enumeration.
    """
    # Counts beyond 2²⁴ would be rounded in single precision.
    below = torch.zeros(len(rewards), dtype=torch.float64)
    equal = torch.zeros(len(rewards), dtype=torch.float64)
    pairs = 0
    # 10,000 images have 45 million pairs, so they are counted by binary search in sorted rewards.
    # As the lower digit NaN stands above everything, as the higher one below: never correct.
    lows = torch.where(rewards.isnan(), math.inf, rewards)
    highs = torch.where(rewards.isnan(), -math.inf, rewards)
    # Each digit against all larger ones, so that every pair is counted once.
    for digit in digits.unique():
        lower = lows[:, digits == digit].sort(1).values
        higher = highs[:, digits > digit].contiguous()
        # For each reward of a larger digit: how many of the smaller digit's lie strictly below it,
        # and how many below or at it.
        strictly = torch.searchsorted(lower, higher).sum(1)
        at_most = torch.searchsorted(lower, higher, right=True).sum(1)
        equal += (at_most - strictly).cpu()
        below += strictly.cpu()
        pairs += lower.shape[1] * higher.shape[1]
    return below / pairs, equal / pairs


def fit_shares(fitted: NDArray[np.bool_], flipped: NDArray[np.bool_]) -> dict[str, float | None]:
    """Shares of the flipped and of the clean labels that a model agrees with.

    Args:
        fitted: `(pairs,)`, whether the margin has the sign of the noisy label.
        flipped: `(pairs,)`, whether that label is wrong.
    Returns:
        `fit_flipped` and `fit_clean`, None where there are no such labels. A model that has not
        seen the flips has fit_flipped = 1 − fit_clean; the excess is what it has memorised.
    """
    groups = {"fit_flipped": fitted[flipped], "fit_clean": fitted[~flipped]}
    return {name: float(group.mean()) if len(group) else None for name, group in groups.items()}


def choose_evaluation(history: Sequence[Mapping[str, Any]]) -> int:
    """The entry of `history` with the best `validation`: what noisy held-out pairs choose.

    Of several that are equally good, the first.

    Source: T13 of notebook 05. Check: tests/studies/test_mnist.py, and notebook 07.
    """
    agreements = [entry["validation"] for entry in history]
    return agreements.index(max(agreements))
