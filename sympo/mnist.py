"""MNIST preferences: pairs of digit images, the paper's network, and a trainer that advances many models at once.

The reward of an image is its digit. All models of one seed see the same pairs, batches, dropout masks and initial
weights and differ in loss and label noise alone, so they share every image patch and train together.
"""

import math
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Annotated

import numpy as np
import pandas as pd
import psutil
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from sympo import assets, losses, noise, stats, store
from sympo.config import StudyConfig, build_folder

CLIP = 20.0  # bound on the reward; the authors' released code
DROPOUT = 0.2  # the authors' released code
CONDITIONS = ("asymmetric", "equivalent", "tied")  # the three noise models of study mnist_noise
CPU_TILE = (1, 128)  # ours: models and images whose convolutions stay in a processor's caches
EVALUATION_BATCH = 2048  # ours: images per forward pass
SAMPLE = 1000  # ours: test images whose rewards a record keeps, to compare rankings

Rate = Annotated[float, Field(ge=0, lt=0.5)]
RatePair = Annotated[tuple[float, float], Field(strict=False)]  # YAML has lists only
Count = Annotated[int, Field(ge=1)]


class TrainingConfig(StudyConfig):
    """What both MNIST studies share. Source: the authors' released code, where not marked ours."""

    losses: list[str]
    seeds: Count  # runs use the seeds 0 … seeds − 1
    epochs: Count
    eval_every: Count  # ours: epochs between evaluations; the last epoch is always evaluated
    pairs: Annotated[int, Field(ge=2, le=25_000)]  # training pairs; no image is used twice
    batch: Annotated[int, Field(ge=2)] = 512  # pairs per step
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3  # Adam
    class_prior: Annotated[float, Field(ge=0, le=1)] = 0.5  # share of pairs written with the winner first

    @field_validator("losses")
    @classmethod
    def _known_losses(cls, names: list[str]) -> list[str]:
        for name in names:
            losses.get(name)
        return names


class LossesConfig(TrainingConfig):
    """Study mnist_losses: reward accuracy against the rate of symmetric noise, per loss."""

    noise_rates: list[Rate]
    headline_seeds: Count  # ours: seeds at the highest rate, where the contrasts are read

    @model_validator(mode="after")
    def _headline(self):
        if self.headline_seeds < self.seeds:
            raise ValueError(f"headline_seeds = {self.headline_seeds} is below seeds = {self.seeds}: raise it")
        return self

    def runs(self) -> list[dict]:
        """One dict per model to train."""
        return [
            _run(self, loss, f"symmetric-{rate:g}", seed, rate, rate)
            for rate in self.noise_rates
            for seed in range(self.headline_seeds if rate == max(self.noise_rates) else self.seeds)
            for loss in self.losses
        ]


class NoiseConfig(TrainingConfig):
    """Study mnist_noise: asymmetric noise, its symmetric equivalent, and noise tied to the written order."""

    noise_pairs: list[RatePair]  # (rate_pos, rate_neg)
    first_rate: Annotated[float, Field(ge=0, le=1)]  # ours: how often the image with more ink is written first

    @field_validator("noise_pairs")
    @classmethod
    def _learnable(cls, pairs: list[RatePair]) -> list[RatePair]:
        for rate_pos, rate_neg in pairs:
            noise.check_rates(rate_pos, rate_neg)
        return pairs

    def runs(self) -> list[dict]:
        """One dict per model to train; `condition` says which of the three noise models it sees."""
        runs = []
        for rate_pos, rate_neg in self.noise_pairs:
            rate = noise.equivalent_rate(rate_pos, rate_neg, self.class_prior)
            pair = f"{rate_pos:g}-{rate_neg:g}"
            for seed in range(self.seeds):
                for loss in self.losses:
                    for condition in CONDITIONS:
                        rates = (rate, rate) if condition == "equivalent" else (rate_pos, rate_neg)
                        run = _run(self, loss, f"{condition}-{pair}", seed, *rates)
                        first_rate = self.first_rate if condition == "tied" else None
                        runs.append({**run, "condition": condition, "noise_pair": pair, "first_rate": first_rate})
        return runs


