"""`python -m sympo run` and `run-all`: what a person meets at the command line."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from sympo import __main__ as command
from sympo.studies import mnist, profiles, queue
from sympo.studies.records import Runs
from sympo.studies.sources import AssetError

SMOKE = ["mnist_losses", "--profile", "smoke"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist_loses"], "Did you mean 'mnist_losses'"),
        (["mnist_losses", "--profile", "labtop"], "Did you mean 'laptop'"),
        ([*SMOKE, "--set", "epoch=3"], "Did you mean 'epochs'"),
        ([*SMOKE, "--set", "epochs=many"], "epochs"),
        ([*SMOKE, "--set", "noise_rates=[0.6]"], "noise_rates.0"),
        ([*SMOKE, "--set", "losses=['ramp2']"], "Did you mean 'ramp'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(mnist, "run_study", lambda config: pytest.fail("it started"))
    assert command.main(["run", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_study_gets_the_config_with_its_overrides(capsys, monkeypatch):
    configs = []

    def run_study(config):
        configs.append(config)
        return Runs([], 2, 1)

    monkeypatch.setattr(mnist, "run_study", run_study)
    overrides = ["--set", "epochs=7", "--set", "losses=['ramp']"]
    assert command.main(["run", *SMOKE, *overrides]) == 0
    (config,) = configs
    assert (config.study, config.profile) == ("mnist_losses", "smoke")
    assert (config.epochs, config.losses) == (7, ["ramp"])
    assert "trained 2, loaded 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"), [(AssetError("no data"), 1), (KeyboardInterrupt(), 130)]
)
def test_missing_data_and_ctrl_c_have_their_exit_codes(error, code, capsys, monkeypatch):
    def fail(config):
        raise error

    monkeypatch.setattr(mnist, "run_study", fail)
    assert command.main(["run", *SMOKE]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_outside_a_clone_one_sentence_says_that_studies_need_one(monkeypatch, capsys):
    def find_nothing():
        raise FileNotFoundError

    monkeypatch.setattr(profiles, "root", find_nothing)
    assert command.main(["run", *SMOKE]) == 2
    error = capsys.readouterr().err
    assert "studies need a clone of the repository" in error
    assert error.count("\n") == 1


# run-all


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "3"], "argument --budget: '3' is no number of seconds from 15 to 1e7"),
        (["--budget", "soon"], "argument --budget: 'soon' is no number of seconds from 15 to 1e7"),
        (["--budget", "nan"], "argument --budget: 'nan' is no number of seconds from 15 to 1e7"),
        (["--shard", "0/2"], "argument --shard: '0/2' is not I/N"),
        (["--shard", "3/2"], "argument --shard: '3/2' is not I/N"),
        (["--shard", "2"], "argument --shard: '2' is not I/N"),
    ],
)
def test_run_all_refuses_options_that_mean_nothing(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        command.main(["run-all", *arguments])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_run_all_refuses_a_study_before_another_is_planned(capsys, monkeypatch):
    monkeypatch.setattr(mnist, "plan_study", lambda config: pytest.fail("it was planned"))
    arguments = ["run-all", "--profile", "smoke", "--studies", "mnist_losses,glod"]
    assert command.main(arguments) == 2
    assert "Did you mean 'gold'" in capsys.readouterr().err


def test_run_all_refuses_to_train_where_records_may_only_be_read(capsys, monkeypatch):
    monkeypatch.setenv("SYMPO_RECORDS", "only")
    assert command.main(["run-all", "--profile", "smoke"]) == 2
    assert "SYMPO_RECORDS=train trains" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["run-all"], ["run", "mnist_losses"]])
def test_profile_gpu_is_not_trained_on_a_processor_unless_asked(
    arguments, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path)
    planned = []
    monkeypatch.setattr(mnist, "plan_study", lambda config: planned.append(config))
    monkeypatch.setattr(mnist, "run_study", planned.append)
    monkeypatch.delenv("SYMPO_RECORDS", raising=False)
    assert command.main([*arguments, "--profile", "gpu"]) == 2
    assert "there is no CUDA here" in capsys.readouterr().err
    assert not planned


def test_run_all_refuses_several_gpus_before_anything_is_loaded(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(mnist, "plan_study", lambda config: pytest.fail("it was planned"))
    assert command.main(["run-all", "--profile", "smoke"]) == 2
    assert "set CUDA_VISIBLE_DEVICES=0, or start one with --shard" in capsys.readouterr().err


def test_run_all_is_for_one_process(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command.main(["run-all", "--profile", "smoke"]) == 2
    assert "--shard I/N" in capsys.readouterr().err


def test_run_all_goes_on_without_a_study_whose_data_are_missing(capsys, monkeypatch):
    def fail(config):
        raise AssetError("MNIST is not here")

    monkeypatch.setattr(mnist, "plan_study", fail)
    arguments = ["run-all", "--profile", "smoke", "--studies", "mnist_losses"]
    assert command.main(arguments) == 1
    device, *lines = capsys.readouterr().out.splitlines()
    assert device.startswith("profile smoke, on ")
    assert lines == ["mnist_losses: left out, MNIST is not here", "trained 0 runs, 0 are left"]


def test_fetch_says_where_everything_comes_from(capsys, monkeypatch, tmp_path, write_preferences):
    monkeypatch.setenv("SYMPO_DATA", str(write_preferences(tmp_path)))
    assert command.main(["fetch", "--profile", "smoke", "--studies", "hh,gold"]) == 0
    hh, gold = capsys.readouterr().out.splitlines()
    made_up = "SYMPO_DATA, not the original"
    assert hh.startswith(f"hh: helpful-online/test.jsonl.gz from {made_up}, sha256 ")
    assert hh.endswith(", scratch")
    assert gold == "gold: scratch"


def test_fetch_fails_where_something_cannot_be_had(capsys, monkeypatch):
    def fail(config):
        raise AssetError("MNIST is not here")

    monkeypatch.setattr(mnist, "plan_study", fail)
    assert command.main(["fetch", "--profile", "smoke", "--studies", "mnist_losses"]) == 1
    assert "left out, MNIST is not here" in capsys.readouterr().out


def test_studies_of_the_queue_are_those_of_the_profiles():
    assert set(queue.STUDIES) == set(profiles.STUDIES)
    assert command.NAMES.split(",") == list(queue.STUDIES)


@pytest.fixture
def clone(tmp_path, write_preferences):
    """A copy of this code with a build folder of its own, as a process of its own would see it."""
    root = tmp_path / "clone"
    root.mkdir()
    for name in ("sympo", "notebooks"):
        (root / name).symlink_to(profiles.root() / name)
    return root, write_preferences(tmp_path / "data")


PROGRAM = """
import sys
from pathlib import Path
from sympo import __main__
from sympo.studies import profiles

