"""Preferences whose flips are known, for each route of `sympo.audit` to a noise rate.

A world draws pairs from a generator, synthetic or of MNIST's digits, flips their labels at a rate,
and gives what the routes say: `{route: Rate}`.
"""

import gzip
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from sympo import audit

RATES = (0.1, 0.2, 0.3, 0.4)
SEEDS = range(20)
FLIPPED = "declared flips"
REPEATS = "repeated comparisons"
TRIANGLES = "triangles"
CLEAN = "ratings, if the raters make no errors"
SAME = "ratings, if the raters err as often as the labels"
BOUND = "label errors, bound"
SUREST = "label errors, if the classifier is right"
CLEANLAB = "label errors, cleanlab"

Answers = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def sigmoid(gap):
    return 1 / (1 + np.exp(-gap))


def flip(labels, rate, generator):
    return np.where(generator.random(np.shape(labels)) < rate, -labels, labels)


def draw_synthetic(generator, count):
    """Rewards of `count` answers, and features that give them exactly."""
    features = generator.normal(size=(count, 10))
    return features @ np.linspace(1, 2, 10), features


@cache
def read_mnist():
    """Digits of MNIST's training images, and how ten linear rules trained on others rate them."""
    folder = Path(os.environ["SYMPO_DATA"]) / "mnist"

    def read(name, offset):
        return np.frombuffer(gzip.decompress((folder / name).read_bytes())[offset:], np.uint8)

    def embed(images):
        # Quarters of the resolution, and random units: a linear rule on them is right in 95%.
        small = images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196) / 255
        units = np.random.default_rng(0).normal(size=(196, 400))
        return np.maximum(small @ units / 4, 0)

    digits = read("train-labels-idx1-ubyte.gz", 8)[:30_000].astype(int)
    images = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:30_000]
    # What an embedding is to a text: learned elsewhere, and no part of the comparisons.
    others = embed(read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28))
    classes = np.eye(10)[read("t10k-labels-idx1-ubyte.gz", 8)]
    rules = np.linalg.solve(others.T @ others + 10 * np.eye(400), others.T @ classes)
    return digits, 5 * embed(images) @ rules


def draw_mnist(generator, count):
    """Digits of `count` images, none twice, and their features; the larger digit is preferred."""
    digits, features = read_mnist()
    drawn = generator.permutation(len(digits))[:count]
    return digits[drawn].astype(float), features[drawn]


def draw_pairs(draw: Answers, generator, count):
    """Right labels of pairs of two unequal answers each, and differences of features."""
    rewards, features = draw(generator, 2 * count + count // 2)
    gaps = rewards[0::2] - rewards[1::2]
    unequal = np.flatnonzero(gaps)[:count]
    return np.sign(gaps[unequal]).astype(int), (features[0::2] - features[1::2])[unequal]


def rate_flips(draw, rate, generator):
    truth, _ = draw_pairs(draw, generator, 1000)
    return [audit.rate_from_flips(flip(truth, rate, generator) != truth)]


def rate_repeats(draw, rate, generator):
    truth, _ = draw_pairs(draw, generator, 1000)
    plus = sum((flip(truth, rate, generator) > 0).astype(int) for _ in range(2))
    return [audit.rate_from_repeats(plus, 2 - plus)]


def rate_triangles(draw, rate, generator, *, link=sigmoid, prompts=200, answers=4, labels=100):
    rewards, _ = draw(generator, prompts * answers)
    first, second = np.triu_indices(answers, 1)
    shift = answers * np.arange(prompts)[:, None]
    first, second = (first + shift).ravel(), (second + shift).ravel()
    p = link(rewards[first] - rewards[second])
    plus = generator.binomial(labels, rate + (1 - 2 * rate) * p)
    return [audit.rate_from_triangles(first, second, plus, labels - plus, prompts=first // answers)]


def rate_ratings(draw, rate, generator):
    truth, _ = draw_pairs(draw, generator, 400)
    labels = flip(truth, rate, generator)
    clean, _ = audit.rate_from_ratings(labels * truth)
    _, same = audit.rate_from_ratings(labels * flip(truth, rate, generator))
    return [clean, same]


def rate_label_errors(draw, rate, generator):
    truth, differences = draw_pairs(draw, generator, 3000)
    labels = flip(truth, rate, generator)
    found = audit.find_label_errors(differences * labels[:, None], strength=1.0)
    return found.rates


WORLDS = (rate_flips, rate_repeats, rate_triangles, rate_ratings, rate_label_errors)


def try_route(world, draw):
    """`{route: {rate: [Rate of each seed]}}`."""
    tried = {}
    for rate in RATES:
        for seed in SEEDS:
            # The tenths of the rate keep draws of different rates apart.
            generator = np.random.default_rng([seed, round(10 * rate)])
            for found in world(draw, rate, generator):
                tried.setdefault(found.route, {}).setdefault(rate, []).append(found)
    return tried


def covers(found, rate):
    return found.interval is not None and found.interval.low <= rate <= found.interval.high
