"""`python -m sympo.book.bench`: measure, and write table_bench.md beside the figures of a run."""

import argparse
import sys

from sympo._names import unknown_name
from sympo.book.bench.config import BenchConfig
from sympo.book.bench.report import PARTS, commit_parts, measure
from sympo.studies import profiles, sources


def main(arguments: list[str] | None = None) -> int:
    """0 done, whether or not targets are met; 1 the data could not be had, 2 bad input.

    130 interrupted.
    """
    options = _parse(arguments)
    # only what was asked for: the profile has the rest
    overrides = {} if options.repeats is None else {"repeats": options.repeats}
    names = options.only.split(",")
    try:
        # all names first: a misspelt one must not show after an hour of measuring
        for name in names:
            if name not in PARTS:
                raise ValueError(unknown_name("part", name, PARTS))
        config = profiles.section_config(BenchConfig, "bench", options.profile, **overrides)
        # before an hour of measuring
        if options.commit and (caveat := profiles.caveat(config.profile)):
            raise ValueError(f"these results cannot be committed: {caveat}")
        path = measure(config, names)
        if options.commit:
            path = commit_parts(path, names, profile=config.profile)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    # not an error of whoever typed the command
    except sources.AssetError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the parts that finished are kept", file=sys.stderr)
        return 130
    print(f"{path.parents[1] / 'table_bench.md'}, {path}")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sympo.book.bench", description=__doc__)
    parser.add_argument("--profile", default="auto", help="its section `bench` holds the sizes")
    parts = "parts, with commas between them; all: %(default)s"
    parser.add_argument("--only", default=",".join(PARTS), help=parts)
    parser.add_argument("--repeats", type=int, help="in place of the profile's")
    commit = "also put the results into figures/<profile>"
    parser.add_argument("--commit", action="store_true", help=commit)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
