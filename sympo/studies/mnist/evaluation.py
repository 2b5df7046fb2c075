"""What a model is measured by: the order of the test images, and what it has memorised."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sympo.studies import sources
from sympo.studies.mnist.data import draw_pairs
from sympo.studies.mnist.fast.grid import Grid, load_batch

# Ours: images per forward pass. It bounds the memory of a chunk, together with the training batch.
EVALUATION_BATCH = 2048


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


@torch.no_grad()
def evaluate_rewards(grid: Grid, images: Tensor) -> Tensor:
    """Rewards `(models, images)` of `images` `(images, 28, 28)`, uint8, with dropout off."""
    rows = torch.arange(len(images), device=images.device)
    parts = rows.split(EVALUATION_BATCH)
    # A first axis of 1: all models see the same images, whatever their seed.
    return torch.cat([grid.rewards(load_batch(images[None], part[None])) for part in parts], 1)


def reward_accuracy(rewards: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
    """P(sign(r₁ − r₂) = sign(digit₁ − digit₂)) over all pairs of different digits, and P(r₁ = r₂).

    A tie is not a correct order, and NaN, the reward of a model that diverged, is neither correct
    nor a tie.

    Args:
        rewards: `(models, images)`, finite or NaN.
        digits: `(images,)`.
    Returns:
        accuracy `(models,)`, ties `(models,)`.
    Source: Section 6.1, over every pair instead of a sample. Check: tests/studies/test_mnist.py,
    by enumeration.
    """
    below = torch.zeros(len(rewards))
    equal = torch.zeros(len(rewards))
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
        `fit_flipped`, the memorised noise, and `fit_clean`; None where there are no such labels.
    """
    groups = {"fit_flipped": fitted[flipped], "fit_clean": fitted[~flipped]}
    return {name: float(group.mean()) if len(group) else None for name, group in groups.items()}
