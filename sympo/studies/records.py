"""One record file per run: an interrupted study goes on where it was.

A record is JSON: config, version, metrics, history (a row per epoch or step), provenance, and the
sha256 of all these. It is read again only for the config that it was trained with and the version
of its study. Whoever changes what a study computes raises that version, and every other edit leaves
the records valid; tests/studies/test_golden.py tells the two kinds apart.
"""

import hashlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar

from sympo import _files
from sympo.studies import locks
from sympo.studies.progress import is_main_process

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: everything that its result depends on.

    Attributes:
        method: the name of the loss.
        noise: the name of the label noise, such as "symmetric-0.4".
        seed: of everything that is drawn at random.
    """

    study: str
    method: str
    noise: str
    seed: int

    def config(self) -> dict[str, Any]:
        """The run as a flat dict of JSON values: a record's `config`, and the columns of tables."""
        return asdict(self)

    def describe(self) -> str:
        """What tells the run from the others of its study and seed, for a person."""
        return f"{self.method}, {self.noise}"


class Result(NamedTuple):
    """What a run gives: metrics by name, and a row for each epoch or step.

    `phases` are the seconds of its phases by name, which go into the record's provenance.
    """

    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    phases: dict[str, float] | None = None


class Record(TypedDict):
    """A record as it stands in its file."""

    config: dict[str, Any]
    version: int
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    provenance: dict[str, Any]
    sha256: str


AnyRun = TypeVar("AnyRun", bound=Run)
_T = TypeVar("_T")

# The fields of a record, to check files that anything may have happened to.
_KINDS = {
    "config": dict,
    "version": int,
    "metrics": dict,
    "history": list,
    "provenance": dict,
    "sha256": str,
}


@dataclass(frozen=True)
class Runs:
    """The records of a study, in the order of its runs.

    Attributes:
        records: one for each run; without training, one for each run of a complete seed.
        trained: how many runs were trained just now.
        loaded: how many runs had a record.
        missing: how many runs have none. Only where nothing may be trained.
        left_out: how many records were not taken, because what they are compared with is missing.
    """

    records: list[Record] = field(repr=False)
    trained: int
    loaded: int
    missing: int = 0
    left_out: int = 0

    def __str__(self) -> str:
        parts = [f"trained {self.trained}, loaded {self.loaded}"]
        if self.missing:
            parts.append(f"runs without a record: {self.missing}")
        if self.left_out:
            parts.append(f"not taken, since others of their kind are missing: {self.left_out}")
        return "; ".join(parts)


class Interrupted(KeyboardInterrupt):
    """A person stopped the training: a sentence, where Jupyter would show the stack of threads."""

    def __init__(self, recorded: int, runs: int):
        super().__init__(
            f"interrupted: {recorded} of {runs} runs are recorded; "
            "what is asked for again goes on from there"
        )

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def run_all(
    runs: Sequence[AnyRun],
    train: Callable[[list[AnyRun]], Iterator[tuple[AnyRun, Result]]],
    *,
    folder: Path,
    version: int,
    provenance: dict[str, Any] | None = None,
) -> Runs:
    """Load the records that exist and train the rest.

    Each record is on disk before the next run is waited for, so an interrupt loses none. Of several
    processes that are asked for runs of one seed, one trains them and the others wait for it.

    Args:
        train: called once with the runs that have no record, if there are any; yields (run, result)
            as each run finishes, in any order.
        folder: where the records lie.
        version: of the study, raised when what it computes changes.
        provenance: goes into each new record, beside its `seconds`: wall time since the record
            before it; and the result's `phases`, if it has any.
    Returns:
        the records, in the order of `runs`.
    Raises:
        Interrupted: Ctrl-C, or the stop button of Jupyter.
        ValueError: a result for none of the runs asked for, or one that is not metrics and history.
        RuntimeError: `train` ended without a result for some run.
    Check: tests/studies/test_records.py.
    """
    # By path, so that a run which is listed twice is trained once.
    by_path = {folder / _file_name(run, version): run for run in runs}
    # Nothing is set aside before its lock is held: another process may just be making it again.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        records = _load_all(by_path, folder, version, set_aside=False)
    trained = 0
    if missing := _list_missing(by_path, records):
        seeds = {f"{_clean(run.study)}-seed{_clean(run.seed)}" for run in missing.values()}
        with _say_interrupt(records, by_path), locks.hold(folder, seeds):
            # Whoever held one of the locks has trained some of them meanwhile.
            records |= _load_all(missing, folder, version, set_aside=True)
            missing = _list_missing(by_path, records)
            trained = len(missing)
            _train_missing(missing, records, train, folder, version, provenance or {})
    in_order = [records[folder / _file_name(run, version)] for run in runs]
    return Runs(in_order, trained, len(records) - trained)


