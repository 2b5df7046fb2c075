"""The audit of a dataset: what its rows hold, what predicts them, how noisy they are."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from sympo._names import is_number, show
from sympo.audit import biases, label_errors, rates, report, triangles
from sympo.audit.advice import advise, believe
from sympo.audit.biases import Bias
from sympo.audit.rates import Rate
from sympo.audit.scan import Comparisons, Scan, compare_rows, mix, read_answers, scan
from sympo.audit.words import count_words
from sympo.preferences import Pairs, Report
from sympo.stats import Interval

__all__ = ["SAMPLE", "Audit", "Dependence", "Findings", "Suspect", "audit"]

SAMPLE = 20_000  # ours: words are read in as many rows; intervals are then ±.01
_SUSPECTS = 10
_MOST_ANSWERS = 30  # ours: of a prompt, in triangles; they are 4,060
_PERFECT = 0.02  # ours: raters err more often than this
_P = 0.01  # a warning comes by chance once in a hundred audits
_NO_ERRORS = "No label errors by cross-validation: {}."


@dataclass(frozen=True)
class Findings:
    """What the rows hold, in numbers of rows unless it says otherwise.

    Attributes:
        rows: kept.
        prompts: different ones.
        repeats: rows that say once more what another row says: prompt, answers and winner.
        contradictions: pairs of answers that have rows with either winner.
        near_repeats: pairs of answers that differ from another pair in case, spacing, punctuation
            or invisible characters only.
        invisible: rows with an answer of which nothing can be seen.
        shared: rows whose prompt is in the test file too; None without one.
        near_shared: further rows whose prompt is there but for case, spacing, punctuation and
            invisible characters.
    """

    rows: int
    prompts: int
    repeats: int
    contradictions: int
    near_repeats: int
    invisible: int
    shared: int | None
    near_shared: int | None


@dataclass(frozen=True)
class Dependence:
    """Whether labels are wrong more often where the longer answer is the better one.

    Attributes:
        longer, shorter: the share of wrong labels where the right winner is the longer answer, and
            the shorter one.
        p: Fisher's exact test of "the two are equal".
        source: who says which labels are wrong.
    """

    longer: Interval
    shorter: Interval
    p: float
    source: str

    @property
    def differs(self) -> bool:
        """Whether flips depend on which answer wins (p < .01)."""
        return self.p < _P


@dataclass(frozen=True)
class Suspect:
    """A row whose label cross-validation calls a likely error."""

    row: int
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Audit:
    """What an audit finds; `text()` and `html()` write it down.

    Attributes:
        source: what was audited, such as a file's name.
        report: rows kept and refused, where the pairs came with one.
        biases: rules that do not read the answers.
        words: single words that predict the winner.
        rates: the noise rate by each route that the data allow.
        dependence: whether flips depend on which answer wins; empty where nothing tells.
        accuracy: of the cross-validated classifier.
        suspects: rows to look at first.
        suspected: how many labels of the sample cleanlab lists as likely errors.
        sample: rows whose words were read.
        simulated: whether the ratings are a program's.
        notes: what was left out, and why.
    """

    source: str
    report: Report | None
    findings: Findings
    biases: tuple[Bias, ...]
    words: tuple[Bias, ...]
    rates: tuple[Rate, ...]
    dependence: tuple[Dependence, ...]
    accuracy: Interval | None
    suspects: tuple[Suspect, ...]
    suspected: int
    sample: int
    simulated: bool
    notes: tuple[str, ...]

    @cached_property
    def advice(self) -> tuple[str, ...]:
        """What to do, in sentences that follow from the findings."""
        return advise(self)

    def text(self) -> str:
        """The report as plain text; control characters of the data are left out."""
        return report.write_text(self)

    def html(self) -> str:
        """The report as one HTML page: no script, nothing from another host, the data escaped."""
        return report.write_html(self)


def audit(
    pairs: Pairs | Dataset,
    *,
    test: Pairs | Dataset | None = None,
    ratings: Sequence[tuple[int, int]] | None = None,
    first: ArrayLike | None = None,
    words: Iterable[str] = (),
    copies: bool = False,
    sample: int = SAMPLE,
    seed: int = 0,
    processes: int = 1,
    source: str = "these pairs",
) -> Audit:
    """Say what a dataset of preferences holds, what predicts its labels, and how noisy they are.

    Args:
        pairs: from `sympo.preferences.read_pairs`, or a dataset in its form.
        test: pairs to be tested on: prompts that both share are counted.
        ratings: (row of the dataset, +1 where a rater agrees with the label, −1 where not, 0 for a
            tie), as `sympo.rating.rated_rows` gives them. Several of a row are no independent ones.
        first: `(rows,)`, whether the chosen answer was shown first to whoever labelled it; None,
            NaN or pandas' NA where unknown. Datasets do not store it: chosen comes first in every
            row.
        words: a list to count in the answers, such as words of praise.
        copies: rows that repeat are copies, and not second ratings: no rate is read from them.
        sample: rows whose words are read, drawn at random.
        processes: that read the rows, where they are many and lie in a file.
    Raises:
        ValueError: columns that hold no messages, a rated row that does not exist, a `first` of
            another length or of values that are no bool, 0 or 1, and ratings that are none of +1,
            −1 and 0.
    Check: tests/library/test_audit.py.
    """
    dataset, told = (pairs.dataset, pairs.report) if isinstance(pairs, Pairs) else (pairs, None)
    rows = scan(dataset, processes=processes)
    comparisons = compare_rows(rows.prompt, rows.chosen, rows.rejected)
    by_looks = [
        biases.predict(
            "the longer answer",
            rows.chosen_length,
            rows.rejected_length,
            prompts=rows.prompt,
            note="By its number of characters.",
        ),
        _predict_first(first, len(dataset), rows.prompt),
    ]
    by_route = [*_rate_rows(rows, comparisons, copies=copies)]
    dependence = [_depend_on_flips(rows)]
    undecided: tuple[str, ...] = ()
    if ratings is not None:
        row, sign = _check_ratings(ratings, len(dataset))
        if sign.any():
            by_route.extend(rates.rate_from_ratings(sign, rows=row))
            dependence.append(_depend_on_ratings(rows, row, sign))
        else:
            undecided = ("No rate by ratings: there is none that takes a side.",)
    drawn = np.sort(np.random.default_rng([seed, 0]).permutation(len(dataset))[:sample])
    reading = _read_words(dataset, drawn, rows, listed=words, seed=seed)
    depends = tuple(found for found in dependence if found is not None)
    simulated = bool(getattr(ratings, "simulated", False))
    against = _contradict(depends, believe(by_route, simulated=simulated))
    return Audit(
        source=source,
        report=told,
        findings=_count(rows, comparisons, _scan_test(test, processes)),
        biases=(*by_looks, *reading.biases),
        words=reading.words,
        rates=(*by_route, *(against(rate) for rate in reading.rates)),
        dependence=depends,
        accuracy=reading.accuracy,
        suspects=reading.suspects,
        suspected=reading.suspected,
        sample=len(drawn),
        simulated=simulated,
        notes=(*undecided, *reading.notes),
    )


def _scan_test(test: Pairs | Dataset | None, processes: int) -> Scan | None:
    if test is None:
        return None
    return scan(test.dataset if isinstance(test, Pairs) else test, processes=processes)


def _count(rows: Scan, comparisons: Comparisons, test: Scan | None) -> Findings:
    pairs = comparisons.first_row
    # Each pair of answers once, by its letters: what two of them share is nearly the same.
    near = compare_rows(
        *(column[pairs] for column in (rows.near_prompt, rows.near_chosen, rows.near_rejected))
    )
    shared = near_shared = None
    if test is not None:
        same = np.isin(rows.prompt, test.prompt)
        nearly = np.isin(rows.near_prompt, test.near_prompt)
        shared, near_shared = int(same.sum()), int((nearly & ~same).sum())
    return Findings(
        rows=len(rows.prompt),
        prompts=len(np.unique(rows.prompt)),
        repeats=comparisons.repeats,
        contradictions=int(comparisons.contradicted.sum()),
        near_repeats=len(pairs) - len(near.first_row),
        invisible=int(rows.invisible.sum()),
        shared=shared,
        near_shared=near_shared,
    )


def _predict_first(first: ArrayLike | None, size: int, prompts: NDArray[Any]) -> Bias:
    rule = "the answer shown first"
    if first is None:
        return Bias(
            rule,
            None,
            size,
            "The order in which answers were shown is not stored: the chosen one comes first in "
            "every row, which says nothing.",
        )
    shown = np.asarray(first, dtype=object)
    if shown.shape != (size,):
        raise ValueError(
            f"first has shape {shown.shape}, but there are {size} rows: give one bool per row, "
            "or None where the order is unknown"
        )
    flags = rates.read_flags("first", shown)
    value = np.array([0 if flag is None else 1 if flag else -1 for flag in flags])
    note = "Every row has the chosen answer first: that is how the file is stored, and no finding."
    stored = bool((value == 1).all())
    bias = biases.predict(rule, value, np.zeros(size), prompts=prompts)
    return Bias(rule, None, size, note) if stored else bias


def _rate_rows(rows: Scan, comparisons: Comparisons, *, copies: bool) -> Iterable[Rate]:
    """The rates that can be read off the rows alone: declared flips, repeats and triangles."""
    # A file without the column has False everywhere, which declares nothing.
    if (rows.flipped == 1).any():
        known = rows.flipped >= 0
        yield rates.rate_from_flips(rows.flipped[known] == 1)
    several = comparisons.plus + comparisons.minus >= 2
    if copies or not several.any():
        return
    plus, minus = comparisons.plus[several], comparisons.minus[several]
    yield _doubt_repeats(rates.rate_from_repeats(plus, minus), plus, minus)
    by_triangles = _find_triangles(rows, comparisons, several)
    if by_triangles is not None:
        yield by_triangles


def _doubt_repeats(read: Rate, plus: NDArray[Any], minus: NDArray[Any]) -> Rate:
    contradicted = int(((plus > 0) & (minus > 0)).sum())
    assert read.interval is not None
    copies = not contradicted or read.interval.high < _PERFECT
    if copies:
        verb = "is" if contradicted < 2 else "are"
        warning = (
            f"{contradicted or 'None'} of the {len(plus):,} repeated pairs {verb} contradicted: "
            "these look like copies, and not like second ratings."
        )
    else:
        warning = (
            "Rows that repeat word for word count as second ratings; if they are copies, the rate "
            "is read too low."
        )
    return replace(read, warnings=(*read.warnings, warning), refuted=read.refuted or copies)


def _contradict(
    dependence: Sequence[Dependence], believed: Sequence[Rate]
) -> Callable[[Rate], Rate]:
    """Rates by label errors, with what in the other findings contradicts their premise."""
    depends = [
        f"Contradicted by {found.source}: flips depend on which answer wins."
        for found in dependence
        if found.differs
    ]

    def contradict(rate: Rate) -> Rate:
        above = [
            f"Contradicted by {other.route}: {other.interval.low:.3f} to {other.interval.high:.3f} "
            "lies wholly above. Flips depend on the answers, or close pairs are counted there."
            for other in believed
            if other.route.startswith(("ratings", "repeated"))
            and other.interval is not None
            and rate.interval is not None
            and other.interval.low > rate.interval.high
        ]
        against = (*depends, *above)
        return replace(
            rate, warnings=(*rate.warnings, *against), refuted=rate.refuted or bool(against)
        )

    return contradict


def _find_triangles(
    rows: Scan, comparisons: Comparisons, several: NDArray[np.bool_]
) -> Rate | None:
    """The triangle route over the pairs that have two labels or more; None where there are few."""
    row = comparisons.first_row[several]
    prompt, chosen, rejected = rows.prompt[row], rows.chosen[row], rows.rejected[row]
    # An answer is one of its own prompt: the same text elsewhere is another answer.
    ends = np.stack(
        [mix(prompt, np.minimum(chosen, rejected)), mix(prompt, np.maximum(chosen, rejected))]
    )
    names, codes = np.unique(ends, return_inverse=True)
    codes = codes.reshape(2, -1)
    wins = np.stack([comparisons.plus[several], comparisons.minus[several]])
    turned = codes[0] > codes[1]
    codes[:, turned], wins[:, turned] = codes[::-1, turned], wins[::-1, turned]
    kept = _few_answers(codes, prompt, len(names))
    first, second = codes[:, kept]
    if not len(triangles.list_triangles(first, second)):
        return None
    return triangles.rate_from_triangles(first, second, *wins[:, kept], prompts=prompt[kept])


def _few_answers(codes: NDArray[Any], prompt: NDArray[Any], answers: int) -> NDArray[np.bool_]:
    """The pairs among the first thirty answers of each prompt: triangles grow with the cube."""
    # Codes are sorted by hash, so that the first ones are as good as drawn at random.
    owner = np.zeros(answers, dtype=np.uint64)
    owner[codes[0]] = prompt
    owner[codes[1]] = prompt
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.r_[True, owner[order][1:] != owner[order][:-1]])
    rank = np.empty(answers, dtype=np.int64)
    rank[order] = np.arange(answers) - np.repeat(starts, np.diff(np.r_[starts, answers]))
    kept: NDArray[np.bool_] = (rank[codes] < _MOST_ANSWERS).all(axis=0)
    return kept


def _check_ratings(
    ratings: Sequence[tuple[int, int]], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    for row, sign in ratings:
        if not _is_whole(row) or not 0 <= row < size:
            raise ValueError(
                f"ratings name row {show(row)}, but there are {size} rows: rate rows of this "
                "dataset, counted from 0"
            )
        if not _is_whole(sign) or sign not in (-1, 0, 1):
            raise ValueError(
                f"ratings say {show(sign)} of row {row}: give +1 where the rater agrees with the "
                "label, −1 where not, 0 for a tie"
            )
    table = np.array(ratings, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _is_whole(value: object) -> bool:
    # False would be read as a tie, where it is meant as a contradiction.
    return is_number(value) and value % 1 == 0


def _depend_on_ratings(
    rows: Scan, row: NDArray[np.int64], sign: NDArray[np.int64]
) -> Dependence | None:
    """By the raters' word for the right winner, or that of most of them."""
    row, rated = np.unique(row, return_inverse=True)
    votes = np.bincount(rated, weights=sign)
    decided = votes != 0
    return _depend(rows, row[decided], votes[decided] < 0, "ratings")


