"""Figures T5 and T6: symmetric losses and what minimises them (notebook 03)."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    GUIDE,
    End,
    direct_labels,
    label,
    look,
    name_end,
    reference_line,
    style,
    subplots,
    text_colour,
)

# the losses that a reader should follow; all others are grey, and named where they run alone
_FOLLOWED = {"sigmoid", "ramp", "cauchy", "logistic", "hinge", "savage"}
_GREY = "0.62"
_GREY_WORDS = "0.4"
_SMALL = 7  # points


@style()
def fig_t5_blur(table: pd.DataFrame, at: float = 0.5) -> Figure:
    """A symmetric loss is the 0–1 error, blurred by a random tremor of the margin. Top: where a
    margin of ½ lands once the tremor is added; the shaded part of the density is the probability of
    landing on the wrong side of 0. Bottom: this probability for every margin z, which is the loss;
    the dot is the margin of ½. Without a tremor it is the step of the 0–1 error (grey), a narrow
    tremor (dotted) rounds the step off, and a tremor of width 1 gives the named loss (thick).

    Args:
        table: columns law, loss, width, margin, value (of the loss), density (of the tremor).
        at: the margin that is followed from the top to the bottom, where the caption says ½.
    """
    names = list(table.loss.unique())
    figure, axes = subplots(2, len(names), height=3.5, sharex=True, sharey="row", squeeze=False)
    for (above, below), name in zip(axes.T, names, strict=True):
        rows = table[table.loss == name]
        widest = rows[rows.width == rows.width.max()]
        _draw_tremor(above, widest, at)
        above.set_title(f"{rows.law.iloc[0]} tremor …")
        _draw_blurred(below, rows, at)
        below.set(title=f"… gives {_call(name)}", xlabel="margin z", xlim=(-4, 4))
    axes[0, 0].set(ylabel="density of z + tremor", ylim=(0, 0.64))
    axes[1, 0].set(ylabel="P(wrong side)", ylim=(-0.03, 1.05))
    # the upper right of the narrowest law is empty
    axes[1, 0].legend(loc="upper right", handlelength=0.9, borderaxespad=0, borderpad=0)
    return figure


def _call(loss: str) -> str:
    # sigmoid and ramp are names already
    return label(loss) if label(loss).islower() else f"the {label(loss)} loss"


def _draw_tremor(axes: Axes, rows: pd.DataFrame, at: float) -> None:
    """The density of `at` plus the tremor, shaded where the sum is on the wrong side of 0."""
    (loss,) = rows.loss.unique()
    landing = rows.margin + at
    colour = look(loss)["color"]
    axes.plot(landing, rows.density, color=colour)
    wrong = {"where": landing <= 0, "color": colour, "alpha": 0.3, "linewidth": 0}
    axes.fill_between(landing, rows.density, **wrong)
    axes.axvline(0, **GUIDE)
    axes.text(-0.15, 0.63, "wrong", fontsize=_SMALL, color=_GREY_WORDS, ha="right", va="top")
    axes.text(0.15, 0.63, "right", fontsize=_SMALL, color=_GREY_WORDS, ha="left", va="top")
    # half of the law lies below z, and what lies between 0 and z is not shaded
    between = landing.between(-1e-9, at + 1e-9)
    share = 0.5 - np.trapezoid(rows.density[between], landing[between])
    words = {"fontsize": _SMALL, "color": text_colour(colour), "ha": "right"}
    line = {"arrowstyle": "-", "linewidth": 0.6}
    axes.annotate(f"{share:.2f}", (-0.2, 0.1), (-1.3, 0.3), arrowprops=line, **words)


def _draw_blurred(axes: Axes, rows: pd.DataFrame, at: float) -> None:
    """The 0–1 step, and what each width of the tremor makes of it; the followed margin dotted."""
    (loss,) = rows.loss.unique()
    axes.step([-4, 0, 4], [1, 1, 0], where="pre", color=_GREY, linewidth=1, label="no tremor")
    *narrow, widest = sorted(rows.width.unique())
    for width in narrow:
        each = rows[rows.width == width]
        options = {"color": "0.3", "linestyle": ":", "label": f"width {width:g}"}
        axes.plot(each.margin, each.value, **options)
    last = rows[rows.width == widest]
    colour = look(loss)["color"]
    axes.plot(last.margin, last.value, color=colour, label=f"width {widest:g}")
    height = _height_at(last, "value", at)
    axes.plot([at], [height], "o", color=colour)
    words = {"fontsize": _SMALL, "color": text_colour(colour), "va": "bottom"}
    axes.annotate(f"{height:.2f}", (at, height), (4, 1), textcoords="offset points", **words)


def _height_at(rows: pd.DataFrame, column: str, margin: float) -> float:
    return float(np.interp(margin, rows.margin, rows[column]))


class _Name(NamedTuple):
    """Where a grey curve's name is written: `offset` points beside `margin` on the curve."""

    margin: float
    offset: tuple[float, float]
    side: str = "left"
    line: bool = False  # whether a thin line leads to the curve


