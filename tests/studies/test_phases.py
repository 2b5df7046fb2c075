"""Seconds by phase: who collects them, and where they end up."""

import json
from contextlib import suppress

import pytest
from tiny_gold import find_run

from sympo.studies import phases
from sympo.studies.alignment import gold
from sympo.studies.alignment.sweep import Workbench


@pytest.fixture
def clock(monkeypatch):
    """A list whose only number is the time."""
    now = [0.0]
    monkeypatch.setattr(phases.time, "perf_counter", lambda: now[0])
    return now


def test_a_phase_is_added_to_what_the_innermost_collects(clock):
    with phases.phase("nobody collects"):
        clock[0] += 1
    with phases.collect() as outer:
        with phases.phase("SFT"):
            clock[0] += 2
        with phases.collect() as inner, suppress(KeyError), phases.phase("fails"):
            clock[0] += 3
            raise KeyError
        with phases.phase("SFT"):
            clock[0] += 4
    assert outer == {"SFT": 6}
    assert inner == {"fails": 3}


def test_phases_are_added_up_and_described():
    total = phases.add_up([{"a": 1.5, "b": 1.0}, {"a": 2.0}])
    assert total == {"a": 3.5, "b": 1.0}
    assert phases.describe(total) == " (a 3.5, b 1.0)"
    assert phases.describe({}) == ""


def test_the_first_run_of_a_world_says_what_the_world_took():
    bench = Workbench(gold.build_world)
    runs = [find_run(method, 0.4) for method in ("dpo", "sympo_sigmoid")]
    assert list(bench.prepare(runs[0])) == [*WORLD]
    # at hand already
    assert bench.prepare(runs[0]) == {}
    first, second = (result for _, result in bench.train_runs(runs))
    assert list(first.phases) == [*WORLD, *RUN]
    assert list(second.phases) == [*RUN]
    assert all(seconds > 0 for seconds in first.phases.values())
    json.dumps(first.phases)


WORLD = ("loading", "SFT", "the SFT model's answers", "reference")
RUN = ("training", "evaluation", "sampling", "judging and KL")
