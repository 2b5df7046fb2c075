"""Runs the notebooks from their twins, and puts what they showed into the committed notebooks.

Outputs appear whole or not at all: a notebook is executed under a temporary name and renamed at the
end, so that make never takes the half of one for done. Of several processes that are asked for one
notebook, one runs it and the others wait.
"""

import copy
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sympo._files import describe_message, write_atomically
from sympo.book import staleness, summary
from sympo.book.twins import (
    LAST,
    LEFT_OUT,
    TEXT,
    check_parameters,
    find_edit,
    hash_text,
    is_left_out,
    notebooks,
    output,
    parameters,
    read_twin,
    relative,
    saved_stems,
    study_of,
    twin,
)
from sympo.studies import locks, profiles

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = [
    "LAST",
    "check_parameters",
    "notebooks",
    "output",
    "parameters",
    "read_twin",
    "refresh",
    "run",
    "saved_stems",
    "twin",
    "write_outputs",
]

# GitHub refuses notebooks with widgets, and they draw nothing without a kernel.
WIDGET = "application/vnd.jupyter.widget-view+json"
# Studies without whose data `make paper` goes on, in the profiles that may lack them: their public
# home may be out of reach, and what is committed stands. (10 and 11 look after themselves.)
MAY_LACK_DATA = {"real_text": ("smoke", "laptop")}
# What a person's shell may hold that changes how Python and the libraries of a notebook behave, or
# where its figures go: no notebook is run with it, so that its results are the same for everyone.
PERSONAL = ("PYTHON", "IPYTHON", "MPL", "MATPLOTLIB", "TQDM_", "NUMBA_DISABLE", "SYMPO_FIGURES")
# But not where Python and its compiled files lie.
PLACES = ("PYTHONHOME", "PYTHONPYCACHEPREFIX")
# A cell with one of these calls shows what ran: the machine, the commit, how much was trained anew.
ABOUT_THE_RUN = ("save_provenance(", "provenance.collect(", "run_study(")


# Running


class MissingData(RuntimeError):
    """A cell could not get its data; the message is the sentence of `sources.AssetError`."""


def run(name: str, profile: str, **settings: Any) -> Path:
    """Execute a notebook's twin; the output appears whole or not at all.

    With `settings` the output is `<name>.custom.ipynb` and its figures go to
    build/<profile>/custom. A notebook that fails leaves `<name>.failed.ipynb`. One that may lack
    its data (`MAY_LACK_DATA`), and does, is left out: its output is the committed notebook.

    Where another process was running the same notebook, its output is waited for, and taken.

    Raises:
        ValueError: bad input; nothing was started.
        RuntimeError: a cell raised or the kernel died; the message holds the cell's traceback, or
            one sentence where a file could not be written.
        OSError: the output cannot be written.
    Check: tests/book/test_execute.py.
    """
    profile = profiles.resolve_profile(profile)
    notebook = read_twin(name)
    # before anything is written: bad input must not touch the last output
    values = check_parameters(notebook, name, profile, settings)
    target = output(f"{name}.custom" if settings else name, profile)
    with locks.hold(target.parent, [target.stem]) as waited:
        if waited and not settings and _is_up_to_date(name, profile):
            _say(f"{name}: another process has run it meanwhile")
        else:
            _run_alone(name, profile, notebook, values, target, custom=bool(settings))
    return target


def _is_up_to_date(name: str, profile: str) -> bool:
    stale = staleness.is_stale(name, profile)
    return not stale and staleness.is_of_present_text(name, profile)


def _run_alone(
    name: str,
    profile: str,
    notebook: "NotebookNode",
    values: dict[str, Any],
    target: Path,
    *,
    custom: bool,
) -> None:
    """Run a notebook that no other process is running, see `run`."""
    partial = target.with_suffix(".part.ipynb")
    failed = target.with_suffix(".failed.ipynb")
    _say(_describe_outlook(name, profile))
    started = time.monotonic()
    if not custom:
        # also where no make has done it: the output is newer than what it was made from
        staleness.write_inputs_of(name, profile)
    _write_notebook(notebook, partial)
    since = partial.stat().st_mtime_ns  # by the clock that dates the results, too
    try:
        _execute_with_progress(partial, values, custom=custom)
    except RuntimeError as error:
        without = () if custom else MAY_LACK_DATA.get(study_of(name), ())
        if isinstance(error, MissingData) and profile in without:
            _leave_out(name, profile, str(error))
            partial.unlink()
            return
        # kept for the person who looks for the reason; make does not know this name
        partial.replace(failed)
        where = f"{relative(failed)} shows how far it came."
        raise RuntimeError(f"{error}\n{name} failed; {where}") from None
    # Ctrl-C: papermill leaves a file whose cells all say completed
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    failed.unlink(missing_ok=True)
    if not custom:
        # before the rename: a crash between the two makes the notebook stale, not wrong
        staleness.note_results(name, profile, since=since)
    partial.replace(target)
    seconds = time.monotonic() - started
    if not custom:
        summary.note(name, profile, seconds=seconds)
    _say(f"  {name}: done in {summary.describe_duration(seconds)}")


