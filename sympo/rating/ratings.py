"""Ratings of items: who prefers which answer, and what that says of the labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sympo import noise
from sympo._names import show
from sympo.rating.items import LABELS, Item, Items

__all__ = [
    "CANNOT_SAY",
    "FIRST",
    "SECOND",
    "TIE",
    "VERDICTS",
    "RatedRows",
    "Rating",
    "Ratings",
    "rated_rows",
    "simulate_ratings",
]

# What a rater can say of the two answers, in the order in which they are shown.
FIRST = "first"
SECOND = "second"
TIE = "tie"
CANNOT_SAY = "cannot say"
VERDICTS = (FIRST, SECOND, TIE, CANNOT_SAY)


class Rating(NamedTuple):
    """What one rater said of one item.

    Attributes:
        key: of the item.
        verdict: one of `VERDICTS`, of the answers as they were shown.
        at: when, as ISO 8601 in UTC; empty where that is not known.
    """

    key: str
    rater: str
    verdict: str
    at: str = ""


@dataclass(frozen=True)
class Ratings:
    """The ratings of some items, one for each item and rater at most.

    Attributes:
        ratings: in the order in which they were given; what was taken back is not among them.
        simulated: whether a program gave them, and no person.
        refused: a sentence for each row of a sheet that is no rating.
    Raises:
        ValueError: a verdict that is none of `VERDICTS`, an unknown item, an item that a rater
            rated twice, or a rater without a name.
    """

    items: Items
    ratings: tuple[Rating, ...]
    simulated: bool = False
    refused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {item.key for item in self.items}
        seen = set()
        for rating in self.ratings:
            check_rating(rating, known)
            if rating[:2] in seen:
                raise ValueError(describe_duplicate(rating))
            seen.add(rating[:2])

    def __len__(self) -> int:
        return len(self.ratings)

    def __iter__(self) -> Iterator[Rating]:
        return iter(self.ratings)

    def __add__(self, other: "Ratings") -> "Ratings":
        """The ratings of both, such as two raters' sheets.

        Raises:
            ValueError: ratings of other items, of the same item by the same rater, or simulated
                ones with those of people.
        """
        if self.items.identity != other.items.identity:
            raise ValueError(
                "the ratings are of different items: draw both with the same arguments"
            )
        refuse_mixture(self, other)
        ratings = (*self.ratings, *other.ratings)
        return Ratings(self.items, ratings, self.simulated, (*self.refused, *other.refused))

    def __str__(self) -> str:
        """One line: how many pairs each rater rated, with ties, and what was refused."""
        parts = [self._count(rater) for rater in self.raters] or ["nothing rated"]
        if self.refused:
            parts.append(f"refused: {'; '.join(self.refused)}")
        return mark("; ".join(parts), simulated=self.simulated)

    def _count(self, rater: str) -> str:
        counts = Counter(rating.verdict for rating in self if rating.rater == rater)
        progress = f"{rater}: {counts.total()} of {len(self.items)} pairs rated"
        return f"{progress}, {count(counts[TIE], 'tie')}, {counts[CANNOT_SAY]} cannot say"

    @property
    def raters(self) -> list[str]:
        """Each once, in the order of their first ratings."""
        return list(dict.fromkeys(rating.rater for rating in self))

    def of(self, rater: str) -> "Ratings":
        """Those of one rater.

        Raises:
            ValueError: a rater who rated nothing.
        """
        if rater not in self.raters:
            raise ValueError(
                f"{show(rater)} rated nothing: {', '.join(self.raters) or 'nobody'} did"
            )
        ratings = tuple(rating for rating in self if rating.rater == rater)
        return Ratings(self.items, ratings, self.simulated)

    def scores(self, rater: str | None = None) -> list[float | None]:
        """Per item the score of `a`, as a judge gives it: 1 better, ½ as good, 0 worse.

        Args:
            rater: whose; may be left out where there is one.
        Returns:
            `(items,)`; None where the rater could not say, or has not rated the item.
        Raises:
            ValueError: several raters and none named, or one who rated nothing.
        """
        verdicts = {rating.key: rating.verdict for rating in self._choose(rater)}
        return [_score(item, verdicts.get(item.key, CANNOT_SAY)) for item in self.items]

    def _choose(self, rater: str | None) -> "Ratings":
        if rater is None and len(self.raters) > 1:
            raise ValueError(
                f"{' and '.join(self.raters)} rated: name one of them as rater, since ratings of "
                "the same pairs are not independent"
            )
        return self if rater is None else self.of(rater)


class RatedRows(list[tuple[int, int]]):
    """Pairs (row, sign): +1 the rater agrees with the label, −1 contradicts it, 0 tie.

    Attributes:
        simulated: whether a program gave the ratings.
    """

    def __init__(self, rows: Sequence[tuple[int, int]], *, simulated: bool) -> None:
        super().__init__(rows)
        self.simulated = simulated


def rated_rows(ratings: Ratings, *, rater: str | None = None) -> RatedRows:
    """The ratings of preference pairs by row of their dataset, for `sympo.audit`.

    Returns:
        a pair (row, sign) for each item that has a verdict, in the order of the items.
    Raises:
        ValueError: items that are no preference pairs, and what `Ratings.scores` refuses.
    Check: tests/library/test_rating.py.
    """
    check_labels(ratings.items)
    scored = zip(ratings.items, ratings.scores(rater), strict=True)
    rows = [(item.row, round(2 * score - 1)) for item, score in scored if score is not None]
    return RatedRows(rows, simulated=ratings.simulated)


def simulate_ratings(
    items: Items,
    truth: Sequence[float | None],
    *,
    error_rate: float,
    seed: int,
    rater: str = "simulated rater",
) -> Ratings:
    """Ratings of a rater that does not exist, who takes the worse answer at `error_rate`.

    They are marked as simulated, here and in every file and summary.

    Args:
        truth: `(items,)`, per item the score of `a`: 1 better, ½ as good, 0 worse, and None where
            the rater cannot say.
        error_rate: the probability of the wrong answer; ties and missing verdicts stay.
        seed: another seed gives independent errors.
    Raises:
        ValueError: another number of scores, a score that is none, or a rate outside [0, 1].
    Check: tests/library/test_rating.py, by the share of errors.
    """
    if len(truth) != len(items):
        raise ValueError(f"truth has {len(truth)} scores for {len(items)} items: give one each")
    wrong = [score for score in truth if score not in (0, 0.5, 1, None)]
    if wrong:
        raise ValueError(f"truth holds {show(wrong[0])}: give 1, 0.5, 0 or None for each item")
    if not 0 <= error_rate <= 1:
        raise ValueError(f"error_rate = {error_rate} is not a probability: give one in [0, 1]")
    keys = [(item.key, rater) for item in items]
    errs = noise.RowGenerator(keys, seed).random(len(keys)) < error_rate
    scores = [
        1 - score if err and score is not None else score
        for score, err in zip(truth, errs, strict=True)
    ]
    ratings = tuple(
        Rating(item.key, rater, _judge(item, score))
        for item, score in zip(items, scores, strict=True)
    )
    return Ratings(items, ratings, simulated=True)


def _score(item: Item, verdict: str) -> float | None:
    if verdict in (TIE, CANNOT_SAY):
        return 0.5 if verdict == TIE else None
    # `a` is shown first unless the two are swapped
    return float((verdict == FIRST) != item.swapped)


def _judge(item: Item, score: float | None) -> str:
    """The verdict whose `_score` is `score`."""
    return next(verdict for verdict in VERDICTS if _score(item, verdict) == score)


def check_rating(rating: Rating, known: set[str]) -> None:
    """Refuse what is no rating of an item of `known`."""
    if rating.verdict not in VERDICTS:
        raise ValueError(f"verdict {show(rating.verdict)}: give one of {', '.join(VERDICTS)}")
    if rating.key not in known:
        raise ValueError(f"no item is called {show(rating.key)}: the rating is of other items")
    if not rating.rater.strip():
        raise ValueError("rater is empty: give each rater a name")


def check_labels(items: Items) -> None:
    """Refuse items whose sources are not those of a preference pair."""
    if items.sources != LABELS:
        raise ValueError(
            f"the answers are those of {' and '.join(items.sources)}, and have no label: draw the "
            "items of a dataset of pairs with draw_items"
        )


def refuse_mixture(first: Ratings, second: Ratings) -> None:
    """Refuse to take simulated ratings and a person's for the same kind of thing."""
    if first.simulated != second.simulated:
        raise ValueError("some ratings are simulated and others are not: analyse them apart")


def describe_duplicate(rating: Rating) -> str:
    """The sentence that refuses a second rating."""
    return (
        f"{show(rating.rater)[1:-1]} has already rated the pair {rating.key}: "
        "take that rating back before giving another"
    )


def mark(text: str, *, simulated: bool) -> str:
    """`text`, with a word in front where it speaks of simulated ratings."""
    return f"simulated ratings: {text}" if simulated else text


def count(number: int, what: str) -> str:
    """Such as "1 tie" and "2 ties"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
