"""Agreement of a rater with labels, judges and other raters, and the noise rate that follows."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sympo.judge import Comparison
from sympo.rating.ratings import Ratings, check_labels, count, mark
from sympo.stats import Interval, wilson

__all__ = [
    "Agreement",
    "NoiseRate",
    "compare_raters",
    "compare_with_judge",
    "compare_with_labels",
    "estimate_noise",
    "pairs_needed",
    "rate_from_agreement",
]

# The rater errs as often as the labels do, or at a rate that is known (0: never).
RaterError = float | Literal["same"]

# of the bootstrap: at this number the ends of an interval move by 0.01 from seed to seed
_DRAWS = 5000


@dataclass(frozen=True)
class Agreement:
    """How often two of them prefer the same answer.

    Attributes:
        names: of the two.
        agreed: the share of the pairs on which both prefer the same answer, with its Wilson
            interval; n counts the pairs on which both prefer one.
        kappa: Cohen's κ on these pairs, with its bootstrap interval.
        ties: pairs left out, since one of the two or both called it a tie.
        missing: pairs left out, since one of the two has no verdict.
        simulated: whether a program gave the ratings.
    """

    names: tuple[str, str]
    agreed: Interval
    kappa: Interval
    ties: int
    missing: int
    simulated: bool

    def __str__(self) -> str:
        """One sentence."""
        first, second = self.names
        agreed = round(self.agreed.estimate * self.agreed.n)
        text = (
            f"{first} and {second} agree on {agreed} of {count(self.agreed.n, 'pair')}, "
            f"{_show(self.agreed)}; κ = {_show(self.kappa)}; left out: "
            f"{count(self.ties, 'tie')}, {self.missing} without a verdict"
        )
        return mark(text, simulated=self.simulated)


@dataclass(frozen=True)
class NoiseRate:
    """The share of wrong labels that an agreement implies, and what was assumed of the rater."""

    rate: Interval
    assumption: str
    simulated: bool

    def __str__(self) -> str:
        """One sentence."""
        text = f"noise rate {_show(self.rate)} from {self.rate.n} pairs, if {self.assumption}"
        return mark(text, simulated=self.simulated)


def compare_with_labels(
    ratings: Ratings, *, rater: str | None = None, level: float = 0.95, seed: int = 0
) -> Agreement:
    """Agreement of a rater with the labels of preference pairs.

    κ is that of "first" and "second" as they were shown: a label always says "chosen", and against
    a constant κ is 0 whatever the agreement.

    Args:
        rater: whose ratings; may be left out where there is one.
        level: of both intervals.
        seed: of the bootstrap.
    Raises:
        ValueError: items that are no preference pairs, no pair on which both prefer an answer, and
            what `Ratings.scores` refuses.
    Check: tests/library/test_rating_agreement.py, against scikit-learn and by simulated coverage.
    """
    check_labels(ratings.items)
    # the score of the answer that was shown first
    flips = [item.swapped for item in ratings.items]
    ours = [
        1 - score if flip and score is not None else score
        for score, flip in zip(ratings.scores(rater), flips, strict=True)
    ]
    return _measure(
        ours,
        [0.0 if flip else 1.0 for flip in flips],
        names=(_name(ratings, rater), "the labels"),
        simulated=ratings.simulated,
        level=level,
        seed=seed,
    )


def compare_with_judge(
    ratings: Ratings,
    verdicts: Comparison | Sequence[float | None],
    *,
    name: str = "the judge",
    rater: str | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Agreement of a rater with a judge on the same items.

    κ is that of "`a` is better" and "`b` is better": where one policy wins nearly always, judge and
    rater agree by chance alone.

    Args:
        verdicts: `sympo.judge.compare(judge, items.prompts, items.answers_a, items.answers_b)`, or
            its scores, `(items,)`.
        name: of the judge, for the summary.
    Raises:
        ValueError: another number of scores than items, else as `compare_with_labels`.
    Check: tests/library/test_rating_agreement.py.
    """
    scores = list(verdicts.scores if isinstance(verdicts, Comparison) else verdicts)
    if len(scores) != len(ratings.items):
        raise ValueError(
            f"{name} has {len(scores)} scores for {len(ratings.items)} items: ask it about the "
            "prompts and answers of the items"
        )
    return _measure(
        ratings.scores(rater),
        scores,
        names=(_name(ratings, rater), name),
        simulated=ratings.simulated,
        level=level,
        seed=seed,
    )


