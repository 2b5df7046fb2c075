"""MNIST: all models of a grid together, against one model at a time as a textbook trains it."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from sympo import losses
from sympo.book.bench import timing
from sympo.book.bench.config import BenchConfig
from sympo.book.bench.timing import Row
from sympo.studies import mnist, sources
from sympo.studies.mnist.config import MnistRun
from sympo.studies.mnist.evaluation import EVALUATION_BATCH
from sympo.studies.mnist.fast.chunks import list_chunks
from sympo.studies.mnist.study import count_workers, open_pool, train_models
from sympo.studies.profiles import study_config

GRID_TARGET = {"cpu": 6.0, "cuda": 50.0}  # the plain loop's seconds over the grid's, at least
MEMORY_TARGET = 4.0  # GiB, peak of the whole process
STUDY_TARGET = 75.0  # s on one H100: 175 models, 100 epochs, 10,000 pairs

Train = Callable[[], list[tuple[float, float]]]


# Ours, as study mnist_losses trains


def list_runs(config: BenchConfig) -> list[MnistRun]:
    """The models of the grid: one run of the study per loss and rate, for one epoch."""
    # the study's own config, so that what is timed is what is run
    study = mnist.LossesConfig(
        study="mnist_losses",
        profile=config.profile,
        losses=config.losses,
        noise_rates=config.noise_rates,
        pairs=config.pairs,
        batch=config.batch,
        seeds=1,
        validation_pairs=1,
        epochs=1,
        eval_every=1,
    )
    return study.runs()


def prepare_chunks(runs: Sequence[MnistRun], data: sources.MNIST) -> list[mnist.Chunk]:
    """The chunks in which `mnist.train_models` would train `runs`."""
    device = timing.device()
    # as many as work at a time, each as large as memory allows
    chunks = list_chunks(runs, workers=count_workers(device), device=device)
    return [mnist.Chunk.prepare(chunk, data, device) for chunk in chunks]


def train_together(pool: Executor, chunks: list[mnist.Chunk]) -> list[tuple[Tensor, Tensor]]:
    """One epoch of every chunk."""
    return list(pool.map(mnist.Chunk.train_epoch, chunks))


# Plain, as a textbook would write it


def prepare_plain(run: MnistRun, data: sources.MNIST) -> Train:
    """One model of `run` with its loader, ready to train: each call is an epoch."""
    pairs = mnist.draw_pairs(
        data.train_labels, run.pairs, seed=run.seed, class_prior=run.class_prior
    )
    labels = mnist.noisy_labels(pairs, run, data.train_images.mean((1, 2)))
    # converted once, before the clock starts
    first = to_floats(data.train_images[pairs.first])
    second = to_floats(data.train_images[pairs.second])
    dataset = TensorDataset(first, second, torch.from_numpy(labels).float())
    loader = DataLoader(dataset, batch_size=run.batch, shuffle=True)
    network = mnist.initial_network(run.seed).to(timing.device())
    optimiser = torch.optim.Adam(network.parameters(), lr=run.learning_rate)
    return partial(train_plainly, network, optimiser, loader, losses.get(run.method))


def to_floats(images: NDArray[np.uint8]) -> Tensor:
    """`(images, 1, 28, 28)` in [0, 1] of `(images, 28, 28)`."""
    return torch.from_numpy(images)[:, None] / 255


def train_plainly(
    network: mnist.Network, optimiser: torch.optim.Optimizer, loader: DataLoader, loss: losses.Loss
) -> list[tuple[float, float]]:
    """One epoch of one model, with PyTorch's defaults.

    So on recent GPUs its convolutions are in TF32; the grid is in float32 everywhere.

    Returns:
        the loss and the accuracy on the noisy labels, of every step.
    """
    device = timing.device()
    metrics = []
    network.train()
    for batch in loader:
        first, second, labels = (tensor.to(device) for tensor in batch)
        # in one pass, as the grid: a batch norm sees both images
        rewards = network(torch.cat([first, second]))
        margins = labels * (rewards[: len(first)] - rewards[len(first) :])
        value = loss.fn(margins).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        # as most loops log: on a GPU each step waits for its numbers
        metrics.append((value.item(), (margins > 0).float().mean().item()))
    return metrics


@torch.no_grad()
def evaluate_plainly(network: mnist.Network, images: Tensor) -> Tensor:
    """Rewards `(images,)` of `images` `(images, 1, 28, 28)`, with dropout off."""
    # running means and no dropout
    network.eval()
    batch = EVALUATION_BATCH[timing.device()]
    return torch.cat([network(part) for part in images.split(batch)])


# Parts


def bench_grid(config: BenchConfig) -> list[Row]:
    """Training: all models of the grid together, against one model at a time."""
    runs = list_runs(config)
    data = sources.mnist()
    chunks = prepare_chunks(runs, data)
    # a few stand for all: each costs the loop the same
    plain = [prepare_plain(run, data) for run in runs[: config.plain_models]]
    with open_pool(timing.device()) as pool:
        row = timing.compare(
            f"MNIST training, per model and epoch, {len(runs)} models",
            partial(train_together, pool, chunks),
            lambda: [train() for train in plain],
            shares=(len(runs), len(plain)),
            repeats=config.repeats,
            target=("≥", GRID_TARGET[timing.device()]),
            warm_ups=timing.WARM_UPS,
        )
    return [row]


def bench_evaluation(config: BenchConfig) -> list[Row]:
    """The rewards of the test images: all models of the grid together, against one at a time."""
    runs = list_runs(config)
    data = sources.mnist()
    device = timing.device()
    grids = [chunk.grid for chunk in prepare_chunks(runs, data)]
    # uint8 for ours, which converts as it loads; floats for the textbook
    shown = data.test_images[: config.test_images]
    images = torch.from_numpy(shown).to(device)
    network = mnist.initial_network(0).to(device)
    with open_pool(device) as pool:
        row = timing.compare(
            f"MNIST evaluation, per model, {len(images)} images",
            partial(_evaluate_together, pool, grids, images),
            partial(evaluate_plainly, network, to_floats(shown).to(device)),
            shares=(len(runs), 1),
            repeats=config.repeats,
        )
    return [row]


def _evaluate_together(pool: Executor, grids: list[mnist.Grid], images: Tensor) -> list[Tensor]:
    return list(pool.map(lambda grid: mnist.evaluate_rewards(grid, images[None]), grids))


def bench_memory(config: BenchConfig) -> list[Row]:
    """The peak memory of a process that trains and evaluates the grid once; on a processor."""
    if timing.device() == "cuda":
        return []
    runs = list_runs(config)
    # in a process of its own, before which nothing was allocated
    peak = timing.measure_peak(_train_once, runs, torch.get_num_threads()) / 2**30
    what = f"MNIST training and evaluation, peak memory, {len(runs)} models"
    return [Row(what, "GiB", [peak], (), [peak], "GiB", ("≤", MEMORY_TARGET))]


def _train_once(runs: list[MnistRun], threads: int) -> None:
    torch.set_num_threads(threads)
    list(train_models(runs, device=timing.device()))


def bench_study(config: BenchConfig) -> list[Row]:
    """The profile's whole study mnist_losses, evaluation included; only on a GPU.

    Elsewhere it takes too long.
    """
    if timing.device() == "cpu":
        return []
    study = study_config("mnist_losses", config.profile)
    # for the type checker: the profile's section decides the class
    assert isinstance(study, mnist.LossesConfig)
    runs = study.runs()
    # as `run_study` trains it, but without records: nothing is loaded
    whole = partial(_train_once, runs, torch.get_num_threads())
    # it takes minutes, and what it pays once is part of it
    (seconds,) = timing.time_in_turn([whole], repeats=config.repeats, warm_ups=0)
    sizes = f"{len(runs)} models, {study.epochs} epochs, {study.pairs} pairs"
    return [
        Row(f"study mnist_losses, {sizes}", "s", seconds, (), seconds, "s", ("≤", STUDY_TARGET))
    ]
