"""One record file per run: an interrupted study goes on where it was, and no record of other code or config is read.

A record is JSON: config, version, metrics, history (a row per epoch or step) and provenance.
"""

import ast
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from types import ModuleType

import pandas as pd
from tqdm import tqdm

from sympo import config as repository

_NAMED = ("study", "method", "noise", "seed")  # the fields that name a record's file
_FIELDS = {"config": dict, "metrics": dict, "history": list, "provenance": dict}


@dataclass(frozen=True)
class Runs:
    """The records of a study, in the order of its configs, and how many were trained and loaded to get them."""

    records: list[dict] = field(repr=False)
    trained: int
    loaded: int

    def __str__(self) -> str:
        return f"trained {self.trained}, loaded {self.loaded}"


def run_all(
    configs: Sequence[dict],
    train: Callable[[list[dict]], Iterator[tuple[dict, dict]]],
    *,
    folder: Path,
    version: str,
    provenance: dict | None = None,
) -> Runs:
    """Load the records that exist and train the rest; each record is on disk before the next run is waited for.

    Args:
        configs: JSON scalars by name; each has study, method, noise and seed.
        train: called once with the configs that have no record, if there are any; yields (config, result) as each run
            finishes, in any order; a result has `metrics`, a dict, and `history`, a list of dicts.
        folder: where the records lie.
        version: names the code that makes the records, see `code_version`.
        provenance: goes into each record made now, beside its `seconds`: wall time since the record before it.
    Returns:
        the records, in the order of `configs`.
    Raises:
        ValueError: a config without one of the four fields, or a result for none of the configs asked for.
        RuntimeError: `train` ended without a result for some config.
    Check: tests/test_store.py.
    """
    paths = [folder / _file_name(config, version) for config in configs]
    records = {path: _load(path, config, version) for path, config in zip(paths, configs, strict=True)}
    missing = {path: config for path, config in zip(paths, configs, strict=True) if records[path] is None}
    trained = len(missing)
    made = _timed(train(list(missing.values()))) if missing else ()
    for seconds, (config, result) in made:
        path = folder / _file_name(config, version)
        if missing.pop(path, None) is None:
            raise ValueError(f"train gave a result for a config that was not asked for, or twice: {config}")
        records[path] = _write(path, config, version, result, {**(provenance or {}), "seconds": round(seconds, 3)})
    if missing:
        raise RuntimeError(f"train gave no result for {len(missing)} configs, the first {next(iter(missing.values()))}")
    return Runs([records[path] for path in paths], trained, len(records) - trained)


def run(
    config: dict, fn: Callable[[dict], dict], *, folder: Path, version: str, provenance: dict | None = None
) -> dict:
    """The record of one config: loaded if it exists, else made by `fn(config)`, which returns metrics and history."""

    def train(missing: list[dict]) -> Iterator[tuple[dict, dict]]:
        for each in missing:
            yield each, fn(each)

    return run_all([config], train, folder=folder, version=version, provenance=provenance).records[0]


