"""Figure 15: noise rates that an audit finds, beside those that were put in (notebook 15)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import GUIDE, OKABE_ITO, note_sample, style, subplots

# how far the outermost of a rate's intervals is moved aside, so that all can be seen
_SPREAD = 0.035


@style()
def fig15_noise_routes(table: pd.DataFrame) -> Figure:
    """Which routes of the audit find a noise rate that is known. A panel per route; a thin bar is
    the 95% interval from one draw of the data. Across: the rate that was put in, where the draws
    stand side by side. Blue bars hold the truth, which is on the dotted line, orange ones miss it;
    the numbers above count those that hold it.

    Args:
        table: columns route, noise_rate (the truth), seed, low, high, and covered (whether the
            interval holds the truth); an interval that misses it is drawn in another colour.
    """
    routes = list(dict.fromkeys(table.route))
    columns = min(len(routes), 3)
    rows = -(-len(routes) // columns)
    options = {"height": 0.4 + 1.9 * rows, "sharex": True, "sharey": True, "squeeze": False}
    figure, axes = subplots(rows, columns, **options)
    for axis, route in zip(axes.flat, routes, strict=False):
        _draw_route(axis, table[table.route == route])
        axis.set_title(route)
    for axis in axes.flat[len(routes) :]:
        axis.set_visible(False)
    figure.supxlabel("noise rate that was put in", x=0.3)
    figure.supylabel("noise rate found, 95% interval")
    count = table.seed.nunique()
    note_sample(figure, f"number: how many of {count} bars hold the truth")
    return figure


def _draw_route(axis: Axes, rows: pd.DataFrame) -> None:
    rates = sorted(rows.noise_rate.unique())
    axis.plot([0, 0.5], [0, 0.5], **GUIDE)
    for rate in rates:
        shown = rows[rows.noise_rate == rate].sort_values("seed")
        places = rate + np.linspace(-_SPREAD, _SPREAD, len(shown))
        for covered, colour in ((True, "blue"), (False, "vermillion")):
            chosen = shown.covered.to_numpy() == covered
            axis.vlines(
                places[chosen],
                shown.low[chosen],
                shown.high[chosen],
                color=OKABE_ITO[colour],
                linewidth=0.6,
            )
        axis.annotate(
            f"{shown.covered.sum()}",
            (rate, 0.93),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=7,
        )
    axis.set(xlim=(0, 0.5), ylim=(0, 0.62), xticks=rates)
