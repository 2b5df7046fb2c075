"""What the paper page shows: the argument as a graph, what did not replicate, departures, minutes.

Everything is read from what is committed or was run: claims, tables, notebooks, profiles. Nothing
here imports torch.
"""

import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import yaml

from sympo._names import unknown_name
from sympo.book import claims
from sympo.book.figures.files import SavedFigure, name_figure, to_markdown
from sympo.book.figures.style import in_order, label
from sympo.book.twins import notebooks, read_twin, stem_of, study_of
from sympo.studies import profiles

# What a claim came to, by what a reader wants to know first.
AS_CLAIMED = ("reproduced", "derived")
NOT_REPLICATED = ("contradicted", "no difference larger than 0.02", "not seen at this scale")
OPEN = ("not measured", "not checked")
# Sections that say how a notebook departs from the paper, and those in which it advises.
DEPARTURES = "Where this differs from the paper"
ADVICE = "What a practitioner should do"
# A table of more rows is folded away below its summary.
FEW = 8


# The argument as a graph


def read_map() -> dict[str, list[dict[str, Any]]]:
    """notebooks/map.yaml: its lists assumptions, theorems, experiments and questions.

    Raises:
        ValueError: a theorem, an experiment or a claim that is named and not listed; the sentence
            names it.
    Check: tests/book/test_paper.py.
    """
    text = (profiles.root() / "notebooks" / "map.yaml").read_text(encoding="utf-8")
    graph = yaml.safe_load(text)
    theorems = {theorem["id"] for theorem in graph["theorems"]}
    experiments = {experiment["notebook"] for experiment in graph["experiments"]}
    known = {claim.id for claim in claims.read_claims()}
    for assumption in graph["assumptions"]:
        _refuse_unknown("theorem", list_supported(assumption), theorems)
    for theorem in graph["theorems"]:
        _refuse_unknown("experiment", list_experiments(theorem), experiments)
        _refuse_unknown("claim", [theorem["claim"]], known)
    return graph


def list_supported(assumption: dict[str, Any]) -> dict[str, str]:
    """What each theorem makes of an assumption: "needed", or "enough" where less would do.

    Args:
        assumption: an entry of `read_map`.
    """
    needed = dict.fromkeys(assumption["theorems"], "needed")
    return needed | dict.fromkeys(assumption.get("enough", []), "enough")


def list_experiments(theorem: dict[str, Any]) -> dict[str, str]:
    """What each experiment is to a theorem: "tested", or "prompted" where it asks for more.

    Args:
        theorem: an entry of `read_map`.
    """
    tested = dict.fromkeys(theorem["experiments"], "tested")
    return tested | dict.fromkeys(theorem.get("prompts", []), "prompted")


