"""The noise rate from triangles of answers that were compared with one another (theory T14)."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from sympo.audit.rates import FEW_CLUSTERS, Rate
from sympo.stats import Interval

__all__ = ["list_triangles", "rate_from_triangles"]

_FEW_LABELS = 10  # ours: on a pair; the variance of fewer is rough
# The sides of a triangle are ab, bc and ac; z is the label of ca.
_TURNED = np.array([1, 1, -1])


def list_triangles(first: ArrayLike, second: ArrayLike) -> NDArray[np.int64]:
    """The triangles of a graph, `(triangles, 3)` of edge numbers: ab, bc and ac for a < b < c.

    Args:
        first, second: `(edges,)`, the ends of each edge, first < second; no edge twice.
    """
    first, second = np.asarray(first), np.asarray(second)
    number = {edge: i for i, edge in enumerate(zip(first.tolist(), second.tolist(), strict=True))}
    above: dict[int, list[int]] = {}
    for a, b in number:
        above.setdefault(a, []).append(b)
    triangles = [
        (number[a, b], number[b, c], number[a, c])
        for a, b in number
        for c in above.get(b, ())
        if (a, c) in number
    ]
    return np.array(triangles, dtype=np.int64).reshape(-1, 3)


def rate_from_triangles(
    first: ArrayLike,
    second: ArrayLike,
    plus: ArrayLike,
    minus: ArrayLike,
    *,
    prompts: ArrayLike | None = None,
) -> Rate:
    """The noise rate from triangles of answers: (1−2ε)² = −xyz/(x+y+z), by least squares.

    x, y, z are the expected signed labels of ab, bc and ca. Over all triangles
    θ = −Σ s·xyz/Σ s², s = x+y+z; both sums are replaced by unbiased estimates, since the squares of
    sample means hold their sampling error. The interval is Fieller's, which owns up to a ratio
    whose denominator may be 0. Its variances are those between prompts, or of the labels within
    pairs where there are fewer than twenty prompts.

    Args:
        first, second: `(pairs,)`, the two answers as numbers, first < second; no pair twice.
        plus, minus: `(pairs,)`, how often the first and the second won: two labels a pair or more.
        prompts: `(pairs,)`, the prompt of each pair; None if all pairs are of one.
    Raises:
        ValueError: a pair with fewer than two labels.
    Source: theory T14; Fieller 1954. Check: tests/library/test_audit_rates.py, by simulated
    coverage.
    """
    plus, minus = np.asarray(plus, dtype=float), np.asarray(minus, dtype=float)
    if len(plus) and (plus + minus).min() < 2:
        raise ValueError("plus + minus must be at least 2 for each pair: leave single labels out")
    triangles = list_triangles(first, second)
    assumes = (
        "Labels follow Bradley–Terry, flipped at one rate. Another link reads noise where there is "
        "none: with gaps of 1 and no flips, .04 for Laplace's and .11 for Cauchy's."
    )
    if not len(triangles):
        nothing = "No three answers of a prompt are compared with one another, twice a pair."
        return Rate("triangles", "estimate", None, assumes, (nothing,))
    sums = _TriangleSums(triangles, plus, minus, prompts)
    limits = sums.limits()
    warnings = []
    if limits is None:
        warnings.append("No noise rate gives such triangles: labels do not follow Bradley–Terry.")
    elif limits == (0, 1):
        warnings.append(
            "Ill-conditioned: the gaps between answers are too small, or the labels too few, to "
            "tell any rate from any other."
        )
    elif sums.is_rough():
        warnings.append(
            f"Fewer than {_FEW_LABELS} labels on a pair and fewer than {FEW_CLUSTERS} prompts: "
            "the interval is rough."
        )
    disagree = sums.gaps_disagree()
    if disagree:
        warnings.append(
            "Triangles of small and of large gaps read different rates: labels do not follow "
            "Bradley–Terry, and the rate that is read is partly a phantom."
        )
    interval = None
    if limits not in (None, (0, 1)):
        low, high = limits
        theta = np.array([np.clip(sums.theta, low, high), high, low])
        rate, least, most = (0.5 - 0.5 * np.sqrt(theta)).tolist()
        interval = Interval(rate, least, most, len(triangles))
    refuted = limits is None or disagree
    return Rate("triangles", "estimate", interval, assumes, tuple(warnings), refuted)


class _TriangleSums:
    """Σ s·xyz and Σ s², unbiased, with their variances."""

    def __init__(
        self,
        triangles: NDArray[np.int64],
        plus: NDArray[Any],
        minus: NDArray[Any],
        prompts: ArrayLike | None,
    ) -> None:
        self._plus, self._minus = plus, minus
        self._labels = plus + minus
        mean = (plus - minus) / self._labels
        self._variance = (1 - mean**2) / (self._labels - 1)  # of the mean, unbiased
        self._triangles = triangles
        self._sides = mean[triangles] * _TURNED
        squares = self._sides**2 - self._variance[triangles]
        x, y, z = self._sides.T
        xx, yy, zz = squares.T
        self.products = xx * y * z + x * yy * z + x * y * zz
        self.squares = xx + yy + zz + 2 * (x * y + y * z + x * z)
        self._prompts = None
        if prompts is not None:
            names, self._prompts = np.unique(
                np.asarray(prompts)[triangles[:, 0]], return_inverse=True
            )
            if len(names) < FEW_CLUSTERS:
                self._prompts = None

    @property
    def theta(self) -> float:
        """(1−2ε)²."""
        return float(-self.products.sum() / self.squares.sum())

    def _between_prompts(self) -> NDArray[np.float64]:
        """The covariance matrix of both sums, by the spread between prompts, `(2, 2)`."""
        assert self._prompts is not None
        sums = np.stack([np.bincount(self._prompts, of) for of in (self.products, self.squares)])
        covariance: NDArray[np.float64] = np.cov(sums) * sums.shape[1]
        return covariance

    def _within_pairs(self, kept: NDArray[np.bool_] | slice) -> NDArray[np.float64]:
        """The covariance matrix of both sums over some triangles, by the pairs' own sampling error.

        Triangles share pairs, so the derivatives with respect to each pair's mean are added up.
        """
        sides = self._sides[kept]
        x, y, z = sides.T
        total = sides.sum(axis=1)
        by_side = np.stack([y * z * (total + x), x * z * (total + y), x * y * (total + z)], axis=1)
        edges = self._triangles[kept].ravel()
        slopes = np.stack(
            [
                np.bincount(edges, (slope * _TURNED).ravel(), len(self._variance))
                for slope in (by_side, 2 * total[:, None])
            ]
        )
        covariance: NDArray[np.float64] = (self._variance * slopes) @ slopes.T
        return covariance

    def limits(self) -> tuple[float, float] | None:
        """The least and the largest θ of Fieller's 95% set in [0, 1]; None if it has none there.

        (0, 1) too where the denominator may be 0: the set is then unbounded, and what little of
        [0, 1] it leaves out is left out by luck.
        """
        groups = None if self._prompts is None else int(self._prompts.max()) + 1
        # Normal where the variances are the labels' own: t with as many degrees as one likes.
        limit = float(scipy_stats.t.isf(0.025, np.inf if groups is None else groups - 1))
        covariance = self._within_pairs(slice(None)) if groups is None else self._between_prompts()
        sums = np.array([self.products.sum(), self.squares.sum()])
        # (N + θD)² ≤ t²(V_NN + 2θV_ND + θ²V_DD): a quadratic in θ that is at most 0.
        (c, b), (_, a) = np.outer(sums, sums) - limit**2 * covariance
        if a <= 0:
            return 0.0, 1.0
        ends = [theta for theta in (0.0, 1.0) if a * theta**2 + 2 * b * theta + c <= 0]
        roots = [root.real for root in np.roots([a, 2 * b, c]) if abs(root.imag) < 1e-9]
        inside = [*ends, *(float(root) for root in roots if 0 <= root <= 1)]
        return (min(inside), max(inside)) if inside else None

    def gaps_disagree(self) -> bool:
        """Whether triangles of small gaps contradict the rate of those of large gaps (p < .01).

        They are sorted by one half of each pair's labels and read by the other: sorting must not
        see the sampling error that is then read.
        """
        if self._labels[self._triangles].min() < 2 * _FEW_LABELS or len(self.squares) < 4:
            return False
        half = (self._labels // 2).astype(int)
        generator = np.random.default_rng(0)
        plus = generator.hypergeometric(self._plus.astype(int), self._minus.astype(int), half)
        sorting = _TriangleSums(self._triangles, plus, half - plus, None)
        rest = (self._plus - plus, self._minus - half + plus)
        reading = _TriangleSums(self._triangles, *rest, None)
        large = sorting.squares > np.median(sorting.squares)
        # θ by the large ones; the small ones then have N + θD = 0. Their own θ would be a ratio of
        # two small numbers.
        theta = -reading.products[large].sum() / reading.squares[large].sum()
        weights = np.array([1, theta])
        n, d = reading.products[~large].sum(), reading.squares[~large].sum()
        variance = weights @ reading._within_pairs(~large) @ weights
        share_of_large = d / reading.squares[large].sum()
        variance += share_of_large**2 * (weights @ reading._within_pairs(large) @ weights)
        return bool(abs(n + theta * d) > scipy_stats.norm.isf(0.005) * np.sqrt(variance))

    def is_rough(self) -> bool:
        """Whether neither the prompts nor the labels of a pair are many."""
        return self._prompts is None and bool(self._labels[self._triangles].min() < _FEW_LABELS)
