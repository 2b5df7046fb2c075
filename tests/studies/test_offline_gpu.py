"""scripts/offline_gpu brings a study to a machine without a network, and its records back."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sympo.studies import profiles

pytestmark = pytest.mark.slow

STUDY = "gold_grammar"  # needs neither data nor weights from elsewhere
SECONDS = "90"  # loading takes twenty on a busy machine
# Ours: figures and executed notebooks are ten times as large, and nothing that runs reads them.
LARGEST_CODE = 2 * 2**20


def run(command: list[str], folder: Path, *, code: int = 0, **variables: str) -> str:
    """What a command prints; it has to end with `code`."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # the machine's own `python3` is this environment's
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**inherited, "PATH": path, "PROFILE": "smoke", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment | variables, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def here(tmp_path_factory, repository):
    """A clone with the scripts and the code of the working tree, in which .kit is prepared."""
    clone = tmp_path_factory.mktemp("here") / "clone"
    run(["git", "clone", "--quiet", str(repository), str(clone)], repository)
    for folder in ("sympo", "scripts", "notebooks/profiles"):
        shutil.copytree(repository / folder, clone / folder, dirs_exist_ok=True)
    run(
        ["bash", "scripts/offline_gpu/prepare.sh", str(tmp_path_factory.mktemp("data"))],
        clone,
        STUDIES=STUDY,
        PACKAGES="",
        PROJECT_PYTHON=sys.executable,
    )
    return clone


def test_the_kit_holds_the_code_and_neither_figures_nor_executed_notebooks(here):
    code = here / ".kit" / "code.tgz"
    with tarfile.open(code) as files:
        names = set(files.getnames())
    assert {"sympo/__main__.py", "pyproject.toml", "tests/conftest.py"} <= names
    assert {f"notebooks/profiles/{name}.yaml" for name in profiles.PROFILES} <= names
    assert not [name for name in names if name.startswith("figures/") or name.endswith(".ipynb")]
    assert code.stat().st_size < LARGEST_CODE


@pytest.mark.nightly
def test_what_is_trained_there_is_recorded_here(here, tmp_path):
    there, home, out = (tmp_path / name for name in ("there", "home", "out"))
    for folder in (there, home):
        folder.mkdir()
    shutil.copytree(here / ".kit", there / ".kit")
    variables = {"OUT": str(out), "HOME": str(home), "STUDIES": STUDY, "PACK_EVERY": "8"}

    log = run(["bash", ".kit/run.sh", SECONDS, f"run-all:{STUDY}"], there, **variables)
    assert f"== run-all:{STUDY}: exit 0" in log
    # a second call finds the kit, and the records, where the first has put them
    later = tmp_path / "later"
    later.mkdir()
    run(["bash", str(home / "kit/kit/run.sh"), SECONDS, "preflight"], later, **variables)

    came_back = run(
        ["bash", "scripts/offline_gpu/collect.sh", str(out)], here, PROJECT_PYTHON=sys.executable
    )
    made = {path.name: path.read_bytes() for path in home.rglob("records/*.json")}
    found = here / "build" / "smoke" / "records"
    assert made
    assert {path.name: path.read_bytes() for path in found.glob("*.json")} == made
    assert f"records: {len(made)} new ({STUDY} {len(made)}), 0 known" in came_back
    bundle = next(here.glob(".kit-records-smoke-*.zip"))
    assert f"{bundle.name}: {len(made)} records" in came_back


def refuse(command: list[str], folder: Path, **variables: str) -> str:
    """The sentence with which a script ends before it has done anything."""
    done = subprocess.run(
        ["bash", *command], cwd=folder, env=os.environ | variables, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) in ((2, ""), (3, ""))
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_second_transfer_without_the_first_is_refused(here, tmp_path):
    script = shutil.copy(here / ".kit" / "run.sh", tmp_path)
    places = {"HOME": str(tmp_path), "OUT": str(tmp_path / "out")}
    sentence = refuse([script, SECONDS, "preflight"], tmp_path, **places)
    assert sentence == "a fresh machine: the first transfer has to come first\n"


@pytest.mark.parametrize("words", [[], ["preflight", "tests"], ["10m", "preflight"], ["60"]])
def test_a_call_without_seconds_or_jobs_says_how_it_is_used(words, here, tmp_path):
    script = shutil.copy(here / ".kit" / "run.sh", tmp_path)
    places = {"HOME": str(tmp_path), "OUT": str(tmp_path / "out")}
    assert "usage: OUT=FOLDER bash run.sh SECONDS JOB" in refuse(
        [script, *words], tmp_path, **places
    )
    assert not (tmp_path / "out").exists()


def test_the_exit_code_is_that_of_a_job_that_failed(here, tmp_path):
    shutil.copytree(here / ".kit", tmp_path / ".kit")
    command = ["bash", ".kit/run.sh", SECONDS, "no_such_job"]
    run(command, tmp_path, code=2, HOME=str(tmp_path), OUT="out")
    assert "there is no job no_such_job" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("variables", "arguments", "sentence"),
    [
        ({"STUDIES": "hh_typo"}, [], "STUDIES names hh_typo, which is none of "),
        ({"STUDIES": STUDY}, ["no_such.zip"], "there is no bundle no_such.zip"),
        ({"STUDIES": STUDY, "PACKAGES": "nosuch"}, [], "constraints.txt has no version of nosuch"),
    ],
)
def test_inputs_are_checked_before_anything_is_removed(variables, arguments, sentence, here):
    before = sorted((here / ".kit").rglob("*"))
    command = ["scripts/offline_gpu/prepare.sh", str(here), *arguments]
    assert sentence in refuse(command, here, PROJECT_PYTHON=sys.executable, **variables)
    assert sorted((here / ".kit").rglob("*")) == before


def test_a_folder_without_records_is_refused(here, tmp_path):
    command = ["scripts/offline_gpu/collect.sh", str(tmp_path)]
    sentence = refuse(command, here, PROJECT_PYTHON=sys.executable)
    assert "there is no records.zip.0 in" in sentence
