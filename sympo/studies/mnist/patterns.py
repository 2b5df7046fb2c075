"""Study noise_patterns: flips whose rate depends on the pair, on the position, or on who wins.

T11 of notebook 13 says which of them a symmetric loss survives. All patterns have one mean rate, so
that they differ in where the flips fall and in nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sympo import noise
from sympo.studies import plan, records
from sympo.studies.mnist.config import HEADLINE_LOSSES, MnistRun, TrainingConfig
from sympo.studies.mnist.data import Pairs, draw_pairs
from sympo.studies.text.flips import near_tie_rates

if TYPE_CHECKING:
    import pandas as pd

    from sympo.studies.sources import MNIST

Pattern = Literal["symmetric", "near ties", "annotators", "digits", "position", "ink"]

# Ours: the rates of five annotators over the mean rate. At a mean of 0.2 one of them is worse than
# a coin.
ANNOTATORS = (0.0, 0.5, 0.5, 1.0, 3.0)
# Ours: digits that look alike, and the rate of pairs with neither of them over the mean rate.
HARD_DIGITS = (4, 9)
EASY = 0.25

Floats = NDArray[np.float64]


class WinnerRates(NamedTuple):
    """Flip rates of pairs: `(pairs,)` each.

    Attributes:
        first: where the label says that the first image is preferred.
        second: where it says the second.
    """

    first: Floats
    second: Floats


@dataclass(frozen=True, kw_only=True)
class PatternRun(MnistRun):
    """One model of study noise_patterns.

    Attributes:
        pattern: where its flips fall; `rate_pos` and `rate_neg` are the mean rates of labels +1
            and −1.
    """

    pattern: Pattern

    @property
    def mean_rate(self) -> float:
        """The share of labels that are flipped, at class prior ½."""
        return (self.rate_pos + self.rate_neg) / 2


class PatternsConfig(TrainingConfig):
    """Study noise_patterns: several patterns of noise at one mean rate."""

    patterns: list[Pattern]
    # Ours: pairs with a hard digit flip at 2.2 times this, which has to stay below one half.
    mean_rate: Annotated[float, Field(gt=0, le=0.22)]
    first_seed: Annotated[int, Field(ge=0)]  # ours: no other study's, so that nothing was seen

    def tier(self, run: PatternRun) -> int:
        """Which of `plan.TIERS` a run is in."""
        return plan.HEADLINE if run.method in HEADLINE_LOSSES else plan.OTHER_METHODS

    def runs(self) -> list[PatternRun]:
        """One run per model to train."""
        return [
            self._run(pattern, seed, loss)
            for pattern in self.patterns
            for seed in range(self.first_seed, self.first_seed + self.seeds)
            for loss in self.losses
        ]

    def _run(self, pattern: Pattern, seed: int, loss: str) -> PatternRun:
        # All errors where the second image is the preferred one, none where the first is.
        one_sided = pattern == "position"
        return PatternRun(
            **self._shared_fields(),
            method=loss,
            noise=f"{pattern}-{self.mean_rate:g}",
            seed=seed,
            rate_pos=0.0 if one_sided else self.mean_rate,
            rate_neg=2 * self.mean_rate if one_sided else self.mean_rate,
            pattern=pattern,
        )


def winner_rates(pairs: Pairs, run: PatternRun, digits: NDArray, ink: NDArray) -> WinnerRates:
    """The flip rates of `pairs` under the pattern of `run`, by who is preferred.

    They are set on pairs drawn from all images, where they average to the mean rate of `run`; so a
    pair's rates depend on its two images alone.

    Args:
        digits: `(images,)`.
        ink: `(images,)`, mean brightness.
    Returns:
        of pattern annotators the mean over the annotators, one of whom is drawn for each pair.
    Source: theory T11. Check: notebook 13, tests/studies/test_noise_patterns.py.
    """
    if run.pattern == "ink":
        return _ink_rates(pairs, run, digits, ink)
    if run.pattern == "near ties":
        rates = _near_tie_rates(pairs, run, digits)
    elif run.pattern == "digits":
        rates = _digit_rates(pairs, run, digits)
    else:
        count = len(pairs.labels)
        return WinnerRates(np.full(count, run.rate_pos), np.full(count, run.rate_neg))
    return WinnerRates(rates, rates)


def _reference(digits: NDArray) -> Pairs:
    """Pairs that stand for all that can be drawn."""
    # A third of the images leaves a margin for the pairs with equal digits, which are dropped.
    return draw_pairs(digits, len(digits) // 3, seed=0)


def _gaps(pairs: Pairs, digits: NDArray) -> Floats:
    # As floats: the digits are unsigned bytes, whose differences wrap around below 0.
    return np.abs(digits[pairs.first].astype(float) - digits[pairs.second])


def _near_tie_rates(pairs: Pairs, run: PatternRun, digits: NDArray) -> Floats:
    # Ascending, so that one rate per gap can be read off.
    gaps = np.sort(_gaps(_reference(digits), digits))
    return np.interp(_gaps(pairs, digits), gaps, near_tie_rates(gaps, run.mean_rate))


def _digit_rates(pairs: Pairs, run: PatternRun, digits: NDArray) -> Floats:
    hard_image = np.isin(digits, HARD_DIGITS)
    reference = _reference(digits)
    share = (hard_image[reference.first] | hard_image[reference.second]).mean()
    easy = EASY * run.mean_rate
    hard = (run.mean_rate - (1 - share) * easy) / share
    return np.where(hard_image[pairs.first] | hard_image[pairs.second], hard, easy)


def _ink_rates(pairs: Pairs, run: PatternRun, digits: NDArray, ink: NDArray) -> WinnerRates:
    """No errors where the image with more ink is preferred, and all of them where it is not."""
    reference = _reference(digits)
    first_has_more = ink[reference.first] >= ink[reference.second]
    against = (first_has_more != (reference.labels > 0)).mean()
    rate = run.mean_rate / against
    more = ink[pairs.first] >= ink[pairs.second]
    return WinnerRates(np.where(more, 0.0, rate), np.where(more, rate, 0.0))


def pattern_labels(
    pairs: Pairs, run: PatternRun, digits: NDArray, ink: NDArray
) -> NDArray[np.int64]:
    """The labels of `pairs` under the pattern of `run`, `(pairs,)`.

    Flips depend on the two images, the seed and the rates alone, so every loss sees the same. All
    patterns compare the same uniform numbers with their rates.

    Args:
        digits, ink: as for `winner_rates`.
    """
    # Keyed by the images and not by position: a pair keeps its flip whatever else is drawn.
    keys = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    rates = winner_rates(pairs, run, digits, ink)
    if run.pattern == "annotators":
        numbers = noise.RowGenerator([("annotator", *key) for key in keys], run.seed)
        drawn = np.floor(numbers.random(len(keys)) * len(ANNOTATORS)).astype(int)
        skill = run.mean_rate * np.array(ANNOTATORS)[drawn]
        rates = WinnerRates(skill, skill)
    return noise.flip_each(pairs.labels, *rates, noise.RowGenerator(keys, run.seed))


def compare_orders(runs: Iterable[records.Record], data: "MNIST") -> "pd.DataFrame":
    """How often the rewards learned put the larger digit of two test images first, by pair class.

    A class is the gap of the digits, and whether the larger digit has more ink. Ties count one
    half.

    Args:
        runs: records of study noise_patterns, with the rewards of the first test images at the
            final and at the chosen epoch.
    Returns:
        columns pattern, method, seed, epoch, gap, more_ink, ordered (the share) and pairs.
    Check: tests/studies/test_noise_patterns.py.
    """
    import pandas as pd

    rows = []
    for record in runs:
        metrics = record["metrics"]
        rewards = {"final": metrics["rewards"], "chosen": metrics["chosen"]["rewards"]}
        key = {name: record["config"][name] for name in ("pattern", "method", "seed")}
        for epoch, values in rewards.items():
            for group in _order_classes(np.array(values), data):
                rows.append({**key, "epoch": epoch, **group})
    return pd.DataFrame(rows)


def _order_classes(rewards: Floats, data: "MNIST") -> list[dict[str, float]]:
    """A row per class that the first test images have."""
    count = len(rewards)
    digits = data.test_labels[:count].astype(int)
    ink = data.test_images[:count].mean((1, 2))
    one, other = np.triu_indices(count, 1)
    swap = digits[one] < digits[other]
    larger = np.where(swap, other, one)
    smaller = np.where(swap, one, other)
    gap = digits[larger] - digits[smaller]
    right = (np.sign(rewards[larger] - rewards[smaller]) + 1) / 2
    # Two numbers name a class; gap 0 is no class, since neither digit is the larger.
    cell = 2 * gap + (ink[larger] >= ink[smaller])
    pairs = np.bincount(cell, minlength=20)
    ordered = np.bincount(cell, weights=right, minlength=20)
    return [
        {"gap": place // 2, "more_ink": bool(place % 2), "ordered": share, "pairs": pairs[place]}
        for place, share in enumerate(ordered / np.maximum(pairs, 1))
        if place >= 2 and pairs[place]
    ]
