"""Figures T2 to T9: what the theory says, drawn from computed tables (notebooks 02 to 04)."""

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
    label,
    look,
    name_end,
    reference_line,
    style,
    subplots,
)

# three pairs, from the smallest true margin to the largest
_SHADES = [OKABE_ITO[name] for name in ("sky", "blue", "black")]
# four actions: no two of the six lines between these places overlap
_ACTION_PLACES = {"a": 0.3, "b": 0.0, "c": 0.2, "d": 1.0}
_ACTION_COLOURS = [OKABE_ITO[name] for name in ("black", "blue", "vermillion", "purple")]
_NODE = {"marker": "o", "color": "white", "markersize": 13, "linestyle": ""}


# T2, T3, T4 — noise equivalence, symmetric noise, correction (notebook 02)


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


# T5, T6 — symmetric losses (notebook 03)


@style()
def fig_t5_losses(table: pd.DataFrame) -> Figure:
    """Each loss, its sum with its mirror image, and its gradient weight; symmetric ones left.

    Args:
        table: columns loss, symmetric, margin, value, sum, weight.
    """
    figure, axes = subplots(3, 2, height=6.4, sharex=True, sharey="row")
    # too many curves for names at their ends: a legend above each column
    above = {"ncols": 2, "loc": "lower center", "bbox_to_anchor": (0.5, 1), "handlelength": 2.4}
    for column, symmetric in zip(axes.T, (True, False), strict=True):
        _draw_losses(column, table[table.symmetric == symmetric])
        column[0].legend(title="symmetric" if symmetric else "not symmetric", **above)
        column[2].set_xlabel("margin z")
    # within these limits the bounded losses can be told apart
    axes[0, 0].set(ylabel="loss ℓ(z)", ylim=(-1.2, 3.2))
    axes[1, 0].set(ylabel="ℓ(z) + ℓ(−z)", ylim=(-1.5, 4.5))
    axes[2, 0].set(ylabel="weight −ℓ′(z), log scale", yscale="log", ylim=(1e-4, 20))
    return figure


def _draw_losses(axes: np.ndarray, table: pd.DataFrame) -> None:
    """Draw each loss of `table` into three axes: its value, sum and weight."""
    for loss, rows in table.groupby("loss", sort=False):
        # markers at even distances along the curve, not at every grid point
        options = {**look(loss), "markevery": (0.02, 0.12), "markersize": 3, "linewidth": 1}
        # a log scale has no place for weights of zero, nor for those of square, negative beyond 1
        weight = rows.weight.where(rows.weight > 0)
        # `rows.sum` would be pandas' method
        for axis, heights in zip(axes, (rows.value, rows["sum"], weight), strict=True):
            axis.plot(rows.margin, heights, label=label(loss), **options)


@style()
def fig_t6_minimisers(table: pd.DataFrame) -> Figure:
    """The margin that minimises the conditional risk against η, a panel per noise rate.

    Shaded where many margins tie.

    Args:
        table: columns loss, noise_rate, eta, low, high.
    """
    rates = sorted(table.noise_rate.unique())
    figure, axes = subplots(1, len(rates), height=2.6, sharey=True, squeeze=False)
    for axis, rate in zip(axes[0], rates, strict=True):
        # in the order of the table: a later loss is drawn over an earlier one
        by_loss = table[table.noise_rate == rate].groupby("loss", sort=False)
        ends = [_draw_minimiser(axis, loss, rows) for loss, rows in by_loss]
        axis.set(xlabel="clean probability η", title=f"noise rate ε = {rate:g}")
        reference_line(axis, 0, "")
    axes[0, 0].set_ylabel("minimising margin z")
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


# T7, T8, T9 — rank preservation, policy improvement, gradients (notebook 04)


@style()
def fig_t7_wrong_orders(table: pd.DataFrame) -> Figure:
    """Share of problems whose order each loss gets wrong, a panel per sampling.

    Args:
        table: columns sampling ("uniform", …), loss, clip, noise_rate, reversed, tied, wrong.
    """
    # a clipped loss is a case of its own, with a bar of its own
    cases = zip(table["loss"], table["clip"], strict=True)
    table = table.assign(label=[_name_clip(loss, clip) for loss, clip in cases])
    labels = list(dict.fromkeys(table.label))
    samplings = list(dict.fromkeys(table["sampling"]))
    figure, axes = subplots(1, len(samplings), height=2.7, sharex=True, sharey=True, squeeze=False)
    for axis, sampling in zip(axes[0], samplings, strict=True):
        _draw_wrong_orders(axis, table[table["sampling"] == sampling], labels)
        # room on the right for the shares as text
        axis.set(title=f"pairs sampled {sampling}ly", xlim=(0, 1.22))
        axis.set_yticks(range(len(labels)), labels)
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    # shared: the first case at the top of every panel
    axes[0, 0].invert_yaxis()
    rates = sorted(table.noise_rate.unique(), reverse=True)
    noise = " below ".join(f"ε = {rate:g}" for rate in rates)
    figure.supxlabel(f"wrong orders ({noise}; filled: a pair reversed, hatched: only tied)")
    return figure


