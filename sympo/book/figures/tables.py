"""How a notebook shows a table: the field's words as headings, three decimals, labels of methods.

A table keeps its own names and digits, for the cells that compute with it and for its csv; only
what a reader sees is put into words here.
"""

import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from sympo.book.figures.style import METHODS

# Columns whose name is not yet what a reader would call them.
HEADINGS = {
    "accuracy_true": "true accuracy",
    "baseline": "against",
    "beta": "β",
    "clean_pairs": "clean pairs",
    "detectable": "detectable difference",
    "eta": "η",
    "fit_clean": "agreement with unflipped labels",
    "fit_flipped": "agreement with flipped labels",
    "flipped_fit": "agreement with flipped labels",
    "grad_norm": "gradient norm",
    "high": "95% high",
    "kappa_estimate": "κ",
    "kl": "KL (nats)",
    "kl_baseline": "KL of the other (nats)",
    "kl_method": "KL of the method (nats)",
    "low": "95% low",
    "margin_true": "true margin",
    "n": "seeds",
    "noise_rate": "noise rate ε",
    "noisy_accuracy": "agreement with noisy labels",
    "p_holm": "p (Holm)",
    "rates": "rates compared",
    "swayed": "swayed by the order",
    "tau": "Kendall’s τ",
    "unparsed": "replies not understood",
    "win_rate_second": "win rate, always second",
}
# Columns and index levels that name a loss or a method, whose label is shown.
_METHOD_COLUMNS = {"method", "loss", "baseline", "against"}
_P_VALUES = {"p", "p_holm"}
_LEFT = {"text-align": "left"}
_INTERVAL = "95% interval"
# What may stand before "low" and "high" in the names of an interval's ends: nothing, or a name that
# ends there. No "slow" is an end.
_SEPARATED = re.compile(r"^$|[_, ]$")
# Ours: a table with more rows than these is folded, so that what follows it is found.
MOST_ROWS = 24


def use_readable_tables() -> None:
    """Show every data frame of this notebook as `to_html` writes it; outside IPython do nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None:
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, to_html)


def to_html(table: pd.DataFrame) -> str:
    """A data frame as an HTML table: whole, with the headings and cells of `name` and `describe`.

    The ends of an interval stand in one column with their estimate, an index with a name is a
    column, one that only numbers the rows is left out, and a table of more than `MOST_ROWS` rows is
    folded.
    """
    html = _render(_join_intervals(_move_index(table)))
    if re.search(r"\$|\\[(\[]", html):
        # MathJax would take what stands between two dollars for a formula, and a formula may link
        html = f'<div class="tex2jax_ignore mathjax_ignore">\n{html}\n</div>'
    if len(table) <= MOST_ROWS:
        return html
    return f"<details><summary>A table of {len(table)} rows</summary>\n{html}\n</details>"


def _render(table: pd.DataFrame) -> str:
    cells = [_describe_all(table.iloc[:, place]) for place in range(table.shape[1])]
    shown = pd.DataFrame(dict(enumerate(cells)), index=_name_index(table.index), dtype=str)
    shown.columns = _name_index(table.columns)
    for place, column in enumerate(table.columns):
        if column in _METHOD_COLUMNS:
            shown.isetitem(place, shown.iloc[:, place].map(_label))
    # the style below needs columns that differ
    if not (shown.columns.is_unique and shown.index.is_unique):
        return shown.to_html(index=not _counts(table.index), classes="dataframe", border=0)
    texts = [
        heading
        for heading, dtype in zip(shown.columns, table.dtypes, strict=True)
        if not pd.api.types.is_numeric_dtype(dtype)
    ]
    styler = shown.style.format(escape="html").format_index(escape="html", axis=1)
    styler = styler.format_index(escape="html", axis=0).set_properties(subset=texts, **_LEFT)
    # the heading of a column of text stands above its text
    heads = {heading: [{"selector": "th", "props": [*_LEFT.items()]}] for heading in texts}
    styler = styler.set_table_styles(heads, overwrite=False)
    if _counts(table.index):
        styler = styler.hide(axis="index")
    # ids that are random would change the notebook at every run, and equal ones mix up two tables
    digest = hashlib.sha256(shown.to_csv().encode()).hexdigest()[:12]
    # alone of all texts, the names of the levels are not escaped by the styler
    for index in (shown.index, shown.columns):
        index.names = [each and escape(each) for each in index.names]
    return styler.set_uuid(digest).to_html(table_attributes='class="dataframe"', cell_ids=False)


def _join_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with each pair of columns `…low` and `…high` as one, in words.

    A column of what the interval is about takes it in: `…estimate`, or `win_rate` of
    `win_rate_low`, as "0.1 (−0.02 to 0.22)".
    """
    if table.columns.nlevels > 1 or not table.columns.is_unique:
        return table
    texts = [column for column in table.columns if _holds_floats(table, column)]
    stems = [column.removesuffix("low") for column in texts if column.endswith("low")]
    for stem in [stem for stem in stems if f"{stem}high" in texts and _SEPARATED.search(stem)]:
        low, high = f"{stem}low", f"{stem}high"
        names = (f"{stem}estimate", stem.rstrip("_, "))
        # what an interval has been put beside is a column of text by now
        inside = next((each for each in names if _holds_floats(table, each)), None)
        columns = [low, high] if inside is None else [low, high, inside]
        digits = _count_decimals(table[columns].to_numpy().ravel())
        ends = [_describe_ends(*pair, digits) for pair in zip(table[low], table[high], strict=True)]
        if inside is None:
            table = table.assign(**{low: ends}).drop(columns=high)
            table = table.rename(columns={low: f"{name(stem)}{_INTERVAL}"})
        else:
            pairs = zip(table[inside], ends, strict=True)
            joined = [f"{_round(value, digits)} ({interval})" for value, interval in pairs]
            table = table.assign(**{inside: joined}).drop(columns=[low, high])
            table = table.rename(columns={inside: f"{name(inside)} ({_INTERVAL})"})
    return table


