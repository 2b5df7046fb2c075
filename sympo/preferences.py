"""Preference pairs in TRL's conversational format, from files, every row checked.

Four formats are read: HH dialogues, `prompt`/`chosen`/`rejected` text, and messages in TRL's or the
hub's form. The columns of the result: `prompt` (messages, the last one a user's), `chosen` and
`rejected` (one assistant message each) and `is_flipped` (bool). Every row of a file ends up in the
dataset or is counted in its `Report`, by the reason why not. Nothing is fetched here.
"""

import errno
import gzip
import hashlib
import json
import reprlib
import zlib
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from datasets import Dataset, Features, List, Value
from numpy.typing import ArrayLike, NDArray

from sympo import noise
from sympo._files import describe_error
from sympo._formats import (
    LONGEST,
    Message,
    Refused,
    build_pair,
    parse_dialogue,
    parse_prompt,
    read_flip,
    split_dialogues,
)
from sympo._tables import (
    BATCH,
    Keys,
    TableWriter,
    Turn,
    iter_tables,
    prompt_key,
    read_messages,
)

__all__ = [
    "MALFORMED_LIMIT",
    "Example",
    "Message",
    "Pairs",
    "Report",
    "Split",
    "drop_overlap",
    "flip_preferences",
    "hold_out",
    "load_file",
    "parse_dialogue",
    "parse_prompt",
    "parse_rows",
    "prompt_keys",
    "read_flip",
    "read_pairs",
    "read_rows",
    "row_generator",
    "split_dialogues",
    "split_pairs",
    "swap_answers",
    "take_fitting",
]

# ours: the HH test files have 2 malformed rows of 8,552, so more means another format
MALFORMED_LIMIT = 0.01

_MESSAGES = List({"role": Value("string"), "content": Value("string")})
_MESSAGE_FEATURES = Features({"prompt": _MESSAGES, "chosen": _MESSAGES, "rejected": _MESSAGES})
_FEATURES = Features({**_MESSAGE_FEATURES, "is_flipped": Value("bool")})
# What is read of a row.
_COLUMNS = {*_FEATURES, "score_chosen", "score_rejected", "metadata"}
# Lines or a batch of parquet, as it goes to the process that checks it.
_Payload: TypeAlias = bytes | pyarrow.RecordBatch
_BLOCK = 2**22  # bytes of lines; as Python objects 40 MB, and a tenth of a second of work
_TOO_LONG = f"a row of more than {LONGEST // 2**20} MiB"
# A column of a parquet file that unpacks to so many bytes, and so many times its size, is a bomb:
# what repeats is stored once there. So is one of more rows than these for each of its bytes.
_UNPACKED, _TIMES = 2**28, 200
_MANY_ROWS, _ROWS_PER_BYTE = 10**7, 100
# How many rows a report shows for each reason: enough to see what is wrong.
_EXAMPLES = 3


class Example(NamedTuple):
    """A row that a `Report` counts: the reason, the row's number in its file, and what it holds.

    Attributes:
        row: counted from 1; the line of a `.jsonl` file.
        value: what the reason is about, or the row, as text that is cut short.
    """

    reason: str
    row: int
    value: str


