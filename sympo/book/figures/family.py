"""Notebook 12 drawn and tabulated: the family of losses, their temperatures, descent from afar."""

from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from sympo.book.figures.style import (
    GUIDE,
    METHODS,
    End,
    direct_labels,
    in_order,
    label,
    look,
    name_end,
    note_sample,
    style,
    subplots,
)

_HEADS = {
    "noise_rate": "ε",
    "method": "loss",
    "baseline": "minus",
    "estimate": "difference",
    "low": "95% from",
    "high": "to",
    "n": "seeds",
    "p_holm": "Holm p",
}
_MINUS = {
    "sigmoid": "members − sigmoid",
    "logistic": "losses − logistic",
    "light tails": "heavy − light tails",
}
_FADED = 0.03  # below the best of its row by so much, a cell is white


def show_contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """Contrasts to be read: three decimals, the labels of losses, heads in words, a row per loss.

    Args:
        table: columns method, estimate and others of `stats.contrasts`; what else it has stays.
    """
    labels = {name: method.label for name, method in METHODS.items()}
    names = [name for name in ("method", "baseline") if name in table]
    readable = table.assign(**{name: table[name].replace(labels) for name in names})
    return readable.round(3).rename(columns=_HEADS).set_index("loss")


def show_ranges(table: pd.DataFrame) -> pd.DataFrame:
    """Each family of contrasts in a row: its range, its outermost interval ends, its verdicts.

    Args:
        table: columns noise_rate, epoch, baseline ("sigmoid", "logistic", "light tails"), verdict
            and those of `stats.contrasts`.
    Returns:
        three decimals, heads in words, the number of tests with each verdict, and the median of
        detectable; the index is ε, epoch and the difference.
    """
    families = table.groupby(["noise_rate", "epoch", "baseline"], sort=False)
    ranges = families.agg(
        tests=("n", "size"),
        least=("estimate", "min"),
        greatest=("estimate", "max"),
        low=("low", "min"),
        high=("high", "max"),
        detectable=("detectable", "median"),
    )
    ranges = ranges.join(families.verdict.value_counts().unstack(fill_value=0))
    ranges = ranges.round(3).rename(index=_MINUS, level="baseline").rename(columns=_HEADS)
    return ranges.rename_axis(index=["ε", "epoch", "difference"])


@style()
def fig_t15_bad_starts(table: pd.DataFrame) -> Figure:
    """How often gradient descent from a random start misses the true order, loss by loss. Up: the
    share of starts not in the true order after so many steps. Across: how far the starts are from
    0. After more steps the losses with heavy tails (Cauchy, Laplace, Student’s $t_2$) are mostly
    home, those with light tails less, and ramp, whose slope is 0 far out, is where it was. A kind
    of start that never fails has no panel, and stands in the note.

    Args:
        table: columns begins ("with its own loss", "with logistic"), steps, loss, size, the
            standard deviation of the starting rewards, and wrong; starts, the same in all rows.
    """
    kinds = list(dict.fromkeys(zip(table.begins, table.steps, strict=True)))
    rows = {kind: _choose_kind(table, *kind) for kind in kinds}
    # a panel of zeros would show nothing, unless there is nothing else to show
    drawn = [kind for kind in kinds if rows[kind].wrong.any()] or kinds[:1]
    figure, panels = subplots(1, len(drawn), height=2.9, sharey=True, squeeze=False)
    for axes, kind in zip(panels[0], drawn, strict=True):
        ends = [
            _line(axes, rows[kind], loss, x="size", y="wrong") for loss in in_order(rows[kind].loss)
        ]
        axes.set_xscale("log", base=2)
        sizes = sorted(rows[kind]["size"].unique())
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes.set(title=_describe_start(*kind), ylim=(-0.03, 1))
        direct_labels(axes, ends)
    panels[0, 0].set_ylabel("starts not in the true order")
    figure.supxlabel(f"standard deviation of the {table.starts.iloc[0]:g} random starts")
    spared = [kind for kind in kinds if kind not in drawn]
    if spared:
        notes = [f"{_describe_start(*kind)} ({_count_wrong(rows[kind])})" for kind in spared]
        words = "not drawn, as none fails: " + "; ".join(notes)
        figure.suptitle(words, fontsize=7, color="0.3", x=0.01, ha="left")
    return figure


def _choose_kind(table: pd.DataFrame, begins: str, steps: int) -> pd.DataFrame:
    return table[(table.begins == begins) & (table.steps == steps)]


def _describe_start(begins: str, steps: int) -> str:
    own = begins == "with its own loss"
    return f"after {steps:,} steps" + ("" if own else f", begun {begins}")


def _count_wrong(rows: pd.DataFrame) -> str:
    count = rows["size"].nunique() * rows.starts.iloc[0]
    return f"each of {rows.loss.nunique()} losses: 0 of {count:,} starts"


