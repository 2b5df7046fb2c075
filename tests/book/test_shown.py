"""Tables and figures as a notebook shows them."""

import base64
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import Markdown
from PIL import Image

from sympo.book import figures
from sympo.book.figures.files import SavedFigure, name_figure
from sympo.book.figures.tables import HEADINGS, MOST_ROWS, describe, to_html
from sympo.studies import profiles


def read(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the HTML."""
    soup = BeautifulSoup(to_html(table), "html.parser")
    headings = [cell.get_text().strip() for cell in soup.select("thead tr:first-child th")]
    rows = [[cell.get_text() for cell in row.select("th, td")] for row in soup.select("tbody tr")]
    return headings, rows


def test_headings_and_cells_are_in_words():
    table = pd.DataFrame(
        {
            "method": ["sigmoid", "dpo"],
            "noise_rate": [0.4, 0.0],
            "estimate": [0.123456, -0.5],
            "p_holm": [0.0000123, np.nan],
            "is_flipped": [True, False],
            "seeds": [[1, 2], (3,)],
        }
    )
    headings, rows = read(table)
    assert headings == ["method", "noise rate ε", "estimate", "p (Holm)", "is flipped", "seeds"]
    assert rows == [
        ["sigmoid", "0.4", "0.123", "< 0.001", "yes", "1, 2"],
        ["DPO", "0.0", "−0.500", "–", "no", "3"],
    ]


def test_a_table_keeps_its_own_values():
    table = pd.DataFrame({"noise_rate": [0.123456]})
    before = table.copy()
    to_html(table)
    pd.testing.assert_frame_equal(table, before)


def test_an_index_that_says_something_is_shown():
    counted = pd.DataFrame({"a": [1]})
    named = counted.set_axis(pd.Index(["dpo"], name="method"))
    assert read(counted) == (["a"], [["1"]])
    assert read(named)[1] == [["DPO", "1"]]


def test_methods_have_labels_as_headings_too():
    table = pd.DataFrame({"student_t2": [1]}, index=pd.Index(["sympo_student_t2"], name="loss"))
    assert read(table)[1] == [["SymPO Student t₂", "1"]]
    assert "Student t₂" in read(table)[0]


def test_levels_of_headings_stay_apart():
    wide = pd.DataFrame({("ramp", "mean"): [1.0], ("ramp", "n"): [2], ("dpo", "mean"): [3.0]})
    soup = BeautifulSoup(to_html(wide), "html.parser")
    assert [cell.get_text() for cell in soup.select("th[colspan]")] == ["ramp"]
    assert [cell.get_text() for cell in soup.select("td")] == ["1", "2", "3"]


def test_the_ends_of_an_interval_stand_beside_what_they_are_about():
    table = pd.DataFrame(
        {
            "loss": ["ramp", "hinge"],
            "low": [-0.5, np.nan],
            "estimate": [0.25, 0.5],
            "high": [1.0, np.nan],
            "seeds_low": [0.1, 0.2],
            "seeds_high": [0.3, 0.4],
            "win_rate": [0.6, 0.7],
            "win_rate_low": [0.55, 0.65],
            "win_rate_high": [0.65, 0.75],
            "below": [1, 2],
        }
    )
    assert read(table) == (
        [
            *("loss", "estimate (95% interval)", "seeds 95% interval"),
            *("win rate (95% interval)", "below"),
        ],
        [
            ["ramp", "0.25 (−0.50 to 1.00)", "0.1 to 0.3", "0.60 (0.55 to 0.65)", "1"],
            ["hinge", "0.50 (–)", "0.2 to 0.4", "0.70 (0.65 to 0.75)", "2"],
        ],
    )
    assert read(table[["low"]])[0] == ["95% low"]


@pytest.mark.parametrize(
    "columns",
    [
        {"low": ["a"], "high": ["b"]},
        {"low": [None], "high": [1.0], "estimate": ["c"]},
        {"low": pd.array([1, None], dtype="Int64"), "high": pd.array([1, 2], dtype="Int64")},
        {"slow": [1.0], "shigh": [2.0], "s": [1.5]},
        {"low": [True], "high": [False]},
        {"low": [1.0], "high": [2.0], "estimate": ["about 1"]},
    ],
)
def test_what_is_no_interval_keeps_its_columns(columns):
    assert len(read(pd.DataFrame(columns))[0]) >= 2


def test_two_intervals_of_one_name_do_not_take_each_other():
    columns = {"x": [1.0], "x_low": [0.5], "x_high": [1.5], "x low": [0.6], "x high": [1.4]}
    assert read(pd.DataFrame(columns)) == (
        ["x (95% interval)", "x 95% interval"],
        [["1.0 (0.5 to 1.5)", "0.6 to 1.4"]],
    )


def test_zero_has_no_sign():
    assert read(pd.DataFrame({"a": [-0.0, 0.25]}))[1] == [["0.00"], ["0.25"]]
    ends = pd.DataFrame({"estimate": [0.001], "low": [-0.0002], "high": [0.002]})
    assert read(ends)[1] == [["0.001 (0.000 to 0.002)"]]


def test_of_p_values_alone_a_small_one_is_only_called_small():
    table = pd.DataFrame({"p": [1e-9, 0.2], "learning_rate": [5e-6, 0.2]})
    assert read(table)[1] == [["< 0.001", "5.0e−06"], ["0.2", "0.2"]]


def test_a_long_table_is_folded():
    table = pd.DataFrame({"a": range(MOST_ROWS + 1)})
    assert not BeautifulSoup(to_html(table[:-1]), "html.parser").select("details")
    folded = BeautifulSoup(to_html(table), "html.parser")
    assert folded.select_one("details > summary").get_text() == f"A table of {MOST_ROWS + 1} rows"
    assert len(folded.select("details tbody tr")) == MOST_ROWS + 1


HOSTILE = '<script>a()</script><img src=x onerror="a()">"\'`'
# by what holds the text
HOSTILE_TABLES = {
    "a cell": pd.DataFrame({"a": [HOSTILE]}),
    "a list": pd.DataFrame({"a": [[HOSTILE, {HOSTILE: HOSTILE}]]}),
    "a category": pd.DataFrame({"a": pd.Categorical([HOSTILE])}),
    "a heading": pd.DataFrame({HOSTILE: [1]}),
    "the headings' name": pd.DataFrame(
        [[1]],
        columns=pd.Index(["a"], name=HOSTILE),
        index=pd.MultiIndex.from_tuples([("b", "c")]),
    ),
    "an index": pd.DataFrame({"a": [1]}, index=[HOSTILE]),
    "an index's name": pd.DataFrame({"a": [1]}, index=pd.Index(["b"], name=HOSTILE)),
    "a name that a column has": pd.DataFrame({HOSTILE: [1]}, index=pd.Index(["b"], name=HOSTILE)),
    "levels": pd.DataFrame(
        {"a": [1]}, index=pd.MultiIndex.from_tuples([(HOSTILE, 1)], names=[HOSTILE, "b"])
    ),
    "levels of headings": pd.DataFrame(
        [[1]], columns=pd.MultiIndex.from_tuples([(HOSTILE, 1)], names=[HOSTILE, "b"])
    ),
    "headings of one name": pd.DataFrame([[HOSTILE, 1]], columns=[HOSTILE, HOSTILE]),
    "rows of one name": pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(HOSTILE, 1)] * 2, names=[HOSTILE, "b"])
    ),
    "an interval": pd.DataFrame({f"{HOSTILE}_low": [1.0], f"{HOSTILE}_high": [2.0]}),
    "many rows": pd.DataFrame({HOSTILE: [HOSTILE] * (MOST_ROWS + 1)}),
}


@pytest.mark.parametrize("table", HOSTILE_TABLES.values(), ids=HOSTILE_TABLES)
def test_no_text_of_a_table_is_markup(table):
    soup = BeautifulSoup(to_html(table), "html.parser")
    assert not soup.select("script, img, [onerror]")
    assert HOSTILE.replace("_", " ") in " ".join(soup.get_text().split())


@pytest.mark.parametrize("text", ["$x$", r"\(x\)", r"\[x\]"])
def test_no_text_of_a_table_is_a_formula(text):
    soup = BeautifulSoup(to_html(pd.DataFrame({"a": [text]})), "html.parser")
    assert soup.select_one("td").find_parent(class_="tex2jax_ignore")
    assert soup.select_one("td").get_text() == text
    plain = BeautifulSoup(to_html(pd.DataFrame({"a": ["x (y)"]})), "html.parser")
    assert not plain.select(".tex2jax_ignore")


def test_columns_of_one_name_are_all_shown():
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert read(twice) == (["a", "a"], [["1", "2"]])


def test_text_of_data_is_inert():
    table = pd.DataFrame({"<b>x": ["<script>alert(1)</script>"]}, index=["<i>"])
    soup = BeautifulSoup(to_html(table), "html.parser")
    assert not soup.select("script, b, i")
    assert "<script>alert(1)</script>" in soup.get_text()


def test_two_tables_of_a_page_do_not_share_their_looks():
    texts = [to_html(pd.DataFrame({"a": [value]})) for value in ("x", "y", "x")]
    ids = [BeautifulSoup(text, "html.parser").table["id"] for text in texts]
    assert ids[0] != ids[1]
    assert texts[0] == texts[2]  # and running again changes nothing


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1 + 0.2, "0.3"),
        (1.0, "1"),
        (100.0, "100"),
        (0.0, "0"),
        (-0.0004, "−4.0e−04"),
        (5e-6, "5.0e−06"),
        (np.float32(0.5), "0.5"),
        (float("inf"), "∞"),
        (None, "–"),
        (pd.NA, "–"),
        (12, "12"),
        ({"a": 0.5, "b": [1, 2]}, "a: 0.5; b: 1, 2"),
        ([], ""),
        ("text", "text"),
    ],
)
def test_values_in_words(value, expected):
    assert describe(value) == expected


def test_every_heading_is_in_words():
    assert not [words for words in HEADINGS.values() if "_" in words]


def test_a_notebook_that_asks_shows_its_tables_so():
    shell = InteractiveShell.instance()
    try:
        formatter = shell.display_formatter.formatters["text/html"]
        table = pd.DataFrame({"noise_rate": [0.5]})
        assert "noise rate ε" not in formatter(table)
        figures.use_readable_tables()
        assert "noise rate ε" in formatter(table)
    finally:
        InteractiveShell.clear_instance()


def test_outside_a_notebook_asking_does_nothing():
    code = "from sympo.book import figures; figures.use_readable_tables()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def shown(monkeypatch):
    """What cells display, as pairs of data and metadata."""
    displayed = []

    def display(thing):
        if isinstance(thing, Markdown):
            displayed.append(({"text/markdown": thing.data}, {}))
        else:
            displayed.append(thing._repr_mimebundle_())

    monkeypatch.setattr("IPython.display.display", display)
    return displayed


def test_a_notebook_shows_the_file_that_was_saved(shown, tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / profile)
    table = pd.DataFrame({"a": [1]})
    figure, _ = figures.subplots(width=figures.WIDTH, height=2)
    saved = figures.save(figure, "fig", table, profile="laptop")
    saved._ipython_display_()
    (data, metadata), *_ = shown
    assert base64.b64decode(data["image/png"]) == saved.path.read_bytes()
    with Image.open(saved.path) as image:
        # wider than in print, and sharp where a screen has two dots per pixel
        assert metadata["image/png"]["width"] == int(figures.WIDTH * 125)
        assert image.width >= 2 * metadata["image/png"]["width"]
    assert metadata["image/png"]["alt"]


def test_its_caption_is_what_its_function_says(shown, tmp_path):
    path = tmp_path / "fig2_mnist_noise.png"
    Image.new("RGB", (1100, 400)).save(path)
    saved = SavedFigure(path)
    saved._ipython_display_()
    (_, picture), (caption, _) = shown
    first = figures.fig2_mnist_noise.__doc__.split("\n\n")[0]
    assert caption["text/markdown"] == f"*Figure 2.* {' '.join(first.split())}"
    assert saved.caption.startswith(picture["image/png"]["alt"])


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("fig10_mnist_policy", "Figure 10"),
        ("fig_t9_gradients", "Figure T9"),
        ("fig_t10_axes", "Figure T10 (axes)"),
        ("fig1_learning_curves", "Figure 1 (learning curves)"),
    ],
)
def test_figures_are_numbered_by_their_files(stem, name):
    assert name_figure(stem) == name


def test_captions_can_be_read_alone():
    """Each says more than a title does."""
    drawn = [name for name in figures.__all__ if name.startswith("fig")]
    short = {}
    for stem in drawn:
        words = SavedFigure(profiles.root() / f"{stem}.png").caption.split()
        if len(words) < 20:
            short[stem] = len(words)
    assert not short, json.dumps(short)


def test_a_figure_of_another_notebook_is_found_or_missed(tmp_path, monkeypatch):
    assert figures.find_figure("fig1_mnist_losses", profile="laptop").path.is_file()
    monkeypatch.setattr(profiles, "find_result", lambda profile, path: None)
    assert figures.find_figure("fig1_mnist_losses", profile="laptop") is None
