"""MNIST preferences: pairs of digit images, the paper's network, and a trainer that advances many
models at once.

The reward of an image is its digit. All models of one seed see the same pairs, batches, dropout
masks and initial weights and differ in loss and label noise alone, so they share every image patch
and train together.
"""

import math
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, groupby
from typing import Annotated
from weakref import WeakMethod

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from sympo import losses, noise
from sympo.studies import progress, provenance, records, sources
from sympo.studies.mnist.fast import graphs, kernels
from sympo.studies.profiles import StudyConfig, build_folder

CLIP = 20.0  # bound on the reward; the authors' released code
DROPOUT = 0.2  # the authors' released code
CONDITIONS = ("asymmetric", "equivalent", "tied")  # the three noise models of study mnist_noise
CPU_TILE = 32  # ours: images whose convolutions, of one model, stay in a core's own cache
EVALUATION_BATCH = 2048  # ours: images per forward pass
# per image and model: both layers and the rest, kept for the backward pass
FLOATS = {"cpu": 3_000, "cuda": 16_000}
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
    # share of pairs written with the winner first
    class_prior: Annotated[float, Field(ge=0, le=1)] = 0.5

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
            raise ValueError(
                f"headline_seeds = {self.headline_seeds} is below seeds = {self.seeds}: raise it"
            )
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
    """Study mnist_noise: asymmetric noise, its symmetric equivalent, and noise tied to the written
    order.
    """

    noise_pairs: list[RatePair]  # (rate_pos, rate_neg)
    # ours: how often the image with more ink is written first
    first_rate: Annotated[float, Field(ge=0, le=1)]

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
                        runs.append(
                            {
                                **run,
                                "condition": condition,
                                "noise_pair": pair,
                                "first_rate": first_rate,
                            }
                        )
        return runs


