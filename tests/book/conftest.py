"""A small repository with notebooks that do next to nothing, for tests of what runs them."""

from pathlib import Path

import pytest
from miniature import write_section, write_twin

from sympo.book import execute
from sympo.studies import profiles

MODULES = {
    "__init__": "",
    "alpha": "def f():\n    from . import gamma\n",
    "beta": "",
    "gamma": "",
}


@pytest.fixture(autouse=True)
def no_exercise(monkeypatch) -> None:
    """A process of its own for each test: none of them goes on with another's overrides."""
    monkeypatch.setattr(profiles, "_EXERCISES", set())


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A repository with three notebooks.

    The first imports `alpha`, and so `gamma`; the second imports `beta`.
    """
    folder = tmp_path / "repository"
    write_section(folder, "minutes: {01_one: 2, 02_two: 3.5}\none: {epochs: 1}\ntwo: {epochs: 2}\n")
    write_twin(folder, "01_one", "from sympo import alpha", "print(profile)")
    write_twin(folder, "02_two", "import sympo.beta", "2 + 2")
    write_twin(folder, "03_three", "3")
    (folder / "sympo").mkdir()
    for name, text in MODULES.items():
        (folder / "sympo" / f"{name}.py").write_text(text)
    (folder / "constraints.txt").write_text("numpy==2.0\n")
    monkeypatch.setattr(profiles, "root", lambda: folder)
    return folder


@pytest.fixture
def quick(monkeypatch) -> None:
    """Notebooks that are not executed: the output is the unexecuted notebook."""
    monkeypatch.setattr(execute, "_execute", lambda path, values: None)
