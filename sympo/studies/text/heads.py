"""Reward heads: linear rewards r(x, a) = w·φ(x, a), very many of them in one program.

The margin of a pair is y·w·(φ(x, chosen) − φ(x, rejected)), y = −1 where the label is flipped. All
heads of a seed see the same pairs in the same order, so that a step of all of them is one product
of a batch's differences with a matrix that has a column per head. Columns never meet: each head
comes out as if it had been trained alone, which notebook 08 shows.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sympo import losses


class Head(NamedTuple):
    """How one head is trained.

    Attributes:
        loss: its name.
        learning_rate, weight_decay: of AdamW.
    """

    loss: str
    learning_rate: float
    weight_decay: float


def order_of_pairs(pairs: int, seed: int) -> Iterator[Tensor]:
    """The order of the pairs in epoch after epoch, without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randperm(pairs, generator=generator)


def train_heads(
    inputs: Tensor,
    labels: Tensor,
    heads: Sequence[Head],
    *,
    epochs: int,
    batch: int,
    seed: int,
) -> Iterator[Tensor]:
    """Train every head at once, and yield all weights after each epoch.

    Args:
        inputs: `(pairs, features)`, differences of the two answers' features.
        labels: `(pairs, heads)` of −1 and +1, each head's own.
        batch: pairs per step.
        seed: of the order.
    Yields:
        `(features, heads)`.
    Check: notebook 08, tests/studies/test_text_heads.py.
    """
    names = [head.loss for head in heads]
    settings = [(head.learning_rate, head.weight_decay) for head in heads]
    # AdamW has one learning rate per group of parameters: a matrix for the heads of each setting.
    groups = {setting: find(settings, setting) for setting in dict.fromkeys(settings)}
    by_loss = {name: find(names, name) for name in dict.fromkeys(names)}
    # Every reward is 0 at first: nothing is preferred, and each loss has a gradient there.
    shapes = [(inputs.shape[1], len(columns)) for columns in groups.values()]
    matrices = [inputs.new_zeros(shape).requires_grad_() for shape in shapes]
    optimiser = torch.optim.AdamW(
        [
            {"params": [matrix], "lr": rate, "weight_decay": decay}
            for matrix, (rate, decay) in zip(matrices, groups, strict=True)
        ],
        fused=True,  # one pass over memory per step, where the default takes ten
    )
    # The matrices side by side have their columns in the order of the groups, not of the heads.
    place = torch.cat(list(groups.values())).argsort().to(inputs.device)
    orders = order_of_pairs(len(inputs), seed)
    for _ in range(epochs):
        for rows in next(orders).to(inputs.device).split(batch):
            rewards = (inputs[rows] @ torch.cat(matrices, dim=1))[:, place]
            risk = sum_risks(labels[rows] * rewards, by_loss)
            optimiser.zero_grad()
            risk.backward()
            optimiser.step()
        yield torch.cat(matrices, dim=1).detach()[:, place]


def find(values: Sequence[object], wanted: object) -> Tensor:
    """Where `wanted` stands in `values`."""
    return torch.tensor([place for place, value in enumerate(values) if value == wanted])


def sum_risks(margins: Tensor, by_loss: dict[str, Tensor]) -> Tensor:
    """The sum over heads of each one's mean loss, whose gradient is that of every head alone."""
    risks = [losses.get(name).fn(margins[:, at]).mean(0).sum() for name, at in by_loss.items()]
    return torch.stack(risks).sum()


def outcomes(margins: Tensor) -> Tensor:
    """1 where a margin is positive, ½ where it is 0, else 0; NaN where it is NaN."""
    # The sign of NaN is 0: a head that diverged would pass for one that ties everywhere.
    return torch.where(margins.isnan(), margins, (margins.sign() + 1) / 2)
