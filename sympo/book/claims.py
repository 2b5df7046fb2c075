"""The paper's claims, where each is tested here, and the verdict that follows from the data by
rule.
"""

import nbformat
import pandas as pd
import yaml

from sympo.book import execute
from sympo.studies import profiles


def judge_claims(profile: str) -> pd.DataFrame:
    """A row per claim of notebooks/claims.yaml, with its verdict in `profile`.

    A claim with a `table` is measured: its verdict stands in that table's row. Any other is
    derived: it holds if every check cell of its notebook ran without an error.

    Returns:
        columns claim, paper, notebook, evidence, verdict.
    """
    text = (profiles.root() / "notebooks" / "claims.yaml").read_text(encoding="utf-8")
    rows = [
        (claim["claim"], claim["paper"], claim["notebook"], *_judge(claim, profile))
        for claim in yaml.safe_load(text)
    ]
    return pd.DataFrame(rows, columns=["claim", "paper", "notebook", "evidence", "verdict"])


def list_results(profile: str) -> pd.DataFrame:
    """A row per figure and table: its stem, the notebook that makes it, and the profile whose
    version is shown.
    """
    rows = [
        (stem, name, _find_profile(profile, f"{stem}.pdf", f"{stem}.md") or "not made yet")
        for name in execute.notebooks()
        for stem in execute.saved_stems(execute.twin(name))
    ]
    return pd.DataFrame(rows, columns=["result", "notebook", "profile"])


def _find_profile(profile: str, *paths: str) -> str | None:
    """The profile under whose figures one of `paths` lies: a laptop shows a GPU's results where it
    has none itself.
    """
    places = (profile, "gpu") if profile == "laptop" else (profile,)
    return next(
        (
            name
            for name in places
            for path in paths
            if (profiles.figures_folder(name) / path).is_file()
        ),
        None,
    )


def _judge(claim: dict, profile: str) -> tuple[str, str]:
    if "table" not in claim:
        return _judge_derivation(claim["notebook"], profile)
    name = f"data/{claim['table']}.csv"
    made = _find_profile(profile, name)
    if made is None:
        return f"no {claim['table']}.csv in profile {profile}", "not measured"
    path, note = (
        profiles.figures_folder(made) / name,
        "" if made == profile else f", profile {made}",
    )
    table = pd.read_csv(path)
    rows = list(
        table[(table[list(claim["row"])] == pd.Series(claim["row"])).all(axis=1)].itertuples()
    )
    if len(rows) != 1:  # the profile, or an exercise, left the method out
        return f"{len(rows)} such rows in {path.name}", "not measured"
    (row,) = rows
    return (
        f"{row.estimate:+.3f} ({row.low:+.3f} to {row.high:+.3f}), n = {row.n}{note}",
        row.verdict,
    )


def _judge_derivation(name: str, profile: str) -> tuple[str, str]:
    executed = execute.output(name, profile)
    path = executed if executed.is_file() else profiles.root() / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        return "the notebook has not been run", "not checked"
    checks = [
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if "check" in cell.metadata.get("tags", [])
    ]
    passed = [
        cell
        for cell in checks
        if cell.execution_count and all(o.output_type != "error" for o in cell.outputs)
    ]
    return (
        f"{len(passed)} of {len(checks)} checks pass",
        "derived" if checks and passed == checks else "not checked",
    )
