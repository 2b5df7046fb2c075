"""What a notebook saves: figures as pdf and png, tables as Markdown and LaTeX, both as csv.

The same figure and data give the same bytes on the same machine: no file bears a date. What is no
evidence, because it comes from a smoke run or an exercise, says so itself: across every figure,
under every table, and in place of every verdict.
"""

import inspect
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import PIL.Image
from matplotlib.figure import Figure

from sympo._files import write_atomically
from sympo.book.figures.style import STYLE, display_png, style
from sympo.studies import profiles, provenance

if TYPE_CHECKING:
    from sympo.studies.records import Record

# None keeps matplotlib from writing the field: dates and versions would change the bytes
_METADATA: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
# what tells apart the machines and the code that trained the runs of one study
_ORIGIN = ("commit", "torch", "cpu", "gpu", "data")


def save(
    figure: Figure, stem: str, data: pd.DataFrame | Mapping[str, pd.DataFrame], *, profile: str
) -> "SavedFigure":
    """Write `<stem>.pdf`, `<stem>.png` and `data/<stem>.csv` into the figures folder of `profile`.

    Args:
        data: the table behind the figure; a mapping of several goes to `data/<stem>_<name>.csv`,
            one file per name.
    Returns:
        the saved file, so that a cell that ends in `save` shows it, and not a second drawing in the
        style of whoever runs the notebook.
    Raises:
        ValueError: no such profile.
    Check: tests/book/test_figures.py.
    """
    profile = profiles.resolve_profile(profile)
    folder = profiles.figures_folder(profile)
    if isinstance(data, Mapping):
        # the names that `draw_from` reads back as keyword arguments
        tables = {f"{stem}_{name}": table for name, table in data.items()}
    else:
        tables = {stem: data}
    paths = [folder / "data" / f"{name}.csv" for name in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        _write_csv(table, path)
    # of the digits that the csv holds: whoever draws it again gets the same bytes
    shown = draw_from(stem, paths) or figure
    write_figure(shown, stem, folder, caveat=profiles.caveat(profile))
    return SavedFigure(folder / f"{stem}.png")


@dataclass(frozen=True)
class SavedFigure:
    """A figure's png file, which a notebook shows in the size of print, sharp, with its caption."""

    path: Path

    @property
    def caption(self) -> str:
        """What the figure shows: the first paragraph of its function's docstring, or nothing."""
        # every module of figures imports from here
        from sympo.book import figures

        text = inspect.getdoc(getattr(figures, self.path.stem, None)) or ""
        return " ".join(text.partition("\n\n")[0].split())

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        with PIL.Image.open(self.path) as image:
            inches = image.width / STYLE["savefig.dpi"]
        alt = self.caption.partition(". ")[0] or self.path.stem
        display_png(self.path.read_bytes(), inches=inches, alt=alt)
        if self.caption:
            display(Markdown(f"*{name_figure(self.path.stem)}.* {self.caption}"))


def find_figure(stem: str, *, profile: str) -> "SavedFigure | None":
    """The figure that another notebook saved, to show it again; None where it has not been made."""
    path = profiles.find_result(profile, f"{stem}.png")
    return SavedFigure(path) if path else None


def name_figure(stem: str) -> str:
    """`fig10_mnist_policy` is Figure 10, `fig_t8_improvement` Figure T8.

    Where several bear a number, their words tell them apart: Figure 1 (learning curves).
    """
    # every module of figures imports from here
    from sympo.book import figures

    number, words = _number_figure(stem)
    others = {each for each in figures.__all__ if each.startswith("fig") and each != stem}
    shared = number in {_number_figure(each)[0] for each in others}
    return f"Figure {number} ({words})" if shared else f"Figure {number}"


def _number_figure(stem: str) -> tuple[str, str]:
    """`("1", "learning curves")` of `fig1_learning_curves`."""
    number, _, words = stem.removeprefix("fig").removeprefix("_").partition("_")
    return number.upper(), words.replace("_", " ")


def draw_from(stem: str, paths: Iterable[Path]) -> Figure | None:
    """The figure that the function `stem` draws from its csv files; None without such a function.

    Args:
        paths: `<stem>.csv`, or several `<stem>_<name>.csv`, which go to the function by `name`.
    """
    # every module of figures imports from here
    from sympo.book import figures

    draw = getattr(figures, stem, None)
    if draw is None:
        return None
    tables = {path.stem: pd.read_csv(path) for path in paths}
    if stem in tables:
        return draw(tables[stem])
    return draw(**{name.removeprefix(f"{stem}_"): table for name, table in tables.items()})


def write_figure(figure: Figure, stem: str, folder: Path, *, caveat: str) -> None:
    """Write `<stem>.pdf` and `<stem>.png` into `folder`, with `caveat` across the figure."""
    with style():
        if caveat:
            _write_across(figure, caveat)
        # the style's layout engine has to run once before it is switched off
        figure.draw_without_rendering()
        # a second layout would start from the first and move things by a hair
        figure.set_layout_engine("none")
        for kind, metadata in _METADATA.items():
            # through memory, so that a file is whole or as it was before
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata)
            write_atomically(folder / f"{stem}.{kind}", buffer.getvalue())