profiles.root = lambda: Path(sys.argv[1])
sys.exit(__main__.main(sys.argv[2:]))
"""


def start(clone, *options):
    """`run-all` of study gold, at sizes of seconds."""
    root, data = clone
    arguments = ["run-all", "--profile", "smoke", "--studies", "gold,hh", *options]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root), *arguments],
        env={**os.environ, "SYMPO_DATA": str(data), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def count_records(clone):
    return len(list((clone[0] / "build" / "smoke" / "records").glob("*.json")))


@pytest.mark.nightly
def test_run_all_ends_in_time_and_goes_on_from_there(clone):
    started = time.monotonic()
    process = start(clone, "--budget", "25")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert time.monotonic() - started < 27  # Python starts before the clock does
    trained, left = map(int, re.search(r"trained (\d+) runs, (\d+) are left", output).groups())
    assert trained == count_records(clone) > 0
    # a line for each, with its seconds and what is left
    lines = re.findall(r"(.*) seed \d: .*: [\d.]+ s(?: \([^)]*\))?; \d+ runs, \d+ s left", output)
    # but for a last one, whose record may be written as the time ends and its line is not
    assert trained - 1 <= len(lines) <= trained
    assert left > 0
    assert "headline contrasts" in lines[0]

    rest = start(clone)
    output, _ = rest.communicate(timeout=300)
    assert rest.returncode == 0
    assert f"trained {left} runs, 0 are left" in output
    assert count_records(clone) == trained + left


@pytest.mark.slow
def test_sigterm_keeps_what_is_finished_and_leaves_nothing_else(clone):
    process = start(clone)
    deadline = time.monotonic() + 120
    while not count_records(clone) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    assert re.search(r"SIGTERM: trained \d+ runs, \d+ are left", output)
    folder = clone[0] / "build" / "smoke" / "records"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".lock"}
