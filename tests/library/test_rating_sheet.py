"""Sheets tell nothing and run nothing, and what comes back is read row by row."""

import csv
import errno
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rating import draw

from sympo import _files, rating
from sympo.rating import sheet

VERDICT = "verdict: 1 / 2 / tie / ?"
FORMULAS = [
    "=1+1",
    '"=1+1',
    '""=1+1',
    '" "=1+1',
    '"=HYPERLINK("http://e")',
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "  =1",
    "\t=1",
    "＝1+1",
]


def read_cells(path, delimiter=","):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def fill_in(path, words, **options):
    """Type a word per row, as a spreadsheet would save it."""
    rows = read_cells(path)
    for row, word in zip(rows[1:], words, strict=True):
        row[-1] = word
    with path.open("w", encoding=options.pop("encoding", "utf-8"), newline="") as file:
        csv.writer(file, **options).writerows(rows)


def test_a_sheet_shows_what_the_screen_shows(tmp_path):
    items = draw(30)
    path = tmp_path / "sheet.csv"
    rating.write_sheet(items, path)
    header, *rows = read_cells(path)
    assert header == ["pair", "prompt", "answer 1", "answer 2", VERDICT]
    assert rows == [[item.key, item.prompt, *item.shown, ""] for item in items]
    assert not re.search("ours|theirs", path.read_text())
    # again, as in a notebook that is run again: but a sheet with a verdict is not written over
    rating.write_sheet(items, path)
    fill_in(path, ["1"] + [""] * 29)
    filled = path.read_bytes()
    with pytest.raises(FileExistsError, match="may hold verdicts: name another file"):
        rating.write_sheet(items, path)
    assert path.read_bytes() == filled


def test_the_turns_of_a_dialogue_are_told_apart(tmp_path):
    prompt = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    items = rating.pair_answers([prompt], ["a"], ["b"], sources=("x", "y"), seed=0)
    rating.write_sheet(items, tmp_path / "s.csv")
    assert read_cells(tmp_path / "s.csv")[1][1] == "user: one\n\nassistant: two\n\nuser: three"


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("separator", ",;\t")
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_NONE])
def test_no_cell_is_a_formula_whatever_separates_cells(tmp_path, formula, separator, quoting):
    texts = [formula, f"so;{formula};y", f"so\n{formula}", f'"so",{formula}', f"so\t{formula}"]
    items = rating.pair_answers(texts, texts, ["b"] * 5, sources=("x", "y"), seed=0)
    path = tmp_path / "s.csv"
    rating.write_sheet(items, path)
    # A program may know nothing of our quotation marks, either.
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file, delimiter=separator, quoting=quoting))
    cells = [cell.lstrip(' \t\n"') for row in rows for cell in row]
    assert cells
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@＝")]


@settings(max_examples=100)
@given(st.text(';,\t\n" =+a', min_size=1, max_size=12))
def test_no_text_makes_a_formula_of_a_cell(tmp_path_factory, text):
    items = rating.pair_answers([text], [text], ["b"], sources=("x", "y"), seed=0)
    path = tmp_path_factory.mktemp("sheet") / "s.csv"
    rating.write_sheet(items, path)
    cells = [cell for mark in ",;\t" for row in read_cells(path, mark) for cell in row]
    assert not [cell for cell in cells if cell.lstrip()[:1] in ("=", "+")]


@settings(max_examples=50)
@given(
    st.lists(st.text(max_size=20) | st.text(',;\t\n"=a', max_size=20), min_size=1, max_size=5),
    st.sampled_from(",;\t"),
)
def test_any_text_goes_into_a_sheet_and_the_verdicts_come_back(
    tmp_path_factory, answers, delimiter
):
    size = len(answers)
    different = [f"{answer}." for answer in answers]
    items = rating.pair_answers(answers, answers, different, sources=("x", "y"), seed=1)
    path = tmp_path_factory.mktemp("sheet") / "s.csv"
    rating.write_sheet(items, path)
    fill_in(path, ["1"] * size, delimiter=delimiter)
    ratings = rating.read_sheet(path, items, rater="ann")
    assert [each.verdict for each in ratings] == ["first"] * size
    assert not ratings.refused


