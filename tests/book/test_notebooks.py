"""Every notebook: its shape, its pair, its committed outputs, and its run in the smoke profile."""

import ast
import re

import nbformat
import pytest

import sympo
from sympo.book import execute
from sympo.studies import profiles

NAMES = execute.notebooks()
# run on made-up pairs in test_offline.py: the test needs no network
OFFLINE = ("10_hh", "11_ultrafeedback")
THEORY = [
    name
    for name in NAMES
    if name not in execute.LAST and name.partition("_")[2] not in profiles.STUDIES
]
FOLDER = profiles.root() / "notebooks"

each_notebook = pytest.mark.parametrize("name", NAMES)


def tagged(notebook, tag: str) -> list:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def committed(name: str):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_every_notebook_has_its_twin():
    assert NAMES
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {*NAMES}


@each_notebook
def test_pair(name):
    pair = [
        [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]
        for notebook in (committed(name), execute.read_twin(name))
    ]
    assert pair[0] == pair[1], (
        f"{name}.ipynb and its twin differ: make notebooks writes the first from the second"
    )


@each_notebook
def test_cells(name):
    cells = code(execute.read_twin(name))
    assert len(cells) <= 30
    long = [
        cell.source
        for cell in cells
        if sum(bool(line.strip()) for line in cell.source.splitlines()) > 15
    ]
    assert not long
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell.source))]
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    assert not [ast.unparse(node) for node in nodes if isinstance(node, definitions)]
    named = [
        node.value for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)
    ]
    assert not [ast.unparse(value) for value in named if isinstance(value, ast.Lambda)]


@each_notebook
def test_parameters(name):
    notebook = execute.read_twin(name)
    values = execute.parameters(notebook)
    assert values["profile"] == "auto"
    assert ("overrides" in values) == (name.partition("_")[2] in profiles.STUDIES)


@each_notebook
def test_starts_with_title_bootstrap_parameters(name):
    cells = execute.read_twin(name).cells
    assert cells[0].source.startswith(f"# {name[:2]} · ")
    assert "You will " in cells[0].source
    assert [cell.metadata.get("tags") for cell in cells[1:] if cell.cell_type == "code"][:2] == [
        ["bootstrap"],
        ["parameters"],
    ]


def test_the_bootstrap_is_the_same_everywhere():
    (cell,) = {tagged(execute.read_twin(name), "bootstrap")[0].source for name in NAMES}
    assert f"--branch=v{sympo.__version__} " in cell


@pytest.mark.parametrize("name", THEORY)
def test_theory_is_checked(name):
    checks = tagged(execute.read_twin(name), "check")
    assert checks
    assert all("assert" in cell.source for cell in checks)


@each_notebook
def test_committed_outputs(name):
    notebook = committed(name)
    nbformat.validate(notebook)
    assert set(notebook.metadata) <= {"accelerator", "colab", "kernelspec", "language_info"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    text = nbformat.writes(notebook)
    places = (
        "/home/",
        "/Users/",
        "/root/",
        "/tmp/",
        "site-packages",
        str(profiles.root()),
        "widget-view",
        "papermill",
    )
    assert not [place for place in places if place in text]
    assert [cell.execution_count for cell in code(notebook)] == list(
        range(1, len(code(notebook)) + 1)
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OFFLINE])
def test_runs_in_the_smoke_profile(name):
    path = execute.run(name, "smoke")
    outputs = [
        output for cell in code(nbformat.read(path, as_version=4)) for output in cell.outputs
    ]
    warned = [
        output.text
        for output in outputs
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert not [text for text in warned if re.search(r"Warning", text)], (
        "a warning in a notebook is a question unanswered"
    )
