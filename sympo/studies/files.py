"""Files that are whole or not there, and of which none is lost: what make and studies read."""

import errno
import os
import re
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

# Ours: seconds after which a file that was never renamed is of a process that was killed. Writing
# one takes less than a second.
STALE = 600.0

# What to do about an error of the system, by its number.
REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or get a larger quota",
    errno.EROFS: "nothing can be written there, so work in another folder",
    errno.EACCES: "give yourself the right to read and write there",
    errno.EPERM: "give yourself the right to read and write there",
    errno.EISDIR: "a folder is in a file's place, so move it away",
    errno.ENOTDIR: "a file is in a folder's place, so move it away",
    errno.EEXIST: "something is in its place, so move it away",
    errno.EMFILE: "too many files are open, so raise `ulimit -n`",
}


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) so that `path` holds all of it, or what it held before.

    Raises:
        OSError: it cannot be written; the error names the path.
    """
    # In the same folder, since a rename is atomic within a file system only; a name for each
    # process, since several may write the same file.
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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
            if time.time() - partial.stat().st_mtime > STALE:
                partial.unlink()


def set_aside(path: Path) -> Path:
    """Rename a file or a folder to the first of name.corrupt, name.corrupt.1, … that is free.

    Kept for whoever wants to know what happened; the suffix hides it from the next look.

    Returns:
        its new path.
    Raises:
        FileNotFoundError: it is gone, perhaps because another process was first.
    Check: tests/studies/test_files.py.
    """
    aside = path.with_name(f"{path.name}.corrupt")
    count = 0
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.corrupt.{count}")
    path.rename(aside)
    return aside


def describe_error(error: OSError) -> str:
    """An error of the system in one sentence: what it is about, what is wrong, and what to do."""
    if error.errno is None:
        return str(error)
    subject = f"{error.filename}: " if error.filename is not None else ""
    remedy = REMEDIES.get(error.errno, "mend this")
    return f"{subject}{error.strerror}: {remedy}, then do the same again; what is done is kept"


def describe_message(message: str) -> str | None:
    """The same of such an error's message, as another process tells it; None if it is none."""
    match = re.match(r"\[Errno (\d+)\] ", message)
    if match is None or int(match[1]) not in REMEDIES:
        return None
    remedy = REMEDIES[int(match[1])]
    return f"{message[match.end() :]}: {remedy}, then do the same again; what is done is kept"