@contextmanager
def _say_interrupt(records: dict[Path, Record], by_path: dict[Path, AnyRun]) -> Iterator[None]:
    """Let an interrupt of this block say how many of the runs are recorded by then."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(len(records), len(by_path)) from None


def _load_all(
    by_path: dict[Path, AnyRun], folder: Path, version: int, *, set_aside: bool
) -> dict[Path, Record]:
    options: dict[str, Any] = {"folder": folder, "version": version, "set_aside": set_aside}
    loaded = {path: load(run, **options) for path, run in by_path.items()}
    return {path: record for path, record in loaded.items() if record is not None}


def _list_missing(by_path: dict[Path, AnyRun], records: dict[Path, Record]) -> dict[Path, AnyRun]:
    return {path: run for path, run in by_path.items() if path not in records}


def _train_missing(
    missing: dict[Path, AnyRun],
    records: dict[Path, Record],
    train: Callable[[list[AnyRun]], Iterator[tuple[AnyRun, Result]]],
    folder: Path,
    version: int,
    provenance: dict[str, Any],
) -> None:
    """Train the runs of `missing`, and add their records to `records`, as `run_all` says."""
    waiting = dict(missing)
    # `train` is a generator, so a run that comes out of it is recorded before the next is trained.
    results = _time_each(train(list(waiting.values()))) if waiting else ()
    for seconds, (run, result) in results:
        path = folder / _file_name(run, version)
        # Popped, so that what is left at the end has no result, and a second one is refused.
        if waiting.pop(path, None) is None:
            raise ValueError(f"train gave a result for a run not asked for, or twice: {run}")
        origin = {**provenance, "seconds": round(seconds, 3)}
        if phases := getattr(result, "phases", None):
            origin["phases"] = {name: round(value, 3) for name, value in phases.items()}
        records[path] = save(run, result, folder=folder, version=version, provenance=origin)
    if waiting:
        first = next(iter(waiting.values()))
        raise RuntimeError(f"train gave no result for {len(waiting)} runs, the first {first}")


def load(run: Run, *, folder: Path, version: int, set_aside: bool = True) -> Record | None:
    """The record of a run, or None where there is none, or a corrupt one.

    Args:
        set_aside: whether to rename a corrupt one, so that it is made again.
    """
    path = folder / _file_name(run, version)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        fault = _find_fault(record, run, version)
    # bad JSON, bytes that are not UTF-8, or brackets in brackets
    except (ValueError, RecursionError) as error:
        fault = str(error)
    if fault is None:
        return record
    if not set_aside:
        warnings.warn(f"{path} is no record and is passed over: {fault}", stacklevel=3)
        return None
    with suppress(FileNotFoundError):  # another of several processes was first
        aside = _files.set_aside(path)
        message = f"set aside a corrupt record as {aside.name} and will make it again: {fault}"
        warnings.warn(message, stacklevel=3)
    return None


def save(
    run: Run, result: Result, *, folder: Path, version: int, provenance: dict[str, Any]
) -> Record:
    """Write the record of a run.

    Returns:
        the record as `load` gives it.
    Raises:
        ValueError: the result is not metrics and history.
    """
    content = {
        "config": run.config(),
        "version": version,
        "metrics": getattr(result, "metrics", None),
        "history": getattr(result, "history", None),
        "provenance": provenance,
    }
    # Read back from text, so that numbers are the same now as when they are loaded.
    record = json.loads(_to_json(content))
    record["sha256"] = hash_content(record)
    if fault := _find_fault(record, run, version):
        raise ValueError(f"the result of {run} cannot be recorded: {fault}")
    if is_main_process():
        path = folder / _file_name(run, version)
        _files.write_atomically(path, _to_json(record, indent=1) + "\n")
    return record


def find_hashes(study: str, *, folder: Path, version: int) -> dict[str, str]:
    """The sha256 fields that all records of a study share: of its data and of a model's weights.

    Whoever only reads records need not have the files that they were made from.

    Returns:
        empty without records.
    Raises:
        ValueError: records were made from different files, so they are not of one study.
    """
    found = {
        tuple(list_hashes(record["config"]).items())
        for record in read_folder(folder, study)
        if record["version"] == version
    }
    if len(found) > 1:
        message = f"the records of {study} in {folder} were made from {len(found)} different sets"
        sets = "; ".join(describe_hashes(dict(one)) for one in found)
        raise ValueError(f"{message} of data and weights ({sets}): move those of all but one away")
    return dict(next(iter(found), ()))


def list_hashes(config: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 fields of a config, or of a source: of what runs are made from."""
    return {name: value for name, value in config.items() if name.endswith("sha256")}


