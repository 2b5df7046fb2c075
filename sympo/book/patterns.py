"""The machinery of notebook 13: contrasts within patterns, and what real scores show."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets

from sympo import stats
from sympo.audit.biases import predict
from sympo.studies import text

# Both epochs at which a model is measured: their names, and the columns of their accuracies.
EPOCHS = {"final": "accuracy", "chosen": "chosen_accuracy"}


def contrast_within(
    table: pd.DataFrame,
    by: str,
    between: str,
    *,
    values: Sequence[str],
    baseline: str,
    expected: int = 1,
) -> pd.DataFrame:
    """Each of `values` minus `baseline`, within each value of the column `by`, paired by seed.

    Holm corrects over all rows of one epoch, since any of them could be the one reported.

    Args:
        table: a row per model, with the columns `by`, `between`, seed and those of `EPOCHS`.
        between: the column that holds `values` and `baseline`.
        expected: the sign of the difference that the verdict is about.
    Returns:
        columns epoch, `by`, `between`, then those of `stats.contrasts`, and verdict.
    Check: tests/book/test_patterns.py.
    """
    tables = []
    for epoch, value in EPOCHS.items():
        named = {"value": value, "method": between, "methods": values, "baselines": [baseline]}
        parts = {key: stats.contrasts(rows, **named) for key, rows in table.groupby(by, sort=False)}
        renamed = {key: part.rename(columns={"method": between}) for key, part in parts.items()}
        joined = pd.concat(renamed, names=[by]).reset_index(by).reset_index(drop=True)
        # of one or two seeds there is no p to correct
        tested = joined.p.notna().all()
        joined["p_holm"] = stats.holm(joined.p) if tested else np.nan
        verdicts = [stats.verdict(row, expected=expected) for row in joined.itertuples()]
        tables.append(joined.assign(epoch=epoch, verdict=verdicts))
    result = pd.concat(tables, ignore_index=True)
    first = ["epoch", by, between]
    return result[[*first, *result.columns.drop(first)]]


class ScorePattern(NamedTuple):
    """What the scores of real comparisons show.

    Attributes:
        longer: a row per third of the pairs by their gap: columns gap, largest (the largest gap of
            the third), estimate, low, high (the share in which the longer answer is chosen), n.
        pairs: how many have scores.
        closest: the share of flips that inattention would put on the closest third.
    """

    longer: pd.DataFrame
    pairs: int
    closest: float


def read_score_pattern(*, most: int, mean_rate: float) -> ScorePattern:
    """How often UltraFeedback prefers the longer answer, by how far apart the scores are.

    Args:
        most: pairs of each file.
        mean_rate: of flips at σ(−gap/T).
    Raises:
        AssetError: the files cannot be had.
    Check: tests/book/test_patterns.py.
    """
    corpus = text.load("ultrafeedback", most=most)
    pairs = concatenate_datasets([corpus.train, corpus.test])
    return find_score_pattern(
        np.array(pairs["gap"], dtype=float), _measure_lengths(pairs), mean_rate=mean_rate
    )


def find_score_pattern(
    gaps: np.ndarray, lengths: Mapping[str, np.ndarray], *, mean_rate: float
) -> ScorePattern:
    """As `read_score_pattern`, of arrays.

    Args:
        gaps: `(pairs,)`, above 0; NaN where there are no scores.
        lengths: of the chosen and the rejected answers, `(pairs,)` each.
    """
    scored = np.flatnonzero(np.isfinite(gaps))
    ascending = scored[np.argsort(gaps[scored], kind="stable")]
    rows = []
    for name, third in zip(("close", "middle", "far"), np.array_split(ascending, 3), strict=True):
        bias = predict("the longer answer", lengths["chosen"][third], lengths["rejected"][third])
        # nothing is decided where all answers are of one length
        if bias.interval is not None:
            rows.append({"gap": name, "largest": gaps[third].max(), **bias.interval._asdict()})
    rates = text.near_tie_rates(gaps[ascending], mean_rate)
    closest = rates[: len(rates) // 3].sum() / rates.sum()
    return ScorePattern(pd.DataFrame(rows), len(scored), float(closest))


def _measure_lengths(pairs: Dataset) -> dict[str, np.ndarray]:
    """The lengths of the chosen and the rejected answers, in characters."""
    return {
        side: np.array([len(cell[-1]["content"]) for cell in pairs[side]])
        for side in ("chosen", "rejected")
    }
