"""Every committed figure and table, drawn again where there is no torch."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from sympo.book import claims, figures
from sympo.studies import profiles

# Python runs a module of this name at its start.
BLOCK = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "trl", "datasets"):
            raise ImportError(f"{name} is not to be imported here")

sys.meta_path.insert(0, Refuse())
"""
# With the samples of the benchmark, which is no result of the paper, another command writes it.
OTHERS = ("table_bench.md",)


@pytest.fixture
def without_torch(tmp_path):
    """The environment of a Python that cannot import torch, nor what is built on it."""
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{profiles.root()}", "SYMPO_RECORDS": "train"}


def run_python(environment, *arguments):
    command = [sys.executable, *arguments]
    options = {"capture_output": True, "text": True, "check": False}
    return subprocess.run(command, cwd=profiles.root(), env=environment, **options)


def test_torch_is_really_out_of_reach(without_torch):
    done = run_python(without_torch, "-c", "import torch")
    assert "ImportError: torch is not to be imported here" in done.stderr


@pytest.mark.nightly
@pytest.mark.parametrize("profile", ["laptop", "gpu"])
def test_every_committed_figure_and_table_is_its_csv_drawn_without_torch(profile, without_torch):
    done = run_python(without_torch, "-m", "sympo.book", "figures", "--profile", profile)
    assert done.returncode == 0, done.stderr
    redrawn = profiles.build_folder(profile) / "redrawn"
    paths = sorted(profiles.committed_figures(profile).glob("*.*"))
    committed = [path for path in paths if path.name not in OTHERS]
    assert committed
    # make figures COMMIT=1 writes those whose function changed
    assert [path.name for path in committed if differs(path, redrawn / path.name)] == []


PAGE = """
from sympo.book import execute

namespace = {}
for cell in execute.read_twin("16_paper").cells:
    if cell.cell_type == "code":
        exec(cell.source, namespace)
    if "parameters" in cell.metadata.get("tags", []):
        namespace["profile"] = "laptop"
print(len(namespace["verdicts"]))
"""


@pytest.mark.nightly
def test_the_paper_page_needs_no_torch(without_torch, tmp_path):
    environment = {**without_torch, "MPLBACKEND": "Agg", "SYMPO_FIGURES": str(tmp_path / "figures")}
    done = run_python(environment, "-c", PAGE)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) == len(claims.read_claims())
    assert (tmp_path / "figures" / "fig16_map.png").is_file()


def differs(path, other):
    return not other.is_file() or path.read_bytes() != other.read_bytes()


def test_a_figure_is_saved_as_its_csv_draws_it(tmp_path, monkeypatch):
    """Digits that the csv does not hold are not drawn: the bytes are those of a redrawn figure."""
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / profile)
    drawn = []

    def draw(table):
        drawn.append(table.x.tolist())
        return figures.subplots()[0]

    monkeypatch.setattr(figures, "fig_a", draw, raising=False)
    data = pd.DataFrame({"x": [1 / 3]})
    figures.save(draw(data), "fig_a", data, profile="laptop")
    assert drawn == [[1 / 3], [0.333333]]


def test_a_table_is_saved_as_its_csv_reads(tmp_path, monkeypatch):
    """Two digits of 0.00012499999 are 0.00012; of the 0.000125 in the csv they are 0.00013."""
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / profile)
    data = pd.DataFrame({"x": [0.00012499999]})
    figures.save_table(data, "table_a", profile="laptop")
    assert "1.3e-04" in (tmp_path / "laptop/figures/table_a.md").read_text()
