"""The rating widget without a page: what it shows, what a click and a key do, what stays hidden."""

import json

import pytest
from test_rating import draw

from sympo import rating
from sympo.rating_widget import rate

widgets = pytest.importorskip("ipywidgets", reason="ipywidgets is not installed")


class Clock:
    """Time that passes only when a test says so."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("sympo.rating_widget.time", clock)
    return clock


def list_widgets(widget):
    return [
        widget,
        *(inner for child in getattr(widget, "children", ()) for inner in list_widgets(child)),
    ]


def texts(shown):
    """All that a page is told, as one text."""
    states = [widget.get_state() for widget in list_widgets(shown.box)]
    return json.dumps([{k: str(v) for k, v in state.items()} for state in states])


def find(shown, kind, text=""):
    return next(
        widget
        for widget in list_widgets(shown.box)
        if isinstance(widget, kind) and text in widget.description
    )


def press(shown, key, clock):
    clock.now += 1
    box = find(shown, widgets.Text)
    box.value = key
    assert box.value == ""


def click(shown, text, clock):
    clock.now += 1
    find(shown, widgets.Button, text).click()


def verdicts(shown):
    return [each.verdict for each in shown.file.ratings]


@pytest.mark.parametrize("act", [press, click])
def test_buttons_and_keys_do_the_same(tmp_path, clock, act):
    shown = rate(draw(5), tmp_path / "r.jsonl", rater="ann")
    names = {
        press: ["1", "2", "T", "c"],
        click: ["Answer 1", "Answer 2", "Tie", "Cannot say"],
    }[act]
    for name in names:
        act(shown, name, clock)
    assert verdicts(shown) == ["first", "second", "tie", "cannot say"]
    assert "4 of 5 rated, 1 tie, 1 cannot say" in texts(shown)
    act(shown, {press: "u", click: "Undo"}[act], clock)
    assert verdicts(shown) == ["first", "second", "tie"]
    assert "3 of 5 rated, 1 tie" in texts(shown)


def test_ipywidgets_7_will_do(tmp_path, clock, monkeypatch):
    """Colab's: its widgets have no `focus`."""
    monkeypatch.delattr(widgets.DOMWidget, "focus", raising=False)
    shown = rate(draw(3), tmp_path / "r.jsonl", rater="ann")
    press(shown, "1", clock)
    click(shown, "Tie", clock)
    assert verdicts(shown) == ["first", "tie"]


def test_the_screen_has_the_two_answers_in_their_order_and_no_name(tmp_path, clock):
    items = draw(12)
    shown = rate(items, tmp_path / "r.jsonl", rater="ann")
    for number, item in enumerate(items, start=1):
        text = texts(shown)
        assert f"Pair {number}: prompt" in text
        assert 0 < text.index(item.prompt) < text.index(item.shown[0]) < text.index(item.shown[1])
        assert "ours" not in text
        assert "theirs" not in text
        assert item.key not in text
        press(shown, "1", clock)
    assert "All pairs are rated" in texts(shown)
    assert find(shown, widgets.Button, "Tie").disabled
    press(shown, "1", clock)
    assert len(shown.file.ratings) == 12
    press(shown, "u", clock)
    assert not find(shown, widgets.Button, "Tie").disabled
    assert "Pair 12: prompt" in texts(shown)


def test_texts_are_inert(tmp_path):
    evil = "<script>run()</script><img src=x onerror=run()> & \ud83d \u202e rtl"
    items = rating.pair_answers([evil], [f"{evil}a"], ["b"], sources=("x", "y"), seed=0)
    text = texts(rate(items, tmp_path / "r.jsonl", rater="<i>ann</i>"))
    assert "<script" not in text
    assert "<img" not in text
    assert (
        text.count("&lt;script&gt;run()&lt;/script&gt;&lt;img src=x onerror=run()&gt; &amp;") == 2
    )
    assert "\\ud83d" not in text
    assert "\\u202e" not in text


