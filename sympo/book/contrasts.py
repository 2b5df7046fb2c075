"""Policies compared: each SymPO loss against the methods of others, and the sentences about it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sympo import stats
from sympo.book.figures.style import in_order, label
from sympo.book.figures.tables import name as heading

# What the paper compares with, and at ε = 0 what is left of it: told that no label is flipped,
# cDPO and rDPO are DPO, and a test against them would be the same test again.
BASELINES = ("dpo", "cdpo", "rdpo", "ropo")
TOLD = ("cdpo", "rdpo")


def contrast_policies(table: pd.DataFrame, *, values: Sequence[str]) -> pd.DataFrame:
    """Each SymPO loss minus each method of `BASELINES`, at every noise rate, paired by seed.

    Holm corrects over the tests of one value at one noise rate: each such family answers a question
    of its own. With one or two seeds in common there is no test and no interval.

    Args:
        table: a row per policy, with the columns method, noise_rate, seed and `values`.
    Returns:
        columns value, noise_rate, those of `stats.contrasts`, and verdict. Without a SymPO loss and
        a baseline there are no rows.
    Raises:
        ValueError: a policy diverged; the message names its method, seed and noise rate.
    Check: tests/book/test_contrasts.py.
    """
    families = [
        _contrast(rows, value).assign(value=value, noise_rate=rate)
        for value in values
        for rate, rows in table.groupby("noise_rate")
    ]
    # without families, an empty table with its columns
    contrasts = pd.concat(families or [_contrast(table, values[0]).assign(value="", noise_rate=0)])
    verdicts = [stats.verdict(row) for row in contrasts.itertuples()]
    first = ["value", "noise_rate"]
    rest = contrasts.columns.drop(first)
    return contrasts[[*first, *rest]].assign(verdict=verdicts).reset_index(drop=True)


def contrast_comparisons(
    tables: Mapping[Any, pd.DataFrame],
    *,
    names: Sequence[str],
    values: Sequence[str] = ("win_rate", "accuracy"),
) -> pd.DataFrame:
    """`contrast_policies` in several comparisons, each a question of its own.

    Args:
        tables: a row per policy, by what tells the comparison from the others.
        names: of the columns that say so.
        values: columns that are compared, where a table has them.
    Returns:
        the columns `names`, then those of `contrast_policies`.
    """
    contrasts = {
        key: contrast_policies(table, values=[name for name in values if name in table])
        for key, table in tables.items()
    }
    return pd.concat(contrasts, names=names).reset_index(names).reset_index(drop=True)


def spend(rows: pd.DataFrame, budget: float) -> float:
    """The win rate of one seed's policies at a KL of `budget` nats, between the two nearest.

    Between them it is interpolated along √KL, on which a gain starts as a straight line. A line
    beyond the nearest policy, or the farthest, is no measurement.

    Args:
        rows: a row per policy, with the columns kl and win_rate.
    Returns:
        NaN where no policy is nearer than the budget, or none farther.
    Check: tests/book/test_contrasts.py.
    """
    rows = rows.sort_values("kl")
    distance = np.sqrt(rows.kl)
    win_rate = np.interp(np.sqrt(budget), distance, rows.win_rate, left=np.nan, right=np.nan)
    return float(win_rate)


def contrast_at_budget(table: pd.DataFrame, *, budget: float) -> pd.DataFrame:
    """Each SymPO loss minus DPO in win rate at one KL, paired by the seeds that `spend` measures.

    Where it measures both in fewer than half of the seeds, the rest is no sample of them: the row
    has the number of such seeds alone, and is "not measured".

    Args:
        table: columns method, noise_rate, seed, kl and win_rate, a row per policy.
        budget: nats.
    Returns:
        the columns of `contrast_policies`, a row per loss and noise rate.
    Check: tests/book/test_contrasts.py.
    """
    cells = table.groupby(["noise_rate", "method", "seed"])[["kl", "win_rate"]]
    wins = cells.apply(spend, budget).unstack("method")
    ours = [name for name in in_order(wins) if name.startswith("sympo_")]
    both = wins[ours].notna().mul(wins.dpo.notna(), axis=0)
    by_rate = both.groupby("noise_rate")
    wins[ours] = wins[ours].where(by_rate.transform("mean") >= 0.5)
    measured = wins.stack().dropna().rename("win_rate").reset_index()
    contrasts = contrast_policies(measured, values=["win_rate"])
    counts = by_rate.sum().rename_axis(columns="method").stack()
    contrasts = contrasts.set_index(counts.index.names).reindex(counts.index)
    verdicts = contrasts.verdict.astype(object).fillna("not measured")
    contrasts = contrasts.assign(value="win_rate", baseline="dpo", n=counts, verdict=verdicts)
    # without any measurement there is nothing but objects
    contrasts = contrasts.reset_index().infer_objects()
    return contrasts[["value", *contrasts.columns.drop("value")]]


def name_difference(row: Any) -> str:
    """What is subtracted from what, by their labels: "SymPO ramp − DPO".

    Args:
        row: of `stats.contrasts` over losses or methods.
    Raises:
        ValueError: neither `METHODS` nor the registry of losses knows one of them.
    """
    return f"{label(row.method)} − {label(row.baseline)}"


def describe_difference(row: Any) -> str:
    """A difference in words: its interval, n and p, and what could have been seen.

    Args:
        row: of `stats.contrasts`, or a `stats.Difference`.
    """
    if pd.isna(row.estimate):
        return f"no number (measured in too few seeds: {row.n})"
    if row.n < stats.FEWEST:
        return f"{row.estimate:+.3f} (n = {row.n}, too few for an interval)"
    name, p = ("Holm p", row.p_holm) if hasattr(row, "p_holm") else ("p", row.p)
    return (
        f"{row.estimate:+.3f} (95% interval {row.low:+.3f} to {row.high:+.3f}, n = {row.n}, "
        f"{name} = {p:.2g}; a true difference of {row.detectable:.3f} would have been seen four "
        f"times in five{', before Holm’s correction' if hasattr(row, 'p_holm') else ''})"
    )


def describe_contrasts(contrasts: pd.DataFrame) -> str:
    """A list item per row of `contrast_policies`, in Markdown: the difference and its verdict."""
    lines = [
        f"- At ε = {row.noise_rate:g}, {heading(row.value)} of {name_difference(row)} = "
        f"{describe_difference(row)}: **{row.verdict}**."
        for row in contrasts.itertuples()
    ]
    return "\n".join(lines)


def _contrast(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """One family: all contrasts of a value at one noise rate."""
    present = set(rows.method)
    # the rate is the same in every row
    told = TOLD if (rows.noise_rate == 0).all() else ()
    baselines = [name for name in BASELINES if name in present and name not in told]
    ours = [name for name in in_order(present) if name.startswith("sympo_")]
    _check_diverged(rows[rows.method.isin([*ours, *baselines])], value)
    return stats.contrasts(rows, value=value, method="method", methods=ours, baselines=baselines)


def _check_diverged(rows: pd.DataFrame, value: str) -> None:
    """Refuse policies that diverged, which leave NaN, by method, seed and noise rate."""
    diverged = rows[rows[value].isna()]
    if len(diverged):
        runs = "; ".join(
            f"{row.method}, seed {row.seed}, noise rate {row.noise_rate:g}"
            for row in diverged.itertuples()
        )
        raise ValueError(
            f"{value} is NaN, because a policy diverged ({runs}): a contrast without it would "
            "flatter its method, so train it again, say at a lower learning rate"
        )
