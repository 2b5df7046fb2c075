"""In a notebook's kernel: no result of a smoke run or an exercise is shown without saying so.

Figures and tables that are saved say it themselves (`sympo.book.figures.files`). Sentences and
tables that a cell only shows are made by many hands, so the kernel says it above each of them.
"""

import ast
import sys
from typing import Any

from sympo.studies import profiles


def watch() -> None:
    """From now on, put the caveat of the notebook's profile above whatever a cell ends in.

    Above, since whoever has read a conclusion has believed it. Outside a kernel this does nothing.
    """
    # whoever runs in a kernel has loaded IPython, and nobody else need wait for it
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None:
        shell.events.register("pre_run_cell", lambda cell: _say_caveat(shell, cell.raw_cell))


def _say_caveat(shell: Any, source: str) -> None:
    # the parameters cell names the profile, in every notebook
    profile = shell.user_ns.get("profile")
    # a name that no profile has is refused by the cell that asks for it
    known = isinstance(profile, str) and profile in ("auto", *profiles.PROFILES)
    if not known or not _ends_in_expression(shell.transform_cell(source)):
        return
    caveat = profiles.caveat(profiles.resolve_profile(profile))
    if caveat:
        from IPython.display import Markdown, display

        display(Markdown(f"**{caveat}**"))


def _ends_in_expression(source: str) -> bool:
    """Whether a cell shows a value, as far as its text tells."""
    if source.rstrip().endswith(";"):
        return False
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return False
    return bool(statements) and isinstance(statements[-1], ast.Expr)