def _depend_on_flips(rows: Scan) -> Dependence | None:
    """By the declared flips."""
    row = np.flatnonzero(rows.flipped >= 0)
    return _depend(rows, row, rows.flipped[row] == 1, "declared flips")


def _depend(
    rows: Scan, row: NDArray[np.int64], wrong: NDArray[np.bool_], source: str
) -> Dependence | None:
    # Of the right winner: the rejected answer where the label is wrong.
    longer = np.sign(rows.chosen_length[row] - rows.rejected_length[row])
    longer = np.where(wrong, -longer, longer)
    groups = [wrong[longer == side] for side in (1, -1)]
    if not wrong.any() or min(len(group) for group in groups) < 10:
        return None
    table = [[int(group.sum()), int((~group).sum())] for group in groups]
    p = float(scipy_stats.fisher_exact(table).pvalue)
    return Dependence(rates.share(groups[0]), rates.share(groups[1]), p, source)


@dataclass(frozen=True)
class _Reading:
    """What the words of a sample say."""

    biases: tuple[Bias, ...] = ()
    words: tuple[Bias, ...] = ()
    rates: tuple[Rate, ...] = ()
    accuracy: Interval | None = None
    suspects: tuple[Suspect, ...] = ()
    suspected: int = 0
    notes: tuple[str, ...] = ()


