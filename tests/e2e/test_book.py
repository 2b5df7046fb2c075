"""The HTML book in a headless Chromium, from files: nothing is served."""

from pathlib import Path
from typing import Any

import pytest
from browsing import WRONG_TEX, move_every_slider

from sympo.book import html, twins

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# where a notebook calls an explorable
WITH_SLIDERS = [
    name for name in twins.notebooks() if "\nexplorables." in twins.twin(name).read_text()
]


@pytest.fixture(scope="module")
def book(tmp_path_factory: Any) -> Path:
    """The folder of the book's pages, of the committed notebooks."""
    folder = tmp_path_factory.mktemp("book")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html, "output", lambda name, profile: folder / "none")
        html.prepare(folder / "source", "laptop")
    html._run_sphinx("html", folder / "source", folder / "html")
    return folder / "html"


@pytest.mark.parametrize("name", WITH_SLIDERS)
def test_a_slider_moves_its_chart(book, browser, name):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((book / "notebooks" / f"{name}.html").as_uri())
    page.locator(".explorable svg").first.wait_for()
    charts = page.locator(".explorable")
    assert charts.count() >= 1
    for number in range(charts.count()):
        move_every_slider(charts.nth(number))
    # formulas are typeset, and none is wrong
    assert page.locator("mjx-container").count()
    assert page.evaluate(WRONG_TEX) == []
    assert errors == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    page.close()


def test_there_are_sliders():
    assert {"02", "03", "04", "07", "13", "14"} <= {name[:2] for name in WITH_SLIDERS}
