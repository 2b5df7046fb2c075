"""Settings on a command line: `--set name=value`, for a study and for a notebook."""

import ast

from sympo._names import show


def parse_setting(text: str) -> tuple[str, object]:
    """Name and value of `name=value`: a Python literal (0.3, True, [1, 2]), or else text.

    Raises:
        ValueError: no name or no =.
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    value = value.strip()
    if not (equals and name.isidentifier()):
        raise ValueError(f"--set takes name=value, got {show(text)}")
    try:
        return name, ast.literal_eval(value)
    # The last two: brackets in brackets, or a row of signs, thousands deep.
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        # Profiles are YAML, so people write true and false as they do there.
        return name, {"true": True, "false": False}.get(value, value)
