"""Figures: one style, one look per method, one pure function per figure (tidy table in, Figure
out).

A figure function bears the stem of its files: `figures.fig1_mnist_losses` draws
`fig1_mnist_losses.pdf`. It reads and writes nothing; `save` does that. This module imports no
torch, so that figures can be redrawn from the csv alone.
"""

import io
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy.optimize import isotonic_regression

from sympo import stats
from sympo.studies import profiles
from sympo.studies.records import write_atomically

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
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}


class Method(NamedTuple):
    """How a loss or a method looks in every figure: symmetric losses are solid, all others
    dashed.
    """

    colour: str
    marker: str
    linestyle: str
    label: str


def _symmetric(colour: str, marker: str, label: str) -> Method:
    return Method(OKABE_ITO[colour], marker, "-", label)


def _other(colour: str, marker: str, label: str) -> Method:
    return Method(OKABE_ITO[colour], marker, "--", label)


METHODS: dict[str, Method] = {
    "sigmoid": _symmetric("blue", "o", "sigmoid"),
    "ramp": _symmetric("vermillion", "s", "ramp"),
    "unhinged": _symmetric("sky", "X", "unhinged"),
    "erf": _symmetric("purple", "<", "erf"),
    "cauchy": _symmetric("black", ">", "Cauchy"),
    "laplace": _symmetric("orange", "p", "Laplace"),
    "student_t2": _symmetric("sky", "h", "Student t₂"),
    "holder": _symmetric("green", "*", "Hölder"),
    "logistic": _other("black", "^", "logistic"),
    "hinge": _other("green", "v", "hinge"),
    "square": _other("purple", "D", "square"),
    "truncated_hinge": _other("orange", "P", "truncated hinge"),
    "exponential": _other("vermillion", "d", "exponential"),
    "savage": _other("blue", "H", "Savage"),
    "dpo": _other("black", "^", "DPO"),
    "cdpo": _other("sky", "<", "cDPO"),
    "rdpo": _other("orange", "P", "rDPO"),
    "ipo": _other("purple", "D", "IPO"),
    "ropo": _other("blue", "X", "ROPO"),
    "drdpo": _other("vermillion", "d", "Dr.DPO"),
    "repo": _other("sky", "h", "RE-PO"),
}
METHODS |= {
    f"sympo_{name}": METHODS[name]._replace(label=f"SymPO {METHODS[name].label}")
    for name in ("sigmoid", "ramp", "erf", "cauchy", "laplace", "student_t2")
}


def style():
    """The style of every figure, as a context (`with style():`) and as a decorator (`@style()`)."""
    return mpl.rc_context(STYLE)


def subplots(
    rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float = 2.4, **options
):
    """A figure `width` × `height` inches and its axes, as `pyplot.subplots` gives them.

    The figure is closed at once: pyplot forgets it, and a notebook shows it once, as the value of
    its cell.
    """
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), **options)
    plt.close(figure)
    return figure, axes


def look(method: str) -> dict:
    """Keywords of `Axes.plot` for `method`: its colour, marker and line style.

    Raises:
        ValueError: `METHODS` has no such method.
    """
    if method not in METHODS:
        raise ValueError(
            f"no look for method '{method}': add it to figures.METHODS, which has {', '.join(METHODS)}"
        )
    colour, marker, linestyle, _ = METHODS[method]
    return {"color": colour, "marker": marker, "linestyle": linestyle}


def in_order(methods: Iterable[str]) -> list[str]:
    """The methods without repetition, in the order of `METHODS`."""
    return sorted(set(methods), key=list(METHODS).index)


def interval_table(table: pd.DataFrame, *, by: str | list[str], value: str) -> pd.DataFrame:
    """Mean and 95% t interval of `value` over the rows of each group: columns `by`, estimate, low,
    high, n.
    """
    by = [by] if isinstance(by, str) else by
    rows = [[*key, *stats.mean_interval(group)] for key, group in table.groupby(by)[value]]
    return pd.DataFrame(rows, columns=[*by, *stats.Interval._fields])


