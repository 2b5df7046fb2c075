"""Figures T7 to T9: the order of rewards, and what a policy makes of it (notebook 04)."""

from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sympo.book.figures.style import (
    GUIDE,
    OKABE_ITO,
    WIDTH,
    End,
    direct_labels,
    label,
    look,
    note_sample,
    reference_line,
    style,
    subplots,
    text_colour,
)

# four answers: no two of the six lines between these places overlap
_PLACES = {"a": 0.3, "b": 0.0, "c": 0.2, "d": 1.0}
_ANSWER_COLOURS = [OKABE_ITO[name] for name in ("black", "blue", "vermillion", "purple")]
_NODE = {"marker": "o", "color": "white", "markersize": 13, "linestyle": ""}
_SMALL = 7  # points: the least size of words

_REVERSED = OKABE_ITO["vermillion"]
_TIED = "#F4B183"  # the same in pale: the milder error
# the policies of T8, by their place: the reference, two in the right order, a wrong one
_POLICY_COLOURS = ["0.55", OKABE_ITO["black"], OKABE_ITO["blue"], OKABE_ITO["vermillion"]]


@style()
def fig_t7_wrong_orders(table: pd.DataFrame) -> Figure:
    """How often the best reward of each loss has a wrong order. A bar is the share of random
    problems with four answers in which a pair is reversed (dark) or none is, and one is tied
    (pale); a panel for pairs that are compared unevenly often, one for equally often. Ramp is never
    wrong, nor sigmoid with room enough for its rewards. Noise does not move their bars, but does
    move those of logistic and hinge.

    Args:
        table: columns sampling ("uneven", …), loss, clip, noise_rate, problems, reversed, tied,
            wrong.
    """
    # a clipped loss is a case of its own, with bars of its own
    cases = [_name_case(row) for row in table.itertuples()]
    table = table.assign(case=cases)
    # both rates of a loss below one another, whatever the order of the rows
    ticks = sorted(dict.fromkeys(table.case), key=_rank_losses(cases))
    samplings = list(dict.fromkeys(table["sampling"]))
    height = 0.6 + 0.19 * len(ticks)
    figure, axes = subplots(1, len(samplings), height=height, sharex=True, sharey=True)
    # the bars of one loss lie closer together
    losses = [_name_loss(tick) for tick in ticks]
    new = [0.0, *(0.5 * (one != other) for one, other in pairwise(losses))]
    places = dict(zip(ticks, np.arange(len(ticks)) + np.cumsum(new), strict=True))
    for axis, sampling in zip(np.atleast_1d(axes), samplings, strict=True):
        _draw_wrong_orders(axis, table[table["sampling"] == sampling], places)
        axis.set(title=f"pairs compared {sampling}ly", xlim=(0, 1.25))
        axis.set_yticks([*places.values()], [_shorten(tick, ticks) for tick in ticks])
        axis.tick_params(axis="y", length=0)
        axis.set_xticks([0, 0.5, 1], ["0", "50%", "100%"])
    np.atleast_1d(axes)[0].invert_yaxis()
    kinds = {"a pair reversed": _REVERSED, "none reversed, one tied": _TIED}
    handles = [Patch(color=colour, label=kind) for kind, colour in kinds.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    if "problems" in table:
        figure.supxlabel("share of problems with a wrong order", x=0.4)
        note_sample(figure, f"of {table.problems.max()} random problems")
    return figure


def _name_case(row) -> str:
    clip = "" if np.isnan(row.clip) else f", |r| ≤ {row.clip:g}"
    return f"{label(row.loss)}{clip},  ε = {row.noise_rate:g}"


def _rank_losses(cases: list[str]) -> Callable[[str], int]:
    losses = list(dict.fromkeys(_name_loss(case) for case in cases))
    return lambda case: losses.index(_name_loss(case))


def _name_loss(case: str) -> str:
    return case.partition(",  ε")[0]


def _shorten(tick: str, ticks: list[str]) -> str:
    """The loss is named at its first bar only."""
    loss, _, rate = tick.partition(",  ε")
    first = next(each for each in ticks if each.startswith(f"{loss},  ε"))
    return tick.replace(",  ε", "   ε") if tick == first else f"ε{rate}"


def _draw_wrong_orders(axes: Axes, table: pd.DataFrame, places: dict[str, float]) -> None:
    for row in table.itertuples():
        y = places[row.case]
        axes.barh(y, row.reversed, height=0.8, color=_REVERSED)
        axes.barh(y, row.tied, left=row.reversed, height=0.8, color=_TIED)
        share = f"{row.wrong:.1%}" if row.wrong else "none"
        colour = "black" if row.wrong else "0.4"
        words = {"va": "center_baseline", "fontsize": _SMALL, "color": colour}
        axes.text(row.wrong + 0.02, y, share, **words)


@style()
def fig_t7_four_actions(pairs: pd.DataFrame, rewards: pd.DataFrame) -> Figure:
    """Logistic reverses c and d at a little noise, and ramp does not. Left: the four answers at the
    heights of their true rewards; the thick pairs are compared a thousand times as often as the
    dotted ones, and the number on each is the margin that logistic wishes for the pair by itself.
    Right: from the true rewards to the learned ones, which are fixed up to a constant: d is put at
    0. Where two lines cross, the pair is reversed: watch c and d.

    Args:
        pairs: columns better, worse, sampling and wish, the best margin of the pair by itself;
            written at the pairs that are sampled often.
        rewards: columns series, action, reward; the actions stand at those of the first series.
    """
    series = list(dict.fromkeys(rewards.series))
    heights = rewards.pivot(index="series", columns="action", values="reward").loc[series]
    ratios = [1.2, *[1] * (len(series) - 1)]
    figure, (graph, *panels) = subplots(1, len(ratios), height=3, sharey=True, width_ratios=ratios)
    colours = dict(zip(heights, _ANSWER_COLOURS, strict=False))
    _draw_pairs(graph, pairs, heights.iloc[0])
    for answer, value in heights.iloc[0].items():
        graph.plot(_PLACES[answer], value, **_NODE, markeredgecolor=colours[answer])
        graph.text(_PLACES[answer], value, answer, ha="center", va="center_baseline")
    graph.set(xlim=(-0.25, 1.25), xticks=[], ylabel="reward, answer d at 0")
    graph.margins(y=0.08)
    graph.set_title("what is compared,\nand what logistic wishes", fontsize=8)
    for axis, learned in zip(panels, series[1:], strict=True):
        _draw_learned(axis, heights.loc[[series[0], learned]], colours)
    return figure


def _draw_learned(axes: Axes, heights: pd.DataFrame, colours: dict[str, str]) -> None:
    """From the rewards of the first row to those of the second, a line per answer."""
    true, learned = heights.to_numpy()
    pairs = list(combinations(range(len(true)), 2))
    wrong = [(i, j) for i, j in pairs if (true[i] - true[j]) * (learned[i] - learned[j]) < 0]
    for column, (answer, values) in enumerate(heights.items()):
        # what is reversed is what to look at
        width = 2.4 if any(column in pair for pair in wrong) else 1.2
        axes.plot([0, 1], values, "o-", color=colours[answer], linewidth=width)
    names = [name.replace(", ", "\n") for name in heights.index]
    axes.set_xticks([0, 1], names)
    axes.set(xlim=(-0.25, 1.1))
    both = [" and ".join(heights.columns[[i, j]]) for i, j in wrong]
    verdict = f"{', '.join(both)} reversed" if wrong else "order kept"
    title = axes.set_title(f"{heights.index[1]}:\n{verdict}", fontsize=8)
    title.set(color=text_colour(_REVERSED) if wrong else "black")
    direct_labels(
        axes,
        [End(value, name, colours[name]) for name, value in zip(heights, learned, strict=True)],
    )


def _draw_pairs(axes: Axes, pairs: pd.DataFrame, heights: pd.Series) -> None:
    """Draw a line per pair: as wide as it is sampled often, dotted where it is rare."""
    most = pairs.sampling.max()
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}
    for pair in pairs.itertuples():
        answers = [pair.better, pair.worse]
        x, y = [_PLACES[answer] for answer in answers], heights[answers]
        if pair.sampling < most / 10:
            axes.plot(x, y, color="0.6", linestyle=":", linewidth=0.8, zorder=1)
            continue
        axes.plot(x, y, color="0.6", linewidth=3 * pair.sampling / most, zorder=1)
        words = {"ha": "center", "va": "center", "fontsize": _SMALL, "bbox": box}
        axes.text(np.mean(x), np.mean(y), f"{pair.wish:.2f}", **words)


