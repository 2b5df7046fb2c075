"""Label noise: flips of ±1 preference labels with explicit, reproducible randomness.

A flip compares one uniform number per pair with a rate, so the flips at a low rate are a subset of
those at a higher one, and every method of one seed sees the same flips.
"""

import hashlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class UniformSource(Protocol):
    """Anything with numpy's `random(size)`: a `numpy.random.Generator` or a `RowGenerator`."""

    def random(self, size: int) -> NDArray[np.float64]: ...


def _plain(key: object) -> object:
    # numpy's scalars print differently from one numpy to the next, and unlike the Python numbers
    # that they equal.
    if isinstance(key, tuple):
        return tuple(map(_plain, key))
    return key.item() if isinstance(key, np.generic) else key


class RowGenerator:
    """Uniform numbers keyed by row: a row's number depends on (its key, seed) and not on the other
    rows.

    numpy's generators number rows by position, so that dropping one row would redraw all that
    follow it.

    Args:
        keys: one str, bytes, int or tuple per row; rows with equal keys draw equal numbers.
        seed: another seed gives independent numbers.
    """

    def __init__(self, keys: Iterable, seed: int):
        self._keys = [repr(_plain(key)).encode() for key in keys]
        self._salt = f"{seed}".encode()
        self._draw = 0

    def random(self, size: int) -> NDArray[np.float64]:
        """The next `(size,)` uniform numbers in [0, 1); `size` must be the number of keys."""
        if size != len(self._keys):
            raise ValueError(
                f"asked for {size} uniform numbers, but there are {len(self._keys)} row keys"
            )
        salt = self._salt + f":{self._draw}".encode()
        self._draw += 1
        digests = b"".join(
            hashlib.blake2b(key, digest_size=8, key=salt).digest() for key in self._keys
        )
        return (np.frombuffer(digests, dtype="<u8") >> np.uint64(11)) * 2.0**-53


def check_rates(rate_pos: float, rate_neg: float) -> None:
    """Refuse noise that no method can learn from.

    Raises:
        ValueError: a rate lies outside [0, 1), or `rate_pos + rate_neg >= 1`.
    """
    for field, rate in (("rate_pos", rate_pos), ("rate_neg", rate_neg)):
        if not 0 <= rate < 1:
            raise ValueError(f"{field} = {rate} is not a noise rate: give a number in [0, 1)")
    if rate_pos + rate_neg >= 1:
        raise ValueError(
            f"rate_pos + rate_neg = {rate_pos + rate_neg:g} ≥ 1: the noisy label no longer points to the true one, "
            "so nothing can be learned from it; give rates whose sum is below 1"
        )


def _check_labels(labels: ArrayLike) -> NDArray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.isin(labels, (-1, 1)).all():
        raise ValueError("labels must be one-dimensional and hold only −1 and +1")
    return labels


def _check_longer(longer: ArrayLike, labels: NDArray) -> NDArray:
    longer = np.asarray(longer)
    if longer.shape != labels.shape or not np.isin(longer, (-1, 1)).all():
        raise ValueError(f"longer must hold −1 or +1 for each of the {len(labels)} labels")
    return longer


def flip(labels: ArrayLike, rate_pos: float, rate_neg: float, generator: UniformSource) -> NDArray:
    """Noisy labels ỹ, with P(ỹ=−1 | y=+1) = rate_pos and P(ỹ=+1 | y=−1) = rate_neg.

    Args:
        labels: `(pairs,)` of −1 and +1.
        generator: gives one uniform number per pair, whatever the rates.
    Returns:
        `(pairs,)`, dtype of `labels`.
    Raises:
        ValueError: labels other than ±1, or rates that `check_rates` refuses.
    Source: Equation 7. Check: notebook 02, tests/test_noise.py.
    """
    check_rates(rate_pos, rate_neg)
    labels = _check_labels(labels)
    flipped = generator.random(len(labels)) < np.where(labels > 0, rate_pos, rate_neg)
    return np.where(flipped, -labels, labels)


def flip_tied(
    labels: ArrayLike,
    longer: ArrayLike,
    rate_pos: float,
    rate_neg: float,
    generator: UniformSource,
    *,
    first_rate: float,
) -> NDArray:
    """Noisy labels when the written order is tied to the pair: the longer answer stands first with
    probability w.

    The annotator errs by position: at `rate_pos` when the answer written first is the better one,
    else at `rate_neg`. So a pair flips at w·rate_pos + (1−w)·rate_neg when its longer answer wins,
    and at w·rate_neg + (1−w)·rate_pos when it loses: noise that is not symmetric, and that swapping
    pairs afterwards does not repair.

    Args:
        labels: `(pairs,)` of −1 and +1.
        longer: `(pairs,)`, +1 where a₁ is the longer answer, −1 where a₂ is.
        first_rate: w, in [0, 1]; ½ makes the order independent of the pair, as Lemma 1 asks.
    Returns:
        `(pairs,)`, in the orientation of `labels`.
    Raises:
        ValueError: as `flip`, or a `longer` that does not match the labels, or a first_rate outside
            [0, 1].
    Source: theory T2b, a counterexample to Lemma 1 outside its condition. Check: notebook 02,
    tests/test_noise.py.
    """
    if not 0 <= first_rate <= 1:
        raise ValueError(f"first_rate = {first_rate} is not a probability: give a number in [0, 1]")
    labels = _check_labels(labels)
    longer = _check_longer(longer, labels)
    written = np.where(generator.random(len(labels)) < first_rate, longer, -longer)
    return flip(labels * written, rate_pos, rate_neg, generator) * written


def equivalent_rate(rate_pos: float, rate_neg: float, prior: float) -> float:
    """The symmetric rate ε = π·rate_pos + (1−π)·rate_neg that gives the same risk (Lemma 1).

    Args:
        prior: π = P(y=+1), the share of pairs written with the true winner first, independently of
            the pair.
    Raises:
        ValueError: rates that `check_rates` refuses, a prior outside [0, 1], or ε ≥ ½.
    Source: Lemma 1. Check: notebook 02.
    """
    check_rates(rate_pos, rate_neg)
    if not 0 <= prior <= 1:
        raise ValueError(f"prior = {prior} is not a probability: give a number in [0, 1]")
    rate = prior * rate_pos + (1 - prior) * rate_neg
    if rate >= 0.5:
        raise ValueError(
            f"rate_pos = {rate_pos} and rate_neg = {rate_neg} at prior = {prior} are equivalent to symmetric noise of "
            f"rate {rate:g} ≥ ½, where a noisy label is no better than a coin; swap the order of a random half of the "
            f"pairs before annotation (prior = 0.5) to bring it to {(rate_pos + rate_neg) / 2:g}"
        )
    return rate
