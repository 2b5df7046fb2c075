"""Study loss_family: temperature, bound and warm start against a loop that trains one model, and
the temperature that noisy labels choose.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_mnist import TRAINING, banded_digits
from torch.nn import functional

from sympo import losses
from sympo.studies import mnist, plan, sources
from sympo.studies.mnist import family
from sympo.studies.mnist.fast import chunks
from sympo.studies.profiles import study_config

KNOBS = ({"temperature": 4.0}, {"clip": 0.03}, {"warm_epochs": 1}, {})


def make_run(method="sigmoid", rate=0.4, **changes):
    values = {**TRAINING, "study": "loss_family", "noise": f"symmetric-{rate:g}"}
    rates = {"rate_pos": rate, "rate_neg": rate}
    return family.FamilyRun(**{**values, **rates, "method": method, **changes})


def read(network, images, masks):
    """The network of one model with masks of dropout, up to the bound."""
    masks = masks.mT.split((256, 64, 64), 1)
    hidden = functional.max_pool2d(functional.relu(network.conv1(images)), 2)
    hidden = functional.max_pool2d(functional.relu(network.conv2(hidden)), 2).flatten(1) * masks[0]
    hidden = functional.relu(network.norm1(network.fc1(hidden))) * masks[1]
    hidden = functional.relu(network.norm2(network.fc2(hidden))) * masks[2]
    return network.fc3(hidden).squeeze(1)


def train_alone(run, data):
    """A loop that knows nothing of the grid; T divides the margin, the logistic loss goes first."""
    pairs, _ = mnist.split_pairs(data.train_labels, run)
    labels = torch.from_numpy(mnist.noisy_labels(pairs, run, data.train_images.mean((1, 2))))
    first, second = (
        torch.from_numpy(data.train_images[indices])[:, None] / 255
        for indices in (pairs.first, pairs.second)
    )
    network = mnist.initial_network(run.seed).double()
    optimiser = torch.optim.Adam(network.parameters(), lr=run.learning_rate)
    generator = torch.Generator().manual_seed(run.seed)
    for epoch in range(run.epochs):
        loss = losses.get("logistic" if epoch < run.warm_epochs else run.method).fn
        for rows in torch.randperm(run.pairs, generator=generator).split(run.batch):
            images = torch.cat([first[rows], second[rows]])
            masks = mnist.draw_masks(len(images), generator)
            rewards = read(network, images, masks).clamp(-run.clip, run.clip)
            margins = labels[rows] * (rewards[: len(rows)] - rewards[len(rows) :])
            optimiser.zero_grad()
            loss(margins / run.temperature).mean().backward()
            optimiser.step()
    return network


@pytest.fixture
def data(monkeypatch):
    data = banded_digits()
    monkeypatch.setattr(sources, "mnist", lambda: data)
    return data


@pytest.mark.nightly
@pytest.mark.parametrize("method", ["sigmoid", "ramp"])
def test_models_with_turned_knobs_equal_models_trained_alone(data, in_double, method):
    runs = [make_run(method, **knobs) for knobs in KNOBS]
    chunk = mnist.Chunk.prepare(runs, data, "cpu")
    for _ in range(TRAINING["epochs"]):
        chunk.train_epoch()
    weights = chunk.grid.parameters["fc3.weight"]
    for index, run in enumerate(runs):
        expected = train_alone(run, data).fc3.weight
        torch.testing.assert_close(weights[index], expected, rtol=0, atol=1e-8)
    # each knob does something, or the comparison above would show nothing
    others = [(weights[index] - weights[-1]).abs().max() for index in range(3)]
    assert min(others) > 1e-5


def test_the_test_risk_is_that_of_the_tempered_loss(data, in_double):
    chunk = mnist.Chunk.prepare([make_run(**knobs) for knobs in KNOBS], data, "cpu")
    rewards = chunk.evaluate()
    margins = rewards[:, chunk.test.better] - rewards[:, chunk.test.worse]
    divided = margins / torch.tensor([[4.0], [1.0], [1.0], [1.0]])
    expected = losses.get("sigmoid").fn(divided).mean(1).tolist()
    assert [score["test_risk"] for score in chunk.score(rewards)] == pytest.approx(expected)
    assert rewards[1].abs().max() == 0.03


def test_a_gpu_joins_seeds_whose_losses_and_knobs_are_the_same(monkeypatch):
    monkeypatch.setattr(chunks, "_free_memory", lambda device: 2**40)
    runs = [make_run(temperature=t, seed=seed) for seed in (0, 1, 2) for t in (1.0, 4.0)]
    runs = [run for run in runs if (run.seed, run.temperature) != (2, 4.0)]
    lists = chunks.list_chunks(runs, workers=1, device="cuda")
    seeds = sorted(sorted({run.seed for run in together}) for together in lists)
    assert seeds == [[0, 1], [2]]


def test_seeds_together_equal_seeds_alone(data, in_double):
    runs = [make_run(seed=seed, **knobs) for seed in (0, 1) for knobs in KNOBS]
    together = mnist.Chunk.prepare(runs, data, "cpu")
    alone = [mnist.Chunk.prepare(runs[start : start + 4], data, "cpu") for start in (0, 4)]
    for _ in range(2):
        risk, _ = together.train_epoch()
        risks = torch.cat([chunk.train_epoch()[0] for chunk in alone])
        torch.testing.assert_close(risk, risks, rtol=0, atol=1e-9)
    others = torch.cat([chunk.evaluate() for chunk in alone])
    torch.testing.assert_close(together.evaluate(), others, rtol=0, atol=1e-8)


def record(run, validation):
    return {"config": run.config(), "metrics": {"validation": validation}}


def test_the_temperature_is_the_one_that_noisy_labels_prefer_over_all_seeds():
    agreed = {1.0: (0.6, 0.5), 4.0: (0.5, 0.7), 0.25: (0.5, 0.5)}
    probe = [
        record(make_run(temperature=t, seed=seed), value)
        for t, values in agreed.items()
        for seed, value in enumerate(values)
    ]
    probe += [record(make_run("ramp", 0.0, temperature=t), 0.5) for t in (4.0, 0.25, 1.0)]
    chosen = family.choose_temperatures(probe)
    # of equally good ones the one that leaves the loss as it is
    assert chosen == {("sigmoid", 0.4): 4.0, ("ramp", 0.0): 1.0}


def test_runs_follow_the_probe_and_none_is_trained_twice():
    config = study_config("loss_family", "smoke")
    known = {}
    first = config.list_runs(known.get)
    assert {run.seed for run in first} == {1200, 200, 201, 202}
    for run in config.probe_runs():
        # ramp is best at T = 4, all others as they are
        best = 4.0 if run.method == "ramp" else 1.0
        known[run] = record(run, float(run.temperature == best))
    runs = config.list_runs(known.get)
    assert len(runs) == len(set(runs))
    followers = [run for run in runs if run not in first]
    tuned = [run for run in followers if run.knobs()[1:] == mnist.Knobs()[1:]]
    assert {(run.method, run.temperature) for run in tuned} == {("ramp", 4.0)}
    turned = [run for run in followers if run not in tuned]
    assert {run.rate_pos for run in turned} == {0.4}
    assert {(run.method, run.temperature) for run in turned} == {
        ("ramp", 4.0),
        ("sigmoid", 1.0),
        ("logistic", 1.0),
    }
    assert {run.method for run in turned if run.warm_epochs} == {"sigmoid", "ramp"}
    assert {config.tier(run) for run in config.probe_runs()} == {plan.PROBE}
    assert {config.tier(run) for run in followers} == {plan.TUNED}


def test_a_grid_without_one_is_refused():
    with pytest.raises(ValueError, match="1 is missing"):
        study_config("loss_family", "smoke", temperatures=[2.0, 4.0])


def test_tuning_seeds_decide_nothing_else():
    for profile in ("smoke", "laptop", "gpu", "paper"):
        config = study_config("loss_family", profile)
        tuning = {run.seed for run in config.probe_runs()}
        assert not tuning & {*config.deciding_seeds}


def test_a_knob_is_part_of_what_a_record_is_named_after():
    runs = [replace(make_run(), **knobs) for knobs in KNOBS]
    assert len({str(run.config()) for run in runs}) == len(KNOBS)
    assert len({run.describe() for run in runs}) == len(KNOBS)
    assert np.isclose(runs[-1].clip, 20)
