"""Runs the notebooks, for make: which are out of date, strict parameters, atomic outputs, and what
is committed.

make holds the graph and compares times; the time of `build/<profile>/inputs/<notebook>.txt` changes
only when what the notebook is made from changes in content. Notebooks are run from their twins in
notebooks/src, so that the committed .ipynb, whose times Jupyter touches, are outputs and never
inputs.
"""

import argparse
import ast
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from sympo._names import unknown_name
from sympo.book import figures
from sympo.studies import profiles

# they sum up what the others found; the Makefile names them too
LAST = ("00_start_here", "16_paper")

# `verify`: two numbers agree when they differ by at most atol + rtol·|committed|.
TOLERANCES = {
    "theory": {"rtol": 1e-4, "atol": 1e-6},  # the same arithmetic, perhaps in another order
    # training on another CPU takes another path: three points of accuracy
    "study": {"rtol": 0.05, "atol": 0.03},
}
TEST_COLUMNS = (
    "p",
    "p_holm",
)  # a p value may move a lot while the difference it belongs to, which is compared, does not

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB = "https://colab.research.google.com/github"


# Where things are


def notebooks() -> list[str]:
    """The notebooks' names, in the order in which they run."""
    names = sorted(path.stem for path in _sources().glob("[0-9]*.py"))
    return [name for name in names if name not in LAST] + [name for name in names if name in LAST]


def twin(name: str) -> Path:
    """The py:percent text of a notebook.

    Raises:
        ValueError: there is no such notebook; the sentence names the nearest.
    """
    if name not in notebooks():
        raise ValueError(unknown_name("notebook", name, notebooks()))
    return _sources() / f"{name}.py"


def output(name: str, profile: str) -> Path:
    """The executed copy of a notebook."""
    return profiles.build_folder(profile) / f"{name}.ipynb"


def _sources() -> Path:
    return profiles.root() / "notebooks" / "src"


def _inputs_file(name: str, profile: str) -> Path:
    return profiles.build_folder(profile) / "inputs" / f"{name}.txt"


def _made_file(name: str, profile: str) -> Path:
    return profiles.build_folder(profile) / "made" / f"{name}.json"


def _study(name: str) -> str:
    return name.partition("_")[2]


# What a notebook is made from


def modules_of(*sources: Path) -> list[Path]:
    """The modules of sympo that Python files import, directly or through one another, also inside
    functions.
    """
    package = profiles.root() / "sympo"
    found, waiting = set(), list(sources)
    while waiting:
        tree = ast.parse(waiting.pop().read_text(encoding="utf-8"))
        new = {
            path for name in _imported(tree) if (path := package / f"{name}.py").is_file()
        } - found
        found |= new
        waiting += new
    return sorted(found)