def processes() -> int:
    """How many processes train together: 1, unless `accelerate launch` or torchrun started more."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main_process() -> bool:
    """Whether this is the one of several processes that writes and prints."""
    return int(os.environ.get("RANK", 0)) == 0


def metrics_table(records: Iterable[dict]) -> pd.DataFrame:
    """A row per record: the fields of its config, then its metrics."""
    return pd.DataFrame([{**record["config"], **record["metrics"]} for record in records])


def history_table(records: Iterable[dict]) -> pd.DataFrame:
    """A row per record and entry of its history: the fields of its config, then those of the entry."""
    return pd.DataFrame([{**record["config"], **entry} for record in records for entry in record["history"]])


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) so that `path` holds all of it, or what it held before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def code_version(*modules: ModuleType) -> str:
    """A short hash of what the modules do: comments, docstrings and layout do not count, a changed constant does.

    It reads the source as it is now: after an edit, restart the kernel before running a study.
    """
    digest = hashlib.sha256()
    for module in sorted(modules, key=lambda module: module.__name__):
        source = Path(module.__file__).read_text(encoding="utf-8")
        bare = _WithoutDocstrings().visit(ast.parse(source))
        digest.update(f"{module.__name__}\n{ast.unparse(bare)}\n".encode())
    return digest.hexdigest()[:8]


def provenance(**extra) -> dict:
    """What made a result: commit, versions, machine, threads, and whatever `extra` adds; it imports nothing heavy."""
    torch = sys.modules.get("torch")
    return {
        "commit": _git("rev-parse", "HEAD"),
        # Only what can change a result counts: figures and executed notebooks are outputs.
        "modified": bool(_git("status", "--porcelain", "--", "sympo", "notebooks/src", "notebooks/profiles")),
        "python": platform.python_version(),
        **{name: found for name in ("torch", "numpy", "numba", "transformers", "trl") if (found := _installed(name))},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
        "threads": torch.get_num_threads() if torch else os.cpu_count(),
        **extra,
    }


def save_provenance(name: str, records: Iterable[dict] = (), *, profile: str, **extra) -> pd.DataFrame:
    """Write what made the csv of notebook `name` beside them, as `data/<name>.json`, and return it as a table to show.

    Args:
        records: the study's, which other code versions or another device may have made: what made them is listed, and
            the seconds they took are summed.
    """
    sources = [record["provenance"] for record in records]
    made = provenance(**extra)
    if sources:
        kept = ("commit", "torch", "cpu", "gpu", "data")
        made["trained_with"] = sorted({" · ".join(str(source.get(field)) for field in kept) for source in sources})
        made["training_seconds"] = round(sum(source["seconds"] for source in sources))
    path = repository.figures_folder(repository.resolve_profile(profile)) / "data" / f"{name}.json"
    write_atomically(path, json.dumps(made, indent=1) + "\n")
    shown = {field: value for field, value in made.items() if field != "training_seconds"}  # outputs hold no timings
    return pd.Series(shown).to_frame("value")


def progress(iterable_or_total: Iterable | int, label: str) -> tqdm:
    """A tqdm bar over an iterable, or with `total` steps for `update`.

    A person at a terminal or in a notebook sees it. Where SYMPO_PROGRESS names a file, it is written there instead, so
    that nothing enters a notebook's outputs. Elsewhere (a log) it is silent.
    """
    steps = {"total": iterable_or_total} if isinstance(iterable_or_total, int) else {"iterable": iterable_or_total}
    path = os.environ.get("SYMPO_PROGRESS")
    if not is_main_process():
        return tqdm(**steps, disable=True)
    if path:
        return tqdm(**steps, desc=label, file=_Appender(path), mininterval=0.5)
    return tqdm(**steps, desc=label, leave=False, disable=not (sys.stderr.isatty() or _in_notebook()))


class _Appender:
    """A text file that is open only while it is written, so that a bar need not close it."""

    def __init__(self, path: str):
        self._path = path

    def write(self, text: str) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(text)

    def flush(self) -> None: ...


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def _file_name(config: dict, version: str) -> str:
    for name in _NAMED:
        if name not in config:
            raise ValueError(f"config has no field '{name}': its record's file is named after {', '.join(_NAMED)}")
    study, method, noise, seed = (re.sub(r"[^A-Za-z0-9._]+", "_", str(config[name]))[:40] for name in _NAMED)
    digest = hashlib.sha256(_to_json([config, version]).encode()).hexdigest()[:8]
    return f"{study}-{method}-{noise}-seed{seed}-{digest}.json"


def _to_json(value, **options) -> str:
    # numpy's and torch's scalars give plain ones; anything else is a TypeError of `item`.
    return json.dumps(value, sort_keys=True, default=lambda scalar: scalar.item(), **options)


def _load(path: Path, config: dict, version: str) -> dict | None:
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        fault = _fault(record, config, version)
    except ValueError as error:  # bad JSON, or bytes that are not UTF-8
        fault = str(error)
    if fault is None:
        return record
    aside = path.with_name(path.name + ".corrupt")
    with suppress(FileNotFoundError):  # another of several processes was first
        os.replace(path, aside)
    warnings.warn(f"set aside a corrupt record as {aside.name} and will make it again: {fault}", stacklevel=3)
    return None


def _fault(record, config: dict, version: str) -> str | None:
    if not isinstance(record, dict):
        return "it is not a JSON object"
    for name, kind in _FIELDS.items():
        if not isinstance(record.get(name), kind):
            return f"its field '{name}' is missing or not a {kind.__name__}"
    if _to_json([record["config"], record.get("version")]) != _to_json([config, version]):
        return "its config and version are not those its name stands for"
    return None


def _write(path: Path, config: dict, version: str, result: dict, provenance: dict) -> dict:
    for name in ("metrics", "history"):
        if not isinstance(result.get(name), _FIELDS[name]):
            raise ValueError(f"the result of {config} has no {_FIELDS[name].__name__} '{name}'")
    record = {"config": config, "version": version, "metrics": result["metrics"], "history": result["history"]}
    text = _to_json({**record, "provenance": provenance}, indent=1)
    if is_main_process():
        write_atomically(path, text + "\n")
    return json.loads(text)  # a record just made is what a later run will load


def _timed(results: Iterator) -> Iterator[tuple[float, tuple[dict, dict]]]:
    start = time.perf_counter()
    for result in results:
        yield time.perf_counter() - start, result
        start = time.perf_counter()


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(repository.root()), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, no commit
        return None


def _installed(name: str) -> str | None:
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return hasattr(ipython.get_ipython(), "kernel") if ipython else False
