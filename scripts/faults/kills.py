"""SIGKILL at random moments of `make paper`: what was finished stays, and the end is the same."""

import random
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
from clone import (
    STAMP,
    compare,
    ended,
    find_lost,
    find_secrets,
    find_traceback,
    hash_files,
    make_clone,
    read_results,
    run,
    start,
)
from tally import Tally

# One that trains nothing, and two whose studies leave records.
NOTEBOOKS = ("01_preferences_as_classification", "05_mnist_losses", "06_mnist_noise")
COMMAND = ("make", "paper", "PROFILE=smoke", f"STAMP={STAMP}")


def kill_paper(
    work: Path, count: int, *, seed: int, notebooks: tuple[str, ...] = NOTEBOOKS
) -> Tally:
    """Kill `make paper` again and again, let it end, and compare it with one that nobody disturbed.

    Args:
        count: how often. Each time either everything dies at once, or the runner alone, whose
            kernel then ends by itself while the next `make` begins.
    """
    tally = Tally("SIGKILL in make paper")
    undisturbed = make_clone(work / "undisturbed", notebooks)
    started = time.monotonic()
    code, said = run(undisturbed, *COMMAND)
    longest = time.monotonic() - started
    if code:
        tally.undocumented.append(f"undisturbed, make paper failed with {code}: {said[-500:]}")
        return tally
    tally.undocumented += find_secrets(undisturbed / "build", said)
    expected = read_results(undisturbed)
    folder = make_clone(work / "killed", notebooks)
    generator = random.Random(seed)
    kept: dict[str, str] = {}
    while tally.tried < count and not tally.undocumented:
        if _kill(folder, generator.uniform(0.2, longest / 6), whole=generator.random() < 0.7):
            tally.tried += 1
            now = hash_files(folder / "build" / "smoke", "records/*.json")
            tally.lost += [f"after a kill, {each}" for each in find_lost(kept, now)]
            kept = now
        else:
            # it came to its end between two kills: once more from the start
            _check_end(folder, kept, expected, tally)
            shutil.rmtree(folder / "build" / "smoke")
            kept = {}
    _check_end(folder, kept, expected, tally)
    return tally


def _check_end(folder: Path, kept: dict[str, str], expected: dict[str, str], tally: Tally) -> None:
    """Let `make paper` come to its end, and compare what there is with what there should be."""
    code, said = run(folder, *COMMAND)
    if code or find_traceback(said):
        tally.undocumented.append(f"after the kills, make paper said {said[-500:]}")
    tally.lost += compare(expected, read_results(folder))
    left = [path.name for path in folder.glob("build/smoke/**/*.corrupt*")]
    tally.lost += [f"{name} was half written" for name in left]
    # what was already there was not made again
    again = hash_files(folder / "build" / "smoke", "records/*.json")
    tally.lost += [f"at the end, {each}" for each in find_lost(kept, again)]


def _kill(folder: Path, after: float, *, whole: bool) -> bool:
    """Kill `make paper` after so many seconds; whether it was still running."""
    process = start(folder, *COMMAND, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(timeout=after)
        return False
    except subprocess.TimeoutExpired:
        pass
    except KeyboardInterrupt:
        with ended(process):
            raise
    parent = psutil.Process(process.pid)
    victims = [parent, *parent.children(recursive=True)]
    for victim in victims if whole else [each for each in victims if not _is_kernel(each)]:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
    process.wait()
    return True


def _is_kernel(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any("ipykernel_launcher" in part for part in process.cmdline())
    return False