def _run(config: TrainingConfig, loss: str, name: str, seed: int, rate_pos: float, rate_neg: float) -> dict:
    shared = ("study", "epochs", "eval_every", "pairs", "batch", "learning_rate", "class_prior")
    values = {field: getattr(config, field) for field in shared}
    return {"method": loss, "noise": name, "seed": seed, "rate_pos": rate_pos, "rate_neg": rate_neg, **values}


# ---------------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Pairs:
    """Preference pairs over images.

    Attributes:
        first, second: `(pairs,)` indices of the images a₁ and a₂.
        labels: `(pairs,)`, +1 where a₁ is preferred, −1 where a₂ is.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    labels: NDArray[np.int64]


def draw_pairs(digits: NDArray, count: int, *, seed: int, class_prior: float = 0.5) -> Pairs:
    """Pairs of images with different digits, no image twice, labelled by Bradley–Terry on the digits.

    The preferred image is written first with probability `class_prior`, whatever the pair.

    Args:
        digits: `(images,)`.
    Raises:
        ValueError: fewer than `count` pairs can be drawn.
    Source: the authors' released code. Check: tests/test_mnist.py.
    """
    generator = np.random.default_rng([seed, 0])
    shuffled = generator.permutation(len(digits) // 2 * 2).reshape(-1, 2)
    left, right = shuffled[digits[shuffled[:, 0]] != digits[shuffled[:, 1]]][:count].T
    if len(left) < count:
        raise ValueError(f"pairs = {count} is more than the {len(left)} pairs these images give: lower it")
    difference = digits[left].astype(float) - digits[right]
    left_wins = generator.random(count) < 1 / (1 + np.exp(-difference))
    winner, loser = np.where(left_wins, left, right), np.where(left_wins, right, left)
    winner_first = generator.random(count) < class_prior
    first, second = np.where(winner_first, winner, loser), np.where(winner_first, loser, winner)
    return Pairs(first, second, np.where(winner_first, 1, -1))


def noisy_labels(pairs: Pairs, run: dict, ink: NDArray) -> NDArray:
    """The labels of `pairs` under the noise of `run`; flips nest over rates, keyed by the two images and the seed.

    Args:
        ink: `(images,)`, mean brightness; where `run` ties the written order to the pair, more ink tends to come first.
    """
    generator = noise.RowGenerator(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), run["seed"])
    if run.get("first_rate") is None:
        return noise.flip(pairs.labels, run["rate_pos"], run["rate_neg"], generator)
    longer = np.where(ink[pairs.first] >= ink[pairs.second], 1, -1)
    rates = {"first_rate": run["first_rate"]}
    return noise.flip_tied(pairs.labels, longer, run["rate_pos"], run["rate_neg"], generator, **rates)


# ------------------------------------------------------------------------------------------------------- network


class Network(nn.Module):
    """The reward network of the paper for one model, as a textbook writes it.

    `Grid` trains many of these at once; tests and benchmarks compare it with this one.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(256, 64)
        self.norm1 = nn.BatchNorm1d(64)
        self.fc2 = nn.Linear(64, 64)
        self.norm2 = nn.BatchNorm1d(64)
        self.fc3 = nn.Linear(64, 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, images: Tensor) -> Tensor:
        """Rewards `(images,)` of `images` `(images, 1, 28, 28)` in [0, 1]."""
        hidden = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        hidden = functional.max_pool2d(functional.relu(self.conv2(hidden)), 2).flatten(1)
        hidden = self.dropout(functional.relu(self.norm1(self.fc1(hidden))))
        hidden = self.dropout(functional.relu(self.norm2(self.fc2(hidden))))
        return self.fc3(hidden).squeeze(1).clamp(-CLIP, CLIP)


# A 5×5 convolution followed by 2×2 pooling reads 6×6 patches: its four shifts inside a window are four rows of one
# matrix, and the pool is a maximum over them. Images are the last axis of every tensor, so that shifts, pools and
# norms run over contiguous memory.


