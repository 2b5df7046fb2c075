"""The library installs alone: from a wheel, with its six dependencies, without a clone.

The environments here are new ones. They see the packages that the hard dependencies need, found by
walking their metadata, and no other: not the extras', although these are installed beside them.
pandas, pyarrow, yaml, pydantic, tqdm and sympy are there, because datasets, transformers and torch
need them; that the library does not import them is test_imports.py's business.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from train_two_steps import MODULES, build_model, build_tokenizer

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
IMPORT_EVERYTHING = "import sympo, " + ", ".join(f"sympo.{name}" for name in MODULES)
EXTRAS = ("numba", "gguf", "vaderSentiment", "statsmodels", "matplotlib", "papermill",
          "jupytext", "nbclient", "IPython", "peft", "openai")  # fmt: skip


def list_hard_dependencies(repository: Path) -> set[str]:
    """The distributions that the dependencies in pyproject.toml need, themselves among them."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    waiting = list(project["dependencies"])
    needed: set[str] = set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and name not in needed:
            needed.add(name)
            waiting.extend(metadata.requires(name) or ())
    return needed


def list_top_levels(name: str) -> Iterator[Path]:
    """What a distribution has put into site-packages: packages, modules, shared libraries."""
    distribution = metadata.distribution(name)
    top_levels = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    return (Path(distribution.locate_file(top_level)) for top_level in top_levels)


class Environment:
    """A new environment in `folder` that holds the hard dependencies, by links."""

    def __init__(self, folder: Path, repository: Path) -> None:
        venv.create(folder, with_pip=False)
        self.python = folder / "bin" / "python"
        (self.packages,) = (folder / "lib").glob("python*/site-packages")
        for name in list_hard_dependencies(repository):
            for path in list_top_levels(name):
                if not (self.packages / path.name).exists():
                    (self.packages / path.name).symlink_to(path)

    def run(self, *arguments: str, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run its Python outside the clone, with nothing of this process' environment but what is
        asked for. There is no PATH, and so no git.
        """
        variables = {"HOME": str(cwd), "PATH": "", "HF_HUB_OFFLINE": "1", **changes}
        return subprocess.run(
            [self.python, *arguments],
            cwd=cwd,
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, repository, copy_package) -> Path:
    """The wheel, built from a copy: setuptools leaves its build folder behind."""
    source = copy_package(tmp_path_factory.mktemp("source"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", "dist", "."], cwd=source, check=True)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(tmp_path_factory, repository, wheel) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("installed"), repository)
    install = [sys.executable, "-m", "pip", "--python", str(environment.python), "install"]
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    return environment


@pytest.fixture(scope="module")
def bare(tmp_path_factory, repository) -> Environment:
    """The dependencies, and no sympo."""
    return Environment(tmp_path_factory.mktemp("bare"), repository)


def test_the_extras_are_out_of_sight(bare, tmp_path):
    """Without this the other tests of this file would prove nothing."""
    search = (
        "import sys; from importlib.util import find_spec; "
        "print([name for name in sys.argv[1:] if find_spec(name)])"
    )
    done = bare.run("-c", search, *EXTRAS, "sympo", cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.nightly
def test_a_wheel_brings_every_module_and_trains_two_steps(installed, tmp_path):
    done = installed.run(str(HERE / "train_two_steps.py"), str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("result")]
    _, file, version, version_of_metadata, *losses = line.split()
    assert Path(file).parent == installed.packages / "sympo"
    assert version == version_of_metadata
    assert (installed.packages / "sympo" / "py.typed").is_file()
    # The symmetric sigmoid lies in (0, 1), and two untrained models are not far apart.
    assert [0.4 < float(loss) < 0.6 for loss in losses] == [True, True]


def test_studies_without_a_clone_are_refused_in_one_sentence(installed, tmp_path):
    run = ("-m", "sympo", "run", "mnist_losses")
    alone = installed.run(*run, cwd=tmp_path)
    extras = Path(metadata.distribution("numba").locate_file(""))
    with_extras = installed.run(*run, cwd=tmp_path, PYTHONPATH=os.fspath(extras))
    for done in (alone, with_extras):
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        assert "studies need a clone of the repository" in done.stderr
        assert "pip install '.[paper]'" in done.stderr


@pytest.mark.nightly
def test_a_copied_tree_needs_neither_metadata_nor_git(bare, copy_package, tmp_path):
    done = bare.run("-c", f"{IMPORT_EVERYTHING}; print(sympo.__file__)", cwd=copy_package(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "sympo" / "__init__.py")


@pytest.fixture
def users_folder(tmp_path) -> Path:
    """A folder with a reader's own model and preferences, under the names of the README."""
    build_model().save_pretrained(tmp_path / "my-model")
    build_tokenizer().save_pretrained(tmp_path / "my-model")
    words = ("yes", "no", "maybe")
    rows = [
        {"prompt": f"{first} {second} {i}", "chosen": f"{first} yes", "rejected": f"{second} no"}
        for i in range(4)
        for first in words
        for second in words
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "preferences.jsonl").write_text(text)
    return tmp_path


@pytest.mark.nightly
def test_the_lines_of_the_readme_run_on_a_file_of_your_own(installed, users_folder, repository):
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "load_file(" in block]
    assert len([line for line in block.splitlines() if line.strip()]) <= 12
    done = installed.run("-c", block, cwd=users_folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "36 of 36 rows kept" in done.stdout
    assert "'eval_loss': " in done.stdout
    # The last line is the pair whose label is most in doubt.
    assert "'chosen': [{" in done.stdout.splitlines()[-1]


@pytest.mark.nightly
def test_train_needs_neither_a_clone_nor_an_extra(installed, users_folder):
    command = (
        "-m sympo train --data preferences.jsonl --model_name_or_path my-model --output_dir out "
        "--max_steps 1 --use_cpu --bf16 false --disable_tqdm true"
    )
    done = installed.run(*command.split(), cwd=users_folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "saved to out"
    assert (users_folder / "out" / "model.safetensors").is_file()
    # PEFT is no dependency: what is missing is said, and how to get it.
    refused = installed.run(*command.split(), "--use_peft", cwd=users_folder)
    assert refused.returncode == 2
    assert "pip install" in refused.stderr
    assert "Traceback" not in refused.stderr
