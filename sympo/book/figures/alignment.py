"""Figures 3 to 6: policies in a world whose reward is known, and on recorded pairs (09 to 11)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MultipleLocator

from sympo.book.figures.style import (
    GREY_NOTE,
    GUIDE,
    End,
    describe_bands,
    direct_labels,
    in_order,
    interval_table,
    label,
    look,
    name_end,
    note_sample,
    reference_line,
    style,
    subplots,
)

# what a regime is, in words
_REGIMES = {
    "fresh": "fresh: each pair seen once",
    "memorised": "memorised: few pairs, seen often",
}


@style()
def fig3_gold_win_rate(table: pd.DataFrame) -> Figure:
    """True win rate of DPO's policies and those of two SymPO losses at the paper's β, as the noise
    rate grows. On the axes the share $ε$ of labels that are flipped and how often an answer of the
    policy has a higher true reward than one of the SFT model, from which every policy started: ½
    (dotted) means nothing gained. Left, every pair is seen once; right, few pairs are seen often,
    so that flips can be learned by heart. Large markers are means, bars are 95% intervals over
    seeds, small points are single seeds. Look at the slopes: noise costs every method, and a lead
    that is there at $ε = 0$ already is not owed to noise.

    Where there are fewer than three seeds there are no bars: two say nothing. A method that was run
    at one noise rate alone makes no line, and is left out.

    Args:
        table: columns regime, method, noise_rate, seed, win_rate.
    """
    rates = table.groupby("method").noise_rate.transform("nunique")
    table = table[rates > 1]
    regimes = list(dict.fromkeys(table.regime))
    figure, panels = subplots(1, len(regimes), height=2.9, sharey=True, squeeze=False)
    for axes, regime in zip(panels[0], regimes, strict=True):
        rows = table[table.regime == regime]
        ends = _lines_over_rates(axes, rows, "win_rate")
        reference_line(axes, 0.5, "no better than the SFT model")
        axes.set(title=_REGIMES.get(regime, f"{regime} pairs"), xlabel="noise rate ε")
        # ticks at the rates that were run: between them a line only guides the eye
        axes.set_xticks(sorted(table.noise_rate.unique()))
        axes.xaxis.set_major_formatter("{x:g}")
    panels[0, 0].set_ylabel("true win rate against the SFT model")
    note_sample(figure, f"{describe_bands(table, 'bar')}; small points: single seeds")
    # there is room for names on the right of the last panel only
    direct_labels(panels[0, -1], ends)
    return figure


@style()
def fig4_gold_frontier(table: pd.DataFrame) -> Figure:
    """True win rate against the distance from the SFT model, a line per method. On the axes the KL
    to the SFT model in nats, on a square-root scale, on which a gain starts as a straight line, and
    the true win rate against that model, which starts at ½ (dotted). A row is a noise rate $ε$, and
    a column a regime: pairs seen once, or few pairs seen often. Large markers are means over seeds
    at one $β$, joined from the largest to the paper's; dotted is the way to the first, on which
    nothing is measured. Small points are single policies, and a few that ran away may pull a mean
    far from the others. Look at which line is higher at the same KL, above all at the vertical
    line, the budget of the comparison at equal KL: farther to the right is not better, only
    farther.

    Args:
        table: columns regime, method, noise_rate, beta, seed, kl, win_rate, budget (nats, the same
            in every row, where a vertical line is drawn).
    """
    regimes = list(dict.fromkeys(table.regime))
    rates = sorted(table.noise_rate.unique())
    height = 1.1 + 1.9 * len(rates)
    figure, panels = subplots(len(rates), len(regimes), height=height, sharey="row", squeeze=False)
    hidden = 0
    for row, rate in zip(panels, rates, strict=True):
        for axes, regime in zip(row, regimes, strict=True):
            shown = table[(table.noise_rate == rate) & (table.regime == regime)]
            hidden += _draw_frontier(axes, shown)
            reference_line(axes, 0.5, "")
            axes.set_title(f"ε = {rate:g}, {regime} pairs")
            _mark_budget(axes, shown.budget.iloc[0])
        row[0].set_ylabel("true win rate")
        row[0].yaxis.set_major_locator(MultipleLocator(0.05))
    for axes in panels[-1]:
        axes.set_xlabel("KL to the SFT model, nats")
    # the lines cross, so that names at their ends would not tell them apart
    lines, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, names, handlelength=2.6, loc="outside upper center", ncols=len(names))
    beyond = f"; {hidden} lie beyond the axes" if hidden else ""
    means = f"large: means over {table.seed.nunique()} seeds"
    note_sample(figure, f"{means}; small: single policies{beyond}")
    return figure


def _mark_budget(axes: Axes, budget: float) -> None:
    axes.axvline(budget, **GUIDE)
    # at the top, which the lines do not reach so near the reference
    beside = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    note = {**GREY_NOTE, "va": "top"}
    axes.annotate("budget", (budget, 1), (2, 0), **beside, **note)


def _draw_frontier(axes: Axes, table: pd.DataFrame) -> int:
    """Draw a line per method; how many policies are too far out to be shown."""
    small = {"markersize": 2, "alpha": 0.3, "linestyle": "none", "markeredgewidth": 0}
    farthest = 0.0
    for method in in_order(table.method):
        options = look(method)
        rows = table[table.method == method]
        # by β, so that the line runs along the frontier
        means = rows.groupby("beta")[["kl", "win_rate"]].mean().sort_index(ascending=False)
        point = {"color": options["color"], "marker": options["marker"]}
        axes.plot(rows.kl, rows.win_rate, **point, **small)
        axes.plot(means.kl, means.win_rate, **options, label=label(method))
        nearest = means.iloc[0]
        way = {"color": options["color"], "linestyle": ":", "linewidth": 1}
        axes.plot([0, nearest.kl], [0.5, nearest.win_rate], **way)
        farthest = max(farthest, means.kl.max())
    axes.set_xscale("function", functions=(np.sqrt, np.square))
    # Few policies lie far beyond all means, and would press these together. The root has no values
    # below 0, where margins would reach.
    most = max(1.3 * farthest, 1.1 * table.budget.iloc[0])  # the budget is always in view
    axes.set_xlim(0, most)
    axes.xaxis.set_major_locator(FixedLocator(_square_ticks(most)))
    axes.xaxis.set_major_formatter("{x:g}")
    return int((table.kl > most).sum())


def _square_ticks(most: float) -> list[float]:
    """Numbers of nats whose roots are about equally far apart."""
    ticks = [0, 0.25, 1, 2.25, 4, 6, 9, 12, 16, 20, 25, 36, 49, 64, 100]
    below = [tick for tick in ticks if tick <= most]
    # at most seven, from 0 on
    return below[:: -(-len(below) // 7)]


@style()
def fig5_hh_win_rate(table: pd.DataFrame) -> Figure:
    """Anthropic HH: win rates and held-out accuracy of every method, as the noise rate grows. On
    the horizontal axes stands the share $ε$ of labels that are flipped. Top: how often the judge, a
    reward model, prefers the policy's answer to the SFT model's. Middle: how often it prefers it to
    the answer that people chose; dotted and named is where the SFT model itself stands. Bottom: the
    share of held-out pairs that the policy's implicit reward puts in the order of their unflipped
    labels; dotted are chance and what the judge reaches. Symmetric losses are solid, others dashed;
    bars are 95% intervals over seeds, small points single seeds. Look at whether the solid lines
    lie above DPO at the right end, and in all three panels.

    Where there are fewer than three seeds there are no bars: two say nothing.

    Args:
        table: columns method, noise_rate, seed, win_rate, win_rate_chosen, sft_chosen, accuracy,
            judge_accuracy.
    """
    return _win_rates_and_accuracy(table)


@style()
def fig6_ultrafeedback_win_rate(table: pd.DataFrame) -> Figure:
    """UltraFeedback: win rates and held-out accuracy of every method, as the noise rate grows. On
    the horizontal axes stands the share $ε$ of labels that are flipped. Top: how often the judge, a
    reward model, prefers the policy's answer to the SFT model's. Middle: how often it prefers it to
    the chosen answer, GPT-4's favourite; dotted and named is where the SFT model itself stands.
    Bottom: the share of held-out pairs that the policy's implicit reward puts in the order of their
    unflipped labels; dotted are chance and what the judge reaches. Symmetric losses are solid,
    others dashed; bars are 95% intervals over seeds, small points single seeds. Look at whether the
    solid lines lie above DPO at the right end, and in all three panels.

    Args:
        table: as for `fig5_hh_win_rate`.
    """
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
    top.set(title="against the SFT model, by the judge", ylabel="win rate")
    middle.set(title="against the chosen answers, by the judge", ylabel="win rate")
    bottom.set(title="order of held-out pairs, without a judge", ylabel="accuracy")
    bottom.set_xlabel("noise rate ε")
    bottom.set_xticks(sorted(table.noise_rate.unique()))
    bottom.xaxis.set_major_formatter("{x:g}")
    note_sample(figure, f"{describe_bands(table, 'bar')}; small points: single seeds")
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
        seeds = {"color": options["color"], "markersize": 2, "alpha": 0.3, "markeredgewidth": 0}
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