def line_with_band(
    axes: Axes, table: pd.DataFrame, *, x: str, value: str, **options
) -> pd.DataFrame:
    """Draw the mean of `value` against `x` with its 95% t band over the remaining rows (seeds);
    `options` go to `plot`.

    Returns:
        what was drawn: columns `x`, estimate, low, high, n.
    """
    drawn = interval_table(table, by=x, value=value)
    (line,) = axes.plot(drawn[x], drawn.estimate, **options)
    axes.fill_between(
        drawn[x], drawn.low, drawn.high, color=line.get_color(), alpha=0.15, linewidth=0
    )
    return drawn


def reference_line(axes: Axes, y: float, label: str) -> None:
    """A thin grey horizontal line at `y`, named at its left end: chance, a bound, a true value."""
    axes.axhline(y, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
    axes.annotate(
        label,
        (0.01, y),
        (0, 1.5),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        **_GREY,
    )


_GREY = {"color": "0.4", "fontsize": 7, "ha": "left", "va": "bottom"}


def direct_labels(
    axes: Axes, labels: Iterable[tuple[float, str, str]], *, points: float = 9
) -> None:
    """Name lines beside their right ends, moved apart as little as possible so that no two names
    touch.

    Call it last: the room for the names depends on the limits of the axes.

    Args:
        labels: (height of the line's end in data units, text, colour) per line; an end that is not
            finite is left out.
        points: the least distance between two names, in points.
    """
    labels = sorted(label for label in labels if np.isfinite(label[0]))
    if not labels:
        return
    axes.figure.draw_without_rendering()  # settles the layout, which the distances depend on
    pixels = axes.figure.dpi / 72  # per point
    ends = axes.transData.transform([(axes.get_xlim()[1], end) for end, _, _ in labels])[:, 1]
    steps = np.arange(len(ends)) * points * pixels
    # Least squares under "each name at least one step above the last" is an isotonic regression of
    # end − step; clipping its solution keeps all names beside the axes.
    lowest = np.clip(
        isotonic_regression(ends - steps).x,
        axes.bbox.y0,
        max(axes.bbox.y0, axes.bbox.y1 - steps[-1]),
    )
    for (end, text, colour), offset in zip(labels, (lowest + steps - ends) / pixels, strict=True):
        axes.annotate(
            text, (1, end), (3, offset), xycoords=("axes fraction", "data"), textcoords="offset points",
            color=colour, va="center", annotation_clip=False,
        )  # fmt: skip


def save(
    figure: Figure, stem: str, data: pd.DataFrame | Mapping[str, pd.DataFrame], *, profile: str
) -> Figure:
    """Write `<stem>.pdf`, `<stem>.png` and `data/<stem>.csv` into the figures folder of `profile`.

    The same figure and data give the same bytes: no file bears a date.

    Args:
        data: the table behind the figure; a mapping of several goes to `data/<stem>_<name>.csv`,
            one file per name.
    Returns:
        the figure, so that a cell that ends in `save` shows it.
    """
    folder = _folder(profile)
    with style():
        figure.draw_without_rendering()
        # a second layout would start from the first and move things by a hair
        figure.set_layout_engine("none")
        _write_image(
            figure,
            folder / f"{stem}.pdf",
            {"CreationDate": None, "Creator": None, "Producer": None},
        )
        _write_image(figure, folder / f"{stem}.png", {"Software": None})
    tables = (
        {f"{stem}_{name}": table for name, table in data.items()}
        if isinstance(data, Mapping)
        else {stem: data}
    )
    for name, table in tables.items():
        _write_csv(table, folder / "data" / f"{name}.csv")
    return figure


def save_table(table: pd.DataFrame, stem: str, *, profile: str) -> pd.DataFrame:
    """Write `<stem>.md`, `<stem>.tex` (booktabs) and `data/<stem>.csv` into the figures folder of
    `profile`.

    The first two show three decimals; the csv holds six digits.

    Returns:
        the table, so that a cell that ends in `save_table` shows it.
    """
    folder = _folder(profile)
    shown = table.map(_cell)
    alignment = "".join(
        "r" if pd.api.types.is_numeric_dtype(dtype) else "l" for dtype in table.dtypes
    )
    write_atomically(folder / f"{stem}.md", to_markdown(shown, alignment))
    write_atomically(
        folder / f"{stem}.tex", shown.to_latex(index=False, escape=True, column_format=alignment)
    )
    _write_csv(table, folder / "data" / f"{stem}.csv")
    return table


def _folder(profile: str) -> Path:
    return profiles.figures_folder(profiles.resolve_profile(profile))


def _write_image(figure: Figure, path: Path, metadata: dict) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], metadata=metadata)
    write_atomically(path, buffer.getvalue())


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    # Six digits, and 1.0 stays a float: read again, the table prints the same.
    text = table.to_csv(
        index=False, float_format=lambda value: repr(float(f"{value:.6g}")), lineterminator="\n"
    )
    write_atomically(path, text)


