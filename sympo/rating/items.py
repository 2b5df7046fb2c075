"""What is rated: pairs of answers, in an order that is drawn once, without the names of who wrote.

A rater sees the prompt, "answer 1" and "answer 2". Which of them was `a` (the chosen one, or that
of the first policy) stays in the item, and is on no screen and in no sheet. It has no say in the
order either, which is drawn by the two texts alone: where a label is corrected, the pair is shown
as before, and what was said of it still holds.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from sympo import noise
from sympo.judge import Prompt

__all__ = ["LABELS", "Item", "Items", "draw_items", "pair_answers"]

# The sources of a preference pair, in the order of its label: `a` is the chosen answer.
LABELS = ("chosen", "rejected")


@dataclass(frozen=True)
class Item:
    """Two answers to one prompt.

    Attributes:
        key: names the item in files. It depends on the prompt, the two answers and the seed, but
            not on which answer is whose.
        row: where the pair stands in the data that it was drawn from, from 0.
        prompt: text, or messages with role and content.
        a, b: the answers, of the first and of the second source.
        swapped: whether `b` is shown first; where `a` and `b` change places, so does this.
    """

    key: str
    row: int
    prompt: Prompt
    a: str
    b: str
    swapped: bool

    @property
    def shown(self) -> tuple[str, str]:
        """The two answers in the order in which a rater sees them."""
        return (self.b, self.a) if self.swapped else (self.a, self.b)


@dataclass(frozen=True)
class Items:
    """The items of one rating task, in the order in which they are rated.

    Attributes:
        items: one each.
        sources: who wrote `a` and who wrote `b`; for the analysis alone.
        seed: of the order of answers, and of the draw where not all rows are rated.
        equal: rows that are left out, since their two answers are the same.
    """

    items: tuple[Item, ...]
    sources: tuple[str, str]
    seed: int
    equal: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]

    def __str__(self) -> str:
        """One line: how many there are, and how many were left out."""
        left_out = f"; {len(self.equal)} with two equal answers left out" if self.equal else ""
        return f"{len(self)} pairs to rate{left_out}"

    @property
    def identity(self) -> str:
        """A hash of what is shown, in its order; a ratings file belongs to one.

        It stays the same where labels change, or the two sources change places.
        """
        shown = [(item.key, item.shown) for item in self]
        return digest(shown, sorted(self.sources))

    @property
    def prompts(self) -> list[Prompt]:
        """One each, for `sympo.judge.compare(judge, prompts, answers_a, answers_b)`."""
        return [item.prompt for item in self]

    @property
    def answers_a(self) -> list[str]:
        """Those of the first source."""
        return [item.a for item in self]

    @property
    def answers_b(self) -> list[str]:
        """Those of the second source."""
        return [item.b for item in self]


def draw_items(pairs: Dataset, *, seed: int, count: int | None = None) -> Items:
    """The pairs of a dataset as items whose sources are "chosen" and "rejected".

    Args:
        pairs: columns prompt, chosen and rejected, text or messages, as `sympo.preferences` loads
            them.
        seed: of the order of the answers and of the draw. It tells nobody which answer is whose.
        count: how many rows are drawn at random, without replacement; all of them if None. They
            come in random order, so that whoever stops early has rated a random sample. Draw more
            than you mean to rate: a ratings file belongs to one draw.
    Raises:
        ValueError: a column that is missing, a row that is no pair, or more rows than there are.
    Check: tests/library/test_rating.py.
    """
    missing = [name for name in ("prompt", *LABELS) if name not in pairs.column_names]
    if missing:
        raise ValueError(
            f"the dataset has no column {' or '.join(missing)}: load it with "
            "sympo.preferences.load_file"
        )
    rows = _draw_rows(len(pairs), count, seed)
    # row by row: the whole dataset may be larger than memory
    drawn = ((row, pairs[row]) for row in rows)
    entries = [(row, pair["prompt"], pair["chosen"], pair["rejected"]) for row, pair in drawn]
    return _build(entries, LABELS, seed)


def pair_answers(
    prompts: Sequence[Prompt],
    answers_a: Sequence[str],
    answers_b: Sequence[str],
    *,
    sources: tuple[str, str],
    seed: int,
    count: int | None = None,
) -> Items:
    """Two lists of answers to the same prompts as items, such as those of two policies.

    The stored generations of a record are such lists: with
    `rows = record["metrics"]["generations"]`, the prompts are `[row["prompt"] for row in rows]`,
    and the answers `[row["policy"] for row in rows]` and `[row["sft"] for row in rows]`.

    Args:
        sources: who wrote `answers_a` and who wrote `answers_b`.
        seed, count: as for `draw_items`.
    Raises:
        ValueError: lists of different lengths, one name for both sources, more than there are.
    Check: tests/library/test_rating.py.
    """
    if not len(prompts) == len(answers_a) == len(answers_b):
        raise ValueError(
            f"{len(prompts)} prompts, {len(answers_a)} answers_a and {len(answers_b)} answers_b "
            "are not pairs: give one of each per pair"
        )
    if len(set(sources)) != 2:
        raise ValueError(f"sources = {sources}: give two different names")
    rows = _draw_rows(len(prompts), count, seed)
    entries = [(row, prompts[row], answers_a[row], answers_b[row]) for row in rows]
    return _build(entries, sources, seed)


def _draw_rows(size: int, count: int | None, seed: int) -> list[int]:
    if count is not None and not 0 < count <= size:
        raise ValueError(f"count = {count} of {size} rows: give a number from 1 to {size}")
    rows: list[int] = np.random.default_rng(seed).permutation(size)[:count].tolist()
    return rows


def _read_prompt(row: int, prompt: Any) -> Prompt:
    if isinstance(prompt, str):
        return prompt
    try:
        # other fields, such as a name, might tell who wrote what
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in prompt]
    except (TypeError, KeyError):
        turns = []
    if not turns or not all(isinstance(text, str) for turn in turns for text in turn.values()):
        raise ValueError(f"row {row}: prompt is neither a text nor messages with role and content")
    return turns


def _read_answer(row: int, answer: Any) -> str:
    # one assistant message, as TRL has it
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0].get("content")
    if not isinstance(answer, str):
        raise ValueError(f"row {row}: an answer is neither a text nor one message with content")
    return answer


def _build(
    entries: Sequence[tuple[int, Any, Any, Any]], sources: tuple[str, str], seed: int
) -> Items:
    read = [
        (row, _read_prompt(row, prompt), _read_answer(row, a), _read_answer(row, b))
        for row, prompt, a, b in entries
    ]
    different = [entry for entry in read if entry[2] != entry[3]]
    equal = tuple(row for row, _, a, b in read if a == b)
    keys = _name_pairs(different, seed)
    flips = noise.RowGenerator(keys, seed).random(len(keys)) < 0.5
    # A flip is one of the two texts as they are sorted, whichever of them is `a`.
    items = tuple(
        Item(key, *entry, swapped=bool(flip) != (entry[2] > entry[3]))
        for key, entry, flip in zip(keys, different, flips, strict=True)
    )
    return Items(items, sources, seed, equal)


def _name_pairs(entries: list[tuple[int, Prompt, str, str]], seed: int) -> list[str]:
    """A key for each pair, which does not tell its two answers apart."""
    seen: Counter[str] = Counter()
    keys = []
    for _, prompt, *answers in entries:
        content = digest(prompt, sorted(answers))
        # a pair that comes twice is rated twice
        keys.append("p" + digest(content, seen[content], seed)[:15])
        seen[content] += 1
    return keys


def digest(*parts: object) -> str:
    """A hash of texts and what JSON holds, in hexadecimal digits."""
    # ASCII: half a character, which JSON can hold, has no UTF-8
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
