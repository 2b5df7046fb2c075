"""Records on their way between machines: one file with hashes, and what there is of each study.

A bundle is a zip file of records as they are, and of `manifest.json`, which holds the profile and
the sha256 of each. Nothing is taken from a bundle that is not whole, and no record is overwritten.
"""

import hashlib
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

from sympo._files import set_aside, write_atomically, write_whole
from sympo._names import show
from sympo.studies import profiles, records
from sympo.studies.plan import PROBE, TIERS, Plan, records_folder

MANIFEST = "manifest.json"
# Of the layout that is described above.
FORMAT = 1
# Ours: bytes. No record comes near it, and a bundle that claims more is refused before unpacking.
MOST_BYTES = 64 * 2**20

# What zipfile raises: no such member, and of damaged or encrypted files.
UNREADABLE = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError)

# As `records.file_name` makes them: no path, nothing hidden.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.json")
# When each member was written: the same for all, so that equal records give equal bundles.
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Import:
    """What became of the records of a bundle.

    Attributes:
        new: names of those that were added.
        known: of those that are here already, to the last byte.
        retold: of those whose results are here already, made by another machine or at another time.
        contradicted: of those whose results differ from those here.
    """

    new: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    retold: list[str] = field(default_factory=list)
    contradicted: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        studies = Counter(name.partition("-")[0] for name in self.new)
        by_study = ", ".join(f"{study} {count}" for study, count in studies.items())
        new = f"{len(self.new)} new ({by_study})" if self.new else "0 new"
        lines = [f"{new}, {len(self.known)} known"]
        if self.retold:
            lines.append(
                f"{len(self.retold)} with the same results from another run; ours are kept"
            )
        if self.contradicted:
            first = ", ".join(self.contradicted[:3])
            lines.append(
                f"{len(self.contradicted)} whose results DIFFER from ours, which are kept: {first}"
                f"{' …' if len(self.contradicted) > 3 else ''}"
            )
        return "records: " + "; ".join(lines)


def export_records(profile: str, file: Path) -> str:
    """Write all records of a profile to a bundle.

    Returns:
        a sentence that says what it holds.
    Raises:
        ValueError: there are none.
    Check: tests/studies/test_bundle.py.
    """
    folder = records_folder(profile)
    paths = [path for path in sorted(folder.glob("*.json")) if path.is_file()]
    found = {path.name: path.read_bytes() for path in paths}
    # Nobody could import the bundle with one that is damaged.
    contents = {name: data for name, data in found.items() if _find_fault(name, data) is None}
    if not contents:
        raise ValueError(
            f"there are no records in {folder}: run a study of profile {profile} first"
        )
    manifest = {
        "format": FORMAT,
        "profile": profile,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    members = {MANIFEST: json.dumps(manifest, indent=1).encode(), **contents}
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members.items():
            bundle.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED)
    content = buffer.getvalue()
    write_whole(file, content)
    size = f"{len(contents)} records, {len(content) / 2**20:.1f} MiB"
    sentence = f"{file}: {size}, sha256 {hashlib.sha256(content).hexdigest()}"
    damaged = sorted(found.keys() - contents.keys())
    return f"{sentence}; left out as damaged: {', '.join(damaged)}" if damaged else sentence


