"""Recorded comparisons: Anthropic HH and UltraFeedback-binarized, from their pinned sources."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from datasets import concatenate_datasets

from sympo._formats import Refused, build_pair, read_gap
from sympo.preferences import Pairs, Report, Split, load_file, read_rows, split_pairs
from sympo.studies import sources

# split → (a sample under SYMPO_DATA, the hub's file)
_ULTRAFEEDBACK = {
    "train": ("train_clean.jsonl", "data/train_prefs-00000-of-00001.parquet"),
    "test": ("eval_clean.jsonl", "data/test_prefs-00000-of-00001.parquet"),
}


def load_hh(*names: str) -> Pairs:
    """Anthropic HH: the pairs of files `subset/split`, such as "helpful-base/test"."""
    return _load("hh", [f"{name}.jsonl.gz" for name in names])


def load_ultrafeedback(*names: str, ties: Literal["drop", "keep"] = "drop") -> Pairs:
    """UltraFeedback-binarized: the pairs of "train" and "test", or of files by any other name.

    SYMPO_DATA may hold a sample of a split in place of the hub's file; the report's `files` say
    which one was read.
    """
    return _load("ultrafeedback", [_find_ultrafeedback(name) for name in names], ties=ties)


def ultrafeedback_gaps(name: str) -> dict[tuple[str, str, str], float]:
    """(question, chosen, rejected) → the chosen one's score minus the other's, where there are any.

    The question is the prompt's last message: the same two answers may stand after several.

    Args:
        name: as for `load_ultrafeedback`; a file without scores gives an empty dict.
    """
    rows = read_rows(sources.preference_file("ultrafeedback", _find_ultrafeedback(name)).path)
    gaps = {}
    for row in rows:
        try:
            pair, _ = build_pair(row, ties="keep")
        except Refused:  # counted where the pairs are read
            continue
        gap = read_gap(row)
        if gap is not None:
            question, chosen, rejected = (
                pair[name][-1]["content"] for name in ("prompt", "chosen", "rejected")
            )
            gaps[question, chosen, rejected] = gap
    return gaps


# study → what loads its files
LOADERS: dict[str, Callable[..., Pairs]] = {"hh": load_hh, "ultrafeedback": load_ultrafeedback}


def load_split(study: str, train_files: Sequence[str], test_files: Sequence[str]) -> Split:
    """Clean training and test pairs of a study that share no prompt.

    Args:
        study: "hh" or "ultrafeedback".
        train_files, test_files: names that the study's loader knows.
    """
    load = LOADERS[study]
    return split_pairs(load(*train_files), load(*test_files))


def _find_ultrafeedback(name: str) -> str:
    """The file behind a name: a sample under SYMPO_DATA, where there is one, or the hub's."""
    folder = Path(os.environ.get("SYMPO_DATA") or os.devnull, "ultrafeedback")
    sample, hub = _ULTRAFEEDBACK.get(name, (name, name))
    return sample if (folder / sample).is_file() else hub


def _load(dataset: str, names: Sequence[str], *, ties: Literal["drop", "keep"] = "drop") -> Pairs:
    if not names:
        raise ValueError(f"no file of '{dataset}' is named: give at least one")
    assets = [sources.preference_file(dataset, name) for name in names]
    parts = [load_file(asset.path, ties=ties) for asset in assets]
    files = tuple(
        f"{name} from {asset.source}, sha256 {asset.sha256[:12]}"
        for name, asset in zip(names, assets, strict=True)
    )
    return Pairs(
        concatenate_datasets([part.dataset for part in parts]),
        sum((part.report for part in parts), Report(files=files)),
    )
