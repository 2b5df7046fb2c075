"""Progress: bars, what is under way, and which of several processes this one is."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tqdm import tqdm

from sympo._names import show


def processes() -> int:
    """How many processes train together: 1, unless `accelerate launch` or torchrun started more.

    Raises:
        ValueError: WORLD_SIZE is no such number.
    """
    # torch.distributed knows it only once training has begun, and would have to be imported.
    return read_count("WORLD_SIZE", default=1, least=1)


def is_main_process() -> bool:
    """Whether this is the one of several processes that writes and prints.

    Raises:
        ValueError: RANK is no number below WORLD_SIZE. A process that is not the main one writes
            nothing, and where there is no other all that it trains would be lost.
    """
    rank = read_count("RANK", default=0, least=0)
    if rank >= processes():
        raise ValueError(
            f"RANK is {rank} and WORLD_SIZE is {os.environ.get('WORLD_SIZE', 'not set')}: unset "
            "RANK, or start all processes with accelerate launch or torchrun"
        )
    return rank == 0


def read_count(name: str, *, default: int, least: int) -> int:
    """The whole number in an environment variable; `default` where it is not set.

    Raises:
        ValueError: it is none, or less than `least`.
    """
    text = os.environ.get(name) or str(default)
    # No more digits than any machine needs; int() reads signs, spaces and other scripts as well.
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise ValueError(f"{name} is {show(text)}: unset it, or give {least} or more")
    return int(text)


def progress(iterable_or_total: Iterable[Any] | int, label: str) -> tqdm:
    """A tqdm bar over an iterable, or of a number of steps that its `update` counts.

    A person at a terminal sees it, and in a notebook under the cell. Where SYMPO_PROGRESS names a
    file, it is written there instead, so that nothing enters a notebook's outputs. Elsewhere (a
    log) it is silent.
    """
    is_total = isinstance(iterable_or_total, int)
    steps = {"total" if is_total else "iterable": iterable_or_total}
    # Of several processes that train together, one bar is enough.
    if not is_main_process():
        return tqdm(**steps, disable=True)
    if path := os.environ.get("SYMPO_PROGRESS"):
        return tqdm(**steps, desc=label, file=_Appender(path), mininterval=0.5)
    if _in_notebook():
        line = _CellLine()
        return tqdm(**steps, desc=label, file=line, leave=False, mininterval=0.2, ncols=80)
    return tqdm(**steps, desc=label, leave=False, disable=not sys.stderr.isatty())


@contextmanager
def stage(name: str, *, log: bool = False) -> Iterator[None]:
    """Say what is under way in this block, such as "reading MNIST", before there is a bar.

    A person sees it under the cell of a notebook, gone when the block ends; where SYMPO_PROGRESS
    names a file, it is a line of it. Elsewhere nothing is said, unless `log` asks for a line on
    stderr.
    """
    text = f"{name} …"
    if not is_main_process():
        yield
    elif path := os.environ.get("SYMPO_PROGRESS"):
        _Appender(path).write(f"{text}\n")
        yield
    elif _in_notebook():
        line = _CellLine()
        line.write(text)
        try:
            yield
        finally:
            line.write("")
    else:
        if log:
            print(text, file=sys.stderr, flush=True)
        yield


class _CellLine:
    """A line under the cell that is running, redrawn in place, and gone when the bar is.

    tqdm's own bar in a notebook is a widget, which stays in the saved notebook and can be drawn by
    no reader of it; its text on stderr is a pink box.
    """

    def __init__(self) -> None:
        self._handle: Any = None

    def write(self, text: str) -> None:
        from IPython.display import display

        # tqdm returns to the start of the line, and at the end writes blanks over it
        line = text.strip("\r\n ")
        data = {"text/plain": line} if line else {}
        if self._handle is not None:
            self._handle.update(data, raw=True)
        elif line:
            self._handle = display(data, raw=True, display_id=True)

    # tqdm calls it; a display is sent at once.
    def flush(self) -> None: ...


class _Appender:
    """A text file that is open only while it is written, so that a bar need not close it.

    Where it cannot be written, nothing is shown: that is no reason to stop what is under way.
    """

    def __init__(self, path: str):
        self._path = path

    def write(self, text: str) -> None:
        with suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
            file.write(text)

    # tqdm calls it; there is nothing to flush in a file that is closed.
    def flush(self) -> None: ...


def _in_notebook() -> bool:
    # IPython alone is a terminal; only a notebook's shell has a kernel.
    ipython = sys.modules.get("IPython")
    return hasattr(ipython.get_ipython(), "kernel") if ipython else False
