"""Figures T2 to T4: what noise does to labels and losses (notebook 02)."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    GUIDE,
    OKABE_ITO,
    End,
    direct_labels,
    look,
    reference_line,
    style,
    subplots,
    text_colour,
)

# three pairs, from the smallest true margin to the largest
_SHADES = [OKABE_ITO[name] for name in ("sky", "blue", "black")]
# one pair of colours per question: was the label kept; is the order safe
_KEPT = OKABE_ITO["blue"]
_FLIPPED = OKABE_ITO["vermillion"]

# the tree's columns, left to right: the pair, its order, its noisy label, what the loss sees, P
_COLUMNS = {"pair": 0.06, "order": 0.29, "noisy": 0.595, "loss": 0.72, "probability": 0.995}
_HEADS = {
    "pair": "the pair",
    "order": "order, true label",
    "noisy": "noisy label",
    "loss": "the loss sees",
    "probability": "probability",
}
_ORDER = {1: r"\pi", -1: r"(1-\pi)"}
_RATE = {1: r"\varepsilon_p", -1: r"\varepsilon_n"}
_CENTRE = {"ha": "center", "va": "center"}


@style()
def fig_t2_tree(table: pd.DataFrame) -> Figure:
    """From a pair to its noisy label: four ways, of which the loss tells only two apart.
    From left to right: the winner is written first with probability π, which makes the true label y
    = +1, or second, which makes it y = −1. The annotator flips the first label with probability
    $ε_p$ and the second with probability $ε_n$. What the loss gets to see is the noisy label ỹ
    times the score g: the margin z wherever the label was kept (blue, solid), and −z wherever it
    was flipped (orange, dashed). Look at the last column: the two orange probabilities add up to
    one rate ε.

    Args:
        table: columns winner, loser (names of answers), label, noisy (±1), probability: the four
            outcomes of one pair, whose probabilities sum to 1.
    """
    figure, axes = subplots(height=2.6)
    axes.set(xlim=(0, 1), ylim=(-0.8, 4.0))
    axes.axis("off")
    for column, head in _HEADS.items():
        side = "right" if column == "probability" else "center"
        axes.text(_COLUMNS[column], 3.8, head, ha=side, va="center", color="0.35", fontsize=7)
    pair = table.iloc[0][["winner", "loser"]].tolist()
    axes.text(_COLUMNS["pair"], 1.5, " beats ".join(pair), **_CENTRE)
    for label, middle in ((1, 2.5), (-1, 0.5)):
        rows = table[table.label == label]
        # [::-1] turns the pair around
        written = f"written ({', '.join(pair[::label])})\n$y = {label:+d}$"
        axes.text(_COLUMNS["order"], middle, written, **_CENTRE)
        chance = f"${_ORDER[label].strip('()')}$ = {rows.probability.sum():.3g}"
        _draw_branch(axes, (0.12, 1.5), (0.205, middle), chance, color="0.35")
        _draw_leaves(axes, rows, label, middle)
    axes.plot([_COLUMNS["loss"] - 0.05, 1], [-0.4, -0.4], color="0.5", linewidth=0.6)
    rate = table.probability[table.noisy != table.label].sum()
    sums = {rf"$z$:  $1-\varepsilon$ = {1 - rate:.3g}": _KEPT}
    sums[rf"$-z$:  $\varepsilon$ = {rate:.3g}"] = _FLIPPED
    for (text, colour), column in zip(sums.items(), ("loss", "probability"), strict=True):
        # the first ends in the middle of its column, the second at the right
        end = _COLUMNS[column] + (0.07 if column == "loss" else 0)
        axes.text(end, -0.65, text, color=text_colour(colour), ha="right", va="center")
    return figure


def _draw_leaves(axes: Axes, rows: pd.DataFrame, label: int, middle: float) -> None:
    """The two ends of one written order: the label kept, above, and flipped."""
    for noisy, height in ((label, middle + 0.5), (-label, middle - 0.5)):
        kept = noisy == label
        colour, linestyle = (_KEPT, "-") if kept else (_FLIPPED, "--")
        rate = f"1-{_RATE[label]}" if kept else _RATE[label]
        product = f"{_ORDER[label]}({rate})" if kept else rf"{_ORDER[label]}\,{rate}"
        probability = rows.probability[rows.noisy == noisy].sum()
        # an order that never occurs has no rates
        written = rows.probability.sum()
        share = f" = {probability / written:.3g}" if written > 0 else ""
        options = {"color": colour, "linestyle": linestyle}
        _draw_branch(axes, (0.37, middle), (0.55, height), f"${rate}${share}", **options)
        seen = "z" if kept else "-z"
        texts = {
            "noisy": rf"$\tilde y = {noisy:+d}$",
            "loss": rf"$\tilde y\,g = {seen}$",
            "probability": f"${product}$ = {probability:.3g}",
        }
        for column, text in texts.items():
            side = "right" if column == "probability" else "center"
            words = {"color": text_colour(colour), "ha": side, "va": "center"}
            axes.text(_COLUMNS[column], height, text, **words)


def _draw_branch(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str, **options: Any
) -> None:
    """A line of the tree, with the probability of going along it written on it."""
    axes.plot(*zip(start, end, strict=True), **options)
    middle = [(one + other) / 2 for one, other in zip(start, end, strict=True)]
    # on white, which interrupts the line
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    axes.text(*middle, text, color=text_colour(options["color"]), fontsize=7, bbox=box, **_CENTRE)


@style()
def fig_t2_tied_order(table: pd.DataFrame) -> Figure:
    """Where the longer answer mostly stands first, close pairs are ranked the wrong way round.
    Across: η, how often the longer answer of a pair truly wins. Up: how often the noisy labels of
    an annotator with a favourite position say that it wins. The noisy majority changes sides where
    a line crosses ½ (dots). If a coin has drawn the written order (blue, solid), that is at η = ½,
    as it should be. If the longer answer mostly stands first (orange, dashed), it is too far to the
    left: in the shaded strip the longer answer loses more often than it wins, and the noisy
    majority says that it is the better one.

    Args:
        table: columns eta, order ("drawn before annotation", "longer first"), noisy_eta.
    """
    figure, axes = subplots(height=2.7)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    names = {
        "drawn before annotation": "order drawn\nby a coin",
        "longer first": "longer answer\nmostly first",
    }
    ends = []
    for order, rows in table.groupby("order", sort=False):
        # the remedy in blue, the trap in red
        tied = order == "longer first"
        colour = OKABE_ITO["vermillion" if tied else "blue"]
        axes.plot(rows.eta, rows.noisy_eta, color=colour, linestyle="--" if tied else "-")
        ends.append(End(rows.noisy_eta.iloc[-1], names[order], colour))
        # the noisy label's majority is for the other answer
        wrong = (rows.eta - 0.5) * (rows.noisy_eta - 0.5) < 0
        axes.fill_between(rows.eta, 0, 1, where=wrong, color=colour, alpha=0.15, linewidth=0)
        if wrong.any():
            words = {"ha": "center", "va": "top", "color": text_colour(colour)}
            axes.text(rows.eta[wrong].mean(), 0.97, "ranked\nwrongly", **words)
        crossing = np.interp(0.5, rows.noisy_eta, rows.eta)
        axes.plot(crossing, 0.5, "o", color=colour)
    reference_line(axes, 0.5, "")
    axes.axvline(0.5, **GUIDE)
    quiet = {"color": "0.35", "fontsize": 7}
    axes.text(0.99, 0.52, "majority says: longer", ha="right", va="bottom", **quiet)
    axes.text(0.99, 0.48, "majority says: shorter", ha="right", va="top", **quiet)
    axes.text(0.99, 0.03, "the longer is better", ha="right", **quiet)
    axes.text(0.01, 0.03, "the shorter is better", **quiet)
    axes.set_xlabel("η: how often the longer answer truly wins")
    axes.set_ylabel("how often the noisy label says so")
    direct_labels(axes, ends, points=23)
    return figure


@style()
def fig_t3_logistic_penalty(table: pd.DataFrame) -> Figure:
    """Noise adds a bowl around 0 to the logistic loss, and a constant to the sigmoid loss.
    Left and middle, at one noise rate ε: the noisy loss (black) is the sum of its clean part
    (1−2ε)·ℓ(z) (blue, dashed) and of the penalty ε·(ℓ(z) + ℓ(−z)) (orange, dash-dotted), over the
    margin z. For the sigmoid loss the penalty is flat, and moves no minimum. Right: the noisy
    logistic loss of a pair that is always won, at five rates. Without noise it falls for ever; with
    noise it has a minimum (dots), which moves towards 0 as ε rises.

    Args:
        table: columns loss ("logistic", "sigmoid"), noise_rate, margin, clean (1−2ε)·ℓ(z), penalty
            ε·(ℓ(z) + ℓ(−z)) and risk, their sum. The first two panels show the highest rate.
    """
    # one scale: the right panel's highest curve is the left's sum
    figure, (left, middle, right) = subplots(1, 3, height=2.4, sharey=True)
    highest = table.noise_rate.max()
    titles = {"logistic": "logistic: plus a bowl", "sigmoid": "sigmoid: plus a constant"}
    for axes, (loss, title) in zip((left, middle), titles.items(), strict=True):
        rows = table[(table.loss == loss) & (table.noise_rate == highest)]
        _draw_parts(axes, rows)
        axes.set_title(title)
        note = {"color": "0.35", "fontsize": 7, "transform": axes.transAxes}
        axes.text(0.04, 0.93, f"ε = {highest:g}", **note)
    ends = _draw_minima(right, table[table.loss == "logistic"])
    right.set_title("logistic: the minima")
    left.set(ylabel="noisy loss and its parts", ylim=(0, 2.3))
    for axes in (left, middle, right):
        axes.set_xlabel("margin z")
    direct_labels(right, ends)
    return figure


# part: its name, colour and line style, and where its name stands: at the margin z, above or below
_PARTS = {
    "clean": ("clean part", OKABE_ITO["blue"], "--", 3.2, "bottom"),
    "penalty": ("penalty", OKABE_ITO["vermillion"], "-.", 0.3, "top"),
    "risk": ("sum", "#000000", "-", 0.2, "bottom"),
}


def _draw_parts(axes: Axes, table: pd.DataFrame) -> None:
    """The parts of one noisy loss and their sum, each with its name at its line."""
    for part, (name, colour, linestyle, at, side) in _PARTS.items():
        axes.plot(table.margin, table[part], color=colour, linestyle=linestyle)
        height = np.interp(at, table.margin, table[part])
        shift = (0, 3 if side == "bottom" else -3)
        words = {"color": text_colour(colour), "ha": "center", "va": side, "fontsize": 7}
        axes.annotate(name, (at, height), shift, textcoords="offset points", **words)


def _draw_minima(axes: Axes, table: pd.DataFrame) -> list[End]:
    """Draw a curve per noise rate, darker as it rises, with its minimum; the curves' right ends."""
    # shades and not colours: a rate is a number, with an order
    greys = np.linspace(0.7, 0, table.noise_rate.nunique()).astype(str)
    ends = []
    for grey, (rate, rows) in zip(greys, table.groupby("noise_rate"), strict=True):
        axes.plot(rows.margin, rows.risk, color=grey)
        ends.append(End(rows.risk.iloc[-1], f"ε = {rate:g}", grey))
        # without noise the loss has no minimum
        if rate > 0:
            lowest = rows.loc[rows.risk.idxmin()]
            axes.plot(lowest.margin, lowest.risk, "o", color=OKABE_ITO["vermillion"])
    return ends


