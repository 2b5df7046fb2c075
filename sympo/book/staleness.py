"""Which notebooks are out of date: what each is made from, and the results it wrote.

make holds the graph and compares times; the time of `build/<profile>/inputs/<notebook>.txt` changes
only when what the notebook is made from changes in content, or when a result is not as the notebook
left it. doit would hash the inputs for us, but not the imports behind them; and it takes a target
for good as long as it exists, while a csv that a cell tried out in Lab overwrote must not pass for
the profile's.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from sympo._files import write_atomically
from sympo.book.twins import (
    is_whole,
    notebooks,
    output,
    relative,
    saved_stems,
    stem_of,
    study_of,
    twin,
)
from sympo.studies import profiles

# Studies whose notebooks show on a laptop what a GPU has recorded.
SHOWN_FROM_GPU = ("mnist_losses", "mnist_noise", "gold_grammar", "hh", "ultrafeedback")


def modules_of(*sources: Path) -> list[Path]:
    """The modules of sympo that Python files import, directly or through one another.

    Imports inside functions count, and so does the `__init__` of every package on the way; imports
    for a type checker alone do not.
    """
    # a set, because modules may import each other in a circle
    modules: set[Path] = set()
    waiting = list(sources)
    while waiting:
        new = _list_imports(waiting.pop()) - modules
        modules.update(new)
        waiting.extend(new)
    return sorted(modules)


def _list_imports(source: Path) -> set[Path]:
    """The files of sympo that the imports of one file name."""
    names = _read_imports(source, source.read_text(encoding="utf-8"))
    return {path for name in names for path in _find_files(name)}


# many notebooks share a module, and it takes longer to parse than to read
@cache
def _read_imports(source: Path, text: str) -> frozenset[str]:
    nodes = _walk(ast.parse(text))
    return frozenset(name for node in nodes for name in _list_names(node, source))


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """`ast.walk` without what stands under `if TYPE_CHECKING:`."""
    # ast.walk itself cannot be told to leave a branch out
    for child in ast.iter_child_nodes(node):
        if not _is_for_type_checker(child):
            yield child
            yield from _walk(child)


def _is_for_type_checker(node: ast.AST) -> bool:
    # both `TYPE_CHECKING` and `typing.TYPE_CHECKING`
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _list_names(node: ast.AST, source: Path) -> list[str]:
    """The dotted names that a node imports: of modules, or of what lies in them."""
    match node:
        case ast.Import(names=aliases):
            return [alias.name for alias in aliases]
        case ast.ImportFrom(module=module, names=aliases, level=level):
            # one dot is the package of the file, each further dot the package around it
            around = source.relative_to(profiles.root()).parts[:-level] if level else ()
            start = ".".join([*around, *([module] if module else [])])
            return [f"{start}.{alias.name}" for alias in aliases]
        case ast.Attribute():
            # `import sympo` and then `sympo.losses.get(…)`: modules load on first use
            parts = _read_attributes(node)
            return [".".join(parts)] if parts[0] == "sympo" else []
    return []


def _read_attributes(node: ast.expr) -> list[str]:
    """`["a", "b", "c"]` of `a.b.c`; what stands before the first name of another chain is empty."""
    match node:
        case ast.Attribute(value=value, attr=attribute):
            return [*_read_attributes(value), attribute]
        case ast.Name(id=name):
            return [name]
    return [""]


def _find_files(name: str) -> list[Path]:
    """The files that importing `sympo.a.b` runs: the packages on the way, and the module."""
    first, *parts = name.split(".")
    if first != "sympo":
        return []
    folder = profiles.root() / "sympo"
    # importing a module runs every package around it first
    files = [folder / "__init__.py"]
    for part in parts:
        module = folder / f"{part}.py"
        if module.is_file():
            return [*files, module]
        if not (folder / part / "__init__.py").is_file():
            # a function or a class, which its package may load on first use
            return [*files, *_find_lazy(folder / "__init__.py", part)]
        folder = folder / part
        files.append(folder / "__init__.py")
    return files


def _find_lazy(package: Path, name: str) -> list[Path]:
    """The files behind a name that a package loads on first use, and imports for type checkers."""
    # a package that loads names on first use imports them for type checkers, see sympo/__init__
    blocks = filter(_is_for_type_checker, ast.parse(package.read_text(encoding="utf-8")).body)
    imports = [node for block in blocks for node in ast.walk(block)]
    names = [dotted for node in imports for dotted in _list_names(node, package)]
    return [path for dotted in names if dotted.endswith(f".{name}") for path in _find_files(dotted)]


def inputs(name: str, profile: str) -> str:
    """What a notebook is made from, a line each: a hash, and a path or a section of the profile."""
    root = profiles.root()
    study = study_of(name)
    sources = {twin(name)}
    if study in profiles.STUDIES:
        # profiles imports the study's module by this name, which no import statement shows
        sources.update(_find_files(profiles.STUDIES[study][0]))
    paths = {*sources, *modules_of(*sources), root / "constraints.txt"}
    # read by their names, too
    for module, read in (("claims", "claims.yaml"), ("paper", "map.yaml")):
        if root / "sympo" / "book" / f"{module}.py" in paths:
            paths.add(root / "notebooks" / read)
    # on a laptop, these show what a GPU recorded
    if profile == "laptop" and study in SHOWN_FROM_GPU:
        for folder in (profiles.own_figures("gpu"), profiles.committed_figures("gpu")):
            paths.update((folder / "data").glob(f"*_{stem_of(name)}*.csv"))
            paths.add(folder / "data" / f"{name}.json")
    # hashes and not times: a checkout or an undone edit changes times alone
    lines = [f"{_sha256(path)} {relative(path)}" for path in sorted(paths) if path.is_file()]
    # its own section and that of its study; those of others may change
    for part in dict.fromkeys((stem_of(name), study)):
        section = profiles.read_profile(profile).get(part)
        if section is not None:
            # comments and layout of the yaml do not count
            digest = hashlib.sha256(json.dumps(section, sort_keys=True).encode()).hexdigest()[:16]
            lines.append(f"{digest} section {part} of profile {profile}")
    return "\n".join(lines) + "\n"


def write_inputs(profile: str) -> list[str]:
    """Write the inputs files of the notebooks, each only where there is a reason to run it again.

    A reason is an input whose content changed, or a result that is not as the notebook left it.

    Returns:
        a sentence per notebook that has run before and is now out of date.
    """
    sentences = []
    for name in notebooks():
        path = _inputs_file(name, profile)
        new = inputs(name, profile)
        # what the notebook was made from when it was last found stale
        old = _read_inputs(name, profile)
        changed = sorted({line.partition(" ")[2] for line in _differing_lines(old, new)})
        # an altered result alone rewrites the same text: its new time is what make sees
        altered = [f"{result} is gone or was changed" for result in list_altered(name, profile)]
        executed = output(name, profile)
        if executed.is_file() and not is_whole(executed):
            altered.append(f"{relative(executed)} is no notebook any more")
        if not changed and not altered:
            continue
        write_atomically(path, new)
        # a notebook that has never run is new, not out of date
        if old and output(name, profile).is_file():
            sentences.append(f"{name} is out of date: {', '.join([*changed, *altered])}")
    return sentences


def is_stale(name: str, profile: str) -> bool:
    """Whether make would run a notebook: it has no output, or a reason came up since.

    A reason counts from the moment at which `write_inputs` has seen it.
    """
    executed = output(name, profile)
    needs = _inputs_file(name, profile)
    if not executed.is_file():
        return True
    # the rule by which make goes, without asking make
    return needs.is_file() and needs.stat().st_mtime_ns > executed.stat().st_mtime_ns


def write_inputs_of(name: str, profile: str) -> None:
    """Note what a notebook is made from, as it is about to run."""
    write_atomically(_inputs_file(name, profile), inputs(name, profile))


def is_of_present_text(name: str, profile: str) -> bool:
    """Whether a notebook was last run on what it is made from now."""
    return _read_inputs(name, profile) == inputs(name, profile)


def note_results(name: str, profile: str, *, since: int) -> None:
    """Note which results a notebook wrote, so that `write_inputs` sees when one is changed.

    Args:
        since: time at which the notebook started, ns.
    """
    # and the provenance beside them
    stems = (*saved_stems(twin(name)), f"{name}.json")
    files = [path for path in profiles.own_figures(profile).rglob("*") if path.is_file()]
    # by time and stem: another notebook may be run by hand meanwhile
    recent = [path for path in sorted(files) if path.stat().st_mtime_ns >= since]
    results = {relative(path): _sha256(path) for path in recent if path.name.startswith(stems)}
    write_atomically(results_file(name, profile), json.dumps(results, indent=1))


def list_altered(name: str, profile: str) -> list[str]:
    """The results of a notebook that are gone, and the csv files that hold something else."""
    # before its first run nothing can have been altered
    if not results_file(name, profile).is_file():
        return []
    results = read_results(name, profile)
    if results is None:
        return [relative(results_file(name, profile))]
    return [path for path, digest in results.items() if _is_altered(path, digest)]


def read_results(name: str, profile: str) -> dict[str, str] | None:
    """Path → hash of the results that the last run of a notebook left.

    None where the note is gone or is none, so that nothing is known of them.
    """
    try:
        results = json.loads(results_file(name, profile).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(results, dict):
        return None
    return results if all(isinstance(digest, str) for digest in results.values()) else None


def _is_altered(result: str, digest: str) -> bool:
    path = profiles.root() / result
    if not path.is_file():
        return True
    # pictures may be drawn again from the csv, on another machine with other bytes
    return path.suffix == ".csv" and _sha256(path) != digest


def _read_inputs(name: str, profile: str) -> str:
    """What a notebook was made from when it was last found stale; "" where nothing says so."""
    path = _inputs_file(name, profile)
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _differing_lines(old: str, new: str) -> set[str]:
    return {*old.splitlines()} ^ {*new.splitlines()}


def _inputs_file(name: str, profile: str) -> Path:
    return profiles.build_folder(profile) / "inputs" / f"{name}.txt"


def results_file(name: str, profile: str) -> Path:
    """The note of a notebook's results: a JSON object of paths and hashes."""
    return profiles.build_folder(profile) / "results" / f"{name}.json"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
