"""The style of every figure, the look of every loss and method, and the parts that figures share.

Nothing here imports torch, so that figures can be redrawn from their csv alone.
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle, product
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, DrawingArea
from scipy.optimize import isotonic_regression

from sympo import stats
from sympo._names import unknown_name

WIDTH = 5.5  # inches: the text width of the paper
HALF = 2.65  # inches: two figures side by side

OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}

# Dark colours beyond Okabe and Ito's, for panels of many losses: of two in one panel, a reader who
# is blind to red or to green can tell which is which, too.
_DARK = {
    "wine": "#882255",
    "indigo": "#332288",
    "forest": "#1B5E20",
    "teal": "#117777",
    "crimson": "#B2182B",
}
_PALETTE = {**OKABE_ITO, **_DARK}
# Ours: pixels of a page for an inch of print. The widest figures then nearly fill a column of text,
# where their labels are easy to read. Their files hold twice as many, for screens that have them.
_PIXELS = 125

STYLE = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    # ships with matplotlib, so that every machine draws the same letters
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "figure.titlesize": 9,
    "figure.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "savefig.dpi": 2 * _PIXELS,
    # TrueType, whose letters an editor can still change; journals refuse matplotlib's Type 3
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}

_READABLE = 4.5  # least contrast of words
_GREY_WORDS = "0.4"
# small print beside a reference line
GREY_NOTE = {"color": _GREY_WORDS, "fontsize": 7, "ha": "left", "va": "bottom"}
# a line that only helps the eye: chance, a true value, the axis of a symmetry
GUIDE = {"color": "0.5", "linewidth": 0.8, "linestyle": ":", "zorder": 0}


class Method(NamedTuple):
    """How a loss or a method looks in every figure: symmetric ones solid, all others dashed."""

    colour: str
    marker: str
    linestyle: str
    label: str


def _symmetric(colour: str, marker: str, label: str) -> Method:
    return Method(_PALETTE[colour], marker, "-", label)


def _other(colour: str, marker: str, label: str) -> Method:
    return Method(_PALETTE[colour], marker, "--", label)


# The labels of the paper's losses and methods are written here as well as in the registry of
# sympo.losses, because reading the registry imports torch; a test holds the two together.
_PAPER_LOOKS = {
    "sigmoid": _symmetric("blue", "o", "sigmoid"),
    "ramp": _symmetric("vermillion", "s", "ramp"),
    "unhinged": _symmetric("sky", "X", "unhinged"),
    "erf": _symmetric("wine", "<", "erf"),
    "cauchy": _symmetric("indigo", ">", "Cauchy"),
    "laplace": _symmetric("orange", "p", "Laplace"),
    "student_t2": _symmetric("green", "h", "Student t₂"),
    "holder": _symmetric("forest", "*", "Hölder"),
    "logistic": _other("black", "^", "logistic"),
    "hinge": _other("green", "v", "hinge"),
    "square": _other("purple", "D", "square"),
    "truncated_hinge": _other("orange", "P", "truncated hinge"),
    "exponential": _other("sky", "d", "exponential"),
    "savage": _other("blue", "H", "Savage"),
    "dpo": _other("black", "^", "DPO"),
    "cdpo": _other("sky", "<", "cDPO"),
    "rdpo": _other("orange", "P", "rDPO"),
    "ipo": _other("purple", "D", "IPO"),
    "ropo": _other("teal", "X", "ROPO"),
    "drdpo": _other("crimson", "d", "Dr.DPO"),
    "repo": _other("indigo", "h", "RE-PO"),
}


def _add_sympo(looks: dict[str, Method]) -> dict[str, Method]:
    """`looks`, and after them SymPO with each symmetric loss, which looks like the loss itself."""
    sympo = {
        f"sympo_{name}": look._replace(label=f"SymPO {look.label}")
        for name, look in looks.items()
        if look.linestyle == "-"
    }
    return {**looks, **sympo}


METHODS: dict[str, Method] = _add_sympo(_PAPER_LOOKS)

# What a loss that is added to the registry can look like. Yellow is too faint for a line on white.
_COLOURS = [colour for name, colour in _PALETTE.items() if name != "yellow"]
_MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*", "<", ">")


@contextmanager
def style() -> Iterator[None]:
    """The style of every figure, as a context (`with style():`) and as a decorator (`@style()`).

    What the user has set, in a matplotlibrc or before, does not count: the same data give the same
    bytes for everyone.
    """
    with mpl.rc_context():
        # all but the backend and what else has no effect on a figure
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


class _ShownFigure(Figure):
    """A figure that a notebook shows as it is saved: in the size of print, sharp.

    Its label, if it has one, is what a reader hears who cannot see it.
    """

    def _ipython_display_(self) -> None:
        buffer = io.BytesIO()
        with style():
            self.savefig(buffer, format="png", metadata={"Software": None})
        display_png(buffer.getvalue(), inches=self.get_figwidth(), alt=self.get_label())


def display_png(data: bytes, *, inches: float, alt: str) -> None:
    """Show a picture under the running cell, larger than in print; `alt` may be empty."""
    from IPython.display import Image, display

    # In the metadata, because Colab's IPython 7 has no argument for it.
    metadata = {"alt": alt} if alt else None
    display(Image(data, width=int(inches * _PIXELS), metadata=metadata))


def subplots(
    rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float = 2.4, **options: Any
) -> tuple[Figure, Any]:
    """A figure of `width` × `height` inches and its axes, as `pyplot.subplots` returns them.

    pyplot does not know of it: a notebook shows it once, as the value of its cell, and no backend
    has a say in how it is drawn.
    """
    figure = _ShownFigure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def text_colour(colour: str) -> str:
    """The colour for words in `colour`: itself, or darkened until it can be read on white.

    Returns:
        a colour whose contrast with white is 4.5:1 or more.
    Source: WCAG 2.2, success criterion 1.4.3. Check: tests/book/test_figures.py.
    """
    red, green, blue = to_rgb(colour)
    for share in np.linspace(1, 0, 101):
        # the hue stays; of the digits that are returned
        darker = to_hex((share * red, share * green, share * blue))
        if contrast_on_white(darker) >= _READABLE:
            break
    return colour if share == 1 else darker


def contrast_on_white(colour: str) -> float:
    """The contrast of `colour` with white, from 1 (none) to 21 (black).

    Source: WCAG 2.2, the definitions of relative luminance and of contrast ratio.
    """
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return float(1.05 / (luminance + 0.05))


def look(method: str) -> dict[str, Any]:
    """Keywords of `Axes.plot` for a loss or method: its colour, marker and line style.

    Raises:
        ValueError: neither `METHODS` nor the registry knows it.
    """
    chosen = _find(method)
    return {"color": chosen.colour, "marker": chosen.marker, "linestyle": chosen.linestyle}


def label(method: str) -> str:
    """What a figure or table calls a loss or method, as "SymPO ramp" for `sympo_ramp`.

    Raises:
        ValueError: neither `METHODS` nor the registry knows it.
    """
    return _find(method).label


def in_order(methods: Iterable[str]) -> list[str]:
    """The methods without repetition: those of `METHODS` in its order, then the registry's others.

    Raises:
        ValueError: neither `METHODS` nor the registry knows one of them.
    """
    names = {name: _find(name) for name in methods}
    order = list(METHODS)
    if names.keys() - METHODS.keys():
        order.extend(_list_added())
    return sorted(names, key=order.index)


def _find(name: str) -> Method:
    if name in METHODS:
        return METHODS[name]
    added = _list_added()
    if name not in added:
        raise ValueError(unknown_name("loss or method", name, {**METHODS, **added}))
    return added[name]


def _list_added() -> dict[str, Method]:
    """Looks of what the registry has beyond `METHODS`, in colours and markers that are free there.

    They are dealt in the registry's order, so that a look depends on no figure and no data.
    """
    # here and not above, because it imports torch
    from sympo import losses

    taken = {(paper.colour, paper.marker) for paper in METHODS.values()}
    free = cycle(pair for pair in product(_COLOURS, _MARKERS) if pair not in taken)
    looks: dict[str, Method] = {}
    registry: list[losses.Loss | losses.PairLoss]
    registry = [*losses.LOSSES.values(), *losses.pair_losses().values()]
    for loss in registry:
        name = loss.name
        if name in METHODS:
            continue
        # `sympo_tanh` looks like `tanh`, which the registry lists before it
        margin_loss = looks.get(name.removeprefix("sympo_"))
        colour, marker = margin_loss[:2] if margin_loss else next(free)
        looks[name] = Method(colour, marker, "-" if loss.symmetric else "--", loss.label)
    return looks


def interval_table(
    table: pd.DataFrame, *, by: str | list[str], value: str, proportion: bool = False
) -> pd.DataFrame:
    """Mean and 95% t interval of `value` over the rows of each group, which are its seeds.

    Args:
        proportion: whether `value` lies in [0, 1], and so does its interval, as for an accuracy.
    Returns:
        the columns `by`, then estimate, low, high, n. A group of one or two rows has no interval:
        low and high are NaN.
    """
    keys = [by] if isinstance(by, str) else by
    rows = []
    for key, group in table.groupby(keys)[value]:
        interval = stats.mean_interval(group, proportion=proportion)
        rows.append([*key, *stats.withhold(interval)])
    return pd.DataFrame(rows, columns=[*keys, *stats.Interval._fields])


def line_with_band(
    axes: Axes,
    table: pd.DataFrame,
    *,
    x: str,
    value: str,
    proportion: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Draw the mean of `value` against `x` with its 95% t band over the other rows, the seeds.

    Where there are one or two seeds there is no band.

    Args:
        proportion: as for `interval_table`.
        options: go to `Axes.plot`.
    Returns:
        what was drawn: columns `x`, estimate, low, high, n.
    """
    drawn = interval_table(table, by=x, value=value, proportion=proportion)
    (line,) = axes.plot(drawn[x], drawn.estimate, **options)
    band = {"color": line.get_color(), "alpha": 0.15, "linewidth": 0}
    axes.fill_between(drawn[x], drawn.low, drawn.high, **band)
    return drawn


