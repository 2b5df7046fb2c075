"""Which conclusions hold in a run of one's own, and figures drawn again from their csv."""

import re
import subprocess
from functools import cache

import numpy as np
import pandas as pd
import pytest
from miniature import write_twin

from sympo.book import execute, figures, verify
from sympo.book.__main__ import main
from sympo.book.commit import Changes
from sympo.studies import plan, profiles
from sympo.studies.records import Runs

THEORY = pd.DataFrame({"loss": ["ramp", "dpo"], "n": [5, 5], "risk": [0.75, np.nan]})
CONTRASTS = pd.DataFrame(
    [
        ("final", "ramp", 0.120, 0.100, 0.140, 5, 0.001, "reproduced"),
        ("final", "sigmoid", 0.050, 0.049, 0.051, 5, 0.001, "reproduced"),
        ("final", "hinge", 0.300, -0.900, 0.900, 2, 0.600, "not seen at this scale"),
        ("chosen", "ramp", 0.001, np.nan, np.nan, 5, 0.900, "no difference larger than 0.02"),
    ],
    columns=["epoch", "method", "estimate", "low", "high", "n", "p", "verdict"],
)
RUNS = pd.DataFrame(
    {"method": ["ramp"] * 3, "seed": [0, 1, 2], "accuracy": [0.9, 0.8, 0.661], "kl": [1.0, 3, 40]}
)
CLAIMS = pd.DataFrame(
    {"claim": ["Ramp is robust.", "T1"], "evidence": ["+.1", "4 of 4"], "verdict": ["yes", "no"]}
)
TABLES = {"fig_t1": THEORY, "table1": CONTRASTS, "fig1_risks": RUNS, "table0": CLAIMS}


@pytest.fixture
def clone(root, monkeypatch):
    """A repository with `TABLES` committed, and the same as the results of a run."""
    monkeypatch.setattr(profiles, "STUDIES", {"two": ("sympo.beta", "Config")})
    write_twin(root, "01_one", 'figures.save(drawn, "fig_t1", table, profile=profile)')
    saves = ['figures.save(drawn, "fig1", {})', 'figures.save_table(table, "table1")']
    write_twin(root, "02_two", *saves)
    write_twin(root, "00_start_here", 'figures.save_table(table, "table0")')
    for folder in (profiles.committed_figures("laptop"), profiles.own_figures("laptop")):
        (folder / "data").mkdir(parents=True)
        for stem, table in TABLES.items():
            table.to_csv(folder / "data" / f"{stem}.csv", index=False)
    commit_figures(root)
    return root


def commit_figures(root):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "figures"], ["commit", "-qm", "figures"]):
        subprocess.run(["git", *identity, *command], cwd=root, check=True)


def test_what_was_left_out_is_said_and_not_held_against_the_run(clone):
    (profiles.own_figures("laptop") / "data" / "table1.csv").unlink()
    assert not verify.describe(verify.compare_results("laptop"))[1]
    path = execute.output("02_two", "laptop")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"cells": [], "metadata": {"left_out": "no comparisons"}}')
    sentences, held = verify.describe(verify.compare_results("laptop"))
    assert held
    assert "Not compared, since the data were not at hand: table1.csv." in sentences


def test_a_table_of_files_that_cannot_be_had_is_not_held_against_the_run(clone, monkeypatch):
    (profiles.own_figures("laptop") / "data" / "table1.csv").unlink()
    monkeypatch.setattr(verify, "NEED_FILES", ("table1.csv",))
    sentences, held = verify.describe(verify.compare_results("laptop"))
    assert held
    assert "Not compared, since the data were not at hand: table1.csv." in sentences
    # a table with this name has to be one that some notebook makes
    monkeypatch.undo()
    assert {*verify.NEED_FILES} <= {path.name for path in COMMITTED}


def change(stem, row, column, value):
    """Put another value into a result of the run."""
    path = profiles.own_figures("laptop") / "data" / f"{stem}.csv"
    table = pd.read_csv(path)
    table.loc[row, column] = value
    table.to_csv(path, index=False)


def run_verify(capsys):
    """Exit status and sentences of `make verify`."""
    capsys.readouterr()
    status = main(["verify", "--profile", "laptop"])
    return status, capsys.readouterr().err.splitlines()


ALL = "1 of 1 files of theory to the last digits, 2 of 2 means within their margins"


