"""Preference pairs in TRL's conversational format: Anthropic HH, UltraFeedback-binarized, your own
files.

The columns: `prompt` (messages, the last one a user's), `chosen` and `rejected` (one assistant
message each) and `is_flipped` (bool). Every row of a file ends up in the dataset or is counted in
its `Report` by the reason why not.
"""

import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Dataset, Features, List, Value
from numpy.typing import ArrayLike

from sympo import noise

# ours: the HH test files have 2 malformed rows of 8,552, so more means another format
MALFORMED_LIMIT = 0.01

_MESSAGES = List({"role": Value("string"), "content": Value("string")})
_FEATURES = Features(
    {**dict.fromkeys(("prompt", "chosen", "rejected"), _MESSAGES), "is_flipped": Value("bool")}
)
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_CHATML = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)<\|im_end\|>\n", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON can write it, UTF-8 cannot
_CHATML_END = "<|im_start|>assistant\n"
# what ChatML templates put there themselves; no part of the prompt
_DEFAULT_SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True)
class Report:
    """What became of the rows of one file or of several.

    Attributes:
        malformed: reason → rows that could not be read as a pair; more than 1% is an error.
        no_preference: reason → rows that are sound, but name no winner (equal answers, equal
            scores). Counted apart: 1.2% of helpful-rejection-sampled has chosen = rejected, which
            is no sign of a wrong format.
        noted: reason → rows that were kept, and look odd.
        files: name, source and sha256 of each file, for a record's provenance.
    """

    rows: int = 0
    kept: int = 0
    malformed: Counter = field(default_factory=Counter)
    no_preference: Counter = field(default_factory=Counter)
    noted: Counter = field(default_factory=Counter)
    files: tuple[str, ...] = ()

    def __add__(self, other: "Report") -> "Report":
        return Report(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __str__(self) -> str:
        parts = [f"{self.kept} of {self.rows} rows kept"]
        for kind in ("malformed", "no_preference", "noted"):
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(getattr(self, kind).items()))
            parts += [f"{kind.replace('_', ' ')}: {counts}"] if counts else []
        return "; ".join(parts)


class Pairs(NamedTuple):
    """A dataset of pairs and the report of the rows it was made from."""

    dataset: Dataset
    report: Report


class Split(NamedTuple):
    """Training and test pairs that share no prompt; `overlap` training rows were dropped for
    that.
    """

    train: Dataset
    test: Dataset
    train_report: Report
    test_report: Report
    overlap: int

    def source(self) -> dict[str, str]:
        """The files, and one hash of their names and content, for a record: `data`,
        `data_sha256`.
        """
        files = (*self.train_report.files, *self.test_report.files)
        content = [(name.partition(" from ")[0], name.rpartition(" ")[2]) for name in files]
        return {
            "data": "; ".join(files),
            "data_sha256": hashlib.sha256(repr(content).encode()).hexdigest(),
        }


class _Refused(Exception):
    """A row that is not a pair; `kind` names the report's field, the message the reason."""

    def __init__(self, reason: str, kind: str = "malformed"):
        super().__init__(reason)
        self.kind = kind


def parse_dialogue(text: str) -> list[dict]:
    """The messages of an HH dialogue; "\\n\\nHuman: " or "\\n\\nAssistant: " before each content
    gives `text` again.

    Turns of one role that follow each other are one message with the inner marker kept as text: an
    annotator typed a paragraph that begins with "Assistant:", and chat templates ask for
    alternating roles.
    """
    marks = list(_TURN.finditer(text))
    messages: list[dict] = []
    for mark, end in zip(marks, [m.start() for m in marks[1:]] + [len(text)], strict=True):
        role = _ROLES[mark[1]]
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += text[mark.start() : end]
        else:
            messages.append({"role": role, "content": text[mark.end() : end].removeprefix(" ")})
    return messages


