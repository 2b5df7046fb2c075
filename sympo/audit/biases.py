"""What can be told about the winner from looks: the longer answer, the first, the common words.

A taste for long answers and a bias towards them leave the same labels. If it is a bias, the rate of
wrong labels depends on which answer wins, and no symmetric loss repairs that (theory T11).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy import stats as scipy_stats

from sympo.audit.rates import share
from sympo.audit.words import Words
from sympo.stats import Interval, holm

__all__ = ["Bias", "common_words", "listed_words", "predict", "telling_words"]

_FEWEST_VOTES = 50  # ours: a word with fewer is not looked at
_MOST_WORDS = 2_000  # ours: the most frequent ones, over which Holm corrects
_MOST_TELLING = 5


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


def common_words(words: Words, *, prompts: ArrayLike | None = None) -> Bias:
    """How often the answer whose words are the more common ones was chosen.

    An answer's value is the mean log-frequency of its words over all answers, winners and losers
    alike.
    """
    totals = np.asarray(words.chosen.sum(axis=0) + words.rejected.sum(axis=0)).ravel()
    frequency = np.log(totals)
    values = []
    for counts in (words.chosen, words.rejected):
        length = np.asarray(counts.sum(axis=1)).ravel()
        # An answer without a word decides nothing: NaN here, and a tie below.
        values.append(
            np.divide(
                counts @ frequency, length, where=length > 0, out=np.full(len(length), np.nan)
            )
        )
    wordless = np.isnan(values).any(axis=0)
    winners, losers = (np.where(wordless, 0, value) for value in values)
    return predict(
        "the answer with the more common words",
        winners,
        losers,
        prompts=prompts,
        note="By the mean log-frequency of its words; longer texts repeat common words.",
    )


def listed_words(words: Words, listed: Iterable[str], *, prompts: ArrayLike | None = None) -> Bias:
    """How often the answer that has more of the listed words was chosen."""
    counted = np.isin(words.vocabulary, [word.lower() for word in listed]).astype(float)
    return predict(
        "the answer with more of the listed words",
        words.chosen @ counted,
        words.rejected @ counted,
        prompts=prompts,
    )


def telling_words(words: Words, *, prompts: ArrayLike | None = None) -> tuple[Bias, ...]:
    """The five words whose presence in one of the two answers tells most about the winner.

    A prompt has one vote on a word, that of most of its pairs, since pairs of one prompt are no
    independent pairs. Of the 2,000 words with most votes, those whose sign test has p < .05 after
    Holm's correction over all of them, the least p first.

    Args:
        prompts: `(pairs,)`; without them each pair has a vote.
    Check: tests/library/test_audit.py.
    """
    present = (words.chosen > 0).astype(np.int8) - (words.rejected > 0).astype(np.int8)
    votes = present if prompts is None else _count_votes(present, prompts)
    won = np.asarray((votes > 0).sum(axis=0)).ravel()
    lost = np.asarray((votes < 0).sum(axis=0)).ravel()
    seen = won + lost
    frequent = np.argsort(-seen, kind="stable")[:_MOST_WORDS]
    tried = frequent[seen[frequent] >= _FEWEST_VOTES]
    if not len(tried):
        return ()
    p = _sign_test(won[tried], seen[tried])
    order = np.argsort(p, kind="stable")
    telling = tried[order[holm(p)[order] < 0.05]]
    return tuple(
        predict(
            f"the answer with the word “{words.vocabulary[i]}”",
            present[:, [i]].toarray().ravel(),
            np.zeros(present.shape[0]),
            prompts=prompts,
        )
        for i in telling[:_MOST_TELLING]
    )


def _count_votes(present: sparse.csr_matrix, prompts: ArrayLike) -> sparse.csr_matrix:
    """`present` `(pairs, words)`, summed over the pairs of each prompt: `(prompts, words)`."""
    codes = np.unique(prompts, return_inverse=True)[1]
    pairs = len(codes)
    return sparse.csr_matrix((np.ones(pairs), (codes, np.arange(pairs)))) @ present


def _sign_test(wins: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.float64]:
    """The two-sided p of "heads and tails are equally likely"; exact, as both tails are equal."""
    fewer = np.minimum(wins, counts - wins)
    p: NDArray[np.float64] = np.minimum(2 * scipy_stats.binom.cdf(fewer, counts, 0.5), 1.0)
    return p
