"""What runs on a GPU imports no numba: it may not know the numpy of the machine that has one."""

import pkgutil
import subprocess
import sys

import pytest

import sympo.studies

# The compiled passes of the grid on a CPU, imported when a grid is computed there.
CPU_ONLY = {"sympo.studies.mnist.fast.kernels", "sympo.studies.mnist.fast.tiles"}
BLOCK_AND_IMPORT = """
import sys
from importlib import import_module

import torch

sys.modules["numba"] = None  # importing it now fails as if it were not installed
torch.cuda.is_available = lambda: True
for name in sys.argv[1:]:
    import_module(name)
"""


def list_modules() -> list[str]:
    """The library and the studies, but for what runs on a CPU alone."""
    studies = pkgutil.walk_packages(sympo.studies.__path__, "sympo.studies.")
    library = pkgutil.iter_modules(sympo.__path__, "sympo.")
    names = {module.name for module in (*studies, *library)}
    return sorted(names - CPU_ONLY - {"sympo.book", "sympo.__main__"})


@pytest.mark.slow
def test_the_cuda_path_imports_without_numba(repository):
    names = list_modules()
    assert "sympo.studies.graphs" in names
    assert "sympo.studies.mnist.fast.chunks" in names
    assert "sympo.studies.alignment.gold" in names
    assert "sympo.studies.alignment.offline" in names
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_AND_IMPORT, *names],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
