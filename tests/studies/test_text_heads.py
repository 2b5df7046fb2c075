"""Heads that train together come out as one at a time does, and where the risk is least."""

import numpy as np
import pytest
import torch
from scipy import optimize

from sympo import losses
from sympo.studies.text import heads

PAIRS, FEATURES = 60, 5


@pytest.fixture
def pairs():
    """Differences of features, and labels that a hidden head gives, some of them flipped."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(PAIRS, FEATURES, generator=generator, dtype=torch.float64)
    truth = torch.randn(FEATURES, generator=generator, dtype=torch.float64)
    flipped = torch.rand(PAIRS, generator=generator) < 0.2
    return inputs, torch.where(flipped, -1.0, 1.0) * (inputs @ truth).sign()


def train_alone(inputs, labels, head, *, epochs, batch, seed):
    """One head, by a loop that knows nothing of the others."""
    weights = torch.zeros(inputs.shape[1], dtype=inputs.dtype, requires_grad=True)
    options = {"lr": head.learning_rate, "weight_decay": head.weight_decay}
    optimiser = torch.optim.AdamW([weights], **options)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=generator)
        for start in range(0, len(labels), batch):
            rows = order[start : start + batch]
            risk = losses.get(head.loss).fn(labels[rows] * (inputs[rows] @ weights)).mean()
            optimiser.zero_grad()
            risk.backward()
            optimiser.step()
    return weights.detach()


def test_every_column_is_as_if_trained_alone(pairs):
    inputs, labels = pairs
    settings = ((0.01, 0.0), (0.03, 1.0))
    # each loss twice, and not side by side
    columns = [heads.Head(loss, *setting) for setting in settings for loss in losses.LOSSES]
    # every other head is told the contrary
    signs = torch.tensor([(-1.0) ** at for at in range(len(columns))], dtype=torch.float64)
    sizes = {"epochs": 4, "batch": 25, "seed": 7}
    *_, weights = heads.train_heads(inputs, labels[:, None] * signs, columns, **sizes)
    for at, column in enumerate(columns):
        alone = train_alone(inputs, labels * signs[at], column, **sizes)
        torch.testing.assert_close(weights[:, at], alone, rtol=1e-9, atol=1e-12)
    assert weights.abs().max() > 0.01


@pytest.mark.parametrize("loss", ["logistic", "square"])
def test_a_long_training_ends_at_the_least_risk(pairs, loss):
    inputs, labels = pairs
    sizes = {"epochs": 1500, "batch": PAIRS, "seed": 0}
    *_, weights = heads.train_heads(inputs, labels[:, None], [heads.Head(loss, 0.01, 0.0)], **sizes)

    def risk(candidate):
        margins = labels.numpy() * (inputs.numpy() @ candidate)
        values = np.logaddexp(0, -margins) if loss == "logistic" else (1 - margins) ** 2
        return values.mean()

    least = optimize.minimize(risk, np.zeros(FEATURES), tol=1e-10)
    np.testing.assert_allclose(weights[:, 0], least.x, atol=2e-3)


def test_an_epoch_sees_every_pair_once():
    orders = heads.order_of_pairs(10, seed=3)
    first, second = next(orders), next(orders)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()
    assert first.tolist() == next(heads.order_of_pairs(10, seed=3)).tolist()


def test_a_tie_is_half_an_outcome():
    assert heads.outcomes(torch.tensor([-0.1, 0.0, 2.0])).tolist() == [0.0, 0.5, 1.0]
    assert heads.outcomes(torch.tensor([torch.nan])).isnan().all()
