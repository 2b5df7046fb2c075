"""Magnitudes from several pairs of answers, flipped at one rate that nobody told (theory T14).

What the notebook argues with, the thermometer itself, is defined there. Here is the fit that takes
all pairs of a set of answers at once.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from sympo.noise import check_rates
from sympo.stats import Interval

Floats = NDArray[np.float64]

# Fisher's scoring takes about ten steps; where the likelihood has no maximum it takes all of them.
_STEPS = 200
_SINGULAR = 1e12


class Magnitudes(NamedTuple):
    """Gaps between answers, and the noise rate, as far as labels of several pairs tell them.

    Attributes:
        gaps: a row per pair, columns estimate, low, high: r(first) − r(second), in units of the
            logistic link's scale.
        noise_rate: with its 95% limits, from n pairs; limits of no width if it was told.
    """

    gaps: pd.DataFrame
    noise_rate: Interval


def fit_magnitudes(
    first: ArrayLike,
    second: ArrayLike,
    plus: ArrayLike,
    minus: ArrayLike,
    *,
    noise_rate: float | None = None,
) -> Magnitudes:
    """The gaps of greatest likelihood, P(ỹ = +1) = ½ + ½·(1−2ε)·tanh(gap/2), with 95% intervals.

    They are Wald's, from the expected information on rewards and ε together: what is not known of ε
    widens the intervals of the gaps. Labels may by luck look cleaner than clean; ε is then fitted
    below 0, and only its limits are cut there.

    Args:
        first, second: `(pairs,)`, the two answers as numbers from 0; none is compared with no
            other.
        plus, minus: `(pairs,)`, how often the first and the second won.
        noise_rate: ε if it is known; else it is fitted, which takes a triangle.
    Raises:
        ValueError: labels or pairs that leave a gap or the rate open, or a rate of ½ or more.
    Source: theory T14. Check: notebook 13, tests/book/test_thermometer.py, by simulated coverage.
    """
    if noise_rate is not None:
        check_rates(noise_rate, noise_rate)
    plus, minus = np.asarray(plus, dtype=float), np.asarray(minus, dtype=float)
    model = _Model(np.asarray(first), np.asarray(second), noise_rate)
    parameters = model.maximise(plus, minus)
    covariance = np.linalg.inv(model.information(parameters, plus + minus))
    # Each gap, and ε, is a linear function of the parameters.
    estimates = model.outputs @ parameters + model.shift
    errors = np.sqrt(np.einsum("pi,ij,pj->p", model.outputs, covariance, model.outputs))
    half = scipy_stats.norm.isf(0.025) * errors
    table = pd.DataFrame({"estimate": estimates, "low": estimates - half, "high": estimates + half})
    rate = table.iloc[-1]
    low, high = np.clip([rate.low, rate.high], 0, 0.5).tolist()
    return Magnitudes(table.iloc[:-1], Interval(float(rate.estimate), low, high, len(plus)))


class _Model:
    """P(ỹ = +1) of each pair as a function of the rewards and of k = 1−2ε, unless ε is told.

    Attributes:
        outputs, shift: `(pairs + 1, parameters)` and `(pairs + 1,)`: the gaps, and ε after them, as
            functions of the parameters.
    """

    def __init__(
        self, first: NDArray[np.int64], second: NDArray[np.int64], noise_rate: float | None
    ) -> None:
        one_each = np.eye(max(first.max(), second.max()) + 1)
        # Labels tell differences alone: the reward of the first answer stays at 0.
        self._contrasts = (one_each[first] - one_each[second])[:, 1:]
        self._told = None if noise_rate is None else 1 - 2 * noise_rate
        pairs, rewards = self._contrasts.shape
        free = self._told is None
        self.outputs = np.zeros((pairs + 1, rewards + free))
        self.outputs[:-1, :rewards] = self._contrasts
        self.shift = np.zeros(pairs + 1)
        self.shift[-1] = 0.5 if noise_rate is None else noise_rate
        if free:
            self.outputs[-1, -1] = -0.5

    def _split(self, parameters: Floats) -> tuple[Floats, float]:
        """The tanh(gap/2) of each pair, and k."""
        rewards = parameters[: self._contrasts.shape[1]]
        k = parameters[-1] if self._told is None else self._told
        return np.tanh(self._contrasts @ rewards / 2), float(k)

    def _probabilities(self, parameters: Floats) -> Floats:
        tanh, k = self._split(parameters)
        return 0.5 + 0.5 * k * tanh

    def _slopes(self, parameters: Floats) -> Floats:
        """The derivatives of the probabilities, `(pairs, parameters)`."""
        tanh, k = self._split(parameters)
        by_reward = 0.25 * k * (1 - tanh**2)[:, None] * self._contrasts
        return by_reward if self._told is not None else np.column_stack([by_reward, tanh / 2])

    def information(self, parameters: Floats, labels: Floats) -> Floats:
        """Fisher's information on the parameters, from so many labels of each pair."""
        p = self._probabilities(parameters)
        slopes = self._slopes(parameters)
        information: Floats = slopes.T @ ((labels / (p * (1 - p)))[:, None] * slopes)
        return information

    def _log_likelihood(self, parameters: Floats, plus: Floats, minus: Floats) -> float:
        p = self._probabilities(parameters)
        # While ε is fitted a step may lead to probabilities that are none.
        if p.min() <= 0 or p.max() >= 1:
            return -np.inf
        return float(plus @ np.log(p) + minus @ np.log1p(-p))

    def _start(self, mean: Floats) -> Floats:
        """Rewards that explain the mean labels roughly, and a k somewhat above the largest."""
        k = min(1.0, 1.1 * float(np.abs(mean).max())) if self._told is None else self._told
        wishes = 2 * np.arctanh(np.clip(mean / k, -0.95, 0.95))
        rewards = np.linalg.lstsq(self._contrasts, wishes, rcond=None)[0]
        return np.append(rewards, k) if self._told is None else rewards

    def maximise(self, plus: Floats, minus: Floats) -> Floats:
        """The parameters of greatest likelihood, by Fisher's scoring with steps cut short."""
        parameters = self._start((plus - minus) / (plus + minus))
        for _ in range(_STEPS):
            p = self._probabilities(parameters)
            score = self._slopes(parameters).T @ ((plus * (1 - p) - minus * p) / (p * (1 - p)))
            information = self.information(parameters, plus + minus)
            if np.linalg.cond(information) > _SINGULAR:
                break
            step = np.linalg.solve(information, score)
            gain = score @ step
            if gain < 1e-18:
                return parameters
            here = self._log_likelihood(parameters, plus, minus)
            # A gain within rounding cannot be seen, and so near the end full steps are right.
            while gain > 1e-9 and self._log_likelihood(parameters + step, plus, minus) < here:
                step = step / 2
            parameters = parameters + step
        raise ValueError(
            "the labels leave a gap or the noise rate open: give more labels, pairs that close "
            "triangles, answers less far apart, or the noise rate"
        )
