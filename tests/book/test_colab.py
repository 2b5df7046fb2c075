"""The first cell of every notebook on Colab, what it installs there, and how large a T4 trains."""

import importlib.metadata
import os
import runpy
import shutil
import subprocess
import sys
import tomllib
from types import ModuleType, SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sympo.book import execute
from sympo.studies import profiles, provenance

NAMES = execute.notebooks()
FOLDER = profiles.root() / "notebooks"

# Of Colab's list of August 2026 (googlecolab/backend-info, pip-freeze.gpu.txt): what the running
# kernel holds or needs to start again. pip must leave it alone.
COLAB = {
    "torch": "2.11.0",
    "numpy": "2.1.3",
    "pandas": "2.2.3",
    "ipykernel": "6.17.1",
    "ipython": "7.34.0",
    "prompt-toolkit": "3.0.53",
    "pyzmq": "26.2.1",
    "tornado": "6.5.7",
}


def find_bootstrap(name: str) -> str:
    cells = execute.read_twin(name).cells
    (cell,) = [cell for cell in cells if "bootstrap" in cell.metadata.get("tags", [])]
    return cell.source


BOOTSTRAP = find_bootstrap("00_start_here")


def run_bootstrap(folder, *, repository: str) -> None:
    """Run the first cell with an address in it, and `folder` in the place of Colab's /content."""
    source = BOOTSTRAP.replace('repository = ""', f'repository = "{repository}"')
    assert "/content/" in source
    exec(compile(source.replace("/content/", f"{folder}/"), "bootstrap", "exec"), {})


class ColabError(Exception):
    """As google.colab.errors.Error: what is wrong with a secret, or with asking for one."""


class NotebookAccessError(Exception):
    """As google.colab.userdata's, which is no ColabError."""


class Vault:
    """As google.colab.userdata: `answer` is the secret HF_TOKEN, or what asking for it raises."""

    NotebookAccessError = NotebookAccessError

    def __init__(self) -> None:
        self.answer: str | Exception = ColabError("Secret HF_TOKEN does not exist.")
        self.asked: list[str] = []

    def get(self, key: str) -> str:
        self.asked.append(key)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture
def colab(monkeypatch, tmp_path, vault):
    """A machine that looks like Colab's: its module is loaded, the working folder is elsewhere."""
    module = ModuleType("google.colab")
    module.errors = SimpleNamespace(Error=ColabError)
    module.userdata = vault
    monkeypatch.setitem(sys.modules, "google.colab", module)
    # set and removed again, so that the end of the test removes whatever the script sets
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.delenv("HF_TOKEN")
    folder = tmp_path / "content"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_bootstrap_is_the_same_everywhere():
    assert {find_bootstrap(name) for name in NAMES} == {BOOTSTRAP}


def test_bootstrap_does_nothing_elsewhere(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("it ran a command"))
    monkeypatch.chdir(tmp_path)
    run_bootstrap(tmp_path, repository="")
    run_bootstrap(tmp_path, repository="owner/name")
    assert os.listdir(tmp_path) == []


def test_bootstrap_asks_for_the_address(colab):
    with pytest.raises(AssertionError, match="write this repository's GitHub address, owner/name"):
        run_bootstrap(colab, repository="")
    assert os.listdir(colab) == []


def test_bootstrap_clones_once_and_runs_colab_py(colab, monkeypatch, tmp_path):
    """A local git repository without a tag answers for GitHub; its colab.py notes where and how
    often it ran.
    """
    origin = tmp_path / "github" / "owner" / "name"
    (origin / "notebooks").mkdir(parents=True)
    note = tmp_path / "note.txt"
    script = f"open({str(note)!r}, 'a').write(__file__ + '\\n')"
    (origin / "notebooks" / "colab.py").write_text(script)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=origin, check=True)
    # git reads these as settings: addresses on GitHub lead to the folder
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{tmp_path}/github/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")

    clone = colab / "companion"
    run_bootstrap(colab, repository="owner/name")
    (clone / "mine.txt").write_text("kept")
    monkeypatch.chdir(clone / "notebooks")  # where the first run leaves the kernel
    run_bootstrap(colab, repository="owner/name")
    assert note.read_text().splitlines() == [str(clone / "notebooks" / "colab.py")] * 2
    assert (clone / "mine.txt").is_file()
    assert not (clone / "notebooks" / "companion").exists()


# colab.py


@pytest.fixture
def clone(colab):
    """A clone of which only notebooks/colab.py is there."""
    folder = colab / "companion"
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(FOLDER / "colab.py", folder / "notebooks")
    return folder


@pytest.fixture
def commands(monkeypatch):
    """The commands that are run, in the order of their running, instead of running them."""
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: calls.append(command))
    return calls


def run_colab(clone) -> dict[str, object]:
    return runpy.run_path(str(clone / "notebooks" / "colab.py"))


def hide_sympo(monkeypatch) -> None:
    """No distribution of that name, though a folder of that name can be imported."""
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **which: iter(()))


