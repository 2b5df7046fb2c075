"""Notebook 12 drawn and tabulated: the family of losses, their temperatures, descent from afar."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    METHODS,
    End,
    direct_labels,
    in_order,
    label,
    look,
    name_end,
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
_NOTE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "color": "0.3"}


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
    """Share of random starts not in the true order after descent, a panel per start and budget.

    Args:
        table: columns begins ("with its own loss", "with logistic"), steps, loss, size, the
            standard deviation of the starting rewards, and wrong; starts, the same in all rows.
    """
    kinds = list(dict.fromkeys(zip(table.begins, table.steps, strict=True)))
    figure, panels = subplots(1, len(kinds), height=2.8, sharey=True)
    for axes, (begins, steps) in zip(panels, kinds, strict=True):
        rows = table[(table.begins == begins) & (table.steps == steps)]
        ends = [_line(axes, rows, loss, x="size", y="wrong") for loss in in_order(rows.loss)]
        axes.set_xscale("log", base=2)
        sizes = sorted(rows["size"].unique())
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes.set(title=f"begins {begins}\n{steps:,} steps", ylim=(-0.03, 1))
        direct_labels(axes, ends)
        if not rows.wrong.any():
            count = len(sizes) * rows.starts.iloc[0]
            note = f"each of {rows.loss.nunique()} losses:\n0 of {count:,} starts"
            axes.text(0.5, 0.6, note, transform=axes.transAxes, **_NOTE)
    panels[0].set_ylabel("not in the true order")
    figure.supxlabel(f"standard deviation of the {table.starts.iloc[0]:g} random starts")
    return figure


@style()
def fig7_temperatures(table: pd.DataFrame) -> Figure:
    """Agreement with noisy held-out labels against the temperature, on the seeds that choose it.

    A panel per noise rate, a line per loss, a ring at its chosen temperature.

    Args:
        table: columns method, noise_rate, temperature, validation (the mean over seeds), chosen
            (bool) and seeds.
    """
    rates = sorted(table.noise_rate.unique())
    figure, panels = subplots(1, len(rates), height=3, squeeze=False)
    for axes, rate in zip(panels[0], rates, strict=True):
        rows = table[table.noise_rate == rate]
        for loss in in_order(rows.method):
            _line(axes, rows.assign(loss=rows.method), loss, x="temperature", y="validation")
        chosen = rows[rows.chosen]
        ring = {"markerfacecolor": "none", "markeredgecolor": "black", "markersize": 8}
        axes.plot(chosen.temperature, chosen.validation, "o", **ring)
        axes.set_xscale("log", base=2)
        temperatures = sorted(rows.temperature.unique())
        axes.set_xticks(temperatures, [f"{temperature:g}" for temperature in temperatures])
        axes.set(xlabel="temperature T", title=f"ε = {rate:g}")
    panels[0, 0].set_ylabel("agrees with noisy held-out labels")
    handles, names = panels[0, 0].get_legend_handles_labels()
    title = f"mean over {table.seeds.iloc[0]} seeds; ring: the temperature taken"
    figure.legend(handles, names, ncols=5, loc="outside upper left", title=title)
    return figure


@style()
def fig7_loss_family(table: pd.DataFrame) -> Figure:
    """Reward accuracy of every loss at its own temperature and at T = 1, a panel per noise rate.

    Args:
        table: columns method, noise_rate, setting ("own T", "T = 1"), epoch ("final", "chosen"),
            estimate, low, high (95% t intervals over seeds) and n.
    """
    rates = sorted(table.noise_rate.unique())
    methods = in_order(table.method)
    height = 1.1 + 0.28 * len(methods)
    figure, panels = subplots(1, len(rates), height=height, sharey=True, squeeze=False)
    for axes, rate in zip(panels[0], rates, strict=True):
        for place, method in enumerate(methods):
            rows = table[(table.noise_rate == rate) & (table.method == method)]
            _draw_rows(axes, rows, method, place)
        axes.set(xlabel="reward accuracy, clean test pairs", title=f"ε = {rate:g}")
        axes.grid(axis="y", color="0.92", linewidth=0.6)
    panels[0, 0].set_yticks(range(len(methods)), [label(method) for method in methods])
    # the first loss at the top
    panels[0, 0].invert_yaxis()
    seeds = table.n.max()
    figure.suptitle(
        f"filled: own T; open: T = 1 (final epoch, 95% interval over n = {seeds} seeds)\n"
        "small: own T, epoch chosen on noisy pairs",
        fontsize=7,
        x=0.01,
        ha="left",
    )
    return figure


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
