"""Figures 13 and 14: reward heads on real comparisons (notebook 08)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    GREY_NOTE,
    OKABE_ITO,
    End,
    direct_labels,
    in_order,
    interval_table,
    label,
    line_with_band,
    look,
    name_end,
    reference_line,
    style,
    subplots,
)

# how the flips look in Figure 14: colour, marker, line style,
# and how far its points are moved aside, so that no bar hides another
_FLIPS = {
    "none": (OKABE_ITO["black"], "o", "-.", -0.12),
    "uniform": (OKABE_ITO["orange"], "^", "--", 0.0),
    "near ties": (OKABE_ITO["blue"], "s", "-", 0.12),
}
# the losses whose contrasts are tested: bands of more would lie on one another
_TESTED = ("sigmoid", "ramp", "logistic", "hinge")
# of the scores of the two answers
_GAPS = ("near", "middle", "far")


@style()
def fig13_real_text(table: pd.DataFrame) -> Figure:
    """Test accuracy against ε, a line per loss and a panel per corpus; dotted: the longer answer.

    Args:
        table: columns corpus, method, noise_rate, seed, accuracy (ties ½), longer (that of "the
            longer answer") and prompts (their number), both the same for all rows of a corpus.
            Drawn are the four losses that are tested; bands are 95% t intervals over seeds.
    """
    corpora = list(dict.fromkeys(table.corpus))
    figure, axes = subplots(1, len(corpora), height=2.8, squeeze=False)
    for axis, corpus in zip(axes[0], corpora, strict=True):
        rows = table[(table.corpus == corpus) & table.method.isin(_TESTED)]
        ends = [_draw_loss(axis, rows, method) for method in in_order(rows.method)]
        # beside the last panel, where the line runs between the curves
        last = axis is axes[0, -1]
        reference_line(axis, rows.longer.iloc[0], "" if last else "the longer answer")
        axis.set_title(f"{corpus}\n{rows.prompts.iloc[0]:,} prompts")
        axis.set(xlabel="noise rate ε", xticks=sorted(rows.noise_rate.unique()))
    axes[0, 0].set_ylabel(f"test accuracy, n = {table.seed.nunique()} seeds")
    rule = End(rows.longer.iloc[0], "the longer answer", str(GREY_NOTE["color"]))
    direct_labels(axes[0, -1], [*ends, rule])
    return figure


def _draw_loss(axis: Axes, rows: pd.DataFrame, method: str) -> End:
    drawn = line_with_band(
        axis,
        rows[rows.method == method],
        x="noise_rate",
        value="accuracy",
        proportion=True,
        **look(method),
    )
    return name_end(method, drawn.estimate.iloc[-1])


@style()
def fig14_score_noise(table: pd.DataFrame) -> Figure:
    """Test accuracy by the gap of the two scores, a panel per loss and a line per kind of flips.

    Args:
        table: columns method, flips ("none", "uniform" or "near ties"), gap ("near", "middle" or
            "far"), seed, accuracy, pairs (their number, by gap); bars are 95% t intervals over
            seeds, dotted is chance.
    """
    methods = in_order(table.method)
    figure, axes = subplots(1, len(methods), height=2.6, sharey=True, squeeze=False)
    for axis, method in zip(axes[0], methods, strict=True):
        rows = table[table.method == method]
        ends = [_draw_flips(axis, rows[rows.flips == flips], flips) for flips in _FLIPS]
        axis.set(title=label(method), xlim=(-0.3, len(_GAPS) - 0.7))
        axis.set_xticks(range(len(_GAPS)), _GAPS)
        reference_line(axis, 0.5, "")
    axes[0, 0].set_ylabel("test accuracy")
    sizes = f"n = {table.seed.nunique()} seeds, {table.pairs.min()} pairs or more each"
    figure.supxlabel(f"gap between the two scores, in thirds; {sizes}")
    direct_labels(axes[0, -1], ends)
    return figure


def _draw_flips(axis: Axes, rows: pd.DataFrame, flips: str) -> End:
    colour, marker, linestyle, aside = _FLIPS[flips]
    drawn = interval_table(rows, by=["gap"], value="accuracy", proportion=True)
    drawn = drawn.set_index("gap").loc[[gap for gap in _GAPS if gap in set(rows.gap)]]
    places = [_GAPS.index(gap) + aside for gap in drawn.index]
    options = {"color": colour, "marker": marker, "linestyle": linestyle}
    axis.plot(places, drawn.estimate, **options)
    axis.vlines(places, drawn.low, drawn.high, color=colour, linewidth=0.8)
    return End(drawn.estimate.iloc[-1], f"flips: {flips}", colour)
