"""One pass over a dataset of pairs: what repeats, what contradicts, what cannot be seen.

A row is reduced to a few numbers as its batch goes by, so that a million pairs need about 80 MB
whatever their texts' length.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from sympo._tables import Turn, iter_tables, prompt_key, read_messages

__all__ = ["Comparisons", "Scan", "compare_rows", "normalise", "read_answers", "scan"]

Hashes = NDArray[np.uint64]

_PART = 20_000  # ours: rows for a process at a time, half a second of work
_PIECE = 1000  # ours: characters that are composed at a time

# What a normalised text leaves out. Signs that carry meaning in formulas and code stay.
_PUNCTUATION = ".,;:!?\"'()[]*_`#~"
_ASCII_SPACE = bytes(range(33)) + b"\x7f"
_DELETED = _PUNCTUATION.encode() + _ASCII_SPACE
_LOWER = bytes(range(256)).lower()
# Spaces, characters of no width, fillers and controls beyond ASCII's.
_UNSEEN = (
    r"\x80-\xa0\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u1680\u180b-\u180f"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
_INVISIBLE = re.compile(rf"[\s\x00-\x1f\x7f{_UNSEEN}]+")
# What is dropped of a text beyond its ASCII.
_DROPPED = re.compile(f"[{_UNSEEN}‘’‚“”„«»‹›–—…、。，！？：；]+")


def normalise(text: str) -> bytes:
    """`text` without case, spacing, punctuation and invisible characters, as UTF-8.

    A text of nothing else stays as it is.
    """
    # Most texts are ASCII, and bytes are translated twenty times as fast as text is matched.
    if text.isascii():
        plain = text.encode().translate(_LOWER, _DELETED)
    else:
        folded = _DROPPED.sub("", _compose(text).casefold())
        # The bytes of other characters are none of ASCII's.
        plain = folded.encode("utf-8", "surrogatepass").translate(None, _DELETED)
    return plain or text.encode("utf-8", "surrogatepass")


def _compose(text: str) -> str:
    """`text` in the form NFKC, in pieces that end before a space where there is one."""
    # Unicode sorts the marks on one letter, in time that is quadratic in their number.
    parts = []
    start = 0
    while start < len(text):
        end = text.find(" ", start + _PIECE, start + 2 * _PIECE)
        end = start + 2 * _PIECE if end < 0 else end
        parts.append(unicodedata.normalize("NFKC", text[start:end]))
        start = end
    return "".join(parts)


@dataclass(frozen=True)
class Scan:
    """Each row in numbers, `(rows,)` each.

    Attributes:
        prompt: hash of the prompt as `preferences.prompt_keys` tells prompts apart.
        chosen, rejected: hashes of the answers, letter for letter.
        near_prompt, near_chosen, near_rejected: hashes of the normalised texts.
        chosen_length, rejected_length: characters.
        invisible: whether an answer holds nothing that can be seen, though it is not empty.
        flipped: 1 flipped, 0 not, −1 unknown.
    """

    prompt: Hashes
    chosen: Hashes
    rejected: Hashes
    near_prompt: Hashes
    near_chosen: Hashes
    near_rejected: Hashes
    chosen_length: NDArray[np.int32]
    rejected_length: NDArray[np.int32]
    invisible: NDArray[np.bool_]
    flipped: NDArray[np.int8]


_HASHES = ("prompt", "chosen", "rejected", "near_prompt", "near_chosen", "near_rejected")
_LENGTHS = ("chosen_length", "rejected_length")


def scan(dataset: Dataset, *, processes: int = 1) -> Scan:
    """The rows of a dataset in numbers.

    Args:
        dataset: as `sympo.preferences` gives it.
        processes: that read it, where it is large and lies in a file.
    Raises:
        ValueError: a column is missing, or holds no messages.
    Check: tests/library/test_audit.py.
    """
    rows = len(dataset)
    # What lies in memory would have to be copied to each process.
    if processes == 1 or not dataset.cache_files or rows <= _PART:
        return _scan_part(dataset)
    parts = [dataset.select(range(at, min(at + _PART, rows))) for at in range(0, rows, _PART)]
    with ProcessPoolExecutor(processes) as pool:
        scans = list(pool.map(_scan_part, parts))
    columns = {
        field.name: np.concatenate([getattr(part, field.name) for part in scans])
        for field in fields(Scan)
    }
    return Scan(**columns)


def _scan_part(dataset: Dataset) -> Scan:
    rows = len(dataset)
    hashes = {name: np.empty(rows, dtype=np.uint64) for name in _HASHES}
    lengths = {name: np.empty(rows, dtype=np.int32) for name in _LENGTHS}
    invisible = np.zeros(rows, dtype=bool)
    flipped = np.full(rows, -1, dtype=np.int8)
    start = 0
    for prompts, chosen, rejected, flips in _read_batches(dataset):
        end = start + len(chosen)
        here = slice(start, end)
        keys = [_prompt_texts(prompt) for prompt in prompts]
        answers = (chosen, rejected)
        columns = [
            [key for key, _ in keys],
            *([text.encode("utf-8", "surrogatepass") for text in texts] for texts in answers),
            [near for _, near in keys],
            *([normalise(text) for text in texts] for texts in answers),
        ]
        for name, column in zip(_HASHES, columns, strict=True):
            hashes[name][here] = _hash(column)
        for name, texts in zip(_LENGTHS, answers, strict=True):
            lengths[name][here] = [len(text) for text in texts]
            invisible[here] |= [is_invisible(text) for text in texts]
        flipped[here] = [-1 if flip is None else int(flip) for flip in flips]
        start = end
    prompt, won, lost, near_prompt, near_won, near_lost = hashes.values()
    won_length, lost_length = lengths.values()
    return Scan(
        prompt,
        won,
        lost,
        near_prompt,
        near_won,
        near_lost,
        won_length,
        lost_length,
        invisible,
        flipped,
    )


def read_answers(dataset: Dataset) -> tuple[list[str], list[str]]:
    """The chosen and the rejected answers, as text."""
    chosen: list[str] = []
    rejected: list[str] = []
    for _, winners, losers, _ in _read_batches(dataset):
        chosen += winners
        rejected += losers
    return chosen, rejected


def is_invisible(text: str) -> bool:
    """Whether `text` holds something of which nothing can be seen."""
    # The first visible character ends the match, which is the first one of nearly every text.
    return _INVISIBLE.fullmatch(text) is not None


def _hash(texts: list[bytes]) -> Hashes:
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u8")


def _prompt_texts(prompt: list[Turn]) -> tuple[bytes, bytes]:
    """What makes two prompts the same, and nearly the same."""
    # Separators that no text holds once its spacing is folded.
    same = "\n".join(f"{role}\t{text}" for role, text in prompt_key(prompt))
    near = b"\n".join(
        role.encode() + b"\t" + normalise(content) for role, content in prompt if role != "system"
    )
    return same.encode("utf-8", "surrogatepass"), near


def _read_batches(
    dataset: Dataset,
) -> Iterator[tuple[Iterator[list[Turn]], list[str], list[str], list[bool | None]]]:
    """Prompts as turns, chosen and rejected answers, and flips, batch by batch."""
    columns = ["prompt", "chosen", "rejected"]
    has_flips = "is_flipped" in dataset.column_names
    for table in iter_tables(dataset, [*columns, "is_flipped"] if has_flips else columns):
        prompts, chosen, rejected = (read_messages(table, name) for name in columns)
        flips = table["is_flipped"].to_pylist() if has_flips else [None] * table.num_rows
        yield prompts, _join(chosen), _join(rejected), flips


def _join(answers: Iterable[list[Turn]]) -> list[str]:
    # One message in every dataset of ours; TRL takes several.
    return [
        answer[0][1] if len(answer) == 1 else "\n".join(content for _, content in answer)
        for answer in answers
    ]


@dataclass(frozen=True)
class Comparisons:
    """The rows by pair of answers, whichever of the two won.

    Attributes:
        first_row: `(pairs,)`, a row of each pair.
        pair: `(rows,)`, the pair of each row.
        plus, minus: `(pairs,)`, how often the answer of the smaller hash won, and the other one.
    """

    first_row: NDArray[np.int64]
    pair: NDArray[np.int64]
    plus: NDArray[np.int64]
    minus: NDArray[np.int64]

    @property
    def repeats(self) -> int:
        """Rows that say once more what another row has said."""
        return int((np.maximum(self.plus - 1, 0) + np.maximum(self.minus - 1, 0)).sum())

    @property
    def contradicted(self) -> NDArray[np.bool_]:
        """Which pairs have rows with either winner, `(pairs,)`."""
        both: NDArray[np.bool_] = (self.plus > 0) & (self.minus > 0)
        return both


def compare_rows(prompt: Hashes, chosen: Hashes, rejected: Hashes) -> Comparisons:
    """The rows by prompt and pair of answers."""
    keys = mix(prompt, np.minimum(chosen, rejected), np.maximum(chosen, rejected))
    _, first_row, pair = np.unique(keys, return_index=True, return_inverse=True)
    wins = chosen < rejected
    count = len(first_row)
    plus = np.bincount(pair[wins], minlength=count)
    minus = np.bincount(pair[~wins], minlength=count)
    return Comparisons(first_row, pair, plus, minus)


def mix(*hashes: Hashes) -> Hashes:
    """One hash of several, row by row; their order counts."""
    mixed = np.zeros_like(hashes[0])
    for part in hashes:
        # An odd multiplier, and a shift that carries high bits down (as in splitmix64).
        mixed = (mixed ^ part) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(31)
    return mixed
