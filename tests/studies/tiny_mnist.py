"""A stand-in for MNIST that a network learns in seconds, and runs of its size."""

import numpy as np

from sympo.studies import sources
from sympo.studies.mnist import MnistRun, NoiseRun

TRAINING = {
    "seed": 3,
    "epochs": 2,
    "eval_every": 1,
    "pairs": 96,
    "validation_pairs": 24,
    "batch": 32,
    "learning_rate": 1e-3,
    "class_prior": 0.5,
}


def make_run(method: str = "sigmoid", rate: float = 0.4, **changes) -> MnistRun:
    values = {
        **TRAINING,
        "study": "mnist_losses",
        "method": method,
        "noise": f"symmetric-{rate:g}",
        "rate_pos": rate,
        "rate_neg": rate,
    }
    return MnistRun(**{**values, **changes})


def make_noise_run(condition: str, rate_pos: float, rate_neg: float, **changes) -> NoiseRun:
    values = {
        **TRAINING,
        "study": "mnist_noise",
        "method": "sigmoid",
        "noise": f"{condition}-{rate_pos:g}-{rate_neg:g}",
        "rate_pos": rate_pos,
        "rate_neg": rate_neg,
        "condition": condition,
        "noise_pair": f"{rate_pos:g}-{rate_neg:g}",
        "first_rate": 0.9 if condition == "tied" else None,
    }
    return NoiseRun(**{**values, **changes})


def banded_digits(train: int = 400, test: int = 200) -> sources.MNIST:
    """Dark noise with a bright band whose height is the digit."""
    count = train + test
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (count, 28, 28), dtype=np.uint8)
    digits = generator.integers(0, 10, count).astype(np.uint8)
    for image, digit in zip(images, digits, strict=True):
        image[2 * digit + 4 : 2 * digit + 6] = 250
    parts = (images[:train], digits[:train], images[train:], digits[train:])
    return sources.MNIST(*parts, "made up", "none")
