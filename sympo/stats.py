"""Intervals, paired tests and the rule that turns a contrast into a verdict; scipy and statsmodels
compute.

Methods of one seed share data, pairs, flips, initialisation and batch order, so they are compared
seed by seed.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats


class Interval(NamedTuple):
    """An estimate with its confidence interval, from `n` values."""

    estimate: float
    low: float
    high: float
    n: int


class Difference(NamedTuple):
    """A mean difference with its confidence interval, from `n` pairs, and the two-sided p of "no
    difference".
    """

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
    Check: tests/test_stats.py, by simulated coverage.
    """
    values = _finite("values", values)
    if not 0 < level < 1:
        raise ValueError(
            f"level = {level} is not a coverage: give a number in (0, 1), such as 0.95"
        )
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return Interval(mean, -np.inf, np.inf, n)
    # The mean of equal values may miss them by a rounding error, which would pass for a spread.
    spread = 0.0 if np.ptp(values) == 0 else float(scipy_stats.sem(values))
    half = spread * float(scipy_stats.t.ppf((1 + level) / 2, n - 1))
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Difference:
    """Mean of a − b over pairs, with its t interval and the p of the paired t test.

    Without a spread the test has no t: one pair gives p = 1 (no evidence); equal differences give p
    = 1 if they are 0, else p = 0, the limit of the test as the spread vanishes.

    Args:
        a, b: `(n,)`, in the same order.
        level: the coverage of the interval.
    Raises:
        ValueError: lengths that differ, and what `mean_interval` refuses.
    Check: tests/test_stats.py, against scipy.
    """
    a, b = _finite("a", a), _finite("b", b)
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values and b has {len(b)}: give one of each per pair")
    differences, rounding = a - b, 1e-12 * np.abs([a, b]).max()
    if np.ptp(differences) > rounding:
        return Difference(
            *mean_interval(differences, level=level), float(scipy_stats.ttest_rel(a, b).pvalue)
        )
    # 0.3 − 0.1 and 0.4 − 0.2 differ by a rounding error, which must not pass for a spread.
    shared = 0.0 if abs(differences[0]) <= rounding else float(differences[0])
    no_evidence = len(a) == 1 or shared == 0
    return Difference(
        *mean_interval(np.full(len(a), shared), level=level), 1.0 if no_evidence else 0.0
    )


def holm(p_values: ArrayLike) -> NDArray:
    """The p values adjusted for their number by Holm's step-down method, which bounds the chance of
    any false find.

    Args:
        p_values: `(tests,)`, in [0, 1].
    Returns:
        `(tests,)`, in the order given.
    Raises:
        ValueError: a p value outside [0, 1].
    """
    from statsmodels.stats.multitest import multipletests

    p_values = np.asarray(p_values, dtype=float)
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError("p_values must lie in [0, 1]: give the p of each test, without NaN")
    return multipletests(p_values, method="holm")[1] if p_values.size else p_values