@dataclass(frozen=True)
class Report:
    """What became of the rows of one file or of several.

    Attributes:
        malformed: reason → rows that could not be read as a pair; more than 1% is an error.
        no_preference: reason → rows that are sound, but name no winner (equal answers, equal
            scores). Counted apart: 1.2% of helpful-rejection-sampled has chosen = rejected, which
            is no sign of a wrong format.
        noted: reason → rows that were kept, and look odd.
        files: name, source and sha256 of each file, for a record's provenance.
        examples: the first three rows of each reason, by file.
    """

    rows: int = 0
    kept: int = 0
    malformed: Counter[str] = field(default_factory=Counter)
    no_preference: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    files: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()

    def __add__(self, other: "Report") -> "Report":
        """The report of both files together."""
        # Field by field: numbers, counters and tuples all add up.
        return Report(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __str__(self) -> str:
        """One line: how many rows were kept, and each reason with its count."""
        parts = [f"{self.kept} of {self.rows} rows kept"]
        for kind in ("malformed", "no_preference", "noted"):
            counts = getattr(self, kind)
            if counts:
                reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
                parts.append(f"{kind.replace('_', ' ')}: {reasons}")
        return "; ".join(parts)


class Pairs(NamedTuple):
    """A dataset of pairs and the report of the rows that it comes from."""

    dataset: Dataset
    report: Report


class Split(NamedTuple):
    """Training and test pairs that share no prompt; `overlap` training rows were dropped."""

    train: Dataset
    test: Dataset
    train_report: Report
    test_report: Report
    overlap: int

    def source(self) -> dict[str, str]:
        """The files, `data`, and one hash of their names and content, `data_sha256`."""
        files = (*self.train_report.files, *self.test_report.files)
        # Without the place that a file came from: the same bytes are the same data.
        content = [(name.partition(" from ")[0], name.rpartition(" ")[2]) for name in files]
        return {
            "data": "; ".join(files),
            "data_sha256": hashlib.sha256(repr(content).encode()).hexdigest(),
        }


class _Block(NamedTuple):
    """Rows that were read together: their pairs, and the column `is_flipped` by itself.

    What a row without it says (False or unknown) depends on whether any row of the file has it.
    """

    table: pyarrow.Table
    flips: pyarrow.Array
    flips_named: bool
    report: Report


def _pack(cells: list[list[Message]]) -> pyarrow.Array:
    """A column of messages; from its parts, as Arrow takes long to look into dicts."""
    messages = [message for cell in cells for message in cell]
    kind = _MESSAGE_FEATURES.arrow_schema.field("prompt").type
    parts = [
        pyarrow.array([message[name] for message in messages], pyarrow.string())
        for name in ("role", "content")
    ]
    struct = pyarrow.StructArray.from_arrays(parts, type=kind.value_type)
    ends = np.cumsum([0, *map(len, cells)], dtype=np.int32)
    return pyarrow.ListArray.from_arrays(pyarrow.array(ends), struct, type=kind)


def _check_rows(rows: Iterable[tuple[int, Any]], ties: str) -> _Block:
    """What becomes of numbered rows."""
    pairs: list[dict[str, Any]] = []
    counts: dict[str, Counter[str]] = {
        kind: Counter() for kind in ("malformed", "no_preference", "noted")
    }
    examples: list[Example] = []
    flips_named = False
    total = 0
    for number, row in rows:
        total += 1
        flips_named |= isinstance(row, dict) and "is_flipped" in row
        try:
            pair, oddities = build_pair(row, ties)
        except Refused as refused:
            kind: str = refused.kind
            reasons = [str(refused)]
            value = row if refused.value is None else refused.value
        else:
            pairs.append(pair)
            kind, reasons, value = "noted", oddities, row
        for reason in reasons:
            counts[kind][reason] += 1
            if counts[kind][reason] <= _EXAMPLES:
                examples.append(Example(reason, number, reprlib.repr(value)))
    columns = [_pack([pair[name] for pair in pairs]) for name in _MESSAGE_FEATURES]
    return _Block(
        pyarrow.table(columns, schema=_MESSAGE_FEATURES.arrow_schema),
        pyarrow.array([pair["is_flipped"] for pair in pairs], pyarrow.bool_()),
        flips_named,
        Report(
            total,
            len(pairs),
            counts["malformed"],
            counts["no_preference"],
            counts["noted"],
            examples=tuple(examples),
        ),
    )


def _join_blocks(blocks: Iterable[_Block], cache: str | Path | None) -> Pairs:
    """The pairs of blocks that are not kept."""
    report = Report()
    flips = []
    flips_named = False
    with TableWriter(_FEATURES, cache) as writer:
        for block in blocks:
            writer.add(block.table)
            flips.append(block.flips)
            flips_named |= block.flips_named
            report += block.report
        column = pyarrow.concat_arrays([pyarrow.array([], pyarrow.bool_()), *flips])
        # Where nobody says which labels are wrong, the published ones count as the truth.
        dataset = writer.finish(is_flipped=column if flips_named else column.fill_null(False))
    counts: Counter[str] = Counter()
    examples = []
    # Every block brought examples of its own.
    for example in report.examples:
        counts[example.reason] += 1
        if counts[example.reason] <= _EXAMPLES:
            examples.append(example)
    return Pairs(dataset, replace(report, examples=tuple(examples)))


def _check_ties(ties: str) -> None:
    if ties not in ("drop", "keep"):
        raise ValueError(f"ties = {ties!r} is not a choice: give 'drop' or 'keep'")


def parse_rows(rows: Iterable[Any], *, ties: Literal["drop", "keep"] = "drop") -> Pairs:
    """Pairs from rows of any format named at the top of this module.

    Args:
        rows: as JSON gives them; what is no dict is counted as no JSON object.
        ties: what becomes of rows whose two scores are equal. They name no winner, so they are
            dropped (and counted) unless "keep" asks for the data set as published. A row without
            scores is never a tie.
    Raises:
        ValueError: `ties` is neither.
    """
    _check_ties(ties)
    numbered = enumerate(rows, start=1)
    batches = iter(lambda: list(islice(numbered, BATCH)), [])
    return _join_blocks((_check_rows(batch, ties) for batch in batches), None)


def _check_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise Refused("a key twice in one object")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_check_keys)


