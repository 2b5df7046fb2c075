"""Figures 3 to 6: policies in a world whose reward is known, and on recorded pairs (09 to 11)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    """Win rate against the SFT model's answers by the true reward, over ε, a line per method.

    A small point is a seed. Bars are 95% t intervals over seeds, where there are at least three:
    two say nothing.

    Args:
        table: columns method, noise_rate, seed, win_rate.
    """
    figure, axes = subplots(height=3)
    ends = _lines_over_rates(axes, table, "win_rate")
    reference_line(axes, 0.5, "the SFT model")
    axes.set(xlabel="noise rate ε", ylabel="true win rate against SFT")
    # ticks at the rates that were run: between them a line only guides the eye
    axes.set_xticks(sorted(table.noise_rate.unique()))
    direct_labels(axes, ends)
    return figure


@style()
def fig4_gold_frontier(table: pd.DataFrame) -> Figure:
    """True reward against the KL to the reference, a line per method over β.

    A small point is a seed; a large one is the mean at one β.

    Args:
        table: columns method, beta, seed, kl, reward, reward_sft.
    """
    figure, axes = subplots(height=3)
    # at one β every seed has a KL of its own
    small = {"markersize": 2.5, "alpha": 0.35}
    betas = []
    for method in in_order(table.method):
        options = look(method)
        rows = table[table.method == method]
        # by β, so that the line runs along the frontier
        means = rows.groupby("beta")[["kl", "reward"]].mean()
        axes.plot(rows.kl, rows.reward, options["marker"], color=options["color"], **small)
        axes.plot(means.kl, means.reward, **options, label=label(method))
        betas.extend(means.itertuples())
    # named after all lines are drawn, so that no line covers a number
    beside = {"textcoords": "offset points", "fontsize": 5, "color": "0.4"}
    for beta, kl, reward in betas:
        axes.annotate(f"{beta:g}", (kl, reward), (2, 3), **beside)
    reference_line(axes, table.reward_sft.mean(), "the SFT model")
    # over the βs the KL spans two orders of magnitude
    axes.set(xscale="log", ylabel="true reward")
    axes.set_xlabel("KL to the SFT model, nats (log scale); numbers are β")
    axes.legend(handlelength=2.6)
    return figure


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
