"""Datasets of any length in bounded memory: read in batches, and written batch by batch.

Batches have `BATCH` rows. A dataset that grows beyond `IN_MEMORY` bytes goes into an Arrow file,
from which `datasets` maps it.
"""

import atexit
import copy
import hashlib
import mmap
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import datasets
import numpy as np
import pyarrow
from datasets import Dataset, DatasetInfo, Features
from datasets.arrow_writer import ArrowWriter
from datasets.table import ConcatenationTable, InMemoryTable, MemoryMappedTable, Table
from filelock import FileLock

__all__ = [
    "BATCH",
    "IN_MEMORY",
    "Keys",
    "TableWriter",
    "Turn",
    "iter_tables",
    "prompt_key",
    "read_messages",
]

BATCH = 1000  # rows; datasets writes as many at a time
IN_MEMORY = 2**26  # bytes, 40,000 pairs of HH: a file for less would only be litter

_MAPPED = 2**27  # bytes of a file that may become resident before it is mapped anew

_REMEDY = "make the dataset by sympo.preferences.parse_rows(dataset)"

# The role and the content of a message.
Turn = tuple[str, str]


def _count_mapped() -> int:
    """Bytes of files that are resident in this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[2])
    except OSError:
        return 0
    return pages * mmap.PAGESIZE


def _map_anew(table: Table | None) -> Table | None:
    """The table with mappings of its own, where its parts are files."""
    if isinstance(table, ConcatenationTable):
        blocks = [[_map_anew(block) for block in row] for row in table.blocks]
        return ConcatenationTable.from_blocks(blocks)
    # Such a table is copied by its path.
    return copy.copy(table) if isinstance(table, MemoryMappedTable) else table


def iter_tables(dataset: Dataset, columns: Sequence[str]) -> Iterator[pyarrow.Table]:
    """The columns of a dataset in tables of `BATCH` rows, each of one chunk.

    What was read of a file stays resident as long as the file is mapped, so it is mapped anew now
    and then. A table that is kept keeps its mapping: take from it what is needed.

    Raises:
        ValueError: the dataset lacks one of the columns.
    """
    for name in columns:
        if name not in dataset.column_names:
            raise ValueError(f"the dataset has no column {name}: {_REMEDY}")

    def map_anew() -> Dataset:
        fresh = copy.copy(dataset)
        fresh._data = _map_anew(dataset.data)
        fresh._indices = _map_anew(dataset._indices)
        return fresh.select_columns(list(columns)).with_format("arrow")

    part = map_anew()
    before = _count_mapped()
    for first in range(0, len(dataset), BATCH):
        yield part[first : first + BATCH].combine_chunks()
        if dataset.cache_files and _count_mapped() - before > _MAPPED:
            part = map_anew()
            before = _count_mapped()


def read_messages(table: pyarrow.Table, name: str) -> Iterator[list[Turn]]:
    """The turns of each cell of a column of messages.

    Raises:
        ValueError: the column holds something else, such as text.
    """
    cells = table[name].combine_chunks()
    messages = getattr(cells.type, "value_type", None)  # of a list
    if not (isinstance(messages, pyarrow.StructType) and {"role", "content"} <= {*messages.names}):
        raise ValueError(f"the column {name} does not hold messages: {_REMEDY}")
    parts = cells.flatten()
    roles, contents = (parts.field(part).to_pylist() for part in ("role", "content"))
    turns = list(zip(roles, contents, strict=True))
    ends = np.cumsum(cells.value_lengths().to_numpy()).tolist()
    for start, end in pairwise([0, *ends]):
        yield turns[start:end]


def prompt_key(prompt: Sequence[Turn]) -> tuple[Turn, ...]:
    """What makes two prompts the same: the turns but for system turns, case and spacing."""
    return tuple(
        (role, " ".join(content.casefold().split())) for role, content in prompt if role != "system"
    )


class Keys:
    """One key per row of a dataset, made anew in each iteration: no more than a batch is kept."""

    def __init__(
        self,
        dataset: Dataset,
        columns: Sequence[str],
        make: Callable[[pyarrow.Table], Iterator[Any]],
    ) -> None:
        self._dataset = dataset
        self._columns = columns
        self._make = make

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Any]:
        for table in iter_tables(self._dataset, self._columns):
            yield from self._make(table)

    def __contains__(self, key: object) -> bool:
        return any(key == other for other in self)


def _lock(folder: Path) -> FileLock:
    """What a process holds as long as a temporary folder is its own; a kill frees it."""
    return FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)


def _remove(folder: Path, lock: FileLock) -> None:
    # Windows deletes no file that is mapped; what stays there is no reason to fail at the end.
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    with suppress(OSError):
        os.unlink(lock.lock_file)


def _remove_abandoned(parent: Path) -> None:
    """Delete the folders of processes that were killed before they could."""
    for folder in parent.glob(f"sympo-{'[0-9a-f]' * 32}"):
        lock = _lock(folder)
        # It is somebody's, or the file system knows no locks.
        with suppress(OSError, NotImplementedError):
            lock.acquire()
            _remove(folder, lock)


@cache
def _make_temporary() -> Path:
    """The folder of this process, deleted when Python ends."""
    # Beside the caches of datasets, and not in /tmp, which may lie in memory.
    parent = Path(datasets.config.HF_DATASETS_CACHE)
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    folder = parent / f"sympo-{uuid.uuid4().hex}"
    lock = _lock(folder)
    # Before there is a folder, so that nobody ever finds it without.
    with suppress(NotImplementedError):
        lock.acquire()
    folder.mkdir()
    atexit.register(_remove, folder, lock)
    return folder


class TableWriter:
    """A dataset from tables: in memory while it is small, beyond that in a file.

    The fingerprint is a hash of the columns: equal rows in equal order have the same one, whatever
    file or batches they came in, so that what is cached by it (TRL's reference log-probabilities)
    is found again.

    Args:
        features: of the dataset.
        cache: the folder of the file, which stays there; None for a temporary one, deleted when
            Python ends.
    """

    def __init__(self, features: Features, cache: str | Path | None) -> None:
        self._features = features
        self._cache = cache
        # Rows that do not fill a batch yet, and batches while they are kept in memory.
        self._pending: list[pyarrow.Table] = []
        self._tables: list[pyarrow.Table] = []
        self._bytes = 0
        self._hashes = {name: hashlib.blake2b(digest_size=16) for name in features}
        self._part: Path | None = None
        self._writer: ArrowWriter | None = None

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Half a file is of no use to anyone.
        if self._writer is not None:
            self._writer.stream.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def add(self, table: pyarrow.Table) -> None:
        """Append rows, of all columns but those that `finish` is told.

        Raises:
            ValueError: the file cannot be written.
        """
        self._pending.append(table)
        if sum(map(len, self._pending)) >= BATCH:
            rows = pyarrow.concat_tables(self._pending)
            whole = len(rows) - len(rows) % BATCH
            for first in range(0, whole, BATCH):
                self._put(rows.slice(first, BATCH).combine_chunks())
            self._pending = [rows.slice(whole)]

    def finish(self, **columns: pyarrow.Array) -> Dataset:
        """The dataset of the rows that were added, with columns that are known only at the end.

        Raises:
            ValueError: the file cannot be written.
        """
        if any(map(len, self._pending)):
            self._put(pyarrow.concat_tables(self._pending).combine_chunks())
        schema = self._features.arrow_schema
        for name, column in columns.items():
            for first in range(0, len(column), BATCH):
                self._hash(name, column[first : first + BATCH])
        digests = [(str(schema.field(n)), h.hexdigest()) for n, h in self._hashes.items()]
        fingerprint = hashlib.blake2b(repr(digests).encode(), digest_size=8).hexdigest()
        added = [field for field in schema if field.name not in columns]
        table = self._place(fingerprint, pyarrow.schema(added))
        for name, column in columns.items():
            table = table.append_column(schema.field(name), column)
        # As the features have them: the fingerprint and the reader count on the order.
        table = table.select(list(self._features))
        return Dataset(table, DatasetInfo(features=self._features), fingerprint=fingerprint)

    def _hash(self, name: str, column: pyarrow.Array) -> None:
        # Copied, a column has lost what is accidental: where it starts in a larger buffer.
        batch = pyarrow.record_batch([pyarrow.concat_arrays([column])], [name])
        self._hashes[name].update(batch.serialize())

    def _put(self, batch: pyarrow.Table) -> None:
        for name in batch.column_names:
            self._hash(name, batch[name].chunk(0))
        self._bytes += batch.nbytes
        self._tables.append(batch)
        if self._writer is None and self._bytes <= IN_MEMORY:
            return
        with self._one_sentence():
            writer = self._open(batch)
            for table in self._tables:
                writer.write_table(table)
        self._tables = []

    def _open(self, batch: pyarrow.Table) -> ArrowWriter:
        if self._writer is None:
            folder = _make_temporary() if self._cache is None else Path(self._cache)
            folder.mkdir(parents=True, exist_ok=True)
            # Two processes may write the same file: each has its own until it is complete.
            number, name = tempfile.mkstemp(suffix=".part", dir=folder)
            self._part = Path(name)
            self._writer = ArrowWriter(schema=batch.schema, stream=os.fdopen(number, "wb"))
        return self._writer

    def _place(self, fingerprint: str, schema: pyarrow.Schema) -> Table:
        """The table that was written, at its place."""
        if self._writer is None or self._part is None:
            return InMemoryTable(pyarrow.concat_tables([schema.empty_table(), *self._tables]))
        with self._one_sentence():
            self._writer.finalize()
            path = self._part.rename(self._part.with_name(f"sympo-{fingerprint}.arrow"))
        self._part = None
        return MemoryMappedTable.from_file(str(path))

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            folder = self._cache or datasets.config.HF_DATASETS_CACHE
            raise ValueError(
                f"cannot write the pairs to {folder}: {error.strerror or error}; free some space, "
                "or give another folder as cache"
            ) from error
