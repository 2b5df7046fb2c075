"""The grid and both ways of its convolutions against the textbook network, and without numba."""

import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from sympo import losses
from sympo.studies import mnist
from sympo.studies.mnist.fast import tiles
from sympo.studies.mnist.fast.convolutions import convolve, expand_first, expand_second
from sympo.studies.mnist.fast.grid import margin_loss
from sympo.studies.mnist.fast.kernels import TILE
from sympo.studies.mnist.fast.tiles import TiledConvolve
from sympo.studies.mnist.network import CLIP, DROPPED

FIELDS = ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")


def draw_images(kind, generator):
    """`(28, 28, 70)`: more than one tile, the last of them not full."""
    images = torch.rand(28, 28, 70, generator=generator, dtype=torch.float64)
    assert images.shape[2] > TILE
    if kind == "digits":
        images[images < 0.6] = 0
        images[images > 0.8] = 1
    elif kind == "black":
        images[:, :, ::2] = 0
    elif kind == "saturated":
        images[:20] = 1.0
        images[:, 10:20] = 0.5
    elif kind == "blocks":  # constant regions with edges
        images = images[::7, ::7].repeat_interleave(7, 0).repeat_interleave(7, 1).round()
    return images


@pytest.mark.parametrize("kind", ["random", "digits", "black", "saturated", "blocks"])
def test_both_ways_of_the_convolutions_equal_the_textbook(kind):
    """Features and gradients, in float64, also where windows tie and where a ReLU is shut."""
    generator = torch.Generator().manual_seed(0)
    images = draw_images(kind, generator)
    networks = [mnist.initial_network(seed).double() for seed in (0, 1)]
    coefficients = torch.randn(2, 256, 70, generator=generator, dtype=torch.float64)
    expected = []
    for network, coefficient in zip(networks, coefficients, strict=True):
        hidden = images.permute(2, 0, 1)[:, None]
        for layer in (network.conv1, network.conv2):
            hidden = functional.max_pool2d(functional.relu(layer(hidden)), 2)
        features = hidden.flatten(1).T
        (features * coefficient).sum().backward()
        expected.append([features, *(network.get_parameter(field).grad for field in FIELDS)])

    stacked = [
        torch.stack([network.get_parameter(field).detach() for network in networks])
        for field in FIELDS
    ]

    def convolve_on_a_gpu(images, weight1, bias1, weight2, bias2):
        return convolve(images[None], expand_first(weight1), bias1, expand_second(weight2), bias2)

    def convolve_on_a_processor(images, *parameters):
        return TiledConvolve.apply(images, None, *parameters, {})

    for way in (convolve_on_a_gpu, convolve_on_a_processor):
        parameters = [value.clone().requires_grad_() for value in stacked]
        features = way(images, *parameters)
        (features * coefficients).sum().backward()
        for model, (reference, *grads) in enumerate(expected):
            torch.testing.assert_close(features[model], reference, rtol=0, atol=1e-12)
            for parameter, grad in zip(parameters, grads, strict=True):
                torch.testing.assert_close(parameter.grad[model], grad, rtol=1e-11, atol=1e-10)


def test_steps_that_wait_for_their_gradients_share_no_memory():
    """Two forward passes before any backward, and a third with what the first has used."""
    generator = torch.Generator().manual_seed(0)
    network = mnist.initial_network(0).double()
    batches = torch.rand(3, 28, 28, 20, generator=generator, dtype=torch.float64)
    weights = [network.get_parameter(field).detach()[None] for field in FIELDS]

    def differentiate(features, parameters):
        return torch.autograd.grad((features**2).sum(), parameters)

    def prepare():
        return [weight.clone().requires_grad_() for weight in weights]

    expected = []
    for images in batches:
        parameters = prepare()
        features = TiledConvolve.apply(images, None, *parameters, {})
        expected.append(differentiate(features, parameters))

    spare = {}
    parameters = prepare()
    first, second = (
        TiledConvolve.apply(images, None, *parameters, spare) for images in batches[:2]
    )
    grads = [differentiate(second, parameters)]
    third = TiledConvolve.apply(batches[2], None, *parameters, spare)
    grads = [differentiate(first, parameters), *grads, differentiate(third, parameters)]
    for ours, reference in zip(grads, expected, strict=True):
        for grad, other in zip(ours, reference, strict=True):
            assert torch.equal(grad, other)
    assert sum(map(len, spare.values())) == 2  # used twice, and not a third


def test_a_second_backward_pass_is_refused():
    network = mnist.initial_network(0)
    weights = [network.get_parameter(field)[None] for field in FIELDS]
    total = TiledConvolve.apply(torch.rand(28, 28, 16), None, *weights, {}).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        total.backward()


def test_an_evaluation_keeps_nothing(monkeypatch):
    """Also none of the memory that waits for the next step."""
    asked = []
    take = tiles._take
    monkeypatch.setattr(
        tiles, "_take", lambda *arguments: asked.append(arguments[2]) or take(*arguments)
    )
    grid = mnist.Grid(mnist.initial_network(0), models=2)
    images = torch.rand(1, 28, 28, 20)
    grid.rewards(images, training=True).sum().backward()
    with torch.no_grad():
        grid.rewards(images)
    assert asked == [20, 0]


@pytest.mark.parametrize(("seeds", "shared"), [(1, False), (2, False), (2, True)])
def test_dropout_in_evaluation_equals_two_calls(seeds, shared):
    """Also where all seeds see the same images, each with masks of its own."""
    generator = torch.Generator().manual_seed(0)
    networks = [mnist.initial_network(seed).double() for seed in range(seeds)]
    grid = mnist.Grid(*networks, models=2)
    images = torch.rand(
        1 if shared else seeds, 28, 28, 24, generator=generator, dtype=torch.float64
    )
    masks = torch.stack([mnist.draw_masks(24, generator).double() for _ in range(seeds)])
    without, with_dropout = grid.rewards_without_and_with(images, masks)
    torch.testing.assert_close(without, grid.rewards(images), rtol=0, atol=1e-9)
    torch.testing.assert_close(with_dropout, grid.rewards(images, masks=masks), rtol=0, atol=1e-9)
    assert (without - with_dropout).abs().min() > 0