@style()
def fig7_temperatures(table: pd.DataFrame) -> Figure:
    """Which temperature each loss takes, by its agreement with noisy held-out labels. A number is
    that agreement in %, the mean over the tuning seeds; a row is a loss, a column a temperature
    $T$, a panel a noise rate. Paler is further below the row's best; a frame marks the temperature
    taken. A frame in an outer column says that the best may lie beyond the grid.

    Args:
        table: columns method, noise_rate, temperature, validation (the mean over seeds), chosen
            (bool) and seeds.
    """
    rates = sorted(table.noise_rate.unique())
    methods = in_order(table.method)
    height = 0.75 + 0.19 * len(methods)
    figure, panels = subplots(1, len(rates), height=height, sharey=True, squeeze=False)
    # one scale of shades: the same distance from the best looks the same everywhere
    best = table.groupby(["method", "noise_rate"]).validation.transform("max")
    shaded = table.assign(below=best - table.validation)
    for axes, rate in zip(panels[0], rates, strict=True):
        _draw_temperatures(axes, shaded[shaded.noise_rate == rate], methods)
        axes.set(xlabel="temperature T", title=describe_rate(rate))
    panels[0, 0].set_yticks(range(len(methods)), [label(method) for method in methods])
    panels[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    note_sample(figure, f"agreement in %, mean over {table.seeds.iloc[0]} seeds; frame: taken")
    return figure


def _draw_temperatures(axes: Axes, rows: pd.DataFrame, methods: list[str]) -> None:
    temperatures = sorted(rows.temperature.unique())
    shades = colormaps["Blues"]
    for row in rows.itertuples():
        place = (temperatures.index(row.temperature), methods.index(row.method))
        corner = (place[0] - 0.47, place[1] - 0.44)
        # never so dark that black letters could not be read
        colour = shades(0.5 * max(0, 1 - row.below / _FADED))
        axes.add_patch(Rectangle(corner, 0.94, 0.88, facecolor=colour, linewidth=0))
        if row.chosen:
            frame = {"facecolor": "none", "edgecolor": "black", "linewidth": 1.2}
            axes.add_patch(Rectangle(corner, 0.94, 0.88, label="taken", **frame))
        axes.text(*place, f"{100 * row.validation:.1f}", ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(temperatures)), [f"{each:g}" for each in temperatures])
    axes.set_xlim(-0.5, len(temperatures) - 0.5)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def describe_rate(rate: float) -> str:
    """What a panel of one noise rate is called."""
    return f"{rate:.0%} of the labels flipped" if rate else "no label flipped"


@style()
def fig7_loss_family(table: pd.DataFrame) -> Figure:
    """How many held-out pairs each loss puts in order, at its own temperature and at $T = 1$.
    Filled markers: the loss at its own temperature; open ones: at $T = 1$, both after the last
    epoch. Small ones: its own temperature, and the epoch that noisy held-out pairs choose. Bars are
    95% intervals over seeds. All losses share the seeds, so a paired contrast is much sharper than
    these bars look. Where labels are flipped, compare the symmetric losses with those that are not.

    Args:
        table: columns method, noise_rate, setting ("own T", "T = 1"), epoch ("final", "chosen"),
            estimate, low, high (95% t intervals over seeds) and n.
    """
    rates = sorted(table.noise_rate.unique())
    methods = in_order(table.method)
    height = 1.1 + 0.28 * len(methods)
    figure, panels = subplots(1, len(rates), height=height, sharey=True, squeeze=False)
    # the symmetric ones come first
    symmetric = sum(METHODS[method].linestyle == "-" for method in methods if method in METHODS)
    for axes, rate in zip(panels[0], rates, strict=True):
        for place, method in enumerate(methods):
            rows = table[(table.noise_rate == rate) & (table.method == method)]
            _draw_rows(axes, rows, method, place)
        axes.set(xlabel="pairs of clean test images in order", title=describe_rate(rate))
        axes.grid(axis="y", color="0.92", linewidth=0.6)
        if 0 < symmetric < len(methods):
            axes.axhline(symmetric - 0.5, **GUIDE)
    if 0 < symmetric < len(methods):
        beside = {"rotation": 270, "va": "center", "fontsize": 7, "color": "0.3"}
        across = panels[0, -1].get_yaxis_transform()
        halves = {"symmetric": (symmetric - 1) / 2}
        halves["not symmetric"] = (symmetric + len(methods) - 1) / 2
        for name, middle in halves.items():
            panels[0, -1].text(1.02, middle, name, transform=across, **beside)
    panels[0, 0].set_yticks(range(len(methods)), [label(method) for method in methods])
    # the first loss at the top
    panels[0, 0].invert_yaxis()
    figure.legend(handles=_list_cases(), ncols=3, loc="outside upper center", handletextpad=0.2)
    note_sample(figure, f"bar: 95% interval over {table.n.max()} seeds")
    return figure


def _list_cases() -> list[Line2D]:
    """What the three markers of a loss are, for a legend."""
    grey = {"color": "0.3", "marker": "o", "linestyle": ""}
    return [
        Line2D([], [], label="own T, last epoch", **grey),
        Line2D([], [], label="T = 1, last epoch", markerfacecolor="white", **grey),
        Line2D([], [], label="own T, epoch chosen on noisy pairs", markersize=2.5, **grey),
    ]


def _draw_rows(axes: Axes, rows: pd.DataFrame, method: str, place: int) -> None:
    """Three intervals of one loss, one above the other."""
    drawn = {**look(method), "linestyle": "none", "markersize": 4}
    hollow = {"markerfacecolor": "white"}
    cases: list[tuple[tuple[str, str], float, dict[str, Any]]]
    cases = [
        (("own T", "final"), -0.22, {"elinewidth": 1.4}),
        (("T = 1", "final"), 0.02, {"elinewidth": 0.9, **hollow}),
        (("own T", "chosen"), 0.26, {"elinewidth": 0.6, "markersize": 2.5}),
    ]
    for (setting, epoch), shift, options in cases:
        case = rows[(rows.setting == setting) & (rows.epoch == epoch)]
        bars = [case.estimate - case.low, case.high - case.estimate]
        axes.errorbar(case.estimate, place + shift, xerr=bars, **{**drawn, **options})


def _line(axes: Axes, table: pd.DataFrame, loss: str, *, x: str, y: str) -> End:
    rows = table[table.loss == loss].sort_values(x)
    axes.plot(rows[x], rows[y], **look(loss), label=label(loss))
    return name_end(loss, rows[y].iloc[-1])