@style()
def fig_t8_policies(table: pd.DataFrame) -> Figure:
    """Policies over the four answers, and their true reward. The first panel is the reference
    policy, the others are the reference tilted by a learned reward. Each bar is the probability of
    an answer, with the reference's as an outline; under each title stands the expected true reward
    $J$, and what it gains over the reference. A reward that shares only the order with the true one
    gains; a reward with the best two answers swapped loses.

    Args:
        table: columns policy, answer, probability, value, which is J, the first policy being the
            reference.
    """
    policies = list(dict.fromkeys(table.policy))
    figure, axes = subplots(1, len(policies), height=2.1, sharey=True, squeeze=False)
    reference = table[table.policy == policies[0]]
    panels = zip(axes[0], policies, _POLICY_COLOURS, strict=False)
    for axis, policy, colour in panels:
        rows = table[table.policy == policy]
        axis.bar(rows.answer, rows.probability, color=colour, width=0.7)
        if policy != policies[0]:
            outline = {"color": "none", "edgecolor": "0.3", "linewidth": 0.8, "linestyle": ":"}
            axis.bar(reference.answer, reference.probability, width=0.7, **outline)
        tops = np.maximum(rows.probability.to_numpy(), reference.probability.to_numpy())
        for place, (top, share) in enumerate(zip(tops, rows.probability, strict=True)):
            words = {"ha": "center", "va": "bottom", "fontsize": _SMALL}
            axis.text(place, top + 0.02, f"{share:.2f}", **words)
        gain = rows.value.iloc[0] - reference.value.iloc[0]
        gained = "" if policy == policies[0] else f" ({gain:+.2f})".replace("-", "−")
        value = f"J = {rows.value.iloc[0]:.2f}{gained}"
        title = axis.set_title(f"{policy}\n{value}", fontsize=8)
        title.set(color=text_colour(_REVERSED) if gain < 0 else "black")
        axis.set(ylim=(0, 1.12), yticks=[0, 0.5, 1], xlabel="answer")
    axes[0, 0].set_ylabel("probability")
    return figure


