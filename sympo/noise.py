"""Label noise: flips of ±1 preference labels with explicit, reproducible randomness.

A flip compares one uniform number per pair with a rate, so the flips at a low rate are a subset of
those at a higher one, and every method of one seed sees the same flips.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sympo._names import is_number, show

__all__ = [
    "RowGenerator",
    "UniformSource",
    "check_labels",
    "check_rate",
    "check_rates",
    "equivalent_rate",
    "flip",
    "flip_each",
    "flip_tied",
]


class UniformSource(Protocol):
    """Anything with numpy's `random(size)`: a `numpy.random.Generator` or a `RowGenerator`."""

    def random(self, size: int, /) -> NDArray[np.float64]:
        """The next `(size,)` uniform numbers in [0, 1)."""
        ...


def _to_python(key: object) -> object:
    # numpy's scalars print differently from one numpy to the next, and unlike the Python numbers
    # that they equal.
    if isinstance(key, tuple):
        return tuple(_to_python(part) for part in key)
    return key.item() if isinstance(key, np.generic) else key


class RowGenerator:
    """Uniform numbers keyed by row: a row's number depends on its key and the seed alone.

    numpy's generators number rows by position, so that dropping one row would redraw all that
    follow it.

    Args:
        keys: one str, bytes, int or tuple per row; rows with equal keys draw equal numbers. They
            are read again for each draw.
        seed: another seed gives independent numbers.
    Check: tests/library/test_noise.py.
    """

    def __init__(self, keys: Iterable[object], seed: int) -> None:
        # An iterator is used up by one draw; what can be read again need not be kept.
        self._keys = keys if isinstance(keys, Collection) else list(keys)
        self._seed = seed
        self._draw = 0

    def random(self, size: int) -> NDArray[np.float64]:
        """The next `(size,)` uniform numbers in [0, 1).

        Raises:
            ValueError: `size` is not the number of keys.
        """
        if size != len(self._keys):
            raise ValueError(
                f"asked for {size} uniform numbers, but there are {len(self._keys)} row keys"
            )
        # The number of the call is hashed too: a second draw is independent of the first.
        salt = f"{self._seed}:{self._draw}".encode()
        self._draw += 1
        # The repr, because it tells 1 from "1", and nests.
        texts = (repr(_to_python(key)).encode() for key in self._keys)
        digests = b"".join(hashlib.blake2b(t, digest_size=8, key=salt).digest() for t in texts)
        # As numpy does it: the highest 53 of 64 bits are the mantissa of a number in [0, 1).
        mantissas = np.frombuffer(digests, dtype="<u8") >> np.uint64(11)
        return mantissas.astype(np.float64) * 2.0**-53


def check_rate(noise_rate: object) -> float:
    """A rate of wrong labels ε, as a float.

    Raises:
        ValueError: it is no number in [0, ½).
    """
    if not is_number(noise_rate) or not 0 <= noise_rate < 0.5:
        raise ValueError(
            f"noise_rate = {show(noise_rate)} is out of range: give a number in [0, 0.5)"
        )
    return float(noise_rate)


def check_rates(rate_pos: float, rate_neg: float) -> None:
    """Refuse noise that no method can learn from.

    Raises:
        ValueError: a rate lies outside [0, 1), or `rate_pos + rate_neg >= 1`.
    """
    # NaN fails this comparison too.
    for field, rate in (("rate_pos", rate_pos), ("rate_neg", rate_neg)):
        if not 0 <= rate < 1:
            raise ValueError(f"{field} = {rate} is not a noise rate: give a number in [0, 1)")
    # At a sum of 1 both true labels give the same noisy ones; beyond it they are turned over.
    if rate_pos + rate_neg >= 1:
        raise ValueError(
            f"rate_pos + rate_neg = {rate_pos + rate_neg:g} ≥ 1: the noisy label no longer points "
            "to the true one, so nothing can be learned from it; give rates whose sum is below 1"
        )


