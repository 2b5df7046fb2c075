"""`python -m sympo run STUDY --profile P`: a study of the paper, without Jupyter.

It trains what has no record yet, from the same profiles and with the same checks as a notebook.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from sympo._settings import parse_setting

__all__ = ["main"]

_NEEDS = (
    "studies need a clone of the repository, and the packages that `pip install 'sympo[paper]'` "
    "adds: run this inside a clone"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit code: 0 done, 1 the data could not be had, 2 bad input or no clone, 130
        interrupted.
    """
    options = _parse_arguments(arguments)
    # The library installs alone, and this module comes with it: what a study needs is imported
    # only now, and its absence is a sentence and not a traceback.
    try:
        from sympo.studies.sources import AssetError
    except ModuleNotFoundError as error:
        return _explain_missing(error)

    try:
        return _run(options.study, options.profile, options.settings)
    except ModuleNotFoundError as error:
        return _explain_missing(error)
    except (ValueError, FileNotFoundError) as error:
        return _refuse(error, code=2)
    except AssetError as error:
        return _refuse(error, code=1)
    except KeyboardInterrupt:
        return _refuse(
            "interrupted: finished runs are kept, and the same command goes on from there",
            code=130,
        )


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sympo", description=__doc__)
    run = parser.add_subparsers(required=True).add_parser(
        "run", help="train what has no record yet"
    )
    # The names are written out, since the registry of studies is not imported for --help.
    run.add_argument(
        "study", metavar="STUDY", help="mnist_losses, mnist_noise, gold, hh or ultrafeedback"
    )
    run.add_argument("--profile", default="auto", help="auto, smoke, laptop, gpu or paper")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="a field of the study, in place of the profile's value",
    )
    return parser.parse_args(arguments)


def _run(study: str, profile: str, settings: Sequence[str]) -> int:
    from sympo.studies import profiles
    from sympo.studies.progress import is_main_process

    # Before the profile is read: its absence would be reported as a missing file.
    try:
        profiles.root()
    except FileNotFoundError:
        return _refuse(_NEEDS, code=2)
    overrides = dict(parse_setting(text) for text in settings)
    config = profiles.study_config(study, profile, **overrides)
    module, _ = profiles.STUDIES[config.study]
    runs = import_module(module).run_study(config)
    # Under `accelerate launch` every process comes here, and one speaks.
    if is_main_process():
        folder = profiles.build_folder(config.profile) / "records"
        print(f"{config.study}, profile {config.profile}: {runs}; records in {folder}")
    return 0


def _explain_missing(error: ModuleNotFoundError) -> int:
    package = (error.name or "").partition(".")[0]
    # A module of our own that cannot be found is a bug, and its traceback is wanted.
    if package in ("", "sympo"):
        raise error
    return _refuse(f"the package {package} is missing: {_NEEDS}", code=2)


def _refuse(reason: object, *, code: int) -> int:
    print(reason, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
