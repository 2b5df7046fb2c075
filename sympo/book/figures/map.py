"""Figure 16: the argument as a graph, and what its claims came to (notebook 16)."""

import textwrap
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from sympo.book.figures.style import OKABE_ITO, WIDTH, style, subplots

# Columns of the map: the left end of their boxes, the boxes' width, both in inches, and the letters
# that fit into a line of 7 points.
_COLUMNS = {
    "assumption": (0.02, 1.55, 26),
    "theorem": (2.03, 1.62, 27),
    "experiment": (4.12, 1.36, 22),
}
_HEADERS = {"theorem": "theorem, and its checks"}
Place = tuple[float, float, float, float]  # of a box: left, bottom, width, height, in inches
_LINE = 0.122  # inches: the height of a line of text
_GAP = 0.12  # between two boxes
# colour and sign of what a box came to; a sign too, for whoever sees no colours
_STATES = {
    "held": ("green", "✓"),
    "mixed": ("orange", "±"),
    "failed": ("vermillion", "✗"),
    "open": ("black", "…"),
}
_ARROW = {"facecolor": "none", "linewidth": 0.8, "alpha": 0.75, "zorder": 1}
# An arrow has the colour of where it begins, so that an eye can follow it; none is a state's.
_CYCLE = [OKABE_ITO[name] for name in ("blue", "purple", "sky")]
# the target of such an arrow asks for less than its source, or for more than it says
_DASHED = ("enough", "prompted")


@style()
def fig16_map(boxes: pd.DataFrame, arrows: pd.DataFrame) -> Figure:
    """The argument of the paper: what each theorem needs, what checks it, and what tests it. An
    arrow leads from what is needed to what needs it: from an assumption to a theorem, and from a
    theorem, which is checked in its own box, to the experiment that tests it in trained models. It
    is dashed where the assumption is enough and not needed, and where an experiment asks for more
    than the theorem says. Frames: green ✓, all as claimed; amber ±, in part; orange ✗, none,
    and something speaks against it; black …, not measured, or too few runs to tell.

    Args:
        boxes: columns column, id, text, note, state ("held", "mixed", "failed", "open" or empty),
            from top to bottom.
        arrows: columns source and target, ids of boxes, and kind; dashed are "enough" (the target
            asks for less than its source) and "prompted" (it asks for more than its source says).
    """
    boxes, arrows = _join_checks(boxes.fillna(""), arrows)
    lines = {each.id: _wrap(each) for each in boxes.itertuples()}
    heights = {name: _LINE * (len(text) + 0.9) for name, text in lines.items()}
    by_column = {name: list(part.id) for name, part in boxes.groupby("column", sort=False)}
    total = max(_measure(names, heights) for names in by_column.values())
    figure, axes = subplots(width=WIDTH, height=total + 0.35)
    places = {}
    for column, names in by_column.items():
        left, width, _ = _COLUMNS[column]
        header = _HEADERS.get(column, column)
        axes.text(left + width / 2, total + 0.12, header, ha="center", fontsize=8, weight="bold")
        # what is left over goes between the boxes
        spare = (total - _measure(names, heights)) / max(len(names) - 1, 1)
        top = total
        for name in names:
            places[name] = (left, top - heights[name], width, heights[name])
            top -= heights[name] + _GAP + spare
    for each in boxes.itertuples():
        _draw_box(axes, places[each.id], lines[each.id], each.state)
    colours = dict(zip(dict.fromkeys(arrows.source), _CYCLE * len(arrows), strict=False))
    for arrow in arrows.itertuples():
        look = {"edgecolor": colours[arrow.source], **_ARROW}
        if arrow.kind in _DASHED:
            look |= {"linestyle": (0, (3, 2))}
        _draw_arrow(axes, places[arrow.source], places[arrow.target], look)
    axes.set(xlim=(0, WIDTH), ylim=(-0.03, total + 0.3))
    axes.set_axis_off()
    return figure