def split_dialogues(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The shared prompt and the two answers of an HH row, as text.

    The prompt ends before the last Assistant turn after a Human turn that both dialogues share, and
    not before the last one of each: an answer may hold "\\n\\nAssistant:" itself (17 rows of the HH
    test files). One that holds "\\n\\nHuman:" is refused, since the two dialogues then go on from
    different prompts; "Human:" in a line is text.
    """
    if not (chosen.startswith("\n\nHuman:") and rejected.startswith("\n\nHuman:")):
        raise _Refused("does not begin with a Human turn")
    shared = [mark for mark in _TURN.finditer(chosen) if rejected.startswith(chosen[: mark.end()])]
    starts = [
        turn for before, turn in pairwise(shared) if (before[1], turn[1]) == ("Human", "Assistant")
    ]
    if not starts:
        raise _Refused("unequal prompts")
    answers = chosen[starts[-1].end() :], rejected[starts[-1].end() :]
    if any("\n\nHuman:" in answer for answer in answers):
        raise _Refused("unequal prompts")
    return chosen[: starts[-1].start()], *(answer.removeprefix(" ") for answer in answers)


def parse_prompt(text: str) -> list[dict]:
    """The messages of a prompt string: one user message, or what a ChatML wrapper holds but for a
    stock system turn.
    """
    if not text.startswith("<|im_start|>"):
        return [{"role": "user", "content": text}]
    body = text.removesuffix(_CHATML_END)
    turns = [{"role": role, "content": content} for role, content in _CHATML.findall(body)]
    if _CHATML.sub("", body) or not turns or turns[-1]["role"] != "user":
        raise _Refused("ChatML prompt does not end with a user turn")
    return turns[1:] if turns[0] == {"role": "system", "content": _DEFAULT_SYSTEM} else turns


def _parse_messages(prompt, chosen: list, rejected: list) -> tuple[list[dict], str, str]:
    try:
        chosen, rejected = (
            [{k: m[k] for k in ("role", "content")} for m in side] for side in (chosen, rejected)
        )
        prompt = (
            [{k: m[k] for k in ("role", "content")} for m in prompt]
            if isinstance(prompt, list)
            else []
        )
    except (TypeError, KeyError):
        raise _Refused("a message lacks role or content") from None
    if not chosen or not rejected or {chosen[-1]["role"], rejected[-1]["role"]} != {"assistant"}:
        raise _Refused("does not end with an assistant message")
    if chosen[:-1] != rejected[:-1]:
        raise _Refused("unequal prompts")
    return prompt + chosen[:-1], chosen[-1]["content"], rejected[-1]["content"]


def _parse(row: dict) -> tuple[list[dict], str, str]:
    prompt, chosen, rejected = (row.get(name) for name in ("prompt", "chosen", "rejected"))
    if isinstance(chosen, list) and isinstance(rejected, list):
        prompt, chosen, rejected = _parse_messages(prompt, chosen, rejected)
    elif not (isinstance(chosen, str) and isinstance(rejected, str)):
        raise _Refused("chosen or rejected is missing")
    elif prompt is None:
        prompt, chosen, rejected = split_dialogues(chosen, rejected)
        prompt = parse_dialogue(prompt)
    elif isinstance(prompt, str):
        prompt = parse_prompt(prompt)
    texts = (
        [chosen, rejected, *(m["content"] for m in prompt)] if isinstance(prompt, list) else [None]
    )
    if not all(isinstance(text, str) and not _SURROGATE.search(text) for text in texts):
        raise _Refused("a message is not text")
    if (
        not any(m["content"].strip() for m in prompt if m["role"] == "user")
        or prompt[-1]["role"] != "user"
    ):
        raise _Refused("no user turn before the answers")
    return prompt, chosen, rejected


def _check_preference(row: dict, chosen: str, rejected: str, ties: str) -> Iterable[str]:
    """Refuse a pair without a winner, and yield what is odd about one that is kept."""
    if chosen.strip() == rejected.strip():
        raise _Refused("chosen = rejected", "no_preference")
    metadata = row.get("metadata")
    scores = metadata if "score_chosen" not in row and isinstance(metadata, dict) else row
    high, low = scores.get("score_chosen"), scores.get("score_rejected")
    if isinstance(high, (int, float)) and isinstance(low, (int, float)) and high <= low:
        if high < low:
            raise _Refused("chosen scores below rejected")
        if ties == "drop":
            raise _Refused("score tie", "no_preference")
        yield "score tie"
    if not (chosen.strip() and rejected.strip()):
        yield "empty answer"
    if any("\n\nAssistant:" in answer for answer in (chosen, rejected)):
        yield "answer holds an Assistant turn"


def parse_rows(rows: Iterable[dict | None], *, ties: Literal["drop", "keep"] = "drop") -> Pairs:
    """Pairs from rows of any format named in the module's docstring (None: a line that is no JSON
    object).

    Args:
        ties: what becomes of rows whose two scores are equal. They name no winner, so they are
            dropped (and counted) unless "keep" asks for the data set as published. A row without
            scores is never a tie.
    """
    if ties not in ("drop", "keep"):
        raise ValueError(f"ties = {ties!r} is not a choice: give 'drop' or 'keep'")
    kept, counts, total = (
        [],
        {kind: Counter() for kind in ("malformed", "no_preference", "noted")},
        0,
    )
    for row in rows:
        total += 1
        try:
            if not isinstance(row, dict):
                raise _Refused("not a JSON object")
            prompt, chosen, rejected = _parse(row)
            counts["noted"].update(list(_check_preference(row, chosen, rejected, ties)))
        except _Refused as refused:
            counts[refused.kind][str(refused)] += 1
            continue
        answers = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
        kept.append((prompt, *answers, row.get("is_flipped") is True))
    columns = {name: [row[i] for row in kept] for i, name in enumerate(_FEATURES)}
    return Pairs(Dataset.from_dict(columns, features=_FEATURES), Report(total, len(kept), **counts))


def _json_or_none(line: bytes) -> dict | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def read_rows(path: Path) -> list[dict | None]:
    """The rows of a `.jsonl`, `.jsonl.gz` or `.parquet` file; None for a line that is not JSON."""
    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path).to_pylist()
        if not path.name.endswith((".jsonl", ".jsonl.gz")):
            raise ValueError("its name ends neither in .jsonl, .jsonl.gz nor .parquet")
        # Bytes: a line that is not UTF-8 is then one bad row, and not an unreadable file.
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as lines:
            return [_json_or_none(line) for line in lines if line.strip()]
    except (OSError, EOFError, ValueError, pyarrow.ArrowException) as error:
        raise ValueError(
            f"cannot read {path.name} as preferences: {error}; fetch it again or convert it"
        ) from error


def load_file(path: str | Path, *, ties: Literal["drop", "keep"] = "drop") -> Pairs:
    """The pairs of one file: HH dialogues, `prompt`/`chosen`/`rejected` text, or messages in TRL's
    or the hub's form.

    Raises:
        ValueError: the file cannot be read, or more than 1% of its rows are malformed; the message
            has the counts.
    Check: tests/test_preferences.py.
    """
    pairs = parse_rows(read_rows(Path(path)), ties=ties)
    report = pairs.report
    if report.malformed.total() > MALFORMED_LIMIT * report.rows or not report.rows:
        raise ValueError(
            f"{Path(path).name} is not a file of preference pairs ({report}); convert or repair it"
        )
    return pairs


def split_pairs(train: Pairs, test: Pairs) -> Split:
    """Training and test pairs that share no prompt; the overlap is taken out of the training
    pairs.
    """
    kept, overlap = drop_overlap(train.dataset, test.dataset)
    return Split(kept, test.dataset, train.report, test.report, overlap)


def prompt_keys(dataset: Dataset) -> list[tuple]:
    """What makes two prompts the same: the turns but for system turns, case and spacing."""
    return [
        tuple(
            (m["role"], " ".join(m["content"].casefold().split()))
            for m in prompt
            if m["role"] != "system"
        )
        for prompt in dataset["prompt"]
    ]


def drop_overlap(train: Dataset, test: Dataset) -> tuple[Dataset, int]:
    """`train` without the rows whose prompt is also in `test`, and how many they were."""
    seen = set(prompt_keys(test))
    kept = train.select([i for i, key in enumerate(prompt_keys(train)) if key not in seen])
    return kept, len(train) - len(kept)


def hold_out(dataset: Dataset, *, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """A training and a test part that share no prompt; each prompt is held out with probability
    `fraction`.

    The draw is keyed by the prompt: it does not depend on the other rows, and a larger fraction
    holds out a superset.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction = {fraction} is not a share: give a number in (0, 1)")
    keys = prompt_keys(dataset)
    held = noise.RowGenerator(keys, seed).random(len(keys)) < fraction
    return dataset.select(np.flatnonzero(~held)), dataset.select(np.flatnonzero(held))


