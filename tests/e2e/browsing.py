"""What the tests that drive a browser share."""

import shutil
import time
from collections.abc import Callable
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