def describe_hashes(hashes: Mapping[str, str]) -> str:
    """The fields of `list_hashes` with the beginning of each hash."""
    return ", ".join(f"{name} {value[:12]}" for name, value in hashes.items())


def read_folder(folder: Path, study: str = "*") -> Iterator[Record]:
    """The records in a folder, of one study or of all; what is no record is passed over."""
    for path in sorted(folder.glob(f"{study}-*.json")):
        with suppress(ValueError, RecursionError, OSError):
            record = json.loads(path.read_text(encoding="utf-8"))
            if find_fault(record) is None:
                yield record


def metrics_table(records: Iterable[Record]) -> "pd.DataFrame":
    """A row per record: the fields of its config, then its metrics."""
    # Here and not above: who trains needs no table, and the import takes a while.
    import pandas as pd

    return pd.DataFrame([{**record["config"], **record["metrics"]} for record in records])


def history_table(records: Iterable[Record]) -> "pd.DataFrame":
    """A row per record and entry of its history: the fields of its config, then the entry's."""
    import pandas as pd

    rows = [{**record["config"], **entry} for record in records for entry in record["history"]]
    return pd.DataFrame(rows)


def _file_name(run: Run, version: int) -> str:
    return file_name(run.config(), version)


def file_name(config: dict[str, Any], version: int) -> str:
    """The name of a record's file.

    Args:
        config: of `Run.config`.
    """
    # The words are for people, and safe in every file system, with "-" between them alone; the
    # digest tells records apart.
    study, method, noise, seed = (
        _clean(config[field]) for field in ("study", "method", "noise", "seed")
    )
    digest = hashlib.sha256(_to_json([config, version]).encode()).hexdigest()[:8]
    return f"{study}-{method}-{noise}-seed{seed}-{digest}.json"


def _clean(name: object) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "_", str(name))[:40]


def _to_json(value: Any, **options: Any) -> str:
    # numpy's and torch's scalars give plain ones; anything else is a TypeError of `item`.
    return json.dumps(value, sort_keys=True, default=lambda scalar: scalar.item(), **options)


def find_fault(record: Any) -> str | None:
    """Why an object is no record, for a sentence; None if it is one."""
    if not isinstance(record, dict):
        return "it is not a JSON object"
    for name, kind in _KINDS.items():
        if not isinstance(record.get(name), kind):
            return f"its field '{name}' is missing or not a {kind.__name__}"
    if record["sha256"] != hash_content(record):
        return "its content is not that of its sha256: it was changed after it was written"
    return None


def hash_content(record: Mapping[str, Any]) -> str:
    """The sha256 of all fields of a record but `sha256` itself, hexadecimal."""
    content = {name: value for name, value in record.items() if name != "sha256"}
    return hashlib.sha256(_to_json(content).encode()).hexdigest()


def _find_fault(record: Any, run: Run, version: int) -> str | None:
    """Why `record` is not one of `run`, for a sentence; None if it is."""
    if fault := find_fault(record):
        return fault
    # As text, in which 1 and numpy's 1, or a tuple and a list, are the same.
    if _to_json([record["config"], record["version"]]) != _to_json([run.config(), version]):
        return "its config and version are not those its name stands for"
    return None


def _time_each(results: Iterator[_T]) -> Iterator[tuple[float, _T]]:
    """Each result with the seconds that it was waited for."""
    start = time.perf_counter()
    for result in results:
        yield time.perf_counter() - start, result
        start = time.perf_counter()
