"""Evaluation by enumeration; training in chunks, threads and on a GPU against training alone."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_mnist import banded_digits, make_run

from sympo.studies import memory, mnist, sources
from sympo.studies.mnist import evaluation, study
from sympo.studies.mnist.evaluation import EVALUATION_BATCH
from sympo.studies.mnist.fast import chunks


@pytest.fixture
def data(monkeypatch):
    data = banded_digits()
    monkeypatch.setattr(sources, "mnist", lambda: data)
    return data


def train(runs):
    """Metrics of `runs` by loss and noise."""
    results = mnist.train_models(runs, device="cpu")
    return {(run.method, run.noise): result.metrics for run, result in results}


@pytest.mark.parametrize("missing", [0.0, 0.2, 1.0])
def test_accuracy_equals_enumeration_with_ties(missing):
    generator = np.random.default_rng(0)
    # few values: many ties
    rewards = torch.from_numpy(generator.integers(0, 5, (2, 60)).astype(np.float32))
    # a model that diverged
    rewards[torch.from_numpy(generator.random((2, 60)) < missing)] = torch.nan
    digits = torch.from_numpy(generator.integers(0, 10, 60))
    accuracy, ties = mnist.reward_accuracy(rewards, digits)
    for model in range(2):
        pairs = [(i, j) for i in range(60) for j in range(60) if digits[i] > digits[j]]
        right = sum(bool(rewards[model, i] > rewards[model, j]) for i, j in pairs)
        tied = sum(bool(rewards[model, i] == rewards[model, j]) for i, j in pairs)
        assert accuracy[model].item() == pytest.approx(right / len(pairs))
        assert ties[model].item() == pytest.approx(tied / len(pairs))


def test_result_does_not_depend_on_the_models_trained_beside_it(data, monkeypatch):
    runs = [make_run(name, rate) for name in ("logistic", "sigmoid") for rate in (0.0, 0.4)]
    together = train(runs)
    monkeypatch.setattr(study, "list_chunks", lambda runs, **_: [[run] for run in runs])
    for key, metrics in train(runs).items():
        np.testing.assert_allclose(metrics["rewards"], together[key]["rewards"], atol=1e-3)
        assert metrics["accuracy"] == pytest.approx(together[key]["accuracy"], abs=1e-3)


def test_chunks_that_train_at_once_equal_one_after_the_other(data):
    runs = [make_run(name) for name in ("logistic", "sigmoid", "ramp", "hinge")]
    alone = train(runs)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = train(runs)
    finally:
        torch.set_num_threads(threads)
    for key, metrics in alone.items():
        np.testing.assert_allclose(together[key]["rewards"], metrics["rewards"], atol=1e-3)


def test_chunks_hold_one_seed_and_fit_in_memory(monkeypatch):
    runs = [
        make_run(name, seed=seed) for name in ("logistic", "ramp", "sigmoid") for seed in (0, 1)
    ]
    lists = chunks.list_chunks(runs, workers=2, device="cpu")
    assert [len(together) for together in lists] == [2, 1, 2, 1]
    assert all(len({run.seed for run in together}) == 1 for together in lists)
    little = SimpleNamespace(available=2**20)
    monkeypatch.setattr(chunks.psutil, "virtual_memory", lambda: little)
    lists = chunks.list_chunks(runs, workers=2, device="cpu")
    assert [len(together) for together in lists] == [1] * 6


def test_training_that_is_interrupted_stops_its_threads(data):
    runs = [make_run(epochs=1), make_run(seed=4, epochs=10_000)]
    results = mnist.train_models(runs, device="cpu")
    next(results)
    # what Ctrl-C does to the generator; the long run must not keep this test waiting
    results.close()
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")
    ]


def test_training_learns_the_order_and_reports_the_flips(data):
    clean = make_run(rate=0.0, epochs=12, eval_every=5)
    ((_, result),) = mnist.train_models([clean], device="cpu")
    assert [entry["epoch"] for entry in result.history] == [5, 10, 12]
    assert result.metrics["accuracy"] > 0.8
    assert result.metrics["fit_flipped"] is None
    ((_, noisy),) = mnist.train_models([make_run(epochs=12)], device="cpu")
    assert 0 < noisy.metrics["fit_flipped"] < 1


def test_the_chosen_rewards_are_those_of_a_run_that_stops_there(data):
    ((_, result),) = mnist.train_models([make_run(epochs=5)], device="cpu")
    chosen = result.metrics["chosen"]
    agreements = {entry["epoch"]: entry["validation"] for entry in result.history}
    # not the last, or the test would show nothing
    assert chosen["epoch"] < 5
    assert agreements[chosen["epoch"]] == max(agreements.values())
    assert all(
        agreements[epoch] < agreements[chosen["epoch"]] for epoch in range(1, chosen["epoch"])
    )
    ((_, stopped),) = mnist.train_models([make_run(epochs=chosen["epoch"])], device="cpu")
    assert chosen["rewards"] == stopped.metrics["rewards"]
    assert chosen["rewards"] != result.metrics["rewards"]


def test_of_equally_good_evaluations_the_first_is_chosen():
    history = [{"validation": agreement} for agreement in (0.5, 0.6, 0.6, 0.4)]
    assert evaluation.choose_evaluation(history) == 1


def test_seeds_that_train_together_equal_seeds_that_train_alone(data, in_double):
    """The way of a GPU, on a processor."""
    runs = [
        make_run(name, seed=seed) for seed in (0, 1) for name in ("logistic", "ramp", "sigmoid")
    ]
    together = mnist.Chunk.prepare(runs, data, "cpu")
    alone = [mnist.Chunk.prepare(runs[start : start + 3], data, "cpu") for start in (0, 3)]
    for _ in range(3):
        risk, fitted = together.train_epoch()
        risks, fits = zip(*[chunk.train_epoch() for chunk in alone], strict=True)
        torch.testing.assert_close(risk, torch.cat(risks), rtol=0, atol=1e-9)
        assert torch.equal(fitted, torch.cat(fits))

    rewards = together.evaluate()
    others = [chunk.evaluate() for chunk in alone]
    torch.testing.assert_close(rewards, torch.cat(others), rtol=0, atol=1e-8)
    scores = [
        score for chunk, other in zip(alone, others, strict=True) for score in chunk.score(other)
    ]
    for score, expected in zip(together.score(rewards), scores, strict=True):
        assert score == pytest.approx(expected)
    assert (together.flipped == np.concatenate([chunk.flipped for chunk in alone])).all()


def test_a_gpu_trains_the_seeds_with_the_same_losses_together(monkeypatch):
    names = ("logistic", "ramp", "sigmoid")
    free = SimpleNamespace(models=100)
    per_model = 4 * chunks.FLOATS["cuda"] * EVALUATION_BATCH["cuda"]
    monkeypatch.setattr(
        chunks.torch.cuda, "mem_get_info", lambda: (2 * free.models * per_model, 2**50)
    )
    runs = [
        make_run(name, seed=seed)
        for seed in range(4)
        for name in names
        if seed < 3 or name != "ramp"
    ]

    def list_seeds():
        lists = chunks.list_chunks(runs, workers=1, device="cuda")
        assert sorted((run.seed, run.method) for together in lists for run in together) == [
            (run.seed, run.method) for run in runs
        ]
        assert all(len(together) <= free.models for together in lists)
        return sorted([run.seed for run in together] for together in lists)

    assert list_seeds() == [[0, 0, 0, 1, 1, 1, 2, 2, 2], [3, 3]]
    free.models = 7
    assert list_seeds() == [[0, 0, 0, 1, 1, 1], [2, 2, 2], [3, 3]]
    free.models = 2
    assert list_seeds() == [[0, 0], [0, 1], [1, 1], [2], [2, 2], [3, 3]]


@pytest.mark.parametrize("models", [1, 35, 303, 304, 315, 10_000])
def test_no_tensor_has_more_numbers_than_can_be_counted(models):
    images = evaluation.most_beside(models)
    assert models * 6 * 24 * 24 * images < 2**31 <= models * 6 * 24 * 24 * (images + 1)


def test_more_models_see_fewer_images_together(data, monkeypatch):
    runs = [make_run(name) for name in ("logistic", "ramp", "sigmoid")]
    chunk = mnist.Chunk.prepare(runs, data, "cpu")
    expected = chunk.evaluate()
    seen = []
    rewards = mnist.Grid.rewards

    def watch(grid, images, **options):
        seen.append(images.shape[3])
        return rewards(grid, images, **options)

    monkeypatch.setattr(mnist.Grid, "rewards", watch)
    monkeypatch.setattr(evaluation, "MOST_NUMBERS", 3 * 6 * 24 * 24 * 40 + 1)
    torch.testing.assert_close(chunk.evaluate(), expected)
    assert max(seen) == 40
    assert sum(seen) == len(data.test_images)


def test_no_list_trains_on_more_numbers_than_can_be_counted(monkeypatch):
    monkeypatch.setattr(memory, "free_on_gpu", lambda: 2**50)
    names = ("logistic", "ramp", "sigmoid")
    runs = [make_run(name, seed=seed, batch=5000) for seed in range(40) for name in names]
    lists = chunks.list_chunks(runs, workers=1, device="cuda")
    largest = max(map(len, lists))
    assert largest == 60  # whole seeds
    assert largest * 10_000 * 6 * 24 * 24 < 2**31


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_processor(data, in_double):
    """Two of five epochs are recorded, in two shapes.

    Both devices get the same order and masks, since each draws its own.
    """
    runs = [make_run(pairs=80, seed=seed) for seed in (0, 1)]
    drawn = {"generators": [torch.Generator().manual_seed(seed) for seed in (0, 1)]}
    chunk = replace(mnist.Chunk.prepare(runs, data, "cuda"), **drawn)
    alone = [mnist.Chunk.prepare([run], data, "cpu") for run in runs]
    before = torch.cat([each.evaluate() for each in alone])
    for each in 5 * [chunk, *alone]:
        each.train_epoch()
    expected = torch.cat([each.evaluate() for each in alone])
    assert (expected - before).abs().max() > 0.1
    torch.testing.assert_close(chunk.evaluate().cpu(), expected, rtol=0, atol=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_chunk_on_a_gpu_stays_within_its_estimate(data):
    # So many models that what libraries take for themselves, some 150 MB, is little beside them.
    rates = np.linspace(0, 0.45, 25).tolist()
    runs = [
        make_run(name, rate, batch=64)
        for name in ("logistic", "ramp", "sigmoid", "hinge")
        for rate in rates
    ]
    torch.cuda.reset_peak_memory_stats()
    chunk = mnist.Chunk.prepare(runs, data, "cuda")
    for _ in range(5):  # called, then recorded
        chunk.train_epoch()
    chunk.evaluate()
    images = max(2 * runs[0].batch, len(data.test_images))
    estimate = 4 * chunks.FLOATS["cuda"] * images * len(runs)
    assert torch.cuda.max_memory_allocated() <= estimate


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_step_waits_for_the_gpu(data):
    chunk = mnist.Chunk.prepare([make_run(seed=seed) for seed in (0, 1)], data, "cuda")
    for _ in range(2):  # three steps that warm up, and the recording
        chunk.train_epoch()
    torch.cuda.set_sync_debug_mode("error")
    try:
        chunk.train_epoch()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_rankings_are_compared_with_scipys_tau():
    rewards = {
        "asymmetric": [1.0, 2.0, 3.0],
        "equivalent": [1.0, 3.0, 2.0],
        "tied": [3.0, 2.0, 1.0],
    }
    shared = {"method": "ramp", "noise_pair": "0-0.4"}
    records = [
        {
            "config": {**shared, "seed": seed, "condition": condition},
            "metrics": {"rewards": values if seed == 0 else [-value for value in values]},
        }
        for seed in (0, 1, 2)
        for condition, values in rewards.items()
    ]
    tau = mnist.compare_rankings(records[:6]).set_index(["seed", "comparison"]).tau
    # 2 of 3 pairs in the same order
    assert tau[0, "asymmetric, equivalent"] == pytest.approx(1 / 3)
    assert tau[0, "asymmetric, tied"] == pytest.approx(-1)
    assert tau[0, "equivalent, other data"] == pytest.approx(-1)  # seed 1 has the reverse order
    assert (1, "equivalent, other data") not in tau  # the same pair of seeds

    yardstick = mnist.compare_rankings(records).query("comparison == 'equivalent, other data'")
    by_seed = dict(zip(yardstick.seed, yardstick.tau, strict=True))
    assert by_seed == pytest.approx({0: -1, 1: 1, 2: -1})
    with pytest.raises(ValueError, match="at least two seeds"):
        mnist.compare_rankings(records[:3])
