"""Figures 1 and 2: rewards learned from pairs of MNIST digits (notebooks 05 and 06)."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sympo.book.figures.style import (
    OKABE_ITO,
    End,
    direct_labels,
    in_order,
    label,
    line_with_band,
    look,
    name_end,
    reference_line,
    style,
    subplots,
)

# how a kind of noise looks in Figure 2: colour, line style, name
_CONDITIONS = {
    "asymmetric": (OKABE_ITO["blue"], "-", "asymmetric"),
    "equivalent": (OKABE_ITO["orange"], "--", "its symmetric equivalent"),
    "tied": (OKABE_ITO["vermillion"], ":", "tied to the written order"),
}


@style()
def fig1_mnist_losses(table: pd.DataFrame) -> Figure:
    """Reward accuracy on clean test pairs against ε, a line per loss, at two epochs.

    Args:
        table: columns method, noise_rate, seed, accuracy (at the last epoch) and chosen_accuracy
            (at the one that noisy held-out pairs choose); bands are 95% t intervals over seeds.
    """
    # beside one another and on one scale, so that the two can be compared
    figure, panels = subplots(1, 2, height=2.8, sharey=True, width_ratios=[1, 1.2])
    titles = {"accuracy": "last epoch", "chosen_accuracy": "epoch chosen on noisy pairs"}
    for axes, (value, title) in zip(panels, titles.items(), strict=True):
        ends = []
        for method in in_order(table.method):
            rows = table[table.method == method]
            drawn = line_with_band(
                axes, rows, x="noise_rate", value=value, proportion=True, **look(method)
            )
            ends.append(name_end(method, drawn.estimate.iloc[-1]))
        # a coin orders half of the pairs as their digits are
        reference_line(axes, 0.5, "chance")
        axes.set(xlabel="noise rate ε", title=title)
        rates = sorted(table.noise_rate.unique())
        # as short as they can be, and small: two of them may be close
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates], fontsize="small")
    panels[0].set_ylabel("reward accuracy, clean test pairs")
    # there is room for names on the right of the last panel only
    direct_labels(panels[-1], ends)
    return figure


@style()
def fig1_learning_curves(table: pd.DataFrame) -> Figure:
    """Accuracy, and the share of flipped labels memorised, against the epoch, per noise rate.

    Args:
        table: columns method, noise_rate, seed, epoch, accuracy, memorised (NaN where no label is
            flipped); bands are 95% t intervals over seeds.
    """
    rates = sorted(table.noise_rate.unique())
    # a row has one scale, so that columns can be compared
    figure, axes = subplots(2, len(rates), height=3.6, sharex=True, sharey="row", squeeze=False)
    for (top, bottom), rate in zip(axes.T, rates, strict=True):
        rows = table[table.noise_rate == rate]
        top_ends = _learning_curves(top, rows, "accuracy")
        bottom_ends = _learning_curves(bottom, rows, "memorised")
        top.set_title(f"ε = {rate:g}")
        # named once, in the first column
        reference_line(top, 0.5, "chance" if rate == rates[0] else "")
        top.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes[0, 0].set_ylabel("reward accuracy,\nclean test pairs")
    axes[1, 0].set_ylabel("flipped labels\nmemorised")
    figure.supxlabel("epoch")
    # there is room for names on the right of the last column only
    direct_labels(axes[0, -1], top_ends)
    direct_labels(axes[1, -1], bottom_ends)
    return figure


def _learning_curves(axes: Axes, table: pd.DataFrame, value: str) -> list[End]:
    """Draw a line per loss; the lines' right ends."""
    # without noise there are no flipped labels to fit
    measured = table.dropna(subset=value)
    if measured.empty:
        centred = {"transform": axes.transAxes, "ha": "center", "color": "0.4", "fontsize": 7}
        axes.text(0.5, 0.5, "no label\nis flipped", **centred)
    # a marker at each of a hundred epochs would hide the line
    few = {"markevery": max(1, measured.epoch.nunique() // 5), "markersize": 3, "linewidth": 1}
    ends = []
    for method in in_order(measured.method):
        # a column with None among its numbers is of objects, which have no mean
        rows = measured[measured.method == method].astype({value: float})
        # memorised labels are an excess, which may be negative
        proportion = value == "accuracy"
        options = {**look(method), **few}
        drawn = line_with_band(axes, rows, x="epoch", value=value, proportion=proportion, **options)
        ends.append(name_end(method, drawn.estimate.iloc[-1]))
    return ends


@style()
def fig2_mnist_noise(risks: pd.DataFrame, rankings: pd.DataFrame) -> Figure:
    """Clean test risk against the epoch under three kinds of noise, and how alike the rewards are.

    A row per loss; a column per noise pair, then one for Kendall's τ between the rewards learned.
    A line is a seed; a point is a seed and a noise pair; a bar is their mean.

    Args:
        risks: columns method, noise_pair, condition (asymmetric, equivalent or tied), seed, epoch,
            test_risk.
        rankings: columns method, comparison, seed, tau (and noise_pair, if there are several).
    """
    methods = in_order(risks.method)
    # in the order of the profile, which goes from mild to strong
    pairs = list(dict.fromkeys(risks.noise_pair))
    # the column of τ is a little wider, for the names beside it
    widths = [1] * len(pairs) + [1.1]
    figure, axes = subplots(
        len(methods),
        len(widths),
        height=0.9 + 1.2 * len(methods),
        sharex="col",
        width_ratios=widths,
        squeeze=False,
    )
    for row, method in zip(axes, methods, strict=True):
        _risk_curves(row[:-1], risks[risks.method == method], pairs)
        _ranking_points(row[-1], rankings[rankings.method == method])
        row[0].set_ylabel(f"{label(method)}:\nclean test risk")
    # the last column has no pair and no title
    for axis, pair in zip(axes[0], pairs, strict=False):
        axis.set_title(f"({pair.replace('-', ', ')})")
        axis.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes[-1, 0].set_xlabel("epoch")
    axes[-1, -1].set_xlabel("Kendall's τ")
    names = [
        # drawn for the legend alone: the axes hold a line per seed, all unnamed
        Line2D([], [], color=colour, linestyle=linestyle, label=name)
        for colour, linestyle, name in _CONDITIONS.values()
    ]
    title = {"title": "label noise at the rates (εₚ, εₙ)", "alignment": "left"}
    figure.legend(handles=names, ncols=3, loc="outside upper left", **title)
    return figure


def _risk_curves(axes: Sequence[Axes], risks: pd.DataFrame, pairs: list[str]) -> None:
    for axis, pair in zip(axes, pairs, strict=True):
        for (condition, _), rows in risks[risks.noise_pair == pair].groupby(["condition", "seed"]):
            colour, linestyle, _ = _CONDITIONS[condition]
            axis.plot(rows.epoch, rows.test_risk, color=colour, linestyle=linestyle, linewidth=1)
    # One loss has one scale. `subplots(sharey="row")` would have joined the column of τ as well.
    for axis in axes[1:]:
        axis.sharey(axes[0])
        axis.tick_params(labelleft=False)


def _ranking_points(axes: Axes, rankings: pd.DataFrame) -> None:
    comparisons = list(dict.fromkeys(rankings.comparison))
    points = {"color": "black", "markersize": 3, "alpha": 0.5, "markeredgewidth": 0}
    for height, comparison in enumerate(comparisons):
        taus = rankings.tau[rankings.comparison == comparison]
        axes.plot(taus, np.full(len(taus), height), "o", **points)
        # a bar across, so that it cannot be taken for one more seed
        axes.plot(taus.mean(), height, "|", color="black", markersize=12)
    names = [textwrap.fill(comparison, 18) for comparison in comparisons]
    # the first comparison at the top
    limits = (len(comparisons) - 0.5, -0.5)
    axes.set(yticks=range(len(comparisons)), yticklabels=names, ylim=limits)
    # on the left they would run into the curves
    axes.yaxis.tick_right()
    axes.spines[["left", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
