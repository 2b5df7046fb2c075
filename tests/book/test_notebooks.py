"""Every notebook: its shape, its pair, its committed outputs, and its run in the smoke profile.

What its first cell does on Colab is test_colab.py's business.
"""

import ast
import os
import re
import subprocess
import sys
import textwrap

import nbformat
import pytest

from sympo.book import execute, twins
from sympo.book.twins import study_of
from sympo.studies import profiles

NAMES = execute.notebooks()
# These run on made-up pairs in tests/studies/test_offline.py, which needs no network.
OFFLINE = ("10_hh", "11_ultrafeedback")
THEORY = [
    name for name in NAMES if name not in execute.LAST and study_of(name) not in profiles.STUDIES
]
FOLDER = profiles.root() / "notebooks"

each_notebook = pytest.mark.parametrize("name", NAMES)


def tagged(notebook, tag: str) -> list:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def committed(name: str):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    # JupyterLab writes this block as soon as it opens a notebook
    notebook.metadata.pop("jupytext", None)
    return notebook


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
def test_what_is_folded_is_read_as_markdown(name):
    """What stands on the line of a summary is HTML, and its $ and ` are shown as they are."""
    sources = [
        cell.source for cell in execute.read_twin(name).cells if cell.cell_type == "markdown"
    ]
    text = "\n".join(sources)
    assert not re.findall(r"</summary>[^\n]+", text)
    assert not re.findall(r"</summary>\n[ ]*[^\s]+", text)


@each_notebook
def test_cells_are_few_and_short(name):
    cells = code(execute.read_twin(name))
    assert len(cells) <= 45
    # a folded cell only prints a sentence
    folded = {"hide-input", "hide-cell"}
    visible = [cell for cell in cells if not folded & {*cell.metadata.get("tags", [])}]
    assert len(visible) <= 35
    assert not [cell.source for cell in cells if len(code_lines(cell.source)) > 20]


@each_notebook
def test_functions_are_short(name):
    """A notebook's function is its method, to be read in one look; machinery is in the package."""
    functions = [node for node in walk(name) if isinstance(node, ast.FunctionDef)]
    long = {node.name: len(code_lines(ast.unparse(strip_docstring(node)))) for node in functions}
    assert not {function: lines for function, lines in long.items() if lines > 12}


@each_notebook
def test_nothing_hides_in_a_named_lambda(name):
    assignments = ast.Assign | ast.AnnAssign | ast.NamedExpr
    values = [node.value for node in walk(name) if isinstance(node, assignments)]
    assert not [ast.unparse(value) for value in values if isinstance(value, ast.Lambda)]


@each_notebook
def test_prose_is_at_least_as_long_as_code(name):
    words = {"markdown": 0, "code": 0}
    for cell in execute.read_twin(name).cells:
        words[cell.cell_type] += len(cell.source.split())
    assert words["markdown"] >= words["code"]


def code_lines(source: str) -> list[str]:
    """The lines of a cell or function that are neither empty nor a comment."""
    return [
        line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")
    ]


def strip_docstring(function: ast.FunctionDef) -> ast.FunctionDef:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return ast.FunctionDef(**{**vars(function), "body": body})


def walk(name: str) -> list[ast.AST]:
    """Every node of every code cell."""
    return [
        node for cell in code(execute.read_twin(name)) for node in ast.walk(ast.parse(cell.source))
    ]


@each_notebook
def test_parameters(name):
    notebook = execute.read_twin(name)
    values = execute.parameters(notebook)
    assert values["profile"] == "auto"
    assert ("overrides" in values) == (study_of(name) in profiles.STUDIES)


@each_notebook
def test_starts_with_title_bootstrap_parameters_imports(name):
    cells = execute.read_twin(name).cells
    assert cells[0].source.startswith(f"# {name[:2]} · ")
    assert "You will " in cells[0].source
    assert [cell.metadata.get("tags") for cell in cells[1:] if cell.cell_type == "code"][:2] == [
        ["bootstrap", "hide-cell"],
        ["parameters"],
    ]
    importing = [number for number, cell in enumerate(code_of(name)) if imports(cell.source)]
    assert importing == [0, 2]  # the bootstrap's own, and everything else in one cell


