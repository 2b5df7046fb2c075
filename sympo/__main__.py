"""`python -m sympo`: the studies of the paper, without Jupyter, and their records.

`run` and `run-all` train what has no record yet, from the same profiles and with the same checks as
a notebook. `judge` asks a language model about the answers in the records of hh and ultrafeedback.

`audit` and `train` are for a file of your own, and need neither a clone nor the extra `paper`.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from sympo._settings import parse_setting

__all__ = ["main"]

# A budget counts from here: what is imported later takes seconds.
_STARTED = time.monotonic()

# Written out, since the registry of studies is not imported for --help.
NAMES = (
    "mnist_losses,mnist_noise,hh,gold,ultrafeedback,gold_grammar,real_text,"
    "noise_patterns,loss_family,finite_sample"
)

# Commands of the library, by the module whose `main` reads the rest of the line.
_LIBRARY = {
    "audit": ("sympo.audit", "say how noisy a file of preferences is, and what to train with"),
    "train": (
        "sympo.train",
        "train on a file of preferences, with TRL's own flags and config file",
    ),
}

_NEEDS = (
    "studies need a clone of the repository to run in, and its environment: `make env` there, then "
    "`. .venv/bin/activate`, or `pip install '.[paper]'` into one of your own"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        the exit code: 0 done, or the budget is spent; 1 the data could not be had, a run failed, or
        imported records contradict those here; 2 bad input or no clone; 130 interrupted; 143
        ended by SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in _LIBRARY:
        module, _ = _LIBRARY[arguments[0]]
        try:
            command = import_module(module)
        except ModuleNotFoundError as error:
            return _explain_missing(error, "install sympo first, `pip install .` in its clone")
        code: int = command.main(arguments[1:])
        return code
    options = _parse_arguments(arguments)
    # The library installs alone, and this module comes with it: what a study needs is imported
    # only now, and its absence is a sentence and not a traceback.
    try:
        from sympo._files import describe_error
        from sympo.studies.sources import AssetError
    except ModuleNotFoundError as error:
        return _explain_missing(error)

    try:
        return _dispatch(options)
    except ModuleNotFoundError as error:
        return _explain_missing(error)
    except ValueError as error:
        return _refuse(error, code=2)
    except FileNotFoundError as error:
        return _refuse(describe_error(error), code=2)
    except AssetError as error:
        return _refuse(error, code=1)
    except OSError as error:
        # a disk that is full, a folder in a file's place, no permission
        return _refuse(f"{describe_error(error)}; finished runs are kept", code=1)
    except KeyboardInterrupt:
        return _refuse(
            "interrupted: finished runs are kept, and the same command goes on from there",
            code=130,
        )


def _parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sympo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, purpose) in _LIBRARY.items():
        commands.add_parser(name, help=purpose, add_help=False)  # its module reads its arguments
    profile = argparse.ArgumentParser(add_help=False)
    profiles = "smoke, laptop, gpu, paper or auto: gpu on a GPU with bfloat16, laptop elsewhere"
    profile.add_argument("--profile", default="auto", help=profiles)

    run = commands.add_parser("run", parents=[profile], help="train what has no record yet")
    run.add_argument("study", metavar="STUDY", help=f"one of {NAMES}")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="a field of the study, in place of the profile's value",
    )

    several = argparse.ArgumentParser(add_help=False)
    several.add_argument(
        "--studies",
        type=lambda text: text.split(","),
        metavar="A,B",
        help=f"{NAMES} if none is named; in run-all in the order of their importance",
    )
    commands.add_parser(
        "fetch",
        parents=[profile, several],
        help="get data and models, for a later run without a network",
    )
    run_all = commands.add_parser(
        "run-all",
        parents=[profile, several],
        help="train several studies, the most telling runs first, in a given time",
    )
    run_all.add_argument(
        "--budget",
        type=_parse_seconds,
        default=math.inf,
        metavar="SECONDS",
        help="from the start of this process to its end, to within an epoch of MNIST: at least 15, "
        "and loading takes ten to twenty; without it, until all is done",
    )
    run_all.add_argument(
        "--shard",
        type=_parse_shard,
        default=(1, 1),
        metavar="I/N",
        help="the I-th of N processes that share a folder of records, and take whole seeds each",
    )

    asked = commands.add_parser(
        "judge",
        parents=[profile],
        help="ask a language model which of two stored answers is better, in both orders",
        description="The endpoint is that of OPENAI_BASE_URL, the key that of OPENAI_API_KEY. "
        "Nothing is asked before it is said how much, and confirmed.",
    )
    asked.add_argument("study", metavar="STUDY", choices=("hh", "ultrafeedback"))
    asked.add_argument(
        "--opponent",
        choices=("chosen", "sft"),
        default="chosen",
        help="whose answers a policy's are compared with: the data set's chosen ones, as in the "
        "paper, or the SFT model's",
    )
    asked.add_argument("--model", default="gpt-4o-mini", help="gpt-4o-mini, if none is named")
    asked.add_argument("--limit", type=_parse_count, metavar="N", help="the first N prompts alone")
    asked.add_argument("--workers", type=_parse_count, default=4, help="requests at a time: 4")
    asked.add_argument(
        "--prices",
        type=float,
        nargs=2,
        metavar=("READ", "WRITTEN"),
        help="of a million tokens, for an estimate of the cost",
    )
    asked.add_argument("--yes", action="store_true", help="ask without a confirmation")

    kept = commands.add_parser("records", help="move records between machines, count them")
    actions = kept.add_subparsers(dest="action", required=True)
    export = actions.add_parser("export", parents=[profile], help="write all records to one file")
    export.add_argument("file", metavar="FILE", type=Path)
    imported = actions.add_parser(
        "import", parents=[profile], help="add those of such a file; none is overwritten"
    )
    imported.add_argument("file", metavar="FILE", type=Path)
    actions.add_parser("status", parents=[profile], help="what there is and what is missing")
    return parser.parse_args(arguments)


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    # The process needs some of it to start and to end, and no timer runs for ever. NaN is in no
    # range.
    if not 15 <= seconds <= 1e7:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds from 15 to 1e7")
    return seconds


def _parse_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1 on")
    return int(text)


def _parse_shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"'{text}' is not I/N with 1 ≤ I ≤ N, such as 1/4")
    return int(index), int(count)


def _dispatch(options: argparse.Namespace) -> int:
    from sympo.studies import profiles

    # Before the profile is read: its absence would be reported as a missing file.
    try:
        profiles.root()
    except FileNotFoundError:
        return _refuse(_NEEDS, code=2)
    match options.command:
        case "run":
            return _run(options.study, options.profile, options.settings)
        case "run-all":
            return _run_all(options)
        case "fetch":
            return _fetch(options)
        case "judge":
            return _judge(options)
        case _:
            return _manage_records(options)


def _run(study: str, profile: str, settings: Sequence[str]) -> int:
    from sympo.studies import profiles
    from sympo.studies.progress import is_main_process

    overrides = dict(parse_setting(text) for text in settings)
    config = profiles.study_config(study, profile, **overrides)
    _check_device(config.profile)
    module, _ = profiles.STUDIES[config.study]
    runs = import_module(module).run_study(config)
    # Under `accelerate launch` every process comes here, and one speaks.
    if is_main_process():
        folder = profiles.build_folder(config.profile) / "records"
        print(f"{config.study}, profile {config.profile}: {runs}; records in {folder}")
    return 0


def _run_all(options: argparse.Namespace) -> int:
    import torch

    from sympo.studies import plan, profiles, queue
    from sympo.studies.progress import is_main_process, processes

    is_main_process()  # refuses a RANK that cannot be
    if processes() > 1:
        raise ValueError("run-all is one process per GPU: start one with --shard I/N on each")
    clock = queue.Clock(_STARTED + options.budget)
    profile = profiles.resolve_profile(options.profile)
    # Each once, in the order of their importance.
    names = list(dict.fromkeys(options.studies or queue.STUDIES))
    for name in names:
        profiles.study_config(name, profile)  # refuses a name that no study has
    if plan.is_read_only(profile):
        reason = "there are records to be drawn and no CUDA, or SYMPO_RECORDS says so"
        raise ValueError(f"nothing is trained here ({reason}): SYMPO_RECORDS=train trains")
    _check_device(profile)
    if torch.cuda.device_count() > 1:
        raise ValueError(
            f"{torch.cuda.device_count()} GPUs are visible to one process: set "
            "CUDA_VISIBLE_DEVICES=0, or start one with --shard I/N on each"
        )
    _say(f"profile {profile}, on {_describe_device()}")
    waiting = None
    with queue.end_in_time(clock):
        try:
            plans = queue.plan_studies(names, profile, _say)
            waiting = queue.Queue(plans, clock, say=_say, shard=queue.Shard(*options.shard))
            waiting.work()
        except queue.Ended as end:
            _say(f"{end}: {waiting.describe() if waiting else 'nothing was begun'}")
            return end.code or int(waiting is not None and waiting.failed > 0)
        _say(waiting.describe())
    return 1 if waiting.failed or len(plans) < len(names) else 0


def _check_device(profile: str) -> None:
    """Refuse to train profile gpu on a processor, as on a node whose GPU nobody has asked for.

    Raises:
        ValueError: that would be so, and SYMPO_RECORDS=train does not ask for it.
    """
    import torch

    from sympo.studies import plan

    if profile != "gpu" or torch.cuda.is_available() or plan.is_read_only(profile):
        return
    if os.environ.get("SYMPO_RECORDS") != "train":
        raise ValueError(
            "profile gpu takes days on a processor, and there is no CUDA here: name the profile "
            "laptop, or ask for a GPU; SYMPO_RECORDS=train trains all the same"
        )


def _describe_device() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "a processor: there is no CUDA here"


def _fetch(options: argparse.Namespace) -> int:
    from sympo.studies import profiles, queue

    profile = profiles.resolve_profile(options.profile)
    names = list(dict.fromkeys(options.studies or queue.STUDIES))
    # A plan needs the hashes of its data and its model.
    plans = queue.plan_studies(names, profile, _say)
    for each in plans:
        named = ("data", "weights")
        found = ", ".join(each.provenance[name] for name in named if name in each.provenance)
        _say(f"{each.study}: {found}")
    return 1 if len(plans) < len(names) else 0


def _judge(options: argparse.Namespace) -> int:
    from sympo.judge import EndpointJudge
    from sympo.studies import profiles
    from sympo.studies.alignment import judging, offline

    config = profiles.study_config(options.study, options.profile)
    assert isinstance(config, offline.OfflineConfig)
    examiner = EndpointJudge(options.model, workers=options.workers, progress=_say)
    policies = offline.load_shared(config)
    folder = judging.judged_folder(config.profile)
    contests = judging.list_contests(policies, options.opponent, examiner, folder)

    cost = judging.estimate_cost(contests, examiner, options.limit)
    study = f"{config.study}, profile {config.profile}"
    _say(f"{study}: {len(contests)} policies against {options.opponent}, judged by {options.model}")
    _say(
        f"{cost}; at these prices {cost.price(options.prices):.2f}" if options.prices else f"{cost}"
    )
    if cost.requests and not (options.yes or _confirm()):
        return _refuse("nothing was asked: answer y, or give --yes", code=2)
    try:
        for contest in contests:
            judging.judge_policy(contest, examiner, options.limit)
            _say(judging.describe(contest))
    except ImportError as error:  # of the package openai
        return _refuse(error, code=2)
    except KeyboardInterrupt:
        kept = f"interrupted: every reply is kept in {folder}, and the same command goes on"
        return _refuse(kept, code=130)
    return 0


def _confirm() -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return input("Ask? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        return False


def _manage_records(options: argparse.Namespace) -> int:
    from sympo.studies import bundle, profiles

    profile = profiles.resolve_profile(options.profile)
    match options.action:
        case "export":
            _say(bundle.export_records(profile, options.file))
            return 0
        case "import":
            report = bundle.import_records(profile, options.file)
            _say(str(report))
            return 1 if report.contradicted else 0
        case _:
            _say(bundle.describe_status(profile))
            return 0


def _say(text: object) -> None:
    # At once: a log that is read while a slot lasts must not wait for a buffer.
    print(text, flush=True)


def _explain_missing(error: ModuleNotFoundError, needs: str = _NEEDS) -> int:
    package = (error.name or "").partition(".")[0]
    # A module of our own that cannot be found is a bug, and its traceback is wanted.
    if package in ("", "sympo"):
        raise error
    return _refuse(f"the package {package} is missing: {needs}", code=2)


def _refuse(reason: object, *, code: int) -> int:
    print(reason, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
