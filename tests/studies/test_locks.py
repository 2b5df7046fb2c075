"""Of two processes that are asked for the same study, one trains and the other waits for it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from sympo.studies import locks, profiles

HOLD = """
    import sys, time
    from pathlib import Path
    from sympo.studies import locks
    with locks.hold(Path(sys.argv[1]), sys.argv[2:]):
        print("held", flush=True)
        time.sleep(60)
"""

# Trains three runs, each of which takes a while and notes who trained it.
TRAIN = """
    import os, sys, time
    from dataclasses import dataclass
    from pathlib import Path
    from sympo.studies import records
    from sympo.studies.records import Result, Run

    folder = Path(sys.argv[1])

    def train(runs):
        for run in runs:
            with open(folder / "trained.txt", "a") as file:
                file.write(f"{run.seed} {os.getpid()}\\n")
            time.sleep(0.3)
            yield run, Result({"seed": run.seed}, [])

    runs = [Run(study="toy", method="a", noise="none", seed=seed) for seed in range(3)]
    print(records.run_all(runs, train, folder=folder, version=1))
"""


def start(code, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(profiles.root())} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock `a` of the folder."""
    process = start(HOLD, tmp_path, "a")
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_that_is_free_is_not_waited_for(tmp_path):
    with locks.hold(tmp_path, ["a", "b"]) as waited:
        assert not waited
    with locks.hold(tmp_path, ["a"]) as waited:
        assert not waited


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path, holder, capfd):
    timer = threading.Timer(0.5, holder.send_signal, [signal.SIGKILL])
    timer.start()
    started = time.monotonic()
    with locks.hold(tmp_path, ["a"]) as waited:
        assert waited
    assert time.monotonic() - started > 0.3
    said = capfd.readouterr().err
    assert "another process is at work on a" in said
    assert said.count("\n") == 1


def test_a_file_system_without_locks_has_none(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    with locks.hold(tmp_path, ["a"]) as waited:
        assert not waited


def test_other_names_are_free(tmp_path, holder):
    with locks.hold(tmp_path, ["b"]) as waited:
        assert not waited


def test_processes_that_train_together_do_not_wait(tmp_path, holder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with (
        pytest.raises(ValueError, match="start again when it has ended"),
        locks.hold(tmp_path, ["a"]),
    ):
        pass
    # the main process holds it for the others
    monkeypatch.setenv("RANK", "1")
    with locks.hold(tmp_path, ["a"]) as waited:
        assert not waited


@pytest.mark.slow
def test_of_two_processes_one_trains_and_the_other_takes_its_records(tmp_path):
    both = [start(TRAIN, tmp_path) for _ in range(2)]
    printed = sorted(process.communicate(timeout=120)[0].strip() for process in both)
    assert all(process.returncode == 0 for process in both)
    assert printed == ["trained 0, loaded 3", "trained 3, loaded 0"]
    lines = (tmp_path / "trained.txt").read_text().split("\n")
    seeds = [line.split()[0] for line in lines if line]
    assert seeds == ["0", "1", "2"]


@pytest.mark.slow
def test_who_waited_for_a_process_that_was_killed_trains_the_rest(tmp_path):
    first = start(TRAIN, tmp_path)
    while not list(tmp_path.glob("*-seed0-*.json")):
        time.sleep(0.02)
    second = start(TRAIN, tmp_path)
    first.kill()
    printed, _ = second.communicate(timeout=120)
    first.communicate()
    assert second.returncode == 0
    assert printed.strip() in ("trained 2, loaded 1", "trained 1, loaded 2")
