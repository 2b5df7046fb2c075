"""Judges that score each answer alone and prefer the higher reward: blind to the order."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sympo.judge.question import write_dialogue
from sympo.judge.replies import Prompt, Reply

__all__ = ["ModelJudge", "RewardJudge"]

# The options of `from_pretrained` that say where files are, and not what is made of them.
_PLACE = ("revision", "subfolder", "cache_dir", "local_files_only", "token", "force_download")


def _prefer_higher(first: float, second: float) -> Reply:
    # Every comparison with NaN is false, which would pass for a loss.
    if math.isnan(first) or math.isnan(second):
        return Reply(None, "reward is NaN")
    return Reply(0.5 if first == second else float(first > second))


@dataclass(frozen=True)
class RewardJudge:
    """The judge that prefers the answer of higher `reward(answer)`, such as the gold reward."""

    reward: Callable[[str], float]

    def __call__(
        self, prompts: Sequence[Prompt], firsts: Sequence[str], seconds: Sequence[str]
    ) -> list[Reply]:
        """One reply per prompt, on the answer of `firsts` beside that of `seconds`."""
        return [
            _prefer_higher(self.reward(first), self.reward(second))
            for first, second in zip(firsts, seconds, strict=True)
        ]


@dataclass(frozen=True)
class ModelJudge:
    """The judge that prefers the answer to which a reward model gives more.

    A dialogue longer than the model can read has no score; nothing is truncated.

    Attributes:
        model: a sequence classifier with one output.
        tokenizer: has the chat template that the model was trained with, and a padding token.
    """

    model: Any
    tokenizer: Any
    batch_size: int = 16

    def __post_init__(self) -> None:
        # Two is transformers' default: the random head of a model that was never trained to judge.
        outputs = self.model.config.num_labels
        if outputs != 1:
            raise ValueError(
                f"a reward model has one output, not {outputs}: load one that was trained with "
                "num_labels=1"
            )
        if self.tokenizer.chat_template is None or self.tokenizer.pad_token_id is None:
            raise ValueError(
                "the tokenizer lacks a chat template or a padding token: set the ones used in "
                "training"
            )
        # The classifier finds the last token of a row by this id; without it a batch of unequal
        # lengths is refused.
        self.model.config.pad_token_id = self.tokenizer.pad_token_id

    @classmethod
    def load(cls, folder: str, *, batch_size: int = 16, **options: Any) -> "ModelJudge":
        """The reward model that is saved in `folder`, or on the hub, as safetensors.

        Args:
            options: for `from_pretrained`, such as `dtype`. What says where the files are, such as
                `revision`, holds for the tokenizer as well.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        # safetensors only: a pickled model runs code when it is loaded.
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, **options
        )
        # A template of another revision would show the model dialogues that it never saw.
        place = {name: options[name] for name in _PLACE if name in options}
        tokenizer = AutoTokenizer.from_pretrained(folder, **place)
        return cls(model, tokenizer, batch_size)

    def __call__(
        self, prompts: Sequence[Prompt], firsts: Sequence[str], seconds: Sequence[str]
    ) -> list[Reply]:
        """One reply per prompt, on the answer of `firsts` beside that of `seconds`."""
        # All answers together, so that batches are full.
        rewards = self.score([*prompts, *prompts], [*firsts, *seconds])
        pairs = zip(rewards[: len(prompts)], rewards[len(prompts) :], strict=True)
        return [
            Reply(None, "too long")
            if first is None or second is None
            else _prefer_higher(first, second)
            for first, second in pairs
        ]

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float | None]:
        """The reward of each answer; None where the dialogue is longer than the model's context."""
        dialogues = [write_dialogue(*pair) for pair in zip(prompts, answers, strict=True)]
        tokens = [
            self.tokenizer.apply_chat_template(dialogue, return_dict=True)["input_ids"]
            for dialogue in dialogues
        ]
        # A model without absolute positions names no limit.
        limit = getattr(self.model.config, "max_position_embeddings", None) or math.inf
        # Dialogues of one length together: the least padding.
        fitting = [row for row, ids in enumerate(tokens) if len(ids) <= limit]
        fitting.sort(key=lambda row: len(tokens[row]))
        rewards: list[float | None] = [None] * len(tokens)
        # No dropout: a judge is asked for its opinion, and not for a sample of it.
        self.model.eval()
        for start in range(0, len(fitting), self.batch_size):
            rows = fitting[start : start + self.batch_size]
            for row, reward in zip(rows, self._score_batch([tokens[i] for i in rows]), strict=True):
                rewards[row] = reward
        return rewards

    def _score_batch(self, tokens: list[list[int]]) -> list[float]:
        import torch

        batch = self.tokenizer.pad({"input_ids": tokens}, return_tensors="pt")
        with torch.inference_mode():
            logits = self.model(**batch.to(self.model.device)).logits
        rewards: list[float] = logits[:, 0].float().tolist()
        return rewards
