"""The words of a sample of answers, counted once for everything that reads them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["Words", "count_words"]

_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class Words:
    """How often each word is in each answer.

    Attributes:
        vocabulary: `(words,)`, in lower case.
        chosen, rejected: `(pairs, words)`, counts.
        chosen_length, rejected_length: `(pairs,)`, characters.
    """

    vocabulary: NDArray[np.str_]
    chosen: sparse.csr_matrix
    rejected: sparse.csr_matrix
    chosen_length: NDArray[np.int64]
    rejected_length: NDArray[np.int64]


def count_words(chosen: Sequence[str], rejected: Sequence[str]) -> Words:
    """The words of the answers of each pair."""
    numbers: dict[str, int] = {}
    columns = [
        np.array([numbers.setdefault(w, len(numbers)) for w in _WORD.findall(text.lower())], int)
        for text in (*chosen, *rejected)
    ]
    ends = np.cumsum([0, *(len(column) for column in columns)])
    indices = np.concatenate(columns) if columns else np.zeros(0, int)
    shape = (len(columns), len(numbers))
    counts = sparse.csr_matrix((np.ones(len(indices)), indices, ends), shape=shape)
    counts.sum_duplicates()
    lengths = np.array([len(text) for text in (*chosen, *rejected)], dtype=np.int64)
    pairs = len(chosen)
    vocabulary = np.array(list(numbers), dtype=object)
    return Words(vocabulary, counts[:pairs], counts[pairs:], lengths[:pairs], lengths[pairs:])
