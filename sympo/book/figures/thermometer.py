"""Figure T14: a noise rate read from triangles, and what its reading is good for (notebook 13)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    GUIDE,
    OKABE_ITO,
    look,
    style,
    subplots,
)

# a link is drawn as the loss of the same law
_LAWS = {"Bradley–Terry": "sigmoid", "probit": "erf", "Laplace": "laplace", "Cauchy": "cauchy"}
_FITS = {"ε fitted": ("blue", "o"), "ε = 0 assumed": ("vermillion", "s")}


@style()
def fig_t14_thermometer(table: pd.DataFrame) -> Figure:
    """What a triangle of pairs reads of the noise rate, and which gaps come back with it. Left:
    $(1-2ε)^2$ as one triangle reads it, against the gap of its neighbours: median and middle 90% of
    many draws; small gaps read anything. Middle: the same of infinitely many labels without a flip,
    where 1 is right: a wrong link is read as noise. Right: gaps between five answers, fitted with ε
    from the labels alone or with ε = 0 assumed, with 95% limits; the diagonal is the truth.

    Args:
        table: columns panel, series, noise_rate, labels (a pair; NaN: infinitely many), draws (of
            all labels; panel "reading" only), gap, value, low, high. Panel "reading": (1−2ε)², its
            median with its 5% and 95% quantiles, against the gap of two neighbours; "link": the
            same of infinitely many labels, a series per link; "magnitude": fitted gaps with their
            95% limits against the true ones, a series per fit.
    """
    figure, (reading, link, magnitude) = subplots(1, 3, height=2.7)
    link.sharey(reading)
    _draw_reading(reading, table[table.panel == "reading"])
    _draw_links(link, table[table.panel == "link"])
    _draw_magnitudes(magnitude, table[table.panel == "magnitude"])
    for axis in (reading, link):
        axis.set_xlabel("gap a − b = gap b − c")
    reading.set_ylabel("(1−2ε)² that is read")
    return figure


def _draw_reading(axes: Axes, table: pd.DataFrame) -> None:
    rows = table.sort_values("gap")
    colour = OKABE_ITO["blue"]
    axes.plot(rows.gap, rows.value, color=colour)
    axes.fill_between(rows.gap, rows.low, rows.high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline((1 - 2 * rows.noise_rate.iloc[0]) ** 2, **GUIDE)
    axes.set(title="one triangle’s reading", ylim=(0, 1.3), xlim=(rows.gap.min(), rows.gap.max()))
    first = rows.iloc[0]
    words = f"5–95% of {first.draws:,.0f} draws,\n{first.labels:.0f} labels a pair"
    words += "\ndotted: the truth"
    axes.text(0.97, 0.97, words, transform=axes.transAxes, ha="right", va="top", fontsize=7)


def _draw_links(axes: Axes, table: pd.DataFrame) -> None:
    for series, rows in table.groupby("series", sort=False):
        rows = rows.sort_values("gap")
        options = {**look(_LAWS[series]), "markevery": 4, "markersize": 3, "label": series}
        axes.plot(rows.gap, rows.value, **options)
    axes.set(title="a wrong link, no flips", xlim=(table.gap.min(), table.gap.max()))
    # the lines meet at their right ends, where names could not be told apart
    axes.legend(loc="lower right", title="infinitely many labels", title_fontsize=7)


def _draw_magnitudes(axes: Axes, table: pd.DataFrame) -> None:
    longest = table.gap.max()
    axes.plot([0, longest], [0, longest], **GUIDE)
    for series, rows in table.groupby("series", sort=False):
        colour, marker = _FITS[series]
        bars = {"yerr": [rows.value - rows.low, rows.high - rows.value], "elinewidth": 0.8}
        options = {"color": OKABE_ITO[colour], "marker": marker, "linestyle": "none"}
        axes.errorbar(rows.gap, rows.value, **bars, **options, markersize=3, label=series)
    # room for the legend above the longest gap
    axes.set(
        title="gaps that come back", xlabel="true gap", ylabel="fitted gap", ylim=(0, 1.8 * longest)
    )
    words = f"{table.labels.iloc[0]:.0f} labels a pair,\n95% limits"
    axes.legend(loc="upper left", title=words, title_fontsize=7, handletextpad=0.2)