class TestVerify:
    def test_the_same_results(self, clone, capsys):
        status, (margin, last) = run_verify(capsys)
        assert status == 0
        assert margin.startswith("A mean may move by half the width of its committed 95% interval")
        assert last == f"Held here: 6 of 6 verdicts, {ALL}."

    @pytest.mark.parametrize(
        ("stem", "row", "column", "value", "what"),
        [
            # a digit that counts, a whole number, a missing one, text
            ("fig_t1", 0, "risk", 0.7501, "fig_t1: row 1, column risk: 0.7501 here, 0.75"),
            ("fig_t1", 1, "n", 6, "fig_t1: row 2, column n: 6 here, 5"),
            ("fig_t1", 1, "risk", 0.5, "fig_t1: row 2, column risk: 0.5 here, nan"),
            ("fig_t1", 0, "loss", "hinge", "fig_t1: row 1, column loss: hinge here, ramp"),
            # a verdict, of a contrast with two seeds as well, and of a claim
            ("table1", 0, "verdict", "contradicted", "table1: final, ramp: “contradicted” here"),
            ("table1", 2, "verdict", "reproduced", "table1: final, hinge: “reproduced” here"),
            ("table0", 1, "verdict", "derived", "table0: T1: “derived” here, “no” committed"),
            # half the interval is 0.02, and a hundredth is allowed where it is narrower
            ("table1", 0, "estimate", 0.1401, "table1: final, ramp: 0.140 here, 0.120 committed"),
            ("table1", 1, "estimate", 0.0399, "table1: final, sigmoid: 0.040 here, 0.050"),
            ("table1", 1, "estimate", np.nan, "table1: final, sigmoid: nan here, 0.050"),
            ("table1", 1, "n", 4, "table1: final, sigmoid: n = 4 here, 5 committed"),
        ],
    )
    def test_what_fails(self, clone, capsys, stem, row, column, value, what):
        change(stem, row, column, value)
        status, sentences = run_verify(capsys)
        assert status == 1
        assert sentences[0].startswith(f"differs: {what}")
        assert not [text for text in sentences[1:] if text.startswith("differs: ")]
        name = re.match(r".*?(?=: row|: “|: n =|: [\dn])", what)[0]
        assert sentences[-1].endswith(f"; not held: {name}.")

    @pytest.mark.parametrize(
        ("stem", "row", "column", "value"),
        [
            ("fig_t1", 0, "risk", 0.75004),
            ("table1", 0, "estimate", 0.1399),
            ("table1", 1, "estimate", 0.0599),
            # of an interval and of a test only the estimate is compared
            ("table1", 0, "low", 0.05),
            ("table1", 0, "p", 0.04),
            ("table0", 0, "evidence", "+.2"),
        ],
    )
    def test_what_may_move_without_a_word(self, clone, capsys, stem, row, column, value):
        change(stem, row, column, value)
        status, sentences = run_verify(capsys)
        assert status == 0
        assert len(sentences) == 2
        assert sentences[-1] == f"Held here: 6 of 6 verdicts, {ALL}."

    def test_single_runs_are_listed_and_not_judged(self, clone, capsys):
        change("fig1_risks", 2, "accuracy", 0.733)
        change("fig1_risks", 1, "kl", 3.5)
        # two seeds are no mean that could be judged
        change("table1", 2, "estimate", 0.9)
        status, (_, listed, last) = run_verify(capsys)
        assert status == 0
        assert listed == (
            "Listed, not judged: 3 of 5 rows of single runs moved, the furthest fig1_risks: "
            "ramp, 2: accuracy 0.733 here, 0.661 committed."
        )
        assert last == f"Held here: 6 of 6 verdicts, {ALL}."

    def test_rows_are_found_by_their_names(self, clone, capsys):
        path = profiles.own_figures("laptop") / "data/table1.csv"
        CONTRASTS[::-1].to_csv(path, index=False)
        assert run_verify(capsys)[0] == 0
        CONTRASTS[1:].to_csv(path, index=False)
        status, sentences = run_verify(capsys)
        assert status == 1
        assert sentences[0] == "differs: table1: final, ramp: committed, but not here"

    def test_files_rows_and_columns_have_to_be_there(self, clone, capsys):
        folder = profiles.own_figures("laptop") / "data"
        (folder / "fig_t1.csv").rename(folder / "fig_t1_x.csv")
        RUNS[1:].to_csv(folder / "fig1_risks.csv", index=False)
        CLAIMS.drop(columns="evidence").to_csv(folder / "table0.csv", index=False)
        status, sentences = run_verify(capsys)
        assert status == 1
        assert sentences[:4] == [
            "differs: fig_t1.csv: committed, but not here",
            "differs: fig_t1_x.csv: here, but not committed",
            "differs: fig1_risks: 2 rows here, 3 committed",
            "differs: table0: columns claim, verdict here, claim, evidence, verdict committed",
        ]

    def test_what_no_notebook_makes_any_more_is_not_compared(self, clone, capsys):
        for folder in (profiles.own_figures("laptop"), profiles.committed_figures("laptop")):
            (folder / "data" / f"fig9_{folder.name}.csv").write_text("x\n1\n")
        commit_figures(clone)
        assert run_verify(capsys)[0] == 0

    def test_the_reference_is_the_last_commit(self, clone, capsys):
        path = profiles.committed_figures("laptop") / "data/fig_t1.csv"
        path.write_text(path.read_text().replace("0.75", "0.8"))
        assert run_verify(capsys)[0] == 0

    def test_an_exercise_is_not_compared(self, clone, capsys):
        own = profiles.own_figures("laptop")
        own.rename(own.parent / "custom")
        status, (sentence,) = run_verify(capsys)
        assert status == 2
        assert sentence == (
            "there are no results of your own in build/laptop/figures/data to compare: "
            "run make paper PROFILE=laptop first"
        )

    def test_a_profile_of_which_nothing_is_committed(self, clone, capsys):
        assert main(["verify", "--profile", "gpu"]) == 2
        assert "make paper verify PROFILE=laptop" in capsys.readouterr().err

    def test_without_a_commit(self, root, capsys):
        assert main(["verify", "--profile", "laptop"]) == 2
        assert "git cannot read the committed data" in capsys.readouterr().err


