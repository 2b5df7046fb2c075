"""Takes what a run found into figures/<profile>, as far as the numbers moved.

git is not called: what was copied shows in `git status`, and is committed by whoever asked for it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sympo._files import write_atomically
from sympo.book import staleness
from sympo.book.twins import notebooks, relative, saved_stems, twin
from sympo.studies import profiles


class Changes(NamedTuple):
    """What became of the committed results.

    Attributes:
        moved: stems of the figures and tables whose data moved; they were copied.
        redrawn: stems that look different though their data are the same; they were not.
        orphans: committed csv files that no notebook makes any more; they were left.
    """

    moved: list[str]
    redrawn: list[str]
    orphans: list[str]


def commit_results(profile: str, names: Sequence[str] = ()) -> Changes:
    """Copy the results of the last run to figures/<profile>: those whose csv differs, or is new.

    A figure goes with its csv, and so does the provenance of its notebook: where no number moved,
    what is committed is true still, whatever machine has seen the numbers again.

    Args:
        names: of the notebooks; empty: all.
    Raises:
        ValueError: smoke, whose numbers mean nothing, no such notebook, or one whose results are
            not those of its present text; nothing was copied.
    Check: tests/book/test_commit.py.
    """
    if profile == "smoke":
        raise ValueError("results of profile smoke mean nothing, so they are not committed")
    for name in names:
        twin(name)  # refuses a name that no notebook has
    results = {name: _read_results(name, profile) for name in names or notebooks()}
    moved: list[str] = []
    redrawn: list[str] = []
    for name, paths in results.items():
        groups = _group_by_stem(paths, name)
        moved_here = [stem for stem, files in groups.items() if _has_moved(files, profile)]
        redrawn += [
            stem
            for stem, files in groups.items()
            if stem not in moved_here and any(_differs(path, profile) for path in files)
        ]
        for stem in moved_here:
            _copy(groups[stem], profile)
        origin = profiles.own_figures(profile) / "data" / f"{name}.json"
        if origin in paths and (moved_here or not _target(origin, profile).is_file()):
            _copy([origin], profile)
        moved += moved_here
    return Changes(moved, redrawn, _list_orphans(profile))


def _read_results(name: str, profile: str) -> list[Path]:
    """The files that the last run of a notebook left, none of them changed since."""
    remedy = f"run make paper PROFILE={profile} first"
    current = staleness.is_of_present_text(name, profile)
    if not current or staleness.is_stale(name, profile):
        raise ValueError(f"{name} has not been run in profile {profile}: {remedy}")
    # a cell that was tried out in JupyterLab writes there as well
    if altered := staleness.list_altered(name, profile):
        raise ValueError(f"{altered[0]} is gone or was changed: {remedy}")
    return [profiles.root() / path for path in staleness.read_results(name, profile) or ()]


def _group_by_stem(paths: list[Path], name: str) -> dict[str, list[Path]]:
    """The files of each figure and table that a notebook saves, several csv among them."""
    stems = saved_stems(twin(name))
    groups: dict[str, list[Path]] = {}
    for path in paths:
        # the longest: table2_noise_rates is no part of table2_noise
        fitting = [stem for stem in stems if f"{path.stem}_".startswith(f"{stem}_")]
        if fitting:
            groups.setdefault(max(fitting, key=len), []).append(path)
    return groups


def _has_moved(files: list[Path], profile: str) -> bool:
    """Whether a number differs from what is committed, or a file is not there yet."""
    return any(
        not _target(path, profile).is_file() or (path.suffix == ".csv" and _differs(path, profile))
        for path in files
    )


def _differs(path: Path, profile: str) -> bool:
    return path.read_bytes() != _target(path, profile).read_bytes()


def _copy(paths: list[Path], profile: str) -> None:
    for path in paths:
        # a file that is the same keeps its time
        if not _target(path, profile).is_file() or _differs(path, profile):
            write_atomically(_target(path, profile), path.read_bytes())


def _target(path: Path, profile: str) -> Path:
    own = profiles.own_figures(profile)
    return profiles.committed_figures(profile) / path.relative_to(own)


def _list_orphans(profile: str) -> list[str]:
    stems = {stem for name in notebooks() for stem in saved_stems(twin(name))}
    committed = sorted((profiles.committed_figures(profile) / "data").glob("*.csv"))
    return [
        relative(path)
        for path in committed
        if not any(f"{path.stem}_".startswith(f"{stem}_") for stem in stems)
    ]
