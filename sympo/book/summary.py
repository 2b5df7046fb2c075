"""What `make paper` ends with: a row per notebook, with its time, what it trained and wrote."""

import json
import math
import re
import time
from pathlib import Path

from sympo._files import write_atomically
from sympo.book import staleness
from sympo.book.twins import is_left_out, is_whole, notebooks, output
from sympo.studies import profiles

_COUNTS = re.compile(r"trained (\d+), loaded (\d+)")
_HEADINGS = ("notebook", "time", "models", "figures and tables")


def note(name: str, profile: str, *, seconds: float) -> None:
    """Note how long a notebook took, and when."""
    text = json.dumps({"ended": time.time(), "seconds": round(seconds, 1)})
    write_atomically(_file(name, profile), text + "\n")


def write_summary(profile: str, *, since: float) -> str:
    """A table of every notebook as lines of text.

    Args:
        since: seconds of the epoch at which make began: what ended before is up to date.
    """
    rows = [_HEADINGS, *(_describe(name, profile, since) for name in notebooks())]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _describe(name: str, profile: str, since: float) -> tuple[str, str, str, str]:
    if is_left_out(name, profile):
        return name, "left out", "", ""
    ended, seconds = _read(name, profile)
    took = describe_duration(seconds) if ended >= since else "up to date"
    return name, took, _count_models(output(name, profile)), _count_results(name, profile)


def _read(name: str, profile: str) -> tuple[float, float]:
    """When a notebook last ended, and how long it took; never where no note says so."""
    try:
        noted = json.loads(_file(name, profile).read_bytes())
        return float(noted["ended"]), float(noted["seconds"])
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return -math.inf, 0.0


def _count_models(path: Path) -> str:
    """`trained 3, loaded 97`, summed over the cells of an executed notebook that say so."""
    if not is_whole(path):
        return ""
    import nbformat

    cells = nbformat.read(path, as_version=4).cells
    texts = [each.get("text", "") for cell in cells for each in cell.get("outputs", [])]
    counts = [tuple(map(int, each)) for text in texts for each in _COUNTS.findall(text)]
    trained, loaded = (sum(each) for each in zip(*counts, strict=True)) if counts else (0, 0)
    return f"{trained} trained, {loaded} loaded" if counts else ""


def _count_results(name: str, profile: str) -> str:
    results = staleness.read_results(name, profile) or ()
    stems = {Path(result).stem for result in results if not result.endswith((".csv", ".json"))}
    return str(len(stems) or "")


def describe_duration(seconds: float) -> str:
    """`6 min 5 s`."""
    # rounded first, so that 59.6 s is 1 min 0 s
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _file(name: str, profile: str) -> Path:
    return profiles.build_folder(profile) / "times" / f"{name}.json"