class _Name(NamedTuple):
    """Where the name of a line stands: beside its point at `at`, `offset` points away."""

    at: float
    offset: tuple[float, float]
    side: str = "left"  # of the name that is at the point


def _write_name(axes: Axes, curve: pd.Series, name: str, colour: str, place: _Name) -> None:
    """Write the name of `curve`, whose index is what the horizontal axis shows."""
    near = curve.index[np.abs(curve.index - place.at).argmin()]
    words = {"color": text_colour(colour), "fontsize": _SMALL, "ha": place.side}
    words["va"] = {0: "center", 1: "bottom", -1: "top"}[np.sign(place.offset[1])]
    point = {"xy": (near, curve[near]), "xytext": place.offset, "annotation_clip": False}
    axes.annotate(name, **point, textcoords="offset points", **words)


# Beside the lines of T8, which follow one another at small and large β: where each is alone. Each
# panel has its own; the lines of others are named in a legend.
_GAIN_NAMES = [
    {
        "r*": _Name(2.5, (-5, -2), "right"),
        "4 r*": _Name(20, (6, 2)),
        "a and b swapped": _Name(1.2, (6, 0)),
        "c and d swapped": _Name(6, (-5, 0), "right"),
    },
    {"r*": _Name(4, (6, 2)), "4 r*": _Name(30, (6, -2))},
]