def _extract_patches(images: Tensor) -> Tensor:
    """`(28, 28, images)` → `(36, 144·images)`: the 6×6 patch of each pooled position.

    A position (2·by + sy, 2·bx + sx) is stored as (sy, sx, by, bx), which makes the pooled map, read as
    (channel·sy·sx, by, bx), the input of a 3×3 window in the next layer.
    """
    rows, columns, count = images.stride()
    shape = (6, 6, 2, 2, 6, 6, images.shape[2])
    strides = (rows, columns, 2 * rows, 2 * columns, 4 * rows, 4 * columns, count)
    return images.as_strided(shape, strides, images.storage_offset()).reshape(36, -1)


def _activate(pooled: Tensor, bias: Tensor) -> Tensor:
    """ReLU(pooled + bias), from `(models, channels, positions)` and `(models, channels)`."""
    return (pooled + bias[:, :, None]).clamp_(min=0)


def _extract_columns(maps: Tensor) -> Tensor:
    """First maps `(models, 6, 144·images)` → `(models, 216, 16·images)`: the 3×3 windows of the second layer."""
    maps = maps.view(len(maps), 24, 6, 6, -1)
    model, channel, row, column, image = maps.stride()
    shape = (len(maps), 3, 3, 24, 4, 4, maps.shape[4])
    strided = maps.as_strided(shape, (model, row, column, channel, row, column, image), maps.storage_offset())
    return strided.reshape(len(maps), 216, -1)


def _fold_columns(columns: Tensor, shape: torch.Size) -> Tensor:
    """The adjoint of `_extract_columns`: to maps of `shape`."""
    windows = columns.view(len(columns), 3, 3, 24, 4, 4, -1)
    maps = columns.new_zeros(len(columns), 24, 6, 6, windows.shape[6])
    for row in range(3):
        for column in range(3):
            maps[:, :, row : row + 4, column : column + 4] += windows[:, row, column]
    return maps.view(shape)


def _expand_first(weight: Tensor) -> Tensor:
    """Kernels `(models, 6, 1, 5, 5)` → `(models, 24, 36)`: each at its four shifts inside a 6×6 patch."""
    shifts = [functional.pad(weight, (dx, 1 - dx, dy, 1 - dy)) for dy in (0, 1) for dx in (0, 1)]
    return torch.stack(shifts, 1).flatten(3).flatten(1, 2)


def _expand_second(weight: Tensor) -> Tensor:
    """Kernels `(models, 16, 6, 5, 5)` → `(models, 64, 216)`, in the order of `_extract_columns`."""
    shifts = [functional.pad(weight, (dx, 1 - dx, dy, 1 - dy)) for dy in (0, 1) for dx in (0, 1)]
    blocks = torch.stack(shifts, 1).unflatten(5, (3, 2)).unflatten(4, (3, 2))  # models, shift, out, in, by, sy, bx, sx
    return blocks.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(len(weight), 64, 216)


def _route(grad: Tensor, values: Tensor) -> Tensor:
    """The gradient of a maximum over the four shifts; shifts that tie share it. Overwrites `values`.

    Args:
        grad: `(models, channels, positions)`.
        values: `(models, 4, channels, positions)`.
    Returns:
        `(models, 4·channels, positions)`.
    """
    winners = values.eq_(values.amax(1, keepdim=True))  # in place, in float: a boolean mask would cost a slower pass
    return winners.mul_((grad / winners.sum(1))[:, None]).flatten(1, 2)


