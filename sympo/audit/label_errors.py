"""Label errors by cross-validation: a classifier of words, and what cleanlab makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sympo.audit.rates import Rate, rate_from_scores, share
from sympo.stats import Interval

__all__ = ["FEWEST_PAIRS", "LabelErrors", "find_label_errors", "word_differences"]

FEWEST_PAIRS = 200  # ours: with fewer, five folds learn nothing from words
_FOLDS = 5
_WORD_FEATURES = 2**15
_RESAMPLES = 50  # ours: of a standard error; it is then within a tenth


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


def word_differences(chosen: Sequence[str], rejected: Sequence[str]) -> Any:
    """Features of pairs, φ(chosen) − φ(rejected), `(pairs, features)`, sparse.

    φ is log(1 + count) of each word, by hash, and the logarithm of the length.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        n_features=_WORD_FEATURES, norm=None, alternate_sign=False, token_pattern=r"(?u)\b\w+\b"
    )
    words = vectorizer.transform(chosen).log1p() - vectorizer.transform(rejected).log1p()
    lengths = [[np.log1p(len(text)) for text in texts] for texts in (chosen, rejected)]
    difference = sparse.csr_matrix((np.array(lengths[0]) - np.array(lengths[1]))[:, None])
    return sparse.hstack([words, difference], format="csr")


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
        ValueError: fewer than 200 pairs.
    Source: Northcutt, Jiang and Chuang 2021 for cleanlab's figure; `rates.rate_from_scores`.
    Check: tests/library/test_audit_rates.py.
    """
    from cleanlab.filter import find_label_issues
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    pairs = differences.shape[0]
    if pairs < FEWEST_PAIRS:
        raise ValueError(
            f"{pairs} pairs are too few for cross-validation: give {FEWEST_PAIRS} or more"
        )
    generator = np.random.default_rng([seed, 1])
    signs = generator.choice([-1, 1], pairs)
    groups = np.arange(pairs) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    folds = generator.permutation(groups.max() + 1)[groups] % _FOLDS
    turned = (
        differences.multiply(signs[:, None]).tocsr()
        if _is_sparse(differences)
        else (differences * signs[:, None])
    )
    model = LogisticRegression(C=strength, fit_intercept=False, max_iter=200)
    probabilities = cross_val_predict(
        model, turned, signs, cv=PredefinedSplit(folds), method="predict_proba"
    )
    scores = np.log(probabilities[:, 1] / probabilities[:, 0])
    classes = (signs > 0).astype(int)
    suspects = find_label_issues(
        classes, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    right = np.where(scores == 0, 0.5, np.sign(scores) == signs)
    rates = (
        *rate_from_scores(signs, scores, clusters=clusters),
        _ask_cleanlab(classes, probabilities, groups, generator),
    )
    return LabelErrors(share(right, clusters), rates, np.asarray(suspects))


def _is_sparse(matrix: Any) -> bool:
    return not isinstance(matrix, np.ndarray)


def _ask_cleanlab(
    classes: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    groups: NDArray[np.int64],
    generator: np.random.Generator,
) -> Rate:
    """The share of labels that cleanlab would turn over, with a bootstrap interval."""
    from cleanlab.count import estimate_joint

    def estimate(rows: Any) -> float:
        joint = estimate_joint(classes[rows], probabilities[rows])
        return float(joint[0, 1] + joint[1, 0])

    # Whole prompts are drawn: sorted by prompt, each is a stretch of rows.
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    whole = estimate(slice(None))
    drawn = [
        estimate(np.concatenate([parts[i] for i in generator.integers(0, len(parts), len(parts))]))
        for _ in range(_RESAMPLES)
    ]
    half = 1.96 * float(np.std(drawn, ddof=1))
    return Rate(
        "label errors, cleanlab",
        "upper bound",
        Interval(min(whole, 0.5), 0.0, min(whole + half, 0.5), len(classes)),
        "The share of labels that cleanlab's confident joint would turn over: wrong labels, and "
        "pairs that the classifier cannot decide. On features that do not decide every pair it "
        "reads too high, also where the labels are clean.",
    )