@style()
def fig_t8_improvement(table: pd.DataFrame) -> Figure:
    """Gain over the reference policy against β, for rewards in right and wrong order. Small β
    trusts the learned reward more. Left: the gain in expected true reward $J$; solid lines, whose
    reward has the true order, stay above 0, and dashed ones, with answers swapped, need not.
    Right: the gain of $J - \\beta\\,\\mathrm{KL}$, where the right order is not enough: the
    steps of 4 r* are too large.

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
    known = set(rewards) <= _GAIN_NAMES[0].keys()
    for place, (axis, objective) in enumerate(zip(axes[0], objectives, strict=True)):
        for reward, rows in table[table.objective == objective].groupby("reward", sort=False):
            # as in every figure, solid is what keeps its promise
            linestyle = "-" if rows.keeps_order.all() else "--"
            options = {"color": colours[reward], "linestyle": linestyle, "label": reward}
            axis.plot(rows.beta, rows.gain, **options)
            if known:
                curve = rows.set_index("beta").gain
                name = reward.replace(" swapped", "\nswapped")
                _write_name(axis, curve, name, colours[reward], _GAIN_NAMES[place][reward])
        axis.set(xscale="log", title=f"gain of {objective}")
        reference_line(axis, 0, "")
    figure.supxlabel("← trusts the learned reward      β      stays near the reference →")
    axes[0, 0].set_ylabel(r"gain over $\pi_{\mathrm{ref}}$")
    if not known:
        # the same rewards in every panel
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, handlelength=2.6, loc="outside upper center", ncols=4)
    return figure


# Beside the lines of the methods whose weight is not even. Names not listed stand at the left end.
_UNEVEN_NAMES = {
    "ipo": _Name(-1.2, (-6, 0), "right"),
    "repo": _Name(-2.2, (-5, 3), "right"),
    "ropo": _Name(1.2, (7, 1)),
    "rdpo": _Name(-5.9, (0, -3)),
    "hinge": _Name(-5.9, (0, -3)),
}


@style()
def fig_t9_gradients(table: pd.DataFrame) -> Figure:
    """How hard each method pulls at a pair, by what the model thinks of its label. The horizontal
    axis is the policy margin $h$: left of 0 the model is sure of the opposite of the label. The
    vertical one is the weight on the pair's gradient, relative to $h = 0$. Above: methods whose
    weight is larger where the label disagrees; those on the left still pull at a label that the
    model finds absurd. Below: those whose weight is the same on both sides, so that a flip
    never pulls harder than a true label.

    Args:
        table: columns group, method, margin, relative. Each group has a panel for its methods with
            an uneven weight; those with an even one share the wide panel.
    """
    curves = table.pivot(index="margin", columns="method", values="relative")
    # a kink takes either value of its sides: ends apart, a point may be off
    evens = [m for m in curves if np.allclose(curves[m], curves[m][::-1], atol=1e-6)]
    groups = table.drop_duplicates("method").set_index("method").group
    panels = {
        group: [method for method in methods.index if method not in evens]
        for group, methods in groups.groupby(groups, sort=False)
    }
    mosaic = [[*panels], ["even"] * len(panels)] if evens else [[*panels]]
    figure, first = subplots(height=4.3 if evens else 2.4, width=WIDTH)
    first.remove()
    axes = figure.subplot_mosaic(mosaic, sharex=True)
    for group, methods in panels.items():
        _draw_uneven(axes[group], curves[methods])
        axes[group].set_title(f"{group}")
    if evens:
        order = [method for method in groups.index if method in evens]
        _draw_even(axes["even"], curves[order])
        axes["even"].set_title("the same on both sides (a symmetric loss)")
        figure.get_layout_engine().set(h_pad=0.08)
    for axis in axes.values():
        # where the policy does not yet prefer either answer
        axis.axvline(0, **GUIDE)
        reference_line(axis, 0, "")
        axis.set_xticks([-6, -3, 0, 3, 6])
        axis.tick_params(labelbottom=True)
    bottom = [axes["even"]] if evens else axes.values()
    for axis in bottom:
        axis.set_xlabel("← label disagrees    h    label agrees →")
    figure.supylabel("weight −dℓ/dh, relative to h = 0")
    return figure


def _draw_uneven(axes: Axes, curves: pd.DataFrame) -> None:
    for method, curve in curves.items():
        options = {**look(method), "markevery": (0.03, 0.13), "markersize": 3}
        axes.plot(curve.index, curve, **options)
        place = _UNEVEN_NAMES.get(method, _Name(-5.9, (0, 3)))
        _write_name(axes, curve, label(method), look(method)["color"], place)
    if "ipo" in curves:
        # IPO is a straight line that leaves every scale
        axes.set_ylim(-1.2, 4.2)


def _draw_even(axes: Axes, curves: pd.DataFrame) -> None:
    ends = []
    for methods in _group_equal(curves):
        # of equal curves one is drawn, a symmetric loss if there is one
        drawn = next((each for each in methods if look(each)["linestyle"] == "-"), methods[0])
        options = {**look(drawn), "markevery": (0.03, 0.065), "markersize": 3}
        axes.plot(curves.index, curves[drawn], **options)
        named = ", ".join(label(each) for each in methods)
        # the names stand in the order in which the curves pass h = 2, the widest at the top
        width = np.interp(2, curves.index, curves[drawn])
        ends.append((width, End(0, named, look(drawn)["color"], look(drawn)["marker"])))
    axes.set_ylim(-0.05, 1.1)
    heights = np.linspace(0.3, 0.8, len(ends))
    ordered = [end for _, end in sorted(ends, key=lambda pair: pair[0])]
    direct_labels(
        axes, [end._replace(height=y) for end, y in zip(ordered, heights, strict=True)], points=10
    )


def _group_equal(curves: pd.DataFrame) -> Iterable[list[str]]:
    """The methods, those with the same curve together."""
    groups: list[list[str]] = []
    for method in curves:
        twins = (group for group in groups if np.allclose(curves[group[0]], curves[method]))
        group = next(twins, None)
        if group is None:
            groups.append([method])
        else:
            group.append(method)
    return groups