def _run(
    config: TrainingConfig, loss: str, name: str, seed: int, rate_pos: float, rate_neg: float
) -> dict:
    shared = ("study", "epochs", "eval_every", "pairs", "batch", "learning_rate", "class_prior")
    values = {field: getattr(config, field) for field in shared}
    return {
        "method": loss,
        "noise": name,
        "seed": seed,
        "rate_pos": rate_pos,
        "rate_neg": rate_neg,
        **values,
    }


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
    """Pairs of images with different digits, no image twice, labelled by Bradley–Terry on the
    digits.

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
        raise ValueError(
            f"pairs = {count} is more than the {len(left)} pairs these images give: lower it"
        )
    difference = digits[left].astype(float) - digits[right]
    left_wins = generator.random(count) < 1 / (1 + np.exp(-difference))
    winner, loser = np.where(left_wins, left, right), np.where(left_wins, right, left)
    winner_first = generator.random(count) < class_prior
    first, second = np.where(winner_first, winner, loser), np.where(winner_first, loser, winner)
    return Pairs(first, second, np.where(winner_first, 1, -1))


def noisy_labels(pairs: Pairs, run: dict, ink: NDArray) -> NDArray:
    """The labels of `pairs` under the noise of `run`; flips nest over rates, keyed by the two
    images and the seed.

    Args:
        ink: `(images,)`, mean brightness; where `run` ties the written order to the pair, more ink
            tends to come first.
    """
    generator = noise.RowGenerator(
        zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), run["seed"]
    )
    if run.get("first_rate") is None:
        return noise.flip(pairs.labels, run["rate_pos"], run["rate_neg"], generator)
    longer = np.where(ink[pairs.first] >= ink[pairs.second], 1, -1)
    rates = {"first_rate": run["first_rate"]}
    return noise.flip_tied(
        pairs.labels, longer, run["rate_pos"], run["rate_neg"], generator, **rates
    )


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


# A 5×5 convolution followed by 2×2 pooling reads 6×6 patches: its four shifts inside a window are
# four rows of one matrix, and the pool is a maximum over them. Images are the last axis of every
# tensor, so that shifts, pools and norms run over contiguous memory.


def _extract_patches(images: Tensor) -> Tensor:
    """`(seeds, 28, 28, images)` → `(seeds, 36, 144·images)`: the 6×6 patch of each pooled position.

    A position (2·by + sy, 2·bx + sx) is stored as (sy, sx, by, bx), which makes the pooled map,
    read as (channel·sy·sx, by, bx), the input of a 3×3 window in the next layer.
    """
    seed, row, column, image = images.stride()
    shape = (len(images), 6, 6, 2, 2, 6, 6, images.shape[3])
    strides = (seed, row, column, 2 * row, 2 * column, 4 * row, 4 * column, image)
    return images.as_strided(shape, strides, images.storage_offset()).reshape(len(images), 36, -1)


def _extract_columns(maps: Tensor) -> Tensor:
    """First maps `(…, 24, 6, 6, images)` → `(…, 3, 3, 24, 4, 4, images)`: the second layer's 3×3
    windows, a view.
    """
    windows = maps.unfold(-3, 4, 1).unfold(-3, 4, 1)  # …, 24, 3, 3, images, 4, 4
    return windows.movedim(-6, -4).movedim(-3, -1)


def _expand_first(weight: Tensor) -> Tensor:
    """Kernels `(models, 6, 1, 5, 5)` → `(models, 24, 36)`: each at its four shifts inside a 6×6
    patch.
    """
    shifts = [functional.pad(weight, (dx, 1 - dx, dy, 1 - dy)) for dy in (0, 1) for dx in (0, 1)]
    return torch.stack(shifts, 1).flatten(3).flatten(1, 2)


def _expand_second(weight: Tensor) -> Tensor:
    """Kernels `(models, 16, 6, 5, 5)` → `(models, 64, 216)`, in the order of `_extract_columns`."""
    shifts = [functional.pad(weight, (dx, 1 - dx, dy, 1 - dy)) for dy in (0, 1) for dx in (0, 1)]
    # models, shift, out, in, by, sy, bx, sx
    blocks = torch.stack(shifts, 1).unflatten(5, (3, 2)).unflatten(4, (3, 2))
    return blocks.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(len(weight), 64, 216)


def convolve(
    images: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """Both convolutions with their pools and ReLUs, in PyTorch's operations: the way of a GPU.

    Args:
        images: `(seeds, 28, 28, images)`; an equal share of the models, in their order, sees those
            of each seed.
        weight1: `(models, 24, 36)` of `_expand_first`.
        bias1: `(models, 6)`.
        weight2: `(models, 64, 216)` of `_expand_second`.
        bias2: `(models, 16)`.
    Returns:
        features `(models, 256, images)`.
    """
    models = len(weight1)
    values = weight1.reshape(len(images), -1, 36) @ _extract_patches(images)
    maps = functional.relu(values.view(models, 4, 6, -1).max(1).values + bias1[:, :, None])
    columns = _extract_columns(maps.view(models, 24, 6, 6, -1)).reshape(models, 216, -1)
    values = (weight2 @ columns).view(models, 4, 16, -1)
    return functional.relu(values.max(1).values + bias2[:, :, None]).view(models, 256, -1)


class _TiledConvolve(torch.autograd.Function):
    """`convolve` on a processor: one model and `CPU_TILE` images at a time, which stay in the
    core's own cache.

    Over all images at once every pass would wait for memory: the first layer alone has 14 MB a
    model at 512 pairs. The products are PyTorch's, the passes between them those of `kernels`. The
    backward pass keeps the first maps and the winners of both pools, and computes the rest again.
    """

    @staticmethod
    def forward(ctx, images, weight1, bias1, weight2, bias2):
        models, count = len(weight1), images.shape[2]
        weights1, weights2, bias1, bias2 = (
            weight1.unbind(),
            weight2.unbind(),
            bias1.numpy(),
            bias2.numpy(),
        )
        features, ctx.kept = images.new_empty(models, 256, count), []
        ctx.save_for_backward(images, weight2)
        for tile, part in zip(images.split(CPU_TILE, 2), features.split(CPU_TILE, 2), strict=True):
            size = tile.shape[2]
            patches, values1, columns, values2 = _allocate(
                tile, (36, 144), (24, 144), (216, 16), (64, 16)
            )
            shifts1, shifts2 = values1.view(4, 6, -1).numpy(), values2.view(4, 16, -1).numpy()
            windows = columns.view(3, 3, 24, 4, -1).numpy()
            maps, pooled = (
                tensor.numpy() for tensor in _allocate(tile, (models, 6, 144), (models, 16, 16))
            )
            winners1, winners2 = np.empty(maps.shape, np.uint8), np.empty(pooled.shape, np.uint8)
            kernels.extract(tile.contiguous().numpy(), patches.view(6, 6, 2, 2, 6, 6, size).numpy())
            for model in range(models):
                torch.mm(weights1[model], patches, out=values1)
                kernels.pool(shifts1, bias1[model], maps[model], winners1[model])
                kernels.unfold(maps[model].reshape(24, 6, -1), windows)
                torch.mm(weights2[model], columns, out=values2)
                kernels.pool(shifts2, bias2[model], pooled[model], winners2[model])
            part.copy_(torch.from_numpy(pooled).view(part.shape))
            ctx.kept.append(
                (maps.reshape(models, 24, 6, -1), winners1.reshape(models, 24, 6, -1), winners2)
            )
        return features

    @staticmethod
    def backward(ctx, grad):
        images, weight2 = ctx.saved_tensors
        models, weights2 = len(weight2), weight2.mT.unbind()
        sums = [grad.new_zeros(models, *shape) for shape in ((24, 36), (6,), (64, 216), (16,))]
        weight_sums1, weight_sums2 = sums[0].unbind(), sums[2].unbind()
        bias_sums1, bias_sums2 = sums[1].numpy(), sums[3].numpy()
        tiles = zip(images.split(CPU_TILE, 2), grad.split(CPU_TILE, 2), ctx.kept, strict=True)
        for tile, part, (maps, winners1, winners2) in tiles:
            size = tile.shape[2]
            patches, routed1, columns, routed2 = _allocate(
                tile, (36, 144), (24, 144), (216, 16), (64, 16)
            )
            patches = patches.view(-1, 36)  # pixels last: the product below is then twice as fast
            shifts1, shifts2 = routed1.view(4, 24, 6, -1).numpy(), routed2.view(4, 16, -1).numpy()
            windows, row = columns.view(3, 3, 24, 4, -1).numpy(), np.empty_like(maps[0, 0, 0])
            pooled = part.reshape(models, 16, -1).numpy()
            places = patches.view(2, 2, 6, 6, size, 6, 6).permute(5, 6, 0, 1, 2, 3, 4)
            kernels.extract(tile.contiguous().numpy(), places.numpy())
            for model in range(models):
                kernels.route(pooled[model], winners2[model], shifts2, bias_sums2[model])
                kernels.unfold(maps[model], windows)
                torch.addmm(weight_sums2[model], routed2, columns.T, out=weight_sums2[model])
                torch.mm(weights2[model], routed2, out=columns)
                kernels.fold_and_route(windows, winners1[model], row, shifts1, bias_sums1[model])
                torch.addmm(weight_sums1[model], routed1, patches, out=weight_sums1[model])
        return None, *sums


def _allocate(tile: Tensor, *shapes: tuple[int, ...]) -> list[Tensor]:
    """Uninitialised tensors of `shapes`, the last size times the images of `tile`."""
    return [tile.new_empty(*shape[:-1], shape[-1] * tile.shape[2]) for shape in shapes]


class Grid:
    """Many `Network`s with stacked parameters; those of one seed see the same images.

    Args:
        networks: one per seed, which gives all its models their initial weights, and the dtype and
            device.
        models: how many for each seed.
    Attributes:
        parameters: name in `Network` → `(seeds·models, …)`.
        statistics: running mean and variance of the batch norms, `(seeds·models·64,)` each.
    """

    def __init__(self, *networks: Network, models: int):
        values = [network.state_dict() for network in networks]
        stacked = {name: torch.stack([value[name] for value in values]) for name in values[0]}
        stacked = {name: value.repeat_interleave(models, 0) for name, value in stacked.items()}
        self.parameters = {
            name: stacked[name].requires_grad_() for name, _ in networks[0].named_parameters()
        }
        self.statistics = {
            name: value.flatten()
            for name, value in stacked.items()
            if name.endswith(("mean", "var"))
        }

    def rewards(self, images: Tensor, *, masks: Tensor | None = None) -> Tensor:
        """Rewards `(seeds·models, images)` of `images` `(seeds, 28, 28, images)` in [0, 1].

        Args:
            images: with a first axis of 1, all models see the same.
            masks: dropout masks `(2, seeds, 64, images)`, of `draw_masks` for each seed: training.
                None: evaluation, with the running statistics of the batch norms.
        """
        p = self.parameters
        weights = (
            _expand_first(p["conv1.weight"]),
            p["conv1.bias"],
            _expand_second(p["conv2.weight"]),
            p["conv2.bias"],
        )
        tiled = images.device.type == "cpu" and len(images) == 1
        hidden = _TiledConvolve.apply(images[0], *weights) if tiled else convolve(images, *weights)
        for layer in (1, 2):
            hidden = torch.baddbmm(p[f"fc{layer}.bias"][:, :, None], p[f"fc{layer}.weight"], hidden)
            hidden = functional.relu(
                self._normalise(hidden, f"norm{layer}", training=masks is not None)
            )
            if masks is not None:
                hidden = (
                    hidden.unflatten(0, (len(images), -1)) * masks[layer - 1][:, None]
                ).flatten(0, 1)
        return (
            torch.baddbmm(p["fc3.bias"][:, :, None], p["fc3.weight"], hidden)
            .squeeze(1)
            .clamp(-CLIP, CLIP)
        )

    def _normalise(self, hidden: Tensor, name: str, *, training: bool) -> Tensor:
        mean, var = self.statistics[f"{name}.running_mean"], self.statistics[f"{name}.running_var"]
        weight, bias = (
            self.parameters[f"{name}.weight"].flatten(),
            self.parameters[f"{name}.bias"].flatten(),
        )
        flat = hidden.reshape(1, len(mean), -1)  # models·units as channels, images as their length
        return functional.batch_norm(flat, mean, var, weight, bias, training=training).view_as(
            hidden
        )


# ------------------------------------------------------------------------------------------------------ training


_SEEDING = threading.Lock()  # initial weights come from one generator, whichever thread asks


def initial_network(seed: int) -> Network:
    """The network every model of `seed` starts from."""
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network()


def load_batch(images: Tensor, rows: Tensor) -> Tensor:
    """Images `(seeds, images, 28, 28)`, uint8, at `rows` `(seeds, rows)` → `(seeds, 28, 28, rows)`
    in [0, 1].
    """
    batches = [each[row].flatten(1).T.contiguous() for each, row in zip(images, rows, strict=True)]
    return torch.stack(batches).to(torch.get_default_dtype()).div_(255).unflatten(1, (28, 28))


def margin_loss(margins: Tensor, names: list[str]) -> Tensor:
    """Mean loss of each model `(…, models)`, from margins `(…, models, pairs)` and the name of each
    model's loss.
    """
    means, start = [], 0
    for name, group in groupby(names):
        stop = start + len(list(group))
        means.append(losses.get(name).fn(margins[..., start:stop, :]).mean(-1))
        start = stop
    return torch.cat(means, -1)


def train_models(runs: list[dict], *, device: str) -> Iterator[tuple[dict, dict]]:
    """Train the models of `runs`, and yield each run with its metrics and history.

    The models of one seed train together, in chunks that fit in memory; every chunk sees the same
    batches and masks. On a GPU a chunk holds several seeds.
    """
    chunks, data = list_chunks(runs, workers=count_workers(device), device=device), sources.mnist()
    stop = threading.Event()
    bar = progress.progress(
        sum(len(chunk) * chunk[0]["epochs"] for chunk in chunks), "epochs of all models"
    )
    with bar, open_pool(device) as pool:
        try:
            waiting = [
                pool.submit(_train_chunk, chunk, data, device, bar, stop) for chunk in chunks
            ]
            for done in as_completed(waiting):
                yield from zip(*done.result(), strict=True)
        finally:  # Ctrl-C: whatever is still training ends with its epoch
            stop.set()


def count_workers(device: str) -> int:
    """How many chunks train at a time: one per core of a processor, one on a GPU."""
    return torch.get_num_threads() if device == "cpu" else 1


@contextmanager
def open_pool(device: str) -> Iterator[Executor]:
    """The threads in which chunks train; what still waits at the end is dropped.

    On a processor each computes alone: threads that share every small operation wait for one
    another, and on a busy machine for long.
    """
    threads, workers = torch.get_num_threads(), count_workers(device)
    pool = ThreadPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(threads // workers,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def list_chunks(runs: list[dict], *, workers: int, device: str) -> list[list[dict]]:
    """`runs` in lists that train together, bounded by memory: of one seed, an equal share for each
    worker.

    On a GPU a list holds as many seeds as fit, if their models have the same losses. Half of the
    free memory is used, of at most 3 GiB on a processor.
    """
    per_model = 4 * FLOATS[device] * max(2 * runs[0]["batch"], EVALUATION_BATCH)
    fits = max(1, _free_memory(device) // 2 // per_model // workers)
    chunks = []
    for _, group in groupby(
        sorted(runs, key=lambda run: (run["seed"], run["method"])), key=lambda run: run["seed"]
    ):
        together = list(group)
        size = min(fits, math.ceil(len(together) / workers))
        chunks += [together[start : start + size] for start in range(0, len(together), size)]
    return chunks if device == "cpu" else _join_seeds(chunks, fits)


def _free_memory(device: str) -> int:
    """Bytes; on a GPU with those that PyTorch holds and does not use."""
    if device == "cpu":
        return min(psutil.virtual_memory().available, 3 * 2**30)
    return (
        torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    )


def _join_seeds(chunks: list[list[dict]], fits: int) -> list[list[dict]]:
    """Chunks whose models have the same losses, joined while at most `fits` models come
    together.
    """
    joined = []
    for names, group in groupby(sorted(chunks, key=_list_losses), key=_list_losses):
        alike = list(group)
        size = max(1, fits // len(names))
        joined += [
            list(chain(*alike[start : start + size])) for start in range(0, len(alike), size)
        ]
    return joined


def _list_losses(runs: list[dict]) -> list[str]:
    return [run["method"] for run in runs]


@dataclass(frozen=True)
class EvaluationData:
    """What models are evaluated on, on their device."""

    images: Tensor
    digits: Tensor
    pairs: Tensor  # (2, 10000 // 3): indices of (better, worse) images, for the clean test risk

    @classmethod
    def prepare(cls, data: sources.MNIST, device: str) -> "EvaluationData":
        """The same for every seed."""
        pairs = draw_pairs(data.test_labels, len(data.test_labels) // 3, seed=0)
        first_better = data.test_labels[pairs.first] > data.test_labels[pairs.second]
        ordered = np.where(first_better, (pairs.first, pairs.second), (pairs.second, pairs.first))
        arrays = (data.test_images, data.test_labels.astype(np.int64), ordered)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))


@dataclass(frozen=True)
class Chunk:
    """Models that train together: the same losses for each of one or several seeds.

    Attributes:
        names: the losses of a seed's models.
        images: `(seeds, 2·pairs, 28, 28)`: the first image of every pair, then the second of every
            pair.
        labels: `(seeds, models, pairs)`, ±1 as given, with noise.
        flipped: `(seeds·models, pairs)`, which of them are wrong.
        risk, fitted: `(seeds, models)` and `(seeds, models, pairs)`, what an epoch has measured so
            far.
        generators: of a seed's order of pairs and dropout masks, drawn on the generator's device.
    """

    grid: Grid
    optimiser: torch.optim.Optimizer
    names: list[str]
    images: Tensor
    labels: Tensor
    flipped: NDArray[np.bool_]
    risk: Tensor
    fitted: Tensor
    test: EvaluationData
    batch: int
    generators: list[torch.Generator]

    @classmethod
    def prepare(cls, runs: list[dict], data: sources.MNIST, device: str) -> "Chunk":
        """The models of `runs`, a list of `list_chunks`, before the first epoch."""
        groups = [list(group) for _, group in groupby(runs, key=lambda run: run["seed"])]
        run, seeds, ink = (
            runs[0],
            [group[0]["seed"] for group in groups],
            data.train_images.mean((1, 2)),
        )
        options = {"class_prior": run["class_prior"]}
        pairs = [
            draw_pairs(data.train_labels, run["pairs"], seed=seed, **options) for seed in seeds
        ]
        images = np.stack(
            [data.train_images[np.concatenate([each.first, each.second])] for each in pairs]
        )
        given = np.stack(
            [
                [noisy_labels(p, r, ink) for r in group]
                for p, group in zip(pairs, groups, strict=True)
            ]
        )
        flipped = given != np.stack([each.labels for each in pairs])[:, None]
        grid = Grid(*[initial_network(seed).to(device) for seed in seeds], models=len(groups[0]))
        recordable = {"fused": True, "capturable": True} if device == "cuda" else {}
        labels = torch.from_numpy(given).to(device, torch.get_default_dtype())
        return cls(
            grid=grid,
            optimiser=torch.optim.Adam(
                grid.parameters.values(), lr=run["learning_rate"], **recordable
            ),
            names=_list_losses(groups[0]),
            images=torch.from_numpy(images).to(device),
            labels=labels,
            flipped=flipped.reshape(len(runs), -1),
            risk=torch.zeros_like(labels[..., 0]),
            fitted=torch.zeros_like(labels, dtype=torch.bool),
            test=EvaluationData.prepare(data, device),
            batch=run["batch"],
            generators=[torch.Generator(device).manual_seed(seed) for seed in seeds],
        )

    def train_epoch(self) -> tuple[Tensor, Tensor]:
        """One pass over the pairs; nothing in it waits for a GPU, which runs each step as one CUDA
        graph.

        Returns:
            the mean loss `(seeds·models,)`, and which labels were fitted `(seeds·models, pairs)`,
            both as the batches pass, with dropout on.
        """
        count, device = self.labels.shape[2], self.images.device
        step = self.replay if self.images.is_cuda else self.train_batch
        self.risk.zero_()
        orders = [
            torch.randperm(count, generator=generator, device=generator.device)
            for generator in self.generators
        ]
        for rows in torch.stack(orders).to(device).split(self.batch, 1):
            masks = [draw_masks(2 * rows.shape[1], generator) for generator in self.generators]
            step(rows, torch.stack(masks, 1).to(device))
        return self.risk.flatten().clone(), self.fitted.flatten(0, 1).clone()

    @cached_property
    def replay(self) -> graphs.Replay:
        """`train_batch` as CUDA graphs."""
        step = WeakMethod(
            self.train_batch
        )  # a cycle would keep the chunk, and its graphs' memory, until some collection
        return graphs.Replay(lambda rows, masks: step()(rows, masks))

    def train_batch(self, rows: Tensor, masks: Tensor) -> None:
        """One step on the pairs `rows` `(seeds, pairs)`, with dropout masks
        `(2, seeds, 64, 2·pairs)`.
        """
        _, models, count = self.labels.shape
        size = rows.shape[1]
        images = load_batch(self.images, torch.cat([rows, rows + count], 1))
        rewards = self.grid.rewards(images, masks=masks).view(*self.risk.shape, -1)
        places = rows[:, None].expand(-1, models, -1)
        margins = self.labels.gather(2, places) * (rewards[..., :size] - rewards[..., size:])
        means = margin_loss(margins, self.names)
        means.sum().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.risk.add_(means.detach() * (size / count))
        self.fitted.scatter_(2, places, margins.detach() > 0)

    def evaluate(self) -> Tensor:
        """Rewards `(seeds·models, images)` of the test images."""
        return evaluate_rewards(self.grid, self.test.images)

    def score(self, rewards: Tensor) -> list[dict]:
        """Each model's accuracy, ties and clean risk, from `evaluate`."""
        accuracy, ties = reward_accuracy(rewards, self.test.digits)
        better, worse = self.test.pairs
        margins = rewards[:, better] - rewards[:, worse]
        risk = margin_loss(margins.unflatten(0, (-1, len(self.names))), self.names).flatten()
        columns = (accuracy.tolist(), ties.tolist(), risk.tolist())
        return [
            {"accuracy": a, "ties": t, "test_risk": r} for a, t, r in zip(*columns, strict=True)
        ]