def _imported(tree: ast.AST) -> set[str]:
    """Names that may be submodules of sympo, `__init__` among them where sympo is imported at
    all.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = [*(["sympo"] if node.level else []), *(node.module or "").split(".")]
            parts = [[part for part in (*start, alias.name) if part] for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            parts = [[node.value.id, node.attr]]
        else:
            continue
        names |= {name for part in parts if part[0] == "sympo" for name in ("__init__", *part[1:2])}
    return names


def inputs(name: str, profile: str) -> str:
    """What a notebook is made from, a line each: a hash and a path, or its section of the
    profile.
    """
    source, study, root = twin(name), _study(name), profiles.root()
    roots = [source]
    if study in profiles.STUDIES:  # config imports a study's module by name
        roots.append(root / (profiles.STUDIES[study][0].replace(".", "/") + ".py"))
    paths = {source, root / "constraints.txt", *modules_of(*roots), *roots}
    lines = [
        f"{_sha256(path)} {path.relative_to(root).as_posix()}"
        for path in sorted(paths)
        if path.is_file()
    ]
    if root / "sympo" / "claims.py" in paths:  # which reads them by name
        lines.append(f"{_sha256(root / 'notebooks' / 'claims.yaml')} notebooks/claims.yaml")
    if profile == "laptop" and study in ("hh", "ultrafeedback"):  # which show a GPU's records there
        recorded = sorted((root / "figures" / "gpu" / "data").glob(f"fig?_{study}_*.csv"))
        lines += [f"{_sha256(path)} {path.relative_to(root).as_posix()}" for path in recorded]
    section = profiles.read_profile(profile).get(study)
    if section is not None:
        digest = hashlib.sha256(json.dumps(section, sort_keys=True).encode()).hexdigest()[:16]
        lines.append(f"{digest} section {study} of profile {profile}")
    return "\n".join(lines) + "\n"


def write_inputs(profile: str) -> None:
    """Write the inputs files of every notebook, each only where its content changed or a result it
    made is not as made.

    So results of an exercise in Lab, which overwrite those of the profile, do not pass for them.
    """
    for name in notebooks():
        path, new = _inputs_file(name, profile), inputs(name, profile)
        old = path.read_text(encoding="utf-8") if path.is_file() else None
        gone = [
            path
            for path, sha in _read_made(name, profile).items()
            if not _is_as_made(profiles.root() / path, sha)
        ]
        if old == new and not gone:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(new, encoding="utf-8")
        if old is not None and output(name, profile).is_file():
            changed = sorted(
                {line.partition(" ")[2] for line in {*old.splitlines()} ^ {*new.splitlines()}}
            )
            _say(
                f"{name} is out of date: {', '.join([*changed, *(f'{path} is gone or was changed' for path in gone)])}"
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _read_made(name: str, profile: str) -> dict[str, str]:
    """Path → hash of what the last run of a notebook wrote."""
    note = _made_file(name, profile)
    return json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}


def _is_as_made(path: Path, sha: str) -> bool:
    # Pictures may be drawn again from the csv; the data may not change behind make's back.
    return path.is_file() and (path.suffix != ".csv" or _sha256(path) == sha)


# Reading twins, checking parameters


def read_twin(name: str):
    """The notebook node of a twin, with ids that depend on the cells' content alone."""
    import jupytext

    notebook = jupytext.read(twin(name), fmt="py:percent")
    notebook.metadata.pop("jupytext", None)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen = Counter()
    for cell in notebook.cells:
        key = f"{cell.cell_type}\n{cell.source}"
        cell["id"] = hashlib.sha256(f"{key}\n{seen[key]}".encode()).hexdigest()[:12]
        seen[key] += 1
    return notebook