def _cell(value) -> str:
    if not isinstance(value, float | np.floating):
        return "–" if value is None else str(value)
    if np.isnan(value):
        return "–"
    return f"{value:.1e}" if 0 < abs(value) < 0.001 else f"{value:.3f}"


def to_markdown(shown: pd.DataFrame, alignment: str) -> str:
    rule = ["---:" if side == "r" else "---" for side in alignment]
    rows = [list(map(str, shown.columns)), rule, *shown.to_numpy().tolist()]
    return "".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in rows
    )


# T5, T6 — symmetric losses (notebook 03)


@style()
def fig_t5_losses(table: pd.DataFrame) -> Figure:
    """Each loss, its sum with its mirror image, and its gradient weight on a log scale; symmetric
    losses on the left.

    Args:
        table: of `theory.tabulate_losses`: columns loss, symmetric, margin, value, sum, weight.
    """
    figure, axes = subplots(3, 2, height=6.4, sharex=True, sharey="row")
    for column, (symmetric, title) in enumerate(((True, "symmetric"), (False, "not symmetric"))):
        for loss, rows in table[table.symmetric == symmetric].groupby("loss", sort=False):
            options = look(loss) | {"markevery": (0.02, 0.12), "markersize": 3, "linewidth": 1}
            for axis, quantity in zip(axes[:, column], ("value", "sum", "weight"), strict=True):
                height = (
                    rows[quantity].where(rows[quantity] > 0)
                    if quantity == "weight"
                    else rows[quantity]
                )
                axis.plot(rows.margin, height, label=METHODS[loss].label, **options)
        axes[0, column].legend(
            title=title, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1), handlelength=2.4
        )
        axes[2, column].set_xlabel("margin z")
    for axis, label in zip(
        axes[:, 0], ("loss ℓ(z)", "ℓ(z) + ℓ(−z)", "weight −ℓ′(z), log scale"), strict=True
    ):
        axis.set_ylabel(label)
    axes[0, 0].set_ylim(-1.2, 3.2)
    axes[1, 0].set_ylim(-1.5, 4.5)
    axes[2, 0].set(yscale="log", ylim=(1e-4, 20))
    return figure


@style()
def fig_t6_minimisers(table: pd.DataFrame) -> Figure:
    """The margin that minimises the conditional risk against η, a panel per noise rate; shaded
    where many tie.

    Args:
        table: of `theory.tabulate_minimisers`: columns loss, noise_rate, eta, low, high.
    """
    rates = sorted(table.noise_rate.unique())
    figure, axes = subplots(1, len(rates), height=2.6, sharey=True, squeeze=False)
    for axis, rate in zip(axes[0], rates, strict=True):
        ends = []
        for loss, rows in table[table.noise_rate == rate].groupby("loss", sort=False):
            nearest = rows.high.where(rows.eta < 0.5, rows.low)  # to 0: the rest of a tie is shaded
            decided = nearest.where(rows.low * rows.high >= 0)  # a tie across 0 decides nothing
            axis.plot(rows.eta, decided, **look(loss) | {"markevery": 0.1, "markersize": 3})
            for side in (rows.eta < 0.5, rows.eta > 0.5):
                tie = {"where": side, "color": look(loss)["color"], "alpha": 0.12, "linewidth": 0}
                axis.fill_between(rows.eta, rows.low, rows.high, **tie)
            ends.append((decided.iloc[-1], METHODS[loss].label, look(loss)["color"]))
        axis.set(xlabel="clean probability η", title=f"noise rate ε = {rate:g}")
        reference_line(axis, 0, "")
    axes[0, 0].set_ylabel("minimising margin z")
    direct_labels(axes[0, -1], ends)
    return figure


