"""Compares the results of this clone's run with the committed ones, and draws these again.

On another processor, sums are taken in another order and differ in the last digit. Twenty epochs of
training amplify that, up to a model like one of another seed. So not everything can be the same
there, and what must agree is said in layers:

- **theory**: what a notebook computes that trains nothing, to the last digits that count;
- **verdicts**: the conclusions, exactly;
- **means** and contrasts over seeds, which have an interval: an equivalence test, whose margin is
  half the width of the committed 95% interval (`MARGIN`);
- **runs**: the rest, which is single runs and sums over a few of them. It is listed, not judged.

Why half the interval's width: it says how far other seeds of the same number would carry the mean.
The seeds here are the committed ones, and changing the processor moves some of their models as far
as changing the seed would, but not all. So a mean that leaves the interval did not get there by
rounding.
"""

import io
import itertools
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sympo.book import figures
from sympo.book.figures import files
from sympo.book.twins import (
    LAST,
    is_left_out,
    notebooks,
    relative,
    saved_stems,
    study_of,
    twin,
)
from sympo.studies import profiles

# Two numbers are the same when they differ by at most atol + rtol·|committed|: the same arithmetic,
# perhaps in another order, and written with six digits.
SAME = {"rtol": 1e-4, "atol": 1e-6}
# The least margin of a mean: where all seeds agree, the interval is narrower than what rounding
# does. A point of accuracy changes no conclusion of this companion.
MARGIN = 0.01
# Two seeds have an interval as wide as the scale, which would let everything pass.
FEWEST_SEEDS = 3
# Numbers that name a run; the first other one that is no whole number was measured.
SETTINGS = ("noise_rate", "beta", "budget")
# Columns that hold a conclusion, wherever they stand.
CONCLUSIONS = ("verdict", "agree")

# Figures of which several are drawn at a time.
MANY = 8

MISSING = "committed, but not here"
# What a notebook goes on without, where the published files cannot be had; it then shows what is
# committed.
NEED_FILES = ("table15_audits.csv", "table_score_pattern.csv")
ADDED = "here, but not committed"


class Finding(NamedTuple):
    """One thing that was compared.

    Attributes:
        layer: "files" for what cannot be compared at all, "left out" for what a notebook without
            its data could not make, or one of `layer_of`.
        what: the file, or the row of a table.
        same: whether it agrees, by the rule of its layer.
        detail: how it differs; of a mean, how far it moved and how far it may.
        share: how far a mean has moved, of its margin; how far a run has, of its column's spread.
    """

    layer: str
    what: str
    same: bool
    detail: str = ""
    share: float = 0.0


def compare_results(profile: str) -> list[Finding]:
    """Everything that this clone's run of `profile` has in common with what is committed.

    Raises:
        ValueError: there is no git history to compare with, nothing of this profile is committed,
            or it has not been run here.
    Check: tests/book/test_verify.py.
    """
    reference = profiles.committed_figures(profile) / "data"
    # HEAD and not the working tree: what `make paper COMMIT=1` wrote is not the reference
    listing = _git("ls-tree", "--name-only", "HEAD", f"{relative(reference)}/").splitlines()
    # csv only: pictures differ between versions of matplotlib, and timings between runs
    committed = {Path(path).name for path in listing if path.endswith(".csv") and _makers(path)}
    if not committed:
        place = relative(reference)
        raise ValueError(
            f"nothing is committed under {place}, so there is nothing to compare with: "
            "make paper verify PROFILE=laptop compares the profile that is"
        )
    folder = profiles.own_figures(profile) / "data"
    # a notebook's former results stay in the folder
    here = {path.name for path in folder.glob("*.csv") if _makers(path)}
    if not here:
        raise ValueError(
            f"there are no results of your own in {relative(folder)} to compare: "
            f"run make paper PROFILE={profile} first"
        )
    missing = committed - here
    left_out = {
        name
        for name in missing
        if name in NEED_FILES or all(is_left_out(maker, profile) for maker in _makers(name))
    }
    findings = [
        *(Finding("left out", name, True) for name in sorted(left_out)),
        *(Finding("files", name, False, MISSING) for name in sorted(missing - left_out)),
        *(Finding("files", name, False, ADDED) for name in sorted(here - committed)),
    ]
    for name in sorted(here & committed):
        # both sides are read alike, so that no difference comes from the reading
        text = _git("show", f"HEAD:{relative(reference / name)}")
        tables = (pd.read_csv(io.StringIO(text)), pd.read_csv(folder / name))
        findings += compare(Path(name).stem, *tables)
    return findings


