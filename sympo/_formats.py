"""One row of a file: in which format it is, and the reason why where it is no pair."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal

from sympo._names import show

__all__ = [
    "LONGEST",
    "Message",
    "Refused",
    "build_pair",
    "parse_dialogue",
    "parse_prompt",
    "read_flip",
    "read_gap",
    "split_dialogues",
]

# ours: bytes of a row. No pair comes near it, and a small file may unpack to rows of gigabytes.
LONGEST = 2**24

# A turn of a conversation: role and content.
Message = dict[str, str]

# The markers of HH's files, of which every dialogue is one string.
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
# Some exports of UltraFeedback keep the prompt as its chat template wrote it.
_CHATML_TURN = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*)", re.DOTALL)
_CHATML_END = "<|im_end|>\n"
_CHATML_ANSWER = "<|im_start|>assistant\n"
# What ChatML templates put there themselves; no part of the prompt.
_STOCK_SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON can write it, UTF-8 cannot


class Refused(ValueError):
    """A row that is not a pair; `kind` names the report's field, the message the reason.

    `value` is what the reason is about, where that is less than the row.
    """

    def __init__(
        self,
        reason: str,
        kind: Literal["malformed", "no_preference"] = "malformed",
        value: Any = None,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.value = value


def read_flip(value: Any, *, name: str = "is_flipped") -> bool | None:
    """Whether a value of the column `is_flipped` says flipped; None where it says nothing.

    One rule for files and for batches: a bool, 0 or 1 (an integer), or nothing at all.

    Args:
        name: what the message calls the value.
    Raises:
        ValueError: any other value: truth of a text such as "False" would be a guess.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError(
        f"{name} = {show(value)}: give true, false, 0 or 1, or leave it out where it is unknown"
    )


def parse_dialogue(text: str) -> list[Message]:
    """The messages of an HH dialogue.

    Turns of one role that follow each other are one message with the inner marker kept as text: an
    annotator typed a paragraph that begins with "Assistant:", and chat templates ask for
    alternating roles. So "\\n\\nHuman: " or "\\n\\nAssistant: " before each content gives `text`
    again. A text without a marker holds no message.
    """
    marks = list(_TURN.finditer(text))
    # A message begins where the role changes, and reaches to the next one.
    starts = [
        mark
        for before, mark in zip([None, *marks], marks, strict=False)
        if before is None or before[1] != mark[1]
    ]
    ends = [*(mark.start() for mark in starts[1:]), len(text)]
    return [
        {"role": _ROLES[mark[1]], "content": text[mark.end() : end].removeprefix(" ")}
        for mark, end in zip(starts, ends, strict=False)
    ]