# T7, T8, T9 — rank preservation, policy improvement, gradients (notebook 04)


@style()
def fig_t7_wrong_orders(table: pd.DataFrame) -> Figure:
    """Share of problems whose order each loss gets wrong, a panel per sampling; hatched: ties
    without a reversal.

    Args:
        table: of `theory.tabulate_wrong_orders` with a column sampling: loss, clip, noise_rate,
            reversed, tied, wrong.
    """
    table = table.assign(
        label=[_name_clip(*row) for row in zip(table["loss"], table["clip"], strict=True)]
    )
    labels, rates = list(dict.fromkeys(table.label)), sorted(table.noise_rate.unique())
    samplings = list(dict.fromkeys(table["sampling"]))
    figure, axes = subplots(1, len(samplings), height=2.7, sharex=True, sharey=True, squeeze=False)
    height = 0.8 / len(rates)
    for axis, sampling in zip(axes[0], samplings, strict=True):
        for row in table[table["sampling"] == sampling].itertuples():
            rank = rates.index(row.noise_rate)
            y = labels.index(row.label) + (rank - (len(rates) - 1) / 2) * height
            bar = {
                "height": height * 0.9,
                "color": look(row.loss)["color"],
                "alpha": 0.45 if rank == 0 else 1,
            }
            axis.barh(y, row.reversed, **bar)
            axis.barh(
                y,
                row.tied,
                left=row.reversed,
                **bar | {"color": "none"},
                edgecolor=bar["color"],
                hatch="//////",
            )
            axis.text(row.wrong + 0.02, y, f"{row.wrong:.1%}", va="center", fontsize=7)
        axis.set(
            title=f"pairs sampled {sampling}ly",
            xlim=(0, 1.22),
            yticks=range(len(labels)),
            yticklabels=labels,
        )
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    axes[0, 0].invert_yaxis()
    noise = " below ".join(f"ε = {rate:g}" for rate in reversed(rates))
    figure.supxlabel(f"wrong orders ({noise}; filled: a pair reversed, hatched: only tied)")
    return figure


def _name_clip(loss: str, clip: float) -> str:
    label = METHODS[loss].label
    return label if np.isnan(clip) else f"{label}, |r| ≤ {clip:g}"


@style()
def fig_t8_improvement(table: pd.DataFrame) -> Figure:
    """Gain over the reference policy against β, a panel per objective and a line per reward.

    Args:
        table: columns objective, reward, keeps_order (bool), beta, gain.
    """
    objectives, rewards = list(dict.fromkeys(table.objective)), list(dict.fromkeys(table.reward))
    colours = dict(
        zip(rewards, list(OKABE_ITO.values())[:1] + list(OKABE_ITO.values())[5:], strict=False)
    )
    figure, axes = subplots(1, len(objectives), height=2.5, squeeze=False)
    for axis, objective in zip(axes[0], objectives, strict=True):
        for reward, rows in table[table.objective == objective].groupby("reward", sort=False):
            line = "-" if rows.keeps_order.all() else "--"
            axis.plot(rows.beta, rows.gain, color=colours[reward], linestyle=line, label=reward)
        axis.set(xscale="log", xlabel="β", title=objective)
        reference_line(axis, 0, "")
    axes[0, 0].set_ylabel(r"gain over $\pi_{\mathrm{ref}}$")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        handlelength=2.6,
        loc="outside upper center",
        ncols=4,
    )
    return figure


@style()
def fig_t9_gradients(table: pd.DataFrame) -> Figure:
    """Weight on the gradient of h, relative to its value at h = 0, a panel per group of methods.

    Args:
        table: of `theory.tabulate_weights` with a column group: method, margin, relative, group.
    """
    groups = list(dict.fromkeys(table.group))
    figure, axes = subplots(1, len(groups), height=3.4, sharex=True, squeeze=False)
    for axis, group in zip(axes[0], groups, strict=True):
        for method, rows in table[table.group == group].groupby("method", sort=False):
            options = look(method) | {"markevery": (0.03, 0.13), "markersize": 3}
            axis.plot(rows.margin, rows.relative, label=METHODS[method].label, **options)
        axis.axvline(0, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
        axis.legend(
            title=group, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1), handlelength=2.6
        )
        axis.set_xlabel("← label disagrees    h    label agrees →")
        reference_line(axis, 0, "")
    axes[0, 0].set(ylabel="weight −dℓ/dh, relative to h = 0", ylim=(-1.2, 4.2))
    return figure