def layer_of(stem: str, columns: pd.Index) -> str:
    """The layer of a csv file, by who saved it and by its columns.

    "theory" if its notebook trains nothing, and no profile has sizes for it; else "means" if it has
    estimates with intervals; else "verdicts" if it has verdicts; else "runs".
    """
    # LAST sum up what the others trained, but for the arithmetic of a figure T
    sums_up = not stem.startswith("fig_t")
    if not any((name in LAST and sums_up) or _has_sizes(name) for name in _makers(stem)):
        return "theory"
    if {"estimate", "low", "high", "n"} <= {*columns}:
        return "means"
    return "verdicts" if "verdict" in columns else "runs"


def _has_sizes(name: str) -> bool:
    """Whether a notebook belongs to a study, or reads a section of its own from the profiles."""
    return study_of(name) in profiles.STUDIES or "section_config(" in twin(name).read_text("utf-8")


def _makers(path: str | Path) -> list[str]:
    """The notebooks that save a csv file, alone or as one of several tables of a figure."""
    stem = f"{Path(path).stem}_"
    return [
        name
        for name in notebooks()
        if any(stem.startswith(f"{saved}_") for saved in saved_stems(twin(name)))
    ]


def compare(stem: str, committed: pd.DataFrame, here: pd.DataFrame) -> list[Finding]:
    """What two tables with the stem `stem` have in common, by the rule of their layer."""
    if list(committed.columns) != list(here.columns):
        # then nothing further can be compared
        columns = [", ".join(table.columns) for table in (here, committed)]
        return [Finding("files", stem, False, f"columns {columns[0]} here, {columns[1]} committed")]
    layer = layer_of(stem, committed.columns)
    if layer != "means" and len(committed) != len(here):
        rows = f"{len(here)} rows here, {len(committed)} committed"
        return [Finding("files", stem, False, rows)]
    rules = {
        "theory": _compare_theory,
        "verdicts": _compare_verdicts,
        "means": _compare_means,
        "runs": _compare_runs,
    }
    return list(rules[layer](stem, committed, here))


def _compare_theory(stem: str, committed: pd.DataFrame, here: pd.DataFrame) -> Iterator[Finding]:
    """A finding for the file: it agrees if every cell does."""
    differing = ~_are_same(committed, here)
    column = differing.any().idxmax()
    row = differing[column].idxmax()
    detail = f"row {row + 1}, column {column}: {here[column][row]} here, "
    detail += f"{committed[column][row]} committed; {differing.to_numpy().sum()} cells differ"
    same = not differing.to_numpy().any()
    yield Finding("theory", stem, same, "" if same else detail)


def _compare_verdicts(stem: str, committed: pd.DataFrame, here: pd.DataFrame) -> Iterator[Finding]:
    """A finding per row, which its first column names; the rest of the row is not compared."""
    for old, new in zip(committed.to_dict("records"), here.to_dict("records"), strict=True):
        name = next(iter(old))
        if old[name] != new[name]:
            yield Finding("files", f"{stem}: {old[name]}", False, "another row here")
        else:
            yield _compare_conclusion(f"{stem}: {old[name]}", old["verdict"], new["verdict"])


def _compare_conclusion(what: str, committed: Any, here: Any) -> Finding:
    # text, so that a missing one equals another
    same = str(committed) == str(here)
    return Finding("verdicts", what, same, f"“{here}” here, “{committed}” committed")


