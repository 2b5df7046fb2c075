"""The machinery of notebook 14: all empirical ramp minimisers, and numbers of labels and pairs.

What the notebook argues with, its bounds and its majority vote, is defined in the notebook itself.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.stats import binom

from sympo import stats
from sympo.book.contrasts import describe_difference
from sympo.book.figures.style import in_order, label
from sympo.book.theory import compute_gaps

Floats = NDArray[np.float64]

# (labels, noise rate, η) → the values of the axes by name
Place = Callable[[float, float, float], Mapping[str, float]]
# How many data sets are compared with the whole grid at once: bounds the memory.
_CHUNK = 2_000
# On each piece of ramp: its slope, its intercept, and the scores that the piece covers.
_RAMP_PIECES = ((0.0, 1.0, -np.inf, -1.0), (-0.5, 0.5, -1.0, 1.0), (0.0, 0.0, 1.0, np.inf))

# Every minimiser of an empirical ramp risk


def find_misordered(net_wins: ArrayLike, *, step: float = 0.25) -> NDArray[np.bool_]:
    """Whether some minimiser of the empirical ramp risk lacks the order a₁ ≻ a₂ ≻ …, by a grid.

    Up to a constant the risk is Σ d_ij·ramp(r_i − r_j), where d_ij is the number of labels for i
    less that for j. It is linear between the kinks r_i − r_j = ±1. The minimisers with r_i ≤ r_j,
    if there are any, fill a polyhedron whose sides are at whole differences, so that one of them
    is whole, and on the grid. All numbers are multiples of 2⁻³: risks are compared exactly.

    Args:
        net_wins: `(data sets, pairs)`, d_ij in the order of `compute_gaps`, whole numbers.
        step: of the grid; a power of ½, at most 1.
    Returns:
        `(data sets,)`.
    Check: tests/book/test_samples.py, by linear programs.
    """
    net_wins = np.atleast_2d(np.asarray(net_wins, dtype=float))
    actions = int(np.sqrt(2 * net_wins.shape[1])) + 1
    # A shift changes nothing, so the least reward is 0; the greatest step that matters is 1.
    values = np.arange(0, actions - 1 + step, step)
    grid = np.array([point for point in product(values, repeat=actions) if min(point) == 0])
    ramp = np.clip(0.5 - compute_gaps(grid) / 2, 0, 1).T
    ordered = (np.diff(grid) < 0).all(axis=1)
    parts = []
    for start in range(0, len(net_wins), _CHUNK):
        risk = net_wins[start : start + _CHUNK] @ ramp
        parts.append(risk[:, ~ordered].min(axis=1) <= risk[:, ordered].min(axis=1))
    return np.concatenate(parts)


def solve_ramp(net_wins: ArrayLike, *, tied_or_reversed: tuple[int, int] | None = None) -> float:
    """The least empirical ramp risk Σ d_ij·ramp(r_i − r_j) over all rewards, by linear programs.

    Each score lies on one of the three pieces of ramp; on every choice of pieces the risk is
    linear, and the least of their minima is the minimum.

    Args:
        net_wins: `(pairs,)`, as for `find_misordered`.
        tied_or_reversed: a pair (i, j) for which r_i ≤ r_j is demanded.
    Check: tests/book/test_samples.py, by a grid.
    """
    net_wins = np.asarray(net_wins, dtype=float)
    actions = int(np.sqrt(2 * len(net_wins))) + 1
    scores = compute_gaps(np.eye(actions)).T
    demands, limits = [], []
    if tied_or_reversed:
        upper, lower = tied_or_reversed
        demands, limits = [np.eye(actions)[upper] - np.eye(actions)[lower]], [0.0]
    best = np.inf
    for pieces in product(_RAMP_PIECES, repeat=len(net_wins)):
        slope, intercept, low, high = np.array(pieces).T
        rows = np.array([*scores, *-scores, *demands])
        bounds = np.array([*high, *-low, *limits])
        finite = np.isfinite(bounds)
        solved = linprog(
            (net_wins * slope) @ scores,
            A_ub=rows[finite],
            b_ub=bounds[finite],
            bounds=(0, 2 * actions),  # room for every step of 1, and a shift changes nothing
        )
        if solved.status == 0:  # else no reward has its scores on these pieces
            best = min(best, float(solved.fun + net_wins @ intercept))
    return best


# Numbers of labels


def labels_needed(margin: float, error: float) -> float:
    """The labels after which a majority vote errs with probability `error`.

    P(error) at odd numbers of labels, its logarithm interpolated in between: an even number adds
    only ties.

    Args:
        margin: m, where a label is right with probability (1 + m)/2; above 0.
        error: below (1 − m)/2, the error of one label.
    Raises:
        ValueError: m is not in (0, 1), or one label errs less than `error`.
    Check: tests/book/test_samples.py.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin = {margin}: give a number in (0, 1)")
    if error > (1 - margin) / 2:
        raise ValueError(f"error = {error} is above that of one label: give a smaller one")
    most = 64
    while binom.cdf(most, 2 * most + 1, (1 + margin) / 2) > error:
        most *= 2
    odd = np.arange(1, 2 * most + 2, 2)
    log_error = binom.logcdf(odd // 2, odd, (1 + margin) / 2)
    # np.interp wants its x in ascending order, and errors fall
    return float(np.interp(np.log(error), log_error[::-1], odd[::-1]))


def tabulate_spreads(
    place: Place,
    *,
    etas: Iterable[float],
    errors: Iterable[float],
    noise_rates: Sequence[float],
) -> pd.DataFrame:
    """How far apart the noise rates lie on each axis where a vote errs equally often.

    Args:
        place: gives the axes at a number of labels, a noise rate and an η.
    Returns:
        columns eta, error, rates (how many count: where one label errs less often than `error`,
        no number of labels errs as often), then for each axis its largest value over its least.
    Check: tests/book/test_samples.py.
    """
    rows = []
    for eta, error in product(etas, errors):
        margins = {rate: (1 - 2 * rate) * (2 * eta - 1) for rate in noise_rates}
        able = {rate: margin for rate, margin in margins.items() if (1 - margin) / 2 > error}
        at = pd.DataFrame(
            [place(labels_needed(margin, error), rate, eta) for rate, margin in able.items()]
        )
        rows.append({"eta": eta, "error": error, "rates": len(able), **(at.max() / at.min())})
    return pd.DataFrame(rows)


def tabulate_votes(
    place: Place, *, eta: float, noise_rates: Iterable[float], least: float
) -> pd.DataFrame:
    """The exact error of a vote of 1, 3, … labels, as long as it exceeds `least`.

    Args:
        place: as for `tabulate_spreads`.
    Returns:
        columns eta, noise_rate, labels, error, then the axes.
    """
    rows = []
    for rate in noise_rates:
        margin = (1 - 2 * rate) * (2 * eta - 1)
        for labels in range(1, math.ceil(labels_needed(margin, least)), 2):
            error = float(binom.cdf(labels // 2, labels, (1 + margin) / 2))
            about = {"eta": eta, "noise_rate": rate, "labels": labels, "error": error}
            rows.append({**about, **place(labels, rate, eta)})
    return pd.DataFrame(rows)


# Numbers of pairs in a study


def invert_curve(pairs: ArrayLike, accuracy: ArrayLike, target: float) -> float:
    """The number of pairs at which a learning curve first reaches `target`.

    Linear in the logarithm of the pairs between sizes that were measured.

    Args:
        pairs: `(sizes,)`, ascending.
        accuracy: `(sizes,)`.
    Returns:
        NaN where no size reaches the target; the first size where it is reached there.
    Check: tests/book/test_samples.py.
    """
    log_pairs = np.log(np.asarray(pairs, dtype=float))
    accuracy = np.asarray(accuracy, dtype=float)
    reached = np.flatnonzero(accuracy >= target)
    if len(reached) == 0:
        return float("nan")
    last = reached[0]
    if last == 0:
        return float(np.exp(log_pairs[0]))
    # from the size below, whose accuracy is short of the target
    ends = slice(last - 1, last + 1)
    return float(np.exp(np.interp(target, accuracy[ends], log_pairs[ends])))


def tabulate_prices(
    table: pd.DataFrame, *, values: Mapping[str, str], prices: Mapping[float, float]
) -> pd.DataFrame:
    """How many times as many noisy pairs give the accuracy of clean ones, seed by seed.

    The target of a seed is its own accuracy on clean pairs, and its factor comes from its own
    noisy curve. The interval is that of the factor's logarithm over seeds; where a seed does not
    reach its target there is none, as leaving it out would flatter.

    Args:
        table: columns method, noise_rate, pairs, seed and those of `values`.
        values: the column of accuracies of each epoch.
        prices: the predicted factor of each noise rate.
    Returns:
        columns epoch, method, noise_rate, clean_pairs, estimate, low, high, n, predicted, reached
        (seeds that do) and asked (the largest factor that could have been seen). Rows whose
        prediction the study cannot reach are left out.
    Check: tests/book/test_samples.py.
    """
    clean = table[table.noise_rate == 0].set_index(["method", "pairs", "seed"])
    cells = table[table.noise_rate > 0].groupby(["method", "noise_rate"])
    rows = []
    for (epoch, value), ((method, rate), noisy) in product(values.items(), cells):
        curves = {seed: each.sort_values("pairs") for seed, each in noisy.groupby("seed")}
        for size in sorted(noisy.pairs.unique()):
            largest = noisy.pairs.max() / size
            if largest < prices[rate] * (1 - 1e-9):
                continue
            factors = [
                invert_curve(curve.pairs, curve[value], clean[value][method, size, seed]) / size
                for seed, curve in curves.items()
            ]
            interval = _geometric_interval(np.array(factors))
            reached = int(np.isfinite(factors).sum())
            rows.append([epoch, method, rate, size, *interval, prices[rate], reached, largest])
    names = ["epoch", "method", "noise_rate", "clean_pairs"]
    rest = ["predicted", "reached", "asked"]
    return pd.DataFrame(rows, columns=[*names, *stats.Interval._fields, *rest])


def write_prices(prices: pd.DataFrame, *, vote: Mapping[float, float]) -> str:
    """The factors of `tabulate_prices` in Markdown, a row per noise rate, beside (1 − 2ε)⁻².

    Args:
        prices: of one epoch.
        vote: the factor of a single majority vote at each noise rate that is shown.
    """
    methods = in_order(prices.method)
    measured = "".join(f" {label(name)}, measured |" for name in methods)
    lines = [f"| ε | predicted | one vote |{measured}", "|" + "---|" * (3 + len(methods))]
    for rate, factor in vote.items():
        cells = [f"{rate:g}", f"{(1 - 2 * rate) ** -2:.1f}", f"{factor:.1f}"]
        for name in methods:
            rows = prices[(prices.method == name) & (prices.noise_rate == rate)]
            cells.append("; ".join(map(_describe_price, rows.itertuples())) or "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe_price(row: Any) -> str:
    of = f"of {row.clean_pairs:,}"
    if np.isnan(row.estimate):
        missed = f"{row.n - row.reached} of {row.n} seeds"
        return f"not reached, so above {row.asked:.0f}, in {missed} ({of})"
    interval = f", {row.low:.1f} to {row.high:.1f}" if row.n >= stats.FEWEST else ""
    return f"{row.estimate:.1f} ({of}{interval})"


def compare_matched(
    table: pd.DataFrame, *, values: Mapping[str, str], learned: float = 0.6
) -> pd.DataFrame:
    """Accuracy of n noisy pairs minus that of n·(1 − 2ε)² clean ones, where both were run.

    Args:
        table, values: as for `tabulate_prices`.
        learned: what both must exceed for "they agree" to mean something.
    Returns:
        columns epoch, set ("largest" where n is the most that was run, or "smaller"), method,
        noise_rate, pairs, clean_pairs, those of `stats.Difference`, verdict
        (`stats.verdict_agreement`), and p_holm, corrected over all rows.
    Check: tests/book/test_samples.py.
    """
    clean = table[table.noise_rate == 0].set_index(["method", "pairs"])
    sizes = table[table.noise_rate > 0].groupby(["method", "noise_rate", "pairs"])
    rows = []
    for (epoch, value), ((method, rate, size), noisy) in product(values.items(), sizes):
        worth = size * (1 - 2 * rate) ** 2
        # in decimals ¼ of 1,000 may be 249.99…
        if not np.isclose(worth, round(worth)) or (method, round(worth)) not in clean.index:
            continue
        pair = [each.set_index("seed")[value] for each in (noisy, clean.loc[method, round(worth)])]
        difference = stats.withhold(stats.paired_difference(pair[0], pair[1][pair[0].index]))
        both = min(each.mean() for each in pair) > learned
        agreement = stats.verdict_agreement(difference, learned=both)
        which = "largest" if size == table.pairs.max() else "smaller"
        rows.append([epoch, which, method, rate, size, round(worth), *difference, agreement])
    names = ["epoch", "set", "method", "noise_rate", "pairs", "clean_pairs"]
    result = pd.DataFrame(rows, columns=[*names, *stats.Difference._fields, "verdict"])
    return result.assign(p_holm=stats.holm(result.p) if result.p.notna().all() else np.nan)


def describe_matched(collapse: pd.DataFrame) -> str:
    """A list item per row of `compare_matched`, in Markdown: the difference and its verdict."""
    lines = [
        f"- {row.epoch} epoch, {label(row.method)}: {row.pairs:,} pairs at ε = {row.noise_rate:g} "
        f"− {row.clean_pairs:,} clean ones = {describe_difference(row)}: **{row.verdict}**."
        for row in collapse.itertuples()
    ]
    return "\n".join(lines)


def describe_noisy(table: pd.DataFrame) -> str:
    """A list item, in Markdown, for each two noise rates above 0 with sets of one n·(1 − 2ε)².

    Args:
        table: columns seed, method, noise_rate, pairs, accuracy.
    Returns:
        the accuracy of the noisier set minus that of the other, with its interval over seeds; a
        sentence where there are no such sets.
    Check: tests/book/test_samples.py.
    """
    noisy = table[table.noise_rate > 0]
    # in decimals ¼ of 1,000 may be 249.99…
    worth = (noisy.pairs * (1 - 2 * noisy.noise_rate) ** 2).round(6)
    lines = []
    for (name, effective), rows in noisy.groupby(["method", worth]):
        sets = dict(list(rows.groupby(["noise_rate", "pairs"])))
        for (less, fewer), (more, size) in pairwise(sets):
            ours, theirs = (
                sets[key].set_index("seed").accuracy for key in ((more, size), (less, fewer))
            )
            gained = stats.withhold(stats.paired_difference(ours, theirs[ours.index]))
            lines.append(
                f"- {label(name)}, n(1 − 2ε)² = {effective:g}: {size:,} pairs at ε = {more:g} − "
                f"{fewer:,} at ε = {less:g} = {describe_difference(gained)}."
            )
    return "\n".join(lines) or "None were run."


def _geometric_interval(factors: Floats) -> stats.Interval:
    """The geometric mean with its t interval; NaN where some factor is not known."""
    if np.isnan(factors).any():
        return stats.Interval(np.nan, np.nan, np.nan, len(factors))
    of_logs = stats.withhold(stats.mean_interval(np.log(factors)))
    estimate, low, high = np.exp(of_logs[:3]).tolist()
    return stats.Interval(estimate, low, high, of_logs.n)