def check_labels(labels: ArrayLike) -> NDArray[Any]:
    """`labels` as an array.

    Args:
        labels: `(pairs,)` of −1 and +1.
    Raises:
        ValueError: other values, another shape, or a type that has no −1.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or not _are_signs(array):
        raise ValueError(
            "labels must be one-dimensional and hold only −1 and +1, as signed integers or floats"
        )
    return array


def _are_signs(array: NDArray[Any]) -> bool:
    # Of unsigned integers −1 is 255, and a bool has none.
    return array.dtype.kind in "if" and bool(np.isin(array, (-1, 1)).all())


def _check_longer(longer: ArrayLike, labels: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(longer)
    if array.shape != labels.shape or not _are_signs(array):
        raise ValueError(
            f"longer must hold −1 or +1 for each of the {len(labels)} labels, as signed integers "
            "or floats"
        )
    return array


def flip(
    labels: ArrayLike, rate_pos: float, rate_neg: float, generator: UniformSource
) -> NDArray[Any]:
    """Noisy labels ỹ, with P(ỹ=−1 | y=+1) = rate_pos and P(ỹ=+1 | y=−1) = rate_neg.

    Args:
        labels: `(pairs,)` of −1 and +1.
        generator: gives one uniform number per pair, whatever the rates.
    Returns:
        `(pairs,)`, dtype of `labels`.
    Raises:
        ValueError: labels that `check_labels` refuses, or rates that `check_rates` does.
    Source: Equation 7. Check: notebook 02, tests/library/test_noise.py.
    """
    check_rates(rate_pos, rate_neg)
    return flip_each(labels, rate_pos, rate_neg, generator)


def flip_each(
    labels: ArrayLike, rates_pos: ArrayLike, rates_neg: ArrayLike, generator: UniformSource
) -> NDArray[Any]:
    """Noisy labels with rates of each pair's own, P(ỹ=−1 | y=+1) = rates_pos and so on.

    Where a pair's two rates are equal, the flip depends on the pair and not on who wins. If such
    rates stay below ½, they only reweight the risk of a symmetric loss.

    Args:
        labels: `(pairs,)` of −1 and +1.
        rates_pos, rates_neg: `(pairs,)`, or one number for all pairs, in [0, 1].
        generator: gives one uniform number per pair, whatever the rates.
    Returns:
        `(pairs,)`, dtype of `labels`.
    Raises:
        ValueError: labels that `check_labels` refuses, or rates outside [0, 1] or of another
            length.
    Source: theory T11. Check: notebook 13, tests/library/test_noise_each.py.
    """
    labels = check_labels(labels)
    rates = []
    for field, values in (("rates_pos", rates_pos), ("rates_neg", rates_neg)):
        array = np.asarray(values, dtype=float)
        if array.shape not in ((), labels.shape) or not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"{field} must hold a rate in [0, 1] for each of {len(labels)} labels")
        rates.append(array)
    # One number per pair whatever the rates: a pair that flips at a low rate flips at a higher one.
    flipped = generator.random(len(labels)) < np.where(labels > 0, *rates)
    return np.where(flipped, -labels, labels)


def flip_tied(
    labels: ArrayLike,
    longer: ArrayLike,
    rate_pos: float,
    rate_neg: float,
    generator: UniformSource,
    *,
    first_rate: float,
) -> NDArray[Any]:
    """Noisy labels when the longer answer is written first with probability w.

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
    Source: theory T2b, a counterexample to Lemma 1 outside its condition.
    Check: notebook 02, tests/library/test_noise.py.
    """
    if not 0 <= first_rate <= 1:
        raise ValueError(f"first_rate = {first_rate} is not a probability: give a number in [0, 1]")
    labels = check_labels(labels)
    longer = _check_longer(longer, labels)
    # +1 where a₁ is written first. The noise sees the labels in the written order, and its result
    # is turned back.
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
    # The share of flips over all pairs. The risk depends on the two rates through it alone, where
    # the written order is independent of the pair.
    rate = prior * rate_pos + (1 - prior) * rate_neg
    if rate >= 0.5:
        raise ValueError(
            f"rate_pos = {rate_pos} and rate_neg = {rate_neg} at prior = {prior} are equivalent to "
            f"symmetric noise of rate {rate:g} ≥ ½, where a noisy label is no better than a coin; "
            "swap the order of a random half of the pairs before annotation (prior = 0.5) to bring "
            f"it to {(rate_pos + rate_neg) / 2:g}"
        )
    return rate
