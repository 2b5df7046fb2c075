"""How things are timed: in turn, after a warm-up, with an eye on the rest of the machine."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch.utils import benchmark

from sympo.studies import graphs

# (sign, bound) on the median of the results
Target = tuple[str, float]

# Calls of a training before the first that is timed: on a GPU, one more than it takes to record a
# graph.
WARM_UPS = graphs.WARM_UP + 1 if torch.cuda.is_available() else 1


class Row(NamedTuple):
    """One measurement: a row of the table.

    Attributes:
        unit: of `ours` and `plain`.
        ours, plain: one sample per repeat; `plain` is empty where there is nothing to compare with.
        results: what is judged, one per repeat; empty for a row that only informs.
        target: ("≥" or "≤", bound) on the median of `results`.
    """

    what: str
    unit: str
    ours: Sequence[float]
    plain: Sequence[float] = ()
    results: Sequence[float] = ()
    result_unit: str = ""
    target: Target | None = None


def device() -> str:
    """Where everything is measured: "cuda" if there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def time_call(function: Callable[[], object]) -> float:
    """Seconds of one call, with what it starts on a GPU."""
    # this timer waits for the GPU
    start = benchmark.timer()
    function()
    return benchmark.timer() - start


def time_in_turn(
    functions: Sequence[Callable[[], object]], *, repeats: int, warm_ups: int = 1
) -> list[tuple[float, ...]]:
    """Seconds of each call, one tuple of `repeats` per function; the functions take turns.

    Args:
        warm_ups: calls of each before.
    """
    for function in functions:
        for _ in range(warm_ups):
            function()
    # turn by turn, so that a slow minute falls on both sides
    rounds = [[time_call(function) for function in functions] for _ in range(repeats)]
    return list(zip(*rounds, strict=True))


def compare(
    what: str,
    ours: Callable[[], object],
    plain: Callable[[], object],
    *,
    shares: tuple[int, int],
    repeats: int,
    target: Target | None = None,
    warm_ups: int = 1,
) -> Row:
    """Time `ours` and `plain` in turn, per model.

    Args:
        shares: how many models a call of each trains or evaluates.
        warm_ups: calls of each before.
    Returns:
        a row whose result is how many times as long the plain way takes.
    """
    ours_times, plain_times = time_in_turn((ours, plain), repeats=repeats, warm_ups=warm_ups)
    ours_each = [seconds / shares[0] for seconds in ours_times]
    plain_each = [seconds / shares[1] for seconds in plain_times]
    # paired: both calls of a pair met the same machine
    ratios = [slow / fast for fast, slow in zip(ours_each, plain_each, strict=True)]
    return Row(what, "s", ours_each, plain_each, ratios, "×", target)


class Watch:
    """Seconds since it was started, and how busy the rest of the machine was.

    Threads that wait for one another suffer from other programs more than their share.
    """

    def __init__(self) -> None:
        self._start = self._read()

    def seconds(self) -> float:
        """Wall time since the start."""
        return self._read()[0] - self._start[0]

    def others(self) -> float:
        """The share of the processors' time that went to other programs.

        All but this process and its children, in [0, 1].
        """
        # differences of three clocks since the start
        wall, busy, own = np.subtract(self._read(), self._start)
        return max(0.0, float(busy - own)) / (wall * psutil.cpu_count())

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Seconds: of the clock, of all processors at work, of this process and its children."""
        times = psutil.cpu_times()
        # guests are counted twice, as users too; not every system has these fields
        names = ("idle", "iowait", "guest", "guest_nice")
        unused = sum(getattr(times, name, 0.0) for name in names)
        # user and system time, its own and that of its children
        own = sum(psutil.Process().cpu_times()[:4])
        return benchmark.timer(), sum(times) - unused, own


def measure_peak(function: Callable[..., object], *arguments: Any) -> int:
    """The most memory, in bytes, that a fresh process which calls `function` held at any look.

    It looks a hundred times a second. The system's own count of a child starts from its parent's
    peak, so it would tell about the benchmarks before.

    Raises:
        RuntimeError: the function failed; its traceback is on stderr.
    """
    # spawned and not forked, so that it starts from nothing
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    child = psutil.Process(process.pid)
    peak = 0
    while process.exitcode is None:
        # it may have ended since
        with suppress(psutil.Error):
            peak = max(peak, child.memory_info().rss)
        process.join(0.01)
    if process.exitcode:
        status = f"exit status {process.exitcode}"
        raise RuntimeError(f"the process whose memory is measured ended with {status}")
    return peak


def run_python(code: str) -> str:
    """What `code` prints in a fresh interpreter."""
    # the Python that runs this, whatever is first on the PATH
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
