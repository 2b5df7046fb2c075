"""What a type checker sees of the library: classes and signatures, and not Any."""

import subprocess
import sys

import pytest

SNIPPET = """
import sympo
from sympo import SymPOConfig, SymPOTrainer

reveal_type(SymPOTrainer)
reveal_type(SymPOConfig().noise_rate)
reveal_type(SymPOTrainer("model").eta)
reveal_type(sympo.losses.get("ramp"))
reveal_type(sympo.stats.mean_interval([0.1, 0.2]))
"""


@pytest.mark.slow
def test_names_of_the_package_have_their_types(repository, tmp_path):
    """With the project's settings, where TRL's own classes are Any: ours are not, all the same."""
    check = [sys.executable, "-m", "mypy", "--config-file", repository / "pyproject.toml"]
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    done = subprocess.run(
        [*check, "--cache-dir", tmp_path / "cache", snippet],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=300,
    )
    revealed = [line.split('"')[1] for line in done.stdout.splitlines() if "Revealed" in line]
    trainer, noise_rate, eta, loss, interval = revealed
    assert trainer.startswith("def (")
    assert trainer.endswith("-> sympo.trainer.dpo.SymPOTrainer")
    # mypy 2 writes float where earlier ones wrote builtins.float.
    assert noise_rate.replace("builtins.", "") == "float | None"
    assert eta.replace("builtins.", "") == "float"
    assert loss == "sympo._entries.Loss"
    assert "sympo.stats.Interval" in interval