def _refuse_unknown(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(unknown_name(f"{kind} in map.yaml", name, sorted(known)))


def tabulate_map(verdicts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The boxes and the arrows of the argument.

    Args:
        verdicts: of `claims.judge_claims`.
    Returns:
        boxes, with columns column (assumption, theorem, check or experiment), id, text, note (what
        it came to, where it can come to something), state ("held", "failed", "mixed" or "open";
        empty without a note); and arrows, with columns source and target, ids of boxes, and kind:
        to a theorem needed or enough, to a check checked, to an experiment tested or prompted.
    """
    graph = read_map()
    by_id = verdicts.set_index("id")
    boxes = [("assumption", each["id"], each["text"], "", "") for each in graph["assumptions"]]
    arrows = [
        (each["id"], name, kind)
        for each in graph["assumptions"]
        for name, kind in list_supported(each).items()
    ]
    for theorem in graph["theorems"]:
        name, check = theorem["id"], f"check {theorem['id']}"
        found = by_id.loc[theorem["claim"]]
        boxes.append(("theorem", name, f"{name} · {theorem['text']}", "", ""))
        shown = f"{name}: {theorem['checked']}"
        boxes.append(("check", check, shown, found.evidence, _judge([found.verdict])))
        arrows.append((name, check, "checked"))
        arrows += [(check, each, kind) for each, kind in list_experiments(theorem).items()]
    for experiment in graph["experiments"]:
        found = _list_measured(verdicts, experiment["notebook"]).verdict
        name, note = experiment["notebook"], _count_held(found)
        boxes.append(("experiment", name, experiment["text"], note, _judge(found)))
    columns = ["column", "id", "text", "note", "state"]
    ends = ["source", "target", "kind"]
    return pd.DataFrame(boxes, columns=columns), pd.DataFrame(arrows, columns=ends)


def _list_measured(verdicts: pd.DataFrame, notebook: str) -> pd.DataFrame:
    measured = {claim.id for claim in claims.read_claims() if claim.table}
    return verdicts[(verdicts.notebook == notebook) & verdicts.id.isin(measured)]


def _count_held(verdicts: pd.Series) -> str:
    """`22 of 38 as claimed, 3 contradicted`."""
    if verdicts.isin(OPEN).all():
        return "not measured"
    held = f"{verdicts.isin(AS_CLAIMED).sum()} of {len(verdicts)} as claimed"
    contradicted = (verdicts == "contradicted").sum()
    return f"{held}, {contradicted} contradicted" if contradicted else held


def _judge(verdicts: Iterable[str]) -> str:
    """What some verdicts come to together; what was only not seen speaks against nothing."""
    decided = [verdict for verdict in verdicts if verdict not in OPEN]
    held = [verdict in AS_CLAIMED for verdict in decided]
    if any(held):
        return "held" if all(held) else "mixed"
    return "failed" if {*decided} - {"not seen at this scale"} else "open"


def tabulate_assumptions() -> pd.DataFrame:
    """What breaks without each assumption, and where that is shown.

    Returns:
        columns assumption, needed for (theorems, in brackets where it is only enough), without it,
        shown in: a Markdown link from a notebook to the section whose checks show it.
    """
    rows = [
        (
            each["text"],
            ", ".join(
                name if kind == "needed" else f"({name})"
                for name, kind in list_supported(each).items()
            ),
            each["without"],
            link(each["notebook"], each["heading"]),
        )
        for each in read_map()["assumptions"]
    ]
    return pd.DataFrame(rows, columns=["assumption", "needed for", "without it", "shown in"])


def tabulate_theorems(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Each theorem with its checks, and the experiments that put it to the test.

    Args:
        verdicts: of `claims.judge_claims`.
    Returns:
        columns theorem, checked in (Markdown links), verdict, put to the test in (links, in
        brackets where more is asked than the theorem says).
    """
    graph = read_map()
    by_id = verdicts.set_index("id")
    places = {each["notebook"]: link(**_drop(each, "text")) for each in graph["experiments"]}
    rows = []
    for theorem in graph["theorems"]:
        found = by_id.loc[theorem["claim"]]
        experiments = list_experiments(theorem).items()
        tests = "; ".join(
            f"({places[name]})" if kind == "prompted" else places[name]
            for name, kind in experiments
        )
        text = f"{theorem['id']} · {theorem['text']}"
        rows.append((text, found["decided by"], f"{found.verdict}, {found.evidence}", tests or "–"))
    return pd.DataFrame(rows, columns=["theorem", "checked in", "verdict", "put to the test in"])


def _drop(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != key}


def link(notebook: str, heading: str) -> str:
    """A Markdown link, from a notebook, to a heading of another."""
    return f"[{notebook[:2]} {heading}]({notebook}.ipynb#{claims.anchor(heading)})"


# Sections of other notebooks


def read_section(notebook: nbformat.NotebookNode, heading: str) -> list[nbformat.NotebookNode]:
    """The cells of a section: from a heading to the next one that is not below it.

    The first cell begins with the heading itself. Without such a heading there are none; where it
    occurs more than once, the first counts, as it does for a link.
    """
    cells: list[nbformat.NotebookNode] = []
    level = 0
    for cell in notebook.cells:
        for part in _split_at_headings(cell):
            found = re.match(r"(#+) (.*)", part.source) if cell.cell_type == "markdown" else None
            if found and level and len(found[1]) <= level:
                return cells
            if found and not level and found[2] == heading:
                level = len(found[1])
            if level:
                cells.append(part)
    return cells


def find_section(name: str, heading: str) -> list[nbformat.NotebookNode]:
    """`read_section` of the text of notebook `name`."""
    return read_section(read_twin(name), heading)


def count_checks(cells: Iterable[nbformat.NotebookNode]) -> int:
    """How many cells are tagged `check`."""
    return sum("check" in cell.metadata.get("tags", []) for cell in cells)


def _split_at_headings(cell: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    if cell.cell_type != "markdown":
        yield cell
        return
    for part in re.split(r"^(?=#+ )", cell.source, flags=re.MULTILINE):
        if part.strip():
            yield nbformat.v4.new_markdown_cell(part)


def collect_departures() -> pd.DataFrame:
    """What each notebook says of its departures from the paper.

    Returns:
        columns notebook, text: the Markdown of the section, without its heading.
    """
    rows = []
    for name in notebooks():
        cells = find_section(name, DEPARTURES)
        prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
        if prose:
            rows.append((name, "\n\n".join(prose).partition("\n")[2].strip()))
    return pd.DataFrame(rows, columns=["notebook", "text"])


def collect_advice(profile: str) -> pd.DataFrame:
    """The sentence that each notebook ends with for whoever trains, as it was last computed.

    Returns:
        columns notebook, advice (Markdown, no words in bold); a notebook that has not been run, or
        gives none, has no row.
    """
    rows = []
    for name in notebooks():
        path = claims.find_newest(name, profile)
        cells = read_section(nbformat.read(path, as_version=4), ADVICE) if path else []
        if shown := [text for cell in cells for text in _list_shown(cell)]:
            # in a list of advice what stands out in its own notebook would stand out no more
            rows.append((name, "\n\n".join(shown).replace("**", "")))
    return pd.DataFrame(rows, columns=["notebook", "advice"])


def write_advice(profile: str) -> str:
    """A list in Markdown of `collect_advice`, an item for each notebook with a link to it."""
    items = [
        # further paragraphs belong to their item by the width of its mark
        f"- {link(row.notebook, ADVICE)}: {row.advice}".replace("\n", "\n  ")
        for row in collect_advice(profile).itertuples()
    ]
    return "\n".join(items) or "No notebook with advice has been run yet."


def _list_shown(cell: nbformat.NotebookNode) -> list[str]:
    """The Markdown that a cell showed when it was run."""
    shown = [each.get("data", {}) for each in cell.get("outputs", [])]
    return [data["text/markdown"] for data in shown if "text/markdown" in data]


# Claims


def summarise(verdicts: Iterable[str]) -> str:
    """`26 claims: 13 reproduced, 13 contradicted`, the most frequent first."""
    counts = pd.Series(list(verdicts)).value_counts()
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    noun = "claim" if counts.sum() == 1 else "claims"
    return f"{counts.sum()} {noun}: {listed}"


def say_whose(verdicts: pd.DataFrame) -> str:
    """Whose statements were reproduced and contradicted: the paper's, where it makes them, or ours.

    A statement of the paper's was tested in a setting of ours where the column paper says so.

    Args:
        verdicts: of `claims.judge_claims`.
    Check: tests/book/test_paper.py.
    """
    asked = verdicts.group == "beyond the paper"
    elsewhere = ~asked & verdicts.paper.str.contains(r"\bours\b")
    whose = [~asked & ~elsewhere, elsewhere, asked]
    won, lost = (
        [(verdicts.verdict[part] == verdict).sum() for part in whose]
        for verdict in ("reproduced", "contradicted")
    )
    return (
        f"Of the {sum(won)} reproduced, {won[0]} are statements of the paper in the setting in "
        f"which it makes them, {won[1]} its statements in a setting of ours, and {won[2]} "
        f"questions that this companion asks. Of the {sum(lost)} contradicted these are {lost[0]}, "
        f"{lost[1]} and {lost[2]}."
    )


def write_group(verdicts: pd.DataFrame, group: str) -> str:
    """The claims of a group as Markdown, each beside the figure or table that it is shown in.

    Args:
        verdicts: of `claims.judge_claims`.
    """
    shown_in = {claim.id: claim.figure or claim.table for claim in claims.read_claims()}
    rows = verdicts[verdicts.group == group]
    stems = rows.id.map(shown_in).fillna("")
    parts = [f"**{summarise(rows.verdict)}.**"]
    for stem, part in rows.groupby(stems, sort=False):
        parts += _write_beside(str(stem), part)
    return "\n\n".join(parts)


def _write_beside(stem: str, rows: pd.DataFrame) -> Iterator[str]:
    """The figure `stem` with what it shows, if the claims have one, and their table."""
    # the link of a claim ends with its figure and its table
    path = re.search(rf"\(([^)]*/{stem}\.png)\)", rows["decided by"].iloc[0]) if stem else None
    if path:
        # as wide as the text: a figure's own pixels are for print
        words = html.escape(describe_result(stem))
        yield f'<img src="{path[1]}" alt="{words}" width="640">'
        yield f"*{describe_result(stem)}*"
    columns = ["claim", "paper", "verdict", "evidence", "decided by"]
    table = to_markdown(rows[columns], "l" * len(columns))
    if len(rows) <= FEW:
        yield table
        return
    yield f"<details><summary>{summarise(rows.verdict)}</summary>\n\n{table}\n</details>"


def describe_result(stem: str) -> str:
    """What a reader calls a saved figure or table: `Figure 7: Which temperature each loss takes`.

    A figure is described by the first sentence of its caption, a table by the words of its stem.
    """
    if stem.startswith("fig"):
        first = SavedFigure(Path(stem)).caption.partition(". ")[0].rstrip(".")
        return f"{name_figure(stem)}: {first}" if first else name_figure(stem)
    words = re.sub(r"^table(_t?\d+|\d+)?_", "", stem)
    return f"Table: {words.replace('_', ' ')}"


def count_verdicts(verdicts: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each group came to each verdict.

    Args:
        verdicts: of `claims.judge_claims`.
    Returns:
        columns group, notebook, outcome (the verdict), claims. The verdicts themselves are compared
        by `verify` in the table of claims, row by row; here they are only counted.
    """
    table = verdicts.rename(columns={"verdict": "outcome"})
    keys = ["group", "notebook", "outcome"]
    return table.groupby(keys, sort=False).size().rename("claims").reset_index()


def write_not_replicated(verdicts: pd.DataFrame) -> str:
    """The claims that were put to the test and did not come out as claimed, as Markdown.

    The clearest come first, in a table for each verdict, of which only the first is not folded.

    Args:
        verdicts: of `claims.judge_claims`, or some of its rows.
    """
    columns = ["claim", "paper", "evidence", "decided by"]
    failed = verdicts[verdicts.verdict.isin(NOT_REPLICATED)]
    parts = [f"Of {summarise(verdicts.verdict)}."]
    for verdict in NOT_REPLICATED:
        rows = failed[failed.verdict == verdict]
        if len(rows):
            table = to_markdown(rows[columns], "l" * len(columns))
            title = f"{verdict.capitalize()}: {len(rows)}"
            state = " open" if verdict == NOT_REPLICATED[0] else ""
            parts.append(f"<details{state}><summary>{title}</summary>\n\n{table}\n</details>")
    return "\n\n".join(parts)


def write_results(profile: str) -> str:
    """Every figure and table with a link to its notebook, folded, a table for each notebook."""
    parts = []
    for name, rows in claims.list_results(profile).groupby("notebook", sort=False):
        shown = rows[["result", "profile"]].rename(columns={"profile": "shown of profile"})
        shown = shown.assign(result=shown.result.map(describe_result))
        title = f"{name_notebook(name)}: {len(rows)} saved"
        table = f"[Open the notebook]({name}.ipynb)\n\n{to_markdown(shown, 'll')}"
        parts.append(f"<details><summary>{title}</summary>\n\n{table}\n</details>")
    return "\n\n".join(parts)


def list_missing_runs(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Which runs the claims that are not measured wait for, by notebook.

    What was run, and is measured in too few seeds, waits for none.

    Args:
        verdicts: of `claims.judge_claims`.
    Returns:
        columns notebook (its title), claims (how many wait), runs (how many, as text), "which" (the
        seeds of each method at each noise rate), and the command that trains them before the
        study's others. Of studies of language models, from the claims' rows, the gpu profile and
        the committed results of that profile; of others it is said that all runs are.
    """
    missing = (verdicts.verdict == "not measured") & ~verdicts.evidence.str.match(claims.TOO_FEW)
    waiting = set(verdicts.id[missing])
    by_notebook: dict[str, list[claims.Claim]] = {}
    for claim in claims.read_claims():
        if claim.id in waiting and claim.notebook:
            by_notebook.setdefault(claim.notebook, []).append(claim)
    sections = profiles.read_profile("gpu")
    rows = []
    for name, each in by_notebook.items():
        section = sections.get(study_of(name), {})
        runs, which = "all", "those of the study"
        if "headline_seeds" in section:
            seeds = _list_missing_seeds(each, section)
            runs = str(sum(len(found) for methods in seeds.values() for found in methods.values()))
            which = "; ".join(
                f"ε = {rate:g}: {_describe_seeds(methods)}" for rate, methods in seeds.items()
            )
        command = f"`python -m sympo run-all --profile gpu --studies {study_of(name)}`"
        rows.append((name_notebook(name), len(each), runs, which, command))
    return pd.DataFrame(rows, columns=["notebook", "claims", "runs", "which", "command"])


def _list_missing_seeds(
    waiting: Sequence[claims.Claim], section: dict[str, Any]
) -> dict[float, dict[str, tuple[int, ...]]]:
    """Noise rate → method → the seeds that profile gpu plans and its committed results lack."""
    cells = (claim.row for claim in waiting if "noise_rate" in claim.row)
    wanted = {(row["noise_rate"], row[side]) for row in cells for side in ("method", "baseline")}
    trained: set[tuple[float, str, int]] = set()
    for figure in {claim.figure for claim in waiting}:
        if path := profiles.find_result("gpu", f"data/{figure}.csv"):
            policies = pd.read_csv(path)[["noise_rate", "method", "seed"]]
            trained.update(policies.itertuples(index=False, name=None))
    missing: dict[float, dict[str, tuple[int, ...]]] = {}
    for rate in sorted({rate for rate, _ in wanted}):
        for method in in_order(method for at, method in wanted if at == rate):
            seeds = range(_count_seeds(section, method, rate))
            found = tuple(seed for seed in seeds if (rate, method, seed) not in trained)
            if found:
                missing.setdefault(rate, {})[method] = found
    return missing


def _count_seeds(section: dict[str, Any], method: str, noise_rate: float) -> int:
    """How many seeds a study of language models trains of one method at one noise rate."""
    headline = noise_rate == max(section["noise_rates"]) and method in section["headline_methods"]
    return int(section["headline_seeds" if headline else "seeds"])


def _describe_seeds(missing: dict[str, tuple[int, ...]]) -> str:
    """The methods that lack the same seeds, the most seeds first."""
    parts = []
    for seeds in sorted(set(missing.values()), key=len, reverse=True):
        named = ", ".join(label(method) for method, found in missing.items() if found == seeds)
        parts.append(f"seeds {', '.join(map(str, seeds))} of {named}")
    return "; ".join(parts)


def answer_questions(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The paper's open questions and the summary's next checks, with what is known of each.

    Args:
        verdicts: of `claims.judge_claims`.
    Returns:
        columns question, answer ("not measured" where nothing is known), claims (Markdown links).
    """
    rows = []
    for question in read_map()["questions"]:
        found = verdicts[verdicts.id.str.fullmatch(question["claims"])]
        decided = found[~found.verdict.isin(OPEN)]
        answer = summarise(decided.verdict) if len(decided) else "not measured"
        if asked := question.get("asked"):
            answer = f"{answer} (the claim: {asked})"
        if missing := question.get("missing"):
            answer = f"{answer}. {missing.strip()}"
        # the first link of a claim leads to its cells
        links = decided["decided by"].str.extract(r"^(\[[^]]+\]\([^)]+\))")[0].drop_duplicates()
        rows.append((question["text"], answer, "; ".join(links) or "–"))
    return pd.DataFrame(rows, columns=["question", "answer", "decided by"])


# How long, and how to cite


def tabulate_minutes(profile: str) -> pd.DataFrame:
    """How long each notebook takes, in the order in which they run.

    Returns:
        columns notebook, minutes (of the profile; NaN where it says none), training (minutes of the
        runs behind the results, all machines together, from their provenance; NaN without runs).
    """
    minutes = profiles.read_profile(profile).get("minutes", {})
    rows = [(name, minutes.get(name), _find_training(name, profile)) for name in notebooks()]
    table = pd.DataFrame(rows, columns=["notebook", "minutes", "training"])
    return table.astype({"minutes": float, "training": float})


def _find_training(name: str, profile: str) -> float | None:
    # of the reference: what else this machine does makes its own times
    path = profiles.committed_figures(profile) / "data" / f"{name}.json"
    fields = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    seconds = fields.get("training_seconds")
    return None if seconds is None else round(seconds / 60, 1)


def write_minutes(profile: str) -> str:
    """The minutes of `tabulate_minutes` as the README shows them, with their sum."""
    table = tabulate_minutes(profile)
    pairs = zip(table.notebook, table.minutes, strict=True)
    rows = [[_title(name), "–" if pd.isna(time) else f"{time:g}"] for name, time in pairs]
    rows.append(["together", f"{table.minutes.sum():.0f}"])
    return to_markdown(pd.DataFrame(rows, columns=["notebook", "minutes"]), "lr")


def name_notebook(name: str) -> str:
    """What a reader calls a notebook: its heading, which begins with its number."""
    return read_twin(name).cells[0].source.partition("\n")[0].removeprefix("# ")


def _title(name: str) -> str:
    return f"{name[:2]} {stem_of(name).replace('_', ' ')}"


def cite() -> str:
    """BibTeX for the paper, from CITATION.cff."""
    text = (profiles.root() / "CITATION.cff").read_text(encoding="utf-8")
    paper = yaml.safe_load(text)["preferred-citation"]
    names = " and ".join(
        f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]
    )
    key = f"{paper['authors'][0]['family-names'].lower()}{paper['year']}symmetric"
    fields = {
        "title": f"{{{paper['title']}}}",
        "author": names,
        "year": paper["year"],
        "eprint": paper["identifiers"][0]["value"].removeprefix("arXiv:"),
        "archiveprefix": "arXiv",
        "url": paper["url"],
    }
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@article{{{key},\n{lines}\n}}"