def _holds_floats(table: pd.DataFrame, column: Any) -> bool:
    """Whether there is such a column, by the name of a text, of numpy's floats."""
    named = isinstance(column, str) and column in table.columns
    return named and isinstance(table[column].dtype, np.dtype) and table[column].dtype.kind == "f"


def _describe_ends(low: float, high: float, digits: int) -> str:
    if np.isnan(low) and np.isnan(high):
        return "–"
    return f"{_round(low, digits)} to {_round(high, digits)}"


def _move_index(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with an index of one named level as its first column, if no other has that name."""
    index = table.index
    if index.nlevels > 1 or table.columns.nlevels > 1 or index.name in {None, *table.columns}:
        return table
    return table.rename_axis(columns=None).reset_index()


def _count_decimals(numbers: Iterable[float]) -> int:
    """The fewest decimals, up to three, that show all of these numbers as exactly as three do."""
    texts = [f"{number:.3f}".rstrip("0") for number in numbers if np.isfinite(number)]
    return max((len(text.partition(".")[2]) for text in texts), default=0)


def _describe_all(column: pd.Series) -> list[str]:
    """The cells of a column in words; its numbers have one number of decimals."""
    if not pd.api.types.is_float_dtype(column.dtype):
        return [describe(value) for value in column]
    digits = _count_decimals(column)
    texts = [_describe_float(value, digits) for value in column]
    if column.name not in _P_VALUES:
        return texts
    # of a small p value nobody needs the power of ten
    small = column.lt(0.0005)
    return ["< 0.001" if is_small else text for is_small, text in zip(small, texts, strict=True)]


def name(column: Any) -> Any:
    """What a reader calls a column: as `HEADINGS` says, or its own name with spaces."""
    if not isinstance(column, str):
        return describe(column)
    return HEADINGS.get(column, column.replace("_", " "))


def describe(value: Any) -> str:
    """A cell in words: up to three decimals, a list with commas."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or value is pd.NA:
        return "–"
    if isinstance(value, float | np.floating):
        number = float(value)
        return _describe_float(number, _count_decimals([number]))
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {describe(each)}" for key, each in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return ", ".join(map(describe, value))
    return str(value)


def _describe_float(number: float, digits: int) -> str:
    # three decimals would show a small number, such as a learning rate, as 0
    if 0 < abs(number) < 0.0005:
        return f"{number:.1e}".replace("-", "−")
    return _round(number, digits)


def _round(number: float, digits: int) -> str:
    if np.isnan(number):
        return "–"
    if np.isinf(number):
        return "∞" if number > 0 else "−∞"
    # 0.0 is added so that a zero has no sign
    return f"{round(number, digits) + 0.0:.{digits}f}".replace("-", "−")


def _label(text: str) -> str:
    return METHODS[text].label if text in METHODS else text


def _name_index(index: pd.Index) -> pd.Index:
    names = [None if each is None else name(each) for each in index.names]
    if isinstance(index, pd.MultiIndex):
        tuples = [tuple(map(_name_entry, entry)) for entry in index]
        return pd.MultiIndex.from_tuples(tuples, names=names)
    return pd.Index([_name_entry(each) for each in index], name=names[0])


def _name_entry(entry: Any) -> str:
    # a method first: its name may have an underscore
    return METHODS[entry].label if entry in METHODS else str(name(entry))


def _counts(index: pd.Index) -> bool:
    """Whether an index only numbers the rows, or those of a longer table that were kept."""
    return index.name is None and pd.api.types.is_integer_dtype(index.dtype)