def _compare_means(stem: str, committed: pd.DataFrame, here: pd.DataFrame) -> Iterator[Finding]:
    """A finding per mean and one per conclusion; the columns before `estimate` name the row."""
    names = list(committed.columns[: committed.columns.get_loc("estimate")])
    # by name and not by place: a table may be sorted by what was measured
    options: dict[str, Any] = {"how": "outer", "indicator": True, "validate": "one_to_one"}
    both = committed.merge(here, on=names, suffixes=("", " here"), **options)
    for row in both.to_dict("records"):
        what = f"{stem}: {', '.join(f'{row[name]}' for name in names)}"
        if row["_merge"] != "both":
            detail = MISSING if row["_merge"] == "left_only" else ADDED
            yield Finding("files", what, False, detail)
            continue
        for column in CONCLUSIONS:
            if column in committed:
                yield _compare_conclusion(what, row[column], row[f"{column} here"])
        yield _compare_mean(what, row)


def _compare_mean(what: str, row: dict[str, Any]) -> Finding:
    move = abs(row["estimate here"] - row["estimate"])
    detail = f"{row['estimate here']:.3f} here, {row['estimate']:.3f} committed"
    if row["n"] != row["n here"]:
        return Finding("means", what, False, f"n = {row['n here']} here, {row['n']} committed")
    half_width = (row["high"] - row["low"]) / 2
    if row["n"] < FEWEST_SEEDS or np.isnan(half_width):
        same = np.isclose(row["estimate here"], row["estimate"], **SAME, equal_nan=True)
        return Finding("runs", what, bool(same), detail)
    margin = max(half_width, MARGIN)
    # a number against none is beyond every margin
    same = bool(move <= margin)
    return Finding("means", what, same, f"{detail}, margin {margin:.3f}", move / margin)


def _compare_runs(stem: str, committed: pd.DataFrame, here: pd.DataFrame) -> Iterator[Finding]:
    """A finding per row, with the first of its columns that moved."""
    same = _are_same(committed, here)
    floats = committed.select_dtypes("float").columns.difference(SETTINGS)
    names = list(itertools.takewhile(lambda column: column not in floats, committed.columns))
    for row in range(len(committed)):
        what = f"{stem}: {', '.join(f'{value}' for value in committed.loc[row, names])}"
        if same.loc[row].all():
            yield Finding("runs", what, True)
            continue
        column = same.loc[row].idxmin()
        old, new = committed[column][row], here[column][row]
        share = abs(new - old) / committed[column].std() if column in floats else 0.0
        yield Finding("runs", what, False, f"{column} {new} here, {old} committed", share)


def _are_same(committed: pd.DataFrame, here: pd.DataFrame) -> pd.DataFrame:
    """Whether each cell is the same: numbers by `SAME`, text and whole numbers exactly."""
    columns = {}
    for column in committed:
        kinds = {committed[column].dtype.kind, here[column].dtype.kind}
        # a column of whole numbers reads as floats as soon as one is missing
        if kinds <= {"f", "i"} and "f" in kinds:
            columns[column] = np.isclose(here[column], committed[column], **SAME, equal_nan=True)
        else:
            missing = here[column].isna() & committed[column].isna()
            columns[column] = ((here[column] == committed[column]) | missing).to_numpy()
    return pd.DataFrame(columns, index=committed.index)


# What a reader is told