def compare_raters(
    first: Ratings, second: Ratings, *, level: float = 0.95, seed: int = 0
) -> Agreement:
    """Agreement of two raters on the same items, each given as `ratings.of(name)`.

    The labels may differ between the two, as where they were corrected in between.

    Raises:
        ValueError: other items, several raters in one of the two, or simulated ratings beside those
            of a person, else as `compare_with_labels`.
    Check: tests/library/test_rating_agreement.py.
    """
    # the sum refuses other items, and one rater twice
    simulated = (first + second).simulated
    # of the same `a`, which another label makes `b`
    theirs = Ratings(first.items, second.ratings)
    return _measure(
        first.scores(),
        theirs.scores(),
        names=(_name(first, None), _name(second, None)),
        simulated=simulated,
        level=level,
        seed=seed,
    )


def estimate_noise(agreement: Agreement, *, rater_error: RaterError = 0.0) -> NoiseRate:
    """The share ε of wrong labels, from a rater's agreement A with them.

    With errors that are independent of each other, A = (1 − ε)(1 − ρ) + ε·ρ, where ρ is the
    rater's own error rate: ε = 1 − A for a rater without error, and for one who errs as often as
    the labels do A = (1 − ε)² + ε², so ε = (1 − √(2A − 1))/2. Both see the same truth: where the
    better answer itself is a toss, as in Bradley–Terry on close pairs, disagreement is no noise.

    Args:
        rater_error: ρ, in [0, ½), or "same".
    Returns:
        the interval is that of A, read through the formula.
    Raises:
        ValueError: rater_error is neither.
    """
    rate = rate_from_agreement(agreement.agreed, rater_error)
    return NoiseRate(rate, _describe_error(rater_error), agreement.simulated)


def rate_from_agreement(agreed: Interval, rater_error: RaterError) -> Interval:
    """The interval of ε that an interval of the agreement A implies, as in `estimate_noise`.

    Args:
        agreed: A, of a rater with the labels or of two labels of the same pair.
        rater_error: ρ, in [0, ½), or "same".
    Raises:
        ValueError: rater_error is neither.
    Source: theory T14. Check: tests/library/test_audit_rates.py, by simulated coverage.
    """
    _check_error(rater_error)
    # more agreement is less noise
    return Interval(
        estimate=_read_rate(agreed.estimate, rater_error),
        low=_read_rate(agreed.high, rater_error),
        high=_read_rate(agreed.low, rater_error),
        n=agreed.n,
    )


def pairs_needed(
    half_width: float, *, noise_rate: float, rater_error: RaterError = 0.0, level: float = 0.95
) -> int:
    """How many pairs with a verdict give an interval of ε of ± `half_width`, about.

    n ≈ A(1 − A)·(z/(half_width·|dA/dε|))², where A is the agreement at `noise_rate`; it is found
    from the Wilson interval itself, which is wider for few pairs. Ties come on top.

    Raises:
        ValueError: half_width outside (0, ½), noise_rate or rater_error outside [0, ½).
    Check: tests/library/test_rating_agreement.py, by enumeration and by simulation.
    """
    if not 0 < half_width < 0.5:
        raise ValueError(f"half_width = {half_width}: give a number in (0, 0.5), such as 0.05")
    if not 0 <= noise_rate < 0.5:
        raise ValueError(f"noise_rate = {noise_rate}: give the rate that you expect, in [0, 0.5)")
    _check_error(rater_error)
    other = noise_rate if rater_error == "same" else rater_error
    share = (1 - noise_rate) * (1 - other) + noise_rate * other

    def is_enough(n: int) -> bool:
        agreed = wilson(share * n, n, level=level)
        width = _read_rate(agreed.low, rater_error) - _read_rate(agreed.high, rater_error)
        return width <= 2 * half_width

    # doubled until it is enough, and then halved down to the first that is
    enough = 1
    while not is_enough(enough):
        enough *= 2
    # from 1 on: of no pair there is no share
    return 1 + bisect_left(range(1, enough), True, key=is_enough)


