"""The MNIST study against enumeration, the textbook network and finite differences."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from sympo import losses, stats
from sympo.studies import sources
from sympo.studies.mnist import study as mnist
from sympo.studies.profiles import study_config

RUN = {
    "study": "mnist_losses",
    "epochs": 2,
    "eval_every": 1,
    "pairs": 96,
    "batch": 32,
    "learning_rate": 1e-3,
}
RUN |= {
    "class_prior": 0.5,
    "method": "sigmoid",
    "noise": "symmetric-0.4",
    "seed": 3,
    "rate_pos": 0.4,
    "rate_neg": 0.4,
}


@pytest.fixture
def digits():
    return np.random.default_rng(0).integers(0, 10, 60_000).astype(np.uint8)


@pytest.fixture
def made_up(monkeypatch):
    """A data set of the right shapes whose images show their digit as a bright band, so that
    learning is quick.
    """
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (600, 28, 28), dtype=np.uint8)
    labels = generator.integers(0, 10, 600).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 6] = 250
    data = sources.MNIST(images[:400], labels[:400], images[400:], labels[400:], "made up", "none")
    monkeypatch.setattr(sources, "mnist", lambda: data)
    return data


def test_pairs_use_no_image_twice_and_differ_in_digit(digits):
    pairs = mnist.draw_pairs(digits, 10_000, seed=0)
    used = np.concatenate([pairs.first, pairs.second])
    assert len(np.unique(used)) == 20_000
    assert (digits[pairs.first] != digits[pairs.second]).all()


def test_preferences_follow_bradley_terry(digits):
    pairs = mnist.draw_pairs(digits, 20_000, seed=1, class_prior=0.3)
    # winner − loser
    difference = (digits[pairs.first].astype(int) - digits[pairs.second]) * pairs.labels
    for gap in (1, 2, 3):
        right, total = (difference == gap).sum(), (np.abs(difference) == gap).sum()
        expected = 1 / (1 + np.exp(-gap))
        assert right / total == pytest.approx(
            expected, abs=4 * np.sqrt(expected * (1 - expected) / total)
        )
    assert (pairs.labels > 0).mean() == pytest.approx(0.3, abs=0.015)


def test_more_pairs_than_images_is_refused(digits):
    with pytest.raises(ValueError, match="pairs = 400 is more than"):
        mnist.draw_pairs(digits[:300], 400, seed=0)


def test_flips_nest_over_rates_and_tied_noise_follows_ink(digits):
    pairs = mnist.draw_pairs(digits, 20_000, seed=0)
    ink = np.random.default_rng(5).random(60_000)
    low = mnist.noisy_labels(pairs, {**RUN, "rate_pos": 0.2, "rate_neg": 0.2}, ink) != pairs.labels
    high = mnist.noisy_labels(pairs, RUN, ink) != pairs.labels
    assert high[low].all()
    assert high.mean() == pytest.approx(0.4, abs=0.015)
    tied = (
        mnist.noisy_labels(pairs, {**RUN, "rate_pos": 0.0, "rate_neg": 0.4, "first_rate": 0.9}, ink)
        != pairs.labels
    )
    more_ink_wins = np.where(ink[pairs.first] >= ink[pairs.second], 1, -1) == pairs.labels
    assert tied[more_ink_wins].mean() == pytest.approx(0.1 * 0.4, abs=0.01)
    assert tied[~more_ink_wins].mean() == pytest.approx(0.9 * 0.4, abs=0.02)


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


@pytest.mark.parametrize("kind", ["random", "digits", "black", "saturated", "blocks"])
def test_both_ways_of_the_convolutions_equal_the_textbook(kind):
    """Features and gradients, in float64, also where pooling windows tie and where a ReLU is
    shut.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(28, 28, 70, generator=generator, dtype=torch.float64)  # more than one tile
    if kind == "digits":
        images[images < 0.6] = 0
        images[images > 0.8] = 1
    elif kind == "black":
        images[:, :, ::2] = 0
    elif kind == "saturated":
        images[:20], images[:, 10:20] = 1.0, 0.5
    elif kind == "blocks":  # constant regions with edges
        images = images[::7, ::7].repeat_interleave(7, 0).repeat_interleave(7, 1).round()
    networks = [mnist.initial_network(seed).double() for seed in (0, 1)]
    coefficients = torch.randn(2, 256, 70, generator=generator, dtype=torch.float64)
    fields = ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")
    expected = []
    for network, coefficient in zip(networks, coefficients, strict=True):
        hidden = images.permute(2, 0, 1)[:, None]
        for layer in (network.conv1, network.conv2):
            hidden = functional.max_pool2d(functional.relu(layer(hidden)), 2)
        features = hidden.flatten(1).T
        (features * coefficient).sum().backward()
        expected.append([features, *(network.get_parameter(field).grad for field in fields)])
    stacked = [
        torch.stack([network.get_parameter(field).detach() for network in networks])
        for field in fields
    ]
    for convolve, seen in ((mnist.convolve, images[None]), (mnist._TiledConvolve.apply, images)):
        weight1, bias1, weight2, bias2 = parameters = [
            value.clone().requires_grad_() for value in stacked
        ]
        features = convolve(
            seen, mnist._expand_first(weight1), bias1, mnist._expand_second(weight2), bias2
        )
        (features * coefficients).sum().backward()
        for model, (reference, *grads) in enumerate(expected):
            torch.testing.assert_close(features[model], reference, rtol=0, atol=1e-12)
            for parameter, grad in zip(parameters, grads, strict=True):
                torch.testing.assert_close(parameter.grad[model], grad, rtol=1e-11, atol=1e-10)