def test_colab_installs_beside_what_is_there(clone, commands, monkeypatch):
    hide_sympo(monkeypatch)
    run_colab(clone)
    ((python, *pip, package),) = commands
    pins = clone / "build" / "colab-pins.txt"
    assert python == sys.executable
    assert pip == ["-m", "pip", "install", "-q", "-c", str(pins)]
    assert package == f"{clone}[notebooks]"
    pinned = dict(line.split("==") for line in pins.read_text().splitlines())
    assert {canonicalize_name(name): version for name, version in pinned.items()} == {
        name: importlib.metadata.version(name) for name in COLAB
    }
    assert os.getcwd() == str(clone / "notebooks")


def test_colab_installs_once(clone, commands):
    run_colab(clone)  # sympo can be imported here, as after a restart of Colab's session
    assert commands == []
    assert os.getcwd() == str(clone / "notebooks")


def test_colab_asks_for_a_restart_when_pyarrow_was_replaced(clone, commands, monkeypatch):
    hide_sympo(monkeypatch)
    old = ModuleType("pyarrow")
    old.__version__ = "18.1.0"
    monkeypatch.setitem(sys.modules, "pyarrow", old)
    with pytest.raises(SystemExit, match="Restart session, and run again"):
        run_colab(clone)
    assert len(commands) == 1


def test_colab_takes_the_token_and_shows_it_nowhere(clone, vault, capfd):
    vault.answer = "hf_secret"
    left = run_colab(clone)
    assert os.environ["HF_TOKEN"] == "hf_secret"
    assert vault.asked == ["HF_TOKEN"]
    shown = capfd.readouterr()
    assert "hf_secret" not in shown.out + shown.err
    # what the first cell leaves in the kernel, and what a record says of its origin
    assert "hf_secret" not in repr(left)
    assert "hf_secret" not in repr(provenance.collect())


def test_colab_keeps_a_token_that_is_there(clone, vault, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "mine")
    vault.answer = "hf_secret"
    run_colab(clone)
    assert os.environ["HF_TOKEN"] == "mine"
    assert vault.asked == []


@pytest.mark.parametrize(
    "answer", [ColabError("no such secret"), NotebookAccessError("the person said no"), ""]
)
def test_colab_does_without_a_token(clone, vault, answer):
    vault.answer = answer
    run_colab(clone)
    assert vault.asked == ["HF_TOKEN"]
    assert "HF_TOKEN" not in os.environ


def test_colab_is_not_taken_for_a_notebook():
    assert (FOLDER / "colab.py").is_file()
    assert not [name for name in NAMES if "colab" in name]


# What is installed there


@pytest.fixture(scope="module")
def project(repository) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def list_needed(project: dict) -> dict[str, list[Requirement]]:
    """Each distribution that the extra `notebooks` brings, with all that is asked of it.

    The installed distributions say what they need themselves.
    """
    waiting = [(text, "") for text in project["dependencies"]]
    waiting += [(text, "") for text in project["optional-dependencies"]["notebooks"]]
    needed: dict[str, list[Requirement]] = {}
    seen = set()
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        applies = not requirement.marker or requirement.marker.evaluate({"extra": extra})
        if not applies or (text, extra) in seen:
            continue
        seen.add((text, extra))
        if name == "sympo":
            for inner in requirement.extras:
                waiting += [(text, "") for text in project["optional-dependencies"][inner]]
            continue
        needed.setdefault(name, []).append(requirement)
        for inner in ("", *requirement.extras):
            waiting += [(text, inner) for text in importlib.metadata.requires(name) or ()]
    return needed


def test_the_extra_of_colab_leaves_jupyter_alone(project):
    """What the running kernel is made of is neither installed nor replaced."""
    needed = list_needed(project)
    assert {"torch", "trl", "pandas", "altair", "cleanlab"} <= set(needed)
    kernel = set(COLAB) - {"torch", "numpy", "pandas"}
    jupyter = {"jupyterlab", "jupyter-client", "jupyter-server", "notebook", "ipywidgets"}
    assert not (kernel | jupyter) & set(needed)


def test_our_bounds_allow_what_colab_has(project):
    texts = [*project["dependencies"], *project["optional-dependencies"]["notebooks"]]
    ours = {requirement.name: requirement for requirement in map(Requirement, texts)}
    for name in ("torch", "numpy", "pandas"):
        assert ours[name].specifier.contains(COLAB[name])


# Sizes


@pytest.mark.parametrize(
    ("cuda", "bfloat16", "profile"),
    [(True, True, "gpu"), (True, False, "laptop"), (False, False, "laptop")],
    ids=["H100", "T4", "processor"],
)
def test_auto_is_gpu_on_a_recent_one(cuda, bfloat16, profile, monkeypatch):
    """A T4 only emulates bfloat16, which torch counts as support unless asked not to."""
    monkeypatch.setattr(profiles, "version", lambda name: "2.11.0+cu128")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: bfloat16 or including_emulation,
    )
    assert profiles.resolve_profile("auto") == profile
    assert profiles.resolve_profile("gpu") == "gpu"
