"""The machinery of notebook 13: contrasts within patterns, and what real scores show."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets

from sympo import stats
from sympo.audit.biases import predict
from sympo.book import contrasts as compared
from sympo.book.figures import interval_table
from sympo.studies import mnist, text
from sympo.studies.sources import MNIST

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
        named: dict[str, Any] = {"method": between, "methods": values, "baselines": [baseline]}
        groups = table.groupby(by, sort=False)
        parts = {key: stats.contrasts(rows, value=value, **named) for key, rows in groups}
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


def list_differences(table: pd.DataFrame, *, claim: str = "") -> str:
    """A list item per row of `contrast_within`, in Markdown: the difference and its verdict.

    Args:
        claim: what the verdict is about, where that is not the difference itself.
    """
    lines = []
    for row in table.itertuples():
        # a pattern is compared with symmetric flips, or a loss with another under a pattern
        name = f"{row.method} − {row.baseline}" if row.baseline != "symmetric" else row.method
        difference = compared.describe_difference(row)
        lines.append(f"- {row.pattern}, {name}: {difference}. {claim}**{row.verdict}**.")
    return "\n".join(lines)


def tabulate_flips(runs: Iterable[mnist.PatternRun], data: MNIST) -> pd.DataFrame:
    """The share of training labels that is flipped: a row per run, a column per group of pairs.

    Args:
        runs: of one seed, and of different patterns.
    """
    runs = list(runs)
    digits = data.train_labels.astype(int)
    ink = data.train_images.mean((1, 2))
    pairs, _ = mnist.split_pairs(data.train_labels, runs[0])
    both = digits[[pairs.first, pairs.second]]
    gap = np.abs(both[0] - both[1])
    more_ink_wins = (ink[pairs.first] >= ink[pairs.second]) == (pairs.labels > 0)
    groups = {
        "all": gap > 0,
        "gap 1": gap == 1,
        "gap ≥ 4": gap >= 4,
        "a 4 or a 9": np.isin(both, (4, 9)).any(0),
        "first wins": pairs.labels > 0,
        "second wins": pairs.labels < 0,
        "more ink wins": more_ink_wins,
        "less ink wins": ~more_ink_wins,
    }
    rows = {}
    for run in runs:
        flipped = mnist.pattern_labels(pairs, run, digits, ink) != pairs.labels
        rows[run.pattern] = [flipped[members].mean() for members in groups.values()]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*groups])


def judge_classes(
    orders: pd.DataFrame, predicted: pd.DataFrame, *, methods: Sequence[str]
) -> pd.DataFrame:
    """Whether the order that `methods` learn in each class of pairs is the predicted one.

    A class with |2η̃ − 1| below its tolerance is not judged. Of the others the order is
    "reproduced" where the 95% interval over seeds lies on the predicted side of ½, and
    "contradicted" where it lies on the other.

    Args:
        orders: of `mnist.compare_orders`; the rows of the final epoch count, and the methods of a
            seed are averaged.
        predicted: columns margin (2η̃ − 1) and tolerance, by pattern, gap and more_ink.
    Returns:
        columns pattern, gap, more_ink, estimate, low, high (of the share of pairs with the larger
        digit first), n, margin, tolerance, judged and verdict.
    Check: tests/book/test_patterns.py.
    """
    cell = ["pattern", "gap", "more_ink"]
    final = orders[orders.method.isin(methods) & (orders.epoch == "final")]
    by_seed = final.groupby([*cell, "seed"], sort=False).ordered.mean().reset_index()
    learned = interval_table(by_seed, by=cell, value="ordered", proportion=True)
    classes = learned.merge(predicted[["margin", "tolerance"]].reset_index(), on=cell)
    classes["judged"] = classes.margin.abs() >= classes.tolerance
    return classes.assign(verdict=[_judge(row) for row in classes.itertuples()])


def _judge(row: Any) -> str:
    if not row.judged:
        return "labels cannot tell"
    from_half = stats.Interval(row.estimate - 0.5, row.low - 0.5, row.high - 0.5, row.n)
    return stats.verdict(from_half, expected=1 if row.margin > 0 else -1, margin=0.0)


class ScorePattern(NamedTuple):
    """What the scores of real comparisons show.

    Attributes:
        longer: a row per third of the pairs by their gap: columns gap, estimate, low, high (the
            share in which the longer answer is chosen), n, and largest (the largest gap of the
            third).
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
            rows.append({"gap": name, **bias.interval._asdict(), "largest": gaps[third].max()})
    rates = text.near_tie_rates(gaps[ascending], mean_rate)
    closest = rates[: len(rates) // 3].sum() / rates.sum()
    return ScorePattern(pd.DataFrame(rows), len(scored), float(closest))


def _measure_lengths(pairs: Dataset) -> dict[str, np.ndarray]:
    """The lengths of the chosen and the rejected answers, in characters."""
    return {
        side: np.array([len(cell[-1]["content"]) for cell in pairs[side]])
        for side in ("chosen", "rejected")
    }
