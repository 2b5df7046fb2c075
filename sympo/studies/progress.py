"""Progress bars, and which of several processes this one is."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def processes() -> int:
    """How many processes train together: 1, unless `accelerate launch` or torchrun started more."""
    # torch.distributed knows it only once training has begun, and would have to be imported.
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main_process() -> bool:
    """Whether this is the one of several processes that writes and prints."""
    return int(os.environ.get("RANK", 0)) == 0


def progress(iterable_or_total: Iterable[Any] | int, label: str) -> tqdm:
    """A tqdm bar over an iterable, or of a number of steps that its `update` counts.

    A person at a terminal or in a notebook sees it. Where SYMPO_PROGRESS names a file, it is
    written there instead, so that nothing enters a notebook's outputs. Elsewhere (a log) it is
    silent.
    """
    is_total = isinstance(iterable_or_total, int)
    steps = {"total" if is_total else "iterable": iterable_or_total}
    # Of several processes that train together, one bar is enough.
    if not is_main_process():
        return tqdm(**steps, disable=True)
    if path := os.environ.get("SYMPO_PROGRESS"):
        return tqdm(**steps, desc=label, file=_Appender(path), mininterval=0.5)
    watched = sys.stderr.isatty() or _in_notebook()
    return tqdm(**steps, desc=label, leave=False, disable=not watched)


class _Appender:
    """A text file that is open only while it is written, so that a bar need not close it."""

    def __init__(self, path: str):
        self._path = path

    def write(self, text: str) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(text)

    # tqdm calls it; there is nothing to flush in a file that is closed.
    def flush(self) -> None: ...


def _in_notebook() -> bool:
    # IPython alone is a terminal; only a notebook's shell has a kernel.
    ipython = sys.modules.get("IPython")
    return hasattr(ipython.get_ipython(), "kernel") if ipython else False
