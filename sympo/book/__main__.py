"""`python -m sympo.book COMMAND`: the steps of make, from notebooks to figures and tables."""

import argparse
import signal
import sys

from sympo._files import describe_error
from sympo._settings import parse_setting
from sympo.book import execute, staleness
from sympo.book.twins import find_edit, stem_of, study_of
from sympo.studies import profiles

# In the order in which a person meets them; the Makefile has a target for each.
_COMMANDS = {
    "inputs": "note what each notebook is made from; prints the profile",
    "run": "execute one notebook",
    "summary": "a table of what make paper did",
    "commit": "copy the results whose numbers moved to figures/",
    "notebooks": "put the outputs into the committed notebooks",
    "figures": "draw records from elsewhere, and the committed figures and tables again",
    "html": "bind the notebooks into an HTML book",
    "pdf": "print the book into a PDF, which needs Chromium",
    "verify": "compare this clone's results with the committed ones",
    "data": "fetch the data, where a person can see the download",
    "badges": "write the repository's address",
}


def main(arguments: list[str] | None = None) -> int:
    """0 done, 1 a notebook failed or results do not hold, 2 bad input, 130 interrupted."""
    # argparse leaves by itself, with 2, where a command or an option is unknown
    options = _build_parser().parse_args(arguments)
    try:
        return _dispatch(options)
    # what a person typed or has not done yet: one sentence, no traceback
    except ValueError as error:
        _say(str(error))
        return 2
    except FileNotFoundError as error:
        _say(describe_error(error))
        return 2
    # a full disk, a folder in a file's place, no permission
    except OSError as error:
        _say(f"{describe_error(error)}; finished notebooks and runs are kept")
        return 1
    # a cell raised: the message holds its traceback, and ours would say nothing more
    except RuntimeError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("interrupted: finished notebooks and runs are kept, and make goes on from there")
        return 130


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sympo.book", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        # neither depends on a profile
        if name not in ("data", "badges"):
            command.add_argument("--profile", default="auto")
    commands.choices["badges"].add_argument("repository", metavar="OWNER/NAME")
    draw_in_place = "write into figures/<profile>"
    commands.choices["figures"].add_argument("--commit", action="store_true", help=draw_in_place)
    only = "only what these notebooks found; all, if none is named"
    commands.choices["commit"].add_argument("names", nargs="*", metavar="NOTEBOOK", help=only)
    began = "seconds of the epoch: what ended before is up to date"
    commands.choices["summary"].add_argument("--since", type=float, default=0.0, help=began)
    run = commands.choices["run"]
    run.add_argument("name")
    run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings")
    return parser


def _dispatch(options: argparse.Namespace) -> int:
    match options.command:
        case "badges":
            return _write_badges(options.repository)
        case "data":
            return _fetch_data()
        case "run":
            settings = dict(parse_setting(text) for text in options.settings)
            execute.run(options.name, options.profile, **settings)
            return 0
    # "auto" is settled once, and every file below is named after the result
    profile = profiles.resolve_profile(options.profile)
    match options.command:
        case "inputs":
            return _note_inputs(profile)
        case "commit":
            return _commit_results(profile, options.names)
        case "notebooks":
            return _refresh_notebooks(profile)
        case "figures":
            return _redraw_figures(profile, commit=options.commit)
        case "summary":
            return _summarise(profile, since=options.since)
        case "html":
            return _bind(profile)
        case "pdf":
            return _print_book(profile)
        case _:
            return _verify_data(profile)


# Each imports what it alone needs: `make` asks for `inputs` at every call, and pandas, matplotlib
# and nbformat take seconds.


def _write_badges(repository: str) -> int:
    from sympo.book.badges import write_badges

    changed = write_badges(repository)
    _say(f"badges: {', '.join(changed) or 'nothing to change'}")
    return 0


def _fetch_data() -> int:
    from sympo.studies import sources

    _say(f"data: MNIST from {sources.mnist().source}")
    return 0


def _note_inputs(profile: str) -> int:
    for sentence in staleness.write_inputs(profile):
        _say(sentence)
    # what runs is the twin
    for edit in filter(None, map(find_edit, execute.notebooks())):
        _say(f"not run: {edit}")
    # make reads this line, so nothing else may go to stdout
    print(profile)
    return 0


def _commit_results(profile: str, names: list[str]) -> int:
    from sympo.book.commit import commit_results

    changes = commit_results(profile, names)
    _say(f"commit: {', '.join(changes.moved) or 'no number moved'}")
    if changes.redrawn:
        redrawn = ", ".join(changes.redrawn)
        _say(f"look different, with the same data: {redrawn}; make figures COMMIT=1 writes them")
    if changes.orphans:
        _say(f"no notebook makes these any more: {', '.join(changes.orphans)}")
    return 0


def _refresh_notebooks(profile: str) -> int:
    # ends at the first that has not been run, with a sentence that says what to run
    changed = [name for name in execute.notebooks() if execute.refresh(name, profile)]
    _say(f"notebooks: {', '.join(changed) or 'nothing to change'}")
    return 0


def _redraw_figures(profile: str, *, commit: bool) -> int:
    from sympo.book.verify import redraw

    drawn = _draw_records(profile)
    if drawn and commit:
        _commit_results(profile, drawn)
    left = redraw(profile, commit=commit)
    place = f"figures/{profile}" if commit else f"build/{profile}/redrawn"
    rest = f"; nothing draws {', '.join(left)}" if left else ""
    if drawn:
        _say(f"figures: from the records of {', '.join(drawn)}: build/{profile}/figures")
    _say(f"figures: committed data drawn again into {place}{rest}")
    # a csv that nothing draws is a figure function that was renamed or lost
    return 1 if left else 0


def _draw_records(profile: str) -> list[str]:
    """Run the notebooks of the studies of which records came from elsewhere; nothing is trained.

    Returns:
        the names of the notebooks.
    """
    from importlib import import_module

    from sympo.studies import plan

    if not plan.is_read_only(profile):
        return []
    sections = profiles.read_profile(profile)
    drawn = []
    for study, (module, _) in profiles.STUDIES.items():
        # 09 shows a study of its own name beside the one that it trains
        names = [name for name in execute.notebooks() if study in (study_of(name), stem_of(name))]
        if not names or study not in sections:
            continue
        config = profiles.study_config(study, profile)
        runs = plan.load_complete(import_module(module).plan_study(config, read_only=True))
        if not runs.records:
            _say(f"{study}: not drawn, no seed is complete; {runs}")
            continue
        _say(f"{study}: {runs}")
        drawn += [name for name in names if name not in drawn and _try_run(name, profile)]
    return drawn


def _try_run(name: str, profile: str) -> bool:
    """Run a notebook on records that are there; whether it came to its end."""
    try:
        execute.run(name, profile)
    except RuntimeError as error:
        # too few seeds for a comparison, say: the other notebooks are drawn all the same
        _say(str(error))
        return False
    return True


def _summarise(profile: str, *, since: float) -> int:
    from sympo.book.summary import write_summary

    _say(write_summary(profile, since=since))
    return 0


def _bind(profile: str) -> int:
    from sympo.book import html

    _say(f"book: {execute.relative(html.build(profile))}")
    return 0


def _print_book(profile: str) -> int:
    from sympo.book import html

    _say(f"book: {execute.relative(html.build_pdf(profile))}")
    return 0


def _verify_data(profile: str) -> int:
    from sympo.book.verify import compare_results, describe

    sentences, held = describe(compare_results(profile))
    for sentence in sentences:
        _say(sentence)
    return 0 if held else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # a runner that is ended ends its kernel too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