# by column of the table; a curve without a place of its own is named in the caption alone
_PLACES = {
    "value": {
        "unhinged": _Name(-0.9, (5, 0)),
        "holder": _Name(2, (0, 6)),
        "square": _Name(2.2, (6, -3)),
        "exponential": _Name(-0.7, (10, 9), line=True),
        "truncated_hinge": _Name(-4.8, (0, 6)),
    },
    "sum": {
        "square": _Name(0, (0, 40), "center"),
        "truncated_hinge": _Name(-4.8, (0, 6)),
    },
    "weight": {
        "unhinged": _Name(-4.8, (0, 6)),
        "square": _Name(0.45, (17, 0), line=True),
        "exponential": _Name(-0.1, (-4, 3), "right"),
        "truncated_hinge": _Name(-0.05, (-20, 0), "right", line=True),
    },
}


@style()
def fig_t5_losses(table: pd.DataFrame) -> Figure:
    """A symmetric loss and its mirror image add up to a constant. Against the margin z, symmetric
    losses on the left (solid), others on the right (dashed); three of each kind with markers, the
    rest in grey. Top: the loss ℓ(z). Middle: the sum ℓ(z) + ℓ(−z), flat on the left, where the
    marked curves lie on one another, and bent on the right. Bottom: the weight −ℓ′(z) with which a
    pair pulls. Symmetric losses pull no more at a very wrong pair (far left) than at a very right
    one; logistic and hinge pull hardest at the most wrong pairs.

    Args:
        table: columns loss, symmetric, margin, value, sum, weight.
    """
    figure, axes = subplots(3, 2, height=5.6, sharex=True, sharey="row")
    for column, symmetric in zip(axes.T, (True, False), strict=True):
        rows = table[table.symmetric == symmetric]
        _draw_losses(column, rows)
        title = "symmetric: the sum is flat" if symmetric else "not symmetric: it bends"
        column[0].set_title(title, pad=20)
        above = {"ncols": 4, "loc": "lower center", "bbox_to_anchor": (0.5, 0.98)}
        tight = {"handlelength": 1.5, "columnspacing": 0.8, "handletextpad": 0.4}
        column[0].legend(**above, **tight)
        column[2].set_xlabel("margin z")
    # within these limits the bounded losses can be told apart
    axes[0, 0].set(ylabel="loss ℓ(z)", ylim=(-1.4, 2.6), xlim=(-5, 5))
    axes[1, 0].set(ylabel="ℓ(z) + ℓ(−z)", ylim=(-1.4, 4.4))
    axes[2, 0].set(ylabel="weight −ℓ′(z)", ylim=(0, 1.2))
    _name_constants(axes[1, 0], table[table.symmetric])
    _list_bells(axes[2, 0], table[table.symmetric])
    return figure


