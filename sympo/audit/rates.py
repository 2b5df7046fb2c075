"""Noise rates: by each route that data allow, what the route assumes, and when that fails.

No route reads a noise rate off single labels of pairs without a premise: the same labels come from
sharper preferences with more noise (theory T6). So every `Rate` says what it assumes, and warns
where the data contradict it.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from scipy import stats as scipy_stats
from scipy.special import expit

from sympo._formats import read_flip
from sympo.noise import check_labels
from sympo.rating import rate_from_agreement
from sympo.stats import Interval, clustered_mean, wilson

__all__ = [
    "CLOSE_PAIRS",
    "FEW_CLUSTERS",
    "Rate",
    "rate_from_flips",
    "rate_from_ratings",
    "rate_from_repeats",
    "rate_from_scores",
    "read_flags",
    "share",
]

# ours: with fewer, the spread between clusters is no guide to its own size
FEW_CLUSTERS = 20
CLOSE_PAIRS = (
    "With fewer than four ratings on a pair nobody can tell noise from close pairs that fresh "
    "raters decide either way (Bradley–Terry): the figure counts both."
)
_SUREST = 0.1  # the share of pairs that a classifier is surest of
_FEWEST_SUREST = 100
_GROUPS = 500


@dataclass(frozen=True)
class Rate:
    """What one route says of the noise rate.

    Attributes:
        route: its name.
        kind: whether `interval` holds the rate by the route's premise ("estimate"), only bounds it
            from above ("upper bound"), or counts flips that the file declares ("count").
        interval: with its 95% limits, from n ratings, pairs or triangles; None where the data give
            none, and `warnings` then says why.
        assumes: the premise, in a sentence.
        warnings: what in the data contradicts the premise, or keeps it from being checked.
        refuted: whether the data contradict the premise, or lack a sign of it that they would show.
    """

    route: str
    kind: Literal["estimate", "upper bound", "count"]
    interval: Interval | None
    assumes: str
    warnings: tuple[str, ...] = ()
    refuted: bool = False


def share(values: ArrayLike, clusters: ArrayLike | None = None) -> Interval:
    """The share of ones with its 95% interval: Wilson's, or by cluster where clusters repeat.

    Args:
        values: `(n,)` of 0 and 1; ½ counts half.
        clusters: `(n,)`, such as the prompt of each pair.
    Raises:
        ValueError: no value.
    Check: tests/library/test_audit_rates.py, by simulated coverage.
    """
    values = np.asarray(values, dtype=float)
    if clusters is not None and len(np.unique(clusters)) < len(values):
        return _share_by_cluster(values, clusters, most=len(values))
    return wilson(float(values.sum()), len(values))


def _share_by_cluster(values: NDArray[np.float64], clusters: ArrayLike, *, most: int) -> Interval:
    """Wilson's interval for as many independent values as have the mean's standard error.

    A symmetric interval fails near 0 and 1, where clusters that differ from the rest are few and
    often none is seen; without a spread, a cluster counts as one value. There are `most` at most.
    """
    if len(np.unique(clusters)) == 1:
        # Nothing shows how clusters differ: the one counts as one value.
        return wilson(float(values.mean()), 1)._replace(n=len(values))
    mean = clustered_mean(values, clusters)
    t = scipy_stats.t.isf(0.025, mean.n - 1)
    error = (mean.high - mean.estimate) / t
    size = float(mean.n)
    if error > 0:
        z = scipy_stats.norm.isf(0.025)
        # t and z: the error is an estimate too, of G − 1 degrees of freedom (Korn and Graubard).
        size = mean.estimate * (1 - mean.estimate) / error**2 * (z / t) ** 2
    independent = int(np.clip(size, 1, most))
    return wilson(mean.estimate * independent, independent)._replace(
        estimate=mean.estimate, n=len(values)
    )


def read_flags(name: str, values: ArrayLike) -> list[bool | None]:
    """Each value as a bool, or as None where it is unknown.

    Args:
        name: what the message calls the values.
        values: `(n,)` of bool, 0 and 1; None, NaN and pandas' NA are unknown.
    Raises:
        ValueError: any other value.
    """
    return [_read_flag(name, value) for value in np.asarray(values, dtype=object)]


def _read_flag(name: str, value: Any) -> bool | None:
    value = value.item() if isinstance(value, np.generic) else value
    # By its name, since pandas is none of the library's packages.
    if type(value).__name__ == "NAType":
        return None
    if isinstance(value, float):
        # In pandas a column of 0 and 1 with gaps holds floats.
        value = None if math.isnan(value) else int(value) if value.is_integer() else value
    return read_flip(value, name=name)


def rate_from_flips(flips: ArrayLike) -> Rate:
    """The share of rows that the file itself declares flipped.

    Args:
        flips: `(rows,)` of bool, 0 and 1; None, NaN and pandas' NA are unknown and left out.
    Raises:
        ValueError: any other value.
    """
    known = [flip for flip in read_flags("flips", flips) if flip is not None]
    counted = share(known) if known else None
    most = counted is not None and counted.low > 0.5
    return Rate(
        "declared flips",
        "count",
        counted,
        "The column is_flipped is right. It says which labels were flipped on purpose, and nothing "
        "of errors that were there before.",
        ("More than half of the labels are declared wrong: check the column is_flipped.",) * most,
        refuted=most,
    )


def rate_from_repeats(plus: ArrayLike, minus: ArrayLike) -> Rate:
    """The noise rate from pairs that were rated several times: agreement = (1−ε)² + ε².

    Args:
        plus, minus: `(pairs,)`, how often each of the two answers won; at least two ratings a pair.
    Raises:
        ValueError: a pair with fewer than two ratings.
    Source: theory T14. Check: tests/library/test_audit_rates.py, by simulated coverage.
    """
    plus, minus = np.asarray(plus, dtype=float), np.asarray(minus, dtype=float)
    n = plus + minus
    if not len(n) or n.min() < 2:
        raise ValueError("plus + minus must be at least 2 for each pair: leave single ratings out")
    agreement = (plus * (plus - 1) + minus * (minus - 1)) / (n * (n - 1))
    if n.max() == 2:
        interval = wilson(float(agreement.sum()), len(agreement))
    else:
        # A pair of more ratings tells more than one value would: its spread says how much.
        ratings = int((n * (n - 1) / 2).sum())  # pairs of them
        interval = _share_by_cluster(agreement, np.arange(len(agreement)), most=ratings)
    warnings = [_chance_warning(interval)] if interval.high < 0.5 else []
    varies = _error_varies(plus, minus)
    if varies:
        warnings.append(
            "Pairs differ in how often their ratings disagree, by more than one noise rate "
            "allows: close pairs are rated by taste, and the figure counts that as noise."
        )
    elif varies is None:
        warnings.append(CLOSE_PAIRS)
    return Rate(
        "repeated comparisons",
        "estimate",
        rate_from_agreement(interval, "same"),
        "The ratings of a pair are independent, err at one rate, and its right answer is the same "
        "each time.",
        tuple(warnings),
        refuted=bool(varies) or interval.high < 0.5,
    )


def _chance_warning(agreement: Interval) -> str:
    return (
        f"The ratings agree in {agreement.estimate:.0%}, less than by chance: they are not "
        "independent, or the answers were confused."
    )


def _error_varies(plus: NDArray[Any], minus: NDArray[Any]) -> bool | None:
    """Whether pq differs between pairs, p = 1 − q the chance of the first answer; None: untestable.

    At one noise rate pq = ε(1−ε) on every pair. Four ratings give an unbiased p²q² beside pq:
    E[p²q²] − E[pq]² > 0 where it varies.
    """
    n = plus + minus
    enough = n >= 4
    if enough.sum() < FEW_CLUSTERS:
        return None
    plus, minus, n = plus[enough], minus[enough], n[enough]
    first = plus * minus / (n * (n - 1))
    second = plus * (plus - 1) * minus * (minus - 1) / (n * (n - 1) * (n - 2) * (n - 3))
    pairs = len(n)
    # Pairs i ≠ j alone: the square of a mean would hold its own sampling error.
    square = (first.sum() ** 2 - (first**2).sum()) / (pairs * (pairs - 1))
    influence = second - 2 * first.mean() * first
    error = influence.std(ddof=1) / np.sqrt(pairs)
    excess = second.mean() - square
    return bool(excess > scipy_stats.norm.isf(0.01) * error)


def rate_from_ratings(agreement: ArrayLike, *, rows: ArrayLike | None = None) -> tuple[Rate, Rate]:
    """The noise rate from a sample that was rated again: by raters without error, and with as much.

    Args:
        agreement: `(ratings,)`, +1 where a rating agrees with the label, −1 where it contradicts
            it, 0 for a tie, which is left out.
        rows: `(ratings,)`, the row that each rating is of, where some have several raters.
    Returns:
        1 − agreement, for raters who make no errors; and ε of (1−ε)² + ε² = agreement, for raters
        who err as often as the labels do. Careful raters lie between the two.
    Raises:
        ValueError: other values, or no rating that is not a tie.
    Source: theory T14. Check: tests/library/test_audit_rates.py, by simulated coverage.
    """
    agreement = np.asarray(agreement)
    if not np.isin(agreement, (-1, 0, 1)).all() or not (agreement != 0).any():
        raise ValueError(
            "ratings must be +1, −1 or 0 (a tie), with at least one that is not a tie: rate a "
            "sample of the rows"
        )
    decided = agreement != 0
    clusters = None if rows is None else np.asarray(rows)[decided]
    agrees = share(agreement[decided] > 0, clusters)
    ties = int((~decided).sum())
    warnings = [f"{ties} ties are left out."] if ties else []
    exchanged = agrees.high < 0.5
    if exchanged:
        warnings.append(_chance_warning(agrees))
    close = "and right answers that do not change: a close pair that raters decide either way "
    return (
        Rate(
            "ratings, if the raters make no errors",
            "estimate",
            rate_from_agreement(agrees, 0.0),
            f"Raters without errors, on rows drawn at random, {close}counts as noise.",
            tuple(warnings),
            exchanged,
        ),
        Rate(
            "ratings, if the raters err as often as the labels",
            "estimate",
            rate_from_agreement(agrees, "same"),
            f"Raters who err at the labels' own rate, independently of them, {close}counts as "
            "noise.",
            tuple(warnings),
            exchanged,
        ),
    )


def rate_from_scores(
    labels: ArrayLike, scores: ArrayLike, *, clusters: ArrayLike | None = None
) -> tuple[Rate, Rate]:
    """The noise rate from a classifier's mistakes on the pairs that it is surest of.

    Where flips do not depend on the pair, noisy agreement on any pairs that were picked without
    their labels is (1−2ε)·accuracy + ε ≤ 1 − ε. So ε is at most the disagreement, and it is the
    disagreement if the classifier is always right there.

    Args:
        labels: `(pairs,)` of ±1.
        scores: `(pairs,)`, the classifier's log-odds of +1 against −1, from a fit that has not seen
            the pair. The tenth with the largest |score| counts, 100 pairs at least.
        clusters: `(pairs,)`, such as the prompt of each pair.
    Returns:
        the upper bound (its interval begins at 0; its upper limit has one-sided level 95%), and the
        estimate for a classifier that is right.
    Raises:
        ValueError: labels that `sympo.noise.check_labels` refuses.
    Source: theory T13; anchor points, Liu and Tao 2016.
    Check: tests/library/test_audit_rates.py, by simulated coverage, on MNIST too.
    """
    labels = check_labels(labels)
    scores = np.asarray(scores, dtype=float)
    size = np.abs(scores)
    count = min(len(size), max(_FEWEST_SUREST, round(_SUREST * len(size))))
    order = np.argsort(-size, kind="stable")
    surest = order[:count]
    wrong = np.where(scores == 0, 0.5, np.sign(scores) != labels)
    groups = None if clusters is None else np.asarray(clusters)
    estimate = share(wrong[surest], None if groups is None else groups[surest])
    warnings, refuted = _judge_classifier(wrong, scores, groups)
    # Of a symmetric interval, 1.645/1.96 of the upper half.
    ratio = float(scipy_stats.norm.isf(0.05) / scipy_stats.norm.isf(0.025))
    high = min(0.5, estimate.estimate + ratio * (estimate.high - estimate.estimate))
    bound = Interval(min(estimate.estimate, 0.5), 0.0, high, estimate.n)
    premise = "Flips do not depend on what the classifier sees, such as the answers' lengths"
    return (
        Rate(
            "label errors, bound",
            "upper bound",
            bound,
            f"{premise}. Nothing is assumed of the classifier.",
        ),
        Rate(
            "label errors, if the classifier is right",
            "estimate",
            estimate,
            f"{premise}, and on the tenth of the pairs that the classifier is surest of it is "
            "always right. Single labels cannot show that: weak features on clean labels look the "
            "same as strong ones on noisy labels (theory T6).",
            warnings,
            refuted,
        ),
    )


def _judge_classifier(
    wrong: NDArray[Any], scores: NDArray[np.float64], clusters: NDArray[Any] | None
) -> tuple[tuple[str, ...], bool]:
    """What speaks against a classifier that is always right on the pairs that it is surest of."""
    everywhere = share(1 - wrong, clusters)
    if everywhere.low <= 0.5:
        return (
            f"Its accuracy on labels it has not seen is {everywhere.estimate:.3f} "
            f"({everywhere.low:.3f} to {everywhere.high:.3f}): the features predict nothing, and "
            "the premise fails.",
        ), True
    if not _levels_off(wrong, scores):
        return (
            "Agreement rises with sureness as it does for weak features on clean labels, and no "
            "level shows: nothing says that the classifier is ever always right. Take the bound.",
        ), True
    return (), False


def _levels_off(wrong: NDArray[Any], scores: NDArray[np.float64]) -> bool:
    """Whether agreement has a level below 1: δ > 0 in P(wrong) = δ + (1−2δ)·σ(−a|score|).

    By the likelihood ratio to δ = 0, at level .05. A classifier that is right for certain leaves
    δ = ε; one that is right ever more often, as in Bradley–Terry, leaves δ = 0.
    """
    # In groups of equal sureness, nearly: the curve is smooth, and a fit reads it many times.
    order = np.array_split(np.argsort(np.abs(scores)), min(len(scores), _GROUPS))
    sureness = np.array([np.abs(scores[group]).mean() for group in order])
    errors = np.array([wrong[group].sum() for group in order])
    rights = np.array([len(group) for group in order]) - errors

    def misfit(parameters: NDArray[np.float64]) -> float:
        level, slope = parameters
        p = level + (1 - 2 * level) * expit(-slope * sureness)
        return float(-(errors * np.log(p) + rights * np.log1p(-p)).sum())

    # The scores are log-odds of a penalised fit, so that slopes lie about 1 and above.
    slopes = (1e-9, 50 / max(float(sureness.max()), 1e-9))

    def fit(start: float, limit: float) -> float:
        bounds = [(0.0, limit), slopes]
        return float(optimize.minimize(misfit, [start, 1.0], bounds=bounds).fun)

    without = fit(0.0, 0.0)
    # Below ½, where no slope matters; from two sides, since the misfit is not convex in δ.
    level = min(fit(start, 0.499) for start in (0.05, 0.3))
    # Half of χ²₁: a level has one side only.
    return bool(2 * (without - level) > scipy_stats.chi2.isf(0.1, 1))
