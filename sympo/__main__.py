"""`python -m sympo run STUDY --profile P`: a study without Jupyter, from the same profiles and with
the same checks.
"""

import argparse
import sys
from importlib import import_module

from sympo.book.execute import parse_setting
from sympo.studies import profiles
from sympo.studies.records import is_main_process
from sympo.studies.sources import AssetError


def main(arguments: list[str] | None = None) -> int:
    """0 done, 1 the data could not be had, 2 bad input, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m sympo", description=__doc__)
    run = parser.add_subparsers(required=True).add_parser(
        "run", help="train what has no record yet"
    )
    run.add_argument("study", metavar="STUDY", help=", ".join(profiles.STUDIES))
    run.add_argument("--profile", default="auto", help=", ".join(("auto", *profiles.PROFILES)))
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="one field",
    )
    given = parser.parse_args(arguments)
    try:
        study = profiles.study_config(
            given.study, given.profile, **dict(map(parse_setting, given.settings))
        )
        runs = import_module(profiles.STUDIES[study.study][0]).run_study(study)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except AssetError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "interrupted: finished runs are kept, and the same command goes on from there",
            file=sys.stderr,
        )
        return 130
    if is_main_process():
        folder = profiles.build_folder(study.profile) / "records"
        print(f"{study.study}, profile {study.profile}: {runs}; records in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
