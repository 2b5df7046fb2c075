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
    nearest = _find_nearest(str(name).casefold(), known)
    hint = f" Did you mean '{nearest}'?" if nearest else ""
    return f"unknown {what} '{name}'.{hint} Known: {', '.join(known)}."


def _find_nearest(typed: str, known: list[str]) -> str | None:
    """The known name that was most likely meant; None where there is none."""
    folded = {name.casefold(): name for name in reversed(known)}  # the first of two alike
    if typed in folded:
        return folded[typed]
    # A name without its family, a family without a name, or one word too many. Likeness alone
    # would give the family's shortest name, whichever that is.
    for name in known:
        if name.endswith(f"_{typed}") or name.startswith(f"{typed}_") or typed.endswith(f"_{name}"):
            return name
    close = get_close_matches(typed, folded, n=1)
    return folded[close[0]] if close else None