class _Masked(torch.nn.Module):
    """Dropout with masks from outside, so that the textbook network drops the grid's units."""

    def forward(self, hidden):
        return hidden * self.masks.pop(0).T if self.training else hidden


def test_grid_equals_models_trained_one_at_a_time():
    names = ["logistic", "ramp", "sigmoid"]
    steps = 20
    batch = 8
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
        rewards = grid.rewards(images[step, None], masks=masks[step][None], training=True)
        margins = labels[step] * (rewards[:, :batch] - rewards[:, batch:])
        optimiser.zero_grad()
        margin_loss(margins, names).sum().backward()
        optimiser.step()

    for index, name in enumerate(names):
        network = mnist.initial_network(0).double()
        network.dropout = _Masked()
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        for step in range(steps):
            network.dropout.masks = list(masks[step].split(DROPPED))
            rewards = network(images[step].permute(2, 0, 1)[:, None])
            margins = labels[step, index] * (rewards[:batch] - rewards[batch:])
            optimiser.zero_grad()
            losses.get(name).fn(margins).mean().backward()
            optimiser.step()
        # Biases before a batch norm have no gradient but rounding, which Adam turns into steps:
        # hence 1e-7, not less.
        for field, value in network.named_parameters():
            torch.testing.assert_close(grid.parameters[field][index], value, rtol=0, atol=1e-7)
        assert not torch.equal(network.fc3.weight, start.fc3.weight)
        network.eval()
        expected = network(images[0].permute(2, 0, 1)[:, None])
        torch.testing.assert_close(grid.rewards(images[:1])[index], expected, rtol=0, atol=1e-9)


def test_evaluation_has_no_dropout_and_clips():
    network = mnist.initial_network(0)
    grid = mnist.Grid(network, models=2)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 28, 28), generator=generator, dtype=torch.uint8)
    network.eval()
    expected = network(images[:, None] / 255).detach()
    torch.testing.assert_close(mnist.evaluate_rewards(grid, images[None])[1], expected)
    with torch.no_grad():
        grid.parameters["fc3.bias"][0] = 100.0
    assert (mnist.evaluate_rewards(grid, images[None])[0] == CLIP).all()


def write_down_the_network():
    """The paper's network, layer by layer, as its description lists them."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, kernel_size=5),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 16, kernel_size=5),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),  # 256 features
        torch.nn.Dropout(0.2),
        torch.nn.Linear(256, 64),
        torch.nn.BatchNorm1d(64),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(64, 64),
        torch.nn.BatchNorm1d(64),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(64, 1),
        torch.nn.Hardtanh(-20, 20),
    )


@pytest.mark.parametrize("training", [True, False])
def test_the_textbook_network_is_the_described_one(training):
    network = mnist.initial_network(0).train(training)
    described = write_down_the_network().train(training)
    values = list(network.state_dict().values())
    described.load_state_dict(dict(zip(described.state_dict(), values, strict=True)))
    images = torch.rand(32, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    rewards = []
    for model in (network, described):
        torch.manual_seed(5)  # of the dropouts, in the order of the layers
        rewards.append(model(images).flatten())
        rewards[-1].square().sum().backward()
    torch.testing.assert_close(*rewards)
    pairs = zip(network.parameters(), described.parameters(), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_masks_strike_a_fifth_of_every_layer_and_keep_its_mean():
    masks = mnist.draw_masks(5_000, torch.Generator().manual_seed(0))
    assert [len(layer) for layer in masks.split(DROPPED)] == [256, 64, 64]
    assert masks.unique().tolist() == [0.0, pytest.approx(1.25)]
    for layer in masks.split(DROPPED):
        assert layer.mean() == pytest.approx(1, abs=0.01)


def test_margin_loss_is_the_mean_of_each_models_own_loss():
    margins = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    means = margin_loss(margins, ["hinge", "hinge", "ramp", "sigmoid"])
    assert means[1].item() == pytest.approx(functional.relu(1 - margins[1]).mean().item())
    assert means[2].item() == pytest.approx(np.clip(0.5 - margins[2].numpy() / 2, 0, 1).mean())
    assert means[3].item() == pytest.approx((1 / (1 + np.exp(margins[3].numpy()))).mean())


def test_seeds_that_start_at_once_start_as_alone(monkeypatch):
    expected = [mnist.initial_network(seed).state_dict() for seed in (0, 1)]
    seed_all = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: (seed_all(seed), time.sleep(0.05)))
    with ThreadPoolExecutor(2) as pool:
        for network, values in zip(pool.map(mnist.initial_network, (0, 1)), expected, strict=True):
            assert all(
                torch.equal(value, values[name]) for name, value in network.state_dict().items()
            )


@pytest.mark.slow
def test_the_way_of_a_gpu_needs_no_numba():
    code = """
        import sys
        sys.modules["numba"] = None  # any import of it fails
        import torch
        from tiny_mnist import banded_digits, make_run
        from sympo.studies import mnist
        runs = [make_run(seed=seed) for seed in (0, 1)]
        chunk = mnist.Chunk.prepare(runs, banded_digits(), "cpu")
        risk, _ = chunk.train_epoch()  # several seeds together take the way of a GPU
        assert risk.isfinite().all()
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=Path(__file__).parent, check=True
    )