COMMITTED = sorted((profiles.root() / "figures" / "laptop" / "data").glob("*.csv"))


@cache
def list_named():
    """The numbers of notebooks, each with every word of its text that looks like a file's name."""
    texts = {name[:2]: execute.twin(name).read_text() for name in execute.notebooks()}
    return {number: re.findall(r'"((?:fig|table)\w+)"', text) for number, text in texts.items()}


def find_notebook(stem):
    """The number of the notebook whose text names a file, or a figure of which it is a part."""
    numbers = {
        number
        for number, names in list_named().items()
        if any(f"{stem}_".startswith(f"{saved}_") for saved in names)
    }
    assert numbers, f"no notebook makes {stem} any more: git rm it"
    # 00 shows a figure of 05
    return min(numbers - {"00"}, default="00")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_every_committed_file_is_in_the_layer_of_what_it_holds(path):
    """By the notebook's number and by what its rows are, which is not how the rule goes."""
    table = pd.read_csv(path)
    number = find_notebook(path.stem)
    # the figures of 00's example are computed, as those of 01 to 04
    if number in ("01", "02", "03", "04") or path.stem.startswith("fig_t0_"):
        expected = "theory"
    elif number == "00":
        expected = "verdicts"
    else:
        expected = "means" if "estimate" in table else "runs"
    assert verify.layer_of(path.stem, table.columns) == expected
    if expected == "means":
        names = [*table.columns[: table.columns.get_loc("estimate")]]
        assert names
        assert not table.duplicated(names).any()
        # what was measured cannot name a row: it would be another one elsewhere
        measured = table[names].select_dtypes("float").columns
        assert {*measured} <= {*verify.SETTINGS, "against"}
        assert "seed" not in names


def test_the_committed_results_hold_against_themselves():
    tables = {path.stem: pd.read_csv(path) for path in COMMITTED}
    found = [each for stem, table in tables.items() for each in verify.compare(stem, table, table)]
    _, held = verify.describe(found)
    assert held
    assert {each.layer for each in found} == {"theory", "verdicts", "means", "runs"}


