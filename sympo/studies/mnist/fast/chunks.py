"""Models that train together: which ones do, what they share, and their training steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, Self, TypeVar
from weakref import WeakMethod

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from sympo.studies import graphs, memory, sources
from sympo.studies.mnist.config import Knobs, MnistRun
from sympo.studies.mnist.data import Pairs, noisy_labels, split_pairs
from sympo.studies.mnist.evaluation import (
    EVALUATION_BATCH,
    EvaluationData,
    HeldOutData,
    evaluate_rewards,
    most_beside,
    reward_accuracy,
)
from sympo.studies.mnist.fast.grid import Grid, load_batch, margin_loss
from sympo.studies.mnist.network import draw_masks, initial_network
from sympo.studies.mnist.patterns import PatternRun, pattern_labels

# Numbers kept for the backward pass, per image and model: both convolutions and the rest. Tiles
# keep little, a GPU every product.
FLOATS = {"cpu": 3_000, "cuda": 16_000}
# Ours: bytes, on a processor, where other programs want some of the memory that is free now.
MOST_MEMORY = 3 * 2**30

AnyMnistRun = TypeVar("AnyMnistRun", bound=MnistRun)


def list_chunks(
    runs: Sequence[AnyMnistRun], *, workers: int, device: str
) -> list[list[AnyMnistRun]]:
    """`runs` in lists that train together and fit in memory.

    A list holds runs of one seed, of which every worker gets an equal share. On a GPU a list holds
    as many seeds as fit, if their models have the same losses. Half of the free memory is used, and
    on a processor at most half of `MOST_MEMORY`; and no tensor of a training step has
    more numbers than CUDA counts.
    """
    # The largest forward pass: both images of a batch's pairs, or the images of an evaluation.
    images = max(2 * runs[0].batch, EVALUATION_BATCH[device])
    bytes_per_model = 4 * FLOATS[device] * images
    in_memory = _free_memory(device) // 2 // bytes_per_model // workers
    # An evaluation is cut by the number of models, a training batch is not.
    fits = max(1, min(in_memory, most_beside(2 * runs[0].batch)))

    chunks: list[list[AnyMnistRun]] = []
    # Sorted by loss within a seed: models with one loss are then computed by one call.
    in_order = sorted(runs, key=attrgetter("seed", "method"))
    for _, group in groupby(in_order, key=attrgetter("seed")):
        together = list(group)
        share = math.ceil(len(together) / workers)
        chunks.extend(_cut(together, min(fits, share)))
    return chunks if device == "cpu" else _join_seeds(chunks, fits)


def _cut(values: list[Any], size: int) -> list[list[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _free_memory(device: str) -> int:
    """Bytes that a study may count on."""
    if device == "cpu":
        return min(psutil.virtual_memory().available, MOST_MEMORY)
    return memory.free_on_gpu()


def _join_seeds(chunks: list[list[AnyMnistRun]], fits: int) -> list[list[AnyMnistRun]]:
    """Chunks with the same losses, joined while at most `fits` models come together."""
    # A chunk has one list of losses and knobs for all its seeds, so they must be the same.
    joined: list[list[AnyMnistRun]] = []
    for shared, group in groupby(sorted(chunks, key=_list_shared), key=_list_shared):
        seeds = max(1, fits // len(shared))
        joined.extend(list(chain(*together)) for together in _cut(list(group), seeds))
    return joined


def _list_shared(runs: Sequence[MnistRun]) -> list[tuple[str, Knobs]]:
    return [(run.method, run.knobs()) for run in runs]


@dataclass(frozen=True)
class Chunk:
    """Models that train together: the same losses for each of one or several seeds.

    Attributes:
        grid: the models, seed after seed.
        optimiser: of all their parameters; Adam, which treats every number by itself.
        names: the losses of a seed's models.
        temperatures: `(models, 1)`, by which their margins are divided; None where all are 1.
        warm_epochs: `(models,)`, how many epochs each goes on with the logistic loss in place of
            its own; None where none does.
        images: `(seeds, 2·pairs, 28, 28)`: the first image of every pair, then the second of every
            pair.
        labels: `(seeds, models, pairs)`, ±1, with noise.
        flipped: `(seeds·models, pairs)`, which of them are wrong.
        risk: `(seeds, models)`, the mean loss so far in this epoch.
        fitted: `(seeds, models, pairs)`, which labels the models agreed with in this epoch.
        test: what the models are evaluated on.
        held_out: pairs with noisy labels that are not trained on.
        batch: pairs per step.
        generators: of a seed's order of pairs and dropout masks, drawn on the generator's device.
    """

    grid: Grid
    optimiser: torch.optim.Optimizer
    names: list[str]
    temperatures: Tensor | None
    warm_epochs: Tensor | None
    images: Tensor
    labels: Tensor
    flipped: NDArray[np.bool_]
    risk: Tensor
    fitted: Tensor
    test: EvaluationData
    held_out: HeldOutData
    batch: int
    generators: list[torch.Generator]

    @classmethod
    def prepare(cls, runs: Sequence[MnistRun], data: sources.MNIST, device: str) -> Self:
        """The models of `runs`, a list of `list_chunks`, before the first epoch."""
        # A chunk's runs differ in loss, noise and seed alone.
        first = runs[0]
        groups = [list(group) for _, group in groupby(runs, key=attrgetter("seed"))]
        seeds = [group[0].seed for group in groups]
        splits = [split_pairs(data.train_labels, group[0]) for group in groups]
        pairs = [training for training, _ in splits]
        # NumPy draws on the processor whatever the device, so a GPU sees the same pairs and flips.
        noisy = _noisy_labels(pairs, groups, data)
        flipped = noisy != np.stack([each.labels for each in pairs])[:, None]
        labels = torch.from_numpy(noisy).to(device, torch.get_default_dtype())

        knobs = [run.knobs() for run in groups[0]]
        networks = [initial_network(seed).to(device) for seed in seeds]
        clip = _join_clips(knobs, len(seeds), labels)
        grid = Grid(*networks, models=len(knobs), clip=clip)
        return cls(
            grid=grid,
            optimiser=_optimiser(grid, first.learning_rate, device),
            names=[run.method for run in groups[0]],
            **_join_knobs(knobs, labels),
            images=torch.from_numpy(_stack_images(pairs, data)).to(device),
            labels=labels,
            flipped=flipped.reshape(len(runs), -1),
            risk=torch.zeros_like(labels[..., 0]),
            fitted=torch.zeros_like(labels, dtype=torch.bool),
            test=EvaluationData.prepare(data, device),
            held_out=_prepare_held_out([held_out for _, held_out in splits], groups, data, device),
            batch=first.batch,
            generators=[torch.Generator(device).manual_seed(seed) for seed in seeds],
        )

    def train_epoch(self) -> tuple[Tensor, Tensor]:
        """One pass over the pairs.

        Nothing in it waits for a GPU, which runs each step as one CUDA graph.

        Returns:
            the mean loss `(seeds·models,)`, and which labels were fitted `(seeds·models, pairs)`,
            both as the batches pass, with dropout on.
        """
        count = self.labels.shape[2]
        device = self.images.device
        step = self.replay if self.images.is_cuda else self.train_batch
        # In place: a recorded graph adds to this very memory.
        self.risk.zero_()
        orders = [
            torch.randperm(count, generator=generator, device=generator.device)
            for generator in self.generators
        ]
        for rows in torch.stack(orders).to(device).split(self.batch, 1):
            masks = [draw_masks(2 * rows.shape[1], generator) for generator in self.generators]
            step(rows, torch.stack(masks).to(device))
        if self.warm_epochs is not None:
            # In place, since a recorded graph reads this very memory.
            self.warm_epochs.sub_(1)
        # Copies: the next epoch writes into the same memory.
        return self.risk.flatten().clone(), self.fitted.flatten(0, 1).clone()

    @cached_property
    def replay(self) -> graphs.Replay:
        """`train_batch` as CUDA graphs."""
        # A bound method would make a cycle, which keeps the chunk, and the memory of its graphs,
        # until some collection.
        step = WeakMethod(self.train_batch)

        def train_batch(rows: Tensor, masks: Tensor) -> None:
            method = step()
            assert method is not None  # the chunk is what calls
            method(rows, masks)

        return graphs.Replay(train_batch)

    def train_batch(self, rows: Tensor, masks: Tensor) -> None:
        """One step on the pairs `rows`; no tensor's value decides what is done (see `graphs`).

        Args:
            rows: `(seeds, pairs)`.
            masks: of dropout, `(seeds, 384, 2·pairs)`.
        """
        _, models, count = self.labels.shape
        size = rows.shape[1]
        # Both images of a pair go through the batch norms together, so that they are normalised
        # alike and their difference means something.
        images = load_batch(self.images, torch.cat([rows, rows + count], 1))
        rewards = self.grid.rewards(images, masks=masks, training=True)
        rewards = rewards.view(*self.risk.shape, -1)

        # A seed's models share the order of pairs, not the labels.
        places = rows[:, None].expand(-1, models, -1)
        margins = self.labels.gather(2, places) * (rewards[..., :size] - rewards[..., size:])
        means = self.average_loss(margins)
        if self.warm_epochs is not None:
            stand_in = self.average_loss(margins, ["logistic"] * models)
            means = torch.where(self.warm_epochs > 0, stand_in, means)
        # Models share no parameter, so the gradient of the sum is each model's own.
        means.sum().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()

        # A smaller last batch counts by its size, so that the sum over batches is a mean.
        self.risk.add_(means.detach() * (size / count))
        self.fitted.scatter_(2, places, margins.detach() > 0)

    def average_loss(self, margins: Tensor, names: Sequence[str] | None = None) -> Tensor:
        """The mean of ℓ(z/T) of each model, `(seeds, models)`.

        Args:
            margins: `(seeds, models, pairs)`.
            names: of losses in place of the models' own.
        """
        tempered = margins if self.temperatures is None else margins / self.temperatures
        return margin_loss(tempered, names or self.names)

    def evaluate(self) -> Tensor:
        """Rewards `(seeds·models, images)` of the test images."""
        return evaluate_rewards(self.grid, self.test.images[None])

    def score(self, rewards: Tensor) -> list[dict[str, float]]:
        """Each model's metrics: of the test images from `evaluate`, and of the held-out pairs."""
        accuracy, ties = reward_accuracy(rewards, self.test.digits)
        margins = rewards[:, self.test.better] - rewards[:, self.test.worse]
        by_seed = margins.unflatten(0, (-1, len(self.names)))
        risk = self.average_loss(by_seed).flatten()
        columns = {
            "accuracy": accuracy.tolist(),
            "ties": ties.tolist(),
            "test_risk": risk.tolist(),
            **self.held_out.measure(self.grid),
        }
        return [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]


