"""The notebooks by name: where their text lies, what it holds and what may be set in it.

The text of a notebook is its twin, a Python file in the py:percent format under notebooks/src. The
committed .ipynb, whose times Jupyter touches, is an output and never an input.
"""

import ast
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sympo._names import show, unknown_name
from sympo.studies import profiles

if TYPE_CHECKING:
    from nbformat import NotebookNode

# They sum up what the others find, so they run last, in this order; the Makefile names them too.
LAST = ("16_paper", "00_start_here")
# By the name of a notebook, where that is not its study's: what trains nothing of its own reads the
# records of another's, and 09 has a study for a world of its own beside the one it shares.
_READ = {"mnist_policy": "mnist_losses", "gold": "gold_grammar"}


# In the metadata of an output that is only a copy, since its data could not be had: the reason.
LEFT_OUT = "left_out"
# In the metadata of a committed notebook: `hash_text` of what was written, to tell a later edit.
TEXT = "text_sha256"


def notebooks() -> list[str]:
    """The notebooks' names, in the order in which they run."""
    # numbers are part of the names, so this is the order in which they are read
    names = sorted(path.stem for path in _sources().glob("[0-9]*.py"))
    # sorting is stable: the others first, as before
    return sorted(names, key=lambda name: LAST.index(name) + 1 if name in LAST else 0)


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


def is_left_out(name: str, profile: str) -> bool:
    """Whether a notebook was not executed, because its data could not be had."""
    return (
        is_whole(output(name, profile))
        and LEFT_OUT in _read_json(output(name, profile))["metadata"]
    )


def is_whole(path: Path) -> bool:
    """Whether a file is a notebook, and not half of one."""
    try:
        _read_json(path)
    except (ValueError, OSError):
        return False
    return True


def stem_of(name: str) -> str:
    """The name of a notebook without its number: its section of a profile, if it has one."""
    return name.partition("_")[2]


def study_of(name: str) -> str:
    """The study that a notebook trains, or whose records it reads: its name, as a rule."""
    return _READ.get(stem_of(name), stem_of(name))


def saved_stems(path: Path) -> list[str]:
    """The stems of the figures and tables that a twin saves, in the order of its text."""
    return list(_find_stems(path.read_text(encoding="utf-8")))


# `verify` and `commit` ask for every file, and a twin takes a tenth of a second to parse
@cache
def _find_stems(text: str) -> tuple[str, ...]:
    # parsed and not searched, so that a stem in a comment or in prose does not count
    tree = ast.parse(text)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    saves = [call for call in calls if getattr(call.func, "attr", "") in ("save", "save_table")]
    # figures.save(figure, "stem", table, …): the stem is the second argument
    stems = [call.args[1] for call in saves if len(call.args) > 1]
    return tuple(str(stem.value) for stem in stems if isinstance(stem, ast.Constant))


def read_twin(name: str) -> "NotebookNode":
    """The notebook node of a twin, with ids that depend on the cells' content alone."""
    import jupytext

    notebook = jupytext.read(twin(name), fmt="py:percent")
    # Lab writes this block on opening; it says nothing that pyproject does not
    notebook.metadata.pop("jupytext", None)
    notebook.metadata["language_info"] = {"name": "python"}
    # the first version of the format whose cells have ids
    notebook.nbformat = 4
    notebook.nbformat_minor = 5
    # jupytext's ids are random, and would make a difference at every reading
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        # how many blank lines the twin has after a cell is a matter of the twin's layout
        cell.metadata.pop("lines_to_next_cell", None)
        _fold(cell)
        # equal cells get different ids by their number
        key = f"{cell.cell_type}\n{cell.source}"
        cell["id"] = hashlib.sha256(f"{key}\n{seen[key]}".encode()).hexdigest()[:12]
        seen[key] += 1
    return notebook


def _fold(cell: "NotebookNode") -> None:
    """Let JupyterLab fold what the tags say to hide, as the HTML book does."""
    tags = cell.metadata.get("tags", [])
    hidden = {
        "source_hidden": "hide-input" in tags or "hide-cell" in tags,
        "outputs_hidden": "hide-output" in tags or "hide-cell" in tags,
    }
    if any(hidden.values()):
        cell.metadata["jupyter"] = {key: True for key, value in hidden.items() if value}