def _parse_line(line: bytes) -> Any:
    if len(line) > LONGEST:
        return Refused(_TOO_LONG, value=line[:100])
    # A line that is no JSON stands for itself, and is refused as any other value but an object is.
    try:
        # As json.loads does, which would make a decoder for every line.
        return _DECODER.decode(line.decode(json.detect_encoding(line), "surrogatepass"))
    except Refused as refused:
        refused.value = line[:100]
        return refused
    except (ValueError, RecursionError):
        return line


def _check_size(file: pyarrow.parquet.ParquetFile, names: Collection[str]) -> None:
    """Refuse a file that says it unpacks to much more than it holds."""
    told = file.metadata
    for group in map(told.row_group, range(told.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            size = column.total_uncompressed_size
            packed = column.total_compressed_size
            name = column.path_in_schema.partition(".")[0]
            if name in names and size > max(_UNPACKED, _TIMES * packed):
                raise ValueError(f"its column {name} unpacks {packed:,} bytes to {size:,}")
        if group.num_rows > max(_MANY_ROWS, _ROWS_PER_BYTE * group.total_byte_size):
            raise ValueError(
                f"it says that {group.total_byte_size:,} bytes are {group.num_rows:,} rows"
            )


def _read_lines(lines: BufferedIOBase) -> Iterator[bytes]:
    """Blocks of whole lines; of a line that is too long only its beginning."""
    while block := lines.read(_BLOCK):
        rest = lines.readline(LONGEST + 1)
        cut = len(rest) > LONGEST and not rest.endswith(b"\n")
        while cut and (skipped := lines.readline(_BLOCK)):
            cut = not skipped.endswith(b"\n")
            if not cut:
                rest += b"\n"
        yield block + rest


def _read_blocks(path: Path) -> Iterator[tuple[int, _Payload]]:
    """The number of its first row, and whole lines or a record batch, for each part of a file.

    Raises:
        ValueError: the file is of another kind, or cannot be read.
    """
    number = 1
    try:
        if path.is_dir():  # of which pyarrow has its own sentence
            raise IsADirectoryError(errno.EISDIR, "a folder", path)
        if path.suffix == ".parquet":
            with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
                # Other columns may be large: UltraFeedback has every answer twice.
                names = [name for name in file.schema_arrow.names if name in _COLUMNS]
                _check_size(file, names)
                for batch in file.iter_batches(BATCH, columns=names):
                    yield number, batch
                    number += len(batch)
            return
        if path.name.endswith((".json", ".json.gz")):
            raise ValueError(
                "write one row a line, each a JSON object, to a file that ends in .jsonl"
            )
        if not path.name.endswith((".jsonl", ".jsonl.gz")):
            raise ValueError("its name ends neither in .jsonl, .jsonl.gz nor .parquet")
        # Bytes: a line that is not UTF-8 is then one bad row, and not an unreadable file.
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as lines:
            for block in _read_lines(lines):
                yield number, block
                number += block.count(b"\n")
    except (OSError, EOFError, ValueError, zlib.error, pyarrow.ArrowException) as error:
        # What the system refuses is no fault of the content.
        if isinstance(error, OSError) and error.errno is not None:
            raise ValueError(describe_error(error, path)) from error
        # Arrow's reasons have several lines.
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot read {path.name} as preferences: {reason[:300]}; fetch it again or convert it"
        ) from error


def _number_rows(number: int, payload: _Payload) -> Iterator[tuple[int, Any]]:
    """The rows of a block, numbered as in the file."""
    if isinstance(payload, bytes):
        lines = enumerate(payload.split(b"\n"), start=number)
        yield from ((i, _parse_line(line)) for i, line in lines if line.strip())
        return
    if payload.nbytes <= _UNPACKED:
        # What Python has no value for: text that is not UTF-8, dates beyond its calendar.
        with suppress(ValueError, OverflowError, pyarrow.ArrowException):
            yield from enumerate(payload.to_pylist(), start=number)
            return
    # One row at a time shows which one it is.
    rows = (payload.slice(i, 1) for i in range(len(payload)))
    yield from ((i, _list_row(row)) for i, row in enumerate(rows, start=number))


def _list_row(batch: pyarrow.RecordBatch) -> Any:
    if batch.nbytes > LONGEST:
        return Refused(_TOO_LONG, value="")
    try:
        (row,) = batch.to_pylist()
    except (ValueError, OverflowError, pyarrow.ArrowException):
        return None
    return row


def read_rows(path: Path) -> Iterator[Any]:
    """The rows of a `.jsonl`, `.jsonl.gz` or `.parquet` file; bytes for a line that is not JSON.

    For one that is refused whatever it holds, such as one that is too long, the error with which it
    will be.

    Of a `.parquet` file only the columns that pairs are made of.

    Raises:
        ValueError: the file is of another kind, or cannot be read.
    """
    for block in _read_blocks(path):
        for _, row in _number_rows(*block):
            yield row


def _check_block(number: int, payload: _Payload, ties: str) -> _Block:
    return _check_rows(_number_rows(number, payload), ties)


def _check_file(path: Path, ties: str, processes: int) -> Iterator[_Block]:
    """The checked blocks of a file, in its order."""
    # A pool takes longer to start than a small file to read.
    if processes == 1 or not path.is_file() or path.stat().st_size <= _BLOCK:
        for block in _read_blocks(path):
            yield _check_block(*block, ties)
        return
    waiting: deque[Future[_Block]] = deque()
    try:
        with ProcessPoolExecutor(processes) as pool:
            for block in _read_blocks(path):
                waiting.append(pool.submit(_check_block, *block, ties))
                # Two for each process keep all busy; the rest of the file can wait on disk.
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ValueError(
            f"a process that checked rows of {path.name} ended before its time: give processes=1, "
            'or put what your script does under if __name__ == "__main__":'
        ) from error


def read_pairs(
    path: str | Path,
    *,
    ties: Literal["drop", "keep"] = "drop",
    processes: int = 1,
    cache: str | Path | None = None,
) -> Pairs:
    """The pairs of one file in any of the four formats, however many rows are no pairs.

    The file is read in blocks, so that memory is bounded whatever its size. Pairs of up to 64 MB
    stay in memory; more go to an Arrow file, from which the dataset is mapped.

    Args:
        ties: as for `parse_rows`.
        processes: that check rows; the result is the same. They start as everywhere in Python: a
            script that asks for several on macOS or Windows needs `if __name__ == "__main__":`.
        cache: the folder of the Arrow file, which stays there. By default it is a temporary one
            under the cache of `datasets` (HF_DATASETS_CACHE), deleted when Python ends.
    Raises:
        ValueError: the file cannot be read at all, or the pairs cannot be written. Bad rows are in
            the report.
    Check: tests/library/test_preferences.py.
    """
    _check_ties(ties)
    if processes < 1:
        raise ValueError(f"processes = {processes}: give the number of processes, 1 or more")
    return _join_blocks(_check_file(Path(path), ties, processes), cache)


def load_file(
    path: str | Path,
    *,
    ties: Literal["drop", "keep"] = "drop",
    malformed_limit: float = MALFORMED_LIMIT,
    processes: int = 1,
    cache: str | Path | None = None,
) -> Pairs:
    """The pairs of one file, in any of the four formats, where nearly every row is one.

    Args:
        ties, processes, cache: as for `read_pairs`.
        malformed_limit: the share of malformed rows beyond which the file is refused.
    Raises:
        ValueError: as `read_pairs`, or more of its rows are malformed, or none is a pair; the
            message has the counts.
    Check: tests/library/test_preferences.py.
    """
    pairs = read_pairs(path, ties=ties, processes=processes, cache=cache)
    report = pairs.report
    # Reading on would train on what is left of a file that was misunderstood.
    if report.malformed.total() > malformed_limit * report.rows or not report.kept:
        raise ValueError(
            f"{Path(path).name} is not a file of preference pairs ({report}); convert or repair it"
        )
    return pairs


def split_pairs(train: Pairs, test: Pairs) -> Split:
    """Training and test pairs that share no prompt; the overlap leaves the training pairs."""
    # From the training part, so that results on the test part stay comparable with others'.
    kept, overlap = drop_overlap(train.dataset, test.dataset)
    return Split(kept, test.dataset, train.report, test.report, overlap)


def _make_prompt_keys(table: pyarrow.Table) -> Iterator[tuple[Turn, ...]]:
    return map(prompt_key, read_messages(table, "prompt"))


def prompt_keys(dataset: Dataset) -> Collection[tuple[Turn, ...]]:
    """What makes two prompts the same: the turns but for system turns, case and spacing.

    One key per row, made anew in each iteration, as those of a large dataset do not fit memory.

    Raises:
        ValueError: at the iteration, where the prompts are no messages.
    """
    return Keys(dataset, ["prompt"], _make_prompt_keys)


def _hash_prompts(dataset: Dataset) -> Iterator[bytes]:
    # 16 bytes per prompt, among which two equal ones by chance are not to be expected.
    for key in prompt_keys(dataset):
        yield hashlib.blake2b(repr(key).encode(), digest_size=16).digest()


def drop_overlap(train: Dataset, test: Dataset) -> tuple[Dataset, int]:
    """`train` without the rows whose prompt is also in `test`, and how many they were.

    Raises:
        ValueError: prompts that are no messages, as in TRL's datasets of text.
    """
    seen = set(_hash_prompts(test))
    new = np.fromiter((key not in seen for key in _hash_prompts(train)), bool, len(train))
    return train.select(np.flatnonzero(new)), len(train) - int(new.sum())


def hold_out(dataset: Dataset, *, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """A training and a test part that share no prompt.

    Each prompt is held out with probability `fraction`. The draw is keyed by the prompt: it does
    not depend on the other rows, and a larger fraction holds out a superset.

    Raises:
        ValueError: a fraction outside (0, 1), or prompts that are no messages.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction = {fraction} is not a share: give a number in (0, 1)")
    # By prompt and not by row: a prompt with two pairs would otherwise be on both sides.
    keys = prompt_keys(dataset)
    held = noise.RowGenerator(keys, seed).random(len(keys)) < fraction
    return dataset.select(np.flatnonzero(~held)), dataset.select(np.flatnonzero(held))


def take_fitting(
    dataset: Dataset, tokenizer: Any, *, count: int, max_prompt: int, max_length: int
) -> Dataset:
    """The first `count` pairs that fit a model, or all there are.

    Args:
        tokenizer: has the chat template of the model.
        max_prompt: tokens that the prompt may have.
        max_length: tokens that the prompt with either answer may have.
    """

    def count_tokens(messages: list[Message]) -> int:
        # With the template, whose markers count against the limit as words do.
        return len(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])

    def fits(row: dict[str, Any]) -> bool:
        prompt = row["prompt"]
        longest = max(count_tokens(prompt + row[side]) for side in ("chosen", "rejected"))
        return count_tokens(prompt) <= max_prompt and longest <= max_length

    # One row at a time: no more than needed of a large dataset is tokenised.
    fitting = (i for i, row in enumerate(dataset) if fits(row))
    return dataset.select(list(islice(fitting, count)))


def _make_pair_keys(table: pyarrow.Table) -> Iterator[tuple[Any, ...]]:
    columns = (read_messages(table, name) for name in _MESSAGE_FEATURES)
    # The keys are hashed by their repr: another type or order here would give other flips.
    for prompt, *answers in zip(*columns, strict=True):
        yield (prompt, *sorted(answers))


def row_generator(dataset: Dataset, seed: int) -> noise.RowGenerator:
    """Uniform numbers keyed by (prompt, the set of the two answers).

    Neither the order of rows nor who won changes a number.

    Raises:
        ValueError: at the draw, where the columns are no messages.
    """
    return noise.RowGenerator(Keys(dataset, list(_MESSAGE_FEATURES), _make_pair_keys), seed)


def _read_flips(dataset: Dataset) -> pyarrow.BooleanArray:
    """The column `is_flipped` `(rows,)`, null where it is unknown."""
    parts = [pyarrow.array([], pyarrow.bool_())]
    for table in iter_tables(dataset, ["is_flipped"]):
        column = table["is_flipped"].combine_chunks()
        # A user's own dataset may hold 0 and 1; what a file holds was checked when it was read.
        if column.type != pyarrow.bool_():
            column = pyarrow.array(map(read_flip, column.to_pylist()), pyarrow.bool_())
        parts.append(column)
    return pyarrow.concat_arrays(parts)


def _swap_columns(table: pyarrow.Table, flips: NDArray[np.bool_]) -> pyarrow.Table:
    """A batch with the columns swapped that are named alike, messages or numbers, where `flips`."""
    rows = np.arange(len(table))
    # With the rows of the two columns one after the other: where to find those of either.
    first = np.where(flips, rows + len(table), rows)
    second = np.where(flips, rows, rows + len(table))
    for name in [name for name in table.column_names if "chosen" in name]:
        other = name.replace("chosen", "rejected")
        if other in table.column_names:
            both = pyarrow.chunked_array([*table[name].chunks, *table[other].chunks])
            for side, rows_of_side in ((name, first), (other, second)):
                column = both.combine_chunks().take(pyarrow.array(rows_of_side))
                table = table.set_column(
                    table.column_names.index(side), table.schema.field(side), column
                )
    return table


def swap_answers(
    dataset: Dataset, flipped: ArrayLike, *, cache: str | Path | None = None
) -> Dataset:
    """The dataset with chosen and rejected swapped where `flipped`, and `is_flipped` toggled there.

    Every pair of columns named alike (`ref_chosen_logps` and `ref_rejected_logps`) is swapped
    along, so that one reference pass serves every noise rate. Where `is_flipped` is unknown it
    stays so.

    Args:
        flipped: `(rows,)` bool, from any pattern of `sympo.noise`.
        cache: the folder of the result, if it is large, as for `read_pairs`.
    Raises:
        ValueError: `flipped` has another shape, or there is no column is_flipped.
    """
    flips = np.asarray(flipped, dtype=bool)
    if flips.shape != (len(dataset),):
        raise ValueError(
            f"flipped has shape {flips.shape}, but there are {len(dataset)} rows: "
            "give one bool per row"
        )
    names = [name for name in dataset.column_names if name != "is_flipped"]
    with TableWriter(dataset.features, cache) as writer:
        start = 0
        for table in iter_tables(dataset, names):
            writer.add(_swap_columns(table, flips[start : start + len(table)]))
            start += len(table)
        # A row that is flipped twice is right again.
        toggled = pyarrow.compute.xor(_read_flips(dataset), pyarrow.array(flips))
        kind = dataset.features.arrow_schema.field("is_flipped").type
        return writer.finish(is_flipped=toggled.cast(kind))


def flip_preferences(
    dataset: Dataset, noise_rate: float, *, seed: int, cache: str | Path | None = None
) -> Dataset:
    """The dataset with each label flipped with probability `noise_rate`.

    What flips at a low rate flips at a higher one too.

    Args:
        dataset: clean pairs, no row flipped yet.
        noise_rate: ε in [0, ½).
        seed: another seed gives independent flips.
        cache: the folder of the result, if it is large, as for `read_pairs`.
    Raises:
        ValueError: a rate that `noise.check_rate` refuses, a dataset that is already flipped, or
            one without the column is_flipped or whose other columns are no messages.
    Check: tests/library/test_preferences.py.
    """
    noise_rate = noise.check_rate(noise_rate)
    if pyarrow.compute.any(_read_flips(dataset)).as_py():
        raise ValueError(
            "the dataset already holds flipped rows: flip the clean dataset, since rates do not "
            "add up"
        )
    # In a row of a dataset the first answer is the chosen one: every label is +1, and a flip is −1.
    labels = np.ones(len(dataset), dtype=int)
    noisy = noise.flip(labels, noise_rate, noise_rate, row_generator(dataset, seed))
    return swap_answers(dataset, noisy < 0, cache=cache)
