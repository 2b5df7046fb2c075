"""Files that are whole or not there, and what to say where one cannot be had."""

import errno
import os
import re
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = [
    "describe_error",
    "describe_message",
    "read_bounded",
    "set_aside",
    "write_atomically",
    "write_whole",
]

# Ours: seconds after which a file that was never renamed is of a process that was killed. Writing
# one takes less than a second.
_STALE = 600.0

# What to do about each; what stands nowhere here is said as the system says it.
_REMEDIES = {
    errno.ENOENT: "there is no such file or folder: check the name",
    errno.ENOTDIR: "a part of this path is a file, and no folder: check the name",
    errno.EISDIR: "this is a folder: name a file",
    errno.EACCES: "there is no permission for this: change it, or name another file",
    errno.EPERM: "there is no permission for this: change it, or name another file",
    errno.EROFS: "this place can only be read: name another one",
    errno.ENOSPC: "the disk is full: free some space, or name another place",
    errno.EDQUOT: "the quota is used up: free some space, or name another place",
    errno.ENAMETOOLONG: "this name is too long: give a shorter one",
    errno.EEXIST: "something else is in this place: move it away, or name another one",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
}


def describe_error(error: OSError, path: str | os.PathLike[str] | None = None) -> str:
    """One sentence with the path and the remedy.

    Args:
        path: what was named, where the error itself may be about another file.
    """
    # Libraries raise the class with a sentence of their own.
    if error.errno is None:
        return " ".join(str(error).split())
    named = os.fspath(error.filename or "") if path is None else os.fspath(path)
    # Quoted by repr where it would break the line.
    name = named if isinstance(named, str) and named.isprintable() else repr(named)
    place = name if len(name) <= 200 else f"{name[:100]}…{name[-60:]}"
    return f"{place or 'a file'}: {_REMEDIES.get(error.errno) or error.strerror}"


def describe_message(message: str) -> str | None:
    """The same of such an error's message, as another process tells it; None if it is none.

    Nor is that of a file that is not there: who looked for it is at fault, and not the system.
    """
    match = re.match(r"\[Errno (\d+)\] ", message)
    if match is None or int(match[1]) not in _REMEDIES.keys() - {errno.ENOENT}:
        return None
    return f"{message[match.end() :]}: {_REMEDIES[int(match[1])]}"


def read_bounded(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a file.

    Raises:
        ValueError: it has more than `most` bytes.
    """
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(
            f"{path} has more than {most // 2**20} MiB, which no such file has: name another one"
        )
    return content


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) to a file that a person named, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    # The file that a link names, in whose folder a rename is atomic.
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():  # a pipe, a terminal, or a folder, which is refused
        try:
            place.write_bytes(content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        return
    # A folder that is not there is a slip of the pen.
    if not place.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    write_atomically(place, content)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) so that `path` holds all of it, or what it held before.

    Folders are made as needed.

    Raises:
        OSError: it cannot be written; the error names the path.
    Check: tests/library/test_files.py.
    """
    # In the same folder, since a rename is atomic within a file system only; a name for each
    # process, since several may write the same file.
    partial = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent)
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            # Else a crash of the machine could leave the new name with none of the content.
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        # A write that fails does not say of which file.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@cache
def _remove_stale(folder: Path) -> None:
    """Remove what killed processes have left in a folder, once in the life of this one."""
    for partial in folder.glob(".*.tmp"):
        # Another process may do the same, or rename it.
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > _STALE:
                partial.unlink()


def set_aside(path: Path) -> Path:
    """Rename a file or a folder to the first of name.corrupt, name.corrupt.1, … that is free.

    Kept for whoever wants to know what happened; the suffix hides it from the next look.

    Returns:
        its new path.
    Raises:
        FileNotFoundError: it is gone, perhaps because another process was first.
    Check: tests/library/test_files.py.
    """
    aside = path.with_name(f"{path.name}.corrupt")
    count = 0
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.corrupt.{count}")
    path.rename(aside)
    return aside