class _Features(torch.autograd.Function):
    """Both convolutions with their pools and ReLUs, tile by tile: some images, and some models, at a time.

    Written by hand because autograd would run each layer over all images and keep its unpooled maps, 14 MB a model at
    512 pairs, and every pass would wait for memory. A tile stays in a processor's caches; the backward pass keeps the
    pooled first and the unpooled second layer, and computes the rest again.
    """

    @staticmethod
    def forward(ctx, images, weight1, bias1, weight2, bias2, tile):
        features = images.new_empty(len(weight1), 256, images.shape[2])
        kept = []
        for models, span, patches in _list_tiles(images, len(weight1), tile):
            pooled1 = (weight1[models] @ patches).unflatten(1, (4, 6)).amax(1)
            columns = _extract_columns(_activate(pooled1, bias1[models]))
            values2 = (weight2[models] @ columns).unflatten(1, (4, 16))
            features[models, :, span] = _activate(values2.amax(1), bias2[models]).view(len(values2), 256, -1)
            kept += (pooled1, values2)
        ctx.tile = tile
        ctx.save_for_backward(images, weight1, bias1, weight2, features, *kept)
        return features

    @staticmethod
    def backward(ctx, grad):
        images, weight1, bias1, weight2, features, *kept = ctx.saved_tensors
        grads = [torch.zeros_like(weight) for weight in (weight1, bias1, weight2)]
        grad = grad * features.sign()  # ReLU: features are never negative
        pairs = zip(kept[::2], kept[1::2], strict=True)
        for models, span, patches in _list_tiles(images, len(weight1), ctx.tile):
            pooled1, values2 = next(pairs)
            maps = _activate(pooled1, bias1[models])
            grad2 = grad[models, :, span].reshape(len(values2), 16, -1)
            routed2 = _route(grad2, values2.clone())
            grad1 = _fold_columns(weight2[models].mT @ routed2, maps.shape).mul_(maps.sign())
            routed1 = _route(grad1, (weight1[models] @ patches).unflatten(1, (4, 6)))
            parts = (routed1 @ patches.T, grad1.sum(2), routed2 @ _extract_columns(maps).mT)
            for total, part in zip(grads, parts, strict=True):
                total[models] += part
        return None, *grads, grad.unflatten(1, (16, 16)).sum((2, 3)), None


def _list_tiles(images: Tensor, models: int, tile: tuple[int, int]) -> Iterator[tuple[slice, slice, Tensor]]:
    """Slices of models and of images, at most `tile`, and the images' patches, which all models use in turn."""
    for start in range(0, images.shape[2], tile[1]):
        span = slice(start, start + tile[1])
        patches = _extract_patches(images[:, :, span])
        for model in range(0, models, tile[0]):
            yield slice(model, model + tile[0]), span, patches


class Grid:
    """Many `Network`s with stacked parameters, which see the same images.

    Args:
        network: gives every model its initial weights, and the dtype and device.
        models: how many.
        tile: how many models, and how many images, the convolutions take at a time; a GPU takes all at once.
    Attributes:
        parameters: name in `Network` → `(models, …)`.
        statistics: running mean and variance of the batch norms, `(models·64,)` each.
    """

    def __init__(self, network: Network, models: int, *, tile: tuple[int, int] = CPU_TILE):
        self.models, self.tile = models, tile
        stacked = {name: value.detach().repeat(models, *[1] * value.ndim) for name, value in network.named_parameters()}
        self.parameters = {name: value.requires_grad_() for name, value in stacked.items()}
        self.statistics = {
            name: value.repeat(models) for name, value in network.named_buffers() if name.endswith(("mean", "var"))
        }

    def rewards(self, images: Tensor, *, masks: Tensor | None = None) -> Tensor:
        """Rewards `(models, images)` of `images` `(28, 28, images)` in [0, 1].

        Args:
            masks: dropout masks `(2, 64, images)` of `draw_masks`: training. None: evaluation,
                with the running statistics of the batch norms.
        """
        p = self.parameters
        weights = (
            _expand_first(p["conv1.weight"]),
            p["conv1.bias"],
            _expand_second(p["conv2.weight"]),
            p["conv2.bias"],
        )
        hidden = _Features.apply(images, *weights, self.tile)
        for layer in (1, 2):
            hidden = torch.baddbmm(p[f"fc{layer}.bias"][:, :, None], p[f"fc{layer}.weight"], hidden)
            hidden = functional.relu(self._normalise(hidden, f"norm{layer}", training=masks is not None))
            hidden = hidden if masks is None else hidden * masks[layer - 1]
        return torch.baddbmm(p["fc3.bias"][:, :, None], p["fc3.weight"], hidden).squeeze(1).clamp(-CLIP, CLIP)

    def _normalise(self, hidden: Tensor, name: str, *, training: bool) -> Tensor:
        mean, var = self.statistics[f"{name}.running_mean"], self.statistics[f"{name}.running_var"]
        weight, bias = self.parameters[f"{name}.weight"].flatten(), self.parameters[f"{name}.bias"].flatten()
        flat = hidden.reshape(1, len(mean), -1)  # models·units as channels, images as their length
        return functional.batch_norm(flat, mean, var, weight, bias, training=training).view_as(hidden)


