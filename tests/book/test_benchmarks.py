"""The hot functions, timed: `pytest tests/test_benchmarks.py --benchmark-enable`. `make test` runs
each once.

Each case asserts something about the result, so that nothing fast and wrong passes.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from sympo import losses, noise, preferences, stats, trainer
from sympo.studies import sources
from sympo.studies.mnist import study as mnist

torch.manual_seed(0)
MARGIN = torch.randn(100_000)


@pytest.fixture
def images():
    return torch.randint(
        0, 256, (256, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_grid_training_epoch(benchmark, images):
    """4 models, one step of 64 pairs per call."""
    digits = np.arange(256).astype(np.uint8) % 10
    data = sources.MNIST(images.numpy(), digits, images.numpy(), digits, "made up", "none")
    run = {
        "seed": 0,
        "pairs": 64,
        "batch": 64,
        "class_prior": 0.5,
        "learning_rate": 1e-3,
        "rate_pos": 0,
        "rate_neg": 0,
    }
    runs = [{**run, "method": name} for name in ("logistic", "ramp", "sigmoid", "square")]
    chunk = mnist.Chunk.prepare(runs, data, "cpu")
    first, _ = chunk.train_epoch()
    benchmark(chunk.train_epoch)
    for _ in range(20):
        last, fitted = chunk.train_epoch()
    assert (last < first).all()
    assert fitted.shape == (4, 64)


def test_evaluate_rewards(benchmark, images):
    """4 models, 256 images."""
    network = mnist.initial_network(0)
    rewards = benchmark(mnist.evaluate_rewards, mnist.Grid(network, models=4), images)
    network.eval()
    torch.testing.assert_close(rewards, network(images[:, None] / 255).detach().expand(4, -1))


def test_reward_accuracy(benchmark):
    """28 models, 10,000 images: 45 million pairs each."""
    digits = torch.arange(10_000) % 10
    rewards = torch.stack([digits.float(), -digits.float(), torch.zeros(10_000)]).repeat(10, 1)[:28]
    accuracy, ties = benchmark(mnist.reward_accuracy, rewards, digits)
    assert accuracy[:3].tolist() == [1, 0, 0]  # a tie is not a correct order
    assert ties[:3].tolist() == [0, 0, 1]


def test_flip(benchmark):
    """10,000 labels whose flips are keyed by row."""
    keys, labels = [(i, i + 1) for i in range(10_000)], np.ones(10_000, dtype=np.int64)
    flipped = benchmark(lambda: noise.flip(labels, 0.3, 0.1, noise.RowGenerator(keys, seed=0)))
    assert (flipped < 0).mean() == pytest.approx(0.3, abs=0.02)  # four standard deviations


@pytest.mark.parametrize("name", losses.LOSSES)
def test_loss(benchmark, name):
    """100,000 margins."""
    loss = losses.get(name)
    values = benchmark(loss.fn, MARGIN)
    if loss.symmetric:
        torch.testing.assert_close(
            values + loss.fn(-MARGIN), torch.full_like(values, loss.constant), atol=1e-5, rtol=0
        )
    else:
        assert values.mean() > loss.fn(MARGIN + 0.1).mean()  # a larger margin is a smaller loss


@pytest.mark.parametrize("name", ["dpo", "rdpo", "ropo", "drdpo", "repo", "sympo_sigmoid"])
def test_pair_loss(benchmark, name):
    """Forward and backward through 100,000 margins."""
    rate = {"rdpo": 0.2, "repo": 0.9}.get(name)

    def differentiate():
        margin = MARGIN.clone().requires_grad_()
        trainer.pair_loss(name, margin, rate=rate).mean().backward()
        return margin.grad

    assert benchmark(differentiate).sum() < 0  # on the whole, margins are pushed up


def test_parse_rows(benchmark):
    """1,000 HH dialogues, one in a hundred a tie of equal answers."""
    rows = []
    for i in range(1_000):
        dialogue = f"\n\nHuman: question {i}\n\nAssistant: why?\n\nHuman: because\n\nAssistant: "
        rows.append(
            {"chosen": dialogue + "yes", "rejected": dialogue + ("yes" if i % 100 == 0 else "no")}
        )
    dataset, report = benchmark(preferences.parse_rows, rows)
    assert (report.rows, report.kept, len(dataset)) == (1_000, 990, 990)
    assert dataset[0]["prompt"][0]["content"] == "question 1"


def test_contrasts(benchmark):
    """6 methods against 2 baselines over 50 seeds; each method is 0.1 better than the one
    before.
    """
    shared, own = np.random.default_rng(0).normal(size=(2, 50))
    rows = [
        (f"m{m}", seed, shared[seed] + 0.1 * m + 0.001 * own[seed] * m)
        for m in range(8)
        for seed in range(50)
    ]
    table = pd.DataFrame(rows, columns=["method", "seed", "accuracy"])
    options = {"methods": [f"m{m}" for m in range(2, 8)], "baselines": ["m0", "m1"]}
    result = benchmark(stats.contrasts, table, value="accuracy", method="method", **options)
    assert result.estimate.to_numpy() == pytest.approx(
        [0.1 * (m - b) for m in range(2, 8) for b in (0, 1)], abs=0.002
    )
