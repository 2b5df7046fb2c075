"""What made a result: the commit, the versions of the libraries, the machine."""

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
_SOURCES = ("sympo", "notebooks/src", "notebooks/profiles")  # what can change a result


def collect(**extra: Any) -> dict[str, Any]:
    """What makes a result now, and whatever `extra` adds; it imports nothing heavy.

    Returns:
        commit and modified (None without git), python, the libraries' versions, platform, cpu, gpu,
        threads.
    """
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
    command = ["git", "-C", str(profiles.root()), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, no commit
        return None


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1) if match else platform.processor() or platform.machine()
