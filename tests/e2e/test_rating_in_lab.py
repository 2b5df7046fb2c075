"""The rating widget in a real JupyterLab, driven by a headless Chromium."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browsing import PATIENCE, TOKEN

from sympo.rating import pair_answers, read_ratings

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# longer than what the widget takes for a double click
PAUSE = 400  # milliseconds

# The items of the notebook. What would run or be drawn, if it were more than text, stands in each.
ITEMS = """
items = pair_answers(
    [f"How far is {i}?" for i in range(5)],
    [f"alpha {i} <script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
     for i in range(5)],
    [f"beta {i} **bold** $x^2$ {'and so on ' * 60}" for i in range(5)],
    sources=("policy of Ann", "policy of Bob"),
    seed=1,
)
"""
CELL = f"""
import os
from pathlib import Path
from sympo.rating import pair_answers
from sympo.rating_widget import rate
Path("pid").write_text(str(os.getpid()))
{ITEMS}
rate(items, "ratings.jsonl", rater="ann")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds the notebook `rate.ipynb`, with one cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.strip())])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(notebook, folder / "rate.ipynb")
    return folder


@pytest.fixture
def lab(folder: Path, start_lab: Callable[[Path], str]) -> str:
    """The address of a JupyterLab on the folder."""
    return start_lab(folder)


@pytest.fixture
def page(lab: str, browser: Any) -> Iterator[Any]:
    """The notebook, opened."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(f"{lab}/lab/tree/rate.ipynb?token={TOKEN}")
    yield page
    page.close()


def run_all(page: Any) -> None:
    """Run the cell, as soon as there is a kernel to run it."""
    ready = """() => {
        const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
        return session?.session?.kernel?.connectionStatus === 'connected' && session.isReady
            && ['idle', 'unknown'].includes(session.session.kernel.status);
    }"""
    page.wait_for_function(ready)
    # without what an earlier run left on the page, which would pass for this one's
    for command in ("clear-all-cell-outputs", "run-all-cells"):
        page.evaluate(f"() => window.jupyterapp.commands.execute('notebook:{command}')")
    page.get_by_text("Which answer is better?").wait_for()


def stands(folder: Path) -> list[str]:
    """The verdicts in the file, by a rule of the test's own: lines that were not taken back."""
    kept = []
    for line in (folder / "ratings.jsonl").read_text().splitlines()[1:]:
        row = json.loads(line)
        if "undo" in row:
            kept = [(key, verdict) for key, verdict in kept if key != row["undo"]]
        else:
            kept.append((row["pair"], row["verdict"]))
    assert len(dict(kept)) == len(kept)  # no pair twice
    return [verdict for _, verdict in kept]


def test_rate_undo_kill_the_kernel_and_go_on(page, folder):
    run_all(page)
    output = page.locator(".jp-OutputArea")

    # by button; the second click of a double click is not meant for the next pair
    page.get_by_role("button", name="Answer 1 is better").dblclick()
    page.get_by_text("1 of 5 rated, 0 ties").wait_for()
    # by key, where the button has left the focus; then other letters would edit the notebook
    for key, progress in [("2", "2 of 5 rated, 0 ties"), ("u", "1 of 5 rated, 0 ties")]:
        page.wait_for_timeout(PAUSE)
        page.keyboard.press(key)
        page.get_by_text(progress).wait_for()
    assert stands(folder) == ["first"]
    page.wait_for_timeout(PAUSE)
    page.keyboard.press("t")
    page.get_by_text("2 of 5 rated, 1 tie").wait_for()
    assert stands(folder) == ["first", "tie"]
    assert "policy" not in output.inner_text()

    first = (folder / "ratings.jsonl").read_bytes()
    pid = (folder / "pid").read_text()
    os.kill(int(pid), signal.SIGKILL)
    # Lab says that it starts another one
    page.locator(".jp-Dialog").get_by_role("button", name="Ok").click()
    run_all(page)
    assert (folder / "pid").read_text() != pid

    page.get_by_text("2 of 5 rated, 1 tie").wait_for()
    output.get_by_text("Pair 3").wait_for()
    for number, key in enumerate("c21", start=3):
        page.wait_for_timeout(PAUSE)
        page.get_by_label("Key").press(key)
        page.get_by_text(f"{number} of 5 rated").wait_for()
    page.get_by_text("All pairs are rated").wait_for()

    # What was there before the kill is there now, byte for byte, and the rest after it.
    assert (folder / "ratings.jsonl").read_bytes().startswith(first)
    assert stands(folder) == ["first", "tie", "cannot say", "second", "first"]
    names = {"pair_answers": pair_answers}
    exec(ITEMS, names)  # the test's own
    ratings = read_ratings(folder / "ratings.jsonl", names["items"])
    assert [rating.verdict for rating in ratings] == stands(folder)
    assert [rating.key for rating in ratings] == [item.key for item in names["items"]]
    # Scripts in the answers were text, and the notebook has the cell that it had.
    assert page.evaluate("() => window.ran === undefined")
    assert page.locator(".jp-Cell").count() == 1
