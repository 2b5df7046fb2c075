"""Locks between processes: of two that are asked for the same, one works and the other waits.

A lock is a file that the system locks for a process, so that it ends with the process, however that
ends. The file itself stays, empty.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sympo.studies import progress


@contextmanager
def hold(folder: Path, names: Iterable[str]) -> Iterator[bool]:
    """Hold the locks of these names in a folder; whether that had to be waited for.

    Of several processes that train together the main one holds them for all. Where the file system
    has no locks, as some of clusters have none, there are none.

    Raises:
        ValueError: another process holds one, and those that train together cannot wait: the others
            would go on without the main one.
        OSError: there can be no lock in this folder.
    Check: tests/studies/test_locks.py.
    """
    waited = False
    with ExitStack() as stack:
        # In one order everywhere, or two processes could wait for each other.
        for name in sorted(names) if progress.is_main_process() else ():
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f".{name}.lock"
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waited = True
                _wait(lock, name, path)
            except NotImplementedError:
                continue
            stack.callback(lock.release)
        yield waited


def _wait(lock: FileLock, name: str, path: Path) -> None:
    sentence = f"another process is at work on {name} (it holds {path})"
    if progress.processes() > 1:
        raise ValueError(f"{sentence}: start again when it has ended")
    with progress.stage(f"{sentence}; waiting for it", log=True):
        lock.acquire()
