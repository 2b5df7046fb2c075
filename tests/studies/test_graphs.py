"""Recorded steps against called ones, on a stand-in for CUDA's graphs that a processor can run."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from tiny_mnist import banded_digits, make_run

from sympo.studies import graphs, mnist


def test_a_replay_is_a_call(tapes):
    seen = {size: torch.zeros(size) for size in (2, 3)}
    expected = {size: torch.zeros(size) for size in (2, 3)}
    calls = []

    def add(values):
        calls.append(len(values))
        seen[len(values)].add_(values.square() + 1)

    replay = graphs.Replay(add)
    for step in range(8):
        for size in (2, 3):
            values = torch.full((size,), float(step))
            replay(values)
            expected[size] += values**2 + 1
            assert torch.equal(seen[size], expected[size])
    assert len(tapes) == 2  # one per shape
    assert calls.count(2) == calls.count(3) == graphs.WARM_UP + 1  # no Python afterwards


def test_the_stand_in_refuses_what_cuda_refuses_and_keeps_python_values(tapes):
    total = torch.zeros(())
    read = graphs.Replay(lambda values: total.add_(values.sum().item()))
    for _ in range(graphs.WARM_UP):
        read(torch.ones(1))
    with pytest.raises(RuntimeError, match="capturing"):
        read(torch.ones(1))
    steps = iter(range(10))
    total = torch.zeros(())
    count = graphs.Replay(lambda values: total.add_(next(steps)))
    for _ in range(6):
        count(torch.ones(1))
    assert total == 0 + 1 + 2 + 3 * 3  # not 0 + 1 + … + 5


def prepare(names, seeds=(0,)):
    """Models of the grid; a batch of 32 pairs and two, then one of 16."""
    runs = [
        make_run(name, seed=seed, epochs=1, pairs=80, learning_rate=1e-2)
        for seed in seeds
        for name in names
    ]
    chunk = mnist.Chunk.prepare(runs, banded_digits(300, 100), "cpu")
    # As on a GPU: the count of steps is a tensor, which a graph can raise.
    fused = torch.optim.Adam(chunk.grid.parameters.values(), lr=1e-2, fused=True)
    return replace(chunk, optimiser=fused)


@pytest.mark.slow
def test_recorded_training_is_called_training(tapes):
    """Every kind of loss, several seeds, and a last batch that is smaller."""
    names = ("logistic", "hinge", "square", "sigmoid", "ramp", "unhinged", "truncated_hinge")
    called = prepare(names, seeds=(0, 1))
    recorded = prepare(names, seeds=(0, 1))
    vars(recorded)["train_batch"] = recorded.replay  # a processor would call it
    before = called.evaluate()
    for _ in range(6):
        for ours, theirs in zip(recorded.train_epoch(), called.train_epoch(), strict=True):
            assert torch.equal(ours, theirs)
    assert len(tapes) == 2  # of 32 pairs and of 16
    assert torch.equal(recorded.evaluate(), called.evaluate())
    assert (called.evaluate() - before).abs().amax(1).min() > 1e-3  # every model moved


def test_a_chunk_and_its_graphs_end_with_their_last_reference(tapes):
    """Waiting for a collection would keep the memory of graphs that never run again."""
    chunk = prepare(["ramp"])
    vars(chunk)["train_batch"] = chunk.replay
    for _ in range(5):
        chunk.train_epoch()
    assert len(tapes) == 2
    ended = weakref.ref(chunk)
    gc.disable()
    try:
        del chunk
        assert ended() is None
    finally:
        gc.enable()
