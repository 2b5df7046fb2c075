"""Preference pairs over images whose reward is the digit they show, and their noisy labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sympo import noise
from sympo.studies.mnist.config import MnistRun, NoiseRun


@dataclass(frozen=True)
class Pairs:
    """Preference pairs over images.

    Attributes:
        first: `(pairs,)`, indices of the images a₁.
        second: `(pairs,)`, indices of the images a₂.
        labels: `(pairs,)`, +1 where a₁ is preferred, −1 where a₂ is.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    labels: NDArray[np.int64]


def draw_pairs(digits: NDArray, count: int, *, seed: int, class_prior: float = 0.5) -> Pairs:
    """Pairs of images, labelled by Bradley–Terry: P(a₁ ≻ a₂) = σ(digit₁ − digit₂).

    The two digits of a pair differ, and no image is used twice. The preferred image is written
    first with probability `class_prior`, whatever the pair. The first pairs are the same however
    many are drawn, so that those after the training pairs can be held out.

    Args:
        digits: `(images,)`.
    Raises:
        ValueError: fewer than `count` pairs can be drawn.
    Source: the authors' released code. Check: tests/studies/test_mnist_data.py.
    """
    # The second number keeps this stream apart from others that are seeded with `seed` alone.
    generator = np.random.default_rng([seed, 0])
    # Neighbours in a random order are a pair, so no image can come twice. Of an odd number of
    # images the last has no partner.
    shuffled = generator.permutation(len(digits) // 2 * 2).reshape(-1, 2)
    left, right = shuffled[digits[shuffled[:, 0]] != digits[shuffled[:, 1]]].T
    if len(left) < count:
        raise ValueError(
            f"pairs = {count} is more than the {len(left)} pairs these images give: lower it"
        )

    # As floats: the digits are unsigned bytes, whose differences wrap around below 0.
    difference = digits[left].astype(float) - digits[right]
    left_wins = generator.random(len(left)) < 1 / (1 + np.exp(-difference))
    winner = np.where(left_wins, left, right)
    loser = np.where(left_wins, right, left)

    # A coin that knows nothing of the pair: the condition of Lemma 1.
    winner_first = generator.random(len(left)) < class_prior
    return Pairs(
        first=np.where(winner_first, winner, loser)[:count],
        second=np.where(winner_first, loser, winner)[:count],
        labels=np.where(winner_first, 1, -1)[:count],
    )


def split_pairs(digits: NDArray, run: MnistRun) -> tuple[Pairs, Pairs]:
    """The training pairs of `run` and its held-out pairs, which share no image.

    Args:
        digits: `(images,)`.
    Raises:
        ValueError: the images give fewer pairs.
    """
    count = run.pairs + run.validation_pairs
    pairs = draw_pairs(digits, count, seed=run.seed, class_prior=run.class_prior)
    columns = (pairs.first, pairs.second, pairs.labels)
    training = Pairs(*(column[: run.pairs] for column in columns))
    held_out = Pairs(*(column[run.pairs :] for column in columns))
    return training, held_out


def noisy_labels(pairs: Pairs, run: MnistRun, ink: NDArray) -> NDArray[np.int64]:
    """The labels of `pairs` under the noise of `run`, `(pairs,)`.

    Flips depend on the two images, the seed and the rates alone: those at a low rate are among
    those at a higher one, and every loss sees the same.

    Args:
        ink: `(images,)`, mean brightness; where `run` ties the written order to the pair, the
            image with more ink tends to come first.
    """
    # Keyed by the images and not by position: a pair keeps its flip whatever else is drawn.
    keys = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    generator = noise.RowGenerator(keys, run.seed)
    first_rate = run.first_rate if isinstance(run, NoiseRun) else None
    if first_rate is None:
        return noise.flip(pairs.labels, run.rate_pos, run.rate_neg, generator)
    # Ink plays the part of an answer's length: a feature of the pair that the order may depend on.
    more_ink = np.where(ink[pairs.first] >= ink[pairs.second], 1, -1)
    return noise.flip_tied(
        pairs.labels, more_ink, run.rate_pos, run.rate_neg, generator, first_rate=first_rate
    )
