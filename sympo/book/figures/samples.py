"""Figures T10 and 9: how many labels and pairs an order takes, and what noise makes of them."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from sympo.book.figures.style import (
    in_order,
    label,
    line_with_band,
    note_sample,
    reference_line,
    style,
    subplots,
)

# noise rates in their order, each with a marker of its own; all are dark enough to be read as text
_RATE_LOOKS = (
    ("#000000", "o"),
    ("#0072B2", "s"),
    ("#00795A", "^"),
    ("#B34700", "D"),
    ("#9C4A7C", "v"),
)
# the axes on which the error of one majority vote may collapse: column → what it is
_AXES = {
    "exponent": "−n·log(1 − m²)",
    "effective": "n·(1 − 2ε)²",
    "clt": "n·m²/(1 − m²)",
}
_TITLES = {
    "exponent": "Chernoff’s exponent",
    "effective": "what the bound says",
    "clt": "central limit",
}


def _rate_look(number: int) -> dict[str, str]:
    colour, marker = _RATE_LOOKS[number % len(_RATE_LOOKS)]
    return {"color": colour, "marker": marker}


def _name_rates(table: pd.DataFrame) -> list[Line2D]:
    """What a legend shows of each noise rate."""
    rates = sorted(table.noise_rate.unique())
    return [
        Line2D([], [], linewidth=1, label=f"ε = {rate:g}", **_rate_look(number))
        for number, rate in enumerate(rates)
    ]


def _thin_log_axis(axes: Axes, ticks: list[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


@style()
def fig_t10_guarantee(curves: pd.DataFrame, draws: pd.DataFrame) -> Figure:
    """How often the order of three answers is lost, by the number of labels for each pair. Left:
    against the labels a pair, $n$, a curve per noise rate ε. Right: against $n(1-2ε)^2$, what those
    labels are worth by T10, where the curves come near one. Sure pairs pay more (e). Solid: how
    often the condition of the statement fails, exactly. Dotted: its bound. A point with its 95%
    interval is the share of drawn data sets in which some minimiser of the ramp loss lacks the
    order.

    Args:
        curves: columns noise_rate, labels, effective, failure, bound.
        draws: columns noise_rate, labels, effective, estimate, low, high, n (the data sets).
    """
    figure, panels = subplots(1, 2, height=2.9, sharey=True)
    for axes, x in zip(panels, ("labels", "effective"), strict=True):
        for number, (rate, rows) in enumerate(curves.groupby("noise_rate")):
            shown = _rate_look(number)
            axes.plot(rows[x], rows.failure, color=shown["color"], linewidth=1)
            axes.plot(rows[x], rows.bound, color=shown["color"], linewidth=1, linestyle=":")
            drawn = draws[draws.noise_rate == rate]
            # a rounded share may miss the end of its own interval by a hair
            misses = np.clip([drawn.estimate - drawn.low, drawn.high - drawn.estimate], 0, None)
            axes.errorbar(drawn[x], drawn.estimate, misses, linestyle="", **shown)
    panels[0].set(yscale="log", ylim=(1e-3, 1.3), ylabel="P(the order is lost)")
    panels[0].set_xlabel("labels a pair, n")
    panels[0].set_title("noise costs labels …")
    panels[1].set_title("… by about (1 − 2ε)⁻²")
    panels[1].set_xlabel("n·(1 − 2ε)²")
    _thin_log_axis(panels[0], [10, 100, 1000])
    _thin_log_axis(panels[1], [3, 10, 30, 100])
    panels[1].set_xlim(2.5, 120)
    names = _name_rates(curves)
    kinds = [
        Line2D([], [], color="0.3", linewidth=1, label="exact"),
        Line2D([], [], color="0.3", linewidth=1, linestyle=":", label="bound"),
        Line2D([], [], color="0.3", marker="o", linestyle="", label="drawn"),
    ]
    note_sample(figure, f"point: 95% interval over {draws.n.min():,} data sets")
    figure.legend(handles=names + kinds, ncols=4, loc="outside upper center")
    return figure


@style()
def fig_t10_axes(table: pd.DataFrame) -> Figure:
    """On which axis the error of one majority vote is the same at every noise rate. Up: how often
    the vote on one sure pair is wrong, exactly. Across: three ways to count what its $n$ noisy
    labels are worth, with $m = (1-2ε)(2η-1)$. A line is a noise rate ε. Where the lines lie on one
    another the axis has taken in the noise. At the dotted heights, 0.1, 0.01 and 0.001, the table
    compares them.

    Args:
        table: columns eta, noise_rate, labels, error, exponent, effective, clt; one η.
    """
    figure, panels = subplots(1, len(_AXES), height=2.5, sharey=True)
    for axes, (x, name) in zip(panels, _AXES.items(), strict=True):
        for number, (_, rows) in enumerate(table.groupby("noise_rate")):
            few = {"markevery": max(1, len(rows) // 4), "markersize": 3, "linewidth": 1}
            axes.plot(rows[x], rows.error, **_rate_look(number), **few)
        for error in (0.1, 0.01, 0.001):
            reference_line(axes, error, "")
        axes.set(xlabel=name, title=_TITLES[x], yscale="log", ylim=(5e-4, 0.5))
        # as far as the last line has an error that is shown
        axes.set_xlim(0, 1.04 * table[x][table.error > 5e-4].max())
    panels[0].set_ylabel(f"error of the vote, η = {table.eta.iloc[0]:g}")
    names = _name_rates(table)
    figure.legend(handles=names, ncols=len(names), loc="outside upper center")
    return figure


@style()
def fig9_mnist_sizes(table: pd.DataFrame) -> Figure:
    """What noise costs networks: accuracy by the number of training pairs, at equal steps. A row
    per loss, a line per noise rate ε. Left: accuracy on clean test pairs against the pairs, $n$.
    Middle: against $n(1-2ε)^2$; were noise paid for at that rate, the lines would be one. Right:
    the share of flipped labels that are memorised. Bands are 95% intervals over seeds.

    Args:
        table: columns method, noise_rate, seed, pairs, effective, accuracy, memorised (NaN without
            flips).
    """
    methods = in_order(table.method)
    height = 0.7 + 1.5 * len(methods)
    figure, panels = subplots(len(methods), 3, height=height, sharex="col", squeeze=False)
    shown = (("pairs", "accuracy"), ("effective", "accuracy"), ("pairs", "memorised"))
    for row, method in zip(panels, methods, strict=True):
        rows = table[table.method == method]
        for axes, (x, value) in zip(row, shown, strict=True):
            _size_curves(axes, rows, x=x, value=value)
        row[0].set_ylabel(f"{label(method)}:\nreward accuracy")
        row[1].sharey(row[0])
        row[1].tick_params(labelleft=False)
        row[2].set(ylim=(-0.05, 1.05), ylabel="flips memorised")
        reference_line(row[0], 0.5, "chance")
        reference_line(row[1], 0.5, "")
    for axes, name in zip(panels[-1], ("pairs, n", "n·(1 − 2ε)²", "pairs, n"), strict=True):
        axes.set_xlabel(name)
    for axes in panels.flat:
        _thin_log_axis(axes, [100, 1000, 10000])
    names = _name_rates(table)
    titles = ("accuracy by size", "by what they are worth", "flips memorised")
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title)
    figure.legend(handles=names, ncols=len(names), loc="outside upper center")
    note_sample(figure, f"band: 95% over {table.seed.nunique()} seeds; equal steps")
    return figure


def _size_curves(axes: Axes, table: pd.DataFrame, *, x: str, value: str) -> None:
    """A line per noise rate; none where nothing is measured, as of flips without noise."""
    for number, rate in enumerate(sorted(table.noise_rate.unique())):
        rows = table[table.noise_rate == rate].dropna(subset=value)
        if rows.empty:
            continue
        options = {**_rate_look(number), "markersize": 3, "linewidth": 1}
        # memorised labels are an excess, which may be negative
        line_with_band(axes, rows, x=x, value=value, proportion=value == "accuracy", **options)