def agree(interval: Interval | Difference, *, margin: float = 0.02) -> bool:
    """Whether the interval of a difference lies inside ±`margin`: too close for the difference to
    matter.

    A wide interval does not agree, whatever its estimate: "no difference was found" is not "there
    is none".
    """
    return bool(-margin <= interval.low and interval.high <= margin)


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's τ_b between two scorings of the same items: 1 for the same order, −1 for the
    reverse.

    It corrects for ties; it is NaN where a scoring gives every item the same score, since there is
    then no order.
    """
    return float(scipy_stats.kendalltau(a, b).statistic)


def compare_rankings(records: Iterable[dict]) -> pd.DataFrame:
    """How alike the rewards of two models rank the same test images, by Kendall's τ.

    Asymmetric noise is compared with its equivalent and with tied noise on the same pairs. The
    yardstick is the equivalent noise on the pairs of the next seed, the first after the last; two
    seeds make one such pair, not two.

    Args:
        records: of study mnist_noise.
    Returns:
        columns method, noise_pair, seed, comparison, tau.
    Raises:
        ValueError: records of one seed only.
    """
    keys = ("method", "noise_pair", "seed", "condition")
    rewards = {tuple(r["config"][key] for key in keys): r["metrics"]["rewards"] for r in records}
    seeds = sorted({seed for _, _, seed, _ in rewards})
    if len(seeds) < 2:
        raise ValueError(
            f"rankings of the seeds {seeds} have no yardstick: give records of at least two seeds"
        )
    following = dict(
        zip(seeds, [*seeds[1:], seeds[0]] if len(seeds) > 2 else seeds[1:], strict=False)
    )
    rows = []
    for method, pair, seed in dict.fromkeys(key[:3] for key in rewards):
        asymmetric, equivalent, tied = (
            rewards[method, pair, seed, condition]
            for condition in ("asymmetric", "equivalent", "tied")
        )
        compared = {"asymmetric, equivalent": (asymmetric, equivalent)}
        if seed in following:
            compared["equivalent, other data"] = (
                equivalent,
                rewards[method, pair, following[seed], "equivalent"],
            )
        compared["asymmetric, tied"] = asymmetric, tied
        rows += [(method, pair, seed, name, kendall(*two)) for name, two in compared.items()]
    return pd.DataFrame(rows, columns=["method", "noise_pair", "seed", "comparison", "tau"])


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """A share with its Wilson score interval, which stays inside [0, 1].

    Raises:
        ValueError: not 0 ≤ successes ≤ n, or n = 0.
    """
    from statsmodels.stats.proportion import proportion_confint

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(
            f"{successes} successes of n = {n} is not a share: give n ≥ 1 and 0 ≤ successes ≤ n"
        )
    low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    return Interval(successes / n, float(low), float(high), n)


def contrasts(
    table: pd.DataFrame,
    *,
    value: str,
    method: str,
    methods: Sequence[str],
    baselines: Sequence[str],
    pair_by: str | list[str] = "seed",
) -> pd.DataFrame:
    """Each of `methods` minus each of `baselines`, paired, with p values that Holm corrects over
    all rows together.

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
    wide = _wide(table, value, method, pair_by, [*methods, *baselines])
    rows = []
    for ours in methods:
        for baseline in baselines:
            pairs = wide[[ours, baseline]].dropna()
            if pairs.empty:
                raise ValueError(
                    f"'{ours}' and '{baseline}' share no {pair_by}: run both for the same ones"
                )
            rows.append([ours, baseline, *paired_difference(pairs[ours], pairs[baseline])])
    result = pd.DataFrame(rows, columns=["method", "baseline", *Difference._fields])
    return result.assign(p_holm=holm(result.p))


def verdict(contrast, *, expected: int = 1, alpha: float = 0.05) -> str:
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
    p = getattr(contrast, "p_holm", getattr(contrast, "p", None))
    significant = p < alpha if p is not None else contrast.low > 0 or contrast.high < 0
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
    outside = difference.low > margin or difference.high < -margin
    return "contradicted" if outside else "not seen at this scale"


def _finite(name: str, values: ArrayLike) -> NDArray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"{name} must be a list of at least one finite number, got {values.tolist()}"
        )
    return values


def _wide(
    table: pd.DataFrame, value: str, method: str, pair_by: str | list[str], needed: list[str]
) -> pd.DataFrame:
    table = table[table[method].isin(needed)]
    if missing := set(needed) - set(table[method]):
        raise ValueError(
            f"the table has no rows whose {method} is {', '.join(sorted(missing))}: run it first"
        )
    keys = [method, pair_by] if isinstance(pair_by, str) else [method, *pair_by]
    if table.duplicated(keys).any():
        raise ValueError(
            f"several rows share {' and '.join(keys)}: filter the table so that one is left"
        )
    if table[value].isna().any():
        raise ValueError(
            f"the column {value} has NaN, and a failed run is not a missing one: make those runs again"
        )
    return table.pivot_table(index=pair_by, columns=method, values=value, aggfunc="first")