def _name(ratings: Ratings, rater: str | None) -> str:
    return rater if rater is not None else " and ".join(ratings.raters) or "nobody"


def _measure(
    ours: list[float | None],
    theirs: list[float | None],
    *,
    names: tuple[str, str],
    simulated: bool,
    level: float,
    seed: int,
) -> Agreement:
    """The agreement of two lists of scores, `(items,)` each."""
    pairs = list(zip(ours, theirs, strict=True))
    missing = sum(None in pair for pair in pairs)
    decided = [pair for pair in pairs if not {None, 0.5} & {*pair}]
    ties = len(pairs) - missing - len(decided)
    if not decided:
        raise ValueError(
            f"{names[0]} and {names[1]} both prefer an answer on no pair ({count(ties, 'tie')}, "
            f"{missing} without a verdict): rate more pairs"
        )
    # how often each pair of verdicts came, (ours, theirs)
    table = np.zeros((2, 2))
    np.add.at(table, tuple(np.array(decided, dtype=int).T), 1)
    agreed = wilson(float(np.trace(table)), len(decided), level=level)
    kappa = _bound_kappa(table, level=level, seed=seed)
    return Agreement(names, agreed, kappa, ties, missing, simulated)


def _bound_kappa(table: NDArray[np.float64], *, level: float, seed: int) -> Interval:
    """Cohen's κ of a table of counts, with its bootstrap interval.

    To draw the pairs again is to draw the four counts. Half a pair is added to each of them first:
    where all agree, the pairs alone are never drawn otherwise, and the interval has no width. At 20
    pairs of which 97% agree it held κ 98 times in 100, and 47 without.
    """
    n = int(table.sum())
    estimate = float(_kappa(table))
    if np.isnan(estimate):
        return Interval(estimate, np.nan, np.nan, n)
    shares = (table + 0.5) / (n + 2)
    drawn = np.random.default_rng(seed).multinomial(n, shares.ravel(), size=_DRAWS)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.nanquantile(_kappa(drawn.reshape(-1, 2, 2)), tails)
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), n)


def _kappa(tables: NDArray[Any]) -> NDArray[np.float64]:
    """Cohen's κ of tables of counts, `(…, 2, 2)`; NaN where both always say the same one word."""
    shares = tables / tables.sum((-2, -1), keepdims=True)
    agreed = np.trace(shares, axis1=-2, axis2=-1)
    by_chance = (shares.sum(-1) * shares.sum(-2)).sum(-1)
    with np.errstate(invalid="ignore"):
        return np.asarray((agreed - by_chance) / (1 - by_chance))


def _read_rate(agreed: float, rater_error: RaterError) -> float:
    """The noise rate at which a rater agrees with the labels so often."""
    if rater_error == "same":
        return (1 - math.sqrt(max(2 * agreed - 1, 0.0))) / 2
    rate = (1 - agreed - rater_error) / (1 - 2 * rater_error)
    return min(max(rate, 0.0), 1.0)


def _check_error(rater_error: RaterError) -> None:
    if rater_error == "same":
        return
    if not (isinstance(rater_error, (int, float)) and 0 <= rater_error < 0.5):
        raise ValueError(f"rater_error = {rater_error!r}: give a rate in [0, 0.5), or 'same'")


def _describe_error(rater_error: RaterError) -> str:
    if rater_error == "same":
        return "the rater errs as often as the labels do"
    if rater_error == 0:
        return "the rater never errs"
    return f"the rater errs at the rate {rater_error:g}"


def _show(interval: Interval) -> str:
    if math.isnan(interval.estimate):
        return "undefined"
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