def parameters(notebook) -> dict:
    """The names and default values of the cell tagged `parameters`.

    Raises:
        ValueError: no such cell, or a line of it that is not `name = literal`.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(
            f"a notebook needs one cell tagged 'parameters', this one has {len(cells)}"
        )
    found = {}
    for statement in ast.parse(cells[0].source).body:
        try:
            (target,) = statement.targets
            found[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            line = ast.unparse(statement)
            raise ValueError(
                f"the parameters cell may hold `name = literal` only, not `{line}`"
            ) from None
    return found


def check_parameters(notebook, name: str, profile: str, settings: dict) -> dict:
    """The parameters to run a notebook with: `profile`, and `settings` as its own parameters or its
    study's fields.

    Raises:
        ValueError: a setting that is neither, or of another type than the default; the sentence
            names it.
    """
    known = parameters(notebook)
    if "profile" not in known:
        raise ValueError(f"{name}: the parameters cell does not set `profile`")
    given, overrides = {"profile": profile}, {}
    for key, value in settings.items():
        if key in ("profile", "overrides"):
            raise ValueError(
                f"'{key}' is not set this way: use --profile, and one --set per field of the study"
            )
        if key in known:
            given[key] = _check_type(key, value, known[key])
        elif "overrides" in known:
            overrides[key] = value
        else:
            raise ValueError(
                unknown_name(f"parameter of {name}", key, sorted({*known} - {"profile"}))
            )
    if overrides:
        profiles.study_config(_study(name), profile, **overrides)
        given["overrides"] = overrides
    return given


def _check_type(key: str, value, default):
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if default is not None and type(value) is not type(default):
        wanted = type(default).__name__
        raise ValueError(
            f"parameter '{key}' must be of type {wanted}, as its default {default!r}; got {value!r}"
        )
    return value


def parse_setting(text: str) -> tuple[str, object]:
    """The name and value of `name=value`: a Python literal (0.3, True, [1, 2]), or else the text
    itself.

    Raises:
        ValueError: no name or no =.
    """
    key, equals, value = text.partition("=")
    if not (equals and key.strip().isidentifier()):
        raise ValueError(f"--set takes name=value, got '{text}'")
    try:
        return key.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return key.strip(), {"true": True, "false": False}.get(value.strip(), value.strip())


# Running


def run(name: str, profile: str, **settings) -> Path:
    """Execute a notebook's twin; the output appears whole or not at all.

    With `settings` the output is `<name>.custom.ipynb` and its figures go to
    build/<profile>/custom. A notebook that fails leaves `<name>.failed.ipynb`.

    Raises:
        ValueError: bad input; nothing was started.
        RuntimeError: a cell raised or the kernel died; the message holds the cell's traceback.
    """
    profile = profiles.resolve_profile(profile)
    notebook = read_twin(name)
    given = check_parameters(notebook, name, profile, settings)
    target = output(f"{name}.custom" if settings else name, profile)
    failed = target.with_suffix(".failed.ipynb")
    partial = target.with_suffix(".part.ipynb")
    started = time.monotonic()
    _say(_outlook(name, profile))
    _write_notebook(notebook, partial)
    since = partial.stat().st_mtime_ns
    try:
        with (
            _show_progress(partial.with_suffix(".progress")),
            _kernel_environment(partial, custom=bool(settings)),
        ):
            _execute(partial, given)
    except RuntimeError as error:
        partial.replace(failed)
        raise RuntimeError(
            f"{error}\n{name} failed; {_relative(failed)} shows how far it came."
        ) from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    failed.unlink(missing_ok=True)
    if not settings:
        _note_made(name, profile, since)
    partial.replace(target)
    _say(f"  {name}: done in {_duration(time.monotonic() - started)}")
    return target


def _execute(path: Path, given: dict) -> None:
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_core.utils import run_sync
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    kernel = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(
            kernel_dirs=[]
        ),  # this Python: a kernel in the home folder may be another
        transport_encryption="auto",  # else ipykernel warns at each start
    )
    folder = profiles.root() / "notebooks"
    try:
        execute_notebook(
            path, path, given, kernel_name="python3", progress_bar=False, cwd=folder, km=kernel
        )
    except PapermillExecutionError as error:
        text = "\n".join(error.traceback) or f"{error.ename}: {error.evalue}"
        # Colours are for a person only.
        raise RuntimeError(
            text if sys.stderr.isatty() else re.sub(r"\x1b\[[\d;]*m", "", text)
        ) from None
    except DeadKernelError:
        raise RuntimeError("the kernel died, perhaps for want of memory") from None
    finally:
        if kernel.has_kernel:
            run_sync(kernel.shutdown_kernel)(now=True)  # at once: records are written atomically


@contextmanager
def _kernel_environment(partial: Path, *, custom: bool):
    """The environment variables that the kernel inherits: this code, no settings of the user's
    own.
    """
    saved = dict(os.environ)
    os.environ |= {
        # start-up files in the home folder are not ours
        "IPYTHONDIR": str(profiles.root() / "build" / "ipython"),
        "PYTHONPATH": str(profiles.root()),
        "PYTHONHASHSEED": "0",  # sympy's order of terms may follow it
        "SYMPO_PROGRESS": str(partial.with_suffix(".progress")),
    }
    if custom:
        os.environ["SYMPO_FIGURES"] = str(partial.parent / "custom")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= saved


@contextmanager
def _show_progress(path: Path):
    """Show the last line of a file of progress bars: one line redrawn for a person, one every 15 s
    in a log.
    """
    path.unlink(missing_ok=True)
    done, started, person = threading.Event(), time.monotonic(), sys.stderr.isatty()

    def show(last=""):
        while not done.wait(0.5 if person else 15):
            line = _last_line(path)
            if person:
                text = f"  {_duration(time.monotonic() - started)}  {line}"[
                    : shutil.get_terminal_size().columns - 1
                ]
                print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            elif line != last:
                _say(f"  {line}")
                last = line

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        path.unlink(missing_ok=True)
        if person:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _last_line(path: Path) -> str:
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = re.split(r"[\r\n]+", file.read().decode(errors="ignore"))
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _outlook(name: str, profile: str) -> str:
    """`[3/8] 05_mnist_losses: about 6 min, 14 min left in all`, from the profile's `minutes`."""
    order, minutes = notebooks(), profiles.read_profile(profile).get("minutes", {})
    place = order.index(name)
    waiting = [later for later in order[place + 1 :] if later in LAST or _is_stale(later, profile)]
    text = f"[{place + 1}/{len(order)}] {name}"
    if name not in minutes:
        return text
    total = sum(minutes.get(each, 0) for each in (name, *waiting))
    return f"{text}: about {minutes[name]:g} min, {total:g} min left in all"


