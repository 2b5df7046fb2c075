"""Notebooks with one thing changed: does a check notice a wrong constant, sign or condition?"""

import ast
from collections.abc import Callable

from sympo.book import execute


class Page:
    """The code cells of a notebook, each with the names as they stood before it.

    Attributes:
        sources: of the code cells that ran, in order.
    """

    def __init__(self, name: str, *, keep: Callable[[str, list[str]], bool], **settings) -> None:
        """Run the cells of notebook `name` that `keep` wants, by their source and their tags."""
        notebook = execute.read_twin(name)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        names: dict = {}
        self.sources: list[str] = []
        self._before: list[dict] = []
        for cell in cells:
            tags = cell.metadata.get("tags", [])
            if not keep(cell.source, tags):
                continue
            self.sources.append(cell.source)
            self._before.append(dict(names))
            exec(compile(cell.source, name, "exec"), names)
            if "parameters" in tags:
                names.update(settings)

    def notices(self, old: str, new: str) -> bool:
        """Whether an assertion fails once `old` is `new` in the one cell that has it.

        The cells after it run too, until one notices: a function is checked where it is called.

        Raises:
            ValueError: `old` stands in no cell, in several, or several times in one.
        """
        places = [number for number, source in enumerate(self.sources) if old in source]
        if len(places) != 1 or self.sources[places[0]].count(old) != 1:
            raise ValueError(f"{old!r} is in the cells {places}: choose a text that is there once")
        (place,) = places
        mutant = self.sources[place].replace(old, new)
        ast.parse(mutant)
        names = dict(self._before[place])
        try:
            for source in (mutant, *self.sources[place + 1 :]):
                exec(compile(source, "mutant", "exec"), names)
        except AssertionError:
            return True
        return False
