"""Intervals, paired tests and the rule that turns a contrast into a verdict.

Methods of one seed share data, pairs, flips, initialisation and batch order, so they are compared
seed by seed, and the seed is the unit: rows that share one are averaged before any test. scipy
computes what it has; tests compare the rest with statsmodels.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from scipy import stats as scipy_stats

from sympo._names import show

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FEWEST",
    "Difference",
    "Interval",
    "agree",
    "clustered_mean",
    "contrasts",
    "detectable_difference",
    "holm",
    "kendall",
    "mean_interval",
    "paired_difference",
    "verdict",
    "verdict_agreement",
    "wilson",
    "withhold",
]

# With fewer values than this no interval is printed and no verdict passed: the t interval of two
# is ±6 times their distance, which says nothing and reads as if it did.
FEWEST = 3
# Of the largest value: differences below it are taken for none.
_ROUNDING = 1e-12
# What is detectable has power 0.8, of which any test at a lower level has more with no difference.
_LEAST_LEVEL = 0.2


class Interval(NamedTuple):
    """An estimate with its confidence interval, from `n` values."""

    estimate: float
    low: float
    high: float
    n: int


class Difference(NamedTuple):
    """A mean difference of `n` pairs, its interval, and the two-sided p of "no difference".

    `detectable` is the true difference that such a study would have seen four times in five: that
    of `detectable_difference`.
    """

    estimate: float
    low: float
    high: float
    n: int
    p: float
    detectable: float


AnyInterval = TypeVar("AnyInterval", Interval, Difference)


def mean_interval(values: ArrayLike, *, level: float = 0.95, proportion: bool = False) -> Interval:
    """Mean with its t interval, x̄ ± t·s/√n.

    One value says nothing about its spread: its interval is (−∞, ∞). Equal values have an interval
    of no width.

    Args:
        values: `(n,)`.
        level: the coverage, in (0, 1).
        proportion: whether each value is a proportion, such as an accuracy. Their mean lies in
            [0, 1], so the interval is cut there: what is cut off never held the mean, and no
            coverage is lost.
    Raises:
        ValueError: no value, a value that is not finite, a level outside (0, 1), or a proportion
            outside [0, 1].
    Check: tests/library/test_stats.py, by simulated coverage.
    """
    values = _check_finite("values", values)
    _check_level(level)
    if proportion:
        outside = values[(values < 0) | (values > 1)]
        if outside.size:
            raise ValueError(f"{outside[0]} is no proportion: give values in [0, 1]")
        whole = mean_interval(values, level=level)
        return whole._replace(low=max(whole.low, 0.0), high=min(whole.high, 1.0))
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
        level: the coverage of the interval. What was `detectable` is said of the test at the level
            1 − `level`, which rejects where 0 lies outside the interval.
    Raises:
        ValueError: lengths that differ, a level that is not in (0.2, 1), and what `mean_interval`
            refuses.
    Check: tests/library/test_stats.py, against scipy.
    """
    _check_level(level, above=_LEAST_LEVEL)
    a = _check_finite("a", a)
    b = _check_finite("b", b)
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values and b has {len(b)}: give one of each per pair")

    differences = a - b
    # 0.3 − 0.1 and 0.4 − 0.2 differ by a rounding error, which must not pass for a spread.
    rounding = _ROUNDING * np.abs([a, b]).max()
    if np.ptp(differences) > rounding:
        # The interval and the test agree: p < 1 − level exactly where 0 lies outside.
        interval = mean_interval(differences, level=level)
        spread = float(differences.std(ddof=1))
        detectable = detectable_difference(spread, len(a), alpha=1 - level)
        return Difference(*interval, float(scipy_stats.ttest_rel(a, b).pvalue), detectable)

    # All differences are one number, so that there is no t; the docstring says what stands in.
    shared = 0.0 if abs(differences[0]) <= rounding else float(differences[0])
    interval = mean_interval(np.full(len(a), shared), level=level)
    no_evidence = len(a) == 1 or shared == 0
    detectable = detectable_difference(0.0, len(a), alpha=1 - level)
    return Difference(*interval, 1.0 if no_evidence else 0.0, detectable)


