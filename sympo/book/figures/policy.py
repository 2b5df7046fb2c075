"""Figures 10 to 12: the policies of rewards learned from MNIST pairs (notebook 07)."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    GREY_NOTE,
    End,
    describe_bands,
    direct_labels,
    in_order,
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

_RIGHT = {"xytext": (6, 0), "ha": "left", "va": "center"}
_LEFT = {"xytext": (-6, 0), "ha": "right", "va": "center"}
# Colours that no loss of the study has: the losses stand beside them.
_RANDOM = "0.55"
_ZEROS = "#882255"  # a dark red
_NINES = "#117777"  # a dark teal
# rewards made to order: colour, line style, name, and where it stands beside the line
_MADE: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "at random": (_RANDOM, "-", "broken\nat random", {**_RIGHT, "va": "bottom"}),
    "bad far above": (_ZEROS, ":", "zeros on top,\nfar above", _RIGHT),
    "bad evenly spaced": (
        _ZEROS,
        "-",
        "zeros on top,\nevenly spaced",
        # below the end and the line of no gain: the random line passes on the right
        {"xytext": (-14, -13), "ha": "left", "va": "top"},
    ),
    "good far above": (_NINES, ":", "nines on top,\nfar above", _LEFT),
    "good evenly spaced": (_NINES, "-", "nines on top,\nevenly spaced", _LEFT),
}


@style()
def fig10_mnist_policy(table: pd.DataFrame) -> Figure:
    """Win rates of policies tilted by learned rewards, and their KL, against the noise rate.
    A line per loss (symmetric ones solid, others dashed); above, rewards of the last epoch, below,
    of the epoch that noisy held-out pairs choose. Left: the win rate against the reference where
    every policy spends 1 nat of KL; the dotted line at the top is the policy that the digits
    themselves give. Middle: the win rate where every policy has $β = 1$. Right: the KL that it
    spends there, on a log scale. Bands are 95% intervals over seeds. Look at the left for what a
    better order is worth, and at the middle and right together: a win rate there is bought with KL.

    Args:
        table: columns method, noise_rate, seed, epoch, equal_kl and equal_beta (win rates against
            the reference), kl_spent (at equal β), by_digits (the win rate at equal KL of the policy
            tilted by the digits themselves).
    """
    titles = {
        "equal_kl": "win rate at KL = 1",
        "equal_beta": "win rate at β = 1",
        "kl_spent": "KL spent at β = 1",
    }
    # in the order of the table: final, then chosen
    epochs = list(dict.fromkeys(table.epoch))
    figure, axes = subplots(
        len(epochs), 3, height=0.7 + 1.9 * len(epochs), sharex=True, sharey="col", squeeze=False
    )
    # the two win rates on one scale
    axes[0, 1].sharey(axes[0, 0])
    ends = []
    for row, epoch in zip(axes, epochs, strict=True):
        rows = table[table.epoch == epoch]
        for axis, value in zip(row, titles, strict=True):
            last = _lines_over_rates(axis, rows, value)
        ends.append(last)
        for axis in row[:2]:
            reference_line(axis, 0.5, "the reference")
        reference_line(row[0], table.by_digits.mean(), "tilted by the digits")
        row[0].set_ylabel(f"{epoch} epoch")
    for axis, title in zip(axes[0], titles.values(), strict=True):
        axis.set_title(title)
    # a model that goes far spends a hundred times the KL of one that hardly moves
    axes[0, -1].set_yscale("log")
    axes[0, -1].yaxis.set_major_formatter("{x:g}")
    figure.supxlabel("noise rate ε")
    note_sample(figure, describe_bands(table))
    # when all rows are drawn, which share their limits
    for row, names in zip(axes, ends, strict=True):
        direct_labels(row[-1], names)
    return figure


def _lines_over_rates(axes: Axes, table: pd.DataFrame, value: str) -> list[End]:
    """Draw a line per loss; the lines' right ends."""
    ends = []
    for method in in_order(table.method):
        rows = table[table.method == method]
        drawn = line_with_band(
            axes, rows, x="noise_rate", value=value, proportion=value != "kl_spent", **look(method)
        )
        ends.append(name_end(method, drawn.estimate.iloc[-1]))
    rates = sorted(table.noise_rate.unique())
    # as short as they can be, and few: two of them may be close
    few = rates[::2] if len(rates) > 3 else rates
    axes.set_xticks(few, [f"{rate:g}" for rate in few])
    return ends


