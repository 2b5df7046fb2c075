"""What the library imports: its hard dependencies, and nothing of the studies or the book."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sympo

PACKAGE = Path(sympo.__file__).parent
# Beside the studies and the book, every package in it is the library's.
MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in ("studies", "book")
)
# pyarrow is a part of datasets' interface: its tables are made of it.
ALLOWED = {
    *("datasets", "filelock", "numpy", "pyarrow", "scipy", "sympo", "torch", "transformers", "trl")
}


def list_imports(body: list[ast.stmt]) -> set[str]:
    """The modules that statements import when they run; those of type checkers alone do not."""
    names = set()
    for statement in body:
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            names.add(statement.module)
        elif isinstance(statement, ast.Try):
            names |= list_imports(statement.body)
        elif isinstance(statement, ast.If):
            typing = ast.unparse(statement.test) == "TYPE_CHECKING"
            names |= list_imports([*([] if typing else statement.body), *statement.orelse])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_hard_dependencies_only(path):
    imports = list_imports(ast.parse(path.read_text()).body)
    packages = {name.partition(".")[0] for name in imports} - set(sys.stdlib_module_names)
    assert packages <= ALLOWED
    # Imports run downwards only: book → studies → library.
    assert not [name for name in imports if name.startswith(("sympo.studies", "sympo.book"))]


def test_import_sympo_is_light():
    """No torch, until a module is asked for."""
    script = (
        "import sys, sympo; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_whoever_takes_all_of_the_losses_loads_no_sympy():
    script = "import sys; from sympo.losses import *; print('sympy' in sys.modules, get.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False get", done.stderr


def test_each_name_is_listed_once():
    # imported, a module is both among the globals and among the public names
    assert sympo.losses
    assert sorted(set(dir(sympo))) == dir(sympo)


def test_every_public_name_is_there():
    assert sorted(sympo.__all__) == sympo.__all__
    for name in sympo.__all__:
        module = getattr(sympo, name)
        # Each module of the library lists what it means to be used.
        for public in getattr(module, "__all__", ()):
            assert hasattr(module, public), f"{name}.{public}"
    with pytest.raises(AttributeError, match="no attribute 'losess'"):
        sympo.losess  # noqa: B018
