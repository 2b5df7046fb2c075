"""One queue over studies: its order, its budget, and what ends it."""

import contextlib
import errno
import json
import os
import signal
import threading
import time
from dataclasses import dataclass, replace

import pytest
import torch
from tiny_mnist import banded_digits
from toy_plan import Toy, make_plan, toy, train

from sympo import _files
from sympo.studies import mnist, plan, profiles, queue, sources
from sympo.studies.queue import Clock, Queue, Shard


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / profile)
    return tmp_path / "gpu" / "records"


@pytest.fixture
def clock(monkeypatch):
    """A clock of 100 seconds beside the reserve, on a time that only `pass_time` moves."""
    now = [0.0]
    monkeypatch.setattr(queue.time, "monotonic", lambda: now[0])
    clock = Clock(100 + queue.RESERVE)
    clock.pass_time = lambda seconds: now.__setitem__(0, now[0] + seconds)
    return clock


def make_study(name, runs, seconds=(), clock=None):
    """A plan of `runs`, which take the seconds that `seconds` gives for each, or none."""
    waiting = iter(seconds)

    def slowly(runs):
        for run, result in train(runs):
            if clock:
                clock.pass_time(next(waiting))
            yield run, result

    return make_plan(runs, study=name, train=slowly)


def runs_of(study, *cells):
    return [toy(method, seed, tier, study=study) for method, seed, tier in cells]


