"""Figures T0 and T1: the example of the first notebooks, and what a label does (00 and 01)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    GREY_NOTE,
    GUIDE,
    OKABE_ITO,
    WIDTH,
    label,
    look,
    style,
    subplots,
    text_colour,
)

# a right label in blue, a wrong one in red, each with its marker
_LABELS = {"right": (OKABE_ITO["blue"], "o"), "wrong": (OKABE_ITO["vermillion"], "s")}
_SMALL = {"fontsize": 7}


@style()
def fig_t0_story(pairs: pd.DataFrame, pulls: pd.DataFrame) -> Figure:
    """Wrong labels, and how hard three losses pull at them. Left, for each pair of the four
    answers: the share of labels that name the better one, before the annotator slips (hollow) and
    after (filled). Slips move every share towards ½, and none beyond. Right: the pull of one label,
    $-\\ell'(z)$, against the margin $z$ that the model gives it. Left of 0 the label contradicts
    the model. There logistic pulls hardest, sigmoid and ramp let go.

    Args:
        pairs: columns better, worse, clean, noise_rate, noisy, as of `story.tabulate_pairs`.
        pulls: columns loss, margin, weight, as of `theory.tabulate_losses`.
    """
    figure, (left, right) = subplots(1, 2, height=2.5, width=WIDTH)
    _draw_shares(left, pairs)
    _draw_pulls(right, pulls)
    return figure


def _draw_shares(axes: Axes, pairs: pd.DataFrame) -> None:
    colour = OKABE_ITO["blue"]
    heights = range(len(pairs), 0, -1)
    for height, row in zip(heights, pairs.itertuples(), strict=True):
        axes.plot([row.noisy, row.clean], [height, height], color="0.7", zorder=1)
        axes.plot(row.clean, height, "o", markerfacecolor="white", color=colour)
        axes.plot(row.noisy, height, "o", color=colour)
    axes.axvline(0.5, **GUIDE)
    axes.annotate(
        "chance", (0.5, 0), (2, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
        **GREY_NOTE,
    )  # fmt: skip
    top = pairs.iloc[0]
    above = {"textcoords": "offset points", "ha": "center", "color": colour, **_SMALL}
    slips = f"slips, ε = {top.noise_rate:g}"
    axes.annotate(slips, (top.noisy, len(pairs)), (0, 6), **above)
    axes.annotate("no slips", (top.clean, len(pairs)), (0, 6), **above)
    axes.set_yticks(heights, [f"{row.better} over {row.worse}" for row in pairs.itertuples()])
    axes.set(xlim=(0.47, 1.03), ylim=(0.4, len(pairs) + 0.8))
    axes.set(xlabel="labels for the better answer, share", title="slips shrink every lead")


def _draw_pulls(axes: Axes, pulls: pd.DataFrame) -> None:
    # where no other line passes: (margin, height) of each name
    places = {"logistic": (-3.9, 0.86), "ramp": (1.1, 0.46), "sigmoid": (1.6, 0.2)}
    for loss, rows in pulls.groupby("loss", sort=False):
        axes.plot(rows.margin, rows.weight, **{**look(loss), "marker": ""})
        words = {"color": text_colour(look(loss)["color"]), "va": "center"}
        axes.text(*places[loss], label(loss), **words)
    axes.axvspan(pulls.margin.min(), 0, color="0.94", zorder=-1, linewidth=0)
    centred = {"ha": "center", "color": "0.35", **_SMALL}
    axes.text(-2, 1.06, "label contradicts", **centred)
    axes.text(2, 1.06, "label agrees", **centred)
    axes.set(xlim=(-4, 4), ylim=(0, 1.15), xticks=range(-4, 5, 2))
    axes.set(xlabel="margin z", ylabel="pull −ℓ′(z)", title="how hard one label pulls")


@style()
def fig_t1_two_ways(table: pd.DataFrame) -> Figure:
    """One label, written in two ways, has one margin. Each panel holds one label of the answers a
    and b; it is right on the left and wrong on the right. The pair can be written as (a, b) or as
    (b, a). The two scores $g$, the first reward minus the second, mirror each other, and so do the
    labels $y$; hence both lines end at the same margin $z = y \\cdot g$, positive where the label
    is right and negative where it is wrong. A dashed line is a multiplication by −1.

    Args:
        table: columns label ("right", "wrong"), first, second, y, score, margin, as of
            `story.write_two_ways`.
    """
    figure, panels = subplots(1, 2, height=2.5, width=WIDTH, sharey=True)
    for axes, (kind, rows) in zip(panels, table.groupby("label", sort=False), strict=True):
        colour, marker = _LABELS[kind]
        named = rows["first"].where(rows.y > 0, rows.second).iloc[0]
        for row in rows.itertuples():
            _draw_way(axes, row, colour, marker)
        words = {"color": text_colour(colour), "va": "center", "textcoords": "offset points"}
        axes.annotate(f"z = {row.margin:+g}".replace("-", "−"), (1, row.margin), (7, 0), **words)
        axes.axhline(0, **GUIDE)
        axes.set(xlim=(-0.32, 1.36), xticks=[0, 1], title=f"“{named} is better”: {kind}")
        axes.set_xticklabels(["score g\nas written", "margin\nz = y · g"])
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="x", length=0)
    highest = 1.3 * table.score.abs().max()
    panels[0].set(ylabel="difference of rewards", ylim=(-highest, highest))
    return figure


def _draw_way(axes: Axes, row, colour: str, marker: str) -> None:
    turned = row.y < 0
    axes.plot([0, 1], [row.score, row.margin], color=colour, linestyle="--" if turned else "-")
    axes.plot([0, 1], [row.score, row.margin], marker, color=colour)
    beside = {"textcoords": "offset points", "va": "center", **_SMALL}
    axes.annotate(f"({row.first}, {row.second})", (0, row.score), (-6, 0), ha="right", **beside)
    # beside the line, a quarter of the way: at the middle the two panels' lines would cross
    height = row.score + 0.25 * (row.margin - row.score)
    away = 8 if row.score > 0 else -8
    axes.annotate(f"y = {row.y:+d}".replace("-", "−"), (0.25, height), (6, away), **beside)


@style()
def fig_t1_margin_losses(table: pd.DataFrame) -> Figure:
    """What four losses charge for a margin. Against the margin $z$: the 0–1 loss, which counts
    wrong signs, and three that can be trained with. Dots mark the two labels of the answers a and
    b under their true rewards, the right label at the right and the wrong one at the left, with
    what each loss charges for the wrong one. All fall towards the right, so all prefer the right
    label; they differ in what a wrong label costs, and only 0–1 and sigmoid set a limit.

    Args:
        table: columns loss ("zero_one" or a name of the registry), margin, value and label, which
            is "right" or "wrong" at the margins of the two labels and empty elsewhere.
    """
    figure, axes = subplots(height=2.6, width=WIDTH)
    # points: 0–1 and sigmoid lie close, and hinge's line passes right of logistic's dot
    places = {"zero_one": (6, 7), "sigmoid": (6, -8), "logistic": (-6, -7)}
    for loss, rows in table.groupby("loss", sort=False):
        known = loss != "zero_one"
        line = look(loss) if known else {"color": "0.45", "linestyle": "-", "marker": "."}
        axes.plot(
            rows.margin,
            rows.value,
            drawstyle="default" if known else "steps-post",
            **{**line, "marker": ""},
        )
        marked = rows[rows.label.isin([*_LABELS])]
        axes.plot(marked.margin, marked.value, **{**line, "linestyle": "none"})
        wrong = marked[marked.label == "wrong"].iloc[0]
        place = places.get(loss, (6, 3))
        side = "left" if place[0] > 0 else "right"
        words = {"color": text_colour(line["color"]), "va": "center", "ha": side}
        text = f"{label(loss) if known else '0–1'}: {wrong.value:.2f}"
        axes.annotate(text, (wrong.margin, wrong.value), place, textcoords="offset points", **words)
    for kind, margin in table[table.label.isin([*_LABELS])].groupby("label").margin.first().items():
        axes.axvline(margin, **GUIDE)
        colour = text_colour(_LABELS[kind][0])
        top = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        side, gap = ("left", 3) if kind == "wrong" else ("right", -3)
        beside = {"ha": side, "va": "top", "color": colour, **_SMALL}
        axes.annotate(f"{kind} label of a and b", (margin, 1), (gap, 0), **top, **beside)
    axes.set(xlim=(table.margin.min(), table.margin.max()), ylim=(-0.1, None))
    axes.set(xlabel="margin z", ylabel="loss")
    return figure