def split_dialogues(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The shared prompt and the two answers of an HH row, as text.

    The prompt ends before the last Assistant turn after a Human turn that both dialogues share, and
    not before the last one of each: an answer may hold "\\n\\nAssistant:" itself (17 rows of the HH
    test files). One that holds "\\n\\nHuman:" is refused, since the two dialogues then go on from
    different prompts; "Human:" in a line is text.

    Raises:
        ValueError: the two are not one prompt with two answers.
    """
    if not (chosen.startswith("\n\nHuman:") and rejected.startswith("\n\nHuman:")):
        raise Refused("does not begin with a Human turn")
    # Markers up to which the two are letter for letter the same.
    shared: list[re.Match[str]] = []
    for mark in _TURN.finditer(chosen):
        # From the last marker only: a dialogue of many turns is read once, and not once per turn.
        same = shared[-1].end() if shared else 0
        if not rejected.startswith(chosen[same : mark.end()], same):
            break
        shared.append(mark)
    # Assistant turns that follow a Human turn: the last one that is shared begins the answers.
    starts = [
        turn for before, turn in pairwise(shared) if (before[1], turn[1]) == ("Human", "Assistant")
    ]
    if not starts:
        raise Refused("unequal prompts")
    start = starts[-1]
    # A person who speaks again after the fork has answered another text in each dialogue.
    answers = (chosen[start.end() :], rejected[start.end() :])
    if any("\n\nHuman:" in answer for answer in answers):
        raise Refused("unequal prompts")
    return chosen[: start.start()], answers[0].removeprefix(" "), answers[1].removeprefix(" ")


def parse_prompt(text: str) -> list[Message]:
    """The messages of a prompt string: one user message, or the turns of a ChatML wrapper.

    A stock system turn, which templates put there themselves, is left out.

    Raises:
        ValueError: a ChatML prompt that does not end with a user turn.
    """
    if not text.startswith("<|im_start|>"):
        return [{"role": "user", "content": text}]
    # Cut at the ends: a search for the end of each opening is quadratic where none is closed.
    *closed, rest = text.removesuffix(_CHATML_ANSWER).split(_CHATML_END)
    matches = [_CHATML_TURN.fullmatch(turn) for turn in closed]
    turns = [{"role": match[1], "content": match[2]} for match in matches if match]
    # Whatever the turns leave over is a wrapper that was cut.
    if rest or len(turns) < len(closed) or not turns or turns[-1]["role"] != "user":
        raise Refused("ChatML prompt does not end with a user turn")
    return turns[1:] if turns[0] == _STOCK_SYSTEM else turns


def _is_text(value: Any) -> bool:
    # Of most texts Python knows at once that they are ASCII.
    return isinstance(value, str) and (value.isascii() or not _SURROGATE.search(value))


def _pick_fields(messages: list[Any]) -> list[dict[str, Any]]:
    # Other fields, such as a weight or a name, would make two equal prompts differ.
    try:
        picked = [{name: message[name] for name in ("role", "content")} for message in messages]
    except (TypeError, KeyError):
        raise Refused("a message lacks role or content") from None
    for message in picked:
        if not _is_text(message["role"]):
            raise Refused("a role is not text", value=message["role"])
    return picked


def _parse_messages(
    prompt: Any, chosen: list[Any], rejected: list[Any]
) -> tuple[list[dict[str, Any]], Any, Any]:
    """Prompt and answers of a row whose answers are messages, with or without the prompt's."""
    chosen = _pick_fields(chosen)
    rejected = _pick_fields(rejected)
    # UltraFeedback gives the prompt as text and again as the first message: the messages count.
    turns = _pick_fields(prompt) if isinstance(prompt, list) else []
    # The last message is the answer, and those before it belong to the prompt.
    if not chosen or not rejected or {chosen[-1]["role"], rejected[-1]["role"]} != {"assistant"}:
        raise Refused("does not end with an assistant message")
    *before, answer = chosen
    if before != rejected[:-1]:
        raise Refused("unequal prompts")
    # Some files give the prompt by itself and again before each answer: it was asked once.
    if before[: len(turns)] != turns:
        before = turns + before
    return before, answer["content"], rejected[-1]["content"]


def _read_formats(row: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Prompt and answers of a row in any of the formats, with contents of whatever type."""
    prompt = row.get("prompt")
    chosen = row.get("chosen")
    rejected = row.get("rejected")
    # Lists are messages; two strings without a prompt are whole dialogues.
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _parse_messages(prompt, chosen, rejected)
    if not (isinstance(chosen, str) and isinstance(rejected, str)):
        raise Refused("chosen or rejected is missing")
    if prompt is None:
        dialogue, chosen, rejected = split_dialogues(chosen, rejected)
        return parse_dialogue(dialogue), chosen, rejected
    if isinstance(prompt, list):
        return _pick_fields(prompt), chosen, rejected
    return parse_prompt(prompt) if isinstance(prompt, str) else prompt, chosen, rejected


def _parse(row: dict[str, Any]) -> tuple[list[Message], str, str]:
    prompt, chosen, rejected = _read_formats(row)
    if not isinstance(prompt, list):
        raise Refused("a message is not text")
    # Checked here once for every format: what a file calls content may be anything.
    texts = [chosen, rejected, *(message["content"] for message in prompt)]
    if not all(map(_is_text, texts)):
        raise Refused("a message is not text")
    # Chat templates open the answer after a person's turn; a system turn alone asks nothing.
    asked = any(message["content"].strip() for message in prompt if message["role"] == "user")
    if not asked or prompt[-1]["role"] != "user":
        raise Refused("no user turn before the answers")
    return prompt, chosen, rejected


def _read_scores(row: dict[str, Any]) -> tuple[Any, Any]:
    """The scores of the chosen and of the rejected answer, whatever they are."""
    # Some files keep the scores in the row, others in its metadata.
    metadata = row.get("metadata")
    scores = metadata if "score_chosen" not in row and isinstance(metadata, dict) else row
    return scores.get("score_chosen"), scores.get("score_rejected")


def _check_preference(row: dict[str, Any], chosen: str, rejected: str, ties: str) -> Iterator[str]:
    """Refuse a pair without a winner, and yield what is odd about one that is kept."""
    # Nobody prefers an answer for the spaces at its ends.
    if chosen.strip() == rejected.strip():
        raise Refused("chosen = rejected", "no_preference")
    high, low = _read_scores(row)
    if isinstance(high, (int, float)) and isinstance(low, (int, float)):
        # NaN alone differs from itself; math.isnan fails on integers that no float can hold.
        if high != high or low != low:
            raise Refused("a score is NaN", value=(high, low))
        # The label contradicts its own scores: whichever is right, the row is broken.
        if high < low:
            raise Refused("chosen scores below rejected", value=(high, low))
        if high == low and ties == "drop":
            raise Refused("score tie", "no_preference", (high, low))
        if high == low:
            yield "score tie"
    elif isinstance(high, str) or isinstance(low, str):
        # "high" and "low" could be read either way, and "7" as a number: neither is compared.
        yield "a score is text"
    if not (chosen.strip() and rejected.strip()):
        yield "empty answer"
    if any("\n\nAssistant:" in answer for answer in (chosen, rejected)):
        yield "answer holds an Assistant turn"


def _check_flip(row: dict[str, Any]) -> bool | None:
    value = row.get("is_flipped")
    try:
        return read_flip(value)
    except ValueError:
        raise Refused("is_flipped is neither true, false, 0 nor 1", value=value) from None


def read_gap(row: dict[str, Any]) -> float | None:
    """The chosen answer's score minus the other's, of a row that is a pair; None without both."""
    high, low = _read_scores(row)
    numbers = isinstance(high, (int, float)) and isinstance(low, (int, float))
    return high - low if numbers else None


def build_pair(row: Any, ties: str) -> tuple[dict[str, Any], list[str]]:
    """A row of the dataset, and what is odd about it.

    Args:
        row: as JSON gives it, or the reason why there is none.
    """
    if isinstance(row, Refused):
        raise row
    if isinstance(row, list) and any(isinstance(each, dict) for each in row):
        raise Refused("an array of rows, each of which needs a line of its own")
    if not isinstance(row, dict):
        raise Refused("not a JSON object")
    prompt, chosen, rejected = _parse(row)
    oddities = list(_check_preference(row, chosen, rejected, ties))
    pair = {
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "is_flipped": _check_flip(row),
    }
    return pair, oddities