class _Masked(torch.nn.Module):
    """Dropout with given masks, so that the textbook network drops the same units as the grid."""

    def forward(self, hidden):
        return hidden * self.masks.pop(0).T if self.training else hidden


def test_grid_equals_models_trained_one_at_a_time():
    names, steps, batch = ["logistic", "ramp", "sigmoid"], 20, 8
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(steps, 28, 28, 2 * batch, generator=generator, dtype=torch.float64)
    # black background, as in MNIST: many equal values inside a pooling window
    images[images < 0.6] = 0
    images[images > 0.9] = 1
    labels = torch.randint(0, 2, (steps, len(names), batch), generator=generator) * 2 - 1
    masks = [mnist.draw_masks(2 * batch, generator).double() for _ in range(steps)]

    start = mnist.initial_network(0).double()
    grid = mnist.Grid(start, models=len(names))
    optimiser = torch.optim.Adam(grid.parameters.values(), lr=1e-3)
    for step in range(steps):
        rewards = grid.rewards(images[step, None], masks=masks[step][:, None])
        margins = labels[step] * (rewards[:, :batch] - rewards[:, batch:])
        optimiser.zero_grad()
        mnist.margin_loss(margins, names).sum().backward()
        optimiser.step()

    for index, name in enumerate(names):
        network = mnist.initial_network(0).double()
        network.dropout = _Masked()
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        for step in range(steps):
            network.dropout.masks = list(masks[step])
            rewards = network(images[step].permute(2, 0, 1)[:, None])
            margins = labels[step, index] * (rewards[:batch] - rewards[batch:])
            optimiser.zero_grad()
            losses.get(name).fn(margins).mean().backward()
            optimiser.step()
        # Biases before a batch norm have no gradient but rounding, which Adam turns into steps:
        # hence 1e-7, not less.
        moved = False
        for field, value in network.named_parameters():
            torch.testing.assert_close(grid.parameters[field][index], value, rtol=0, atol=1e-7)
            moved |= not torch.equal(value, start.get_parameter(field))
        assert moved
        network.eval()
        expected = network(images[0].permute(2, 0, 1)[:, None])
        torch.testing.assert_close(grid.rewards(images[:1])[index], expected, rtol=0, atol=1e-9)