def _is_stale(name: str, profile: str) -> bool:
    made, needs = output(name, profile), _inputs_file(name, profile)
    return not made.is_file() or (
        needs.is_file() and needs.stat().st_mtime_ns > made.stat().st_mtime_ns
    )


def _note_made(name: str, profile: str, since: int) -> None:
    """Note which results a run wrote, so that make can tell when one is gone or was changed."""
    stems = tuple(saved_stems(twin(name)))
    files = [path for path in sorted(profiles.figures_folder(profile).rglob("*")) if path.is_file()]
    made = [
        path for path in files if path.stat().st_mtime_ns >= since and path.name.startswith(stems)
    ]
    note = _made_file(name, profile)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(
        json.dumps({_relative(path): _sha256(path) for path in made}, indent=1), encoding="utf-8"
    )


# What is committed: notebooks with outputs


def refresh(name: str, profile: str) -> bool:
    """Put the outputs of an executed notebook into the committed one; whether that changed it.

    Raises:
        ValueError: there is no executed copy of the present text.
    """
    import nbformat

    executed = output(name, profile)
    remedy = f"run make paper PROFILE={profile} first"
    if not executed.is_file():
        raise ValueError(f"{name} has not been run in profile {profile}: {remedy}")
    cells = [
        cell
        for cell in nbformat.read(executed, as_version=4).cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    notebook = read_twin(name)
    if [cell.source for cell in cells] != [cell.source for cell in notebook.cells]:
        raise ValueError(f"{_relative(executed)} was made from another text of {name}: {remedy}")
    return _commit(name, notebook, cells)


def _commit(name: str, notebook, cells: list) -> bool:
    """Write notebooks/<name>.ipynb: the cells of `notebook`, the outputs of `cells`."""
    counter = 0
    for cell, executed in zip(notebook.cells, cells, strict=True):
        if cell.cell_type == "code":
            counter += 1
            cell.execution_count = counter
            cell.outputs = [
                _clean(each, counter) for each in executed.outputs if not _is_widget(each)
            ]
    return _write_notebook(notebook, profiles.root() / "notebooks" / f"{name}.ipynb")


def _clean(shown, counter: int):
    """An output without what differs from run to run."""
    if "metadata" in shown:
        shown["metadata"] = {}
    if "execution_count" in shown:
        shown["execution_count"] = counter
    return shown


def _is_widget(shown) -> bool:
    return "application/vnd.jupyter.widget-view+json" in shown.get("data", {})


def _write_notebook(notebook, path: Path) -> bool:
    """Write a notebook, if its content changes; whether it did."""
    import nbformat

    from sympo.studies.records import write_atomically

    text = nbformat.writes(notebook) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    write_atomically(path, text)
    return True


def write_badges(repository: str) -> list[str]:
    """Write a repository's address into the twins, the committed notebooks and the README; the
    names of what changed.

    Raises:
        ValueError: not of the form owner/name.
    """
    import nbformat

    from sympo import __version__

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+", repository):
        raise ValueError(
            f"make badges REPO=owner/name needs a repository's owner and name, got '{repository}'"
        )
    changed = []
    for name in notebooks():
        url = f"{COLAB}/{repository}/blob/v{__version__}/notebooks/{name}.ipynb"
        text = twin(name).read_text(encoding="utf-8")
        new = re.sub(
            r'^repository = "[^"]*"',
            f'repository = "{repository}"',
            _with_badge(text, url, "# "),
            flags=re.M,
        )
        changed += _replace(twin(name), new)
        committed = profiles.root() / "notebooks" / f"{name}.ipynb"
        if new != text and committed.is_file():
            _commit(name, read_twin(name), nbformat.read(committed, as_version=4).cells)
    readme = profiles.root() / "README.md"
    if readme.is_file():
        url = f"{COLAB}/{repository}/blob/v{__version__}/notebooks/00_start_here.ipynb"
        changed += _replace(readme, _with_badge(readme.read_text(encoding="utf-8"), url, ""))
    return changed


def _with_badge(text: str, url: str, prefix: str) -> str:
    """`text` with its Colab badge, which stands under the first heading, pointing at `url`."""
    badge = f"{prefix}[![Open in Colab]({BADGE})]({url})"
    old = re.compile(rf"^{prefix}\[!\[Open in Colab\].*$", re.M)
    if old.search(text):
        return old.sub(badge, text, count=1)
    return re.sub(
        rf"^{prefix}# .*$", rf"\g<0>\n{prefix.strip()}\n{badge}", text, count=1, flags=re.M
    )


def _replace(path: Path, text: str) -> list[str]:
    from sympo.studies.records import write_atomically

    if path.read_text(encoding="utf-8") == text:
        return []
    write_atomically(path, text)
    return [_relative(path)]


# What is committed: figures and their data


def redraw(profile: str) -> list[str]:
    """Draw every figure and table again from its csv; the names of the csv files for which nothing
    draws.

    `<stem>.csv` is drawn by `plots.<stem>`, several `<stem>_<name>.csv` by
    `plots.<stem>(name=table, …)`, and `table….csv` is a table.
    """
    folder = profiles.figures_folder(profile) / "data"
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise ValueError(
            f"there is no csv in {_relative(folder)}: run make paper PROFILE={profile} first"
        )
    import pandas as pd

    tables = {path.stem: pd.read_csv(path) for path in paths}
    drawn = set()
    for stem, draw in vars(figures).items():
        parts = {
            name: tables[name] for name in tables if name == stem or name.startswith(f"{stem}_")
        }
        if not stem.startswith("fig") or not callable(draw) or not parts:
            continue
        if stem in parts:
            figures.save(draw(tables[stem]), stem, tables[stem], profile=profile)
            drawn.add(stem)
        else:
            named = {name.removeprefix(f"{stem}_"): table for name, table in parts.items()}
            figures.save(draw(**named), stem, named, profile=profile)
            drawn |= {*parts}
    for stem in tables:
        if stem.startswith("table"):
            figures.save_table(tables[stem], stem, profile=profile)
            drawn.add(stem)
    return sorted({*tables} - drawn)


def differences(profile: str) -> list[str]:
    """How the data behind the figures differ from the committed data, a sentence each.

    Raises:
        ValueError: there is no git history to compare with, or nothing of this profile is
            committed.
    """
    import io

    import pandas as pd

    folder = profiles.figures_folder(profile) / "data"
    committed = _git("ls-tree", "--name-only", "HEAD", f"{_relative(folder)}/").splitlines()
    names = {Path(path).name for path in committed if path.endswith(".csv")}
    if not names:
        raise ValueError(
            f"nothing is committed under {_relative(folder)}, so there is nothing to compare with"
        )
    here = {path.name for path in folder.glob("*.csv")}
    found = [f"{name}: committed, but not here" for name in sorted(names - here)]
    found += [f"{name}: here, but not committed" for name in sorted(here - names)]
    for name in sorted(names & here):
        theirs = pd.read_csv(io.StringIO(_git("show", f"HEAD:{_relative(folder / name)}")))
        kind = _kind(name.removesuffix(".csv"))
        found += [
            f"{name}: {text}" for text in compare(theirs, pd.read_csv(folder / name), kind=kind)
        ]
    return found


def compare(committed, here, *, kind: str) -> list[str]:
    """How two tables differ by more than TOLERANCES[kind], a sentence per column.

    Whole numbers and text must be equal.
    """
    if list(committed.columns) != list(here.columns):
        return [f"columns {', '.join(here.columns)} here, {', '.join(committed.columns)} committed"]
    if len(committed) != len(here):
        return [f"{len(here)} rows here, {len(committed)} committed"]
    skipped = TEST_COLUMNS if kind == "study" else ()
    return [
        text
        for column in committed.columns
        if column not in skipped
        and (text := _compare_column(column, committed[column], here[column], kind))
    ]


def _compare_column(name: str, committed, here, kind: str) -> str:
    measured = (
        committed.dtype.kind in "fi"
        and here.dtype.kind in "fi"
        and "f" in committed.dtype.kind + here.dtype.kind
    )
    if measured:
        gap = (here - committed).abs()
        allowed = TOLERANCES[kind]["atol"] + TOLERANCES[kind]["rtol"] * committed.abs()
        differ = ~((gap <= allowed) | (committed == here) | (committed.isna() & here.isna()))
        worst = (gap - allowed).fillna(math.inf).where(differ, -math.inf).idxmax()
        detail = f" (off by {gap[worst]:.3g}, allowed {allowed[worst]:.3g})"
    else:
        differ = ~((committed == here) | (committed.isna() & here.isna()))
        worst, detail = differ.idxmax(), ""
    if not differ.any():
        return ""
    more = f", and {differ.sum() - 1} more rows" if differ.sum() > 1 else ""
    return f"row {worst + 1}, column {name}: {here[worst]} here, {committed[worst]} committed{detail}{more}"


def _kind(stem: str) -> str:
    """ "study" for data that training makes or that sums such data up, "theory" for the rest."""
    trained = [name for name in notebooks() if name in LAST or _study(name) in profiles.STUDIES]
    stems = [saved for name in trained for saved in saved_stems(twin(name))]
    return (
        "study"
        if any(stem == saved or stem.startswith(f"{saved}_") for saved in stems)
        else "theory"
    )


def saved_stems(path: Path) -> list[str]:
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    return [
        call.args[1].value
        for call in calls
        if getattr(call.func, "attr", "") in ("save", "save_table")
        and len(call.args) > 1
        and isinstance(call.args[1], ast.Constant)
    ]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=profiles.root(), capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        raise ValueError(
            "git is not installed, and the committed data can only be read with it"
        ) from None
    except subprocess.CalledProcessError as error:
        raise ValueError(
            f"git cannot read the committed data: {error.stderr.strip().splitlines()[0]}"
        ) from None
    return done.stdout


# The command line


def main(arguments: list[str] | None = None) -> int:
    """`python -m sympo.book.execute …`: 0 done, 1 a notebook failed or data differ, 2 bad input,
    130 interrupted.
    """
    try:
        return _dispatch(_parser().parse_args(arguments))
    except (ValueError, FileNotFoundError) as error:
        _say(str(error))
        return 2
    except RuntimeError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("interrupted: finished notebooks and runs are kept, and make goes on from there")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sympo.book.execute", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "inputs": "note what each notebook is made from; prints the profile",
        "run": "execute one notebook",
        "notebooks": "put the outputs into the committed notebooks",
        "figures": "draw figures and tables again from their csv",
        "verify": "compare the csv with the committed ones",
    }.items():
        commands.add_parser(name, help=text).add_argument("--profile", default="auto")
    run_parser = commands.choices["run"]
    run_parser.add_argument("name")
    run_parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings"
    )
    commands.add_parser("data", help="fetch the data, where a person can see the download")
    commands.add_parser("badges", help="write the repository's address").add_argument(
        "repository", metavar="OWNER/NAME"
    )
    return parser


def _dispatch(given: argparse.Namespace) -> int:
    if given.command == "badges":
        changed = write_badges(given.repository)
        _say(f"badges: {', '.join(changed) or 'nothing to change'}")
        return 0
    if given.command == "data":
        from sympo.studies import sources

        _say(f"data: MNIST from {sources.mnist().source}")
        return 0
    if given.command == "run":
        run(given.name, given.profile, **dict(map(parse_setting, given.settings)))
        return 0
    profile = profiles.resolve_profile(given.profile)
    if given.command == "inputs":
        write_inputs(profile)
        print(profile)
        return 0
    if given.command == "notebooks":
        changed = [name for name in notebooks() if refresh(name, profile)]
        _say(f"notebooks: {', '.join(changed) or 'nothing to change'}")
        return 0
    if given.command == "figures":
        left = redraw(profile)
        _say("figures: drawn again" + (f"; nothing draws {', '.join(left)}" if left else ""))
        return 1 if left else 0
    found = differences(profile)
    for text in found:
        _say(text)
    _say(f"verify: {len(found) or 'no'} differences beyond the tolerance")
    return 1 if found else 0


def _relative(path: Path) -> str:
    root = profiles.root()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # a runner that is ended ends its kernel too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
