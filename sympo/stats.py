"""Intervals, paired tests and the rule that turns a contrast into a verdict.

Methods of one seed share data, pairs, flips, initialisation and batch order, so they are compared
seed by seed. scipy computes what it has; tests compare the rest with statsmodels.
"""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Difference",
    "Interval",
    "agree",
    "contrasts",
    "holm",
    "kendall",
    "mean_interval",
    "paired_difference",
    "verdict",
    "verdict_agreement",
    "wilson",
]


class Interval(NamedTuple):
    """An estimate with its confidence interval, from `n` values."""

    estimate: float
    low: float
    high: float
    n: int


class Difference(NamedTuple):
    """A mean difference of `n` pairs, its interval, and the two-sided p of "no difference"."""

    estimate: float
    low: float
    high: float
    n: int
    p: float


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean with its t interval, x̄ ± t·s/√n.

    One value says nothing about its spread: its interval is (−∞, ∞). Equal values have an interval
    of no width.

    Args:
        values: `(n,)`.
        level: the coverage, in (0, 1).
    Raises:
        ValueError: no value, a value that is not finite, or a level outside (0, 1).
    Check: tests/library/test_stats.py, by simulated coverage.
    """
    values = _check_finite("values", values)
    _check_level(level)
    mean = float(values.mean())
    n = len(values)
    # scipy's `ttest_1samp(...).confidence_interval()` is NaN, with a warning, in both cases that
    # follow.
    if n == 1:
        return Interval(mean, -np.inf, np.inf, n)
    # The mean of equal values may miss them by a rounding error, which would pass for a spread.
    spread = 0.0 if np.ptp(values) == 0 else float(scipy_stats.sem(values))
    half = spread * float(scipy_stats.t.ppf((1 + level) / 2, n - 1))
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Difference:
    """Mean of a − b over pairs, with its t interval and the p of the paired t test.

    Without a spread the test has no t: one pair gives p = 1 (no evidence); equal differences give
    p = 1 if they are 0, else p = 0, the limit of the test as the spread vanishes.

    Args:
        a, b: `(n,)`, in the same order.
        level: the coverage of the interval.
    Raises:
        ValueError: lengths that differ, and what `mean_interval` refuses.
    Check: tests/library/test_stats.py, against scipy.
    """
    a = _check_finite("a", a)
    b = _check_finite("b", b)
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values and b has {len(b)}: give one of each per pair")

    differences = a - b
    # 0.3 − 0.1 and 0.4 − 0.2 differ by a rounding error, which must not pass for a spread.
    rounding = 1e-12 * np.abs([a, b]).max()
    if np.ptp(differences) > rounding:
        # The interval and the test agree: p < 1 − level exactly where 0 lies outside.
        interval = mean_interval(differences, level=level)
        return Difference(*interval, float(scipy_stats.ttest_rel(a, b).pvalue))

    # All differences are one number, so that there is no t; the docstring says what stands in.
    shared = 0.0 if abs(differences[0]) <= rounding else float(differences[0])
    interval = mean_interval(np.full(len(a), shared), level=level)
    no_evidence = len(a) == 1 or shared == 0
    return Difference(*interval, 1.0 if no_evidence else 0.0)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """The p values adjusted for their number by Holm's step-down method.

    It bounds the chance of any false discovery. scipy has only `false_discovery_control`, which
    bounds their share; statsmodels has it, for the price of a large dependency.

    Args:
        p_values: `(tests,)`, in [0, 1].
    Returns:
        `(tests,)`, in the order of `p_values`.
    Raises:
        ValueError: a p value outside [0, 1].
    Source: Holm 1979. Check: tests/library/test_stats.py, by hand and against statsmodels.
    """
    p_values = np.asarray(p_values, dtype=float)
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError("p_values must lie in [0, 1]: give the p of each test, without NaN")
    # A p of NaN fails the comparison above as well: a test that failed is not one that passed.
    order = np.argsort(p_values)
    # The least p is multiplied by the number of tests, the next by one less; none may come out
    # below the one before it.
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def wilson(successes: float, n: int, *, level: float = 0.95) -> Interval:
    """A share with its Wilson score interval, which stays inside [0, 1].

    scipy's `binomtest` has it for whole numbers of successes only, and a judge's tie counts half.

    Raises:
        ValueError: not 0 ≤ successes ≤ n, or n = 0, or a level outside (0, 1).
    Source: Wilson 1927. Check: tests/library/test_stats.py, by formula and against statsmodels.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(
            f"{successes} successes of n = {n} is not a share: give n ≥ 1 and 0 ≤ successes ≤ n"
        )
    _check_level(level)
    share = successes / n
    z = scipy_stats.norm.isf((1 - level) / 2)
    # The centre is drawn towards ½, as if z² more values had come out half and half.
    shrink = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / shrink
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / shrink
    # At 0 and n successes an end is 0 or 1 but for rounding.
    low, high = np.clip([centre - half, centre + half], 0, 1)
    return Interval(share, float(low), float(high), n)


