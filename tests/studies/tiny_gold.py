"""Study gold in seconds, for the tests of its parts: a small config, its runs, exact answers."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sympo.studies.alignment.config import AlignmentRun
from sympo.studies.alignment.gold import GoldConfig
from sympo.studies.alignment.sweep import BuildWorld, Workbench
from sympo.studies.records import Result

SIZES = {
    "study": "gold",
    "profile": "smoke",
    "methods": ["dpo", "rdpo", "sympo_sigmoid"],
    "noise_rates": [0.0, 0.4],
    "seeds": 1,
    "headline_methods": ["dpo", "sympo_sigmoid"],
    "headline_seeds": 1,
    "frontier_methods": ["dpo"],
    "frontier_seeds": 1,
    "betas": [0.5],
    "pairs": 48,
    "validation_pairs": 8,
    "learning_rate": 1e-3,
    "max_new_tokens": 8,
    "samples": 2,
    "batch": 16,
    "micro_batch": 16,
    "model": "tiny",
    "sft_examples": 64,
    "sft_epochs": 3,
    "sft_learning_rate": 3e-3,
    "prompts": 24,
}


def config(**changes: Any) -> GoldConfig:
    """The small config, with `changes` in place of its values."""
    return GoldConfig(**{**SIZES, **changes})


def find_run(method: str, noise_rate: float, **changes: Any) -> AlignmentRun:
    """The run of seed 0 and β = 0.1 of the small config."""
    for run in config(**changes).runs():
        if (run.method, run.noise_rate, run.beta) == (method, noise_rate, 0.1):
            return run
    raise LookupError(f"no run of {method} at {noise_rate}")


def train_here(
    runs: list[AlignmentRun], *, build_world: BuildWorld
) -> Iterator[tuple[AlignmentRun, Result]]:
    """Takes the place of `sweep.train_parallel`, in this process."""
    return Workbench(build_world).train_runs(runs)


def answer_log_prob(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[dict],
    tokens: list[int],
) -> float:
    """log π(y | x) of the answer `tokens`, read off the logits one by one, nats."""
    before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    # a world of a machine with CUDA has its model there
    ids = torch.tensor([[*before, *tokens]], device=model.device)
    logits = model(ids).logits[0, len(before) - 1 : -1]
    return log_softmax(logits.double(), -1)[range(len(tokens)), list(tokens)].sum().item()