class TestRedraw:
    @pytest.fixture
    def drawn(self, root, monkeypatch):
        """Committed csv of two figures and a table, and what was drawn."""
        drawn = {}

        def draw_one(table):
            drawn.update(a=table)
            return figures.subplots()[0]

        def draw_two(x, y):
            drawn.update(x=x, y=y)
            return figures.subplots()[0]

        monkeypatch.setattr(figures, "fig_a", draw_one, raising=False)
        monkeypatch.setattr(figures, "fig_b", draw_two, raising=False)
        data = root / "figures/laptop/data"
        data.mkdir(parents=True)
        for stem in ("fig_a", "fig_b_x", "fig_b_y", "table_c"):
            (data / f"{stem}.csv").write_text("method,estimate\nramp,0.25\n")
        return drawn

    @pytest.mark.parametrize(
        ("options", "folder"), [([], "build/laptop/redrawn"), (["--commit"], "figures/laptop")]
    )
    def test_figures_and_tables_are_drawn_from_the_committed_csv(
        self, root, drawn, options, folder
    ):
        # another run's own results are neither read nor overwritten
        own = root / "build/laptop/figures/data/fig_a.csv"
        own.parent.mkdir(parents=True)
        own.write_text("method,estimate\nramp,0.75\n")
        before = {path: path.read_bytes() for path in root.rglob("*.csv")}
        assert main(["figures", "--profile", "laptop", *options]) == 0
        assert all(table["estimate"].tolist() == [0.25] for table in drawn.values())
        assert set(drawn) == {"a", "x", "y"}
        pictures = {f"{stem}.{kind}" for stem in ("fig_a", "fig_b") for kind in ("pdf", "png")}
        files = {path.name for path in (root / folder).iterdir() if path.is_file()}
        assert files == pictures | {"table_c.md", "table_c.tex"}
        written = {path for path in root.rglob("*.*") if path.name in files}
        assert {path.parent for path in written} == {root / folder}
        assert {path: path.read_bytes() for path in root.rglob("*.csv")} == before

    def test_where_nothing_is_committed_the_own_run_is_drawn(self, root, drawn):
        own = root / "build/smoke/figures/data"
        own.parent.mkdir(parents=True)
        (root / "figures/laptop/data").rename(own)
        assert main(["figures", "--profile", "smoke"]) == 0
        text = (root / "build/smoke/redrawn/table_c.md").read_text()
        assert "smoke: these numbers mean nothing" in text

    def test_a_csv_that_nothing_draws_is_named(self, root, drawn, capsys):
        (root / "figures/laptop/data/fig_d.csv").write_text("x\n1\n")
        assert main(["figures", "--profile", "laptop"]) == 1
        assert "nothing draws fig_d" in capsys.readouterr().err


class TestRecordsFromElsewhere:
    """`make figures` where records may only be read."""

    @pytest.fixture
    def ran(self, monkeypatch):
        """The notebooks that are run; of all studies mnist_losses alone has a complete seed."""
        ran = []
        complete = {"mnist_losses": Runs([{}], 0, 1, 3, 0)}
        monkeypatch.setattr(plan, "is_read_only", lambda profile: profile == "gpu")
        monkeypatch.setattr(
            plan, "load_complete", lambda each: complete.get(each.study, Runs([], 0, 0, 5, 2))
        )
        monkeypatch.setattr(execute, "run", lambda name, profile: ran.append((name, profile)))
        monkeypatch.setattr(verify, "redraw", lambda profile, commit: [])
        return ran

    def test_notebooks_with_a_complete_seed_are_run_and_the_others_named(self, ran, capsys):
        assert main(["figures", "--profile", "gpu"]) == 0
        # one trains the study, the other reads it
        assert ran == [("05_mnist_losses", "gpu"), ("07_mnist_policy", "gpu")]
        said = capsys.readouterr().err
        assert "mnist_losses: trained 0, loaded 1; runs without a record: 3\n" in said
        assert "hh: not drawn, no seed is complete; trained 0, loaded 0; runs without" in said
        assert "from the records of 05_mnist_losses, 07_mnist_policy: build/gpu/figures" in said

    def test_what_they_found_is_committed_when_asked_for(self, ran, monkeypatch):
        committed = []

        def commit(profile, names):
            committed.append((profile, names))
            return Changes([], [], [])

        monkeypatch.setattr("sympo.book.commit.commit_results", commit)
        assert main(["figures", "--profile", "gpu", "--commit"]) == 0
        assert committed == [("gpu", ["05_mnist_losses", "07_mnist_policy"])]

    def test_elsewhere_nothing_is_run(self, ran):
        assert main(["figures", "--profile", "laptop"]) == 0
        assert ran == []
