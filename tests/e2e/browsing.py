"""What the tests that drive a browser share."""

import shutil
import time
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

TOKEN = "loopback"
PATIENCE = 90  # seconds; a busy machine is slow, and not wrong
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def wait_for_none(listing: Callable[[], list[Any]]) -> None:
    """Until nothing is listed any more; what is, when the patience is over, is shown."""
    end = time.monotonic() + PATIENCE
    while left := listing():
        assert time.monotonic() < end, left
        time.sleep(0.1)


# MathJax shows an unknown command in red
WRONG_TEX = """() => [
    ...document.querySelectorAll('mjx-merror, [data-mjx-error]'),
    ...document.querySelectorAll('mjx-container [style*="color: red"]'),
].map(node => node.outerHTML)"""
# as a reader's hand moves it: to the end that is farther away
MOVE = """input => {
    const middle = (Number(input.min) + Number(input.max)) / 2;
    input.value = Number(input.value) > middle ? input.min : input.max;
    input.dispatchEvent(new Event('input', {bubbles: true}));
}"""
# what is drawn, whatever lies over it
PICTURE = "node => node.toDataURL ? node.toDataURL() : node.innerHTML"


def move_every_slider(chart: Any) -> None:
    """Each slider of a chart draws another picture, and nothing else does."""
    drawn = chart.locator("canvas, svg").first
    sliders = chart.locator("input[type=range]")
    assert sliders.count()
    for number in range(sliders.count()):
        before = drawn.evaluate(PICTURE)
        time.sleep(0.2)
        assert drawn.evaluate(PICTURE) == before
        sliders.nth(number).evaluate(MOVE)
        wait_until(lambda before=before: drawn.evaluate(PICTURE) != before)
