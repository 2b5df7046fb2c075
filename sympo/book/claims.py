"""The paper's claims, where each is decided here, and the verdict that follows from the data."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
import pandas as pd
import yaml

from sympo import stats
from sympo._names import unknown_name
from sympo.book.figures.files import name_figure
from sympo.book.figures.style import METHODS
from sympo.book.twins import notebooks, output, read_twin, saved_stems, twin
from sympo.studies import profiles

# The parts of the paper's case, in the order in which they are shown.
GROUPS = (
    "key result: reward accuracy",
    "key result: win rate",
    "mechanism",
    "trade-off",
    "failure signature",
    "first experiment",
    "open question",
    "beyond the paper",
)
# Evidence of a row that was run and is not measured all the same: no further run is missing.
TOO_FEW = "measured in too few seeds"
COLUMNS = ["id", "group", "claim", "paper", "notebook", "evidence", "verdict", "decided by"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One entry of notebooks/claims.yaml, or one combination of its `each`.

    Attributes:
        group: one of `GROUPS`.
        notebook: the one that decides it; None where nothing does yet.
        figure: the stem of the figure or table that shows it.
        table, row: of a measured claim, the table's stem and cells that tell its row from all
            others.
        within: the size that no difference exceeds, where it is claimed that there is none to
            speak of, by models that are known to have learned something. Without either the row
            has a verdict.
        check: of a derived claim, the tag of the cells that check it.
    """

    id: str
    group: str
    claim: str
    paper: str
    notebook: str | None = None
    figure: str | None = None
    table: str | None = None
    row: dict[str, Any] = field(default_factory=dict)
    within: float | None = None
    check: str | None = None


def read_claims() -> list[Claim]:
    """The claims of notebooks/claims.yaml.

    Raises:
        ValueError: an unknown group, an id that occurs twice, a claim that is both measured and
            derived, or a check that is not named after a claim.
    Check: tests/book/test_claims.py.
    """
    # read anew at each call: an edit shows up without a restart of the kernel
    text = (profiles.root() / "notebooks" / "claims.yaml").read_text(encoding="utf-8")
    claims = [claim for entry in yaml.safe_load(text) for claim in _expand(entry)]
    tags = {f"claim-{claim.id}" for claim in claims}
    if len(tags) < len(claims):
        raise ValueError("two claims of claims.yaml have one id: give each its own")
    for claim in claims:
        if claim.group not in GROUPS:
            raise ValueError(unknown_name(f"group of claim {claim.id}", claim.group, GROUPS))
        if claim.check and claim.table:
            raise ValueError(f"claim {claim.id} has a table and a check: leave one of them out")
        if claim.check and claim.check not in tags:
            raise ValueError(unknown_name(f"check of claim {claim.id}", claim.check, sorted(tags)))
    return claims


