"""Asks pip-audit about every package that constraints.txt pins, and fails loudly.

    python -m pip install pip-audit
    python scripts/check_audit.py

pip-audit itself exits with 0 where it could audit nothing, and passes over a pin whose marker is
for another Python. Check: tests/book/test_check_audit.py.
"""

import datetime
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# Advisory (GHSA, CVE or PYSEC) → the day until which it may wait. Each needs a comment that says
# why it does not matter here.
ALLOWED: dict[str, datetime.date] = {}

_PIP_AUDIT = (sys.executable, "-m", "pip_audit")
_OPTIONS = ("--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json")


def main(constraints: Path) -> int:
    """Print what was audited, and each fault.

    Returns:
        the exit status: 1 if a pin was not audited, or has a vulnerability that is not allowed.
    """
    pins = read_pins(constraints.read_text(encoding="utf-8"))
    try:
        audited = [each for group in group_pins(pins) for each in run_pip_audit(group)]
    except RuntimeError as error:
        print(error)
        return 1
    faults = find_faults(pins, audited, today=datetime.date.today())
    print(*faults, f"pins: {len(pins)}, faults: {len(faults)}", sep="\n")
    return 1 if faults else 0


def read_pins(text: str) -> list[tuple[str, str]]:
    """The name and version of each pin, for every Python and platform.

    A local version, such as 2.9+cpu, is audited as the public one that it was built from:
    advisories and PyPI know no other.

    Raises:
        ValueError: a line pins no version, or there are no pins.
    """
    lines = [line.partition("#")[0].partition(";")[0].strip() for line in text.splitlines()]
    pins = []
    for line in filter(None, lines):
        pin = re.fullmatch(r"([\w.-]+)(?:\[[\w,.-]*\])?==([\w.!]+)(?:\+[\w.]+)?", line)
        if pin is None:
            raise ValueError(f"'{line}' pins no version, which name==version does")
        pins.append((_normalise(pin[1]), pin[2]))
    if not pins:
        raise ValueError("there are no pins to audit")
    return pins


def group_pins(pins: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """The pins in groups that name no package twice, which pip-audit refuses."""
    groups: list[dict[str, str]] = []
    for name, version in dict.fromkeys(pins):
        group = next((each for each in groups if name not in each), None)
        if group is None:
            groups.append(group := {})
        group[name] = version
    return [list(group.items()) for group in groups]


def run_pip_audit(pins: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """What pip-audit says of each pin.

    Raises:
        RuntimeError: it gave no report.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text("".join(f"{name}=={version}\n" for name, version in pins))
        command = [*_PIP_AUDIT, *_OPTIONS, f"--requirement={requirements}"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        dependencies: list[dict[str, Any]] = json.loads(ran.stdout)["dependencies"]
    # its status is 1 where it found something, too
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeError(f"pip-audit gave no report:\n{ran.stderr.strip()[-2000:]}") from error
    return dependencies


def find_faults(
    pins: list[tuple[str, str]], audited: list[dict[str, Any]], *, today: datetime.date
) -> list[str]:
    """A line for each pin that was not audited, and for each vulnerability that is not allowed."""
    faults = []
    reports = {(_normalise(each["name"]), each.get("version")): each for each in audited}
    skipped = {_normalise(each["name"]): each["skip_reason"] for each in audited if _skipped(each)}
    for name, version in dict.fromkeys(pins):
        report = reports.get((name, version))
        if report is None or _skipped(report):
            reason = skipped.get(name, "pip-audit does not mention it")
            faults.append(f"{name} {version} was not audited: {reason}")
            continue
        for found in report["vulns"]:
            names = [found["id"], *found.get("aliases", ())]
            if all(ALLOWED.get(each, datetime.date.min) < today for each in names):
                fixes = ", ".join(found.get("fix_versions", ())) or "none yet"
                faults.append(f"{name} {version}: {' = '.join(names)}, fixed in: {fixes}")
    return faults


def _skipped(report: dict[str, Any]) -> bool:
    return "skip_reason" in report


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parents[1] / "constraints.txt"))
