"""What many labels of a few pairs tell (notebooks 13 and 14)."""

from typing import Any

import altair as alt
import numpy as np
from scipy.stats import binom

from sympo.book.explorables import parts
from sympo.book.figures.style import OKABE_ITO

# of the sliders of T10: n = 2^power − 1 labels, which is odd
_POWERS = np.arange(1, 11)
_RATES = np.arange(10) / 20
_ETAS = np.arange(50, 101) / 100


def t14_thermometer() -> parts.Explorable:
    """What a triangle of answers reads as (1−2ε)², against its gaps, with the range of a sample.

    The reader finds out that the reading is the same at all gaps where the three pairs are flipped
    at one rate, however large; that small gaps take very many labels; and that a rate which differs
    between the pairs makes the reading depend on the gaps.

    Source: theory T14. Check: tests/book/test_explorables.py.
    """
    sliders = [
        parts.slider("rate", 0.2, 0, 0.4, 0.01, label="ε, noise rate of the pairs a–b and b–c"),
        parts.slider("more", 0, 0, 0.09, 0.01, label="by how much the pair a–c is noisier"),
        parts.slider("log_n", 3, 2, 6, 0.25, label="log₁₀ of the labels a pair"),
    ]
    across = parts.x("gap", "gap of a and b, and of b and c", (0.5, 4))
    up = parts.y("reading", "(1−2ε)², as it is read", (0, 1.3))
    rows = _read(alt.Chart(alt.sequence(0.5, 4.0125, 0.025, as_="gap")))
    colour = OKABE_ITO["blue"]
    band = rows.mark_area(color=colour, opacity=0.18, clip=True)
    band = band.encode(across, alt.Y("low:Q"), alt.Y2("high"))
    line = rows.mark_line(color=colour, strokeWidth=2.5, clip=True).encode(across, up)
    truth = parts.once().transform_calculate(reading="pow(1 - 2 * rate, 2)")
    rule = truth.mark_rule(**parts.GUIDE).encode(up)
    words = (
        "format(pow(10, log_n), ',.0f') + ' labels a pair. At gaps of 2 and 2 the reading is\\n' + "
        "format(datum.reading, '.3f') + ' ± ' + format(datum.half, '.3f') + ', which says ε = ' + "
        "format((1 - sqrt(datum.reading)) / 2, '.3f') + (more > 0 ? ';\\nthe pairs have ' + "
        "format(rate, '.2f') + ' and ' + format(rate + more, '.2f') : '; it is ' + "
        "format(rate, '.2f'))"
    )
    at_two = _read(parts.once(gap=2)).transform_calculate(words=words)
    at_two = at_two.mark_text(x=130, y=4, align="left", baseline="top", fontSize=12, lineBreak="\n")
    at_two = at_two.encode(text="words:N")
    chart = alt.layer(band, rule, line, at_two).add_params(*sliders)
    return parts.finish(
        chart.properties(width=parts.WIDTH, height=300),
        title="Move ε: the reading is right at every gap. Then make one pair noisier",
        subtitle="Line: with infinitely many labels. Dotted: the truth of a–b and b–c.\n"
        "Shaded: 95% of readings from so many labels a pair, by their variance to first\n"
        "order, which is a rough guide where the band is wide.",
        description=(
            "A chart with three sliders: the noise rate, by how much one of three pairs is "
            "noisier, and the number of labels. A line shows the squared signal that a triangle of "
            "answers reads against its gaps; a band shows its range in samples. With one rate the "
            "line is flat at the truth, and the band is wide at small gaps. With a noisier pair "
            "the line bends down at small gaps."
        ),
    )


