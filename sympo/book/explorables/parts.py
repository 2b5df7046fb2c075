"""What every chart with sliders is made of."""

import sys
from dataclasses import dataclass
from typing import Any

import altair as alt

WIDTH = 520  # pixels: the width of the text in the book

_AXIS = {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "gridOpacity": 0.5}
_LEGEND = {
    "orient": "top",
    "labelFontSize": 12,
    "labelLimit": 300,
    "symbolOpacity": 1,
    "symbolSize": 300,
    "symbolStrokeWidth": 2.5,
}
_TITLE = {"anchor": "start", "fontSize": 13, "subtitleFontSize": 12, "subtitleColor": "#333"}
_HEADER = {"labelFontSize": 12, "title": None}
# a line that only helps the eye
GUIDE = {"color": "#777", "strokeDash": [2, 3], "strokeWidth": 1}


@dataclass(frozen=True)
class Explorable:
    """A chart with sliders, as the value of a notebook's cell.

    Attributes:
        chart: Vega-Lite that needs no kernel.
        alt: what it shows, for who cannot see it, and where nothing runs scripts.
    Check: tests/book/test_explorables.py.
    """

    chart: alt.TopLevelMixin
    alt: str

    def to_dict(self) -> dict[str, Any]:
        """The specification; a test holds it against the schema, which takes seconds."""
        specification: dict[str, Any] = self.chart.to_dict(validate=False)
        return specification

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # Colab does not draw Vega-Lite by itself; what a page with scripts needs, it may fetch
        if "google.colab" in sys.modules:
            return {"text/html": self.chart.to_html(), "text/plain": self.alt}
        # JupyterLab draws this one
        return {"application/vnd.vegalite.v5+json": self.to_dict(), "text/plain": self.alt}


def finish(chart: Any, *, title: str, subtitle: str, description: str) -> Explorable:
    """The chart under a title that says what to try, in the style of all of them."""
    words = alt.TitleParams(title, subtitle=subtitle.split("\n"))
    styled = (
        chart.properties(title=words)
        .configure(font="DejaVu Sans, Verdana, sans-serif")
        .configure_axis(**_AXIS)
        .configure_legend(**_LEGEND)
        .configure_title(**_TITLE)
        .configure_header(**_HEADER)
        .configure_view(stroke=None)
    )
    return Explorable(styled, description)


def slider(
    name: str, value: float, low: float, high: float, step: float, *, label: str
) -> alt.Parameter:
    """A slider whose value expressions call `name`; `label` is what the reader sees."""
    bind = alt.binding_range(min=low, max=high, step=step, name=f"{label} ")
    return alt.param(name=name, value=value, bind=bind)


def x(field: str, title: str, domain: tuple[float, float], **axis: Any) -> alt.X:
    """A quantitative x over a fixed domain, so that the eye sees what moves."""
    scale = alt.Scale(domain=domain, nice=False)
    return alt.X(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(**axis))


def y(field: str, title: str, domain: tuple[float, float], **scale: Any) -> alt.Y:
    """A quantitative y over a fixed domain."""
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(domain=domain, nice=False, **scale))


def colours(field: str, colour_of: dict[str, str], *, legend: bool = True) -> alt.Color:
    """The colour of each value of `field`."""
    scale = alt.Scale(domain=[*colour_of], range=[*colour_of.values()])
    shown = alt.Legend(title=None, symbolType="stroke") if legend else None
    return alt.Color(f"{field}:N", scale=scale, legend=shown)


def dashes(field: str, dash_of: dict[str, list[int]]) -> alt.StrokeDash:
    """The dashes of each value of `field`; a legend shows them together with its colour."""
    scale = alt.Scale(domain=[*dash_of], range=[*dash_of.values()])
    return alt.StrokeDash(
        f"{field}:N", scale=scale, legend=alt.Legend(title=None, symbolType="stroke")
    )


def once(**fields: Any) -> alt.Chart:
    """A chart of a single row, for what is drawn once."""
    return alt.Chart(alt.Data(values=[fields or {"row": 0}]))


def write(text: str, *, left: float, top: float, size: int = 13, colour: str = "black") -> Any:
    """Words that an expression computes, at pixels from the upper left corner of the plot."""
    options = {"align": "left", "baseline": "top", "fontSize": size, "color": colour}
    chart = once().transform_calculate(words=text)
    mark = chart.mark_text(x=left, y=top, lineBreak="\n", **options)
    return mark.encode(text="words:N")
