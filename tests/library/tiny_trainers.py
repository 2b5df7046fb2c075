"""Both trainers on a tiny Llama, a tokenizer and pairs that are built here: nothing is downloaded.

This file is imported by the tests of the trainers, and what it builds is the same in each process.
"""

import math
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import log_softmax
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from trl import DPOConfig, RewardConfig

from sympo.trainer import (
    SymmetricRewardConfig,
    SymmetricRewardTrainer,
    SymPOConfig,
    SymPOTrainer,
)

WORDS = [f"w{i}" for i in range(20)]
# Large enough for margins to differ between a policy and a reference drawn from two seeds.
BETA = 0.7
# What cdpo and rdpo are told, here and in `write_formula`; and where RE-PO's η begins.
RATES = {"cdpo": 0.2, "rdpo": 0.2}
ETA = 0.9
TEMPLATE = (
    "{% for m in messages %}{{ 'user: ' if m.role == 'user' else 'bot: ' }}{{ m.content }} "
    "{% if m.role == 'assistant' %}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}bot: {% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<eos>", "<unk>", "user:", "bot:", *WORDS]
    vocabulary = {word: number for number, word in enumerate(words)}
    by_words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    by_words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=by_words,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template=TEMPLATE,
    )


def build_model(seed: int = 0, kind: type = LlamaForCausalLM, **settings: Any) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=25,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
        **settings,
    )
    # Wide initial weights: the implicit rewards then differ by whole nats, and a wrong formula
    # shows at the first step.
    config.initializer_range = 0.3
    return kind(config)


def build_reward_model() -> LlamaForSequenceClassification:
    return build_model(kind=LlamaForSequenceClassification, num_labels=1)


def draw_pairs(rows: int = 16, *, seed: int = 0, flips: bool = True) -> Dataset:
    """Pairs of random words; every third is flipped, or there is no flip column at all."""
    draw = np.random.default_rng(seed)

    def text(low: int, high: int) -> str:
        return " ".join(draw.choice(WORDS, draw.integers(low, high)))

    pairs = [
        {"prompt": text(2, 4) + " ", "chosen": text(1, 6), "rejected": text(1, 6)}
        for _ in range(rows)
    ]
    if flips:
        pairs = [{**pair, "is_flipped": i % 3 == 0} for i, pair in enumerate(pairs)]
    return Dataset.from_list(pairs)


def settings(folder: Any, **changes: Any) -> dict[str, Any]:
    """Arguments of any config: three logged steps on the CPU, nothing saved."""
    return {
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
        "output_dir": str(folder),
        "save_strategy": "no",
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "max_steps": 3,
        "dataloader_pin_memory": False,
        **changes,
    }


class Recorded:
    """A trainer that keeps every training loss, unrounded."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.__dict__.setdefault("seen", []).append(loss.item())
        return loss


def build(
    loss_type: str | list[str],
    folder: Any,
    *,
    base: type = SymPOTrainer,
    data: Dataset | None = None,
    evaluation: Dataset | None = None,
    peft_config: LoraConfig | None = None,
    loss: Any = None,
    **changes: Any,
) -> Any:
    """A trainer whose policy (seed 0) is not its reference (seed 1): margins are not 0 at first.

    Args:
        base: SymPOTrainer, or TRL's DPOTrainer to compare with.
        loss: of your own, for SymPOTrainer alone.
        changes: of `settings`.
    """
    config = SymPOConfig if base is SymPOTrainer else DPOConfig
    if base is SymPOTrainer and isinstance(loss_type, str):
        changes = {"noise_rate": RATES.get(loss_type), **changes}
    return type(base.__name__, (Recorded, base), {})(
        build_model(0),
        None if peft_config else build_model(1),
        config(**settings(folder, loss_type=loss_type, beta=BETA, **changes)),
        train_dataset=draw_pairs() if data is None else data,
        eval_dataset=evaluation,
        processing_class=build_tokenizer(),
        peft_config=peft_config,
        **({} if loss is None else {"loss": loss}),
    )


def build_reward(
    folder: Any,
    base: type = SymmetricRewardTrainer,
    data: Dataset | None = None,
    loss: Any = None,
    **changes: Any,
) -> Any:
    """A trainer of a reward model, ours or TRL's, that is evaluated on its training pairs."""
    config = SymmetricRewardConfig if base is SymmetricRewardTrainer else RewardConfig
    pairs = draw_pairs() if data is None else data
    return type(base.__name__, (Recorded, base), {})(
        build_reward_model(),
        config(**settings(folder, **changes)),
        train_dataset=pairs,
        eval_dataset=pairs,
        processing_class=build_tokenizer(),
        **({} if loss is None else {"loss": loss}),
    )


