"""Figures 3 to 6: policies in a world whose reward is known, and on recorded pairs (09 to 11)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from sympo.book.figures.style import (
    GUIDE,
    End,
    direct_labels,
    in_order,
    interval_table,
    label,
    look,
    name_end,
    reference_line,
    style,
    subplots,
)


@style()
def fig3_gold_win_rate(table: pd.DataFrame) -> Figure:
    """Win rate against the SFT model's answers by the true reward, over ε: a panel per regime.

    A small point is a seed. Bars are 95% t intervals over seeds, where there are at least three:
    two say nothing. A method that was run at one noise rate alone makes no line, and is left out.

    Args:
        table: columns regime, method, noise_rate, seed, win_rate.
    """
    rates = table.groupby("method").noise_rate.transform("nunique")
    table = table[rates > 1]
    regimes = list(dict.fromkeys(table.regime))
    figure, panels = subplots(1, len(regimes), height=2.8, sharey=True, squeeze=False)
    for axes, regime in zip(panels[0], regimes, strict=True):
        rows = table[table.regime == regime]
        ends = _lines_over_rates(axes, rows, "win_rate")
        reference_line(axes, 0.5, "the SFT model")
        seeds = rows.groupby(["method", "noise_rate"]).seed.nunique().max()
        axes.set(title=f"{regime} pairs, n = {seeds} seeds", xlabel="noise rate ε")
        # ticks at the rates that were run: between them a line only guides the eye
        axes.set_xticks(sorted(table.noise_rate.unique()))
    panels[0, 0].set_ylabel("true win rate against SFT")
    # there is room for names on the right of the last panel only
    direct_labels(panels[0, -1], ends)
    return figure


@style()
def fig4_gold_frontier(table: pd.DataFrame) -> Figure:
    """Win rate against the KL to the reference, a line per method over β.

    A column per regime and a row per noise rate. A small point is a policy; a large one is the mean
    over seeds at one β. On the square-root scale of the KL a gain starts as a straight line.

    Args:
        table: columns regime, method, noise_rate, beta, seed, kl, win_rate, budget (nats, the same
            in every row, where a vertical line is drawn).
    """
    regimes = list(dict.fromkeys(table.regime))
    rates = sorted(table.noise_rate.unique())
    height = 0.8 + 2 * len(rates)
    figure, panels = subplots(len(rates), len(regimes), height=height, sharey="row", squeeze=False)
    for row, rate in zip(panels, rates, strict=True):
        for axes, regime in zip(row, regimes, strict=True):
            shown = table[(table.noise_rate == rate) & (table.regime == regime)]
            _draw_frontier(axes, shown)
            axes.axvline(shown.budget.iloc[0], **GUIDE)
            reference_line(axes, 0.5, "")
            axes.set_title(f"ε = {rate:g}, {regime} pairs")
        row[0].set_ylabel("true win rate against SFT")
    # the lines cross, so that names at their ends would not tell them apart
    panels[0, 0].legend(handlelength=2.6, loc="upper left")
    seeds = table.seed.nunique()
    figure.supxlabel(f"KL to the SFT model, nats (square-root scale); n = {seeds} seeds")
    return figure


def _draw_frontier(axes: Axes, table: pd.DataFrame) -> None:
    small = {"markersize": 2, "alpha": 0.35, "linestyle": "none"}
    for method in in_order(table.method):
        options = look(method)
        rows = table[table.method == method]
        # by β, so that the line runs along the frontier, from the SFT model itself
        means = rows.groupby("beta")[["kl", "win_rate"]].mean().sort_index(ascending=False)
        point = {"color": options["color"], "marker": options["marker"]}
        axes.plot(rows.kl, rows.win_rate, **point, **small)
        line = [[0.0, *means.kl], [0.5, *means.win_rate]]
        axes.plot(*line, **options, label=label(method), markevery=slice(1, None))
    axes.set_xscale("function", functions=(np.sqrt, np.square))
    # the root has no values below 0, where margins would reach
    axes.set_xlim(0, None)
    axes.xaxis.set_major_locator(FixedLocator(_square_ticks(table.kl.max())))


def _square_ticks(most: float) -> list[float]:
    """Numbers of nats whose roots are about equally far apart."""
    ticks = [0, 0.25, 1, 2.25, 4, 6, 9, 12, 16, 20, 25, 36, 49, 64, 100]
    below = [tick for tick in ticks if tick <= most]
    # at most seven, from 0 on
    return below[:: -(-len(below) // 7)]


@style()
def fig5_hh_win_rate(table: pd.DataFrame) -> Figure:
    """Anthropic HH: win rates against both opponents, and accuracy on held-out pairs, over ε.

    A small point is a seed. Bars are 95% t intervals over seeds, where there are at least three:
    two say nothing.

    Args:
        table: columns method, noise_rate, seed, win_rate, win_rate_chosen, sft_chosen, accuracy,
            judge_accuracy.
    """
    return _win_rates_and_accuracy(table)


@style()
def fig6_ultrafeedback_win_rate(table: pd.DataFrame) -> Figure:
    """As `fig5_hh_win_rate`, for UltraFeedback."""
    return _win_rates_and_accuracy(table)


def _win_rates_and_accuracy(table: pd.DataFrame) -> Figure:
    figure, (top, middle, bottom) = subplots(3, 1, height=7.6, sharex=True)
    against_sft = _lines_over_rates(top, table, "win_rate")
    against_chosen = _lines_over_rates(middle, table, "win_rate_chosen")
    accuracies = _lines_over_rates(bottom, table, "accuracy")
    reference_line(top, 0.5, "the SFT model")
    reference_line(middle, 0.5, "the chosen answers")
    reference_line(bottom, 0.5, "chance")
    # what the judge itself reaches on these pairs
    reference_line(bottom, table.judge_accuracy.mean(), "the judge")
    # named beside the policies, since it may lie anywhere
    sft = table.sft_chosen.mean()
    middle.axhline(sft, **GUIDE)
    top.set_ylabel("judge's win rate against SFT")
    middle.set_ylabel("… against the chosen answers")
    bottom.set(ylabel="accuracy, clean held-out pairs", xlabel="noise rate ε")
    bottom.set_xticks(sorted(table.noise_rate.unique()))
    # last, when all limits are settled
    direct_labels(top, against_sft)
    direct_labels(middle, [*against_chosen, End(sft, "SFT model", "0.4")])
    direct_labels(bottom, accuracies)
    return figure


def _lines_over_rates(axes: Axes, table: pd.DataFrame, value: str) -> list[End]:
    """Draw the mean of a share against the noise rate, a line per method; their right ends."""
    methods = in_order(table.method)
    ends = []
    for rank, method in enumerate(methods):
        options = look(method)
        rows = table[table.method == method]
        drawn = interval_table(rows, by="noise_rate", value=value, proportion=True)
        # moved aside, so that methods do not hide each other
        aside = 0.006 * (rank - (len(methods) - 1) / 2)
        axes.plot(drawn.noise_rate + aside, drawn.estimate, **options)
        # the points behind a mean, as few seeds make a weak one
        seeds = {"color": options["color"], "markersize": 2, "alpha": 0.5}
        axes.plot(rows.noise_rate + aside, rows[value], options["marker"], **seeds)
        _error_bars(axes, drawn.dropna(), aside=aside, colour=options["color"])
        ends.append(name_end(method, drawn.estimate.iloc[-1]))
    return ends


def _error_bars(axes: Axes, drawn: pd.DataFrame, *, aside: float, colour: str) -> None:
    # the ends are not equally far where an interval is cut at 0 or 1
    reach = [drawn.estimate - drawn.low, drawn.high - drawn.estimate]
    # the line and its markers are drawn already
    bars = {"fmt": "none", "ecolor": colour, "elinewidth": 0.8}
    axes.errorbar(drawn.noise_rate + aside, drawn.estimate, reach, **bars)
