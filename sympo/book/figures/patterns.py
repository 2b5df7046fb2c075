"""Figure 8: noise that depends on the pair, and noise that depends on who wins (notebook 13)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sympo.book.figures.style import (
    GUIDE,
    OKABE_ITO,
    End,
    direct_labels,
    in_order,
    label,
    look,
    note_sample,
    style,
    subplots,
)

# a difference inside this does not matter: the margin of `stats.verdict`
_MARGIN = 0.02
_SHADE = {"color": "0.9", "zorder": 0, "linewidth": 0}
_SMALL = {"fontsize": 7, "color": "0.3"}
_BESIDE: dict[str, Any] = {"textcoords": "offset points", "va": "center", **_SMALL}

# the lines of the band's figure: colour, line style, name
_SERIES = {
    "none": ("0.4", ":", "no flips"),
    "position": (OKABE_ITO["blue"], "--", "by position"),
    "item": (OKABE_ITO["vermillion"], "-", "by item"),
}
_SHAPES = {"none": "D", "position": "o", "item": "s"}


@style()
def fig_t11_band(lines: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    r"""Flips that follow the item turn close pairs over; flips by position turn none. Across: how
    often the first item truly wins, η. Up: how far the noisy labels lean towards it, $2\tilde\eta -
    1$. Lines are the formula, points are sampled labels. Flips by position pull every pair towards
    a toss-up. The same two rates tied to the item shift all pairs in one direction: in the grey
    band the item that truly wins more often loses the vote.

    Args:
        lines: columns series (none, position or item), eta, lean.
        pairs: columns series, eta, lean (sampled), draws (how many labels), and top, the far end
            of the band.
    """
    figure, axes = subplots(width=4.2, height=2.6)
    axes.axhline(0, **GUIDE)
    axes.axvline(0.5, **GUIDE)
    top = pairs.top.iloc[0]
    axes.axvspan(0.5, top, **_SHADE)
    ends = []
    for name, (colour, linestyle, text) in _SERIES.items():
        rows = lines[lines.series == name]
        axes.plot(rows.eta, rows.lean, color=colour, linestyle=linestyle)
        sampled = pairs[pairs.series == name]
        marker = _SHAPES[name]
        ends.append(End(rows.lean.iloc[-1], text, colour, marker))
        axes.plot(sampled.eta, sampled.lean, marker, color=colour, clip_on=False)
    note = f"mis-ranked by item:\n½ < η < {top:.3f}"
    axes.text(0.48, 0.95, note, ha="right", va="top", **_SMALL)
    note_sample(figure, f"point: {pairs.draws.iloc[0]:,} sampled labels")
    axes.set(
        xlabel="η: how often the first item truly wins",
        ylabel="lean of the noisy labels, 2η̃ − 1",
        xlim=(0, 1),
        ylim=(-1, 1),
    )
    direct_labels(axes, ends)
    return figure


@style()
def fig8_noise_patterns(classes: pd.DataFrame, costs: pd.DataFrame) -> Figure:
    """The order that networks learn under each noise pattern, and what the pattern costs. Left: a
    point is a class of test pairs under one pattern, by the gap of its digits and by which digit
    has more ink. Across: how far the noisy labels should lean to the larger digit, by formula. Up:
    how often sigmoid and ramp learn to put it first. In the shaded quarters the order learned is
    the one predicted. Right: the accuracy of each loss minus its accuracy under symmetric noise of
    the same mean rate; the band is ±0.02. Bars are 95% intervals over seeds.

    Args:
        classes: a row per pattern and class of pairs; columns pattern, gap, more_ink, margin (the
            predicted 2η̃ − 1 of the larger digit), judged, estimate, low, high (the share of test
            pairs with the larger digit first), n.
        costs: columns epoch, method, pattern, estimate, low, high, n: accuracy minus that under
            symmetric noise; the rows of the final epoch are drawn.
    """
    figure, (left, right) = subplots(1, 2, height=3.0, width_ratios=[1.15, 1])
    _draw_classes(left, classes)
    final = costs[costs.epoch == "final"]
    _draw_rows(right, final, list(dict.fromkeys(final.pattern)))
    right.legend(loc="center left")
    right.set(xlabel="accuracy minus that under\nsymmetric noise", title="what the pattern costs")
    note_sample(figure, _describe_intervals(final))
    return figure


def _draw_classes(axes: Axes, classes: pd.DataFrame) -> None:
    axes.axhline(0.5, **GUIDE)
    axes.axvline(0, **GUIDE)
    # the quadrants in which the learned order is the predicted one
    axes.fill_between([0, 1], 0.5, 1.05, **_SHADE)
    axes.fill_between([-1, 0], -0.05, 0.5, **_SHADE)
    # no colour of a loss on the right
    looks = {False: (OKABE_ITO["green"], "o"), True: (OKABE_ITO["purple"], "s")}
    for biased, (colour, marker) in looks.items():
        rows = classes[(classes.pattern == "ink") == biased]
        error = np.abs(rows[["low", "high"]].to_numpy().T - rows.estimate.to_numpy())
        axes.errorbar(rows.margin, rows.estimate, error, fmt="none", ecolor=colour, elinewidth=0.6)
        for judged, face in ((True, colour), (False, "white")):
            shown = rows[rows.judged == judged]
            axes.plot(shown.margin, shown.estimate, marker, color=colour, markerfacecolor=face)
    for row in classes[(classes.margin < 0) & classes.judged].itertuples():
        ink = "more" if row.more_ink else "less"
        words = f"gap {row.gap},\nlarger digit\nhas {ink} ink"
        axes.annotate(words, (row.margin, row.estimate), (6, 0), **_BESIDE)
    low = min(-0.2, 1.3 * classes.margin.min())
    axes.set(
        xlabel="predicted lean 2η̃ − 1 of a class",
        ylabel="test pairs with the larger digit first",
        title="the order learned, by class",
        xlim=(low, 1.02),
        ylim=(0.1, 1.03),
    )
    names = ("rate of the pair", "rate by who wins (ink)")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=name)
        for name, (colour, marker) in zip(names, looks.values(), strict=True)
    ]
    open_marker = {"color": "0.3", "marker": "o", "linestyle": "", "markerfacecolor": "white"}
    handles.append(Line2D([], [], label="labels cannot tell", **open_marker))
    axes.legend(handles=handles, loc="lower right")


@style()
def fig8_pattern_contrasts(table: pd.DataFrame) -> Figure:
    """What a symmetric loss gains over the logistic loss under each noise pattern. Across: reward
    accuracy minus that of logistic, paired by seed, at the last epoch and at the one that noisy
    held-out pairs choose. Bars are 95% intervals over seeds; in the grey band, ±0.02, a difference
    is too small to matter. A point to the right of it is a gain. Look at the row
    "ink": a bias, which no loss is expected to repair.

    Args:
        table: columns epoch, pattern, method, baseline, estimate, low, high, n.
    """
    figure, panels = subplots(1, 2, height=2.8, sharex=True, sharey=True)
    patterns = list(dict.fromkeys(table.pattern))
    titles = {"final": "last epoch", "chosen": "epoch chosen on noisy pairs"}
    for axes, (epoch, title) in zip(panels, titles.items(), strict=True):
        _draw_rows(axes, table[table.epoch == epoch], patterns)
        axes.set_title(title)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, ncols=2, loc="outside upper right")
    figure.supxlabel("reward accuracy, symmetric loss minus logistic", x=0.4)
    note_sample(figure, _describe_intervals(table))
    return figure


def _draw_rows(axes: Axes, table: pd.DataFrame, patterns: Sequence[str]) -> None:
    """A row per pattern, from the top, with a point and an interval per loss."""
    axes.axvspan(-_MARGIN, _MARGIN, **_SHADE)
    axes.axvline(0, **GUIDE)
    methods = in_order(table.method)
    heights = dict(zip(patterns, range(len(patterns)), strict=True))
    for number, method in enumerate(methods):
        rows = table[table.method == method]
        shift = 0.22 * (number - (len(methods) - 1) / 2)
        at = rows.pattern.map(heights) + shift
        error = np.abs(rows[["low", "high"]].to_numpy().T - rows.estimate.to_numpy())
        options = {**look(method), "linestyle": "", "elinewidth": 0.9, "label": label(method)}
        axes.errorbar(rows.estimate, at, xerr=error, **options)
    axes.set_yticks(range(len(patterns)), patterns)
    axes.set_ylim(len(patterns) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _describe_intervals(table: pd.DataFrame) -> str:
    return f"bar: 95% over {table.n.max()} seeds"