@each_notebook
def test_ends_with_provenance(name):
    cells = execute.read_twin(name).cells
    assert cells[-1].cell_type == "code"
    assert "provenance" in cells[-1].source


def code_of(name: str) -> list:
    return code(execute.read_twin(name))


def imports(source: str) -> bool:
    return any(
        isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(ast.parse(source))
    )


# What the notebooks show


@pytest.mark.parametrize("name", THEORY)
def test_theory_is_checked(name):
    checks = tagged(execute.read_twin(name), "check")
    assert checks
    assert all("assert" in cell.source for cell in checks)


@each_notebook
def test_committed_outputs(name):
    notebook = committed(name)
    nbformat.validate(notebook)
    written = {"accelerator", "colab", "kernelspec", "language_info", twins.TEXT}
    assert set(notebook.metadata) <= written
    # beside tags: what JupyterLab folds because of them
    assert all(set(cell.metadata) <= {"tags", "jupyter"} for cell in notebook.cells)
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


ADD_TANH = """
    import sys

    import torch

    from sympo.book import execute, twins
    from sympo.losses import LOSSES, Loss

    LOSSES["tanh"] = Loss(
        "tanh",
        fn=lambda z: (1 - torch.tanh(z)) / 2,
        formula=lambda sp, z: (1 - sp.tanh(z)) / 2,
        constant=1,
        convex=False,
        source="made up for this test",
    )
    name, table = sys.argv[1:]
    namespace = {}
    for cell in execute.read_twin(name).cells:
        if cell.cell_type == "code":
            exec(cell.source, namespace)
        if "parameters" in cell.metadata.get("tags", []):
            namespace["profile"] = "smoke"
    print(*namespace[table])
"""


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "table", "entry"),
    [
        ("03_symmetric_losses", "prices", "tanh"),
        ("04_rank_and_policy", "weights", "sympo_tanh"),
    ],
)
def test_a_new_loss_is_known_to_the_notebooks(name, table, entry, tmp_path):
    """One entry in the registry: every check cell passes with it, and the tables have it."""
    environment = {**os.environ, "MPLBACKEND": "Agg", "SYMPO_FIGURES": str(tmp_path)}
    command = [sys.executable, "-c", textwrap.dedent(ADD_TANH), name, table]
    options = {"capture_output": True, "text": True, "check": False}
    run = subprocess.run(command, cwd=FOLDER, env=environment, **options)
    assert run.returncode == 0, run.stderr
    assert entry in run.stdout.splitlines()[-1].split()


# What `make test` runs: theory, MNIST, a language model, one's own data, and what sums it all up.
SHORT = (
    *("00_start_here", "02_noise_equivalence", "03_symmetric_losses", "05_mnist_losses"),
    *("09_gold", "15_your_data", "16_paper"),
)


def test_the_documents_say_how_many_notebooks_make_test_runs():
    assert len(SHORT) == 7
    texts = [(FOLDER.parent / name).read_text() for name in ("README.md", "Makefile")]
    assert "seven of the notebooks" in texts[0]
    assert "seven notebooks" in texts[1]


def as_parameter(name):
    return name if name in SHORT else pytest.param(name, marks=pytest.mark.nightly)


@pytest.mark.slow
@pytest.mark.parametrize("name", [as_parameter(name) for name in NAMES if name not in OFFLINE])
def test_runs_in_the_smoke_profile(name, write_preferences, tmp_path, monkeypatch):
    # 08 has nothing to say without comparisons, so that made-up ones stand in
    if name == "08_real_text" and not os.environ.get("SYMPO_DATA"):
        monkeypatch.setenv("SYMPO_DATA", str(write_preferences(tmp_path)))
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
