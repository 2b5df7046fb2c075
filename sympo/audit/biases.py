"""What can be told about the winner from looks: the longer answer, the first, the common words.

A taste for long answers and a bias towards them leave the same labels. If it is a bias, the rate of
wrong labels depends on which answer wins, and no symmetric loss repairs that (theory T11).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from sympo.audit.rates import share
from sympo.stats import Interval, holm

__all__ = ["Bias", "common_words", "listed_words", "predict", "telling_words"]

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_FEWEST_PAIRS = 50  # ours: a word in fewer pairs is not looked at
_MOST_WORDS = 2_000  # ours: the most frequent ones, over which Holm corrects


@dataclass(frozen=True)
class Bias:
    """How often a rule that does not read the answers picks the one that was chosen.

    Attributes:
        rule: such as "the longer answer".
        interval: the share of pairs where the rule is right, of those where it decides; None where
            there are none.
        ties: pairs that it does not decide.
        note: what to know before it is believed.
    """

    rule: str
    interval: Interval | None
    ties: int
    note: str = ""

    @property
    def predicts(self) -> bool:
        """Whether the interval leaves out one half."""
        return self.interval is not None and not self.interval.low <= 0.5 <= self.interval.high


def predict(
    rule: str,
    chosen: ArrayLike,
    rejected: ArrayLike,
    *,
    prompts: ArrayLike | None = None,
    note: str = "",
) -> Bias:
    """How often the answer with the larger value was chosen.

    Args:
        chosen, rejected: `(pairs,)`, a value of each answer, such as its length.
        prompts: `(pairs,)`; pairs of one prompt are no independent pairs.
    Check: tests/library/test_audit.py.
    """
    difference = np.asarray(chosen, dtype=float) - np.asarray(rejected, dtype=float)
    decides = difference != 0
    ties = int((~decides).sum())
    if not decides.any():
        return Bias(rule, None, ties, note)
    clusters = None if prompts is None else np.asarray(prompts)[decides]
    return Bias(rule, share(difference[decides] > 0, clusters), ties, note)


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


def common_words(
    chosen: Sequence[str], rejected: Sequence[str], *, prompts: ArrayLike | None = None
) -> Bias:
    """How often the answer whose words are the more common ones was chosen.

    An answer's value is the mean log-frequency of its words over all answers, winners and losers
    alike.
    """
    texts = [split_words(text) for text in (*chosen, *rejected)]
    counts = Counter(word for words in texts for word in words)
    # An answer without a word decides nothing; −∞ would always lose.
    values = np.array([np.mean(np.log([counts[w] for w in ws])) if ws else np.nan for ws in texts])
    winners, losers = values[: len(chosen)], values[len(chosen) :]
    wordless = np.isnan(winners) | np.isnan(losers)
    winners[wordless] = losers[wordless] = 0
    return predict(
        "the answer with the more common words",
        winners,
        losers,
        prompts=prompts,
        note="By the mean log-frequency of its words; longer texts repeat common words.",
    )


def listed_words(
    chosen: Sequence[str],
    rejected: Sequence[str],
    words: Iterable[str],
    *,
    prompts: ArrayLike | None = None,
) -> Bias:
    """How often the answer that has more of the listed words was chosen."""
    listed = {word.lower() for word in words}
    values = [
        [sum(word in listed for word in split_words(text)) for text in texts]
        for texts in (chosen, rejected)
    ]
    return predict("the answer with more of the listed words", *values, prompts=prompts)


def telling_words(
    chosen: Sequence[str], rejected: Sequence[str], *, most: int = 5
) -> tuple[Bias, ...]:
    """The words whose presence in one of the two answers tells most about the winner.

    Of the 2,000 words that most pairs have in one answer only, those whose sign test has
    p < .05 after Holm's correction over all of them, the least p first.
    """
    won: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for winner, loser in zip(chosen, rejected, strict=True):
        here, there = set(split_words(winner)), set(split_words(loser))
        won.update(here - there)
        lost.update(there - here)
    seen = Counter({word: won[word] + lost[word] for word in {*won, *lost}})
    # By number and then by name: ties among the counts must not depend on the order of a set.
    frequent = sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:_MOST_WORDS]
    words = [word for word, count in frequent if count >= _FEWEST_PAIRS]
    if not words:
        return ()
    wins = np.array([won[word] for word in words])
    counts = np.array([seen[word] for word in words])
    p = _sign_test(wins, counts)
    order = np.argsort(p, kind="stable")
    order = order[holm(p)[order] < 0.05]
    return tuple(
        Bias(
            f"the answer with the word “{words[i]}”",
            share(np.repeat([1, 0], [wins[i], counts[i] - wins[i]])),
            len(chosen) - int(counts[i]),
        )
        for i in order[:most]
    )


def _sign_test(wins: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.float64]:
    """The two-sided p of "heads and tails are equally likely"; exact, as both tails are equal."""
    fewer = np.minimum(wins, counts - wins)
    p: NDArray[np.float64] = np.minimum(2 * scipy_stats.binom.cdf(fewer, counts, 0.5), 1.0)
    return p