def _leave_out(name: str, profile: str, reason: str) -> None:
    """Let the committed notebook be the output, marked for `twins.is_left_out`."""
    import nbformat

    # what an earlier run wrote is not of this one
    staleness.results_file(name, profile).unlink(missing_ok=True)
    notebook = nbformat.read(_committed(name), as_version=4)
    notebook.metadata[LEFT_OUT] = reason
    write_atomically(output(name, profile), nbformat.writes(notebook) + "\n")
    again = f"python -m sympo.book run {name} --profile {profile}"
    _say(f"  {name}: left out, and what is committed stands: {reason}\n  Then: {again}")


def _execute_with_progress(path: Path, values: dict[str, Any], *, custom: bool) -> None:
    bars = path.with_suffix(".progress")
    environment = {
        # start-up files and settings in the home folder are not ours
        "IPYTHONDIR": str(profiles.root() / "build" / "ipython"),
        "PYTHONPATH": str(profiles.root()),
        # sympy's order of terms may follow it
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "SYMPO_PROGRESS": str(bars),
    }
    if custom:
        environment["SYMPO_FIGURES"] = str(path.parent / "custom")
    # the kernel inherits the variables when it starts, inside `_execute`
    with _show_progress(bars), _set_environment(environment):
        _execute(path, values)


def _execute(path: Path, values: dict[str, Any]) -> None:
    """Run the notebook at `path` in place, with papermill."""
    # These take a second to import, and most commands execute nothing.
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_core.utils import run_sync
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    kernel = AsyncKernelManager(
        kernel_name="python3",
        # this Python: a kernel in the home folder may be another
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        # otherwise ipykernel warns at each start
        transport_encryption="auto",
    )
    options = {"kernel_name": "python3", "progress_bar": False, "km": kernel}
    # where JupyterLab runs them
    folder = profiles.root() / "notebooks"
    try:
        execute_notebook(path, path, values, cwd=folder, **options)
    except PapermillExecutionError as error:
        if error.ename == "AssetError":
            raise MissingData(error.evalue) from None
        if sentence := describe_message(error.evalue):
            raise RuntimeError(sentence) from None
        raise RuntimeError(_read_traceback(error)) from None
    except DeadKernelError:
        raise RuntimeError("the kernel died, perhaps for want of memory") from None
    finally:
        if kernel.has_kernel:
            # at once: records are written atomically
            run_sync(kernel.shutdown_kernel)(now=True)


def _read_traceback(error: Any) -> str:
    text = "\n".join(error.traceback) or f"{error.ename}: {error.evalue}"
    # colours are for a person only
    return text if sys.stderr.isatty() else re.sub(r"\x1b\[[\d;]*m", "", text)


@contextmanager
def _set_environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables, which the kernel inherits, and put them back.

    What is `PERSONAL` is taken out meanwhile.
    """
    before = dict(os.environ)
    for name in before:
        if name.startswith(PERSONAL) and name not in PLACES:
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        # also what was set meanwhile
        os.environ.clear()
        os.environ.update(before)


# What a person or a log sees meanwhile


def _describe_outlook(name: str, profile: str) -> str:
    """`[3/8] 05_mnist_losses: about 6 min, 14 min left in all`, from the profile's `minutes`."""
    order = notebooks()
    place = order.index(name)
    text = f"[{place + 1}/{len(order)}] {name}"
    minutes = profiles.read_profile(profile).get("minutes", {})
    if name not in minutes:
        return text
    # LAST run whenever another has, whatever their own state
    later = order[place + 1 :]
    waiting = [each for each in later if each in LAST or staleness.is_stale(each, profile)]
    total = sum(minutes.get(each, 0) for each in (name, *waiting))
    return f"{text}: about {minutes[name]:g} min, {total:g} min left in all"


