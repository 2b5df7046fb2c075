"""Which training labels lie: the same flips for every loss of a seed."""

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit

from sympo import preferences

# Mean rates closer than this to 0 or ½ would need temperatures that are not tried.
EDGE = 1e-9


def near_tie_rates(gaps: ArrayLike, mean_rate: float) -> NDArray[np.float64]:
    """Flip rates σ(−gap/T) of pairs whose scores differ by `gap`, with T such that they average.

    Near ties flip almost half of the time, and pairs far apart hardly ever. The rate is a function
    of the pair alone, as T11 asks: it does not depend on which of the two answers wins.

    Args:
        gaps: `(pairs,)`, each above 0.
        mean_rate: what the rates average to, 0 or in [`EDGE`, ½ − `EDGE`].
    Returns:
        `(pairs,)`.
    Raises:
        ValueError: a gap that is not above 0, no gap at all, or another rate.
    Source: theory T11. Check: notebook 08, tests/studies/test_text_flips.py.
    """
    gaps = np.asarray(gaps, dtype=float)
    if not (gaps > 0).all():
        raise ValueError("a gap is not above 0: a tie has no winner whose label could be flipped")
    if mean_rate == 0:
        return np.zeros(len(gaps))
    if not EDGE <= mean_rate <= 0.5 - EDGE:
        remedy = f"give 0, or one in [{EDGE:g}, ½ − {EDGE:g}]"
        raise ValueError(f"mean_rate = {mean_rate} is no rate of this noise: {remedy}")
    if not len(gaps):
        raise ValueError("no pair has scores, so none is near a tie: take more pairs")

    def excess(log_temperature: float) -> float:
        return float(expit(-gaps / np.exp(log_temperature)).mean()) - mean_rate

    # At the ends every rate is below 1e-20, and within 1e-9 of one half.
    low = np.log(gaps.min() / 50)
    high = np.log(gaps.max() * 1e9)
    return expit(-gaps / np.exp(brentq(excess, low, high, xtol=1e-12)))


def draw_numbers(dataset: Dataset, *, seed: int) -> NDArray[np.float64]:
    """A uniform number for each pair, whose label flips if it is below the pair's rate: `(pairs,)`.

    That is the rule of `noise.flip`, with a rate for each pair: what flips at a low rate flips at a
    higher one too.
    """
    return preferences.row_generator(dataset, seed).random(len(dataset))