@style()
def fig_t4_wrong_rate(table: pd.DataFrame) -> Figure:
    """What it costs to tell rDPO a wrong noise rate: wrong margins, and wrong orders.
    Across, in both panels: the rate that rDPO is told; the grey line is the true one. Left: the
    margin that rDPO learns for three pairs, by the formula (dashed) and fitted (dots), against
    their true margins (dotted). Told too little, it learns too small a margin; told too much, one
    that soon has no bound. Right: random problems with four answers and infinite data; the share in
    which the learned rewards reverse some pair, and the share in which they reverse none and tie
    one at the bounds of the rewards. Only where it is told the truth does rDPO do neither. The ramp
    loss is told nothing, so that it has one value.

    Args:
        table: columns panel ("margin", "fitted", "order"), series, noise_rate (the true one),
            assumed_rate, value. The series of "margin", by formula, and of "fitted" are true
            margins; those of "order" are "rDPO: reversed", "rDPO: tied" and "ramp: wrong".
    """
    figure, (left, right) = subplots(1, 2, height=2.7)
    pairs = _draw_margins(left, table[table.panel != "order"])
    shares = _draw_order_shares(right, table[table.panel == "order"])
    truth = table.noise_rate.iloc[0]
    left.set(ylabel="learned margin", ylim=(0, 5), title="margins of three pairs")
    right.set(
        ylabel="share of random problems", ylim=(-0.03, 1), title="four answers: wrong orders"
    )
    for axes in (left, right):
        # the truth, at which every learned margin is right
        axes.axvline(truth, color="0.5", linewidth=0.8, zorder=0)
        axes.set_xlabel("noise rate that rDPO is told")
        words = {"color": "0.35", "fontsize": 7, "ha": "right", "va": "top"}
        across = axes.get_xaxis_transform()
        axes.text(truth - 0.01, 1, "the true\nrate", transform=across, **words)
    direct_labels(left, pairs)
    direct_labels(right, shares)
    return figure


