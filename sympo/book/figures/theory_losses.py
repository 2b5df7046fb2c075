"""Figures T5 and T6: symmetric losses and what minimises them (notebook 03)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    End,
    direct_labels,
    label,
    look,
    name_end,
    reference_line,
    style,
    subplots,
)


@style()
def fig_t5_losses(table: pd.DataFrame) -> Figure:
    """Each loss, its sum with its mirror image, and its gradient weight; symmetric ones left.

    Args:
        table: columns loss, symmetric, margin, value, sum, weight.
    """
    figure, axes = subplots(3, 2, height=6.4, sharex=True, sharey="row")
    # too many curves for names at their ends: a legend above each column
    above = {"ncols": 2, "loc": "lower center", "bbox_to_anchor": (0.5, 1), "handlelength": 2.4}
    for column, symmetric in zip(axes.T, (True, False), strict=True):
        _draw_losses(column, table[table.symmetric == symmetric])
        column[0].legend(title="symmetric" if symmetric else "not symmetric", **above)
        column[2].set_xlabel("margin z")
    # within these limits the bounded losses can be told apart
    axes[0, 0].set(ylabel="loss ℓ(z)", ylim=(-1.2, 3.2))
    axes[1, 0].set(ylabel="ℓ(z) + ℓ(−z)", ylim=(-1.5, 4.5))
    axes[2, 0].set(ylabel="weight −ℓ′(z), log scale", yscale="log", ylim=(1e-4, 20))
    return figure


def _draw_losses(axes: np.ndarray, table: pd.DataFrame) -> None:
    """Draw each loss of `table` into three axes: its value, sum and weight."""
    for loss, rows in table.groupby("loss", sort=False):
        # markers at even distances along the curve, not at every grid point
        options = {**look(loss), "markevery": (0.02, 0.12), "markersize": 3, "linewidth": 1}
        # a log scale has no place for weights of zero, nor for those of square, negative beyond 1
        weight = rows.weight.where(rows.weight > 0)
        # `rows.sum` would be pandas' method
        for axis, heights in zip(axes, (rows.value, rows["sum"], weight), strict=True):
            axis.plot(rows.margin, heights, label=label(loss), **options)


@style()
def fig_t6_minimisers(table: pd.DataFrame) -> Figure:
    """The margin that minimises the conditional risk against η, a panel per noise rate.

    Shaded where many margins tie.

    Args:
        table: columns loss, noise_rate, eta, low, high.
    """
    rates = sorted(table.noise_rate.unique())
    figure, axes = subplots(1, len(rates), height=2.6, sharey=True, squeeze=False)
    for axis, rate in zip(axes[0], rates, strict=True):
        # in the order of the table: a later loss is drawn over an earlier one
        by_loss = table[table.noise_rate == rate].groupby("loss", sort=False)
        ends = [_draw_minimiser(axis, loss, rows) for loss, rows in by_loss]
        axis.set(xlabel="clean probability η", title=f"noise rate ε = {rate:g}")
        reference_line(axis, 0, "")
    axes[0, 0].set_ylabel("minimising margin z")
    direct_labels(axes[0, -1], ends)
    return figure


def _draw_minimiser(axes: Axes, loss: str, rows: pd.DataFrame) -> End:
    nearest = rows.high.where(rows.eta < 0.5, rows.low)  # to 0: the rest of a tie is shaded
    decided = nearest.where(rows.low * rows.high >= 0)  # a tie across 0 decides nothing
    options = look(loss)
    axes.plot(rows.eta, decided, **options, markevery=0.1, markersize=3)
    # each half for itself: at η = ½ the tie changes sides, and one band would join them
    for half in (rows.eta < 0.5, rows.eta > 0.5):
        tie = {"where": half, "color": options["color"], "alpha": 0.12, "linewidth": 0}
        axes.fill_between(rows.eta, rows.low, rows.high, **tie)
    return name_end(loss, decided.iloc[-1])