def train(*args: Any, resume: str | None = None, **kwargs: Any) -> Any:
    trainer = build(*args, **kwargs)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    named = trainer.model.named_parameters()
    return {name: parameter.detach().clone() for name, parameter in named}


def gap(left: Any, right: Any) -> float:
    """The largest difference of a weight between two trainers' models."""
    ours = weights(left)
    theirs = weights(right)
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def compute_rewards(trainer: Any, pairs: Dataset) -> np.ndarray:
    """Implicit rewards `(2, pairs)`, chosen and rejected, from full softmaxes.

    Both models, one sequence at a time: none of TRL's code.
    """
    words = trainer.processing_class

    def log_prob(network: Any, prompt: str, answer: str) -> float:
        start = len(words(prompt)["input_ids"])
        ids = words(f"{prompt}{answer} <eos>")["input_ids"]
        with torch.no_grad():
            log_probs = log_softmax(network(torch.tensor([ids])).logits[0].double(), dim=-1)
        return sum(log_probs[i - 1, ids[i]].item() for i in range(start, len(ids)))

    def reward(pair: dict[str, str], side: str) -> float:
        policy = log_prob(trainer.model, pair["prompt"], pair[side])
        reference = log_prob(trainer.ref_model, pair["prompt"], pair[side])
        return BETA * (policy - reference)

    return np.array([[reward(pair, side) for pair in pairs] for side in ("chosen", "rejected")])


def write_formula(name: str, h: np.ndarray, *, frozen: np.ndarray | None = None) -> np.ndarray:
    """The per-pair loss in numpy, written out again.

    Args:
        frozen: the margins at which repo's weight is taken; those of `h` without it.
    """
    s = 1 / (1 + np.exp(-h))
    e = RATES["cdpo"]
    at = 1 / (1 + np.exp(-(h if frozen is None else frozen)))
    w = ETA * at / (ETA * at + (1 - ETA) * (1 - at))
    formulas = {
        "dpo": -np.log(s),
        "cdpo": -(1 - e) * np.log(s) - e * np.log(1 - s),
        "rdpo": (-(1 - e) * np.log(s) + e * np.log(1 - s)) / (1 - 2 * e),
        "hinge": np.maximum(0, 1 - h),
        "ropo": 4 * 14 / 15**2 * -np.log(s) + 4 * 14**2 / 15**2 * (1 - s),
        "drdpo": np.full_like(h, -np.log(np.mean(np.exp(np.log(s))))),
        "holder": -3 * s**2 + 2 * s**3,
        "repo": -w * np.log(s) - (1 - w) * np.log(1 - s),
        "sympo_sigmoid": 1 - s,
        "sympo_ramp": np.clip(0.5 - h / 2, 0, 1),
        "sympo_erf": np.array([math.erfc(x / 2**0.5) / 2 for x in h]),
        "sympo_cauchy": 0.5 - np.arctan(h) / np.pi,
        "sympo_laplace": np.where(h > 0, np.exp(-np.abs(h)) / 2, 1 - np.exp(-np.abs(h)) / 2),
        "sympo_student_t2": 0.5 - h / (2 * np.sqrt(2 + h**2)),
        "sympo_unhinged": 1 - h,
        "sympo_holder": -3 * s**2 + 2 * s**3,
    }
    return formulas[name]
