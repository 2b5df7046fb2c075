"""What several tests of the studies share."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import tiny_gold
import torch
from tape import Tape
from transformers import PreTrainedTokenizerFast

from sympo.studies.alignment import gold
from sympo.studies.alignment.world import World


@pytest.fixture(scope="session")
def gold_world() -> World:
    """The world of `tiny_gold.config()`, seed 0; tests leave it as it is."""
    return gold.build_world(tiny_gold.find_run("dpo", 0.0).world)


@pytest.fixture(scope="session")
def gold_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the grammar of reviews."""
    return gold.tiny_tokenizer()


@pytest.fixture
def tapes(monkeypatch):
    """CUDA's graphs are replaced by tapes; a list of what is recorded in a test."""
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
