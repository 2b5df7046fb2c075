"""The functions that a notebook defines, for tests: a notebook's text is its twin."""

import ast
from types import SimpleNamespace

from sympo.book import execute


def load_functions(name: str) -> SimpleNamespace:
    """Every function of notebook `name`, with the notebook's imports and none of its results.

    A function that reads one of the notebook's variables fails here: what it needs, it is to be
    told.
    """
    path = execute.twin(name)
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    kept = [
        statement
        for statement in statements
        if isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef)
    ]
    namespace = {}
    exec(compile(ast.Module(kept, type_ignores=[]), str(path), "exec"), namespace)
    return SimpleNamespace(**namespace)
