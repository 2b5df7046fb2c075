"""Replies that were paid for, in a file: a line for each, written as soon as it comes.

The file is JSON lines. The first names the judge; every other has a question's key and the reply
to it. A process that is killed leaves at most its last line unfinished, and that one is ignored.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from sympo._names import show
from sympo.judge.replies import Reply

__all__ = ["KeptReplies", "question_key", "read_replies"]

# How lines begin: what else a file may end in was not written here, and is not cut off.
_STARTS = (b'{"judge": ', b'{"key": ')
_SCORES = (None, 0, 0.5, 1)
_LONGEST = 2**20  # ours: bytes of a line


def question_key(question: str) -> str:
    """What the reply to a question is filed under: 16 hexadecimal digits."""
    # half a character cannot be sent; it can be asked for, and must not end the count of the rest
    return hashlib.sha256(question.encode(errors="surrogatepass")).hexdigest()[:16]


def read_replies(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Reply]]:
    """The judge that a file of replies names, and its replies by `question_key`.

    Returns:
        ({}, {}) where the file is empty.
    Raises:
        ValueError: a line that is no reply.
    Check: tests/library/test_kept_replies.py.
    """
    judge: dict[str, Any] = {}
    replies: dict[str, Reply] = {}
    for number, line in enumerate(_read_lines(path), 1):
        try:
            row = json.loads(line)
            if "judge" in row:  # once more where two processes began the file together
                judge = dict(row["judge"])
            else:
                # a number of that list, and no equal of one such as true
                score = _SCORES[_SCORES.index(row["score"])]
                # the reply that came first is the one that was counted before
                replies.setdefault(str(row["key"]), Reply(score, str(row["reason"])))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ValueError(
                f"{path}, line {number} is no reply of a judge: move the file away ({show(line)})"
            ) from None
    if replies and not judge:
        raise ValueError(f"{path} does not say which judge replied: move the file away")
    return judge, replies


def _read_lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The whole lines of a file, a longer one than any reply cut."""
    with open(path, "rb") as file:
        while line := file.readline(_LONGEST):
            if line.endswith(b"\n") or len(line) == _LONGEST:
                yield line
            elif not any(start.startswith(line) or line.startswith(start) for start in _STARTS):
                raise ValueError(f"{path} does not end in a reply of a judge: move the file away")


class KeptReplies:
    """The replies of one judge: in its file, or only in memory where there is none.

    A context manager: it opens the file and closes it.

    Args:
        path: the file; it and its folder are made where they are missing.
        judge: what tells the judge from others, as `EndpointJudge.identity`.
    Raises:
        ValueError: the file holds the replies of another judge.
    Check: tests/library/test_kept_replies.py.
    """

    def __init__(self, path: str | os.PathLike[str] | None, judge: dict[str, Any]) -> None:
        self._path = None if path is None else Path(path)
        self._judge = judge
        self._file: Any = None
        self._replies: dict[str, Reply] = {}

    def __enter__(self) -> "KeptReplies":
        if self._path is None:
            return self
        header = json.dumps({"judge": self._judge})
        if self._path.exists():
            known, self._replies = read_replies(self._path)
            # as it is after a round through JSON: a tuple among the options is a list there
            _check_same(self._path, known, json.loads(header)["judge"])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Not buffered: a line is the system's as soon as it is written, and survives a kill.
        self._file = self._path.open("ab", buffering=0)
        _cut_torn_line(self._path)
        if not self._path.stat().st_size:
            self._write(header)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, question: str) -> Reply | None:
        """The reply to a question, if there is one."""
        return self._replies.get(question_key(question))

    def list_replies(self) -> list[Reply]:
        """All replies, those of earlier calls first."""
        return list(self._replies.values())

    def add(self, question: str, reply: Reply) -> None:
        """Keep a reply; a question that has one keeps that."""
        key = question_key(question)
        if key in self._replies:
            return
        if self._file is not None:
            self._write(json.dumps({"key": key, "score": reply.score, "reason": reply.reason}))
        self._replies[key] = reply

    def _write(self, line: str) -> None:
        # One call, so that lines of two processes do not mix.
        data = line.encode() + b"\n"
        if self._file.write(data) != len(data):
            raise OSError(f"{self._path} could not be written in full: is the disk full?")


def _check_same(path: Path, known: dict[str, Any], judge: dict[str, Any]) -> None:
    if not known or known == judge:
        return
    names = sorted({*known, *judge})
    different = ", ".join(name for name in names if known.get(name) != judge.get(name))
    raise ValueError(
        f"{path} holds the replies of another judge (other {show(different)[1:-1]}): name another "
        "file, or move it away"
    )


def _cut_torn_line(path: Path) -> None:
    """Take away what a killed process left after the last newline, so that no line joins it."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
