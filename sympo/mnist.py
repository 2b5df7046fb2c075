"""MNIST preferences: pairs of digit images, the paper's network, and a trainer that advances many models at once.

The reward of an image is its digit. All models of one seed see the same pairs, batches, dropout masks and initial
weights and differ in loss and label noise alone, so they share every image patch and train together.
"""

import sys
from collections.abc import Iterator
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

from sympo import assets, losses, noise, stats, store
from sympo.config import StudyConfig, build_folder

CLIP = 20.0  # bound on the reward; the authors' released code
DROPOUT = 0.2  # the authors' released code
CONDITIONS = ("asymmetric", "equivalent", "tied")  # the three noise models of study mnist_noise
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
    return images.as_strided(shape, strides).reshape(36, -1)


def _extract_columns(maps: Tensor) -> Tensor:
    """`(models, 24, 6, 6, images)` → `(models, 216, 16·images)`: the 3×3 windows of the second layer."""
    models, _, _, _, images = maps.shape
    block, channel, row, column, image = maps.stride()
    strided = maps.as_strided((models, 3, 3, 24, 4, 4, images), (block, row, column, channel, row, column, image))
    return strided.reshape(models, 216, -1)


def _fold_columns(columns: Tensor, images: int) -> Tensor:
    """The adjoint of `_extract_columns`."""
    windows = columns.view(-1, 3, 3, 24, 4, 4, images)
    maps = columns.new_zeros(len(windows), 24, 6, 6, images)
    for row in range(3):
        for column in range(3):
            maps[:, :, row : row + 4, column : column + 4] += windows[:, row, column]
    return maps


def _expand_first(weight: Tensor) -> Tensor:
    """Kernels `(models, 6, 1, 5, 5)` → `(models, 24, 36)`: each at its four shifts inside a 6×6 patch."""
    shifts = [functional.pad(weight, (dx, 1 - dx, dy, 1 - dy)) for dy in (0, 1) for dx in (0, 1)]
    return torch.stack(shifts, 1).flatten(3).flatten(1, 2)


def _expand_second(weight: Tensor) -> Tensor:
    """Kernels `(models, 16, 6, 5, 5)` → `(models, 64, 216)`, in the order of `_extract_columns`."""
    shifts = [functional.pad(weight, (dx, 1 - dx, dy, 1 - dy)) for dy in (0, 1) for dx in (0, 1)]
    blocks = torch.stack(shifts, 1).unflatten(5, (3, 2)).unflatten(4, (3, 2))  # models, shift, out, in, by, sy, bx, sx
    return blocks.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(len(weight), 64, 216)


def _route(grad: Tensor, values: Tensor, pooled: Tensor) -> Tensor:
    """The gradient of a maximum over the four shifts; shifts that tie share it. Overwrites `values`.

    Args:
        grad, pooled: `(models, 1, channels, positions)`.
        values: `(models, 4, channels, positions)`.
    """
    winners = values.eq_(pooled)  # in place and in float: a boolean mask would cost a slower pass
    return winners.mul_(grad / winners.sum(1, keepdim=True))


class _Features(torch.autograd.Function):
    """Both convolutions with their pools and ReLUs, for a block of models at a time.

    Written by hand because autograd would keep the unpooled maps of every model: 14 MB each at 512 pairs, which
    the processor's caches do not hold. The backward pass computes the first one again instead.
    """

    @staticmethod
    def forward(ctx, patches, weight1, bias1, weight2, bias2, block):
        images = patches.shape[1] // 144
        features = patches.new_empty(len(weight1), 16, 16 * images)
        ctx.parts = [slice(start, start + block) for start in range(0, len(weight1), block)]
        kept = []
        for part in ctx.parts:
            pooled1 = (weight1[part] @ patches).unflatten(1, (4, 6)).amax(1)
            maps = (pooled1 + bias1[part, :, None]).clamp_(min=0).view(-1, 24, 6, 6, images)
            values2 = (weight2[part] @ _extract_columns(maps)).unflatten(1, (4, 16))
            pooled2 = values2.amax(1)
            torch.clamp(pooled2 + bias2[part, :, None], min=0, out=features[part])
            kept += (pooled1, maps, values2, pooled2) if any(ctx.needs_input_grad) else ()
        ctx.save_for_backward(patches, weight1, weight2, features, *kept)
        return features

    @staticmethod
    def backward(ctx, grad):
        patches, weight1, weight2, features, *kept = ctx.saved_tensors
        grads = [torch.empty_like(weight1), grad.new_empty(len(weight1), 6), torch.empty_like(weight2)]
        grad2 = grad * features.sign()  # ReLU: features are never negative
        for index, part in enumerate(ctx.parts):
            pooled1, maps, values2, pooled2 = kept[4 * index : 4 * index + 4]
            routed = _route(grad2[part, None], values2.clone(), pooled2[:, None]).flatten(1, 2)
            torch.matmul(routed, _extract_columns(maps).mT, out=grads[2][part])
            grad1 = _fold_columns(weight2[part].mT @ routed, maps.shape[-1]).mul_(maps.sign()).view_as(pooled1)
            grads[1][part] = grad1.sum(2)
            values1 = (weight1[part] @ patches).unflatten(1, (4, 6))
            grads[0][part] = _route(grad1[:, None], values1, pooled1[:, None]).flatten(1, 2) @ patches.T
        return None, *grads, grad2.sum(2), None