def _train_chunk(
    runs: list[dict], data: sources.MNIST, device: str, bar: tqdm, stop: threading.Event
) -> tuple[list[dict], list[dict]]:
    run, chunk = runs[0], Chunk.prepare(runs, data, device)
    history = []  # one list of entries, one per model, for each evaluation
    for epoch in range(1, run["epochs"] + 1):
        if stop.is_set():
            raise KeyboardInterrupt
        risk, fitted = chunk.train_epoch()
        bar.update(len(runs))
        if epoch % run["eval_every"] == 0 or epoch == run["epochs"]:
            rewards = chunk.evaluate()
            fits = [
                _fit_shares(*pair) for pair in zip(fitted.cpu().numpy(), chunk.flipped, strict=True)
            ]
            entries = zip(chunk.score(rewards), risk.tolist(), fits, strict=True)
            history.append(
                [{"epoch": epoch, **score, "train_risk": r, **fit} for score, r, fit in entries]
            )
    results = []
    for entries, model in zip(zip(*history, strict=True), rewards, strict=True):
        sample = [round(reward, 5) for reward in model[:SAMPLE].tolist()]
        results.append({"metrics": {**entries[-1], "rewards": sample}, "history": list(entries)})
    return runs, results


def draw_masks(images: int, generator: torch.Generator) -> Tensor:
    """Dropout masks `(2, 64, images)` for the two hidden layers, divided by the share that is
    kept.
    """
    uniform = torch.rand(2, 64, images, generator=generator, device=generator.device)
    return uniform.ge_(DROPOUT).div_(1 - DROPOUT)


