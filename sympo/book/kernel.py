"""In a notebook's kernel: no result of a smoke run or an exercise is shown without saying so.

Figures and tables that are saved say it themselves (`sympo.book.figures.files`). Sentences and
tables that a cell only shows are made by many hands, so the kernel says it under each of them.
"""

import sys
from typing import Any

from sympo.studies import profiles


def watch() -> None:
    """From now on, put the caveat of the notebook's profile under whatever a cell ends in.

    Outside a kernel this does nothing.
    """
    # whoever runs in a kernel has loaded IPython, and nobody else need wait for it
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None:
        shell.events.register("post_run_cell", lambda result: _say_caveat(shell, result))


def _say_caveat(shell: Any, result: Any) -> None:
    # the parameters cell names the profile, in every notebook
    profile = shell.user_ns.get("profile")
    if result.result is None or not isinstance(profile, str):
        return
    caveat = profiles.caveat(profiles.resolve_profile(profile))
    if caveat:
        from IPython.display import Markdown, display

        display(Markdown(f"**{caveat}**"))