# Figures 1 and 2 — MNIST (notebooks 05 and 06)


@style()
def fig1_mnist_losses(table: pd.DataFrame) -> Figure:
    """Reward accuracy on clean test pairs at the final epoch against the noise rate, a line per
    loss.

    Args:
        table: columns method, noise_rate, seed, accuracy; bands are 95% t intervals over seeds.
    """
    figure, axes = subplots(height=2.8)
    ends = []
    for method in in_order(table.method):
        drawn = line_with_band(
            axes, table[table.method == method], x="noise_rate", value="accuracy", **look(method)
        )
        ends.append((drawn.estimate.iloc[-1], METHODS[method].label, METHODS[method].colour))
    reference_line(axes, 0.5, "chance")
    axes.set(xlabel="noise rate ε", ylabel="reward accuracy, clean test pairs")
    axes.set_xticks(sorted(table.noise_rate.unique()))
    direct_labels(axes, ends)
    return figure


@style()
def fig1_learning_curves(table: pd.DataFrame) -> Figure:
    """Reward accuracy, and the share of flipped training labels that are fitted, against the epoch,
    per noise rate.

    Args:
        table: columns method, noise_rate, seed, epoch, accuracy, fit_flipped (NaN where no label is
            flipped); bands are 95% t intervals over seeds.
    """
    rates = sorted(table.noise_rate.unique())
    figure, axes = subplots(2, len(rates), height=3.6, sharex=True, sharey="row", squeeze=False)
    for (top, bottom), rate in zip(axes.T, rates, strict=True):
        rows = table[table.noise_rate == rate]
        ends = [
            _learning_curves(axis, rows, value)
            for axis, value in ((top, "accuracy"), (bottom, "fit_flipped"))
        ]
        top.set_title(f"ε = {rate:g}")
        reference_line(top, 0.5, "chance" if rate == rates[0] else "")
        top.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes[0, 0].set_ylabel("reward accuracy,\nclean test pairs")
    axes[1, 0].set_ylabel("flipped training\nlabels fitted")
    figure.supxlabel("epoch")
    for axis, names in zip(axes[:, -1], ends, strict=True):
        direct_labels(axis, names)
    return figure