def clustered_mean(values: ArrayLike, clusters: ArrayLike, *, level: float = 0.95) -> Difference:
    """Mean of values that come in clusters, such as the test pairs of one prompt, x̄ ± t·s.

    s² = G/(G − 1)·Σ_g (Σ_{i∈g} (x_i − x̄))²/N², and t has G − 1 degrees of freedom: what is drawn at
    random are the G clusters, not the N values. With one value per cluster it is `mean_interval`.

    Args:
        values: `(n,)`.
        clusters: `(n,)`, the name of each value's cluster.
    Returns:
        n is the number of clusters, and p the two-sided p of "the mean is 0".
    Raises:
        ValueError: fewer than two clusters, another number of names than values, a level that is
            not in (0.2, 1), and what `mean_interval` refuses.
    Source: Liang and Zeger 1986. Check: tests/library/test_stats.py, against statsmodels.
    """
    values = _check_finite("values", values)
    _check_level(level, above=_LEAST_LEVEL)
    clusters = np.asarray(clusters)
    if clusters.shape != values.shape:
        raise ValueError(
            f"clusters has {clusters.size} names for {len(values)} values: give one of each"
        )
    names, members = np.unique(clusters, return_inverse=True)
    n = len(names)
    if n < 2:
        raise ValueError(f"clusters has {n} different names: give at least two")
    # What sums of values that cancel miss 0 by must pass neither for a mean nor for a spread.
    rounding = _ROUNDING * float(np.abs(values).max())
    mean = float(values.mean())
    mean = 0.0 if abs(mean) <= rounding else mean
    sums = np.bincount(members, weights=values - mean)
    cancel = np.abs(sums).max() <= rounding * len(values)
    squares = 0.0 if cancel else float((sums**2).sum())
    # of a mean over n independent values with this spread
    spread = math.sqrt(n**2 / (n - 1) * squares) / len(values)
    error = spread / math.sqrt(n)
    half = error * float(scipy_stats.t.ppf((1 + level) / 2, n - 1))
    if error == 0:
        p = 1.0 if mean == 0 else 0.0
    else:
        p = float(2 * scipy_stats.t.sf(abs(mean) / error, n - 1))
    detectable = detectable_difference(spread, n, alpha=1 - level)
    return Difference(mean, mean - half, mean + half, n, p, detectable)


