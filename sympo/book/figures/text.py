"""Figures 13 and 14: reward heads on real comparisons (notebook 08)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sympo.book.figures.style import (
    GREY_NOTE,
    OKABE_ITO,
    End,
    describe_bands,
    direct_labels,
    in_order,
    interval_table,
    label,
    look,
    name_end,
    note_sample,
    reference_line,
    style,
    subplots,
)

# how the flips look in Figure 14: name, colour, marker, line style,
# and how far its points are moved aside, so that no bar hides another
_FLIPS = {
    "none": ("no flips", OKABE_ITO["black"], "o", "-.", -0.12),
    "uniform": ("uniform flips", OKABE_ITO["orange"], "^", "--", 0.0),
    "near ties": ("flips near ties", OKABE_ITO["blue"], "s", "-", 0.12),
}
# as their publishers call them
_CORPORA = {
    "helpful": "HH, helpful",
    "harmless": "HH, harmless",
    "ultrafeedback": "UltraFeedback",
}
# the losses whose contrasts are tested: lines of more would lie on one another
_TESTED = ("sigmoid", "ramp", "logistic", "hinge")
# of the scores of the two answers
_GAPS = ("near", "middle", "far")


@style()
def fig13_real_text(table: pd.DataFrame) -> Figure:
    """Test accuracy of reward heads on real comparisons, a panel per corpus. On the axes the share
    $ε$ of training labels that are flipped and the share of test pairs whose unflipped label the
    head agrees with, at the last epoch and each loss's own setting. Symmetric losses are solid,
    others dashed; bars are 95% intervals over seeds, which leave out the chance in the test
    prompts. Dotted are chance and “the longer answer is better”, a rule that learns nothing. Look
    at which heads lie above the rule, and at how far the losses lie apart beside what the flips
    cost. Each loss reads the features chosen for it, so that a panel compares features as well.

    Args:
        table: columns corpus, method, noise_rate, seed, accuracy (ties ½), longer (that of "the
            longer answer") and prompts (their number), both the same for all rows of a corpus.
            Drawn are the four losses that are tested.
    """
    corpora = list(dict.fromkeys(table.corpus))
    # on one scale, so that the corpora can be compared
    figure, axes = subplots(1, len(corpora), height=2.9, sharey=True, squeeze=False)
    for axis, corpus in zip(axes[0], corpora, strict=True):
        rows = table[(table.corpus == corpus) & table.method.isin(_TESTED)]
        methods = in_order(rows.method)
        asides = [0.008 * (rank - (len(methods) - 1) / 2) for rank in range(len(methods))]
        ends = [
            _draw_loss(axis, rows, method, aside)
            for method, aside in zip(methods, asides, strict=True)
        ]
        reference_line(axis, 0.5, "chance")
        # beside the last panel, where the line runs between the curves
        last = axis is axes[0, -1]
        reference_line(axis, rows.longer.iloc[0], "" if last else "the longer answer")
        axis.set_title(f"{_CORPORA.get(corpus, corpus)}\n{rows.prompts.iloc[0]:,} test prompts")
        axis.set(xlabel="noise rate ε", xticks=sorted(rows.noise_rate.unique()))
        axis.xaxis.set_major_formatter("{x:g}")
    axes[0, 0].set_ylabel("test accuracy")
    note_sample(figure, describe_bands(table, "bar"))
    rule = End(rows.longer.iloc[0], "the longer answer", str(GREY_NOTE["color"]))
    direct_labels(axes[0, -1], [*ends, rule])
    return figure


def _draw_loss(axis: Axes, rows: pd.DataFrame, method: str, aside: float) -> End:
    drawn = interval_table(
        rows[rows.method == method], by=["noise_rate"], value="accuracy", proportion=True
    )
    options = look(method)
    # moved aside, so that no bar hides another
    axis.plot(drawn.noise_rate + aside, drawn.estimate, **options)
    bars = {"color": options["color"], "linewidth": 0.8}
    axis.vlines(drawn.noise_rate + aside, drawn.low, drawn.high, **bars)
    return name_end(method, drawn.estimate.iloc[-1])


@style()
def fig14_score_noise(table: pd.DataFrame) -> Figure:
    """Test accuracy by how far apart the two scores of a pair are, a panel per loss. On the axes
    the third of UltraFeedback's test pairs, from nearly equal scores to the largest gaps, and the
    share of them whose better scored answer the head prefers. Heads were trained without flips,
    with flips that hit every pair alike (uniform), and with as many flips that hit mostly pairs of
    nearly equal scores (near ties). Bars are 95% intervals over seeds, which leave out the chance
    in the test pairs; dotted is chance. Look at the shaded third: if flips near ties do little
    harm, the squares lie above the triangles there, and beside the circles.

    Args:
        table: columns method, flips ("none", "uniform" or "near ties"), gap ("near", "middle" or
            "far"), seed, accuracy, pairs (their number, by gap).
    """
    methods = in_order(table.method)
    figure, axes = subplots(1, len(methods), height=2.8, sharey=True, squeeze=False)
    for axis, method in zip(axes[0], methods, strict=True):
        rows = table[table.method == method]
        far = len(_GAPS) - 1
        axis.axvspan(far - 0.35, far + 0.35, color="0.93", linewidth=0, zorder=0)
        ends = [_draw_flips(axis, rows[rows.flips == flips], flips) for flips in _FLIPS]
        axis.set(title=label(method), xlim=(-0.4, far + 0.4))
        axis.set_xticks(range(len(_GAPS)), _GAPS)
        axis.set_xlabel("gap of the scores")
        reference_line(axis, 0.5, "")
    axes[0, 0].set_ylabel("test accuracy")
    note_sample(figure, f"{describe_bands(table, 'bar')}; {table.pairs.min()} pairs or more each")
    direct_labels(axes[0, -1], ends)
    return figure


def _draw_flips(axis: Axes, rows: pd.DataFrame, flips: str) -> End:
    name, colour, marker, linestyle, aside = _FLIPS[flips]
    drawn = interval_table(rows, by=["gap"], value="accuracy", proportion=True)
    drawn = drawn.set_index("gap").loc[[gap for gap in _GAPS if gap in set(rows.gap)]]
    places = [_GAPS.index(gap) + aside for gap in drawn.index]
    options = {"color": colour, "marker": marker, "linestyle": linestyle}
    axis.plot(places, drawn.estimate, **options)
    axis.vlines(places, drawn.low, drawn.high, color=colour, linewidth=0.8)
    return End(drawn.estimate.iloc[-1], name, colour, marker)