def note_sample(place: Figure | Axes, text: str) -> None:
    """Write what the bands are and of how many seeds, small and grey, at the lower right.

    Args:
        place: a figure, whose last line it becomes, or axes whose lower right is empty.
        text: as "band: 95% interval over 5 seeds".
    """
    small = {"color": _GREY_WORDS, "fontsize": 7, "ha": "right", "va": "bottom"}
    if isinstance(place, Figure):
        place.text(0.995, 0.005, text, **small)
        # beside a label of all columns there is room; otherwise a line is kept free below the axes
        if not place.get_supxlabel():
            line = 9 / 72 / place.get_figheight()
            place.get_layout_engine().set(rect=(0, line, 1, 1 - line))
        return
    beside = {"xycoords": "axes fraction", "textcoords": "offset points"}
    place.annotate(text, (1, 0), (-2, 2), **beside, **small)


def describe_bands(table: pd.DataFrame, what: str = "band") -> str:
    """What `note_sample` says of 95% intervals over the seeds of `table`; none where there are two.

    Args:
        what: what shows the interval, as "bar".
    """
    seeds = table.seed.nunique()
    if seeds < 3:
        return f"{seeds} seed{'s' * (seeds > 1)}, no intervals"
    return f"{what}: 95% over {seeds} seeds"


