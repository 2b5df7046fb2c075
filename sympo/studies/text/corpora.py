"""Corpora of real comparisons: which pairs train a reward head, and which test it.

The published training files are large, and the public test files are enough for a linear head. So
`helpful` trains on the test files of two subsets of HH and is tested on a third, and the other two
corpora are split by prompt.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from datasets import Dataset, concatenate_datasets

from sympo import preferences
from sympo.preferences import Pairs, Report
from sympo.studies import comparisons, progress

CorpusName = Literal["helpful", "harmless", "ultrafeedback"]

_HELPFUL = ("helpful-online/test", "helpful-rejection-sampled/test")
_ULTRAFEEDBACK = ("train", "test")
# A second sample that SYMPO_DATA may hold, of other prompts and without scores.
_UNSCORED = "train.parquet"

# Ours: the share of prompts that are held out for the test, whatever the seed.
TEST_SHARE = {"helpful": 0.15, "harmless": 0.3, "ultrafeedback": 0.4}
_SPLIT_SEED = 0


class Corpus(NamedTuple):
    """Pairs to train on and to test on, which share no prompt.

    Attributes:
        train, test: columns prompt, chosen, rejected, subset (the file's name) and gap (the score
            of the chosen answer minus that of the rejected one; NaN where there are none).
        report: what became of the rows of the files.
        overlap: pairs that left the training part because their prompt is tested.
    """

    name: str
    train: Dataset
    test: Dataset
    report: Report
    overlap: int

    def source(self) -> dict[str, str]:
        """The files, `data`, and one hash of their names and content, `data_sha256`."""
        return preferences.Split(
            self.train, self.test, self.report, Report(), self.overlap
        ).source()


def load(name: str, *, most: int) -> Corpus:
    """A corpus, with at most `most` pairs of each file.

    Raises:
        AssetError: a file cannot be had.
    """
    with progress.stage(f"reading the comparisons of {name}"):
        return _load(name, most)


def _load(name: str, most: int) -> Corpus:
    if name == "helpful":
        base = _load_hh("helpful-base/test", most=most)
        rest = _join([_load_hh(file, most=most) for file in _HELPFUL])
        split = preferences.split_pairs(rest, base)
        train, held_out = _hold_out(split.train, name)
        test = concatenate_datasets([split.test, held_out])
        return Corpus(name, train, test, rest.report + base.report, split.overlap)
    if name == "harmless":
        pairs = _load_hh("harmless-base/test", most=most)
    else:
        files = [*_ULTRAFEEDBACK, *_find_unscored()]
        pairs = _join([_load_ultrafeedback(file, most=most) for file in files])
    return Corpus(name, *_hold_out(pairs.dataset, name), pairs.report, 0)


def join_sources(corpora: Sequence[Corpus]) -> dict[str, str]:
    """The files of several corpora, and one hash of them all."""
    each = [corpus.source() for corpus in corpora]
    digests = [source["data_sha256"] for source in each]
    return {
        "data": "; ".join(dict.fromkeys(source["data"] for source in each)),
        "data_sha256": hashlib.sha256(repr(digests).encode()).hexdigest(),
    }


def _hold_out(dataset: Dataset, name: str) -> tuple[Dataset, Dataset]:
    return preferences.hold_out(dataset, fraction=TEST_SHARE[name], seed=_SPLIT_SEED)


def _load_hh(file: str, *, most: int) -> Pairs:
    pairs = comparisons.load_hh(file)
    gaps = [np.nan] * len(pairs.dataset)
    return _draw(pairs, file.partition("/")[0], gaps, most=most)


def _load_ultrafeedback(file: str, *, most: int) -> Pairs:
    pairs = comparisons.load_ultrafeedback(file)
    found = comparisons.ultrafeedback_gaps(file)
    columns = (pairs.dataset[name] for name in ("prompt", "chosen", "rejected"))
    rows = zip(*([cell[-1]["content"] for cell in column] for column in columns), strict=True)
    gaps = [found.get(texts, np.nan) for texts in rows]
    return _draw(pairs, "ultrafeedback", gaps, most=most)


def _find_unscored() -> list[str]:
    """The name of the second sample of UltraFeedback, where SYMPO_DATA has it."""
    folder = Path(os.environ.get("SYMPO_DATA") or os.devnull, "ultrafeedback")
    return [_UNSCORED] if (folder / _UNSCORED).is_file() else []


def _draw(pairs: Pairs, subset: str, gaps: Sequence[float], *, most: int) -> Pairs:
    """The pairs with the columns `subset` and `gap`, and `most` of them drawn by their keys."""
    dataset = pairs.dataset.add_column("subset", [subset] * len(gaps))
    dataset = dataset.add_column("gap", np.asarray(gaps, dtype=float))
    drawn = preferences.row_generator(dataset, _SPLIT_SEED).random(len(dataset))
    return pairs._replace(dataset=_keep(dataset, drawn <= np.sort(drawn)[:most].max()))


def _keep(dataset: Dataset, kept: Any) -> Dataset:
    return dataset.select(np.flatnonzero(kept))


def _join(parts: Sequence[Pairs]) -> Pairs:
    report = sum((part.report for part in parts), Report())
    return Pairs(concatenate_datasets([part.dataset for part in parts]), report)
