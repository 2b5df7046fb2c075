"""make: what `make paper` runs, and what a person who lacks something is told."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from miniature import write_section, write_twin

# all that the rule needs, and no Python
TOOLS = ["sh", "cat", "cksum", "cut", "make", "test", "echo", "sed", "touch", "mkdir", "rm", "sort"]


@pytest.fixture
def clone(root, repository, copy_package):
    """A repository of two notebooks with the real Makefile and package."""
    copy_package(root)
    shutil.copy(repository / "Makefile", root)
    (root / "pyproject.toml").write_text("")
    for name in ("02_two", "03_three"):
        (root / f"notebooks/src/{name}.py").unlink()
    write_twin(root, "01_one", "from sympo import alpha")
    write_twin(root, "00_start_here", "0")
    return root


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    # The environment stands already: any file that exists may be its stamp.
    settings = [f"PYTHON={sys.executable}", "STAMP=constraints.txt", "PROFILE=smoke"]
    # The flags of the make that runs these tests are not for the make under test.
    others = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    env = {name: value for name, value in os.environ.items() if name not in others}
    command = ["make", *settings, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=env)


def make_paper(root: Path) -> tuple[int, list[str]]:
    """The exit status of `make paper` and the notebooks it began."""
    done = make(root, "paper")
    return done.returncode, re.findall(r"^\[\d/\d\] (\w+)", done.stderr, flags=re.M)


@pytest.mark.slow
def test_paper_runs_what_is_out_of_date(clone):
    assert make_paper(clone) == (0, ["01_one", "00_start_here"])

    os.utime(clone / "sympo/alpha.py")
    started = time.monotonic()
    again = make(clone, "paper")
    assert time.monotonic() - started < 10
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing to do" in again.stdout

    good = (clone / "notebooks/src/01_one.py").read_text()
    write_twin(clone, "01_one", "raise ArithmeticError('too few pairs')")
    assert make_paper(clone) == (2, ["01_one"])
    (clone / "notebooks/src/01_one.py").write_text(good + "\n# repaired\n")
    assert make_paper(clone) == (0, ["01_one", "00_start_here"])


@pytest.mark.nightly
def test_results_reach_figures_only_when_asked_and_only_if_a_number_moved(clone):
    """As git sees it: a run dirties nothing, and a committing run what moved."""
    write_section(clone, "minutes: {}", "laptop")
    cells = (
        "import pandas as pd\nfrom sympo.book import figures",
        'table = pd.DataFrame({"accuracy": [0.5]})\n'
        'figures.save_table(table, "table_one", profile=profile)',
        'figures.save_provenance("01_one", profile=profile)',
    )
    write_twin(clone, "01_one", *cells)
    (clone / ".gitignore").write_text("build/\n__pycache__/\n")
    git(clone, "init", "-q")
    commit_all(clone)

    assert make(clone, "paper", "PROFILE=laptop").returncode == 0
    assert git(clone, "status", "--porcelain") == ""
    done = make(clone, "notebooks")
    assert "nothing to do" in done.stdout
    assert "commit: table_one" in done.stderr
    assert git(clone, "status", "--porcelain", "-uall").split()[1::2] == [
        "figures/laptop/data/01_one.json",
        "figures/laptop/data/table_one.csv",
        "figures/laptop/table_one.md",
        "figures/laptop/table_one.tex",
        "notebooks/00_start_here.ipynb",
        "notebooks/01_one.ipynb",
    ]
    commit_all(clone)

    # what is run from here on names another commit
    (clone / "sympo/book/figures/style.py").open("a").write("# edited\n")
    commit_all(clone)
    done = make(clone, "notebooks")
    assert "commit: no number moved" in done.stderr
    assert git(clone, "status", "--porcelain") == ""
    verified = make(clone, "verify", "PROFILE=laptop")
    assert "Held here: 1 of 1 files of theory to the last digits." in verified.stderr
    assert verified.returncode == 0

    write_twin(clone, "01_one", *(cell.replace("0.5", "0.6") for cell in cells))
    commit_all(clone)
    assert make(clone, "paper", "PROFILE=laptop").returncode == 0
    assert git(clone, "status", "--porcelain") == ""
    verified = make(clone, "verify", "PROFILE=laptop")
    assert "not held: table_one." in verified.stderr
    assert verified.returncode == 2


def commit_all(root: Path) -> None:
    git(root, "add", ".")
    git(root, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "all")


def git(root: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout


def test_an_unknown_profile_is_refused(clone):
    refused = make(clone, "paper", "PROFILE=lptop")
    assert refused.returncode != 0
    assert "unknown profile 'lptop'. Did you mean 'laptop'?" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_no_new_enough_python_is_one_sentence(clone, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool))
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")  # what an older Python answers
    (tools / "python3").chmod(0o755)
    options = {"env": {"PATH": str(tools)}, "capture_output": True, "text": True}
    refused = subprocess.run(["make", "env"], cwd=clone, **options)
    assert refused.returncode != 0
    assert "no Python 3.11 or later on the PATH" in refused.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("uv", ["/opt/uv", ""])
def test_what_makes_the_environment_adds_to_it(clone, uv):
    done = make(clone, "-n", "e2e", f"UV={uv}")
    (install,) = [line for line in done.stdout.splitlines() if '".[e2e]"' in line]
    own = f'"{sys.executable}"'
    tool = f'"{uv}" pip install --python {own} ' if uv else f"{own} -m pip install "
    assert install.startswith(tool)


def test_help_is_the_default_and_lists_every_target(clone, repository):
    shown = make(clone).stdout
    phony = (repository / "Makefile").read_text().partition(".PHONY:")[2].splitlines()[0]
    for target in {*phony.split()} - {"executed", "force"}:
        assert f"\n  {target} " in shown


def test_clean_removes_what_it_says_and_none_of_a_users_folders(clone):
    mine = clone / "notebooks" / "precious"
    # unquoted, the second path would be two, of which the first is `mine`
    (clone / "notebooks" / "precious work" / "__pycache__").mkdir(parents=True)
    for folder in (mine, clone / "build" / "smoke", clone / "figures", clone / ".venv"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "note").write_text("mine")
    for name in ("tests", "scripts", "docs"):
        (clone / name).mkdir()
    assert make(clone, "clean").returncode == 0
    assert (mine / "note").read_text() == "mine"
    assert (clone / "figures" / "note").exists()
    assert (clone / ".venv" / "note").exists()
    assert not (clone / "build").exists()
    assert not list(clone.rglob("__pycache__"))
    assert (clone / "notebooks" / "precious work").is_dir()