def _read(chart: alt.Chart) -> alt.Chart:
    """The reading at the rows' gaps, with half of its 95% range to first order."""
    # the expected labels x, y = x and z of ab, bc and ca; tanh(u/2) = (1 − e^−u)/(1 + e^−u)
    x = "(1 - 2 * rate) * (1 - exp(-datum.gap)) / (1 + exp(-datum.gap))"
    z = "-(1 - 2 * (rate + more)) * (1 - exp(-2 * datum.gap)) / (1 + exp(-2 * datum.gap))"
    # the slopes of −xyz/(x + y + z)
    slopes = {
        "by_x": "datum.x * datum.z / datum.total * (datum.x / datum.total - 1)",
        "by_z": "datum.x * datum.x / datum.total * (datum.z / datum.total - 1)",
    }
    # a mean label has the variance (1 − x²)/n
    variance = (
        "2 * datum.by_x * datum.by_x * (1 - datum.x * datum.x)"
        " + datum.by_z * datum.by_z * (1 - datum.z * datum.z)"
    )
    return (
        chart.transform_calculate(x=x, z=z)
        .transform_calculate(total="2 * datum.x + datum.z")
        .transform_calculate(reading="-datum.x * datum.x * datum.z / datum.total", **slopes)
        .transform_calculate(half=f"1.96 * sqrt(({variance}) / pow(10, log_n))")
        .transform_calculate(low="datum.reading - datum.half", high="datum.reading + datum.half")
    )


def t10_votes() -> parts.Explorable:
    """How often the majority of n noisy labels of a pair is for the better answer, exactly.

    The reader finds out that noise makes a vote as good as one with fewer clean labels, that more
    labels make up for any ε below ½, and that close pairs need the most.

    Source: theory T10. Check: tests/book/test_explorables.py.
    """
    label = "log₂(n + 1), for n labels a pair"
    sliders = [
        parts.slider("power", 5, int(_POWERS[0]), int(_POWERS[-1]), 1, label=label),
        parts.slider("rate", 0.3, 0, float(_RATES[-1]), 0.05, label="ε, noise rate"),
    ]
    across = parts.x("eta", "η: how often a clean label is for the better answer", (0.5, 1))
    up = parts.y("right", "probability that the majority is right", (0.5, 1))
    looks = {
        "without noise": OKABE_ITO["blue"],
        "with noise": OKABE_ITO["vermillion"],
    }
    seen = {
        "without noise": "datum.votes[power - 1][0]",
        "with noise": "datum.votes[power - 1][round(rate * 20)]",
    }
    lines = (
        alt.Chart(alt.Data(values=_tabulate_votes()))
        .transform_calculate(**seen)
        .transform_fold([*seen], as_=["labels", "right"])
        .mark_line(strokeWidth=2.5)
        .encode(
            across,
            up,
            parts.colours("labels", looks),
            parts.dashes("labels", {"without noise": [6, 3], "with noise": [1, 0]}),
        )
    )
    words = (
        "'n = ' + format(pow(2, power) - 1, ',') + ' labels at ε = ' + format(rate, '.2f') + "
        "':\\nn(1 − 2ε)² = ' + format((pow(2, power) - 1) * pow(1 - 2 * rate, 2), '.1f')"
    )
    text = parts.write(words, left=320, top=225)
    chart = alt.layer(lines, text).add_params(*sliders)
    return parts.finish(
        chart.properties(width=parts.WIDTH, height=300),
        title="Raise ε, and then n until the solid line is back where it was",
        subtitle="Solid: the majority of n noisy labels. Dashed: of n clean ones. Exact binomial "
        "sums.",
        description=(
            "A chart with two sliders, the number of labels and the noise rate. Two curves show "
            "the probability that the majority of the labels of a pair is right, with and without "
            "noise, against how clear the pair is. Noise lowers the curve, and more labels raise "
            "it again; with labels in proportion to one over (1 minus 2 epsilon) squared it is "
            "about where it was."
        ),
    )


def _tabulate_votes() -> list[dict[str, Any]]:
    """A row per η: P(the majority is right) for each number of labels and each noise rate."""
    n = (2**_POWERS - 1)[:, None, None]
    # P(a noisy label is right)
    right = _ETAS + _RATES[:, None] * (1 - 2 * _ETAS)
    # right where more than half of the labels are; n is odd, so that none tie
    vote = binom.sf(n // 2, n, right).round(4)
    return [
        {"eta": eta, "votes": vote[:, :, place].tolist()}
        for place, eta in enumerate(_ETAS.tolist())
    ]
