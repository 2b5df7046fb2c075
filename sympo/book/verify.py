"""Compares the data behind the figures with the committed data, and draws figures from them again.

numpy's `isclose` is the rule, on one column at a time. pandas.testing stops at the first column
that differs, names no row, and takes the larger of the two tolerances where this takes their sum.
"""

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sympo.book import figures
from sympo.book.twins import LAST, notebooks, relative, saved_stems, study_of, twin
from sympo.studies import profiles

# Two numbers agree when they differ by at most atol + rtol·|committed|.
TOLERANCES = {
    # the same arithmetic, perhaps in another order
    "theory": {"rtol": 1e-4, "atol": 1e-6},
    # training on another processor takes another path: three points of accuracy
    "study": {"rtol": 0.05, "atol": 0.03},
}
# A p value may move a lot while the difference it belongs to, which is compared, does not.
TEST_COLUMNS = ("p", "p_holm")


def differences(profile: str) -> list[str]:
    """How the data behind the figures differ from the committed data, a sentence each.

    Raises:
        ValueError: there is no git history to compare with, or nothing of this profile is
            committed.
    Check: tests/book/test_verify.py.
    """
    folder = profiles.figures_folder(profile) / "data"
    # HEAD and not the index: what is staged has not been reviewed
    listing = _git("ls-tree", "--name-only", "HEAD", f"{relative(folder)}/").splitlines()
    committed = {Path(path).name for path in listing if path.endswith(".csv")}
    if not committed:
        place = relative(folder)
        raise ValueError(f"nothing is committed under {place}, so there is nothing to compare with")
    # csv only: pictures differ between versions of matplotlib, and timings between runs
    here = {path.name for path in folder.glob("*.csv")}
    return [
        *(f"{name}: committed, but not here" for name in sorted(committed - here)),
        *(f"{name}: here, but not committed" for name in sorted(here - committed)),
        *(text for name in sorted(here & committed) for text in _compare_file(folder / name)),
    ]


def _compare_file(path: Path) -> Iterator[str]:
    text = _git("show", f"HEAD:{relative(path)}")
    # both sides are read alike, so that no difference comes from the reading
    committed = pd.read_csv(io.StringIO(text))
    for difference in compare(committed, pd.read_csv(path), kind=kind_of(path.stem)):
        yield f"{path.name}: {difference}"


def compare(committed: pd.DataFrame, here: pd.DataFrame, *, kind: str) -> list[str]:
    """How two tables differ by more than `TOLERANCES[kind]`, a sentence per column.

    Whole numbers and text must be equal. In data of a study, p values are not compared.
    """
    if list(committed.columns) != list(here.columns):
        # then nothing further can be compared
        columns = [", ".join(table.columns) for table in (here, committed)]
        return [f"columns {columns[0]} here, {columns[1]} committed"]
    if len(committed) != len(here):
        return [f"{len(here)} rows here, {len(committed)} committed"]
    # in theory a p value is computed from the same numbers, and must agree
    skipped = TEST_COLUMNS if kind == "study" else ()
    texts = [
        _compare_column(committed[column], here[column], **TOLERANCES[kind])
        for column in committed.columns
        if column not in skipped
    ]
    return [text for text in texts if text]


def _compare_column(committed: pd.Series, here: pd.Series, *, rtol: float, atol: float) -> str:
    """The row that differs most, in a sentence; nothing where the columns agree."""
    kinds = {committed.dtype.kind, here.dtype.kind}
    # a column of whole numbers reads as floats as soon as one is missing
    measured = kinds <= {"f", "i"} and "f" in kinds
    if measured:
        agree = np.isclose(here, committed, rtol=rtol, atol=atol, equal_nan=True)
    else:
        # text, truth values, and whole numbers: counts of pairs, seeds, rows
        agree = ((here == committed) | (here.isna() & committed.isna())).to_numpy()
    if agree.all():
        return ""
    # the first that differs, unless one can say which differs most
    row = agree.argmin()
    detail = ""
    if measured:
        allowed = atol + rtol * committed.abs()
        # a number against none is beyond every tolerance
        excess = ((here - committed).abs() - allowed).fillna(np.inf)
        row = excess.where(~agree, -np.inf).argmax()
        gap = abs(here[row] - committed[row])
        detail = f" (off by {gap:.3g}, allowed {allowed[row]:.3g})"
    others = len(agree) - agree.sum() - 1
    rows = "row" if others == 1 else "rows"
    more = f", and {others} more {rows}" if others else ""
    values = f"{here[row]} here, {committed[row]} committed{detail}{more}"
    return f"row {row + 1}, column {committed.name}: {values}"


def kind_of(stem: str) -> str:
    """ "study" for data that training makes or that sums such data up, "theory" for the rest."""
    # LAST sum up what the others trained
    trained = [name for name in notebooks() if name in LAST or study_of(name) in profiles.STUDIES]
    stems = [saved for name in trained for saved in saved_stems(twin(name))]
    # several tables of one figure share its stem
    is_trained = any(stem == saved or stem.startswith(f"{saved}_") for saved in stems)
    return "study" if is_trained else "theory"


def redraw(profile: str) -> list[str]:
    """Draw every figure and table again from its csv.

    `<stem>.csv` is drawn by `figures.<stem>`, several `<stem>_<name>.csv` by
    `figures.<stem>(name=table, …)`, and `table….csv` is a table.

    Returns:
        the stems of the csv files for which nothing draws.
    Raises:
        ValueError: there are no csv files.
    """
    folder = profiles.figures_folder(profile) / "data"
    # all of them first: one figure may need several
    tables = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
    if not tables:
        remedy = f"run make paper PROFILE={profile} first"
        raise ValueError(f"there is no csv in {relative(folder)}: {remedy}")
    drawn = set()
    # a figure function bears the stem of its files
    draws = {stem: draw for stem, draw in vars(figures).items() if stem.startswith("fig")}
    for stem, draw in draws.items():
        parts = {name: tables[name] for name in tables if f"{name}_".startswith(f"{stem}_")}
        named = {name.removeprefix(f"{stem}_"): table for name, table in parts.items()}
        if stem in parts:
            figures.save(draw(tables[stem]), stem, tables[stem], profile=profile)
            drawn.add(stem)
        elif parts:
            figures.save(draw(**named), stem, named, profile=profile)
            drawn.update(parts)
    # tables look alike, so that no function draws them
    for stem in (stem for stem in tables if stem.startswith("table")):
        figures.save_table(tables[stem], stem, profile=profile)
        drawn.add(stem)
    return sorted(tables.keys() - drawn)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(profiles.root()), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        reason = "git is not installed, and the committed data can only be read with it"
        raise ValueError(reason) from None
    except subprocess.CalledProcessError as error:
        # the first line says what is wrong, the rest how to use git
        reason = error.stderr.strip().splitlines()[0]
        raise ValueError(f"git cannot read the committed data: {reason}") from None