def reference_line(axes: Axes, y: float, text: str) -> None:
    """A thin grey horizontal line at `y`, named at its left end: chance, a bound, a true value."""
    axes.axhline(y, **GUIDE)
    # x follows the axes and y the data, so that the name stays at the line
    across = ("axes fraction", "data")
    axes.annotate(
        text, (0.01, y), (0, 1.5), xycoords=across, textcoords="offset points", **GREY_NOTE
    )


class End(NamedTuple):
    """The right end of a line, where its name is written."""

    height: float
    text: str
    colour: str
    marker: str = ""


def name_end(method: str, height: float, *, marked: bool = True) -> End:
    """The end of a method's line: at `height`, in data units, with its label and colour.

    Args:
        marked: whether its marker stands before the name; not where the line has none.
    """
    chosen = _find(method)
    return End(height, chosen.label, chosen.colour, chosen.marker if marked else "")


def direct_labels(axes: Axes, ends: Iterable[End | tuple], *, points: float = 9) -> None:
    """Write the names of lines beside their right ends, moved just far enough apart not to touch.

    Call it last: the room for the names depends on the limits of the axes.

    Args:
        ends: (height of the line's end in data units, text, colour) per line, and its marker where
            it has one; an end that is not finite is left out. The words are in `text_colour`.
        points: the least distance between two names, in points.
    """
    named = sorted(End(*end) for end in ends if np.isfinite(end[0]))
    if not named:
        return
    # settles the layout, which the distances depend on
    axes.figure.draw_without_rendering()
    right = axes.get_xlim()[1]
    heights = axes.transData.transform([(right, end[0]) for end in named])[:, 1]
    pixels = axes.figure.dpi / 72  # per point
    offsets = (_spread(heights, points * pixels, axes) - heights) / pixels
    beside = {"xycoords": ("axes fraction", "data"), "annotation_clip": False}
    # the names start below one another, whether there is a marker or not
    indent = 11 if any(end.marker for end in named) else 3
    for end, offset in zip(named, offsets, strict=True):
        words = {"color": text_colour(end.colour), "va": "center", "textcoords": "offset points"}
        axes.annotate(end.text, (1, end.height), (indent, offset), **beside, **words)
        if end.marker:
            box = {"xybox": (6, offset), "boxcoords": "offset points", "frameon": False, "pad": 0}
            axes.add_artist(AnnotationBbox(_draw_marker(end), (1, end.height), **beside, **box))


def _draw_marker(end: End) -> DrawingArea:
    # in a box of its own: among the lines of the axes it would be a line of one point
    size = mpl.rcParams["lines.markersize"]
    area = DrawingArea(size, size)
    area.add_artist(Line2D([size / 2], [size / 2], marker=end.marker, color=end.colour))
    return area


def _spread(heights: np.ndarray, step: float, axes: Axes) -> np.ndarray:
    """The nearest `heights`, in pixels and ascending, at least `step` apart and within `axes`."""
    steps = np.arange(len(heights)) * step
    # Least squares under "each name at least one step above the last" is an isotonic regression of
    # height − step; clipping its solution keeps all names beside the axes.
    top = max(axes.bbox.y0, axes.bbox.y1 - steps[-1])
    lowest = np.clip(isotonic_regression(heights - steps).x, axes.bbox.y0, top)
    return lowest + steps