def _stack_images(pairs: list[Pairs], data: sources.MNIST) -> NDArray[np.uint8]:
    """`(seeds, 2·pairs, 28, 28)`, as `Chunk.images` has them."""
    # Bytes, in the order of pairs: a quarter of the memory that floats take.
    rows = [np.concatenate([each.first, each.second]) for each in pairs]
    return np.stack([data.train_images[indices] for indices in rows])


def _noisy_labels(
    pairs: list[Pairs], groups: list[list[MnistRun]], data: sources.MNIST
) -> NDArray[np.int64]:
    """`(seeds, models, pairs)`: the labels of each seed's pairs under each run's noise."""
    ink = data.train_images.mean((1, 2))
    return np.stack(
        [
            [_label(each, run, data, ink) for run in group]
            for each, group in zip(pairs, groups, strict=True)
        ]
    )


def _label(pairs: Pairs, run: MnistRun, data: sources.MNIST, ink: NDArray) -> NDArray[np.int64]:
    if isinstance(run, PatternRun):
        return pattern_labels(pairs, run, data.train_labels, ink)
    return noisy_labels(pairs, run, ink)


def _prepare_held_out(
    pairs: list[Pairs], groups: list[list[MnistRun]], data: sources.MNIST, device: str
) -> HeldOutData:
    digits = data.train_labels.astype(np.int64)
    order = [np.sign(digits[each.first] - digits[each.second]) for each in pairs]
    count = 2 * len(pairs[0].labels)
    masks = [
        # Far from the seeds of training, whose stream these would otherwise repeat. PyTorch keeps
        # 32 bits of a seed.
        draw_masks(count, torch.Generator().manual_seed(2**31 + group[0].seed))
        for group in groups
    ]
    number = torch.get_default_dtype()
    return HeldOutData(
        images=torch.from_numpy(_stack_images(pairs, data)).to(device),
        noisy=torch.from_numpy(_noisy_labels(pairs, groups, data)).to(device, number),
        clean=torch.from_numpy(np.stack([each.labels for each in pairs])[:, None]).to(
            device, number
        ),
        order=torch.from_numpy(np.stack(order)[:, None]).to(device, number),
        masks=torch.stack(masks).to(device, number),
    )


def _join_clips(knobs: Sequence[Knobs], seeds: int, like: Tensor) -> float | Tensor:
    """The bounds as `Grid` takes them: a number where all models share it."""
    clips = [each.clip for each in knobs]
    if len({*clips}) == 1:
        return clips[0]
    return like.new_tensor(clips).repeat(seeds)[:, None]


def _join_knobs(knobs: Sequence[Knobs], like: Tensor) -> dict[str, Tensor | None]:
    """The knobs of a seed's models as fields of `Chunk`; None where none of them is turned."""
    temperatures = [each.temperature for each in knobs]
    warm_epochs = [each.warm_epochs for each in knobs]
    turned = any(temperature != 1 for temperature in temperatures)
    return {
        "temperatures": like.new_tensor(temperatures)[:, None] if turned else None,
        "warm_epochs": like.new_tensor(warm_epochs) if any(warm_epochs) else None,
    }


def _optimiser(grid: Grid, learning_rate: float, device: str) -> torch.optim.Adam:
    parameters = grid.parameters.values()
    if device == "cpu":
        return torch.optim.Adam(parameters, lr=learning_rate)
    # Capturable: the count of steps is a tensor, which a recorded graph can raise.
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True, capturable=True)
