"""`make faults`: kill, fill, fuzz and damage what there is; nothing may be lost.

Writes what was tried, and what was lost, as JSON and as a table.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import readers
from clone import ROOT
from disk import fill_disk
from kills import kill_paper
from processes import kill_kernels, run_twice
from tally import Tally

from sympo._files import write_atomically
from sympo.studies import provenance

# Of the moments and inputs that are drawn.
SEED = 0


def main() -> int:
    """0 where nothing was lost and every end was a sentence, 1 elsewhere."""
    parser = argparse.ArgumentParser(prog="python scripts/faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="of make paper; 20")
    parser.add_argument(
        "--examples", type=int, default=20_000, metavar="N", help="of the readers' inputs; 20000"
    )
    parser.add_argument("--commit", action="store_true", help="write into figures/laptop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sympo-faults-") as folder:
        work = Path(folder)
        tallies = [
            _time("kills", lambda: kill_paper(work / "kills", options.kills, seed=SEED)),
            _time("disks", lambda: fill_disk(work / "disk", most=8)),
            _time("two at once", lambda: run_twice(work / "twice", rounds=3)),
            _time("deaths", lambda: kill_kernels(work / "deaths")),
            _time("bad inputs", damage_inputs),
            _time("fuzzed inputs", lambda: fuzz_readers(options.examples)),
        ]
    place = ROOT / ("figures/laptop" if options.commit else "build/faults")
    _write(tallies, place)
    print(f"the table: {place / 'table_faults.md'}", file=sys.stderr)
    for tally in tallies:
        for sentence in (*tally.lost, *tally.undocumented):
            print(f"{tally.name}: {sentence}", file=sys.stderr)
    return int(any(tally.lost or tally.undocumented for tally in tallies))


def damage_inputs() -> Tally:
    """Every bad input of `readers`: one sentence, and no file changed."""
    tally = Tally("bad inputs")
    for bad in readers.bad_inputs():
        tally.tried += 1
        if fault := readers.check(bad):
            tally.undocumented.append(f"{bad.name}: {fault}")
    return tally


def fuzz_readers(examples: int) -> Tally:
    """Every reader of `readers`, on inputs that nobody has written by hand."""
    tally = Tally("fuzzed inputs")
    for each in readers.fuzz(examples, seed=SEED):
        tally.tried += each.tried
        tally.undocumented += [f"{each.name}: {sentence}" for sentence in each.undocumented]
    return tally


def _time(name: str, work: Callable[[], Tally]) -> Tally:
    started = time.monotonic()
    print(f"{name} …", file=sys.stderr, flush=True)
    try:
        tally = work()
    except Exception:
        # the other parts have something to say all the same
        tally = Tally(name, undocumented=[f"this part failed: {traceback.format_exc()}"])
    if not tally.tried:
        tally.undocumented.append("nothing was tried")
    tally.seconds = time.monotonic() - started
    print(_describe(tally), file=sys.stderr, flush=True)
    return tally


def _describe(tally: Tally) -> str:
    counts = f"{tally.tried} tried, {len(tally.lost)} lost, {len(tally.undocumented)} undocumented"
    return f"{tally.name}: {counts}, {tally.seconds:.0f} s"


def _write(tallies: list[Tally], folder: Path) -> None:
    rows = {
        tally.name: {
            "tried": tally.tried,
            "lost": len(tally.lost),
            "undocumented": len(tally.undocumented),
            "seconds": round(tally.seconds),
        }
        for tally in tallies
    }
    content = {"faults": rows, "provenance": provenance.collect()}
    write_atomically(folder / "data" / "faults.json", json.dumps(content, indent=1) + "\n")
    lines = [
        "| what was done | tried | lost | undocumented errors |",
        "|:--|--:|--:|--:|",
    ]
    for name, row in rows.items():
        lines.append(f"| {name} | {row['tried']:,} | {row['lost']} | {row['undocumented']} |")
    write_atomically(folder / "table_faults.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    # the processes that were started end with this one
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        sys.exit(130)
