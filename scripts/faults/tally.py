"""What a part of `make faults` has tried, and what came of it."""

from dataclasses import dataclass, field


@dataclass
class Tally:
    """One row of the table.

    Attributes:
        name: what was done, for a person.
        tried: how often.
        lost: sentences, one for each result that is gone, differs or is half there.
        undocumented: sentences, one for each end that was no sentence: a traceback, exit code 0
            where nothing was done, an error that no docstring names.
        seconds: that it took.
    """

    name: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    undocumented: list[str] = field(default_factory=list)
    seconds: float = 0.0