# ------------------------------------------------------------------------------------------------------ training


def initial_network(seed: int) -> Network:
    """The network every model of `seed` starts from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network()


def load_batch(images: Tensor, rows: Tensor) -> Tensor:
    """Images `(images, 28, 28)`, uint8, at `rows` → `(28, 28, rows)` in [0, 1]."""
    return images[rows].flatten(1).T.contiguous().float().div_(255).view(28, 28, -1)


def margin_loss(margins: Tensor, names: list[str]) -> Tensor:
    """Mean loss of each model `(models,)`, from margins `(models, pairs)` and the name of each model's loss."""
    means, start = [], 0
    for name, group in groupby(names):
        stop = start + len(list(group))
        means.append(losses.get(name).fn(margins[start:stop]).mean(1))
        start = stop
    return torch.cat(means)


@dataclass(frozen=True)
class _SeedData:
    """What all models of one seed share, on the device they train on."""

    pairs: Pairs
    images: Tensor  # (2·pairs, 28, 28): the first image of every pair, then the second of every pair
    test_images: Tensor
    test_digits: Tensor
    test_pairs: Tensor  # (2, 10000 // 3): indices of (better, worse) test images, for the clean test risk
    ink: NDArray

    @classmethod
    def prepare(cls, run: dict, data: assets.MNIST, device: str) -> "_SeedData":
        pairs = draw_pairs(data.train_labels, run["pairs"], seed=run["seed"], class_prior=run["class_prior"])
        images = data.train_images[np.concatenate([pairs.first, pairs.second])]
        test = draw_pairs(data.test_labels, len(data.test_labels) // 3, seed=0)  # the same for every seed
        first_better = data.test_labels[test.first] > data.test_labels[test.second]
        test_pairs = np.where(first_better, (test.first, test.second), (test.second, test.first))
        arrays = (images, data.test_images, data.test_labels.astype(np.int64), test_pairs)
        return cls(pairs, *(torch.from_numpy(array).to(device) for array in arrays), data.train_images.mean((1, 2)))


def train_models(runs: list[dict], *, device: str) -> Iterator[tuple[dict, dict]]:
    """Train the models of `runs`, and yield each run with its metrics and history.

    The models of one seed train together, in chunks that fit in memory; every chunk sees the same batches and masks.
    On a processor the chunks train in one thread per core, each of which computes alone: threads that share every small
    operation wait for one another, and on a busy machine for long.
    """
    workers = torch.get_num_threads() if device == "cpu" else 1
    chunks, data = list_chunks(runs, workers=workers, device=device), assets.mnist()
    stop = threading.Event()
    bar = store.progress(sum(len(chunk) * chunk[0]["epochs"] for chunk in chunks), "epochs of all models")
    threads = 1 if device == "cpu" else torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))
    with bar, pool:
        try:
            waiting = [pool.submit(_train_chunk, chunk, data, device, bar, stop) for chunk in chunks]
            for done in as_completed(waiting):
                yield from zip(*done.result(), strict=True)
        finally:  # Ctrl-C: whatever is still training ends with its epoch
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(max(workers, threads))


