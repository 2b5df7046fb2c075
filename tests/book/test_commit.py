"""What a run leaves in figures/, where git sees it: results whose numbers moved, nothing else."""

import pytest
from miniature import run_all, write_section, write_twin

from sympo.book import execute, staleness
from sympo.book.__main__ import main

SAVED = {
    "fig.png": "blue",
    "fig.pdf": "blue",
    "data/fig_risks.csv": "risk\n0.25\n",
    "table.md": "0.5",
    "data/table.csv": "accuracy\n0.5\n",
    "table_rates.md": "0.1",
    "data/table_rates.csv": "rate\n0.1\n",
    "data/02_two.json": "Intel, 7 minutes",
}


@pytest.fixture
def clone(root, monkeypatch):
    """A repository whose second notebook saves `SAVED`; `clone(changes)` runs and commits it."""
    saves = [f'figures.save(drawn, "{stem}", table)' for stem in ("fig", "table", "table_rates")]
    write_twin(root, "02_two", *saves)
    write_section(root, "minutes: {}", "laptop")
    contents = dict(SAVED)

    def execute_quickly(path, values):
        if path.name.startswith("02"):
            for name, text in contents.items():
                file = root / "build/laptop/figures" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)

    monkeypatch.setattr(execute, "_execute", execute_quickly)

    def run_and_commit(**changes):
        contents.update({name.replace("__", "/"): text for name, text in changes.items()})
        run_all("laptop")
        return main(["commit", "--profile", "laptop"])

    run_and_commit.root = root
    return run_and_commit


def read(root):
    folder = root / "figures/laptop"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*")}


def run(clone, changes):
    return clone(**{name.replace("/", "__"): text for name, text in changes.items()})


def test_a_run_alone_leaves_figures_as_they_were(clone):
    assert run(clone, {}) == 0
    before = {path: path.stat().st_mtime_ns for path in (clone.root / "figures").rglob("*")}
    (clone.root / "build/laptop/figures/data/table.csv").write_text("accuracy\n0.6\n")
    run_all("laptop")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_first_results_are_all_copied(clone, capsys):
    assert run(clone, {}) == 0
    assert read(clone.root) == SAVED
    assert capsys.readouterr().err.splitlines()[-1] == "commit: fig, table, table_rates"


def test_another_machine_with_the_same_numbers_moves_nothing(clone, capsys):
    run(clone, {})
    assert run(clone, {"data/02_two.json": "AMD, 9 minutes", "fig.png": "bluish"}) == 0
    assert read(clone.root) == SAVED
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "commit: no number moved",
        "look different, with the same data: fig; make figures COMMIT=1 writes them",
    ]


@pytest.mark.parametrize(
    ("csv", "pictures"),
    [("data/table.csv", ["table.md"]), ("data/fig_risks.csv", ["fig.png", "fig.pdf"])],
)
def test_a_number_that_moved_takes_its_figure_and_the_provenance_along(clone, csv, pictures):
    run(clone, {})
    changes = dict.fromkeys([csv, *pictures, "data/02_two.json"], "1\n2\n")
    others = dict.fromkeys({"table.md", "fig.png", "table_rates.md"} - {*pictures}, "restyled")
    assert run(clone, {**changes, **others}) == 0
    assert read(clone.root) == {**SAVED, **changes}


def test_one_notebook_alone(clone):
    """Of a profile whose other notebooks were never run."""
    root = clone.root
    run(clone, {})
    execute.output("03_three", "laptop").unlink()
    (root / "figures/laptop/data/table.csv").unlink()
    assert main(["commit", "--profile", "laptop", "02_two"]) == 0
    assert read(root) == SAVED
    assert main(["commit", "--profile", "laptop"]) == 2


def test_what_no_notebook_makes_any_more_is_named(clone, capsys):
    run(clone, {})
    (clone.root / "figures/laptop/data/old_fig.csv").write_text("x\n1\n")
    assert run(clone, {}) == 0
    sentence = "no notebook makes these any more: figures/laptop/data/old_fig.csv"
    assert capsys.readouterr().err.splitlines()[-1] == sentence


class TestRefused:
    """Nothing is copied unless it is what the present text of the notebooks makes."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda root: execute.output("03_three", "laptop").unlink(), "03_three has not been"),
            (lambda root: write_twin(root, "01_one", "4"), "01_one has not been run"),
            (
                lambda root: (root / "build/laptop/figures/data/table.csv").write_text("tried\n"),
                "build/laptop/figures/data/table.csv is gone or was changed",
            ),
        ],
    )
    def test_results_that_are_not_the_notebooks(self, clone, capsys, change, message):
        run(clone, {})
        before = read(clone.root)
        change(clone.root)
        staleness.write_inputs("laptop")
        capsys.readouterr()
        assert main(["commit", "--profile", "laptop"]) == 2
        shown = capsys.readouterr().err
        assert "run make paper PROFILE=laptop first" in shown
        assert read(clone.root) == before

    def test_a_text_that_was_edited_since_the_run(self, clone, capsys):
        run(clone, {})
        write_twin(clone.root, "01_one", "4")  # and no make has seen it
        assert main(["commit", "--profile", "laptop"]) == 2
        assert "01_one has not been run" in capsys.readouterr().err

    def test_a_notebook_that_is_not_there(self, clone, capsys):
        run(clone, {})
        assert main(["commit", "--profile", "laptop", "02_tow"]) == 2
        assert "02_two" in capsys.readouterr().err

    def test_smoke(self, clone, capsys):
        run_all("smoke")
        assert main(["commit", "--profile", "smoke"]) == 2
        assert "mean nothing, so they are not committed" in capsys.readouterr().err
        assert not (clone.root / "figures").exists()
