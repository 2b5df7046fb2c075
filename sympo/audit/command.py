"""`python -m sympo audit FILE`: how noisy a file of preferences is, and what to train with."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sympo._files import describe_error, read_bounded, write_whole
from sympo._names import show
from sympo.audit.core import Audit, audit
from sympo.preferences import Pairs, read_pairs

__all__ = ["main"]

_WORDS = 2**24  # ours: bytes of a list of words


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit a file, and print the report.

    Args:
        arguments: those after `audit`; None for the command line's own.
    Returns:
        the exit code: 0 with a report, however many rows are bad; 2 for bad input, such as a file
        that cannot be read, or of which no row is a pair.
    """
    options = _parse_arguments(arguments)
    try:
        result = _audit_files(options)
        if options.html is not None:
            write_whole(options.html, result.html())
        _show(result.text())
    except BrokenPipeError:  # whoever reads it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: {describe_error(error)}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    return 0


def _show(text: str) -> None:
    # Not every terminal has an ε.
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "the output") from error


def _audit_files(options: argparse.Namespace) -> Audit:
    _check_options(options)
    pairs = _read_pairs(options.file, options.processes)
    ratings = None
    if options.ratings is not None:
        # Here, and not above: most audits have no ratings.
        from sympo.rating import read_rated_rows

        ratings = read_rated_rows(options.ratings, pairs.dataset, rater=options.rater)
    return audit(
        pairs,
        test=None if options.test is None else _read_pairs(options.test, options.processes),
        ratings=ratings,
        words=[] if options.words is None else _read_words(options.words),
        copies=options.copies,
        seed=options.seed,
        processes=options.processes,
        source=options.file.name,
    )


def _read_pairs(path: Path, processes: int) -> Pairs:
    pairs = read_pairs(path, processes=processes)
    # A table of zeros would look like a finding.
    if not pairs.report.kept:
        raise ValueError(
            f"no row of {path.name} is a pair of answers ({pairs.report}): convert it to a format "
            "of the README"
        )
    return pairs


def _check_options(options: argparse.Namespace) -> None:
    if options.seed < 0:
        raise ValueError(f"--seed {options.seed} is negative: give 0 or more")
    if options.rater is not None and options.ratings is None:
        raise ValueError("--rater names whose ratings: give their file by --ratings, too")
    if options.html is None:
        return
    # Before the file is read, which may take long.
    if options.html.is_dir() or not options.html.parent.is_dir():
        raise ValueError(
            f"--html {show(str(options.html))} cannot be written: name a file, in a folder that "
            "is there"
        )
    if not options.html.exists():
        return
    for read in (options.file, options.test, options.ratings, options.words):
        if read is not None and read.exists() and read.samefile(options.html):
            raise ValueError(
                f"--html {options.html} would overwrite what is read: name another file"
            )


def _read_words(path: Path) -> list[str]:
    try:
        return read_bounded(path, _WORDS).decode("utf-8").split()
    except UnicodeDecodeError:
        raise ValueError(f"--words {path} is no UTF-8 text: save it as UTF-8") from None


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sympo audit", description=__doc__)
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="preferences: .jsonl, .jsonl.gz or .parquet"
    )
    parser.add_argument(
        "--test",
        type=Path,
        metavar="FILE",
        help="pairs to be tested on: shared prompts are counted",
    )
    parser.add_argument(
        "--ratings",
        type=Path,
        metavar="FILE",
        help="ratings of a sample, as sympo.rating keeps them",
    )
    parser.add_argument("--rater", metavar="NAME", help="whose, where several rated")
    parser.add_argument(
        "--words", type=Path, metavar="FILE", help="words to count in the answers, one a line"
    )
    parser.add_argument(
        "--copies",
        action="store_true",
        help="rows that repeat are copies, and not second ratings",
    )
    parser.add_argument("--html", type=Path, metavar="OUT", help="write the report as a page, too")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and the folds; 0")
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="that read a large file; 1"
    )
    return parser.parse_args(arguments)