def test_evaluation_has_no_dropout_and_clips():
    network = mnist.initial_network(0)
    grid = mnist.Grid(network, models=2)
    images = torch.randint(
        0, 256, (5, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    network.eval()
    torch.testing.assert_close(
        mnist.evaluate_rewards(grid, images)[1], network(images[:, None] / 255).detach()
    )
    with torch.no_grad():
        grid.parameters["fc3.bias"][0] = 100.0
    assert (mnist.evaluate_rewards(grid, images)[0] == mnist.CLIP).all()


def test_margin_loss_is_the_mean_of_each_models_own_loss():
    margins = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    means = mnist.margin_loss(margins, ["hinge", "hinge", "ramp", "sigmoid"])
    assert means[1].item() == pytest.approx(functional.relu(1 - margins[1]).mean().item())
    assert means[2].item() == pytest.approx(np.clip(0.5 - margins[2].numpy() / 2, 0, 1).mean())
    assert means[3].item() == pytest.approx((1 / (1 + np.exp(margins[3].numpy()))).mean())


def test_result_does_not_depend_on_the_models_trained_beside_it(made_up, monkeypatch):
    runs = [{**RUN, "method": name, "noise": f"symmetric-{r}", "rate_pos": r, "rate_neg": r, "epochs": 2}
            for name in ("logistic", "sigmoid") for r in (0.0, 0.4)]  # fmt: skip
    together = {
        (r["method"], r["noise"]): result for r, result in mnist.train_models(runs, device="cpu")
    }
    monkeypatch.setattr(
        mnist, "list_chunks", lambda runs, *, workers, device: [[run] for run in runs]
    )
    for run, result in mnist.train_models(runs, device="cpu"):
        other = together[run["method"], run["noise"]]["metrics"]
        np.testing.assert_allclose(result["metrics"]["rewards"], other["rewards"], atol=1e-3)
        assert result["metrics"]["accuracy"] == pytest.approx(other["accuracy"], abs=1e-3)


def test_chunks_that_train_at_once_equal_one_after_the_other(made_up, monkeypatch):
    runs = [
        {**RUN, "method": name, "epochs": 2} for name in ("logistic", "sigmoid", "ramp", "hinge")
    ]
    alone = {r["method"]: result["metrics"] for r, result in mnist.train_models(runs, device="cpu")}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = {
            r["method"]: result["metrics"] for r, result in mnist.train_models(runs, device="cpu")
        }
    finally:
        torch.set_num_threads(threads)
    for name, metrics in alone.items():
        np.testing.assert_allclose(together[name]["rewards"], metrics["rewards"], atol=1e-3)


def test_seeds_that_start_at_once_start_as_alone(monkeypatch):
    expected = [mnist.initial_network(seed).state_dict() for seed in (0, 1)]
    seed_all = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: (seed_all(seed), time.sleep(0.05)))
    with ThreadPoolExecutor(2) as pool:
        for network, values in zip(pool.map(mnist.initial_network, (0, 1)), expected, strict=True):
            assert all(
                torch.equal(value, values[name]) for name, value in network.state_dict().items()
            )


def test_chunks_hold_one_seed_and_fit_in_memory(monkeypatch):
    runs = [
        {**RUN, "method": name, "seed": seed}
        for name in ("logistic", "ramp", "sigmoid")
        for seed in (0, 1)
    ]
    chunks = mnist.list_chunks(runs, workers=2, device="cpu")
    assert [len(chunk) for chunk in chunks] == [2, 1, 2, 1]
    assert all(len({run["seed"] for run in chunk}) == 1 for chunk in chunks)
    monkeypatch.setattr(mnist.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    chunks = mnist.list_chunks(runs, workers=2, device="cpu")
    assert [len(chunk) for chunk in chunks] == [1] * 6


def test_training_that_is_interrupted_stops_its_threads(made_up):
    results = mnist.train_models(
        [{**RUN, "epochs": 1}, {**RUN, "seed": 4, "epochs": 10_000}], device="cpu"
    )
    next(results)
    # what Ctrl-C does to the generator; the long run must not keep this test waiting
    results.close()
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")
    ]


def test_training_learns_the_order_and_reports_the_flips(made_up):
    clean = {
        **RUN,
        "noise": "symmetric-0",
        "rate_pos": 0.0,
        "rate_neg": 0.0,
        "epochs": 12,
        "eval_every": 5,
    }
    ((_, result),) = mnist.train_models([clean], device="cpu")
    assert [entry["epoch"] for entry in result["history"]] == [5, 10, 12]
    assert result["metrics"]["accuracy"] > 0.8
    assert result["metrics"]["fit_flipped"] is None
    ((_, noisy),) = mnist.train_models([{**RUN, "epochs": 12}], device="cpu")
    assert 0 < noisy["metrics"]["fit_flipped"] < 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"epochs": "3"}, "epochs"),
        ({"epochs": 0}, "epochs"),
        ({"losses": ["logistik"]}, "Did you mean 'logistic'"),
        ({"noise_rates": [0.0, 0.5]}, "noise_rates.1"),
        ({"headline_seeds": 1, "seeds": 2}, "headline_seeds"),
    ],
)
def test_bad_parameters_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        study_config("mnist_losses", "smoke", **overrides)


def test_noise_that_cannot_be_learned_from_is_refused():
    with pytest.raises(ValueError, match="nothing can be learned"):
        study_config("mnist_noise", "smoke", noise_pairs=[[0.4, 0.6]])


@pytest.mark.parametrize(
    ("study", "profile", "message"),
    [("mnist_loses", "smoke", "mnist_losses"), ("mnist_losses", "labtop", "laptop")],
)
def test_unknown_study_or_profile_names_the_nearest(study, profile, message):
    with pytest.raises(ValueError, match=f"Did you mean '{message}'"):
        study_config(study, profile)


@pytest.fixture
def in_double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_seeds_that_train_together_equal_seeds_that_train_alone(made_up, in_double):
    """The way of a GPU, on a processor."""
    runs = [
        {**RUN, "method": name, "seed": seed}
        for seed in (0, 1)
        for name in ("logistic", "ramp", "sigmoid")
    ]
    together = mnist.Chunk.prepare(runs, made_up, "cpu")
    alone = [mnist.Chunk.prepare(runs[start : start + 3], made_up, "cpu") for start in (0, 3)]
    for _ in range(3):
        results = together.train_epoch()
        expected = [
            torch.cat(values)
            for values in zip(*[chunk.train_epoch() for chunk in alone], strict=True)
        ]
        torch.testing.assert_close(results[0], expected[0], rtol=0, atol=1e-9)
        assert torch.equal(results[1], expected[1])
    rewards, others = together.evaluate(), [chunk.evaluate() for chunk in alone]
    torch.testing.assert_close(rewards, torch.cat(others), rtol=0, atol=1e-8)
    scores = [
        score for chunk, other in zip(alone, others, strict=True) for score in chunk.score(other)
    ]
    for score, expected in zip(together.score(rewards), scores, strict=True):
        assert score == pytest.approx(expected)
    assert (together.flipped == np.concatenate([chunk.flipped for chunk in alone])).all()


