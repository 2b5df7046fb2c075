"""Restart & Run All of the notebooks in a real JupyterLab, seen by a headless Chromium."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from browsing import TOKEN

from sympo.book import explorables, twins
from sympo.studies import profiles

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMES = twins.notebooks()
# They have no data here, and say so.
WITHOUT_DATA = ("08_real_text", "10_hh", "11_ultrafeedback")
# These take seconds in their real size.
QUICK = [name for name in NAMES if name[:2] in ("00", "01", "02", "03", "04")]
CASES = [(name, "smoke") for name in NAMES if name not in WITHOUT_DATA]
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
def lab(clone: Path, start_lab: Callable[..., str]) -> str:
    """As `make lab` starts it, on the copy."""
    return start_lab(clone, package=clone)


@pytest.fixture
def opened(lab: str, browser: Any, clone: Path) -> Iterator[Callable[..., Any]]:
    """`opened(name, profile)`: the page of a notebook that has been restarted and run."""
    pages = []

    def open_notebook(name: str, profile: str) -> Any:
        set_profile(clone, name, profile)
        page = browser.new_page(viewport={"width": 1400, "height": 1000}, device_scale_factor=2)
        page.set_default_timeout(LONGEST * 1000)
        page.hosts = set()
        page.on("request", lambda request: page.hosts.add(urlsplit(request.url).hostname))
        pages.append(page)
        page.goto(f"{lab}/lab/tree/notebooks/{name}.ipynb?token={TOKEN}&reset")
        page.wait_for_function(READY)
        page.evaluate(RUN_ALL)
        return page

    yield open_notebook
    for page in pages:
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        page.close()


# a kernel, and every cell in the page, not only those in view
READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    const session = panel?.sessionContext;
    if (!panel?.content?.model?.cells?.length || !session?.isReady) return false;
    panel.content.notebookConfig = {...panel.content.notebookConfig, windowingMode: 'none'};
    return session.session.kernel.connectionStatus === 'connected';
}"""
# ends when the last cell has ended, or at the first that raises
RUN_ALL = """async () => {
    const commands = window.jupyterapp.commands;
    await commands.execute('notebook:clear-all-cell-outputs');
    await commands.execute('notebook:run-all-cells');
}"""
OUTPUTS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
    .filter(cell => cell.type === 'code')
    .map(cell => ({run: cell.executionCount, outputs: cell.outputs.toJSON()}))"""


def set_profile(clone: Path, name: str, profile: str) -> None:
    """Write the profile into the parameters cell, as a reader would."""
    old, new = 'profile = "auto"', f'profile = "{profile}"'
    twin = clone / "notebooks" / "src" / f"{name}.py"
    twin.write_text(twin.read_text().replace(old, new))
    notebook = clone / "notebooks" / f"{name}.ipynb"
    content = json.loads(notebook.read_text())
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"]).replace(old, new)
    notebook.write_text(json.dumps(content))


@pytest.mark.parametrize(("name", "profile"), CASES, ids=map("-".join, CASES))
def test_restart_and_run_all(opened, clone, name, profile):
    page = opened(name, profile)
    cells = page.evaluate(OUTPUTS)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert all(cell["run"] for cell in cells)
    # formulas are typeset, and none is wrong
    assert page.locator("mjx-container").count() or "$" not in sources(clone, name)
    assert not page.locator("mjx-merror, [data-mjx-error]").count()
    # every picture is there
    broken = (
        "() => [...document.querySelectorAll('.jp-OutputArea img')].filter(i => !i.naturalWidth)"
    )
    assert not page.evaluate(f"({broken})().length")
    # Lab and the kernel talk to this machine alone
    assert page.hosts <= {"127.0.0.1", None, ""}, page.hosts
    check_explorables(page, cells)
    check_pair(page, clone, name)


def check_explorables(page: Any, cells: list[Any]) -> None:
    """Moving a slider to its other end draws another picture."""
    charts = [
        output
        for cell in cells
        for output in cell["outputs"]
        if any("vegalite" in kind for kind in output.get("data", {}))
    ]
    drawn = page.locator(".vega-embed")
    assert drawn.count() == len(charts)
    for number in range(drawn.count()):
        chart = drawn.nth(number)
        chart.scroll_into_view_if_needed()
        before = chart.locator("canvas, svg").first.screenshot()
        slider = chart.locator("input[type=range]").first
        slider.evaluate(
            "input => { input.value = input.max;"
            " input.dispatchEvent(new Event('input', {bubbles: true})); }"
        )
        page.wait_for_timeout(500)
        assert chart.locator("canvas, svg").first.screenshot() != before


def check_pair(page: Any, clone: Path, name: str) -> None:
    """After saving, the twin has the text of the notebook."""
    import jupytext

    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    notebook = json.loads((clone / "notebooks" / f"{name}.ipynb").read_text())
    twin = jupytext.read(clone / "notebooks" / "src" / f"{name}.py", fmt="py:percent")
    texts = ["".join(cell["source"]) for cell in notebook["cells"]]
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