def agree(interval: Interval | Difference, *, margin: float = 0.02) -> bool:
    """Whether the interval of a difference lies inside ±`margin`: too small to matter.

    A wide interval does not agree, whatever its estimate: "no difference was seen" is not "there
    is none".
    """
    return bool(-margin <= interval.low and interval.high <= margin)


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's τ_b between two scorings of the same items: 1 same order, −1 reversed.

    It corrects for ties; it is NaN where a scoring gives every item the same score, since there is
    then no order.
    """
    return float(scipy_stats.kendalltau(a, b).statistic)


def contrasts(
    table: "pd.DataFrame",
    *,
    value: str,
    method: str,
    methods: Sequence[str],
    baselines: Sequence[str],
    pair_by: str | list[str] = "seed",
) -> "pd.DataFrame":
    """Each of `methods` minus each of `baselines`, paired; Holm corrects p over all rows together.

    Args:
        table: a row per method and pair, with the columns `value`, `method` and `pair_by`.
        value, method: column names.
        pair_by: the column or columns that two rows of a pair share; a pair that lacks one of the
            two is left out.
    Returns:
        columns method, baseline, estimate, low, high, n, p, p_holm; a row per contrast.
    Raises:
        ValueError: a method that the table lacks, two rows for one method and pair, or no pair at
            all.
    """
    import pandas as pd

    # A column per method, so that a difference of columns is a difference of pairs.
    wide = _pivot(table, value, method, pair_by, [*methods, *baselines])
    rows = []
    for ours, baseline in product(methods, baselines):
        pairs = wide[[ours, baseline]].dropna()
        if pairs.empty:
            raise ValueError(
                f"'{ours}' and '{baseline}' share no {pair_by}: run both for the same ones"
            )
        rows.append([ours, baseline, *paired_difference(pairs[ours], pairs[baseline])])
    # Corrected over all contrasts at once: each of them could have been the one reported.
    result = pd.DataFrame(rows, columns=["method", "baseline", *Difference._fields])
    return result.assign(p_holm=holm(result.p))


def verdict(contrast: Any, *, expected: int = 1, alpha: float = 0.05) -> str:
    """The verdict on a claim that a difference has the sign `expected`, by rule.

    "reproduced": significant in the expected direction; "contradicted": significant in the other;
    else "not seen at this scale". Significant means p_holm < alpha for a row of `contrasts`, p <
    alpha for a `Difference`, and that 0 lies outside for an `Interval`.

    Args:
        contrast: has the attribute `estimate`, and `p_holm`, `p`, or `low` and `high`.
        expected: +1 or −1.
    Raises:
        ValueError: `expected` is neither.
    """
    if expected not in (-1, 1):
        raise ValueError(f"expected = {expected} is not a direction: give +1 or −1")
    # The corrected p comes first: a row of `contrasts` has both.
    p = getattr(contrast, "p_holm", getattr(contrast, "p", None))
    significant = p < alpha if p is not None else contrast.low > 0 or contrast.high < 0
    # Absence of evidence says something about the size of the study, and not about the claim.
    if not significant:
        return "not seen at this scale"
    return "reproduced" if contrast.estimate * expected > 0 else "contradicted"


def verdict_agreement(difference: Interval | Difference, *, margin: float = 0.02) -> str:
    """The verdict on a claim that two things are the same, by rule.

    "reproduced": the interval of the difference lies inside ±`margin`; "contradicted": it lies
    outside; else "not seen at this scale".
    """
    if agree(difference, margin=margin):
        return "reproduced"
    # Beyond the margin as a whole; an interval that straddles it decides nothing.
    outside = difference.low > margin or difference.high < -margin
    return "contradicted" if outside else "not seen at this scale"


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(
            f"level = {level} is not a coverage: give a number in (0, 1), such as 0.95"
        )


def _check_finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be a list of at least one finite number, got {array.tolist()}"
        )
    return array


def _pivot(
    table: "pd.DataFrame", value: str, method: str, pair_by: str | list[str], needed: list[str]
) -> "pd.DataFrame":
    """A row per pair and a column per method of `needed`; refuses a table that is not paired."""
    table = table[table[method].isin(needed)]
    # A method that never ran would be an empty column, and its contrast NaN.
    missing = set(needed) - set(table[method])
    if missing:
        raise ValueError(
            f"the table has no rows whose {method} is {', '.join(sorted(missing))}: run it first"
        )
    # Two rows for one method and pair: which of them belongs to the pair cannot be known.
    keys = [method, pair_by] if isinstance(pair_by, str) else [method, *pair_by]
    if table.duplicated(keys).any():
        raise ValueError(
            f"several rows share {' and '.join(keys)}: filter the table so that one is left"
        )
    # pivot_table drops NaN without a word, as if the run had never been asked for.
    if table[value].isna().any():
        raise ValueError(
            f"the column {value} has NaN, and a failed run is not a missing one: "
            "train those runs again"
        )
    return table.pivot_table(index=pair_by, columns=method, values=value, aggfunc="first")