def import_records(profile: str, file: Path) -> Import:
    """Add the records of a bundle to those of a profile; none is overwritten.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no bundle, or not a whole one, or of another profile, or its records were
            made from other data or weights than those here. Nothing was added.
    Check: tests/studies/test_bundle.py.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}: name a bundle of `records export`")
    try:
        contents = _read_bundle(file, profile)
    except UNREADABLE as error:
        message = f"{file} is not a whole bundle of records ({error}): export it again"
        raise ValueError(message) from None
    report = Import()
    folder = records_folder(profile)
    _check_sources(contents, folder, file)
    for name, content in contents.items():
        path = folder / name
        # A damaged one of ours is none.
        if path.is_file() and _find_fault(name, path.read_bytes()) is not None:
            set_aside(path)
        if path.is_file():
            _compare(path.read_bytes(), content, report).append(name)
        else:
            write_atomically(path, content)
            report.new.append(name)
    return report


def _check_sources(contents: dict[str, bytes], folder: Path, file: Path) -> None:
    """Refuse records of other data or weights than those here, which would not add up."""
    ours: dict[tuple[str, int], dict[str, str]] = {}
    for name, content in contents.items():
        record = json.loads(content)
        kind = study, version = record["config"]["study"], record["version"]
        theirs = records.list_hashes(record["config"])
        if kind not in ours:
            # an empty folder takes what the bundle begins with
            ours[kind] = records.find_hashes(study, folder=folder, version=version) or theirs
        if theirs != ours[kind]:
            here, there = map(records.describe_hashes, (ours[kind], theirs))
            raise ValueError(
                f"{file}: {name} was made from other data or weights ({there}) than other records "
                f"of {study} ({here}), and does not add up with them: import the bundle into "
                "another clone"
            )


def _compare(ours: bytes, theirs: bytes, report: Import) -> list[str]:
    """The list of `report` that a record belongs to which is here already."""
    if ours == theirs:
        return report.known
    same = _results(json.loads(ours)) == _results(json.loads(theirs))
    return report.retold if same else report.contradicted


def _results(record: dict[str, Any]) -> str:
    # as text, in which NaN equals NaN
    return json.dumps([record["metrics"], record["history"]], sort_keys=True)


def _read_bundle(file: Path, profile: str) -> dict[str, bytes]:
    """The records of a bundle by name, each of which is what the manifest and its own name say."""
    with zipfile.ZipFile(file) as bundle:
        hashes = _read_manifest(_read_member(bundle, MANIFEST), file, profile)
        contents = {name: _read_member(bundle, name) for name in hashes}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != hashes[name]:
            raise ValueError(f"{file}: the sha256 of {name} is not the manifest's: export it again")
        if fault := _find_fault(name, content):
            raise ValueError(f"{file}: {name} is no record: {fault}")
    return contents


def _read_member(bundle: zipfile.ZipFile, name: str) -> bytes:
    # by the directory's size, and by what really comes out
    size = bundle.getinfo(name).file_size
    if size > MOST_BYTES:
        message = f"{bundle.filename}: {name} claims {size / 2**20:.0f} MiB, and no record has that"
        raise ValueError(message)
    with bundle.open(name) as member:
        return member.read(MOST_BYTES)


def _read_manifest(text: bytes, file: Path, profile: str) -> dict[str, str]:
    """The sha256 of each record, by name."""
    try:
        manifest = json.loads(text)
    except ValueError:
        manifest = None
    hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(hashes, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{file}: {MANIFEST} is not of a bundle of format {FORMAT}")
    if manifest.get("profile") != profile:
        found = manifest.get("profile")
        if found not in profiles.PROFILES:
            raise ValueError(f"{file}: its profile is {show(found)}, which there is not")
        raise ValueError(f"{file} holds records of profile {found}: add --profile {found}")
    for name in hashes:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{file}: {show(name)} is no name of a record")
    return hashes


def _find_fault(name: str, content: bytes) -> str | None:
    """Why a file is not the record that its name stands for; None if it is."""
    try:
        record = json.loads(content)
        if fault := records.find_fault(record):
            return fault
        own = records.file_name(record["config"], record["version"])
    except (ValueError, KeyError, RecursionError) as error:
        return f"{type(error).__name__} {error}"
    return None if own == name else f"its config stands for {own}"


def describe_status(profile: str) -> str:
    """What there is of each study and tier, in lines."""
    folder = records_folder(profile)
    lines = [f"records of profile {profile} in {folder}"]
    for study, (module, _) in profiles.STUDIES.items():
        if study in profiles.read_profile(profile):
            config = profiles.study_config(study, profile)
            try:
                plan = import_module(module).plan_study(config, read_only=True)
            except ValueError as error:
                lines.append(f"{study}: {error}")
            else:
                lines += _describe_study(plan)
    return "\n".join(lines)


def _describe_study(plan: Plan[Any]) -> Iterable[str]:
    counts: Counter[int] = Counter()
    present: Counter[int] = Counter()
    for run in plan.list_runs(plan.load):
        counts[plan.tier(run)] += 1
        present[plan.tier(run)] += plan.load(run) is not None
    probing = present[PROBE] < counts[PROBE]
    more = ", and those that follow from the probe" if probing else ""
    yield f"{plan.study}: {present.total()} of {counts.total()}{more}"
    for tier in sorted(counts):
        yield f"  {TIERS[tier]}: {present[tier]} of {counts[tier]}"
    others = sum(1 for _ in records.read_folder(plan.folder, plan.study)) - present.total()
    if others > 0:
        yield f"  of other sizes or versions: {others}"
