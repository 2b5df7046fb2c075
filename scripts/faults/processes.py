"""Two at once, and processes that die: one trains, and what died is a sentence."""

import shutil
import subprocess
import sys
from pathlib import Path

from clone import compare, ended, find_traceback, make_clone, read_results, run, start
from disk import SIZES, STUDY
from tally import Tally

TWIN = """\
# %% [markdown]
# # A notebook that dies

# %% tags=["parameters"]
profile = "auto"

# %%
{cell}
"""
# How a kernel may end, and what is then said.
DEATHS = {
    "it leaves": ("import os; os._exit(3)", "the kernel died"),
    "killed, as for want of memory": (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "the kernel died, perhaps for want of memory",
    ),
    "no memory is given": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\nbytearray(2**40)",
        "MemoryError",
    ),
    "too deep": ("def fall(): fall()\nfall()", "RecursionError"),
}
# A worker that is killed while it checks rows of a file.
WORKER = """
import os, signal, sys
from sympo import preferences

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

preferences._check_block = die
with open("pairs.jsonl", "w") as file:
    for i in range(120_000):
        file.write('{"prompt": "What is %d?", "chosen": "a %d", "rejected": "b"}\\n' % (i, i))
try:
    preferences.read_pairs("pairs.jsonl", processes=2)
except ValueError as error:
    sys.exit(str(error))
"""


def run_twice(work: Path, *, rounds: int) -> Tally:
    """Start a study twice at once, again and again; each seed is trained by one of the two."""
    tally = Tally("two at once")
    command = (sys.executable, "-m", "sympo", *STUDY)
    command = (*command, *(part for size in SIZES for part in ("--set", size)))
    folder = make_clone(work / "clone")
    code, said = run(folder, *command)
    if code:
        tally.undocumented.append(f"alone, the study failed with {code}: {said[-500:]}")
        return tally
    expected = read_results(folder)
    for _ in range(rounds):
        shutil.rmtree(folder / "build" / "smoke")
        both = [
            start(folder, *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for _ in range(2)
        ]
        with ended(*both):
            said = [process.communicate()[0] for process in both]
        tally.tried += 1
        trained = [text.count("trained 0,") for text in said]
        if any(process.returncode for process in both) or sum(trained) != 1:
            tally.undocumented.append(f"two at once said {said}")
        tally.lost += compare(expected, read_results(folder))
    return tally


def kill_kernels(work: Path) -> Tally:
    """Let kernels and a worker die in every way; what was there before stays."""
    tally = Tally("dead kernels and workers")
    folder = make_clone(work / "deaths")
    twin = folder / "notebooks" / "src" / "90_dies.py"
    twin.write_text(TWIN.format(cell="1 + 1"), encoding="utf-8")
    command = (sys.executable, "-m", "sympo.book", "run", "90_dies", "--profile", "smoke")
    code, said = run(folder, *command)
    if code:
        tally.undocumented.append(f"undisturbed, a notebook failed with {code}: {said[-500:]}")
        return tally
    output = folder / "build" / "smoke" / "90_dies.ipynb"
    before = output.read_bytes()
    for name, (cell, expected) in DEATHS.items():
        twin.write_text(TWIN.format(cell=cell), encoding="utf-8")
        code, said = run(folder, *command)
        tally.tried += 1
        if code != 1 or expected not in said:
            tally.undocumented.append(f"a kernel, {name}: exit code {code}, {said[-300:]}")
        if output.read_bytes() != before:
            tally.lost.append(f"a kernel, {name}: the last output is another one")
    code, said = run(folder, sys.executable, "-c", WORKER)
    tally.tried += 1
    if code != 1 or find_traceback(said) or "ended before its time" not in said:
        tally.undocumented.append(f"a worker: exit code {code}, {said[-300:]}")
    return tally