def test_a_gpu_trains_the_seeds_with_the_same_losses_together(monkeypatch):
    names, free = ("logistic", "ramp", "sigmoid"), SimpleNamespace(models=100)
    per_model = 4 * mnist.FLOATS["cuda"] * mnist.EVALUATION_BATCH
    monkeypatch.setattr(
        mnist.torch.cuda, "mem_get_info", lambda: (2 * free.models * per_model, None)
    )
    runs = [
        {**RUN, "method": name, "seed": seed}
        for seed in range(4)
        for name in names
        if seed < 3 or name != "ramp"
    ]

    def list_seeds():
        chunks = mnist.list_chunks(runs, workers=1, device="cuda")
        assert sorted((r["seed"], r["method"]) for c in chunks for r in c) == [
            (r["seed"], r["method"]) for r in runs
        ]
        assert all(len(chunk) <= free.models for chunk in chunks)
        return sorted([run["seed"] for run in chunk] for chunk in chunks)

    assert list_seeds() == [[0, 0, 0, 1, 1, 1, 2, 2, 2], [3, 3]]
    free.models = 7
    assert list_seeds() == [[0, 0, 0, 1, 1, 1], [2, 2, 2], [3, 3]]
    free.models = 2
    assert list_seeds() == [[0, 0], [0, 1], [1, 1], [2], [2, 2], [3, 3]]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_processor(made_up, in_double):
    """Given the same order and masks: each device draws its own. Two of five epochs are recorded,
    in two shapes.
    """
    runs = [{**RUN, "pairs": 80, "seed": seed} for seed in (0, 1)]
    drawn = {"generators": [torch.Generator().manual_seed(seed) for seed in (0, 1)]}
    chunk = replace(mnist.Chunk.prepare(runs, made_up, "cuda"), **drawn)
    alone = [mnist.Chunk.prepare([run], made_up, "cpu") for run in runs]
    before = torch.cat([each.evaluate() for each in alone])
    for each in 5 * [chunk, *alone]:
        each.train_epoch()
    expected = torch.cat([each.evaluate() for each in alone])
    assert (expected - before).abs().max() > 0.1
    torch.testing.assert_close(chunk.evaluate().cpu(), expected, rtol=0, atol=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_chunk_on_a_gpu_stays_within_its_estimate(made_up):
    runs = [{**RUN, "method": name} for name in ("logistic", "ramp", "sigmoid", "hinge")]
    chunk = mnist.Chunk.prepare(runs, made_up, "cuda")
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):  # called, then recorded
        chunk.train_epoch()
    chunk.evaluate()
    images = max(2 * RUN["batch"], len(made_up.test_images))
    assert (
        torch.cuda.max_memory_allocated() <= 4 * mnist.FLOATS["cuda"] * images * len(runs) + 2**27
    )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_step_waits_for_the_gpu(made_up):
    chunk = mnist.Chunk.prepare([{**RUN, "seed": seed} for seed in (0, 1)], made_up, "cuda")
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
    records = [
        {
            "config": {
                "method": "ramp",
                "noise_pair": "0-0.4",
                "seed": seed,
                "condition": condition,
            },
            "metrics": {"rewards": values if seed == 0 else [-value for value in values]},
        }
        for seed in (0, 1, 2)
        for condition, values in rewards.items()
    ]
    tau = stats.compare_rankings(records[:6]).set_index(["seed", "comparison"]).tau
    # 2 of 3 pairs in the same order
    assert tau[0, "asymmetric, equivalent"] == pytest.approx(1 / 3)
    assert tau[0, "asymmetric, tied"] == pytest.approx(-1)
    assert tau[0, "equivalent, other data"] == pytest.approx(-1)  # seed 1 has the reverse order
    assert (1, "equivalent, other data") not in tau  # the same pair of seeds
    yardstick = stats.compare_rankings(records).query("comparison == 'equivalent, other data'")
    assert dict(zip(yardstick.seed, yardstick.tau, strict=True)) == pytest.approx(
        {0: -1, 1: 1, 2: -1}
    )
    with pytest.raises(ValueError, match="at least two seeds"):
        stats.compare_rankings(records[:3])