def list_chunks(runs: list[dict], *, workers: int, device: str) -> list[list[dict]]:
    """`runs` in lists that train together: of one seed, an equal share for each worker, and bounded by memory.

    Half of the free memory is used, of at most 3 GiB on a processor.
    """
    floats = 24 * 144 + 64 * 16 + 16 * 64  # per image: both layers and the rest, with what the backward pass needs
    per_model = 4 * floats * max(2 * runs[0]["batch"], EVALUATION_BATCH)
    free = min(psutil.virtual_memory().available, 3 * 2**30) if device == "cpu" else torch.cuda.mem_get_info()[0]
    fits = max(1, free // 2 // per_model // workers)
    chunks = []
    for _, group in groupby(sorted(runs, key=lambda run: (run["seed"], run["method"])), key=lambda run: run["seed"]):
        together = list(group)
        size = min(fits, math.ceil(len(together) / workers))
        chunks += [together[start : start + size] for start in range(0, len(together), size)]
    return chunks


def _train_chunk(
    runs: list[dict], data: assets.MNIST, device: str, bar: tqdm, stop: threading.Event
) -> tuple[list[dict], list[dict]]:
    run, names, seed_data = runs[0], [run["method"] for run in runs], _SeedData.prepare(runs[0], data, device)
    tile = CPU_TILE if device == "cpu" else (len(runs), EVALUATION_BATCH)
    grid = Grid(initial_network(run["seed"]).to(device), len(runs), tile=tile)
    optimiser = torch.optim.Adam(grid.parameters.values(), lr=run["learning_rate"])
    given = np.stack([noisy_labels(seed_data.pairs, run, seed_data.ink) for run in runs])
    flipped = given != seed_data.pairs.labels
    labels = torch.from_numpy(given).to(device, torch.float32)
    generator = torch.Generator().manual_seed(run["seed"])
    history = []  # one list of entries, one per model, for each evaluation
    for epoch in range(1, run["epochs"] + 1):
        if stop.is_set():
            raise KeyboardInterrupt
        risk, fitted = _train_epoch(grid, optimiser, seed_data.images, labels, names, run["batch"], generator)
        bar.update(len(runs))
        if epoch % run["eval_every"] == 0 or epoch == run["epochs"]:
            rewards = evaluate_rewards(grid, seed_data.test_images)
            scores = _score(rewards, seed_data, names)
            fits = [_fit_shares(*pair) for pair in zip(fitted.cpu().numpy(), flipped, strict=True)]
            entries = zip(scores, risk.tolist(), fits, strict=True)
            history.append([{"epoch": epoch, **score, "train_risk": r, **fit} for score, r, fit in entries])
    results = []
    for entries, model in zip(zip(*history, strict=True), rewards, strict=True):
        sample = [round(reward, 5) for reward in model[:SAMPLE].tolist()]
        results.append({"metrics": {**entries[-1], "rewards": sample}, "history": list(entries)})
    return runs, results


def _train_epoch(
    grid: Grid,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    names: list[str],
    batch: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """One pass over the pairs: the mean training loss `(models,)`, and which labels were fitted `(models, pairs)`."""
    count = labels.shape[1]
    risk, fitted = torch.zeros_like(labels[:, 0]), torch.empty_like(labels, dtype=torch.bool)
    for rows in torch.randperm(count, generator=generator).split(batch):
        masks = draw_masks(2 * len(rows), generator).to(images.device)
        rows = rows.to(images.device)
        rewards = grid.rewards(load_batch(images, torch.cat([rows, rows + count])), masks=masks)
        margins = labels[:, rows] * (rewards[:, : len(rows)] - rewards[:, len(rows) :])
        means = margin_loss(margins, names)
        optimiser.zero_grad()
        means.sum().backward()
        optimiser.step()
        risk += means.detach() * (len(rows) / count)
        fitted[:, rows] = margins.detach() > 0
    return risk, fitted


def draw_masks(images: int, generator: torch.Generator) -> Tensor:
    """Dropout masks `(2, 64, images)` for the two hidden layers, divided by the share that is kept."""
    return torch.rand(2, 64, images, generator=generator).ge_(DROPOUT).div_(1 - DROPOUT)


# ---------------------------------------------------------------------------------------------------- evaluation


@torch.no_grad()
def evaluate_rewards(grid: Grid, images: Tensor) -> Tensor:
    """Rewards `(models, images)` of `images` `(images, 28, 28)`, uint8, with dropout off."""
    rows = torch.arange(len(images), device=images.device)
    return torch.cat([grid.rewards(load_batch(images, part)) for part in rows.split(EVALUATION_BATCH)], 1)


def reward_accuracy(rewards: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
    """P(sign(r₁ − r₂) = sign(digit₁ − digit₂)) over all pairs of images with different digits, and the share of ties.

    A tie is not a correct order.

    Args:
        rewards: `(models, images)`.
        digits: `(images,)`.
    Returns:
        accuracy `(models,)`, ties `(models,)`.
    Source: Section 6.1, over every pair instead of a sample. Check: tests/test_mnist.py, by enumeration.
    """
    below, equal, pairs = torch.zeros(len(rewards)), torch.zeros(len(rewards)), 0
    for digit in digits.unique():
        lower = rewards[:, digits == digit].sort(1).values
        higher = rewards[:, digits > digit].contiguous()
        strictly = torch.searchsorted(lower, higher).sum(1)
        equal += (torch.searchsorted(lower, higher, right=True).sum(1) - strictly).cpu()
        below += strictly.cpu()
        pairs += lower.shape[1] * higher.shape[1]
    return below / pairs, equal / pairs


def _score(rewards: Tensor, data: _SeedData, names: list[str]) -> list[dict]:
    accuracy, ties = reward_accuracy(rewards, data.test_digits)
    better, worse = data.test_pairs
    risk = margin_loss(rewards[:, better] - rewards[:, worse], names)
    columns = (accuracy.tolist(), ties.tolist(), risk.tolist())
    return [{"accuracy": a, "ties": t, "test_risk": r} for a, t, r in zip(*columns, strict=True)]


def _fit_shares(fitted: NDArray, flipped: NDArray) -> dict:
    """Shares of the flipped and the unflipped labels that the margins agree with; None where there are none."""
    groups = {"fit_flipped": fitted[flipped], "fit_clean": fitted[~flipped]}
    return {name: float(group.mean()) if len(group) else None for name, group in groups.items()}


# -------------------------------------------------------------------------------------------------------- studies


def run_study(config: TrainingConfig) -> store.Runs:
    """Train every model of `config`, or load its record."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = assets.mnist()
    return store.run_all(
        config.runs(),
        partial(train_models, device=device),
        folder=build_folder(config.profile) / "records",
        version=store.code_version(sys.modules[__name__], losses, noise),
        provenance=store.provenance(data=data.source, data_sha256=data.sha256),
    )


def compare_rankings(records: list[dict]) -> pd.DataFrame:
    """How alike the rewards of two models rank the same test images, by Kendall's τ.

    Asymmetric noise is compared with its equivalent and with tied noise on the same pairs; the yardstick is the
    equivalent noise on the pairs of another seed.

    Args:
        records: of study mnist_noise.
    Returns:
        columns method, noise_pair, seed, comparison, tau.
    """
    keys = ("method", "noise_pair", "seed", "condition")
    rewards = {tuple(r["config"][key] for key in keys): r["metrics"]["rewards"] for r in records}
    seeds = sorted({seed for _, _, seed, _ in rewards})
    rows = []
    for method, pair, seed in dict.fromkeys(key[:3] for key in rewards):
        asymmetric, equivalent, tied = (rewards[method, pair, seed, name] for name in CONDITIONS)
        other = rewards[method, pair, seeds[(seeds.index(seed) + 1) % len(seeds)], "equivalent"]
        for name, one, two in (
            ("asymmetric, equivalent", asymmetric, equivalent),
            ("equivalent, other data", equivalent, other),
            ("asymmetric, tied", asymmetric, tied),
        ):
            rows.append((method, pair, seed, name, stats.kendall(one, two)))
    return pd.DataFrame(rows, columns=["method", "noise_pair", "seed", "comparison", "tau"])