def _draw_margins(axes: Axes, table: pd.DataFrame) -> list[End]:
    ends = []
    for (series, rows), colour in zip(table.groupby("series"), _SHADES, strict=True):
        truth = float(series)
        formula, fitted = (rows[rows.panel == panel] for panel in ("margin", "fitted"))
        axes.plot(formula.assumed_rate, formula.value, color=colour, linestyle="--")
        # there are too many rates for a dot at each
        every = {"markevery": 4, "linestyle": "none"}
        axes.plot(fitted.assumed_rate, fitted.value, "o", color=colour, markersize=3, **every)
        axes.axhline(truth, color=colour, linewidth=0.6, linestyle=":")
        # named at the truth: the learned margins may leave the axes
        ends.append(End(truth, f"true {truth:g}", colour))
    return ends


def _draw_order_shares(axes: Axes, table: pd.DataFrame) -> list[End]:
    looks: dict[str, dict[str, Any]] = {
        "rDPO: reversed": look("rdpo"),
        # the same method, and a milder failure
        "rDPO: tied": {**look("rdpo"), "color": OKABE_ITO["black"], "marker": "o"},
        "ramp: wrong": look("ramp"),
    }
    ends = []
    for series, rows in table.groupby("series", sort=False):
        options = looks[series]
        # there are too many rates for a marker at each
        axes.plot(rows.assumed_rate, rows.value, **options, markevery=6)
        ends.append(End(rows.value.iloc[-1], series, options["color"], options["marker"]))
    return ends
