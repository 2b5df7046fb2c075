"""Recorded steps against called ones, on a stand-in for CUDA's graphs that a processor can run."""

import gc
import weakref
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_mnist import banded_digits, make_run
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sympo.studies import mnist
from sympo.studies.mnist.fast import graphs


def storages(tree) -> dict:
    """Every piece of memory in `tree`, by its identity."""
    return {
        t.untyped_storage()._cdata: t.untyped_storage()
        for t in tree_leaves(tree)
        if isinstance(t, torch.Tensor)
    }


class Tape(TorchDispatchMode):
    """What a CUDA graph does: recording changes no memory, and a replay repeats the operations on
    the same memory.

    A replay calls no Python of the recorded function, so a number that this computes stays what it
    was. Streams and the memory that graphs share are CUDA's own, and only the tests marked `cuda`
    see them.
    """

    def __init__(self):
        super().__init__()
        self.operations = []
        self.saved = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        # whose schema hides the running statistics
        if func._schema.is_mutable or "batch_norm" in str(func):
            for key, storage in storages((args, kwargs)).items():
                self.saved.setdefault(key, (storage, storage.clone()))
        result = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, result))
        return result

    def __exit__(self, *error):
        super().__exit__(*error)
        for storage, value in self.saved.values():
            storage.copy_(value)

    def pool(self):
        return None

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, recorded in self.operations:
            result = func(*args, **kwargs)
            inputs = storages((args, kwargs))
            for place, value in zip(tree_leaves(recorded), tree_leaves(result), strict=True):
                if isinstance(place, torch.Tensor) and place.untyped_storage()._cdata not in inputs:
                    place.copy_(value)


@pytest.fixture
def tapes(monkeypatch):
    """A list of what is recorded in a test."""
    tapes = []

    def new_graph():
        tapes.append(Tape())
        return tapes[-1]

    @contextmanager
    def record(graph, *, pool, stream):
        with graph:
            yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in (
        ("CUDAGraph", new_graph),
        ("graph", record),
        ("current_stream", lambda: stream),
        ("Stream", lambda: stream),
        ("stream", lambda stream: nullcontext()),
    ):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return tapes


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
