"""Figures 1 and 2: rewards learned from pairs of MNIST digits (notebooks 05 and 06)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sympo.book.figures.style import (
    OKABE_ITO,
    End,
    describe_bands,
    direct_labels,
    in_order,
    interval_table,
    label,
    line_with_band,
    look,
    name_end,
    note_sample,
    reference_line,
    style,
    subplots,
    text_colour,
)

# how a kind of noise looks in Figure 2, in the order of drawing: the asymmetric line lies over its
# equivalent, which is broad so that it can be seen below it
_CONDITIONS: dict[str, dict[str, Any]] = {
    "tied": {"color": OKABE_ITO["vermillion"], "linestyle": ":", "linewidth": 1.5},
    "equivalent": {"color": OKABE_ITO["orange"], "linestyle": "-", "linewidth": 3, "alpha": 0.8},
    "asymmetric": {"color": OKABE_ITO["blue"], "linestyle": "--", "linewidth": 1.2},
}
# what Kendall's τ compares, in words, from above
_LINE = 8.5 / 72  # inches: a line of small print
_COMPARISONS = {
    "asymmetric, equivalent": "asymmetric and equivalent",
    "equivalent, other data": "yardstick: equivalent and equivalent of another seed",
    "asymmetric, tied": "asymmetric and tied",
}


@style()
def fig1_mnist_losses(table: pd.DataFrame) -> Figure:
    """Reward accuracy against the noise rate, a line per loss. On the axes the share $ε$ of labels
    that are flipped and the share of clean test pairs that the learned reward puts in the right
    order; symmetric losses are solid, others dashed, and bands are 95% intervals over seeds. Left:
    at the last epoch of training. Right: at the epoch that held-out pairs with noisy labels choose.
    Look at how far the solid lines lie above the dashed ones as $ε$ grows, and what choosing the
    epoch leaves of it. With few seeds the bands are wide: the paired differences in the table of
    contrasts are the sharper instrument.

    Args:
        table: columns method, noise_rate, seed, accuracy (at the last epoch) and chosen_accuracy
            (at the one that noisy held-out pairs choose).
    """
    # beside one another and on one scale, so that the two can be compared
    figure, panels = subplots(1, 2, height=2.8, sharey=True, width_ratios=[1, 1.2])
    titles = {
        "accuracy": "at the last epoch",
        "chosen_accuracy": "at the epoch chosen on noisy pairs",
    }
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
    note_sample(figure, describe_bands(table))
    # there is room for names on the right of the last panel only
    direct_labels(panels[-1], ends)
    return figure


@style()
def fig1_learning_curves(table: pd.DataFrame) -> Figure:
    """Reward accuracy and memorised labels along training, a column per noise rate. On the axes the
    epoch and, at the top, the share of clean test pairs in the right order; at the bottom, the
    share of flipped labels that is memorised: 0 for a network that has not seen them, 1 for one
    that knows them by heart. Symmetric losses are solid, others dashed, and bands are 95% intervals
    over seeds. Look at which lines of the upper row turn down as training goes on, and whether
    these are the ones that rise fastest in the lower row.

    Args:
        table: columns method, noise_rate, seed, epoch, accuracy, memorised (NaN where no label is
            flipped).
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
    note_sample(figure, describe_bands(table))
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
    """Networks trained on asymmetric noise, on its symmetric equivalent, and on tied noise. Top, a
    row per loss and a column per pair of rates $(ε_p, ε_n)$: the risk on clean test pairs against
    the epoch of training. Labels are flipped at these two rates (asymmetric: blue, dashed), at one
    rate that is equivalent by Lemma 1 (equivalent: amber, broad), or at the two rates where the
    image with more ink tends to be written first, which breaks the condition of the lemma (tied:
    orange, dotted). If the lemma holds, blue lies on amber, and nothing keeps orange there. Bottom:
    how alike two learned rewards rank test images, by Kendall’s $τ$ (1: the same order; 0:
    unrelated), averaged over the pairs of rates; a small point is a seed, a large one the mean. The
    yardstick is two networks of the equivalent noise with different seeds. Bands and bars are 95%
    intervals over seeds.

    Args:
        risks: columns method, noise_pair, condition (asymmetric, equivalent or tied), seed, epoch,
            test_risk.
        rankings: columns method, comparison, seed, tau (and noise_pair, if there are several).
    """
    methods = in_order(risks.method)
    # in the order of the profile, which goes from mild to strong
    pairs = list(dict.fromkeys(risks.noise_pair))
    # the rankings have a line of small print per comparison and loss
    inches = [1.2] * len(methods) + [_LINE * len(_COMPARISONS) * (len(methods) + 1)]
    options: dict[str, Any] = {"height_ratios": inches, "squeeze": False}
    figure, axes = subplots(len(inches), len(pairs), height=sum(inches) + 1.3, **options)
    for row, method in zip(axes, methods, strict=False):
        _risk_curves(row, risks[risks.method == method], pairs)
        row[0].set_ylabel(f"{label(method)}:\nclean test risk")
    for axis, pair in zip(axes[0], pairs, strict=True):
        positive, negative = pair.split("-")
        # many columns are narrow
        between = ", " if len(pairs) < 4 else "\n"
        title = f"$ε_p$ = {positive}{between}$ε_n$ = {negative}"
        axis.set_title(title, fontsize=8)
    for axis in axes[-2]:
        axis.set_xlabel("epoch")
    _ranking_points(_join(axes[-1]), rankings)
    note_sample(figure, describe_bands(risks, "bands, bars"))
    # last, because they depend on the layout; there is room on the right of the last column only
    for row, method in zip(axes, methods, strict=False):
        last = risks[(risks.method == method) & (risks.noise_pair == pairs[-1])]
        direct_labels(row[-1], _condition_ends(last))
    return figure


