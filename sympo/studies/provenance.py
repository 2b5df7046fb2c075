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


def collect(**extra: Any) -> dict[str, Any]:
    """What a result of now comes from, and whatever `extra` adds.

    Returns:
        commit and modified (None without git or a clone), python, the versions of the libraries
        that are installed, platform, cpu, gpu, threads.
    Check: tests/studies/test_records.py.
    """
    # Whoever trains has loaded torch; whoever draws a figure need not wait for it.
    torch = sys.modules.get("torch")
    status = _git("status", "--porcelain", "--", *_SOURCES)
    return {
        "commit": _git("rev-parse", "HEAD"),
        "modified": None if status is None else bool(status),
        "python": platform.python_version(),
        **{name: number for name in _LIBRARIES if (number := _installed_version(name))},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
        "threads": torch.get_num_threads() if torch else os.cpu_count(),
        **extra,
    }


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
