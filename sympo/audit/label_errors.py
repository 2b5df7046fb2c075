"""Label errors by cross-validation: a classifier of words, and what cleanlab makes of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy import stats as scipy_stats
from scipy.special import expit

from sympo.audit.rates import Rate, rate_from_scores, share
from sympo.audit.words import Words
from sympo.stats import Interval

__all__ = ["LabelErrors", "TooFewPairsError", "find_label_errors", "word_differences"]

_FEWEST_PAIRS = 200  # ours: with fewer, five folds learn nothing from words
_FEWEST_LEFT = 100  # ours: without a fold; the rest then has both classes, too
_FOLDS = 5
_FEWEST_ANSWERS = 3  # ours: a rarer word is in no other fold
_PARTS = 10  # ours: of the jackknife; t then has nine degrees of freedom


class TooFewPairsError(ValueError):
    """Pairs of which a classifier learns nothing: the message says what to give."""


@dataclass(frozen=True)
class LabelErrors:
    """What a classifier says of labels that it has not seen.

    Attributes:
        accuracy: the share of labels that it predicts.
        rates: the bound, the estimate and cleanlab's figure.
        suspects: the pairs whose labels cleanlab lists as likely errors, the likeliest first.
    """

    accuracy: Interval
    rates: tuple[Rate, ...]
    suspects: NDArray[np.int64]


def word_differences(words: Words) -> Any:
    """Features of pairs, φ(chosen) − φ(rejected), `(pairs, features)`, sparse.

    φ is log(1 + count) of each word that three answers or more have, and the logarithm of the
    length.
    """
    answers = np.asarray((words.chosen > 0).sum(axis=0) + (words.rejected > 0).sum(axis=0)).ravel()
    known = np.flatnonzero(answers >= _FEWEST_ANSWERS)
    counts = words.chosen[:, known].log1p() - words.rejected[:, known].log1p()
    length = np.log1p(words.chosen_length) - np.log1p(words.rejected_length)
    return sparse.hstack([counts, sparse.csr_matrix(length[:, None])], format="csr")


def find_label_errors(
    differences: Any,
    *,
    clusters: ArrayLike | None = None,
    seed: int = 0,
    strength: float = 0.01,
) -> LabelErrors:
    """Noise rates and likely label errors from a logistic regression in five folds.

    A pair is turned over at random together with its label, so that there are two classes; the
    regression has no intercept, and does not see which way a pair was turned.

    Args:
        differences: `(pairs, features)`, φ(chosen) − φ(rejected), dense or sparse.
        clusters: `(pairs,)`, such as prompts: what shares one is never in two folds.
        strength: scikit-learn's C, the inverse of the penalty.
    Raises:
        ModuleNotFoundError: scikit-learn or cleanlab is missing.
        TooFewPairsError: fewer than 200 pairs, or fewer than 100 without those of a fold.
    Source: Northcutt, Jiang and Chuang 2021 for cleanlab's figure; `rates.rate_from_scores`.
    Check: tests/library/test_audit_rates.py.
    """
    from cleanlab.filter import find_label_issues
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    pairs = differences.shape[0]
    if pairs < _FEWEST_PAIRS:
        raise TooFewPairsError(
            f"{pairs} pairs are too few for cross-validation: give {_FEWEST_PAIRS} or more"
        )
    generator = np.random.default_rng([seed, 1])
    signs = generator.choice([-1, 1], pairs)
    groups = np.arange(pairs) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    folds = generator.permutation(groups.max() + 1)[groups] % _FOLDS
    parts = generator.permutation(groups.max() + 1)[groups] % _PARTS
    left = pairs - max(np.bincount(folds).max(), np.bincount(parts).max())
    if left < _FEWEST_LEFT:
        raise TooFewPairsError(
            f"all but {left} of the pairs share a few prompts: give {_FEWEST_LEFT} or more of "
            "other prompts"
        )
    turned = (
        sparse.diags(signs.astype(float)) @ differences
        if sparse.issparse(differences)
        else signs[:, None] * differences
    )
    model = LogisticRegression(C=strength, fit_intercept=False, max_iter=200)
    # Log-odds, and not the probabilities: one of these may be 0, which has no logarithm.
    scores = cross_val_predict(
        model, turned, signs, cv=PredefinedSplit(folds), method="decision_function"
    )
    probabilities = expit(np.stack([-scores, scores], axis=1))
    classes = (signs > 0).astype(int)
    suspects = find_label_issues(
        classes, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    right = np.where(scores == 0, 0.5, np.sign(scores) == signs)
    rates = (
        *rate_from_scores(signs, scores, clusters=clusters),
        _ask_cleanlab(classes, probabilities, parts),
    )
    return LabelErrors(share(right, clusters), rates, np.asarray(suspects))


def _ask_cleanlab(
    classes: NDArray[np.int64], probabilities: NDArray[np.float64], parts: NDArray[np.int64]
) -> Rate:
    """The share of labels that cleanlab would turn over, with an interval by the jackknife."""
    from cleanlab.count import estimate_joint

    def estimate(rows: Any) -> float:
        joint = estimate_joint(classes[rows], probabilities[rows])
        return float(joint[0, 1] + joint[1, 0])

    whole = estimate(slice(None))
    # The jackknife: a tenth of the prompts is left out at a time.
    without = np.array([estimate(parts != left_out) for left_out in range(_PARTS)])
    error = np.sqrt((_PARTS - 1) * np.mean((without - without.mean()) ** 2))
    half = float(error * scipy_stats.t.isf(0.025, _PARTS - 1))
    return Rate(
        "label errors, cleanlab",
        "upper bound",
        Interval(min(whole, 0.5), 0.0, min(whole + half, 0.5), len(classes)),
        "The share of labels that cleanlab's confident joint would turn over: wrong labels, and "
        "pairs that the classifier cannot decide. On features that do not decide every pair it "
        "reads too high, also where the labels are clean.",
    )