def _join(row: Sequence[Axes]) -> Axes:
    """One axes in place of a row of them."""
    grid = row[0].get_gridspec()
    figure = row[0].figure
    for axis in row:
        axis.remove()
    return figure.add_subplot(grid[-1, :])


def _risk_curves(axes: Sequence[Axes], risks: pd.DataFrame, pairs: list[str]) -> None:
    for axis, pair in zip(axes, pairs, strict=True):
        for condition, options in _CONDITIONS.items():
            rows = risks[(risks.noise_pair == pair) & (risks.condition == condition)]
            line_with_band(axis, rows, x="epoch", value="test_risk", **options)
        axis.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    # One loss has one scale, so that its columns can be compared.
    for axis in axes[1:]:
        axis.sharey(axes[0])
        axis.tick_params(labelleft=False)


def _condition_ends(risks: pd.DataFrame) -> list[End]:
    last = risks[risks.epoch == risks.epoch.max()].groupby("condition").test_risk.mean()
    return [End(last[name], name, str(_CONDITIONS[name]["color"])) for name in last.index]


def _ranking_points(axes: Axes, rankings: pd.DataFrame) -> None:
    """A block per comparison: its name, and a line per loss of seeds, mean and interval."""
    methods = in_order(rankings.method)
    # one number per seed: the pairs of rates share its images and weights
    by_seed = rankings.groupby(["comparison", "method", "seed"]).tau.mean().reset_index()
    comparisons = [name for name in _COMPARISONS if name in {*by_seed.comparison}]
    comparisons += [name for name in by_seed.comparison.unique() if name not in comparisons]
    lines = len(methods) + 1
    for block, comparison in enumerate(comparisons):
        name = _COMPARISONS.get(comparison, comparison)
        words = {"fontsize": 7, "va": "center", "xycoords": ("axes fraction", "data")}
        axes.annotate(name, (0, block * lines), **words)
        rows = by_seed[by_seed.comparison == comparison]
        for place, method in enumerate(methods, start=1):
            end = _seeds_and_mean(axes, rows[rows.method == method], block * lines + place)
            # named once, in the first block, right of all that is drawn in its line
            if block == 0:
                _name_beside(axes, method, end)
    # the first comparison at the top
    limits = (len(comparisons) * lines - 0.2, -0.7)
    axes.set(ylim=limits, yticks=[], xlabel="Kendall’s τ: how alike the rankings are")
    axes.spines["left"].set_visible(False)


def _seeds_and_mean(axes: Axes, rows: pd.DataFrame, height: float) -> tuple[float, float]:
    """Draw a line of one loss; its right end."""
    (method,) = rows.method.unique()
    (mean,) = interval_table(rows, by="method", value="tau").itertuples()
    colour = look(method)["color"]
    small = {"color": colour, "marker": ".", "linestyle": "none", "alpha": 0.5}
    axes.plot(rows.tau, np.full(len(rows), height), **small, markeredgewidth=0, markersize=6)
    axes.plot([mean.low, mean.high], [height, height], color=colour, linewidth=1)
    axes.plot(mean.estimate, height, **look(method), markersize=5)
    return np.nanmax([mean.high, rows.tau.max()]), height


def _name_beside(axes: Axes, method: str, end: tuple[float, float]) -> None:
    words = {"color": text_colour(look(method)["color"]), "fontsize": 7, "va": "center"}
    axes.annotate(label(method), end, (6, 0), textcoords="offset points", **words)