def _write_across(figure: Figure, text: str) -> None:
    # a figure that is saved twice says it once
    if any(artist.get_text() == text for artist in figure.texts):
        return
    # letters are half as wide as high: the text fills most of the width
    size = figure.get_figwidth() * 72 / (0.6 * len(text))
    options = {"ha": "center", "va": "center", "fontsize": size, "rotation": 12}
    figure.text(0.5, 0.5, text, color="firebrick", alpha=0.4, **options)


def save_table(table: pd.DataFrame, stem: str, *, profile: str) -> pd.DataFrame:
    """Write `<stem>.md`, `<stem>.tex` and `data/<stem>.csv` into the figures folder of `profile`.

    The first two, of which the second needs LaTeX's booktabs, show three decimals; the csv holds
    six digits.

    Returns:
        the table, so that a cell that ends in `save_table` shows it. In a smoke run or an exercise
        its verdicts are replaced, there and in the files.
    Raises:
        ValueError: no such profile.
    Check: tests/book/test_figures.py.
    """
    profile = profiles.resolve_profile(profile)
    folder = profiles.figures_folder(profile)
    caveat = profiles.caveat(profile)
    if caveat and "verdict" in table:
        # a verdict is read alone, and goes on to notebook 00
        table = table.assign(verdict=caveat)
    path = folder / "data" / f"{stem}.csv"
    _write_csv(table, path)
    # as of a figure: of the digits that the csv holds
    write_table(pd.read_csv(path), stem, folder, caveat=caveat)
    return table


def write_table(table: pd.DataFrame, stem: str, folder: Path, *, caveat: str) -> None:
    """Write `<stem>.md` and `<stem>.tex` into `folder`, with `caveat` under the table."""
    # of the numbers: shown, every cell is text
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes]
    alignment = "".join("r" if is_number else "l" for is_number in numeric)
    shown = table.map(_format_cell)
    # loss names have underscores, shares a percent sign
    latex = shown.to_latex(index=False, escape=True, column_format=alignment)
    # what a table holds is text: no markup, no code and no formula
    inert = shown.rename(columns=_escape_markdown).map(_escape_markdown)
    markdown = to_markdown(inert, alignment)
    if caveat:
        markdown += f"\n**{caveat}**\n"
        latex += f"\\par\\textbf{{{caveat}}}\n"
    write_atomically(folder / f"{stem}.md", markdown)
    write_atomically(folder / f"{stem}.tex", latex)


def save_provenance(
    name: str, records: Iterable["Record"] = (), *, profile: str, **extra: Any
) -> pd.DataFrame:
    """Write what made the csv files of notebook `name` beside them, as `data/<name>.json`.

    Args:
        records: the study's, which may come from other code or another device: what made them is
            listed, and the seconds they took are summed.
        extra: fields beyond those of `provenance.collect`.
    Returns:
        the same as a table to show.
    """
    origins = [record["provenance"] for record in records]
    fields = provenance.collect(**extra)
    if origins:
        # a set: a study of many runs was mostly trained by one machine
        trained = {
            " · ".join(str(origin[key]) for key in _ORIGIN if origin.get(key)) for origin in origins
        }
        fields["trained_with"] = sorted(trained)
        fields["training_seconds"] = round(sum(origin["seconds"] for origin in origins))
    text = json.dumps(fields, indent=1) + "\n"
    folder = profiles.figures_folder(profiles.resolve_profile(profile))
    write_atomically(folder / "data" / f"{name}.json", text)
    # committed outputs hold no timings, which differ from run to run
    shown = {key: value for key, value in fields.items() if key != "training_seconds"}
    return pd.Series(shown).to_frame("value")


def to_markdown(shown: pd.DataFrame, alignment: str) -> str:
    """A Markdown table.

    Args:
        shown: cells of text.
        alignment: a letter per column, "l" for left and "r" for right.
    """
    rule = ["---:" if side == "r" else "---" for side in alignment]
    rows = [[str(column) for column in shown.columns], rule, *shown.to_numpy().tolist()]
    # a bar within a cell would end it
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    def shorten(value: float) -> str:
        # six digits, and 1.0 stays a float: read again, the table prints the same
        return repr(float(f"{value:.6g}"))

    write_atomically(path, table.to_csv(index=False, float_format=shorten, lineterminator="\n"))


def _escape_markdown(text: str) -> str:
    return re.sub(r"[<`$]", r"\\\g<0>", " ".join(text.splitlines()))


def _format_cell(value: Any) -> str:
    if value is None:
        return "–"
    # pandas hands over numpy's floats, which are Python's too; float32 is not
    if not isinstance(value, float | np.floating):
        return str(value)
    number = float(value)
    if np.isnan(number):
        return "–"
    # three decimals would show a small p value as 0.000
    return f"{number:.1e}" if 0 < abs(number) < 0.001 else f"{number:.3f}"
