"""Files that a person names: what to say where one cannot be had, and writing all of it or none."""

import errno
import os
from pathlib import Path

__all__ = ["describe_error", "read_bounded", "write_whole"]

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


def write_whole(path: Path, text: str) -> None:
    """Write `text` as UTF-8 so that `path` holds all of it, or what it held before.

    Raises:
        OSError: it cannot be written.
    """
    # The file that a link names, in whose folder a rename is atomic.
    place = Path(os.path.realpath(path))
    content = text.encode()
    if place.exists() and not place.is_file():  # a pipe, a terminal, or a folder, which is refused
        place.write_bytes(content)
        return
    partial = place.with_name(f".{place.name[:100]}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(content)
        os.replace(partial, place)
    finally:
        partial.unlink(missing_ok=True)