def _read_words(
    dataset: Dataset,
    drawn: NDArray[np.int64],
    rows: Scan,
    *,
    listed: Iterable[str],
    seed: int,
) -> _Reading:
    if not len(drawn):
        return _Reading()
    prompts = rows.prompt[drawn]
    chosen, rejected = read_answers(dataset.select(drawn))
    words = count_words(chosen, rejected)
    found = [biases.common_words(words, prompts=prompts)]
    listed = list(listed)
    if listed:
        found.append(biases.listed_words(words, listed, prompts=prompts))
    telling = biases.telling_words(words, prompts=prompts)
    try:
        errors = label_errors.find_label_errors(
            label_errors.word_differences(words), clusters=prompts, seed=seed
        )
    except ModuleNotFoundError as error:
        reason = f"{error.name} is missing; pip install 'sympo[audit]' brings it"
        return _Reading(tuple(found), telling, notes=(_NO_ERRORS.format(reason),))
    except label_errors.TooFewPairsError as error:
        return _Reading(tuple(found), telling, notes=(_NO_ERRORS.format(error),))
    suspects = tuple(
        Suspect(
            int(drawn[i]),
            "\n".join(message["content"] for message in dataset[int(drawn[i])]["prompt"]),
            chosen[i],
            rejected[i],
        )
        for i in errors.suspects[:_SUSPECTS]
    )
    return _Reading(
        tuple(found), telling, errors.rates, errors.accuracy, suspects, len(errors.suspects)
    )