@style()
def fig11_mnist_frontier(tilted: pd.DataFrame, best_of: pd.DataFrame) -> Figure:
    """Expected digit of a policy against its KL to the reference, a line per learned reward.
    Symmetric losses are solid, others dashed; left, rewards of the last epoch, right, of the epoch
    that noisy held-out pairs choose, all at the headline noise rate. The grey line is what the
    digits themselves reach, the most that any policy of that KL can expect; the dotted one is the
    reference policy. Open markers are best-of-$n$ by the same rewards. Bands are 95% intervals over
    seeds, and a line ends where ties stop one of its models. Look at whether the gap between a line
    and the grey one closes as the policy goes farther.

    Args:
        tilted: columns method, seed, epoch, kl, digit, by_digits (the most that any policy of this
            KL can expect), reference_digit.
        best_of: columns method, epoch, n, kl, digit, means over seeds.
    """
    epochs = list(dict.fromkeys(tilted.epoch))
    # one panel has a line's width for its names
    figure, panels = subplots(1, len(epochs), height=3, sharey=True, squeeze=False)
    for axes, epoch in zip(panels[0], epochs, strict=True):
        rows = tilted[tilted.epoch == epoch]
        most = rows.groupby("kl").by_digits.first()
        axes.plot(most.index, most, color="0.5", linewidth=0.8)
        ends = [End(most.iloc[-1], "the digits", "0.4")]
        for method in in_order(rows.method):
            lines = rows[rows.method == method]
            drawn = line_with_band(axes, lines, x="kl", value="digit", **look(method))
            ends.append(name_end(method, drawn.estimate.iloc[-1]))
        _points_of_best(axes, best_of[best_of.epoch == epoch])
        # named with the lines, since these start beside it
        reference_line(axes, rows.reference_digit.mean(), "")
        ends.append(End(rows.reference_digit.mean(), "the reference", "0.4"))
        axes.set(xlabel="KL to the reference, nats", title=f"rewards of the {epoch} epoch")
    # where few seeds differ much, a band may end beyond all digits
    panels[0, 0].set(ylabel="expected digit", ylim=(3.4, 9.4))
    note_sample(figure, describe_bands(tilted))
    # there is room for names on the right of the last panel only
    direct_labels(panels[0, -1], ends)
    return figure


def _points_of_best(axes: Axes, table: pd.DataFrame) -> None:
    """Best-of-n: open markers, named at the lower right, where the axes have room."""
    for method in in_order(table.method):
        rows = table[table.method == method]
        options = {**look(method), "linestyle": "none", "markerfacecolor": "white"}
        axes.plot(rows.kl, rows.digit, **options, markersize=5.5)
    sizes = ", ".join(f"{n:g}" for n in sorted(table.n.unique()))
    text = f"open markers: best of {sizes}"
    axes.annotate(text, (0.98, 0.02), xycoords="axes fraction", **{**GREY_NOTE, "ha": "right"})


@style()
def fig12_broken_order(learned: pd.DataFrame, made: pd.DataFrame) -> Figure:
    """Gain in win rate at KL = 1 against the share of pairs of images in the wrong order. Left: a
    point per trained model and epoch, of all losses, noise rates and seeds, and the line of orders
    that are broken at random. Right: that line again, and orders that are broken on purpose: images
    of zeros on top of a right order (red), or of nines on top of a reversed one (teal), first one
    image, then two, and twice as many each time. Two lines of one colour are the same orders, with
    the images on top far above all others (dotted) or all images evenly spaced (solid). Look at
    whether trained models follow the random line, and at how little the share of wrong pairs says
    on the right.

    Args:
        learned: columns method, violated, gain.
        made: columns case (of "at random", and "bad" and "good", each "far above" and "evenly
            spaced"), violated, gain; a line goes through the rows of a case in their order.
    """
    figure, (left, right) = subplots(1, 2, height=2.9, sharey=True)
    small = {"linestyle": "none", "markersize": 3.5, "alpha": 0.6, "markeredgewidth": 0}
    for method in in_order(learned.method):
        rows = learned[learned.method == method]
        left.plot(rows.violated, rows.gain, **{**look(method), **small}, label=label(method))
    random = made[made.case == "at random"]
    left.plot(
        random.violated, random.gain, **_look_of("at random"), label="broken at random", zorder=1
    )
    for case, rows in made.groupby("case", sort=False):
        right.plot(rows.violated, rows.gain, **_look_of(str(case)), marker=".")
    for axes, title in ((left, "trained models"), (right, "broken on purpose")):
        reference_line(axes, 0, "")
        axes.set(xlabel="share of pairs in the wrong order", title=title)
    left.set_ylabel("gain in win rate at KL = 1")
    left.legend(handlelength=2, labelspacing=0.25, loc="lower left")
    for case, rows in made.groupby("case", sort=False):
        _name_inside(right, rows, str(case))
    return figure


def _look_of(case: str) -> dict[str, Any]:
    colour, linestyle, *_ = _MADE[case]
    return {"color": colour, "linestyle": linestyle, "linewidth": 1}


def _name_inside(axes: Axes, rows: pd.DataFrame, case: str) -> None:
    """Write the name of a line beside its end that is nearer to the middle of the axes."""
    colour, _, text, beside = _MADE[case]
    # the random line ends in the middle, where others have their names
    at = len(rows) // 2 if case == "at random" else (rows.violated - 0.5).abs().argmin()
    point = rows.iloc[at]
    place = {"textcoords": "offset points", "fontsize": 7, "color": text_colour(colour)}
    axes.annotate(text, (point.violated, point.gain), **beside, **place)