def _draw_wrong_orders(axes: Axes, table: pd.DataFrame, labels: list[str]) -> None:
    rates = sorted(table.noise_rate.unique())
    height = 0.8 / len(rates)
    for row in table.itertuples():
        rank = rates.index(row.noise_rate)
        # the bars of one case lie side by side around its tick
        y = labels.index(row.label) + (rank - (len(rates) - 1) / 2) * height
        colour = look(row.loss)["color"]
        # the lowest rate is paler
        bar = {"height": height * 0.9, "alpha": 0.45 if rank == 0 else 1}
        # hatched over white, so that the two parts of a bar can be told apart in grey
        hatching = {"color": "none", "edgecolor": colour, "hatch": "//////"}
        axes.barh(y, row.reversed, color=colour, **bar)
        axes.barh(y, row.tied, left=row.reversed, **bar, **hatching)
        axes.text(row.wrong + 0.02, y, f"{row.wrong:.1%}", va="center", fontsize=7)


def _name_clip(loss: str, clip: float) -> str:
    return label(loss) if np.isnan(clip) else f"{label(loss)}, |r| ≤ {clip:g}"


@style()
def fig_t7_four_actions(pairs: pd.DataFrame, rewards: pd.DataFrame) -> Figure:
    """Four actions at the heights of their rewards, the pairs compared, and what each fit learns.

    Args:
        pairs: columns better, worse, sampling and wish, the best margin of the pair by itself;
            written at the pairs that are sampled often.
        rewards: columns series, action, reward; the actions stand at those of the first series.
    """
    figure, (left, right) = subplots(1, 2, height=3.1, sharey=True)
    series = list(dict.fromkeys(rewards.series))
    heights = rewards.pivot(index="series", columns="action", values="reward").loc[series]
    _draw_pairs(left, pairs, heights.iloc[0])
    ends = []
    for (action, values), colour in zip(heights.items(), _ACTION_COLOURS, strict=True):
        left.plot(_ACTION_PLACES[action], values.iloc[0], **_NODE, markeredgecolor=colour)
        left.text(_ACTION_PLACES[action], values.iloc[0], action, ha="center", va="center")
        right.plot(range(len(series)), values, "o-", color=colour)
        ends.append(End(values.iloc[-1], action, colour))
    left.set(xlim=(-0.25, 1.25), xticks=[], ylabel="reward, the last action at 0")
    left.set(title="sampled pairs and what they wish")
    right.set_xticks(range(len(series)), [name.replace(", ", "\n") for name in series])
    right.set(title="learned rewards", xlim=(-0.2, len(series) - 0.8))
    direct_labels(right, ends)
    return figure


def _draw_pairs(axes: Axes, pairs: pd.DataFrame, heights: pd.Series) -> None:
    """Draw a line per pair: as wide as it is sampled often, dotted where it is rare."""
    most = pairs.sampling.max()
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
    for pair in pairs.itertuples():
        actions = [pair.better, pair.worse]
        x, y = [_ACTION_PLACES[action] for action in actions], heights[actions]
        if pair.sampling < most / 10:
            axes.plot(x, y, color="0.7", linestyle=":", linewidth=0.8, zorder=1)
            continue
        axes.plot(x, y, color="0.6", linewidth=3 * pair.sampling / most, zorder=1)
        words = {"ha": "center", "va": "center", "fontsize": 7, "bbox": box}
        axes.text(np.mean(x), np.mean(y), f"{pair.wish:.2f}", **words)


@style()
def fig_t8_improvement(table: pd.DataFrame) -> Figure:
    """Gain over the reference policy against β, a panel per objective and a line per reward.

    Args:
        table: columns objective, reward, keeps_order (bool), beta, gain.
    """
    objectives = list(dict.fromkeys(table.objective))
    rewards = list(dict.fromkeys(table.reward))
    # zip stops at the last reward: there may be fewer than colours
    # rewards are no methods, and have no look of their own
    palette = [OKABE_ITO[name] for name in ("black", "blue", "vermillion", "purple")]
    colours = dict(zip(rewards, palette, strict=False))
    figure, axes = subplots(1, len(objectives), height=2.5, squeeze=False)
    for axis, objective in zip(axes[0], objectives, strict=True):
        for reward, rows in table[table.objective == objective].groupby("reward", sort=False):
            # as in every figure, solid is what keeps its promise
            linestyle = "-" if rows.keeps_order.all() else "--"
            options = {"color": colours[reward], "linestyle": linestyle, "label": reward}
            axis.plot(rows.beta, rows.gain, **options)
        axis.set(xscale="log", xlabel="β", title=objective)
        reference_line(axis, 0, "")
    axes[0, 0].set_ylabel(r"gain over $\pi_{\mathrm{ref}}$")
    # the same rewards in every panel
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, handlelength=2.6, loc="outside upper center", ncols=4)
    return figure


@style()
def fig_t9_gradients(table: pd.DataFrame) -> Figure:
    """Weight on the gradient of h, relative to its value at h = 0, a panel per group of methods.

    Args:
        table: columns group, method, margin, relative.
    """
    groups = list(dict.fromkeys(table.group))
    figure, axes = subplots(1, len(groups), height=3.4, sharex=True, squeeze=False)
    above = {"ncols": 2, "loc": "lower center", "bbox_to_anchor": (0.5, 1), "handlelength": 2.6}
    for axis, group in zip(axes[0], groups, strict=True):
        for method, rows in table[table.group == group].groupby("method", sort=False):
            options = {**look(method), "markevery": (0.03, 0.13), "markersize": 3}
            axis.plot(rows.margin, rows.relative, label=label(method), **options)
        # where the policy does not yet prefer either answer
        axis.axvline(0, **GUIDE)
        axis.legend(title=group, **above)
        axis.set_xlabel("← label disagrees    h    label agrees →")
        reference_line(axis, 0, "")
    axes[0, 0].set(ylabel="weight −dℓ/dh, relative to h = 0", ylim=(-1.2, 4.2))
    return figure
