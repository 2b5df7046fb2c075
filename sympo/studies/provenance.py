"""Where a result comes from: the commit, the versions of the libraries, the machine."""

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sympo.studies import profiles

_LIBRARIES = ("torch", "numpy", "numba", "transformers", "trl")
# What can change a result. An edited README or executed notebook leaves `modified` false.
_SOURCES = ("sympo", "notebooks/src", "notebooks/profiles")
# Behind the hash of SYMPO_COMMIT, as `git describe --dirty` has it.
_CHANGED = "-dirty"


def collect(**extra: Any) -> dict[str, Any]:
    """What a result of now comes from, and whatever `extra` adds.

    Where this code is no clone of its own (a copy without git, perhaps inside another repository),
    SYMPO_COMMIT may name the commit that it was copied from, with -dirty behind it if something had
    been changed.

    Returns:
        commit (None if it is not known), modified (None without a clone, if nobody can tell),
        python, the versions of the libraries that are installed, platform, cpu, gpu, threads.
    Raises:
        ValueError: SYMPO_COMMIT is no hash of a commit.
    Check: tests/studies/test_records.py.
    """
    # Whoever trains has loaded torch; whoever draws a figure need not wait for it.
    torch = sys.modules.get("torch")
    status = _git("status", "--porcelain", "--", *_SOURCES) if _is_clone() else None
    commit, modified = _told_commit() if status is None else (_git("rev-parse", "HEAD"), status)
    return {
        "commit": commit,
        "modified": None if modified is None else bool(modified),
        "python": platform.python_version(),
        **{name: number for name in _LIBRARIES if (number := _installed_version(name))},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
        "threads": torch.get_num_threads() if torch else os.cpu_count(),
        **extra,
    }


def _is_clone() -> bool:
    """Whether git's repository here is this project's, and not one around it."""
    top = _git("rev-parse", "--show-toplevel")
    return top is not None and Path(top).resolve() == profiles.root().resolve()


def _told_commit() -> tuple[str | None, bool | None]:
    """The commit that SYMPO_COMMIT names, and whether there were changes; None if not known."""
    told = os.environ.get("SYMPO_COMMIT")
    if not told:
        return None, None
    commit, mark, _ = told.partition(_CHANGED)
    if not re.fullmatch(rf"[0-9a-f]{{7,64}}({_CHANGED})?", told):
        raise ValueError(
            f"SYMPO_COMMIT is '{told}': give the commit's hash, with {_CHANGED} behind it if "
            "something was changed, or unset it"
        )
    return commit, bool(mark) or None


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(profiles.root()), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    # OSError: no clone or no git. CalledProcessError: a folder that is no repository, or one
    # without a commit.
    except (OSError, subprocess.CalledProcessError):
        return None


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    # Python's own answer is empty or "x86_64" on Linux.
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1) if match else platform.processor() or platform.machine()