def test_a_double_click_and_a_key_held_down_rate_one_pair(tmp_path, clock):
    shown = rate(draw(9), tmp_path / "r.jsonl", rater="ann")
    click(shown, "Tie", clock)
    find(shown, widgets.Button, "Tie").click()
    assert verdicts(shown) == ["tie"]
    press(shown, "1", clock)
    for _ in range(30):
        clock.now += 0.03
        find(shown, widgets.Text).value = "1"
    assert verdicts(shown) == ["tie", "first"]
    # two characters at once: the second was typed before the pair was on the screen
    press(shown, "12", clock)
    assert verdicts(shown) == ["tie", "first"]
    press(shown, "x", clock)
    assert "No such key: x" in texts(shown)
    press(shown, "2", clock)
    assert verdicts(shown) == ["tie", "first", "second"]


def test_it_goes_on_where_it_was_and_knows_what_another_one_did(tmp_path, clock):
    items = draw(4)
    first = rate(items, tmp_path / "r.jsonl", rater="ann")
    press(first, "1", clock)
    second = rate(items, tmp_path / "r.jsonl", rater="ann")
    assert "Pair 2: prompt" in texts(second)
    press(second, "2", clock)
    # the first one still shows the pair that was rated in the second
    press(first, "t", clock)
    assert "Not saved: ann has already rated the pair" in texts(first)
    assert "Pair 3: prompt" in texts(first)
    assert verdicts(first) == ["first", "second"]
    # another rater begins at the beginning
    other = rate(items, tmp_path / "r.jsonl", rater="bob")
    assert "0 of 4 rated, 0 ties" in texts(other)
    press(other, "u", clock)
    assert "Nothing to take back" in texts(other)


def test_what_cannot_be_saved_is_said_and_stays_on_the_screen(tmp_path, clock):
    shown = rate(draw(3), tmp_path / "r.jsonl", rater="ann")
    shown.file.path.unlink()
    shown.file.path.mkdir()
    press(shown, "1", clock)
    assert "Not saved: " in texts(shown)
    assert "Pair 1: prompt" in texts(shown)
    shown.file.path.rmdir()
    press(shown, "1", clock)
    assert verdicts(shown) == ["first"]


def test_simulated_ratings_are_called_so(tmp_path, clock):
    shown = rate(draw(3), tmp_path / "r.jsonl", rater="ann", simulated=True)
    assert "SIMULATED" in texts(shown)
    press(shown, "1", clock)
    assert shown.file.ratings.simulated
    assert str(shown).startswith("simulated ratings: ann: 1 of 3 rated, 0 ties; ratings in ")
    with pytest.raises(ValueError, match="is for simulated ratings"):
        rate(draw(3), tmp_path / "r.jsonl", rater="ann")
    assert "SIMULATED" not in texts(rate(draw(3), tmp_path / "p.jsonl", rater="ann"))


def test_a_rater_has_a_name(tmp_path):
    with pytest.raises(ValueError, match="rater is empty"):
        rate(draw(3), tmp_path / "r.jsonl", rater=" ")
    assert not list(tmp_path.iterdir())


def test_without_ipywidgets_a_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    with pytest.raises(
        ImportError, match=r"needs the package ipywidgets: .*write_sheet needs none"
    ):
        rate(draw(3), tmp_path / "r.jsonl", rater="ann")


@pytest.mark.slow
def test_a_notebook_that_nobody_reads_runs_on_and_keeps_a_line(tmp_path):
    papermill = pytest.importorskip("papermill", reason="papermill is not installed")
    nbformat = pytest.importorskip("nbformat")
    source = f"""
from sympo import rating
from sympo.rating_widget import rate
items = rating.pair_answers(["?"] * 3, list("abc"), list("xyz"), sources=("one", "two"), seed=0)
rate(items, r"{tmp_path / "r.jsonl"}", rater="ann")
"""
    cells = [nbformat.v4.new_code_cell(text) for text in (source, "print('after')")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(notebook, tmp_path / "in.ipynb")
    papermill.execute_notebook(
        tmp_path / "in.ipynb", tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False
    )
    shown, after = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    line = shown.outputs[0].data["text/plain"]
    assert line.startswith("ann: 0 of 3 rated, 0 ties; ratings in ")
    assert line.endswith("Run this cell in JupyterLab to rate.")
    assert "application/vnd.jupyter.widget-view+json" in shown.outputs[0].data
    assert after.outputs[0].text == "after\n"