def names(folder):
    """The records in the order in which they were written."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return ["-".join(path.name.split("-")[i] for i in (0, 1, 3)) for path in paths]


def test_tiers_come_before_studies_and_studies_before_seeds(folder):
    cells = [("other", 0, plan.OTHER_METHODS), ("dpo", 0, 0), ("ramp", 0, 0), ("dpo", 1, 0)]
    plans = [make_study(name, runs_of(name, *cells)) for name in ("hh", "gold")]
    lines = []
    waiting = Queue(plans, Clock(), say=lines.append)
    waiting.work()
    assert names(folder) == [
        *("hh-dpo-seed0", "hh-ramp-seed0", "hh-dpo-seed1"),
        *("gold-dpo-seed0", "gold-ramp-seed0", "gold-dpo-seed1"),
        *("hh-other-seed0", "gold-other-seed0"),
    ]
    assert lines[0].startswith("hh, headline contrasts, seed 0: dpo, none: ")
    assert lines[0].endswith("s; 7 runs left")
    assert waiting.describe() == "trained 8 runs, 0 are left"


def test_a_part_that_would_not_finish_is_not_begun_but_a_shorter_one_is(clock, folder):
    long = make_study("hh", runs_of("hh", *[("dpo", s, 0) for s in range(4)]), [45] * 4, clock)
    short = make_study("gold", runs_of("gold", ("dpo", 0, 0)), [5], clock)
    lines = []
    waiting = Queue([long, short], clock, say=lines.append)
    waiting.work()
    # two of 45 seconds leave 10 of 100: too few for a third, enough for what takes 5
    assert names(folder) == ["hh-dpo-seed0", "hh-dpo-seed1", "gold-dpo-seed0"]
    assert lines[2] == ("hh, headline contrasts, seed 2: dpo, none: not begun, needs 45 s of 10 s")
    assert lines[-1].endswith("5.0 s; 2 runs, 5 s left")
    assert waiting.describe() == "trained 3 runs, 2 are left"


def make_worlds(name, runs, seconds, clock, *, worlds):
    """A study that keeps its last world; each of `worlds` is what the next one takes to build."""
    at_hand = []
    waiting = iter(worlds)

    def prepare(run):
        clock.pass_time(next(waiting))
        at_hand[:] = [run.seed]
        return {"SFT": 1.0}

    study = make_study(name, runs, seconds, clock)
    return replace(study, prepare=prepare, is_prepared=lambda run: run.seed in at_hand)


def test_a_world_counts_for_the_runs_that_have_to_build_it_alone(clock, folder):
    cells = [("dpo", 0, 0), ("ramp", 0, 0), ("dpo", 1, 0), ("ramp", 1, 0), ("dpo", 2, 0)]
    study = make_worlds("hh", runs_of("hh", *cells), [10] * 4, clock, worlds=[30, 28])
    lines = []
    Queue([study], clock, say=lines.append).work()
    # after 98 seconds there is no time for a third world
    assert names(folder) == ["hh-dpo-seed0", "hh-ramp-seed0", "hh-dpo-seed1", "hh-ramp-seed1"]
    assert lines[0] == "hh, seed 0: its world: 30.0 s (SFT 1.0), 70 s left"
    assert lines[-1].endswith("not begun, needs 38 s of 2 s")


def test_one_run_tells_what_the_next_in_its_world_takes(clock, folder):
    """Of 100 seconds a world takes 35 and a run 20, so that two more runs fit, and no world."""
    cells = [("dpo", 0, 0), ("sigmoid", 0, 0), ("ramp", 0, 0), ("dpo", 1, 0)]
    first = make_worlds("hh", runs_of("hh", *cells), [20] * 3, clock, worlds=[35])
    # nothing is known of it, and 5 seconds are left: less than half of what hh took
    second = make_worlds("gold", runs_of("gold", ("dpo", 0, 0)), [], clock, worlds=[])
    lines = []
    Queue([first, second], clock, say=lines.append).work()
    assert names(folder) == ["hh-dpo-seed0", "hh-sigmoid-seed0", "hh-ramp-seed0"]
    assert "gold, headline contrasts, seed 0: dpo, none: not begun, needs 55 s of 5 s" in lines


def test_a_study_of_which_nothing_is_known_is_begun_with_a_chance(clock, folder):
    """A world and a run of hh took 60 seconds; with 40 left, those of gold are worth a try."""
    first = make_worlds("hh", runs_of("hh", ("dpo", 0, 0)), [20], clock, worlds=[40])
    second = make_worlds("gold", runs_of("gold", ("dpo", 0, 0)), [10], clock, worlds=[25])
    lines = []
    Queue([first, second], clock, say=lines.append).work()
    assert names(folder) == ["hh-dpo-seed0", "gold-dpo-seed0"]


def test_a_run_is_not_begun_if_its_world_took_too_long(clock, folder):
    cells = [("dpo", 0, 0), ("ramp", 0, 0), ("dpo", 1, 0)]
    # the second world takes 35 where 10 were expected: 5 are left for a run of 20
    study = make_worlds("hh", runs_of("hh", *cells), [20, 20], clock, worlds=[20, 35])
    lines = []
    Queue([study], clock, say=lines.append).work()
    assert names(folder) == ["hh-dpo-seed0", "hh-ramp-seed0"]
    assert lines[-1].endswith("seed 1: dpo, none: not begun, needs 20 s of 5 s")


def test_the_first_of_a_kind_also_compiles_and_is_no_reason_to_idle(clock, folder):
    # 60 seconds, then 10 each; by the first, a second one would not fit into the 40 that are left
    slow = [("dpo", seed, 0) for seed in range(6)]
    long = make_study("hh", runs_of("hh", *slow), [60, 10, 10, 10], clock)
    short = make_study("gold", runs_of("gold", ("dpo", 0, 0)), [5], clock)
    lines = []
    Queue([long, short], clock, say=lines.append).work()
    # what is known to fit comes first; then one is tried, and the others are measured by it
    assert names(folder) == [
        *("hh-dpo-seed0", "gold-dpo-seed0"),
        *("hh-dpo-seed1", "hh-dpo-seed2", "hh-dpo-seed3"),
    ]
    assert lines[-1].endswith("not begun, needs 10 s of 5 s")


def test_a_part_is_estimated_by_its_runs_and_by_parts_no_smaller(clock):
    study = make_study("mnist_losses", [])

    def part(*methods):
        return queue.Part(study, runs_of("mnist_losses", *[(name, 0, 0) for name in methods]))

    assert clock.predict(part("a")) == (0, False)
    clock.note(part("a", "b"), 40)
    assert clock.predict(part("a", "b", "c")) == (60, False)
    clock.note(part("a", "b"), 30)
    assert clock.predict(part("a", "b", "c")) == (45, False)
    assert clock.predict(part("a", "b")) == (30, True)
    # what is spent once for each part is not less for a smaller one
    assert clock.predict(part("a")) == (30, True)


def test_a_world_is_estimated_apart_and_by_other_studies_before_its_first(clock):
    def part(study, *, prepared):
        planned = replace(make_study(study, []), is_prepared=lambda run: prepared)
        return queue.Part(planned, runs_of(study, ("dpo", 0, 0)))

    clock.note_world(part("hh", prepared=False), 50)
    assert clock.predict(part("hh", prepared=True)) == (0, False)
    clock.note(part("hh", prepared=True), 10)
    assert clock.predict(part("hh", prepared=True)) == (10, False)
    assert clock.predict(part("hh", prepared=False)) == (60, False)
    # nothing is known of this one, neither of its world nor of its runs
    assert clock.predict(part("gold", prepared=False)) == (60, False)
    # one without worlds is no such study
    assert clock.predict(part("mnist_losses", prepared=True)) == (0, False)
    clock.note_world(part("gold", prepared=False), 20)
    assert clock.predict(part("gold", prepared=True)) == (10, False)
    clock.note(part("hh", prepared=True), 8)
    # two runs, and the first world
    assert clock.predict(part("hh", prepared=False)) == (58, False)
    clock.note_world(part("hh", prepared=False), 40)
    assert clock.predict(part("hh", prepared=False)) == (48, True)


def test_shards_take_whole_seeds_and_all_of_them(folder):
    cells = [(method, seed, 0) for seed in range(5) for method in ("dpo", "ramp")]
    taken = []
    for index in (1, 2, 3):
        before = set(names(folder))
        # whether another study is there makes no difference
        others = [make_study("mnist_losses", [])] if index == 2 else []
        Queue(
            [*others, make_study("hh", runs_of("hh", *cells))],
            Clock(),
            say=lambda line: None,
            shard=Shard(index, 3),
        ).work()
        taken.append({name.rpartition("seed")[2] for name in set(names(folder)) - before})
    assert taken == [{"1", "4"}, {"2"}, {"0", "3"}]
    assert len(names(folder)) == 10


def test_records_that_another_process_writes_meanwhile_are_not_trained_again(folder):
    runs = runs_of("hh", ("dpo", 0, 0), ("dpo", 1, 0))
    trained = []

    def watch(runs):
        trained.extend(runs)
        # as if another process had been faster with the second one
        plan.run(make_study("hh", runs_of("hh", ("dpo", 1, 0))))
        yield from train(runs)

    Queue([make_plan(runs, study="hh", train=watch)], Clock(), say=lambda line: None).work()
    assert trained == runs[:1]


def test_a_run_that_fails_costs_its_own_time_and_a_study_is_given_up_after_three(folder):
    def fail(runs):
        raise FloatingPointError("the loss is NaN")
        yield

    bad = make_plan(runs_of("hh", *[("dpo", s, 0) for s in range(5)]), study="hh", train=fail)
    good = make_study("gold", runs_of("gold", ("dpo", 0, 0)))
    lines = []
    waiting = Queue([bad, good], Clock(), say=lines.append)
    waiting.work()
    assert waiting.failed == queue.MOST_FAILURES == 3
    assert names(folder) == ["gold-dpo-seed0"]
    assert sum("FloatingPointError: the loss is NaN" in line for line in lines) == 3
    assert "hh: given up after 3 failures" in lines
    assert waiting.describe() == "trained 1 runs, 5 are left"


@dataclass(frozen=True, kw_only=True)
class Hashed(Toy):
    weights_sha256: str


def hashed(weights, seed):
    return Hashed(
        study="mnist_losses", method="dpo", noise="none", seed=seed, weights_sha256=weights
    )


def test_a_study_is_left_out_whose_records_are_of_other_weights(monkeypatch, folder):
    """A person with a network has the hub's model, and the records came from the package's."""
    config = profiles.study_config("mnist_losses", "smoke")
    plans = {
        weights: make_plan([hashed(weights, seed) for seed in (0, 1)], study="mnist_losses")
        for weights in ("package", "hub")
    }
    plan.run(replace(plans["package"], list_runs=lambda load: [hashed("package", 0)]))
    before = names(folder)
    lines = []
    for weights, count in (("package", 1), ("hub", 0)):
        monkeypatch.setattr(mnist, "plan_study", lambda config, w=weights: plans[w])
        assert len(queue.plan_studies([config.study], "smoke", lines.append)) == count
    (line,) = lines
    assert line.startswith("mnist_losses: left out, its records in ")
    assert "(weights_sha256 package) than are at hand (weights_sha256 hub)" in line
    assert names(folder) == before


def test_a_full_disk_ends_the_queue(monkeypatch):
    def fill(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_files, "write_atomically", fill)
    waiting = Queue(
        [make_study("hh", runs_of("hh", ("dpo", 0, 0), ("dpo", 1, 0)))], Clock(), say=print
    )
    with pytest.raises(OSError, match="No space left"):
        waiting.work()
    assert waiting.describe() == "trained 0 runs, 2 are left"


def test_what_follows_from_a_probe_is_announced_while_it_is_open():
    probe = toy("dpo", 1000, plan.PROBE, study="hh")
    # the probe's seed is another shard's
    shard = Shard(1, 2) if (queue.STUDIES.index("hh") + 1000) % 2 else Shard(2, 2)
    waiting = Queue([make_study("hh", [probe])], Clock(), say=print, shard=shard)
    waiting.work()
    assert waiting.describe() == ("trained 0 runs, 0 are left, and those that follow from a probe")
    plan.run(make_study("hh", [probe]))
    assert waiting.describe() == "trained 0 runs, 0 are left"


def test_what_a_part_saved_before_it_failed_counts(folder):
    def fail_late(runs):
        yield from train([run for run in runs if run.method == "dpo"])
        raise FloatingPointError("the other one")

    runs = runs_of("hh", ("dpo", 0, 0), ("ramp", 0, 0))
    study = make_plan(runs, study="hh", train=fail_late, together=lambda run: run.seed)
    waiting = Queue([study], Clock(), say=lambda line: None)
    waiting.work()
    assert waiting.describe() == "trained 1 runs, 1 are left"


def test_the_budget_ends_what_is_under_way_and_keeps_what_is_finished(folder):
    ended = []

    def train_for_long(runs):
        try:
            for run, result in train(runs):
                if run.seed == 1:
                    time.sleep(30)
                yield run, result
        finally:
            ended.append(True)

    study = make_plan(runs_of("hh", ("dpo", 0, 0), ("dpo", 1, 0)), study="hh", train=train_for_long)
    started = time.monotonic()
    clock = Clock(started + queue.RESERVE + 1)
    with pytest.raises(queue.Ended, match="the budget is spent") as end, queue.end_in_time(clock):
        Queue([study], clock, say=lambda line: None).work()
    assert time.monotonic() - started < 5
    assert end.value.code == 0
    assert names(folder) == ["hh-dpo-seed0"]
    assert ended == [True, True]
    # and nothing goes off later
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_sigterm_ends_it_with_the_code_of_a_process_that_was_told_to_end():
    before = signal.getsignal(signal.SIGTERM)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with queue.end_in_time(Clock()):
        with pytest.raises(queue.Ended, match="SIGTERM") as end:
            time.sleep(30)
        # another one does not end what is said after the first
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
def test_a_resumed_queue_finds_what_an_undisturbed_one_finds(device, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cuda")
    digits = banded_digits()
    monkeypatch.setattr(sources, "mnist", lambda: digits)
    sizes = {"epochs": 2, "eval_every": 1, "pairs": 64, "validation_pairs": 8, "batch": 32}
    config = mnist.LossesConfig(
        study="mnist_losses",
        profile="smoke",
        losses=["logistic", "sigmoid"],
        noise_rates=[0.4],
        seeds=3,
        **sizes,
    )

    def work(place, say):
        monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / place)
        waiting = Queue([mnist.plan_study(config)], Clock(), say=say)
        with contextlib.suppress(queue.Ended):
            waiting.work()
        paths = (tmp_path / place / "records").glob("*.json")
        found = {path.name: json.loads(path.read_text()) for path in paths}
        return waiting.trained, found

    def end(line):
        raise queue.Ended("SIGTERM", 143)

    assert work("cut", end)[0] == 2
    trained, cut = work("cut", print)
    assert trained == 4
    _, whole = work("whole", print)
    assert cut.keys() == whole.keys()
    for name, record in whole.items():
        assert cut[name]["metrics"] == record["metrics"]
        assert (record["provenance"]["gpu"] is not None) == (device == "cuda")
