"""A copy of this clone to be mistreated, and commands that run in it."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# What `make paper` reads.
PARTS = ("sympo", "notebooks", "figures", "Makefile", "pyproject.toml", "constraints.txt")
# Meant for the make that runs this, or for a person's own runs, and not for those of a copy.
FOREIGN = ("MAKE", "MFLAGS", "COMMIT", "PROFILE", "PYTHON", "SYMPO_FIGURES", "SYMPO_RECORDS")
# Planted in every run, and looked for in all that it leaves.
SECRETS = {"HF_TOKEN": "hf_planted7Qd2Lx", "OPENAI_API_KEY": "sk-planted9Vw3Rk"}
# Where make finds that the environment is up to date: else it would install the copy into it.
STAMP = "build/env/shared"


def make_clone(folder: Path, notebooks: tuple[str, ...] = ()) -> Path:
    """Copy this clone into a folder that is not there yet, with these notebooks alone."""
    ignored = shutil.ignore_patterns("__pycache__", "*.ipynb", ".ipynb_checkpoints")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, folder / part)
    (folder / STAMP).parent.mkdir(parents=True)
    (folder / STAMP).touch()
    for twin in (folder / "notebooks" / "src").glob("[0-9]*.py"):
        if twin.stem not in notebooks:
            twin.unlink()
    return folder


def start(folder: Path, *command: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command in a clone, with this Python's environment as the active one."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)
    }
    environment |= {"VIRTUAL_ENV": sys.prefix, "OMP_NUM_THREADS": "1", **SECRETS}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, start_new_session=True, **options
    )


def run(folder: Path, *command: str) -> tuple[int, str]:
    """Run a command in a clone; its exit code, and all that it said."""
    process = start(folder, *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with ended(process):
        said, _ = process.communicate()
    return process.returncode, said


@contextmanager
def ended(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever ends this block ends these processes, and what they have started, too."""
    try:
        yield
    finally:
        for process in processes:
            # each is the first of a session of its own, which Ctrl-C does not reach
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def hash_files(folder: Path, pattern: str) -> dict[str, str]:
    """The sha256 of each file of a folder that fits a pattern, by its path there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(pattern))
    }


def read_results(folder: Path) -> dict[str, str]:
    """What a clone's runs have found, by file: csv files, and records but for their provenance."""
    build = folder / "build" / "smoke"
    found = hash_files(build, "figures/data/*.csv")
    for path in sorted((build / "records").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        content = {name: record[name] for name in ("config", "version", "metrics", "history")}
        found[path.name] = json.dumps(content, sort_keys=True)
    return found


def compare(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """A sentence for each result that is not as it should be."""
    gone = [f"{name} is gone" for name in expected.keys() - found.keys()]
    new = [f"{name} is new" for name in found.keys() - expected.keys()]
    both = expected.keys() & found.keys()
    differ = [f"{name} differs" for name in both if expected[name] != found[name]]
    return sorted(gone + new + differ)


def find_lost(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """A sentence for each file that was there and is gone, or is another one."""
    return [each for each in compare(before, after) if not each.endswith(" is new")]


def find_secrets(folder: Path, said: str) -> list[str]:
    """A sentence for each file, and for what was said, that holds a planted secret."""
    found = [f"stderr holds {name}" for name, secret in SECRETS.items() if secret in said]
    for path in filter(Path.is_file, folder.rglob("*")):
        content = path.read_bytes()
        found += [
            f"{path.name} holds {n}" for n, secret in SECRETS.items() if secret.encode() in content
        ]
    return found


def find_traceback(said: str) -> str | None:
    """The last line of a traceback, where a command has shown one."""
    if "Traceback (most recent call last)" not in said:
        return None
    return re.split(r"\n+", said.strip())[-1]
