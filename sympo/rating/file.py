"""The file that keeps ratings: lines are added to it, and nothing in it is ever rewritten.

It is JSONL. The first line names the items that it is about; each further line is one rating, or
takes one back. A line is on the disk before the next pair is shown, so that a kill costs at most
the rating that was being written. Several raters, and several processes, may share a file.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasets import Dataset

from sympo._files import read_bounded
from sympo.rating.items import Items, digest, draw_items
from sympo.rating.ratings import (
    RatedRows,
    Rating,
    Ratings,
    check_rating,
    describe_duplicate,
    rated_rows,
)

__all__ = ["RatingFile", "read_rated_rows", "read_ratings"]

# Raised when files of the old form can no longer be read.
_VERSION = 2
# Another process holds the file for milliseconds.
_PATIENCE = 10.0  # seconds
_MOST = 2**28  # ours: bytes, which are a million ratings
# The fields of a line that are read.
_TEXTS = ("pair", "undo", "rater", "verdict", "at")


class RatingFile:
    """The ratings of some items on disk.

    Several of them, in one process or in several, may have the same file open.

    Args:
        path: the file; made, with its folder, where there is none.
        items: what is rated; a file of other items is refused.
        simulated: whether the ratings are those of a program. A file holds one kind.
    Raises:
        ValueError: a file of other items, of the other kind, or that is no ratings file; it is
            left as it is.
        TimeoutError: another process has kept the file locked for ten seconds.
    Check: tests/library/test_rating_file.py, with kills at every byte and two processes.
    """

    def __init__(self, path: str | Path, items: Items, *, simulated: bool = False) -> None:
        self.path = Path(path)
        self.items = items
        self.simulated = simulated
        self._by_key = {item.key: item for item in items}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._mend()

    @property
    def ratings(self) -> Ratings:
        """What stands in the file now, whoever wrote it."""
        return read_ratings(self.path, self.items)

    def add(self, key: str, verdict: str, *, rater: str) -> None:
        """Append one rating; it is on the disk when this returns.

        Raises:
            ValueError: the rater has rated the item, and what `Ratings` refuses.
            TimeoutError: as above.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rating = Rating(key, rater, verdict, now)
        check_rating(rating, set(self._by_key))
        with self._locked():
            if (key, rater) in self._mend():
                raise ValueError(describe_duplicate(rating))
            self._append([self._describe(rating)])

    def add_all(self, ratings: Ratings) -> int:
        """Append the ratings of a sheet or a simulation that are not in the file yet.

        Returns:
            how many were added. The same sheet may be added again when it is complete.
        Raises:
            ValueError: ratings of other items or of the other kind, or one that contradicts the
                file; then nothing is added.
        """
        if ratings.items.identity != self.items.identity:
            raise ValueError(f"{self.path} is about other items than these ratings")
        if ratings.simulated != self.simulated:
            raise ValueError(
                f"{self.path} is for {_kind(self.simulated)} ratings, and these are "
                f"{_kind(ratings.simulated)}: give them a file of their own"
            )
        with self._locked():
            standing = self._mend()
            for rating in ratings:
                other = standing.get(rating[:2])
                if other is not None and other.verdict != rating.verdict:
                    raise ValueError(describe_duplicate(rating))
            new = [rating for rating in ratings if rating[:2] not in standing]
            self._append([self._describe(rating) for rating in new])
        return len(new)

    def undo(self, *, rater: str) -> Rating | None:
        """Take back the rater's last rating that stands, by a line that says so.

        Returns:
            the rating that no longer stands; None where there was none.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._locked():
            own = [rating for rating in self._mend().values() if rating.rater == rater]
            if not own:
                return None
            self._append([{"undo": own[-1].key, "rater": rater, "at": now}])
        return own[-1]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # datasets and torch need it, so it is there
        from filelock import FileLock, Timeout

        try:
            # hidden: it stays beside the file, and nobody needs to see it
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_PATIENCE):
                yield
        except Timeout:
            raise TimeoutError(
                f"another process has kept {self.path} locked for {_PATIENCE:.0f} seconds: "
                "end it, and try again"
            ) from None

    def _header(self) -> dict[str, Any]:
        return {
            "sympo_ratings": _VERSION,
            "items": self.items.identity,
            "seed": self.items.seed,
            "count": len(self.items) + len(self.items.equal),
            "simulated": self.simulated,
        }

    def _describe(self, rating: Rating) -> dict[str, Any]:
        item = self._by_key[rating.key]
        line = {
            "pair": rating.key,
            "row": item.row,
            "rater": rating.rater,
            "verdict": rating.verdict,
            # the two texts in their order, by themselves: labels may change
            "shown": [digest(text)[:16] for text in item.shown],
            "at": rating.at,
        }
        return {**line, "simulated": True} if self.simulated else line

    def _mend(self) -> dict[tuple[str, str], Rating]:
        """What stands in the file, which then ends with a whole line."""
        content = read_bounded(self.path, _MOST) if self.path.exists() else b""
        header = _encode(self._header())
        # nothing yet, or a header that a kill cut short
        if header.startswith(content) and content != header:
            self._truncate(0)
            self._append([self._header()])
            return {}
        standing, simulated = _parse(content, self.path, self.items)
        if simulated != self.simulated:
            raise ValueError(
                f"{self.path} is for {_kind(simulated)} ratings: give {_kind(self.simulated)} "
                "ones a file of their own"
            )
        _, whole = _split(content)
        if whole < len(content):
            self._truncate(whole)
        return standing

    def _truncate(self, size: int) -> None:
        with self.path.open("ab") as file:
            file.truncate(size)

    def _append(self, lines: list[dict[str, Any]]) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(_encode(line) for line in lines))
            file.flush()
            os.fsync(file.fileno())


def read_ratings(path: str | Path, items: Items) -> Ratings:
    """The ratings that stand in a file; the file is not touched, and may be in use.

    Raises:
        ValueError: a file of other items, or a line that is no rating, by its number.
        FileNotFoundError: no file.
    Check: tests/library/test_rating_file.py.
    """
    standing, simulated = _parse(read_bounded(path, _MOST), Path(path), items)
    return Ratings(items, tuple(standing.values()), simulated)


def read_rated_rows(path: str | Path, pairs: Dataset, *, rater: str | None = None) -> RatedRows:
    """`rated_rows` of a file, from the dataset that its items were drawn from by `draw_items`.

    The labels may have changed since: the signs are those of the labels of `pairs`.

    Raises:
        ValueError: a file of another dataset, and what `read_ratings` and `rated_rows` refuse.
    Check: tests/library/test_rating_file.py.
    """
    header = _read_header(read_bounded(path, _MOST), Path(path))
    count = header["count"]
    if not 0 < count <= len(pairs) or header["seed"] < 0:
        raise ValueError(f"{path} is about other pairs: name the file that its items are from")
    items = draw_items(pairs, seed=header["seed"], count=count)
    return rated_rows(read_ratings(path, items), rater=rater)


def _encode(line: dict[str, Any]) -> bytes:
    # ASCII, so that no character is torn
    return json.dumps(line).encode() + b"\n"


def _split(content: bytes) -> tuple[list[bytes], int]:
    """The lines that are whole, and how many bytes they take.

    A kill may leave the beginning of a line. It was never acknowledged, and does not count.
    """
    whole = content.rfind(b"\n") + 1
    return content[:whole].split(b"\n")[:-1], whole


def _read_header(content: bytes, path: Path) -> dict[str, Any]:
    lines, _ = _split(content)
    header = _decode(lines[0]) if lines else {}
    kinds = {"sympo_ratings": int, "items": str, "seed": int, "count": int, "simulated": bool}
    if not all(isinstance(header.get(name), kind) for name, kind in kinds.items()):
        raise ValueError(
            f"{path} is no ratings file: name another one, or read a sheet with "
            "sympo.rating.read_sheet and add its ratings to a file (RatingFile.add_all)"
        )
    if header["sympo_ratings"] != _VERSION:
        raise ValueError(
            f"{path} was written by another version of sympo, which can read it: this one reads "
            f"version {_VERSION}"
        )
    return header


def _parse(content: bytes, path: Path, items: Items) -> tuple[dict[tuple[str, str], Rating], bool]:
    """The ratings that stand, by (key, rater) in the order they were given, and their kind."""
    header = _read_header(content, path)
    if header["items"] != items.identity:
        raise ValueError(
            f"{path} is about other items: draw them as before (data, seed and count), or name "
            "another file"
        )
    standing: dict[tuple[str, str], Rating] = {}
    known = {item.key for item in items}
    lines, _ = _split(content)
    for number, line in enumerate(lines[1:], start=2):
        try:
            _apply(_decode(line), standing, known)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}; mend or remove this line") from None
    return standing, header["simulated"]


def _decode(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # of JSON or of UTF-8
        return {}
    return value if isinstance(value, dict) else {}


def _apply(line: dict[str, Any], standing: dict[tuple[str, str], Rating], known: set[str]) -> None:
    """Change what stands by a line."""
    if not all(isinstance(value, str) for name, value in line.items() if name in _TEXTS):
        raise ValueError(f"one of {', '.join(_TEXTS)} is no text")
    if {"undo", "rater"} <= set(line):
        if standing.pop((line["undo"], line["rater"]), None) is None:
            raise ValueError("takes back a rating that does not stand")
        return
    if not {"pair", "rater", "verdict"} <= set(line):
        raise ValueError("no rating")
    rating = Rating(line["pair"], line["rater"], line["verdict"], line.get("at", ""))
    check_rating(rating, known)
    if rating[:2] in standing:
        raise ValueError(describe_duplicate(rating))
    standing[rating[:2]] = rating


def _kind(simulated: bool) -> str:
    return "simulated" if simulated else "people's"