def judge_claims(profile: str) -> pd.DataFrame:
    """A row per claim of notebooks/claims.yaml, with its verdict in `profile`.

    A measured claim has the verdict of its row: "not measured" without one. A derived claim has
    that of its own check cells, as the notebook was last run: "contradicted" if one of them failed,
    "derived" if there is one and all passed, "not checked" otherwise.

    Returns:
        the columns `COLUMNS`; the last holds Markdown links to what decides the claim: its cells
        or its table, by the heading above, and its figure.
    Raises:
        ValueError: as `read_claims`.
    Check: tests/book/test_claims.py.
    """
    claims = read_claims()
    # each once: jupytext takes its time
    texts = {name: read_twin(name) for name in {claim.notebook for claim in claims} if name}
    rows = [
        (
            claim.id,
            claim.group,
            claim.claim,
            claim.paper,
            claim.notebook or "–",
            *_judge(claim, profile),
            ", ".join(_link(claim, texts[claim.notebook], profile)) if claim.notebook else "–",
        )
        for claim in claims
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def find_heading(claim: Claim, notebook: nbformat.NotebookNode) -> str | None:
    """The heading above the first cell that decides a claim; None if no cell does."""
    heading = None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            lines = [line for line in cell.source.splitlines() if line.startswith("#")]
            heading = lines[-1].lstrip("# ") if lines else heading
        elif _decides(cell, claim):
            return heading
    return None


def anchor(heading: str) -> str:
    """What a link to a heading ends with, as Jupyter and GitHub name it."""
    return quote(heading.replace(" ", "-"))


def _decides(cell: nbformat.NotebookNode, claim: Claim) -> bool:
    saves_table = claim.table is not None and f'"{claim.table}"' in cell.source
    return saves_table or claim.check in cell.metadata.get("tags", [])


def list_results(profile: str) -> pd.DataFrame:
    """A row per figure and table that the notebooks save.

    Returns:
        columns result (its stem), notebook, and profile, whose version is shown: "not made yet"
        where there is none.
    """
    rows = [
        # a figure has a pdf, a table a Markdown file
        (stem, name, _find_place(profile, f"{stem}.pdf", f"{stem}.md") or "not made yet")
        for name in notebooks()
        for stem in saved_stems(twin(name))
    ]
    return pd.DataFrame(rows, columns=["result", "notebook", "profile"])


def _expand(entry: dict[str, Any]) -> Iterator[Claim]:
    """The claims that an entry of claims.yaml stands for."""
    each = entry.get("each", {})
    rest = {key: value for key, value in entry.items() if key not in ("each", "row")}
    for values in product(*each.values()):
        cells = dict(zip(each, values, strict=True))
        # as figures call them, in the sentence; as the tables do, in the id
        shown = {
            key: METHODS[value].label if value in METHODS else value for key, value in cells.items()
        }
        named = {"id": rest["id"].format(**cells), "claim": rest["claim"].format(**shown)}
        yield Claim(**{**rest, **named}, row={**entry.get("row", {}), **cells})


def _find_place(profile: str, *paths: str) -> str | None:
    """The profile among whose results one of `paths` is."""
    # a laptop shows a GPU's results where it has none itself
    places = (profile, "gpu") if profile == "laptop" else (profile,)
    for place in places:
        if any(profiles.find_result(place, path) for path in paths):
            return place
    return None


def _judge(claim: Claim, profile: str) -> tuple[str, str]:
    """Evidence and verdict."""
    if claim.table:
        return _judge_measurement(claim, profile)
    if claim.check:
        return _judge_derivation(claim, profile)
    return "nothing here decides it yet", "not checked"


def _judge_measurement(claim: Claim, profile: str) -> tuple[str, str]:
    """Evidence and verdict of the row of a table that holds the cells of a claim."""
    path = f"data/{claim.table}.csv"
    place = _find_place(profile, path)
    if place is None:
        return "not run yet", "not measured"
    rows = _find_rows(pd.read_csv(profiles.find_result(place, path)), claim.row)
    # the profile, or an exercise, left the method out
    if len(rows) != 1:
        found = f"{len(rows)} such rows in {claim.table}.csv" if rows else "left out of this run"
        return found, "not measured"
    row = rows[0]
    note = "" if place == profile else f", profile {place}"
    # a smoke run decides nothing, and its tables say so themselves
    verdict = profiles.caveat(profile) or _decide(claim, row)
    if row.n < stats.FEWEST and not pd.isna(row.estimate):
        # of a study that has only begun: more runs will tell
        return f"{_describe_briefly(row)}, too few to tell{note}", "not measured"
    return f"{_describe_briefly(row)}{note}", verdict


def _find_rows(table: pd.DataFrame, cells: dict[str, Any]) -> list[Any]:
    # the row is named by its cells, not its number, which a profile may change
    if not {*cells, "verdict"} <= set(table):
        return []
    matches = (table[list(cells)] == pd.Series(cells)).all(axis=1)
    return list(table[matches].itertuples())


def _decide(claim: Claim, row: Any) -> str:
    if claim.within is not None:
        return stats.verdict_agreement(row, learned=True, margin=claim.within)
    return str(row.verdict)


def _describe_briefly(row: Any) -> str:
    if pd.isna(row.estimate):
        return f"{TOO_FEW}: {row.n}"
    interval = f" ({row.low:+.3f} to {row.high:+.3f})" if row.n >= stats.FEWEST else ""
    return f"{row.estimate:+.3f}{interval}, n = {row.n}"


def _judge_derivation(claim: Claim, profile: str) -> tuple[str, str]:
    """Evidence and verdict of a claim's own check cells."""
    path = find_newest(str(claim.notebook), profile)
    if path is None:
        return "the notebook has not been run", "not checked"
    cells = _read_cells(path, path.stat().st_mtime_ns)
    checks = [cell for cell in cells if claim.check in cell.metadata.get("tags", [])]
    # another error, such as a missing package, says nothing about the claim
    failed = [cell for cell in checks if "AssertionError" in _list_errors(cell)]
    ran = [cell for cell in checks if cell.execution_count is not None]
    passed = [cell for cell in ran if not _list_errors(cell)]
    evidence = f"{len(passed)} of {len(checks)} checks pass"
    if failed:
        return evidence, "contradicted"
    # without checks nothing is derived
    return evidence, "derived" if checks and passed == checks else "not checked"


# several claims rest on one notebook, and validating it takes a while; its time tells whether it is
# the same still
@cache
def _read_cells(path: Path, time: int) -> list[nbformat.NotebookNode]:
    return list(nbformat.read(path, as_version=4).cells)


def find_newest(name: str, profile: str) -> Path | None:
    """The notebook as it was last run in this profile, failed or not, or else as it is committed.

    A run that fails leaves the output of the one before it.
    """
    executed = output(name, profile)
    committed = profiles.root() / "notebooks" / f"{name}.ipynb"
    paths = [executed, executed.with_suffix(".failed.ipynb"), committed]
    there = [path for path in paths if path.is_file()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def _list_errors(cell: nbformat.NotebookNode) -> list[str]:
    return [shown.ename for shown in cell.outputs if shown.output_type == "error"]


def _link(claim: Claim, notebook: nbformat.NotebookNode, profile: str) -> Iterator[str]:
    """Markdown links, from a notebook, to the cells or the table that decide, and to the figure."""
    name = str(claim.notebook)
    heading = find_heading(claim, notebook) or ""
    yield f"[{name[:2]} {heading}]({name}.ipynb#{anchor(heading)})"
    for words, file in _name_results(claim):
        if place := _find_place(profile, file):
            yield f"[{words}]({_link_result(place, file)})"


def _name_results(claim: Claim) -> Iterator[tuple[str, str]]:
    """What a reader calls the figure and the table of a claim, and their files."""
    if claim.figure and claim.figure.startswith("fig"):
        yield name_figure(claim.figure), f"{claim.figure}.png"
    # some claims are shown by the table that decides them
    tables = dict.fromkeys((claim.figure, claim.table))
    for stem in tables:
        if stem and stem.startswith("table"):
            yield f"table {stem.partition('_')[2].replace('_', ' ')}".rstrip(), f"{stem}.md"


def _link_result(place: str, name: str) -> str:
    # a reader on GitHub has the committed files only, and smoke's are never committed
    folder = profiles.own_figures(place) if place == "smoke" else profiles.committed_figures(place)
    return Path(os.path.relpath(folder / name, profiles.root() / "notebooks")).as_posix()
