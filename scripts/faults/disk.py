"""Disks that are full, read-only or forbidden, at every write of a study in turn.

The errors are injected: a program of this folder runs the command and lets one call of the system
fail, as often as it is made from then on. So no rights are needed, and the moment is exact.
"""

import errno
import shutil
import sys
from pathlib import Path

from clone import compare, find_lost, find_traceback, hash_files, make_clone, read_results, run
from tally import Tally

from sympo._files import describe_error

# Which call fails, and with which error of the system.
FAULTS = (("os.fsync", "ENOSPC"), ("os.replace", "EROFS"), ("builtins.open", "EACCES"))
STUDY = ("run", "mnist_losses", "--profile", "smoke")
# Small: what is of interest is the writing.
SIZES = ("losses=['ramp']", "noise_rates=[0.4]", "seeds=2", "epochs=1", "pairs=100")


def fill_disk(work: Path, *, most: int) -> Tally:
    """Let writes of a study fail from the first one on, from the second one on, and so forth.

    Args:
        most: how many moments of each fault are tried, at most.
    """
    tally = Tally("disk full, read-only or forbidden")
    command = (*STUDY, *(part for size in SIZES for part in ("--set", size)))
    folder = make_clone(work / "clone")
    code, said = run(folder, sys.executable, "-m", "sympo", *command)
    if code:
        tally.undocumented.append(f"undisturbed, the study failed with {code}: {said[-500:]}")
        return tally
    expected = read_results(folder)
    for call, error in FAULTS:
        for moment in range(most):
            shutil.rmtree(folder / "build" / "smoke")
            code, said = _run_with_fault(folder, command, call, error, moment)
            # it writes no more often: all is there
            if code == 0 and not compare(expected, read_results(folder)):
                break
            tally.tried += 1
            if fault := _find_fault(code, said, error):
                tally.undocumented.append(f"{call} {error} at {moment}: {fault}")
            kept = hash_files(folder / "build" / "smoke", "records/*.json")
            if len(kept) != moment:
                tally.lost.append(f"{len(kept)} records are there after {moment} writes")
            # the same command goes on from there
            run(folder, sys.executable, "-m", "sympo", *command)
            tally.lost += compare(expected, read_results(folder))
            now = hash_files(folder / "build" / "smoke", "records/*.json")
            tally.lost += find_lost(kept, now)
    return tally


def _run_with_fault(
    folder: Path, command: tuple[str, ...], call: str, error: str, moment: int
) -> tuple[int, str]:
    program = Path(__file__).with_name("inject.py")
    records = str(folder / "build")
    return run(folder, sys.executable, str(program), call, error, str(moment), records, *command)


def _find_fault(code: int, said: str, error: str) -> str | None:
    """What is wrong with how a command ended whose disk failed; None if nothing is."""
    if line := find_traceback(said):
        return f"a traceback: {line}"
    if code not in (1, 2):
        return f"exit code {code}"
    last = said.strip().splitlines()[-1] if said.strip() else ""
    remedy = describe_error(OSError(getattr(errno, error), "", "")).partition(": ")[2]
    if remedy not in last or "build" not in last:
        return f"no sentence with path and remedy: {last!r}"
    return None