def _learning_curves(axes: Axes, table: pd.DataFrame, value: str) -> list[tuple[float, str, str]]:
    table = table.dropna(subset=value)
    if table.empty:
        axes.text(
            0.5,
            0.5,
            "no label\nis flipped",
            transform=axes.transAxes,
            ha="center",
            color="0.4",
            fontsize=7,
        )
    ends = []
    for method in in_order(table.method):
        few_markers = {
            "markevery": max(1, table.epoch.nunique() // 5),
            "markersize": 3,
            "linewidth": 1,
        }
        rows = table[table.method == method].astype({value: float})
        drawn = line_with_band(axes, rows, x="epoch", value=value, **look(method) | few_markers)
        ends.append((drawn.estimate.iloc[-1], METHODS[method].label, METHODS[method].colour))
    return ends


# how a kind of noise looks in Figure 2: colour, line style, name
_CONDITIONS = {
    "asymmetric": (OKABE_ITO["blue"], "-", "asymmetric"),
    "equivalent": (OKABE_ITO["orange"], "--", "its symmetric equivalent"),
    "tied": (OKABE_ITO["vermillion"], ":", "tied to the written order"),
}


@style()
def fig2_mnist_noise(risks: pd.DataFrame, rankings: pd.DataFrame) -> Figure:
    """Clean test risk against the epoch under three kinds of noise, and Kendall's τ between the
    rewards learned.

    A row per loss; a column per noise pair, then one for τ. A line is a seed, and so is a point; a
    bar is their mean.

    Args:
        risks: columns method, noise_pair, condition (asymmetric, equivalent or tied), seed, epoch,
            test_risk.
        rankings: columns method, comparison, seed, tau (and noise_pair, if there are several).
    """
    methods, pairs = in_order(risks.method), list(dict.fromkeys(risks.noise_pair))
    shape = {"sharex": "col", "width_ratios": [1] * len(pairs) + [1.1], "squeeze": False}
    figure, axes = subplots(len(methods), len(pairs) + 1, height=0.9 + 1.2 * len(methods), **shape)
    for row, method in zip(axes, methods, strict=True):
        _risk_curves(row[:-1], risks[risks.method == method], pairs)
        _ranking_points(row[-1], rankings[rankings.method == method])
        row[0].set_ylabel(f"{METHODS[method].label}:\nclean test risk")
    for axis, pair in zip(axes[0], pairs, strict=False):
        axis.set_title(f"({pair.replace('-', ', ')})")
        axis.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes[-1, 0].set_xlabel("epoch")
    axes[-1, -1].set_xlabel("Kendall's τ")
    names = [
        Line2D([], [], color=colour, linestyle=line, label=label)
        for colour, line, label in _CONDITIONS.values()
    ]
    figure.legend(
        handles=names,
        ncols=3,
        loc="outside upper left",
        title="label noise at the rates (εₚ, εₙ)",
        alignment="left",
    )
    return figure


def _risk_curves(axes: Iterable[Axes], risks: pd.DataFrame, pairs: list[str]) -> None:
    first, *others = axes
    for axis, pair in zip((first, *others), pairs, strict=True):
        for (condition, _), rows in risks[risks.noise_pair == pair].groupby(["condition", "seed"]):
            colour, linestyle, _ = _CONDITIONS[condition]
            axis.plot(rows.epoch, rows.test_risk, color=colour, linestyle=linestyle, linewidth=1)
    for axis in others:
        axis.sharey(first)
        axis.tick_params(labelleft=False)


def _ranking_points(axes: Axes, rankings: pd.DataFrame) -> None:
    comparisons = list(dict.fromkeys(rankings.comparison))
    for height, comparison in enumerate(comparisons):
        taus = rankings.tau[rankings.comparison == comparison]
        axes.plot(
            taus,
            np.full(len(taus), height),
            "o",
            color="black",
            markersize=3,
            alpha=0.5,
            markeredgewidth=0,
        )
        axes.plot(taus.mean(), height, "|", color="black", markersize=12)
    labels = [textwrap.fill(comparison, 18) for comparison in comparisons]
    axes.set(
        yticks=range(len(comparisons)), yticklabels=labels, ylim=(len(comparisons) - 0.5, -0.5)
    )
    axes.yaxis.tick_right()
    axes.spines[["left", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


# T2, T3, T4 — noise equivalence, symmetric noise, correction (notebook 02)


@style()
def fig_t2_tied_order(table: pd.DataFrame) -> Figure:
    """How often the noisy label says that the longer answer wins, against how often it truly does.

    Args:
        table: columns eta, order ("drawn before annotation", "longer first"), noisy_eta.
    """
    figure, axis = subplots(width=HALF, height=2.6)
    for order, rows in table.groupby("order", sort=False):
        tied = order == "longer first"
        colour = OKABE_ITO["vermillion" if tied else "blue"]
        axis.plot(
            rows.eta, rows.noisy_eta, color=colour, linestyle="--" if tied else "-", label=order
        )
        wrong = (rows.eta - 0.5) * (rows.noisy_eta - 0.5) < 0
        axis.fill_between(rows.eta, 0, 1, where=wrong, color=colour, alpha=0.15, linewidth=0)
        if wrong.any():
            axis.text(
                rows.eta[wrong].mean(),
                0.03,
                "mis-ranked",
                rotation=90,
                ha="center",
                va="bottom",
                fontsize=7,
            )
    reference_line(axis, 0.5, "")
    axis.axvline(0.5, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
    axis.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="P(longer wins), true", ylabel="P(noisy label says so)"
    )
    axis.legend(title="written order", loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


@style()
def fig_t3_logistic_penalty(table: pd.DataFrame) -> Figure:
    """Left: the noisy logistic loss as its clean part plus a penalty on the margin. Right: the
    minimum that it makes.

    Args:
        table: columns loss ("logistic", "sigmoid"), noise_rate, margin, clean (1−2ε)·ℓ(z), penalty
            ε·(ℓ(z) + ℓ(−z)) and risk, their sum. The left panel shows the highest rate.
    """
    figure, (left, right) = subplots(1, 2, height=2.7, sharey=True)
    rates = sorted(table.noise_rate.unique())
    shown = table[table.noise_rate == rates[-1]]
    logistic, sigmoid = (shown[shown.loss == loss] for loss in ("logistic", "sigmoid"))
    left.plot(logistic.margin, logistic.risk, color="black", label="logistic, noisy")
    left.plot(
        logistic.margin, logistic.clean, color=OKABE_ITO["sky"], linestyle="--", label="(1−2ε)·ℓ(z)"
    )
    left.plot(
        logistic.margin,
        logistic.penalty,
        color=OKABE_ITO["orange"],
        linestyle="-.",
        label="penalty",
    )
    left.plot(sigmoid.margin, sigmoid.penalty, color=OKABE_ITO["blue"], label="penalty of sigmoid")
    left.set(xlabel="margin z", ylabel="loss", title=f"the parts at ε = {rates[-1]:g}")
    left.legend(loc="upper center")
    greys, ends = np.linspace(0.7, 0, len(rates)).astype(str), []
    for colour, (rate, rows) in zip(
        greys, table[table.loss == "logistic"].groupby("noise_rate"), strict=True
    ):
        right.plot(rows.margin, rows.risk, color=colour)
        ends.append((rows.risk.iloc[-1], f"ε = {rate:g}", colour))
        if rate > 0:
            right.plot(
                *rows.loc[rows.risk.idxmin(), ["margin", "risk"]],
                "o",
                color=OKABE_ITO["vermillion"],
            )
    right.set(
        xlabel="margin z of a pair that is always won",
        ylabel="noisy logistic loss",
        ylim=(0, 3),
        title="the minima",
    )
    direct_labels(right, ends)
    return figure


@style()
def fig_t4_wrong_rate(table: pd.DataFrame) -> Figure:
    """What rDPO learns when it is told another noise rate: the margin of three pairs, and the order
    of four actions.

    Args:
        table: columns panel ("margin", "order"), series, noise_rate (the true one), assumed_rate,
            value. The series of "margin" are true margins; those of "order" are "rDPO: reversed",
            "rDPO: tied" and "ramp: wrong".
    """
    figure, (left, right) = subplots(1, 2, height=2.7)
    pairs, ends = [], []
    for (series, rows), colour in zip(
        table[table.panel == "margin"].groupby("series"), _SHADES, strict=True
    ):
        left.plot(rows.assumed_rate, rows.value, color=colour, linestyle="--")
        left.axhline(float(series), color=colour, linewidth=0.6, linestyle=":")
        pairs.append((float(series), f"true {float(series):g}", colour))
    looks = {
        "rDPO: reversed": look("rdpo"),
        "rDPO: tied": look("rdpo") | {"alpha": 0.5},
        "ramp: wrong": look("ramp"),
    }
    looks = {series: options | {"markevery": 6} for series, options in looks.items()}
    for series, rows in table[table.panel == "order"].groupby("series", sort=False):
        right.plot(rows.assumed_rate, rows.value, **looks[series])
        ends.append((rows.value.iloc[-1], series, looks[series]["color"]))
    for axis in (left, right):
        axis.axvline(table.noise_rate.iloc[0], color="0.5", linewidth=0.8, zorder=0)
        axis.set_xlabel("noise rate that rDPO is told")
    left.set(ylabel="learned margin", ylim=(0, 5), title="three pairs")
    right.set(ylabel="share of problems", ylim=(-0.03, 1), title="order of four actions")
    direct_labels(left, pairs)
    direct_labels(right, ends)
    return figure


_SHADES = [OKABE_ITO[name] for name in ("sky", "blue", "black")]


# Figures 3 and 4 — the world with a known reward (notebook 07)


@style()
def fig3_gold_win_rate(table: pd.DataFrame) -> Figure:
    """Win rate against the SFT model's answers by the true reward, against the noise rate, a line
    per method.

    A small point is a seed. Bars are 95% t intervals over seeds, where there are at least three:
    two say nothing.

    Args:
        table: columns method, noise_rate, seed, win_rate.
    """
    figure, axes = subplots(height=3)
    ends = _lines_over_rates(axes, table, "win_rate")
    reference_line(axes, 0.5, "the SFT model")
    axes.set(xlabel="noise rate ε", ylabel="true win rate against SFT")
    axes.set_xticks(sorted(table.noise_rate.unique()))
    direct_labels(axes, ends)
    return figure


def _lines_over_rates(axes: Axes, table: pd.DataFrame, value: str) -> list[tuple[float, str, str]]:
    """Draw the mean of `value` against the noise rate, a line per method; the names of the lines,
    at their ends.
    """
    methods, ends = in_order(table.method), []
    for rank, method in enumerate(methods):
        rows, options = table[table.method == method], look(method)
        drawn = interval_table(rows, by="noise_rate", value=value)
        aside = 0.006 * (rank - (len(methods) - 1) / 2)  # so that methods do not hide each other
        axes.plot(drawn.noise_rate + aside, drawn.estimate, **options)
        seeds = {"color": options["color"], "markersize": 2, "alpha": 0.5}
        axes.plot(rows.noise_rate + aside, rows[value], options["marker"], **seeds)
        sure = drawn[drawn.n >= 3]
        half = sure.high - sure.estimate
        axes.errorbar(
            sure.noise_rate + aside,
            sure.estimate,
            half,
            fmt="none",
            ecolor=options["color"],
            elinewidth=0.8,
        )
        ends.append((drawn.estimate.iloc[-1], METHODS[method].label, METHODS[method].colour))
    return ends


@style()
def fig4_gold_frontier(table: pd.DataFrame) -> Figure:
    """True reward against the KL to the reference, a line per method over β; a small point is a
    seed, a large one β.

    Args:
        table: columns method, beta, seed, kl, reward, reward_sft.
    """
    figure, axes = subplots(height=3)
    ends = []
    for method in in_order(table.method):
        rows, options = table[table.method == method], look(method)
        means = rows.groupby("beta")[["kl", "reward"]].mean()
        axes.plot(
            rows.kl,
            rows.reward,
            options["marker"],
            color=options["color"],
            markersize=2.5,
            alpha=0.35,
        )
        axes.plot(means.kl, means.reward, **options, label=METHODS[method].label)
        ends += [
            (kl, reward, beta)
            for beta, (kl, reward) in zip(means.index, means.to_numpy(), strict=True)
        ]
    for kl, reward, beta in ends:
        axes.annotate(
            f"{beta:g}", (kl, reward), (2, 3), textcoords="offset points", fontsize=5, color="0.4"
        )
    reference_line(axes, table.reward_sft.mean(), "the SFT model")
    axes.set(
        xscale="log",
        xlabel="KL to the SFT model, nats (log scale); numbers are β",
        ylabel="true reward",
    )
    axes.legend(handlelength=2.6)
    return figure


# Figures 5 and 6 — recorded pairs, judged by a reward model (notebooks 08 and 09)


@style()
def fig5_hh_win_rate(table: pd.DataFrame) -> Figure:
    """Anthropic HH: the judge's win rate against the SFT model, and accuracy on held-out pairs,
    over the noise rate.

    A small point is a seed. Bars are 95% t intervals over seeds, where there are at least three:
    two say nothing.

    Args:
        table: columns method, noise_rate, seed, win_rate, accuracy, judge_accuracy.
    """
    return _win_rate_and_accuracy(table)


@style()
def fig6_ultrafeedback_win_rate(table: pd.DataFrame) -> Figure:
    """As `fig5_hh_win_rate`, of UltraFeedback."""
    return _win_rate_and_accuracy(table)


def _win_rate_and_accuracy(table: pd.DataFrame) -> Figure:
    figure, (top, bottom) = subplots(2, 1, height=5.4, sharex=True)
    ends = [_lines_over_rates(top, table, "win_rate"), _lines_over_rates(bottom, table, "accuracy")]
    reference_line(top, 0.5, "the SFT model")
    reference_line(bottom, 0.5, "chance")
    reference_line(bottom, table.judge_accuracy.mean(), "the judge")
    top.set_ylabel("judge's win rate against SFT")
    bottom.set(ylabel="accuracy, clean held-out pairs", xlabel="noise rate ε")
    bottom.set_xticks(sorted(table.noise_rate.unique()))
    for axes, names in ((top, ends[0]), (bottom, ends[1])):
        direct_labels(axes, names)
    return figure
