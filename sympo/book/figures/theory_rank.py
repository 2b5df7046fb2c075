"""Figures T7 to T9: the order of rewards, and what a policy makes of it (notebook 04)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    GUIDE,
    OKABE_ITO,
    End,
    direct_labels,
    label,
    look,
    reference_line,
    style,
    subplots,
)

# four actions: no two of the six lines between these places overlap
_ACTION_PLACES = {"a": 0.3, "b": 0.0, "c": 0.2, "d": 1.0}
_ACTION_COLOURS = [OKABE_ITO[name] for name in ("black", "blue", "vermillion", "purple")]
_NODE = {"marker": "o", "color": "white", "markersize": 13, "linestyle": ""}


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