@contextmanager
def _show_progress(path: Path) -> Iterator[None]:
    """Show the last line of a file of progress bars: redrawn for a person, now and then in a log.

    The kernel writes the bars to a file, so that nothing of them enters the notebook's outputs.
    """
    path.unlink(missing_ok=True)
    # a log that was redrawn twice a second would be all bars
    show = _redraw_bar if sys.stderr.isatty() else _log_bar
    ended = threading.Event()
    thread = threading.Thread(target=show, args=(path, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        path.unlink(missing_ok=True)


def _redraw_bar(path: Path, ended: threading.Event) -> None:
    """Keep one line of the terminal up to date, and clear it at the end."""
    started = time.monotonic()
    while not ended.wait(0.5):
        text = f"  {summary.describe_duration(time.monotonic() - started)}  {_read_last_line(path)}"
        # a longer line would wrap, and stay on the screen
        text = text[: shutil.get_terminal_size().columns - 1]
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _log_bar(path: Path, ended: threading.Event) -> None:
    """Write a line every 15 seconds, where the bar has moved."""
    last = ""
    while not ended.wait(15):
        line = _read_last_line(path)
        if line != last:
            _say(f"  {line}")
        last = line


def _read_last_line(path: Path) -> str:
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        # bars overwrite themselves by \r; the last few are enough
        file.seek(max(0, path.stat().st_size - 4096))
        lines = re.split(r"[\r\n]+", file.read().decode(errors="ignore"))
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# What is committed: notebooks with outputs


def refresh(name: str, profile: str) -> bool:
    """Put the outputs of an executed notebook into the committed one; whether that changed it.

    Where only the machine, the commit or the number of runs trained anew differ, the committed
    notebook stays.

    Raises:
        ValueError: there is no executed copy of the present text; or the committed notebook was
            edited, and its twin was not, so that the edit would be lost.
    """
    import nbformat

    executed = output(name, profile)
    remedy = f"run make paper PROFILE={profile} first"
    # then there is nothing new to show
    if is_left_out(name, profile):
        return False
    if not executed.is_file():
        raise ValueError(f"{name} has not been run in profile {profile}: {remedy}")
    notebook = read_twin(name)
    every = nbformat.read(executed, as_version=4).cells
    # papermill adds a cell with the values it was told
    cells = [cell for cell in every if "injected-parameters" not in cell.metadata.get("tags", [])]
    # outputs of another text would be shown as if they were of this one
    if [cell.source for cell in cells] != [cell.source for cell in notebook.cells]:
        raise ValueError(f"{relative(executed)} was made from another text of {name}: {remedy}")
    _put_outputs(notebook, cells)
    if edit := find_edit(name):
        raise ValueError(edit)
    path = _committed(name)
    if path.is_file() and _drop_run(nbformat.read(path, as_version=4)) == _drop_run(notebook):
        return False
    return _write_notebook(notebook, path)


def write_outputs(name: str, notebook: "NotebookNode", cells: "list[NotebookNode]") -> bool:
    """Write notebooks/<name>.ipynb: the cells of `notebook` with the outputs of `cells`.

    Without timings, widgets and the metadata of the run, which differ from one run to the next.

    Returns:
        whether that changed the file.
    """
    _put_outputs(notebook, cells)
    return _write_notebook(notebook, _committed(name))


def _put_outputs(notebook: "NotebookNode", cells: "list[NotebookNode]") -> None:
    notebook.metadata[TEXT] = hash_text(notebook)
    codes = [pair for pair in zip(notebook.cells, cells, strict=True) if "outputs" in pair[1]]
    # numbered from 1: papermill's cell took a number
    for number, (cell, executed) in enumerate(codes, start=1):
        # bars of tqdm.auto, mostly
        shown = [each for each in executed.outputs if WIDGET not in each.get("data", {})]
        cell.execution_count = number
        cell.outputs = [_clean_output(each, number) for each in shown]


def _drop_run(notebook: "NotebookNode") -> str:
    """The text of a notebook without the outputs that say which run made it."""
    import nbformat

    copied = copy.deepcopy(notebook)
    for cell in copied.cells:
        if "outputs" in cell and any(call in cell.source for call in ABOUT_THE_RUN):
            cell.outputs = []
    return nbformat.writes(copied)


def _committed(name: str) -> Path:
    return profiles.root() / "notebooks" / f"{name}.ipynb"


def _clean_output(shown: "NotebookNode", number: int) -> "NotebookNode":
    if "metadata" in shown:
        # a picture's width and its words for those who do not see it
        kept = {kind: fields for kind, fields in shown["metadata"].items() if kind == "image/png"}
        shown["metadata"] = kept
    if "execution_count" in shown:
        shown["execution_count"] = number
    return shown


def _write_notebook(notebook: "NotebookNode", path: Path) -> bool:
    """Write a notebook, if its content changes; whether it did."""
    import nbformat

    text = nbformat.writes(notebook) + "\n"
    # the file's time stays, too, and git and Lab see no change
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    write_atomically(path, text)
    return True
