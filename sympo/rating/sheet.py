"""The same rating task as a CSV file, for raters without Jupyter."""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from sympo._files import read_bounded, write_whole
from sympo._names import show
from sympo.judge import Prompt
from sympo.rating.items import Item, Items
from sympo.rating.ratings import CANNOT_SAY, FIRST, SECOND, TIE, Rating, Ratings

__all__ = ["read_sheet", "show_prompt", "write_sheet"]

# What a rater types, and what it means.
_WORDS = {"1": FIRST, "2": SECOND, "tie": TIE, "?": CANNOT_SAY}
# without a comma, a semicolon or a tab, any of which may stand between the columns
_VERDICT = f"verdict: {' / '.join(_WORDS)}"
_COLUMNS = ("pair", "prompt", "answer 1", "answer 2", _VERDICT)
_MOST = 2**28  # ours: bytes of a sheet
# Excel's limit; what is longer is spread over the cells below.
_CELL = 32_767
# A cell that begins so is a formula. Where a spreadsheet expects another separator, a cell also
# begins after each of these, in the middle of an answer; quotation marks there are not part of it.
# What stands between is matched once, from its beginning: it may be long, and all separators.
_FORMULA = re.compile(r'(?:[;,]|(?<![\s"]))[\s"]*+(?=[=+\-@＝＋－＠])')
_SEPARATOR = re.compile(r"[;,\t\n]")
# Control characters but for tab and line feed, and half characters: a CSV file cannot hold them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def write_sheet(items: Items, path: str | Path) -> None:
    """Write the items as a CSV file with an empty column for the verdict: 1, 2, tie or ?.

    It holds prompts and answers in the order in which they are shown, and nothing that tells whose
    they are. An apostrophe stands before what a spreadsheet would take for a formula.

    Raises:
        ValueError: a cell of more characters than a spreadsheet can hold.
        FileExistsError: there is another file of this name, which may hold verdicts.
    Check: tests/library/test_rating_sheet.py.
    """
    rows = [
        [item.key, *(_protect(text, item) for text in (show_prompt(item.prompt), *item.shown)), ""]
        for item in items
    ]
    sheet = io.StringIO(newline="")
    csv.writer(sheet).writerows([_COLUMNS, *rows])
    # a byte order mark: without it Excel reads UTF-8 as another encoding
    content = f"\ufeff{sheet.getvalue()}"
    path = Path(path)
    if not path.exists():
        write_whole(path, content)
    elif path.read_bytes() != content.encode():
        raise FileExistsError(
            f"{path} is there already, and may hold verdicts: name another file, or remove it"
        )


def read_sheet(path: str | Path, items: Items, *, rater: str) -> Ratings:
    """The verdicts of a sheet that was filled in; its rows may have been sorted or removed.

    Commas, semicolons and tabs are read as separators, since spreadsheets write each of them. A row
    without a verdict is one that is not rated yet.

    Returns:
        the ratings, and in `refused` a sentence for each row that is none, with its number.
    Raises:
        ValueError: a file that is no sheet, or one of other items.
    Check: tests/library/test_rating_sheet.py.
    """
    # Only keys and verdicts are read, which are ASCII whatever the spreadsheet wrote.
    text = read_bounded(path, _MOST).decode("utf-8-sig", errors="replace")
    header = text.partition("\n")[0]
    # the one that stands between the names of the columns
    separator = max(",;\t", key=header.count)
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error:  # of something else altogether
        table = []
    names = [name.strip() for name in table[0]] if table else []
    if not {"pair", _VERDICT} <= set(names):
        raise ValueError(
            f"{path} has no columns 'pair' and '{_VERDICT}': give a sheet of write_sheet, saved as "
            "CSV, with its first row as it was"
        )
    where = (names.index("pair"), names.index(_VERDICT))
    known = {item.key for item in items}
    ratings: dict[str, Rating] = {}
    refused = []
    for number, cells in enumerate(table[1:], start=2):
        key, typed = (cells[column].strip() if column < len(cells) else "" for column in where)
        if not (key or typed):
            continue  # an empty row
        problem = _find_problem(key, typed, known, ratings)
        if problem:
            refused.append(f"row {number}: {problem}")
        elif typed:
            ratings[key] = Rating(key, rater, _WORDS[_normalise(typed)])
    if refused and len(refused) == len(table) - 1:
        raise ValueError(f"{path}: no row is a rating of these items: {refused[0]}")
    return Ratings(items, tuple(ratings.values()), refused=tuple(refused))


def _find_problem(key: str, typed: str, known: set[str], ratings: Mapping[str, Rating]) -> str:
    """Why a row is no rating; empty where it is one, or has no verdict yet."""
    if key not in known:
        return f"no item is called {show(key)}"
    if not typed:
        return ""
    if _normalise(typed) not in _WORDS:
        return f"{show(typed)} is no verdict: type one of {', '.join(_WORDS)}"
    if key in ratings:
        return f"a second verdict on {key}: leave one of the two"
    return ""


def _normalise(typed: str) -> str:
    # what a spreadsheet makes of a 1
    return typed.casefold().removesuffix(".0").removesuffix(",0")


def _protect(text: str, item: Item) -> str:
    """`text` as a cell that is only text."""
    plain = _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))
    inert = _FORMULA.sub(_mark_cells, plain)
    if len(inert) > _CELL:
        raise ValueError(
            f"row {item.row}: a text of {len(inert):,} characters does not fit a cell, which holds "
            f"{_CELL:,}: leave the row out, or rate it in JupyterLab"
        )
    return inert


def _mark_cells(before: re.Match[str]) -> str:
    """What stands before a formula, with an apostrophe wherever a cell may begin."""
    first = "'" if before.start() == 0 and not before[0].startswith((";", ",")) else ""
    return first + _SEPARATOR.sub(r"\g<0>'", before[0])


def show_prompt(prompt: Prompt) -> str:
    """A prompt as a rater reads it: text, or each turn after the name of its role."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
