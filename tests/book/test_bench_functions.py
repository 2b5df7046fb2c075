"""What the benchmarks time computes what it should, so that nothing fast and wrong passes."""

import numpy as np
import pytest
import torch

from sympo import losses
from sympo.book.bench import functions
from sympo.studies import mnist, sources

MARGIN = torch.randn(100_000, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (256, 28, 28), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def results():
    """What every timed case computes, by its name in the table."""
    return {what: case() for what, case in functions.list_cases().items()}


def find(results, word):
    """The result of the one case whose name holds `word`."""
    (result,) = [result for what, result in results.items() if word in what]
    return result


def test_grid_training_learns(images):
    """4 models, 64 pairs a step."""
    digits = np.arange(256).astype(np.uint8) % 10
    data = sources.MNIST(images.numpy(), digits, images.numpy(), digits, "made up", "none")
    study = {"study": "mnist_losses", "noise": "symmetric-0", "rate_pos": 0.0, "rate_neg": 0.0}
    sizes = {"epochs": 1, "eval_every": 1, "pairs": 64, "validation_pairs": 8, "batch": 64}
    training = {"seed": 0, "class_prior": 0.5, "learning_rate": 1e-3}
    names = ("logistic", "ramp", "sigmoid", "square")
    runs = [mnist.MnistRun(method=name, **study, **sizes, **training) for name in names]
    chunk = mnist.Chunk.prepare(runs, data, "cpu")
    first, _ = chunk.train_epoch()
    for _ in range(20):
        last, fitted = chunk.train_epoch()
    assert (last < first).all()
    assert fitted.shape == (4, 64)


def test_grid_rewards_are_those_of_the_network(images):
    network = mnist.initial_network(0)
    rewards = mnist.evaluate_rewards(mnist.Grid(network, models=4), images[None])
    network.eval()
    torch.testing.assert_close(rewards, network(images[:, None] / 255).detach().expand(4, -1))


def test_order_of_images(results):
    accuracy, ties = find(results, "order of")
    assert len(accuracy) == 28
    assert accuracy[:3].tolist() == [1, 0, 0]  # a tie is not a correct order
    assert ties[:3].tolist() == [0, 0, 1]


def test_flips(results):
    # four standard deviations
    assert (find(results, "flips") < 0).mean() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses(results, name):
    loss = losses.get(name)
    values = find(results, "margin losses")[name]
    if loss.symmetric:
        sums = values + loss.fn(-MARGIN)
        expected = torch.full_like(values, loss.constant)
        torch.testing.assert_close(sums, expected, atol=1e-5, rtol=0)
    else:
        # a larger margin is a smaller loss
        assert values.mean() > loss.fn(MARGIN + 0.1).mean()


@pytest.mark.parametrize("name", functions.TOLD)
def test_methods_push_margins_up_on_the_whole(results, name):
    gradients = find(results, "methods, gradients")[name]
    assert gradients.shape == MARGIN.shape
    assert gradients.sum() < 0


def test_dialogues(results):
    """1,000 of HH, one in a hundred a tie of equal answers."""
    dataset, report = find(results, "dialogues")
    assert (report.rows, report.kept, len(dataset)) == (1_000, 990, 990)
    assert dataset[0]["prompt"][0]["content"] == "question 1"


def test_contrasts(results):
    """6 methods against 2 baselines; each method is 0.1 better than the one before."""
    expected = [0.1 * (method - baseline) for method in range(2, 8) for baseline in (0, 1)]
    assert find(results, "contrasts").estimate.to_numpy() == pytest.approx(expected, abs=0.002)
