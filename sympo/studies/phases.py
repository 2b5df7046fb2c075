"""Where the time of a run goes: seconds by phase, such as SFT, training and sampling.

They stand in a record's provenance, beside its seconds, and in the lines of `run-all`.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from sympo.studies import progress

# seconds by phase of whoever collects; the innermost last
_collecting: list[dict[str, float]] = []


@contextmanager
def collect() -> Iterator[dict[str, float]]:
    """Collect the seconds of every `phase` in this block, by name.

    Check: tests/studies/test_phases.py.
    """
    seconds: dict[str, float] = {}
    _collecting.append(seconds)
    try:
        yield seconds
    finally:
        _collecting.pop()


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Add the wall time of this block to what is collected under `name`, if anybody collects.

    Meanwhile a reader of a notebook sees the name, see `progress.stage`. A GPU may still be at work
    when the block ends. The phases of studies end by reading results.
    """
    started = time.perf_counter()
    try:
        with progress.stage(name):
            yield
    finally:
        if _collecting:
            seconds = _collecting[-1]
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started


def add_up(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The seconds of each phase over all parts."""
    total: Counter[str] = Counter()
    for seconds in parts:
        total.update(seconds)  # type: ignore[arg-type]  # a Counter adds floats as well
    return dict(total)


def describe(seconds: Mapping[str, float]) -> str:
    """Phases as " (sft 20.1, training 95.0)", for a line that ends in seconds; "" without any."""
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    return f" ({parts})" if parts else ""
