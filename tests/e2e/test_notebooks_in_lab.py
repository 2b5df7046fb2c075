"""Restart & Run All of the notebooks in a real JupyterLab, seen by a headless Chromium."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from browsing import TOKEN, WRONG_TEX, move_every_slider, wait_for_none, wait_until

from sympo.book import explorables, twins
from sympo.studies import profiles

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMES = twins.notebooks()
# These take seconds in their real size.
QUICK = [name for name in NAMES if name[:2] in ("00", "01", "02", "03", "04")]
CASES = [(name, "smoke") for name in NAMES]
CASES += [(name, "laptop") for name in QUICK]
LONGEST = 600  # seconds for a notebook


@pytest.fixture(scope="module")
def clone(repository: Path, tmp_path_factory: Any) -> Path:
    """A copy of what git knows or would add, whose notebooks a test may save."""
    folder = tmp_path_factory.mktemp("clone")
    listing = ["git", "-C", str(repository), "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in filter(lambda name: (repository / name).is_file(), names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def lab(
    clone: Path, start_lab: Callable[..., str], write_preferences: Any, tmp_path_factory
) -> str:
    """As `make lab` starts it, on the copy; made-up comparisons stand in where there are none."""
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("SYMPO_DATA"):
            patch.setenv("SYMPO_DATA", str(write_preferences(tmp_path_factory.mktemp("data"))))
        return start_lab(clone, package=clone)


@pytest.fixture
def opened(
    lab: str, browser: Any, clone: Path, repository: Path
) -> Iterator[Callable[[str, str], Any]]:
    """`opened(name, profile)`: the page of a notebook that has been restarted and run."""
    pages = []

    def open_notebook(name: str, profile: str) -> Any:
        set_profile(repository, clone, name, profile)
        page = browser.new_page(viewport={"width": 1400, "height": 1000}, device_scale_factor=2)
        page.set_default_timeout(LONGEST * 1000)
        page.hosts = set()
        page.on("request", lambda request: page.hosts.add(urlsplit(request.url).hostname))
        pages.append(page)
        page.goto(f"{lab}/lab/tree/notebooks/{name}.ipynb?token={TOKEN}&reset")
        page.wait_for_function(READY)
        page.evaluate(RESTART_AND_RUN_ALL)
        page.locator(".jp-Dialog").get_by_role("button", name="Confirm").click()
        page.evaluate("() => window.ended")
        return page

    yield open_notebook
    for page in pages:
        page.evaluate(LEAVE)
        page.close()


# a kernel, and every cell in the page, not only those in view
READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    const session = panel?.sessionContext;
    if (!panel?.content?.model?.cells?.length || !session?.isReady) return false;
    panel.content.notebookConfig = {...panel.content.notebookConfig, windowingMode: 'none'};
    return session.session.kernel.connectionStatus === 'connected';
}"""
# ends when the last cell has ended, or at the first that raises; a dialog asks before
RESTART_AND_RUN_ALL = """async () => {
    const commands = window.jupyterapp.commands;
    await commands.execute('notebook:clear-all-cell-outputs');
    window.ended = commands.execute('notebook:restart-run-all').then(() => null);
}"""
# no kernel is left for the next test, nor a question about what is not saved
LEAVE = """async () => {
    const {commands, shell} = window.jupyterapp;
    await commands.execute('docmanager:save');
    await shell.currentWidget.sessionContext.shutdown();
}"""
OUTPUTS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
    .filter(cell => cell.type === 'code')
    .map(cell => ({run: cell.executionCount, outputs: cell.outputs.toJSON()}))"""
# TeX that a reader would see as TeX, in what is rendered
RAW_TEX = """() => {
    const notebook = document.querySelector('.jp-Notebook');
    const walker = document.createTreeWalker(notebook, NodeFilter.SHOW_TEXT);
    const left = [];
    while (walker.nextNode()) {
        const {parentElement, data} = walker.currentNode;
        const shown = parentElement.closest('.jp-RenderedHTMLCommon, .jp-RenderedLatex');
        const code = parentElement.closest('code, pre, mjx-container, script, style');
        if (shown && !code && /[$]|\\\\[a-zA-Z]/.test(data)) left.push(data);
    }
    return left;
}"""
BROKEN_PICTURES = """() => [...document.querySelectorAll('.jp-Notebook img')]
    .filter(picture => !picture.naturalWidth).map(picture => picture.src.slice(0, 80))"""
# at the end of the first cell, which is text
EDIT = """() => {
    const {sharedModel} = window.jupyterapp.shell.currentWidget.content.model.cells.get(0);
    sharedModel.setSource(`${sharedModel.getSource()}\n\nA reader was here.`);
}"""


def set_profile(repository: Path, clone: Path, name: str, profile: str) -> None:
    """Write the profile into the parameters cell of a new copy, as a reader would."""
    auto, chosen = 'profile = "auto"', f'profile = "{profile}"'
    twin = f"notebooks/src/{name}.py"
    text = (repository / twin).read_text()
    assert auto in text
    (clone / twin).write_text(text.replace(auto, chosen))
    content = json.loads((repository / f"notebooks/{name}.ipynb").read_text())
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"]).replace(auto, chosen)
    (clone / f"notebooks/{name}.ipynb").write_text(json.dumps(content))


@pytest.mark.parametrize(("name", "profile"), CASES, ids=map("-".join, CASES))
def test_restart_and_run_all(opened, clone, name, profile):
    page = opened(name, profile)
    cells = page.evaluate(OUTPUTS)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert all(cell["run"] for cell in cells)
    check_formulas(page, clone, name)
    check_pictures(page, outputs)
    # Lab and the kernel talk to this machine alone
    assert page.hosts <= {"127.0.0.1", None, ""}, page.hosts
    check_explorables(page, outputs, clone, name)
    check_pair(page, clone, name)


def check_formulas(page: Any, clone: Path, name: str) -> None:
    """They are typeset, all of them, and none is wrong."""
    assert page.locator("mjx-container").count() or "$" not in sources(clone, name)
    wait_for_none(lambda: page.evaluate(RAW_TEX))
    assert page.evaluate(WRONG_TEX) == []


def check_pictures(page: Any, outputs: list[Any]) -> None:
    """Every figure is there, and every picture in a text or a table."""
    # Lab keeps a picture of each chart with sliders, too
    figures = [
        output
        for output in outputs
        if "image/png" in output.get("data", {}) and not is_explorable(output)
    ]
    assert page.locator(".jp-RenderedImage img").count() == len(figures)
    wait_for_none(lambda: page.evaluate(BROKEN_PICTURES))


def is_explorable(output: dict[str, Any]) -> bool:
    return any("vegalite" in kind for kind in output.get("data", {}))


def check_explorables(page: Any, outputs: list[Any], clone: Path, name: str) -> None:
    """Every chart is drawn, and its sliders move it."""
    charts = [output for output in outputs if is_explorable(output)]
    assert len(charts) == sources(clone, name).count("\nexplorables.")
    wait_until(lambda: page.locator(".vega-embed canvas").count() == len(charts))
    drawn = page.locator(".vega-embed")
    for number in range(len(charts)):
        move_every_slider(drawn.nth(number))


def check_pair(page: Any, clone: Path, name: str) -> None:
    """An edit that is saved is in the twin, which has the text of the notebook."""
    import jupytext

    page.evaluate(EDIT)
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    notebook = json.loads((clone / "notebooks" / f"{name}.ipynb").read_text())
    twin = jupytext.read(clone / "notebooks" / "src" / f"{name}.py", fmt="py:percent")
    texts = ["".join(cell["source"]) for cell in notebook["cells"]]
    assert texts[0].endswith("A reader was here.")
    assert [cell.source for cell in twin.cells] == texts


def sources(clone: Path, name: str) -> str:
    return (clone / "notebooks" / "src" / f"{name}.py").read_text()


def test_the_explorables_are_all_tried():
    """Each is called by a notebook that is run here."""
    run = {name for name, _ in CASES}
    texts = "".join((profiles.root() / f"notebooks/src/{name}.py").read_text() for name in run)
    public = [name for name in explorables.__all__ if name[0] in "tm"]
    assert public
    assert not [name for name in public if f"explorables.{name}(" not in texts]
