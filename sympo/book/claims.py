"""The paper's claims, where each is tested here, and the verdict that follows from the data."""

from typing import Any

import nbformat
import pandas as pd
import yaml

from sympo.book.twins import notebooks, output, saved_stems, twin
from sympo.studies import profiles


def judge_claims(profile: str) -> pd.DataFrame:
    """A row per claim of notebooks/claims.yaml, with its verdict in `profile`.

    A claim with a `table` is measured: its verdict stands in that table's row. Any other is
    derived: it holds if every check cell of its notebook ran without an error.

    Returns:
        columns claim, paper, notebook, evidence, verdict.
    Check: tests/book/test_claims.py.
    """
    # read anew at each call: an edit shows up without a restart of the kernel
    text = (profiles.root() / "notebooks" / "claims.yaml").read_text(encoding="utf-8")
    rows = [
        (claim["claim"], claim["paper"], claim["notebook"], *_judge(claim, profile))
        for claim in yaml.safe_load(text)
    ]
    return pd.DataFrame(rows, columns=["claim", "paper", "notebook", "evidence", "verdict"])


def list_results(profile: str) -> pd.DataFrame:
    """A row per figure and table that the notebooks save.

    Returns:
        columns result (its stem), notebook, and profile, whose version is shown: "not made yet"
        where there is none.
    """
    rows = [
        # a figure has a pdf, a table a Markdown file
        (stem, name, _find_profile(profile, f"{stem}.pdf", f"{stem}.md") or "not made yet")
        for name in notebooks()
        for stem in saved_stems(twin(name))
    ]
    return pd.DataFrame(rows, columns=["result", "notebook", "profile"])


def _find_profile(profile: str, *paths: str) -> str | None:
    """The profile under whose figures one of `paths` lies."""
    # a laptop shows a GPU's results where it has none itself
    places = (profile, "gpu") if profile == "laptop" else (profile,)
    for place in places:
        folder = profiles.figures_folder(place)
        if any((folder / path).is_file() for path in paths):
            return place
    return None


def _judge(claim: dict[str, Any], profile: str) -> tuple[str, str]:
    """Evidence and verdict."""
    if "table" in claim:
        return _judge_measurement(claim["table"], claim["row"], profile)
    return _judge_derivation(claim["notebook"], profile)


def _judge_measurement(stem: str, cells: dict[str, Any], profile: str) -> tuple[str, str]:
    """Evidence and verdict of the row of a table that holds `cells`."""
    path = f"data/{stem}.csv"
    place = _find_profile(profile, path)
    if place is None:
        return f"no {stem}.csv in profile {profile}", "not measured"
    table = pd.read_csv(profiles.figures_folder(place) / path)
    # the row is named by its cells, not its number, which a profile may change
    matches = (table[list(cells)] == pd.Series(cells)).all(axis=1)
    rows = list(table[matches].itertuples())
    # the profile, or an exercise, left the method out
    if len(rows) != 1:
        return f"{len(rows)} such rows in {stem}.csv", "not measured"
    (row,) = rows
    note = "" if place == profile else f", profile {place}"
    interval = f"{row.estimate:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
    return f"{interval}, n = {row.n}{note}", row.verdict


def _judge_derivation(name: str, profile: str) -> tuple[str, str]:
    """Evidence and verdict of a notebook's check cells."""
    # as it was run in this profile, or else as it is committed
    executed = output(name, profile)
    path = executed if executed.is_file() else profiles.root() / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        return "the notebook has not been run", "not checked"
    cells = nbformat.read(path, as_version=4).cells
    checks = [cell for cell in cells if "check" in cell.metadata.get("tags", [])]
    passed = [cell for cell in checks if _has_passed(cell)]
    evidence = f"{len(passed)} of {len(checks)} checks pass"
    # a notebook without checks has derived nothing
    return evidence, "derived" if checks and passed == checks else "not checked"


def _has_passed(cell: nbformat.NotebookNode) -> bool:
    # committed without having been run, it proves nothing
    ran = cell.execution_count is not None
    return ran and all(shown.output_type != "error" for shown in cell.outputs)