# ---------------------------------------------------------------------------------------------------- evaluation


@torch.no_grad()
def evaluate_rewards(grid: Grid, images: Tensor) -> Tensor:
    """Rewards `(models, images)` of `images` `(images, 28, 28)`, uint8, with dropout off."""
    rows = torch.arange(len(images), device=images.device)
    return torch.cat(
        [
            grid.rewards(load_batch(images[None], part[None]))
            for part in rows.split(EVALUATION_BATCH)
        ],
        1,
    )


def reward_accuracy(rewards: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
    """P(sign(r₁ − r₂) = sign(digit₁ − digit₂)) over all pairs of images with different digits, and
    the share of ties.

    A tie is not a correct order, and NaN, the reward of a model that diverged, is neither correct
    nor a tie.

    Args:
        rewards: `(models, images)`, finite or NaN.
        digits: `(images,)`.
    Returns:
        accuracy `(models,)`, ties `(models,)`.
    Source: Section 6.1, over every pair instead of a sample. Check: tests/test_mnist.py, by
    enumeration.
    """
    below, equal, pairs = torch.zeros(len(rewards)), torch.zeros(len(rewards)), 0
    lows, highs = (torch.where(rewards.isnan(), worst, rewards) for worst in (math.inf, -math.inf))
    for digit in digits.unique():
        lower = lows[:, digits == digit].sort(1).values
        higher = highs[:, digits > digit].contiguous()
        strictly = torch.searchsorted(lower, higher).sum(1)
        equal += (torch.searchsorted(lower, higher, right=True).sum(1) - strictly).cpu()
        below += strictly.cpu()
        pairs += lower.shape[1] * higher.shape[1]
    return below / pairs, equal / pairs


def _fit_shares(fitted: NDArray, flipped: NDArray) -> dict:
    """Shares of the flipped and the unflipped labels that the margins agree with; None where there
    are none.
    """
    groups = {"fit_flipped": fitted[flipped], "fit_clean": fitted[~flipped]}
    return {name: float(group.mean()) if len(group) else None for name, group in groups.items()}


# -------------------------------------------------------------------------------------------------------- studies


def run_study(config: TrainingConfig) -> records.Runs:
    """Train every model of `config`, or load its record."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = sources.mnist()
    return records.run_all(
        config.runs(),
        partial(train_models, device=device),
        folder=build_folder(config.profile) / "records",
        version=VERSION,
        provenance=provenance.collect(data=data.source, data_sha256=data.sha256),
    )