def take_fitting(
    dataset: Dataset, tokenizer, *, count: int, max_prompt: int, max_length: int
) -> Dataset:
    """The first `count` pairs, or all there are, whose prompt, and prompt with either answer, fit
    these many tokens.
    """

    def fits(row: dict) -> bool:
        texts = (row["prompt"], row["prompt"] + row["chosen"], row["prompt"] + row["rejected"])
        prompt, *whole = (
            len(tokenizer.apply_chat_template(m, return_dict=True)["input_ids"]) for m in texts
        )
        return prompt <= max_prompt and max(whole) <= max_length

    return dataset.select(list(islice((i for i, row in enumerate(dataset) if fits(row)), count)))


def row_generator(dataset: Dataset, seed: int) -> noise.RowGenerator:
    """Uniform numbers keyed by (prompt, the set of the two answers): neither row order nor who won
    changes a number.
    """
    columns = (dataset[name] for name in ("prompt", "chosen", "rejected"))
    texts = ([[(m["role"], m["content"]) for m in cell] for cell in column] for column in columns)
    return noise.RowGenerator(
        [(prompt, *sorted(answers)) for prompt, *answers in zip(*texts, strict=True)], seed
    )


def swap_answers(dataset: Dataset, flipped: ArrayLike) -> Dataset:
    """The dataset with chosen and rejected swapped where `flipped`, and `is_flipped` toggled there.

    Every pair of columns named alike (`ref_chosen_logps` and `ref_rejected_logps`) is swapped
    along, so that one reference pass serves every noise rate.

    Args:
        flipped: `(rows,)` bool, from any pattern of `sympo.noise`.
    """
    flipped = np.asarray(flipped, dtype=bool)
    if flipped.shape != (len(dataset),):
        raise ValueError(
            f"flipped has shape {flipped.shape}, but there are {len(dataset)} rows: give one bool per row"
        )
    columns = dataset.to_dict()
    for name in [name for name in columns if "chosen" in name]:
        other = name.replace("chosen", "rejected")
        if other in columns:
            pairs = list(zip(columns[name], columns[other], flipped, strict=True))
            columns[name] = [b if flip else a for a, b, flip in pairs]
            columns[other] = [a if flip else b for a, b, flip in pairs]
    columns["is_flipped"] = (np.asarray(columns["is_flipped"], dtype=bool) ^ flipped).tolist()
    return Dataset.from_dict(columns, features=dataset.features)


def flip_preferences(dataset: Dataset, noise_rate: float, *, seed: int) -> Dataset:
    """The dataset with each label flipped with probability `noise_rate`; the flips at a low rate
    stay at a higher one.

    Args:
        dataset: clean pairs, no row flipped yet.
        seed: another seed gives independent flips.
    Raises:
        ValueError: a rate that `noise.check_rates` refuses, or a dataset that is already flipped.
    Check: tests/test_preferences.py.
    """
    if any(dataset["is_flipped"]):
        raise ValueError(
            "the dataset already holds flipped rows: flip the clean dataset, since rates do not add up"
        )
    labels = np.ones(len(dataset), dtype=int)
    return swap_answers(
        dataset, noise.flip(labels, noise_rate, noise_rate, row_generator(dataset, seed)) < 0
    )