def _join_checks(boxes: pd.DataFrame, arrows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A theorem and its check in one box: there is one check to each, so an arrow says nothing."""
    owners = arrows[arrows.kind == "checked"].set_index("target").source
    checks = boxes[boxes.id.isin(owners.index)].assign(owner=lambda rows: rows.id.map(owners))
    # what it came to belongs to the theorem
    found = checks.set_index("owner")[["note", "state"]]
    joined = boxes[~boxes.id.isin(owners.index)].set_index("id", drop=False)
    joined.loc[found.index, ["note", "state"]] = found
    rest = arrows[arrows.kind != "checked"]
    return joined.reset_index(drop=True), rest.assign(source=rest.source.replace(owners))


def _wrap(box: Any) -> list[str]:
    """The lines of a box: its text, and what it came to with the sign of that."""
    letters = _COLUMNS[box.column][2]
    lines = textwrap.wrap(box.text, letters)
    if box.note:
        sign = _STATES[box.state][1]
        lines += textwrap.wrap(f"{sign} {box.note}", letters)
    return lines


def _measure(names: list[str], heights: dict[str, float]) -> float:
    """The height of a column of boxes, in inches."""
    return sum(heights[name] for name in names) + _GAP * (len(names) - 1)


def _draw_box(axes: Axes, place: Place, lines: list[str], state: str) -> None:
    left, bottom, width, height = place
    colour = OKABE_ITO[_STATES[state][0]] if state else "0.6"
    frame = {"boxstyle": "round,pad=0,rounding_size=0.05", "facecolor": "white"}
    box = FancyBboxPatch((left, bottom), width, height, edgecolor=colour, zorder=2, **frame)
    axes.add_patch(box)
    # the colour stands in the frame alone: letters stay black, and legible
    words = {"ha": "center", "va": "center", "fontsize": 7, "linespacing": 1.15, "zorder": 3}
    axes.text(left + width / 2, bottom + height / 2, "\n".join(lines), **words)


def _draw_arrow(axes: Axes, source: Place, target: Place, look: dict[str, Any]) -> None:
    """A curve from the right side of one box to the left side of another."""
    start = (source[0] + source[2], source[1] + source[3] / 2)
    end = (target[0], target[1] + target[3] / 2)
    middle = (start[0] + end[0]) / 2
    points = [start, (middle, start[1]), (middle, end[1]), end]
    curve = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    axes.add_patch(PathPatch(curve, **look))
    axes.plot(*end, marker=">", markersize=3, color=look["edgecolor"], zorder=3)


# What a verdict looks like in the bars, from what held to what is open.
_VERDICTS = {
    "derived": ("blue", ""),
    "reproduced": ("green", ""),
    "no difference larger than 0.02": ("sky", "///"),
    "not seen at this scale": ("yellow", "..."),
    "contradicted": ("vermillion", "xxx"),
    "not measured": (None, ""),
    "not checked": (None, "---"),
}


# Which notebooks measure in one world: its name, and the first two letters of theirs.
_WORLDS = {
    "mathematics": ("01", "02", "03", "04"),
    "MNIST": ("05", "06", "07", "12", "13", "14"),
    "real text": ("08",),
    "small language models": ("09",),
    "large language models": ("10", "11"),
}


@style()
def fig16_verdicts(table: pd.DataFrame) -> Figure:
    """What the claims came to: how many of each kind were reproduced, derived or contradicted. A
    bar is a kind of claim in one world: mathematics, MNIST, real text, small language models whose
    reward is known, or the large ones of the paper. Its length, and the number at its end, is how
    many claims there are. Look at the two key results first, and for the orange parts.

    Args:
        table: columns group, notebook, outcome (a verdict), claims.
    """
    worlds = {number: world for world, numbers in _WORLDS.items() for number in numbers}
    bars = table.assign(world=table.notebook.str[:2].map(worlds))
    # what is derived is mathematics, also where a study stands beside it
    bars.loc[bars.outcome.isin(["derived", "not checked"]), "world"] = "mathematics"
    # the paper first
    groups = sorted(dict.fromkeys(bars.group), key=lambda group: group == "beyond the paper")
    order = [(group, world) for group in groups for world in _WORLDS]
    present = {*zip(bars.group, bars.world, strict=True)}
    names = [bar for bar in order if bar in present]
    places = {bar: _place_bar(number, names) for number, bar in enumerate(names)}
    figure, axes = subplots(height=0.6 + 0.19 * (max(places.values()) + 1))
    ends = dict.fromkeys(names, 0)
    # a verdict that this table does not know, such as smoke's, comes last
    known = [verdict for verdict in _VERDICTS if verdict in set(bars.outcome)]
    counted = bars.groupby(["outcome", "group", "world"], sort=False).claims.sum()
    for verdict in dict.fromkeys([*known, *bars.outcome]):
        part = counted[verdict]
        colour, hatch = _VERDICTS.get(verdict, (None, ""))
        face = OKABE_ITO[colour] if colour else "white"
        frame = {"edgecolor": "0.3", "linewidth": 0.5, "hatch": hatch, "height": 0.75}
        heights = [places[bar] for bar in part.index]
        starts = [ends[bar] for bar in part.index]
        axes.barh(heights, part, left=starts, color=face, label=verdict, **frame)
        ends.update({bar: ends[bar] + count for bar, count in part.items()})
    for bar, end in ends.items():
        beside = {"textcoords": "offset points", "va": "center", "fontsize": 7}
        axes.annotate(f"{end}", (end, places[bar]), (3, 0), **beside)
    axes.set_yticks(list(places.values()), [f"{group} · {world}" for group, world in names])
    axes.set_ylim(max(places.values()) + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="claims")
    figure.legend(loc="outside upper center", ncols=3, handlelength=1.6)
    return figure


def _place_bar(number: int, names: list[tuple[str, str]]) -> float:
    """The height of a bar: with a little room wherever a new group begins."""
    begun = len({group for group, _ in names[: number + 1]}) - 1
    return number + 0.35 * begun