def describe(findings: list[Finding]) -> tuple[list[str], bool]:
    """Sentences about findings, the last of which says which conclusions held here, and if all did.

    What failed has a sentence each; of single runs that moved, the one that moved most has one.
    """
    layers = {
        layer: [finding for finding in findings if finding.layer == layer]
        for layer in ("files", "theory", "verdicts", "means", "runs")
    }
    runs = layers.pop("runs")
    failed = [each for found in layers.values() for each in found if not each.same]
    sentences = [f"differs: {each.what}: {each.detail}" for each in failed]
    if left_out := [each.what for each in findings if each.layer == "left out"]:
        sentences.append(f"Not compared, since the data were not at hand: {', '.join(left_out)}.")
    if layers["means"]:
        furthest = max(layers["means"], key=lambda finding: finding.share)
        sentences.append(
            "A mean may move by half the width of its committed 95% interval, or by "
            f"{MARGIN:g}; the one that moved most took {furthest.share:.0%} of that ("
            f"{furthest.what}: {furthest.detail})."
        )
    moved = [each for each in runs if not each.same]
    if moved:
        furthest = max(moved, key=lambda finding: finding.share)
        sentences.append(
            f"Listed, not judged: {len(moved)} of {len(runs)} rows of single runs moved, the "
            f"furthest {furthest.what}: {furthest.detail}."
        )
    counts = {
        "verdicts": "{} verdicts",
        "theory": "{} files of theory to the last digits",
        "means": "{} means within their margins",
    }
    held = [
        text.format(f"{sum(each.same for each in layers[layer])} of {len(layers[layer])}")
        for layer, text in counts.items()
        if layers[layer]
    ]
    last = f"Held here: {', '.join(held)}"
    if failed:
        last += f"; not held: {'; '.join(each.what for each in failed)}"
    return [*sentences, f"{last}."], not failed


# Drawing again


def redraw(profile: str, *, commit: bool = False) -> list[str]:
    """Draw every committed figure and table again from its csv, into build/<profile>/redrawn.

    `<stem>.csv` is drawn by `figures.<stem>`, several `<stem>_<name>.csv` by
    `figures.<stem>(name=table, …)`, and `table….csv` is a table. Where nothing is committed, the
    run of this clone is drawn.

    Args:
        commit: draw into figures/<profile>, in place of what is committed.
    Returns:
        the stems of the csv files for which nothing draws.
    Raises:
        ValueError: there are no csv files.
    """
    committed = profiles.committed_figures(profile)
    places = [folder / "data" for folder in (committed, profiles.own_figures(profile))]
    data = next((place for place in places if any(place.glob("*.csv"))), None)
    if data is None:
        folders = " or ".join(relative(place) for place in places)
        raise ValueError(f"there is no csv in {folders}: run make paper PROFILE={profile} first")
    # not beside a run's own results: `verify` would compare the committed data with themselves
    target = committed if commit else profiles.build_folder(profile) / "redrawn"
    caveat = profiles.caveat(profile)
    stems = {path.stem for path in data.glob("*.csv")}
    jobs = {}
    # a figure function bears the stem of its files, and may need several of them
    for stem in (name for name in vars(figures) if name.startswith("fig")):
        parts = {name for name in stems if f"{name}_".startswith(f"{stem}_")}
        # its own file, or else those of its parts
        if used := sorted({stem} if stem in parts else parts):
            jobs[stem] = [data / f"{name}.csv" for name in used]
    _draw_all(jobs, target, caveat=caveat)
    drawn = {path.stem for paths in jobs.values() for path in paths}
    # tables look alike, so that no function draws them
    for stem in (stem for stem in stems if stem.startswith("table")):
        files.write_table(pd.read_csv(data / f"{stem}.csv"), stem, target, caveat=caveat)
        drawn.add(stem)
    return sorted(stems - drawn)


def _draw_all(jobs: dict[str, list[Path]], target: Path, *, caveat: str) -> None:
    """Draw each figure from its csv files, several at a time if there are many."""
    draw = partial(_draw, target=target, caveat=caveat)
    # a second process takes seconds to start
    if len(jobs) < MANY:
        for stem, paths in jobs.items():
            draw(stem, paths)
        return
    workers = min(os.cpu_count() or 1, MANY)
    # spawned: threads of a library do not survive a fork
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # the list waits for all of them, and raises what one of them raised
        list(pool.map(draw, jobs, jobs.values()))


def _draw(stem: str, paths: list[Path], *, target: Path, caveat: str) -> None:
    if figure := files.draw_from(stem, paths):
        files.write_figure(figure, stem, target, caveat=caveat)


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
