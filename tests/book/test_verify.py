"""What differs from the committed data, and figures drawn again from their csv."""

import subprocess

import pandas as pd
import pytest
from miniature import write_twin

from sympo.book import figures, verify
from sympo.book.__main__ import main
from sympo.studies import profiles

TABLE = pd.DataFrame(
    {"method": ["ramp", "dpo"], "n": [5, 5], "accuracy": [0.75, 0.5], "p": [0.01, 0.5]}
)


@pytest.fixture
def data(root):
    """The folder of a made-up repository's csv files."""
    folder = root / "figures/laptop/data"
    folder.mkdir(parents=True)
    return folder


def commit_figures(root):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "figures"], ["commit", "-qm", "figures"]):
        subprocess.run(["git", *identity, *command], cwd=root, check=True)


def test_figures_and_tables_are_drawn_again_from_their_csv(data, monkeypatch, capsys):
    drawn = {}

    def draw_one(table):
        drawn.update(a=table)
        return figures.subplots()[0]

    def draw_two(x, y):
        drawn.update(x=x, y=y)
        return figures.subplots()[0]

    monkeypatch.setattr(figures, "fig_a", draw_one, raising=False)
    monkeypatch.setattr(figures, "fig_b", draw_two, raising=False)
    for stem in ("fig_a", "fig_b_x", "fig_b_y", "table_c"):
        (data / f"{stem}.csv").write_text("method,estimate\nramp,0.25\n")
    before = {path: path.read_bytes() for path in data.iterdir()}
    assert main(["figures", "--profile", "laptop"]) == 0
    assert all(table["estimate"].tolist() == [0.25] for table in drawn.values())
    assert set(drawn) == {"a", "x", "y"}
    pictures = {f"{stem}.{kind}" for stem in ("fig_a", "fig_b") for kind in ("pdf", "png")}
    files = {path.name for path in data.parent.iterdir() if path.is_file()}
    assert files == pictures | {"table_c.md", "table_c.tex"}
    assert {path: path.read_bytes() for path in data.iterdir()} == before

    (data / "fig_d.csv").write_text("x\n1\n")
    assert main(["figures", "--profile", "laptop"]) == 1
    assert "nothing draws fig_d" in capsys.readouterr().err


class TestCompare:
    def test_the_same_table(self):
        assert verify.compare(TABLE, TABLE.copy(), kind="theory") == []
        assert verify.compare(TABLE[:0], TABLE[:0].copy(), kind="theory") == []

    @pytest.mark.parametrize(
        ("column", "value", "theory", "study"),
        [
            ("accuracy", 0.75004, 0, 0),
            ("accuracy", 0.751, 1, 0),
            ("accuracy", 0.9, 1, 1),
            ("accuracy", float("nan"), 1, 1),
            ("p", 0.2, 1, 0),
            ("n", 4, 1, 1),
            ("method", "hinge", 1, 1),
        ],
    )
    def test_tolerance(self, column, value, theory, study):
        here = TABLE.copy()
        here.loc[0, column] = value
        assert len(verify.compare(TABLE, here, kind="theory")) == theory
        sentences = verify.compare(TABLE, here, kind="study")
        assert len(sentences) == study
        assert all(text.startswith(f"row 1, column {column}: ") for text in sentences)

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ([0.75, 0.6], "row 2, column accuracy: 0.6 here, 0.5 committed (off by 0.1, "),
            # the worst row, by what it is beyond its own tolerance
            ([0.76, 0.6], "row 2, column accuracy: 0.6 here, 0.5 committed (off by 0.1, "),
            ([float("nan"), 0.6], "row 1, column accuracy: nan here, 0.75 committed (off by nan, "),
        ],
    )
    def test_the_sentence_names_the_row_and_both_values(self, values, sentence):
        here = TABLE.assign(accuracy=values)
        (text,) = verify.compare(TABLE, here, kind="theory")
        assert text.startswith(sentence)
        changed = sum(value != 0.75 for value in values[:1])
        assert text.endswith(", and 1 more row") == bool(changed)

    def test_missing_numbers_agree(self):
        holed = TABLE.assign(accuracy=float("nan"))
        assert verify.compare(holed, holed.copy(), kind="study") == []

    def test_columns_and_rows(self):
        (sentence,) = verify.compare(TABLE, TABLE.drop(columns="n"), kind="study")
        assert sentence == "columns method, accuracy, p here, method, n, accuracy, p committed"
        (sentence,) = verify.compare(TABLE, TABLE[:1], kind="study")
        assert sentence == "1 rows here, 2 committed"


def test_against_the_last_commit(root, data, capsys):
    for name in ("fig_a", "fig_b"):
        TABLE.to_csv(data / f"{name}.csv", index=False)
    commit_figures(root)
    assert main(["verify", "--profile", "laptop"]) == 0
    TABLE.assign(accuracy=[0.75, 0.6]).to_csv(data / "fig_a.csv", index=False)
    (data / "fig_b.csv").rename(data / "fig_c.csv")
    capsys.readouterr()
    assert main(["verify", "--profile", "laptop"]) == 1
    off = "(off by 0.1, allowed 5.1e-05)"
    assert capsys.readouterr().err.splitlines() == [
        "fig_b.csv: committed, but not here",
        "fig_c.csv: here, but not committed",
        f"fig_a.csv: row 2, column accuracy: 0.6 here, 0.5 committed {off}",
        "verify: 3 differences beyond the tolerance",
    ]


def test_without_a_commit(root, capsys):
    assert main(["verify", "--profile", "laptop"]) == 2
    assert "git cannot read the committed data" in capsys.readouterr().err


def test_what_training_computes_has_the_wider_tolerance(root, monkeypatch):
    monkeypatch.setattr(profiles, "STUDIES", {"two": ("sympo.beta", "Config")})
    figure = 'figures.save(figures.fig_x(table), "fig_x", table, profile=profile)'
    write_twin(root, "01_one", figure)
    write_twin(root, "02_two", 'figures.save_table(table, "table1_two", profile=profile)')
    stems = ("fig_x", "table1_two", "table1_two_curves")
    assert [verify.kind_of(stem) for stem in stems] == ["theory", "study", "study"]