def find_edit(name: str) -> str | None:
    """What to do about an edit of the committed notebook that its twin lacks; None without one.

    JupyterLab keeps the two together, but not where it was started in another folder, and no other
    program does.
    """
    path = profiles.root() / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        return None
    notebook = _read_json(path)
    written = notebook["metadata"].get(TEXT)
    if written is None or hash_text(notebook) == written:
        return None
    # as the twin is: what was edited is the twin
    if hash_text(notebook) == hash_text(read_twin(name)):
        return None
    sources = f"{relative(path)} was edited, and {relative(twin(name))} lacks the edit"
    keep = f"`jupytext --sync {relative(path)}` takes it over"
    return f"{sources}: {keep}, `git checkout {relative(path)}` drops it"


def _read_json(path: Path) -> dict[str, Any]:
    """A notebook as a dict: without nbformat, which takes a second to import, as make asks often.

    Raises:
        ValueError: it is no notebook.
    """
    try:
        notebook = json.loads(path.read_bytes())
        if isinstance(notebook["metadata"], dict) and isinstance(notebook["cells"], list):
            return notebook
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    restore = "`git checkout` brings it back" if path.parent.name == "notebooks" else "remove it"
    raise ValueError(f"{relative(path)} is no notebook any more: {restore}")


def hash_text(notebook: Mapping[str, Any]) -> str:
    """A digest of what a person can edit: type, source and tags of every cell."""
    cells = [
        # a file may hold a source as a list of lines
        (cell["cell_type"], "".join(cell["source"]), sorted(cell["metadata"].get("tags", [])))
        for cell in notebook["cells"]
    ]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]


def parameters(notebook: "NotebookNode") -> dict[str, Any]:
    """The names and default values of the cell tagged `parameters`.

    Raises:
        ValueError: no such cell, or a line of it that is not `name = literal`.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        number = len(cells)
        raise ValueError(f"a notebook needs one cell tagged 'parameters', this one has {number}")
    values = {}
    for statement in ast.parse(cells[0].source).body:
        # papermill replaces values by name, so anything cleverer than a literal would be lost
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _is_literal(value):
                values[name] = ast.literal_eval(value)
            case _:
                line = ast.unparse(statement)
                rule = "the parameters cell may hold `name = literal` only"
                raise ValueError(f"{rule}, not `{line}`")
    return values


def check_parameters(
    notebook: "NotebookNode", name: str, profile: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """The parameters to run a notebook with: `profile`, and `settings` where they belong.

    A setting is one of the notebook's own parameters, or else a field of its study. papermill would
    only warn of a misspelt name, and accept a value of any type.

    Raises:
        ValueError: a setting that is neither, or of another type than the default; the sentence
            names it.
    """
    # every notebook has a profile, which names the folders of its results
    defaults = parameters(notebook)
    if "profile" not in defaults:
        raise ValueError(f"{name}: the parameters cell does not set `profile`")
    values: dict[str, Any] = {"profile": profile}
    overrides = {}
    for key, value in settings.items():
        if key in ("profile", "overrides"):
            remedy = "use --profile, and one --set per field of the study"
            raise ValueError(f"'{key}' is not set this way: {remedy}")
        if key in defaults:
            values[key] = _check_type(key, value, defaults[key])
        elif "overrides" in defaults:
            # for `study_config`, which the notebook calls with them
            overrides[key] = value
        else:
            own = sorted({*defaults} - {"profile"})
            raise ValueError(unknown_name(f"parameter of {name}", key, own))
    if overrides:
        # built for its checks alone; the notebook builds it again
        profiles.study_config(study_of(name), profile, **overrides)
        values["overrides"] = overrides
    return values


def relative(path: Path) -> str:
    """A path for messages: within the repository without its folder, elsewhere in full."""
    root = profiles.root()
    # SYMPO_FIGURES may name a folder anywhere
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _sources() -> Path:
    return profiles.root() / "notebooks" / "src"


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _check_type(key: str, value: Any, default: Any) -> Any:
    # `--set rate=1` means 1.0
    if isinstance(default, float) and type(value) is int:
        return float(value)
    # exactly the type: True is an int to isinstance
    if default is not None and type(value) is not type(default):
        wanted = f"of type {type(default).__name__}, as its default {default!r}"
        raise ValueError(f"parameter '{key}' must be {wanted}; got {show(value)}")
    return value