@given(st.text(alphabet=';,\t\n "=+a@＝\r', max_size=12))
def test_an_apostrophe_stands_wherever_a_formula_could_begin(text):
    """By a rule that looks on from every separator, which is quadratic in their number."""
    begin = re.compile(r'(^|[;,\t\n])(?=[\s"]*[=+\-@＝＋－＠])')
    assert sheet._FORMULA.sub(sheet._mark_cells, text) == begin.sub(r"\1'", text)


@pytest.mark.parametrize("text", ["\n", "\t", "\n ", ";\n", ' "'])
def test_a_cell_is_protected_in_time_that_grows_with_it(text):
    start = time.perf_counter()
    sheet._FORMULA.sub(sheet._mark_cells, text * 160_000)
    # 0.2 s or less; 17 s and more where every separator looked on to the end
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"delimiter": ";", "encoding": "cp1252"},
        {"delimiter": "\t", "encoding": "utf-8-sig"},
        {"lineterminator": "\n", "quoting": csv.QUOTE_ALL},
    ],
)
def test_what_spreadsheets_save_is_read(tmp_path, options):
    items = draw(8)
    path = tmp_path / "s.csv"
    rating.write_sheet(items, path)
    fill_in(path, ["1", "2", "tie", "?", "", "1.0", "Tie ", "2,0"], **options)
    ratings = rating.read_sheet(path, items, rater="ann")
    expected = ["first", "second", "tie", "cannot say", None, "first", "tie", "second"]
    by_key = {each.key: each.verdict for each in ratings}
    assert [by_key.get(item.key) for item in items] == expected
    assert not ratings.refused
    assert {each.rater for each in ratings} == {"ann"}


def test_half_a_sheet_is_not_left_behind(tmp_path, monkeypatch):
    def fill_the_disk(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    items = draw(3)
    with monkeypatch.context() as patched:
        patched.setattr(_files.os, "fsync", fill_the_disk)
        with pytest.raises(OSError, match="No space"):
            rating.write_sheet(items, tmp_path / "sheet.csv")
    assert list(tmp_path.iterdir()) == []
    # It would else be taken for one that holds verdicts.
    rating.write_sheet(items, tmp_path / "sheet.csv")


@pytest.mark.parametrize("delimiter", ",;\t")
def test_only_keys_and_verdicts_are_needed(tmp_path, delimiter):
    items = draw(3)
    path = tmp_path / "s.csv"
    rows = [["pair", VERDICT], *([item.key, "2"] for item in items)]
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    assert [each.verdict for each in rating.read_sheet(path, items, rater="x")] == ["second"] * 3


def test_each_bad_row_is_named_and_the_others_count(tmp_path):
    items = draw(6)
    path = tmp_path / "s.csv"
    rating.write_sheet(items, path)
    fill_in(path, ["1", "better", "2", "tie", "", "?"])
    rows = read_cells(path)
    rows[3][0] = "p0"  # a key that was changed
    rows.append([*rows[1][:-1], "2"])  # a row that was copied
    rows[1:5] = reversed(rows[1:5])  # and sorted
    rows.insert(3, [])
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    ratings = rating.read_sheet(path, items, rater="ann")
    assert {each.key: each.verdict for each in ratings} == {
        items[0].key: "first",
        items[3].key: "tie",
        items[5].key: "cannot say",
    }
    assert ratings.refused == (
        "row 3: no item is called 'p0'",
        "row 5: 'better' is no verdict: type one of 1, 2, tie, ?",
        f"row 9: a second verdict on {items[0].key}: leave one of the two",
    )
    assert "row 5: 'better' is no verdict" in str(ratings)


def test_what_is_no_sheet_of_these_items_is_refused(tmp_path):
    items = draw(3)
    path = tmp_path / "s.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="has no columns 'pair' and 'verdict"):
        rating.read_sheet(path, items, rater="ann")
    for content in (b"", b"PK\x03\x04\x00\xff", b"a" * 200_000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="has no columns"):
            rating.read_sheet(path, items, rater="ann")
    path.unlink()
    rating.write_sheet(draw(3, seed=1), path)
    with pytest.raises(ValueError, match="no row is a rating of these items: row 2: no item"):
        rating.read_sheet(path, items, rater="ann")


def test_a_text_that_no_cell_can_hold_is_refused(tmp_path):
    items = rating.pair_answers(["?"], ["a" * 32_768], ["b"], sources=("x", "y"), seed=0)
    with pytest.raises(ValueError, match="row 0: a text of 32,768 characters does not fit a cell"):
        rating.write_sheet(items, tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()
