"""The sentence that refuses an unknown name, for every registry of the package."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """The sentence that refuses `name`: the nearest known name, and all of them.

    Args:
        what: the kind of thing that is named, such as "loss" or "profile".
        known: the names that would have been accepted.
    """
    known = list(known)
    # str, since a name that comes from a file may be a number or None.
    nearest = get_close_matches(str(name), known, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"unknown {what} '{name}'.{hint} Known: {', '.join(known)}."