def _draw_losses(axes: np.ndarray, table: pd.DataFrame) -> None:
    """Draw each loss of `table` into three axes: its value, sum and weight; grey ones below."""
    losses = list(table.loss.unique())
    followed = [loss for loss in losses if loss in _FOLLOWED]
    for loss in sorted(losses, key=followed.__contains__):
        rows = table[table.loss == loss]
        options = _choose_look(loss, followed)
        for axis, column in zip(axes, ("value", "sum", "weight"), strict=True):
            axis.plot(rows.margin, rows[column], **options)
            if loss in _PLACES[column]:
                _write_name(axis, rows, column)


def _choose_look(loss: str, followed: list[str]) -> dict[str, Any]:
    if loss not in followed:
        return {"color": _GREY, "linestyle": look(loss)["linestyle"], "linewidth": 0.9}
    # markers in turn, so that curves which lie on one another all show
    turn = followed.index(loss) * 0.09
    every = {"markevery": (0.03 + turn, 0.09 * len(followed))}
    return {**look(loss), **every, "markersize": 3.5, "label": label(loss)}


def _write_name(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    (loss,) = rows.loss.unique()
    place = _PLACES[column][loss]
    point = (place.margin, _height_at(rows, column, place.margin))
    words = {"fontsize": _SMALL, "color": _GREY_WORDS, "va": "center", "ha": place.side}
    line = {"arrowstyle": "-", "color": _GREY, "linewidth": 0.6} if place.line else None
    options = {"textcoords": "offset points", "arrowprops": line}
    axes.annotate(label(loss), point, place.offset, **options, **words)


def _name_constants(axes: Axes, table: pd.DataFrame) -> None:
    """Write the constant K above each flat line, and the losses that have it."""
    sums = table.groupby("loss", sort=False)["sum"].mean().round(6)
    for constant, names in sums.groupby(sums).groups.items():
        who = ", ".join(label(name) for name in names) if len(names) < 3 else "all the others"
        number = f"{constant:g}".replace("-", "−")
        words = {"fontsize": _SMALL, "color": _GREY_WORDS, "textcoords": "offset points"}
        axes.annotate(f"K = {number}: {who}", (-4.8, constant), (0, 4), **words)


def _list_bells(axes: Axes, table: pd.DataFrame) -> None:
    """Name the grey curves that lie too close together for names of their own."""
    unnamed = [
        label(loss)
        for loss in table.loss.unique()
        if loss not in _FOLLOWED and loss not in _PLACES["weight"]
    ]
    if unnamed:
        words = {"fontsize": _SMALL, "color": _GREY_WORDS, "ha": "right", "va": "top"}
        axes.text(4.9, 0.9, "\n".join(["grey bells:", *unnamed]), **words)


@style()
def fig_t6_minimisers(table: pd.DataFrame) -> Figure:
    """What a loss learns about one pair: its probability η, or nothing but the side of ½. Against
    the probability η that the first answer wins: the margin of least expected loss, among those
    that the bound on scores allows, on clean labels (left) and with flips at the rate ε (right).
    Where the ramp finds every margin equally good, its range is shaded. The symmetric losses
    (solid) are steps, the same in both panels: they learn the sign and ignore the noise. The others
    (dashed) rise with η, so that η can be read off them, and noise crushes them towards 0.

    Args:
        table: columns loss, noise_rate, eta, low, high.
    """
    rates = sorted(table.noise_rate.unique())
    figure, axes = subplots(1, len(rates), height=2.8, sharey=True, squeeze=False)
    for axis, rate in zip(axes[0], rates, strict=True):
        # in the order of the table: a later loss is drawn over an earlier one
        by_loss = table[table.noise_rate == rate].groupby("loss", sort=False)
        ends = [_draw_minimiser(axis, loss, rows) for loss, rows in by_loss]
        title = f"flips at ε = {rate:g}" if rate else "clean labels"
        axis.set(xlabel="probability η that the first answer wins", title=title)
        reference_line(axis, 0, "")
        axis.axvline(0.5, **GUIDE)
    axes[0, 0].set_ylabel("margin z of least expected loss")
    top = table.high.max()
    words = {"fontsize": _SMALL, "color": _GREY_WORDS, "va": "center"}
    axes[0, 0].text(0.03, top, "largest margin\nallowed", **words)
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