class Grid:
    """Many `Network`s with stacked parameters, which see the same images.

    Args:
        network: gives every model its initial weights, and the dtype and device.
        models: how many.
        block: models whose convolutions run together; small blocks stay in a processor's caches, a GPU takes all.
    Attributes:
        parameters: name in `Network` → `(models, …)`.
        statistics: running mean and variance of the batch norms, `(models·64,)` each.
    """

    def __init__(self, network: Network, models: int, *, block: int = 1):
        self.models, self.block = models, block
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
        hidden = _Features.apply(_extract_patches(images), *weights, self.block).reshape(self.models, 256, -1)
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
    def load(cls, run: dict, device: str) -> "_SeedData":
        data = assets.mnist()
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
    """
    for _, group in groupby(sorted(runs, key=lambda run: (run["seed"], run["method"])), key=lambda run: run["seed"]):
        together = list(group)
        data = _SeedData.load(together[0], device)
        chunk = models_per_chunk(together[0]["batch"], device=device)
        for start in range(0, len(together), chunk):
            yield from _train_chunk(together[start : start + chunk], data)


def models_per_chunk(batch: int, *, device: str) -> int:
    """Models that train together: as many as half of the free memory holds, of at most 3 GiB on a processor."""
    floats = 2 * 6 * 144 + 2 * 64 * 16 + 16 * 64  # per image, kept for the backward pass: layer 1, layer 2, the rest
    per_model = 4 * floats * max(2 * batch, EVALUATION_BATCH)
    free = min(psutil.virtual_memory().available, 3 * 2**30) if device == "cpu" else torch.cuda.mem_get_info()[0]
    return max(1, free // 2 // per_model)


def _train_chunk(runs: list[dict], data: _SeedData) -> Iterator[tuple[dict, dict]]:
    run, device, names = runs[0], data.images.device, [run["method"] for run in runs]
    block = 1 if device.type == "cpu" else len(runs)
    grid = Grid(initial_network(run["seed"]).to(device), len(runs), block=block)
    optimiser = torch.optim.Adam(grid.parameters.values(), lr=run["learning_rate"])
    given = np.stack([noisy_labels(data.pairs, run, data.ink) for run in runs])
    flipped = given != data.pairs.labels
    labels = torch.from_numpy(given).to(device, torch.float32)
    generator = torch.Generator().manual_seed(run["seed"])
    history = []  # one list of entries, one per model, for each evaluation
    for epoch in store.progress(range(1, run["epochs"] + 1), f"seed {run['seed']}, {len(runs)} models"):
        risk, fitted = _train_epoch(grid, optimiser, data.images, labels, names, run["batch"], generator)
        if epoch % run["eval_every"] == 0 or epoch == run["epochs"]:
            rewards = evaluate_rewards(grid, data.test_images)
            scores = _score(rewards, data, names)
            fits = [_fit_shares(*pair) for pair in zip(fitted.cpu().numpy(), flipped, strict=True)]
            risks = risk.tolist()
            history.append(
                [{"epoch": epoch, **s, "train_risk": r, **f} for s, r, f in zip(scores, risks, fits, strict=True)]
            )
    for index, run in enumerate(runs):
        entries = [entry[index] for entry in history]
        sample = [round(reward, 5) for reward in rewards[index, :SAMPLE].tolist()]
        yield run, {"metrics": {**entries[-1], "rewards": sample}, "history": entries}


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
