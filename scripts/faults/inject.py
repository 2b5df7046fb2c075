"""Run `python -m sympo` while one call of the system fails: for disk.py.

Arguments: the call, the error, how often it still succeeds, the folder to whose files this happens,
and the command.
"""

import builtins
import errno
import os
import sys

# The working folder is the clone, whose package it is.
sys.path.insert(0, os.getcwd())

CALL, ERROR, SUCCEEDS, FOLDER, *COMMAND = sys.argv[1:]


def break_call(module: object, name: str) -> None:
    """Let a function fail from some call on, where it is about a file of the folder."""
    whole = getattr(module, name)
    left = int(SUCCEEDS)

    def broken(target: object, *arguments: object, **options: object) -> object:
        nonlocal left
        # open: only to write; fsync has a number, of a file that is open to be written
        mode = str(arguments[0]) if arguments else str(options.get("mode", "r"))
        writes = name != "open" or any(letter in mode for letter in "wax+")
        concerned = isinstance(target, int) or str(target).startswith(FOLDER)
        # a lock writes nothing
        if writes and concerned and not str(target).endswith((".lock", ".pyc")):
            left -= 1
            if left < 0:
                number = getattr(errno, ERROR)
                raise OSError(number, os.strerror(number))
        return whole(target, *arguments, **options)

    setattr(module, name, broken)


MODULE, NAME = CALL.split(".")
break_call({"os": os, "builtins": builtins}[MODULE], NAME)

from sympo.__main__ import main  # noqa: E402

sys.exit(main(COMMAND))
