"""Figures T2 to T4: what noise does to labels and losses (notebook 02)."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    GUIDE,
    HALF,
    OKABE_ITO,
    End,
    direct_labels,
    look,
    reference_line,
    style,
    subplots,
)

# three pairs, from the smallest true margin to the largest
_SHADES = [OKABE_ITO[name] for name in ("sky", "blue", "black")]


@style()
def fig_t2_tied_order(table: pd.DataFrame) -> Figure:
    """How often the noisy label says that the longer answer wins, against how often it truly does.

    Args:
        table: columns eta, order ("drawn before annotation", "longer first"), noisy_eta.
    """
    figure, axes = subplots(width=HALF, height=2.6)
    for order, rows in table.groupby("order", sort=False):
        # the remedy in blue, the trap in red
        tied = order == "longer first"
        colour = OKABE_ITO["vermillion" if tied else "blue"]
        linestyle = "--" if tied else "-"
        axes.plot(rows.eta, rows.noisy_eta, color=colour, linestyle=linestyle, label=order)
        # the noisy label's majority is for the other answer
        wrong = (rows.eta - 0.5) * (rows.noisy_eta - 0.5) < 0
        axes.fill_between(rows.eta, 0, 1, where=wrong, color=colour, alpha=0.15, linewidth=0)
        if wrong.any():
            upright = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 7}
            axes.text(rows.eta[wrong].mean(), 0.03, "mis-ranked", **upright)
    reference_line(axes, 0.5, "")
    axes.axvline(0.5, **GUIDE)
    axes.set(xlabel="P(longer wins), true", ylabel="P(noisy label says so)")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(title="written order", loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


@style()
def fig_t3_logistic_penalty(table: pd.DataFrame) -> Figure:
    """The noisy logistic loss as its clean part plus a penalty on the margin, and its minima.

    Args:
        table: columns loss ("logistic", "sigmoid"), noise_rate, margin, clean (1−2ε)·ℓ(z), penalty
            ε·(ℓ(z) + ℓ(−z)) and risk, their sum. The left panel shows the highest rate.
    """
    # one scale: the right panel's highest curve is the left's sum
    figure, (left, right) = subplots(1, 2, height=2.7, sharey=True)
    highest = table.noise_rate.max()
    _draw_parts(left, table[table.noise_rate == highest])
    left.set(xlabel="margin z", ylabel="loss", title=f"the parts at ε = {highest:g}")
    left.legend(loc="upper center")
    ends = _draw_minima(right, table[table.loss == "logistic"])
    right.set(xlabel="margin z of a pair that is always won", ylabel="noisy logistic loss")
    right.set(ylim=(0, 3), title="the minima")
    direct_labels(right, ends)
    return figure


def _draw_parts(axes: Axes, table: pd.DataFrame) -> None:
    logistic = table[table.loss == "logistic"]
    sigmoid = table[table.loss == "sigmoid"]
    # both parts of one loss: another colour and line, the sum in black
    clean = {"color": OKABE_ITO["sky"], "linestyle": "--"}
    penalty = {"color": OKABE_ITO["orange"], "linestyle": "-."}
    axes.plot(logistic.margin, logistic.risk, color="black", label="logistic, noisy")
    axes.plot(logistic.margin, logistic.clean, **clean, label="(1−2ε)·ℓ(z)")
    axes.plot(logistic.margin, logistic.penalty, **penalty, label="penalty")
    axes.plot(sigmoid.margin, sigmoid.penalty, color=OKABE_ITO["blue"], label="penalty of sigmoid")


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
    """What rDPO learns when it is told another noise rate: margins, and an order of four actions.

    Args:
        table: columns panel ("margin", "fitted", "order"), series, noise_rate (the true one),
            assumed_rate, value. The series of "margin", by formula, and of "fitted" are true
            margins; those of "order" are "rDPO: reversed", "rDPO: tied" and "ramp: wrong".
    """
    figure, (left, right) = subplots(1, 2, height=2.7)
    pairs = _draw_margins(left, table[table.panel != "order"])
    shares = _draw_order_shares(right, table[table.panel == "order"])
    for axes in (left, right):
        # the truth, at which every learned margin is right
        axes.axvline(table.noise_rate.iloc[0], color="0.5", linewidth=0.8, zorder=0)
        axes.set_xlabel("noise rate that rDPO is told")
    left.set(ylabel="learned margin", ylim=(0, 5), title="three pairs (dots: fitted)")
    right.set(ylabel="share of problems", ylim=(-0.03, 1), title="order of four actions")
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
        "rDPO: tied": {**look("rdpo"), "alpha": 0.5},
        "ramp: wrong": look("ramp"),
    }
    ends = []
    for series, rows in table.groupby("series", sort=False):
        options = looks[series]
        # there are too many rates for a marker at each
        axes.plot(rows.assumed_rate, rows.value, **options, markevery=6)
        ends.append(End(rows.value.iloc[-1], series, options["color"]))
    return ends