def detectable_difference(
    spread: float, n: int, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The smallest true mean difference that a paired t test would have seen.

    It is the δ at which the two-sided test at the level `alpha` rejects with probability `power`:
    P(|T| > t) = power, where T is noncentral t with n − 1 degrees of freedom and noncentrality
    δ·√n/spread, and t is the critical value. A study that saw nothing has said something about
    differences of that size, and little about smaller ones. It holds for a test on its own: Holm's
    correction takes more.

    Args:
        spread: the standard deviation of the differences.
        n: the number of pairs.
    Returns:
        δ, in the units of `spread`: 0 where the differences have no spread, ∞ for one pair, which
        no test can use.
    Raises:
        ValueError: a negative or infinite spread, n < 1, or not 0 < alpha < power < 1.
    Source: Cohen 1988, chapter 2. Check: tests/library/test_stats.py, by simulation and against
    statsmodels.
    """
    if not (0 <= spread < np.inf and n >= 1):
        raise ValueError(f"spread = {spread} and n = {n}: give a finite spread ≥ 0 and n ≥ 1")
    if not 0 < alpha < power < 1:
        raise ValueError(f"alpha = {alpha} and power = {power}: give 0 < alpha < power < 1")
    if n == 1:
        return np.inf
    df = n - 1
    critical = scipy_stats.t.isf(alpha / 2, df)

    def lack(noncentrality: float) -> float:
        upper = scipy_stats.nct.sf(critical, df, noncentrality)
        # −T has the opposite noncentrality; scipy's `cdf` is NaN so far out in the lower tail.
        lower = scipy_stats.nct.sf(critical, df, -noncentrality)
        return float(power - upper - lower)

    # At 0 the power is alpha, too little. It is enough where T exceeds t unless Z lies below its
    # own quantile or S above its own, each of which happens with probability (1 − power)/2;
    # T = (Z + noncentrality)/S.
    rare = (1 - power) / 2
    enough = scipy_stats.norm.isf(rare) + critical * scipy_stats.chi.isf(rare, df) / np.sqrt(df)
    return float(optimize.brentq(lack, 0, enough) * spread / np.sqrt(n))


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
    # At 0 and n successes an end is 0 or 1 but for rounding, which may leave out the share itself.
    low = min(max(float(centre - half), 0.0), share)
    high = max(min(float(centre + half), 1.0), share)
    return Interval(share, low, high, n)


def agree(interval: Any, *, margin: float = 0.02) -> bool:
    """Whether the interval of a difference lies inside ±`margin`: too small to matter.

    A wide interval does not agree, whatever its estimate: "no difference was seen" is not "there
    is none".
    """
    return bool(-margin <= interval.low and interval.high <= margin)


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's τ_b between two scorings of the same items: 1 same order, −1 reversed.

    It corrects for ties; it is NaN where a scoring gives every item the same score, since there is
    then no order.

    Args:
        a, b: `(items,)`.
    Raises:
        ValueError: lengths that differ.
    Check: tests/library/test_stats.py, by hand.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(
            f"a has {np.size(a)} scores and b has {np.size(b)}: give one of each per item"
        )
    return float(scipy_stats.kendalltau(a, b).statistic)


def contrasts(
    table: "pd.DataFrame",
    *,
    value: str,
    method: str,
    methods: Sequence[str],
    baselines: Sequence[str],
    pair_by: str = "seed",
) -> "pd.DataFrame":
    """Each of `methods` minus each of `baselines`, paired; Holm corrects p over all rows together.

    With one or two pairs a row has its estimate and n only, the rest is NaN; it is no test, and
    Holm does not count it.

    Args:
        table: a row per method and pair, with the columns `value`, `method` and `pair_by`.
        value, method: column names.
        pair_by: the column that names the unit, which the two rows of a pair share. There is one:
            rows of one seed that differ in a rate or a loss share its data, and are no
            independent pairs. A pair that lacks one of its two rows is left out.
    Returns:
        columns method, baseline, estimate, low, high, n, p, detectable, p_holm; a row per contrast.
    Raises:
        ValueError: a column or a method that the table lacks, a method that is a baseline too, two
            rows for one method and pair, no pair at all, or several columns to pair by.
    """
    import pandas as pd

    if not isinstance(pair_by, str):
        others = ", ".join(name for name in pair_by if name != "seed")
        raise ValueError(
            f"pair_by = {pair_by} takes rows of one seed for independent pairs: "
            f"average over {others} within a seed first, and pair by the seed alone"
        )
    for column in (value, method, pair_by):
        if column not in table.columns:
            known = ", ".join(map(str, table.columns))
            raise ValueError(f"the table has no column {show(column)}: give one of {known}")
    both = [name for name in methods if name in baselines]
    if both:
        raise ValueError(
            f"{show(both[0])} is among methods and among baselines: leave it out of one of the two"
        )
    # A column per method, so that a difference of columns is a difference of pairs.
    wide = _pivot(table, value, method, pair_by, [*methods, *baselines])
    rows = []
    for ours, baseline in product(methods, baselines):
        pairs = wide[[ours, baseline]].dropna()
        if pairs.empty:
            raise ValueError(
                f"'{ours}' and '{baseline}' share no {pair_by}: run both for the same ones"
            )
        rows.append([ours, baseline, *withhold(paired_difference(pairs[ours], pairs[baseline]))])
    # Corrected over all contrasts at once: each of them could have been the one reported.
    result = pd.DataFrame(rows, columns=["method", "baseline", *Difference._fields])
    tested = result.p.notna()
    p_holm = pd.Series(np.nan, index=result.index)
    p_holm[tested] = holm(result.p[tested])
    return result.assign(p_holm=p_holm)


def withhold(result: AnyInterval) -> AnyInterval:
    """`result` as it may be printed: of one or two values the estimate and n, the rest NaN.

    The t interval of two values is ±6 times their distance, and often far outside of what is
    possible. A reader is better served by the two values.
    """
    if result.n >= FEWEST:
        return result
    inferred: dict[str, Any] = dict.fromkeys({*result._fields} - {"estimate", "n"}, np.nan)
    return result._replace(**inferred)


def verdict(contrast: Any, *, expected: int = 1, margin: float = 0.02, alpha: float = 0.05) -> str:
    """The verdict on a claim that a difference has the sign `expected`, by rule.

    The first of these that holds:

    1. "not seen at this scale": fewer than three pairs, of which no interval is printed.
    2. "no difference larger than 0.02", where `margin` is 0.02: the interval lies inside ±`margin`.
       It comes before significance, since with enough seeds any difference is significant, and one
       that is shown to be too small to matter is no replication.
    3. "reproduced", "contradicted": significant in the expected or in the other direction. This
       means p_holm < alpha for a row of `contrasts`, p < alpha for a `Difference`, and that 0 lies
       outside for an `Interval`.
    4. "not seen at this scale": neither, so that the study was too small to tell.

    Args:
        contrast: has the attributes `estimate`, `low`, `high` and `n`, and perhaps `p_holm` or `p`.
        expected: +1 or −1.
        margin: the largest difference that does not matter, named before the run.
    Raises:
        ValueError: `expected` is neither.
    """
    if expected not in (-1, 1):
        raise ValueError(f"expected = {expected} is not a direction: give +1 or −1")
    if contrast.n < FEWEST:
        return "not seen at this scale"
    if agree(contrast, margin=margin):
        return f"no difference larger than {margin:g}"
    # The corrected p comes first: a row of `contrasts` has both.
    p = getattr(contrast, "p_holm", getattr(contrast, "p", None))
    significant = p < alpha if p is not None else contrast.low > 0 or contrast.high < 0
    # Absence of evidence says something about the size of the study, and not about the claim.
    if not significant:
        return "not seen at this scale"
    return "reproduced" if contrast.estimate * expected > 0 else "contradicted"


def verdict_agreement(
    difference: Interval | Difference, *, learned: bool, margin: float = 0.02
) -> str:
    """The verdict on a claim that two things are the same, by rule.

    "reproduced": the interval of the difference lies inside ±`margin`, and something was learned;
    "contradicted": it lies outside; else "not seen at this scale", as with fewer than three pairs.

    Args:
        learned: whether both were better than chance by an amount stated before the run. Two
            models that learned nothing agree, and say nothing about the claim.
    """
    if difference.n < FEWEST:
        return "not seen at this scale"
    if agree(difference, margin=margin):
        return "reproduced" if learned else "not seen at this scale"
    # Beyond the margin as a whole; an interval that straddles it decides nothing.
    outside = difference.low > margin or difference.high < -margin
    return "contradicted" if outside else "not seen at this scale"


def _check_level(level: float, *, above: float = 0) -> None:
    if not above < level < 1:
        raise ValueError(f"level = {level}: give a number in ({above:g}, 1), such as 0.95")


def _check_finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"{name} must be a list of at least one finite number, got {show(array.tolist())}"
        )
    infinite = np.flatnonzero(~np.isfinite(array))
    if infinite.size:
        first = infinite[0]
        raise ValueError(
            f"{name} must be a list of at least one finite number, and {name}[{first}] = "
            f"{array[first]}"
        )
    return array


def _pivot(
    table: "pd.DataFrame", value: str, method: str, pair_by: str, needed: list[str]
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
    if table.duplicated([method, pair_by]).any():
        raise ValueError(
            f"several rows share {method} and {pair_by}: filter the table, or average over what "
            "they differ in, so that one is left"
        )
    # pivot_table drops NaN without a word, as if the run had never been asked for.
    failed = table[table[value].isna()]
    if len(failed):
        runs = ", ".join(
            f"{name} of {pair_by} {key}" for name, key in failed[[method, pair_by]].to_numpy()
        )
        raise ValueError(
            f"the column {value} has NaN for {runs}, and a failed run is not a missing one: "
            "train those runs again"
        )
    return table.pivot_table(index=pair_by, columns=method, values=value, aggfunc="first")
