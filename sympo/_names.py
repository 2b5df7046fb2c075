"""What a user gives: the sentence that refuses a name, what a number is, how values are shown."""

import reprlib
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real
from typing import Any, TypeGuard


class _Shown(reprlib.Repr):
    def repr_int(self, x: Any, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:  # of more digits than Python writes
            return f"an integer of {x.bit_length()} bits"


_SHOWN = _Shown()
_SHOWN.maxstring = _SHOWN.maxother = 80  # ours: what is longer does not fit a sentence
_SHOWN.maxlevel = 3


def show(value: object) -> str:
    """`value` as a sentence shows it: its repr, on one line, cut in the middle where it is long."""
    return " ".join(_SHOWN.repr(value).split("\n"))


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a number that can be meant as one: True, "0.2" and 10**400 are not."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    # no float can hold an integer beyond; infinity and NaN are refused where they are no value
    return not isinstance(value, int) or abs(value) <= sys.float_info.max


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
    return f"unknown {what} {show(str(name))}.{hint} Known: {', '.join(known)}."


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
