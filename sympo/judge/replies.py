"""What judges say, how a pair is asked about in both orders, and what the replies come to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sympo.stats import Interval, wilson

__all__ = [
    "NO_REPLY",
    "REFUSED",
    "BothOrders",
    "Comparison",
    "Judge",
    "Prompt",
    "Reply",
    "ask_both_orders",
    "compare",
    "tally",
]

# How the reason of a reply begins that never came, and of one that the judge refused to give.
NO_REPLY = "no reply: "
REFUSED = "refused: "

# Text, or the turns of a dialogue as messages with role and content.
Prompt = str | Sequence[Mapping[str, str]]


class Reply(NamedTuple):
    """What a judge says of the answer shown first: 1 better, ½ as good, 0 worse.

    Without a verdict the score is None, and `reason` says why.
    """

    score: float | None
    reason: str = ""

    @property
    def came(self) -> bool:
        """Whether the judge said anything at all; if not, it may be asked again."""
        return not self.reason.startswith(NO_REPLY)


class BothOrders(NamedTuple):
    """The replies on one pair: with a shown first, and with b."""

    a_first: Reply
    b_first: Reply


class Judge(Protocol):
    """Anything that scores the first answer of each pair against the second."""

    def __call__(
        self, prompts: Sequence[Prompt], firsts: Sequence[str], seconds: Sequence[str]
    ) -> list[Reply]:
        """One reply per prompt, on the answer of `firsts` beside that of `seconds`."""
        ...


@dataclass(frozen=True)
class Comparison:
    """The verdicts on answers a against answers b.

    Attributes:
        scores: per pair 1 (a better in both orders), 0 (b better in both), ½ (else), None (a reply
            without a verdict).
        swayed: pairs whose verdict changed with the order.
        position_bias: mean score of the answer shown first, minus ½, over the parsed pairs: 0 for a
            judge that ignores the order, ½ for one that always takes the first; NaN where no pair
            was parsed.
        missing: reason → replies without a verdict (a pair has two replies).
    """

    scores: list[float | None]
    swayed: int
    position_bias: float
    missing: Counter[str]

    @property
    def parsed(self) -> list[float]:
        """The scores of the pairs with a verdict in both orders."""
        return [score for score in self.scores if score is not None]

    @property
    def unparsed(self) -> int:
        """How many pairs lack a verdict in one order or both: neither wins nor losses."""
        return len(self.scores) - len(self.parsed)

    @property
    def win_rate(self) -> Interval:
        """Mean score of a over the parsed pairs with its 95% Wilson interval.

        A ½ enters as half a success: scores in [0, 1] vary at most as much as wins and losses, so
        the interval is, if anything, too wide.

        Raises:
            ValueError: no pair was parsed.
        """
        if not self.parsed:
            raise ValueError(
                "no pair has a verdict, so there is no win rate: "
                f"{dict(self.missing) or 'no pairs'}"
            )
        return wilson(sum(self.parsed), len(self.parsed))


def compare(
    judge: Judge, prompts: Sequence[Prompt], answers_a: Sequence[str], answers_b: Sequence[str]
) -> Comparison:
    """Ask the judge about every pair in both orders, and count.

    Raises:
        ValueError: lists of different lengths, or a judge that does not reply once per pair.
    Check: tests/library/test_judge.py.
    """
    return tally(ask_both_orders(judge, prompts, answers_a, answers_b))


def ask_both_orders(
    judge: Judge, prompts: Sequence[Prompt], answers_a: Sequence[str], answers_b: Sequence[str]
) -> list[BothOrders]:
    """The judge's replies on every pair, for whoever keeps them; else as `compare`."""
    if not len(prompts) == len(answers_a) == len(answers_b):
        raise ValueError(
            f"{len(prompts)} prompts, {len(answers_a)} answers_a and {len(answers_b)} answers_b "
            "are not pairs: give one of each per pair"
        )
    # One call, which a judge may work on in batches. Both orders of a pair stand side by side in
    # it: a judge that is interrupted has finished pairs, and not one order of all of them.
    firsts = [answer for pair in zip(answers_a, answers_b, strict=True) for answer in pair]
    seconds = [answer for pair in zip(answers_b, answers_a, strict=True) for answer in pair]
    replies = judge([prompt for prompt in prompts for _ in range(2)], firsts, seconds)
    if len(replies) != 2 * len(prompts):
        raise ValueError(
            f"the judge gave {len(replies)} replies for {len(prompts)} pairs, each in both orders"
        )
    return [BothOrders(*pair) for pair in zip(replies[::2], replies[1::2], strict=True)]


def tally(replies: Sequence[BothOrders]) -> Comparison:
    """What the replies on several pairs come to."""
    # The scores of the answers shown first, for the pairs that have both.
    both = [
        (first.score, second.score)
        for first, second in replies
        if first.score is not None and second.score is not None
    ]
    # With a judge that ignores the order the two scores of a pair add up to 1.
    bias = sum(first + second for first, second in both) / (2 * len(both)) - 0.5 if both else None
    return Comparison(
        scores=[_combine(first.score, second.score) for first, second in replies],
        swayed=sum(first != 1 - second for first, second in both),
        position_bias=float("nan") if bias is None else bias,
        missing=Counter(reply.reason for pair in replies for reply in pair if reply.score is None),
    )


def _combine(first: float | None, second: float | None) -> float | None:
    """The verdict on a, from its score when shown first, and b's when b was."""
    # Neither a win nor a loss: a judge that does not answer has not preferred the other one.
    if first is None or second is None:
        return None
    # A verdict that changes with the order counts as a tie.
    return first if first == 1 - second else 0.5
