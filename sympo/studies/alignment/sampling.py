"""Answers that a model samples, and what they tell: KL to the reference, win rates."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from sympo import stats
from sympo.studies import progress
from sympo.studies.alignment.config import Messages, WorldSpec

# Bounds on memory, all ours.
# Answers that are sampled together, at most.
ROWS = 512
# Bytes of the keys and values that sampling keeps.
CACHE = 2**32
# Logits per forward pass of `divergences`, 1 GiB.
LOGITS = 2**28


class Batch(NamedTuple):
    """What a model reads when it reads sampled answers, `(rows, tokens)` each.

    Attributes:
        ids: tokens of prompts, padded on the left, and of answers, padded on the right.
        attention: 1 at tokens that are no padding.
        answer: 1 at tokens of the answer, <eos> included.
    """

    ids: Tensor
    attention: Tensor
    answer: Tensor


class Samples(NamedTuple):
    """Sampled answers, prompt by prompt: `texts`, `lengths` in tokens, and the same as batches."""

    texts: list[str]
    lengths: list[int]
    batches: list[Batch]


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    spec: WorldSpec,
    *,
    samples: int,
    seed: int,
) -> Samples:
    """`samples` answers to each prompt at temperature 1, without top-k or top-p.

    An answer that has not ended after `spec.max_new_tokens` tokens ends there.

    Args:
        prompts: messages, one list per prompt.
        spec: sets the lengths of prompts and answers.
        seed: of the draw, which leaves torch's generator as it was.
    Check: tests/studies/test_sampling.py::test_sampling_draws_from_the_whole_distribution.
    """
    asked = [
        tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        for prompt in prompts
        for _ in range(samples)
    ]
    # without dropout
    model.eval()
    size = _count_rows(model.config, tokens=spec.max_prompt + spec.max_new_tokens)
    # the parts decide which random numbers an answer gets, so their size is part of the result
    parts = [asked[start : start + size] for start in range(0, len(asked), size)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        batches = [_generate(model, tokenizer, part, spec.max_new_tokens) for part in parts]
    # of each row the answer's tokens alone, without prompt and padding
    rows = [
        ids[answer.bool()]
        for batch in batches
        for ids, answer in zip(batch.ids, batch.answer, strict=True)
    ]
    texts = [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
    return _take_main_process(Samples(texts, list(map(len, rows)), batches))


def _count_rows(shape: PretrainedConfig, *, tokens: int) -> int:
    """How many answers of `tokens`, prompts included, a model of this config samples together."""
    head = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    # keys and values of every layer, 4 bytes a number
    row = 4 * 2 * shape.num_hidden_layers * shape.num_key_value_heads * head * tokens
    return min(ROWS, max(1, CACHE // row))


def _take_main_process(samples: Samples) -> Samples:
    """The main process's samples.

    GPUs may differ in a last digit, and then in an answer that all processes should train on.
    """
    if progress.processes() == 1:
        return samples
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([samples])[0]


def _generate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], tokens: int
) -> Batch:
    """One sampled answer of at most `tokens` tokens to each text."""
    # a chat template has written the special tokens already
    inputs = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
    )
    ids = model.generate(
        **inputs.to(model.device),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=tokens,
        # the tokenizer's: a model may list other ends of its own
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).cpu()
    # `generate` gives back the prompt as well
    start = inputs.input_ids.shape[1]
    ends = (ids[:, start:] == tokenizer.eos_token_id).long()
    # An answer goes on as long as no <eos> came before. Padding may be <eos> too: only the first
    # one counts.
    inside = (ends.cumsum(1) - ends == 0).long()
    attention = torch.cat([inputs.attention_mask.cpu(), inside], 1)
    return Batch(ids, attention, torch.cat([torch.zeros(len(ids), start).long(), inside], 1))


@torch.no_grad()
def divergences(
    policy: PreTrainedModel, reference: PreTrainedModel, samples: Samples
) -> NDArray[np.float64]:
    """KL(π ‖ π_ref) of each answer: Σₜ KL(π(·|x, y₍ₜ₎) ‖ π_ref(·|x, y₍ₜ₎)) over its tokens, nats.

    Each step's divergence is exact and only the path is sampled: an unbiased estimate that is never
    negative and varies less than log π/π_ref of the answer.

    Args:
        samples: of the policy.
    Returns:
        `(prompts·samples,)`.
    Check: tests/studies/test_sampling.py::test_divergence_by_enumeration.
    """
    values = []
    for batch in samples.batches:
        # logits of every token of the vocabulary take far more memory than the model
        tokens = int(batch.answer.sum(1).max())
        rows = max(1, LOGITS // (policy.config.vocab_size * tokens))
        parts = zip(*(tensor.split(rows) for tensor in batch), strict=True)
        values += [_divergence(policy, reference, Batch(*part)) for part in parts]
    return np.concatenate(values)


def _divergence(
    policy: PreTrainedModel, reference: PreTrainedModel, batch: Batch
) -> NDArray[np.float64]:
    # prompts are padded on the left, so that all answers begin in the same column
    start = int(batch.answer.argmax(1).min())
    # the token before an answer predicts its first one
    length = batch.ids.shape[1] - start + 1
    inputs = {
        "input_ids": batch.ids.to(policy.device),
        "attention_mask": batch.attention.to(policy.device),
        # counted from the first token that is no padding
        "position_ids": (batch.attention.cumsum(1) - 1).clamp(min=0).to(policy.device),
    }

    # in float32, whatever the model computes in: small differences are what is measured
    def log_probs(model: PreTrainedModel) -> Tensor:
        logits = model(**inputs, use_cache=False, logits_to_keep=length).logits
        return log_softmax(logits[:, :-1].float(), -1)

    ours = log_probs(policy)
    theirs = log_probs(reference)
    steps = (ours.exp() * (ours - theirs)).sum(-1).cpu()
    return (steps * batch.answer[:, start:]).sum(1).double().numpy()


def win_rates(ours: ArrayLike, theirs: ArrayLike) -> NDArray[np.float64]:
    """Per prompt, the share of pairs (one answer of ours, one of theirs) that ours wins.

    A tie counts ½. Prompts, not answers, are the independent units of an interval.

    Args:
        ours, theirs: rewards `(prompts, samples)`; the two numbers of samples may differ.
    Returns:
        `(prompts,)`.
    Check: tests/studies/test_sampling.py::test_win_rates_by_enumeration.
    """
    # every answer against every answer of the other side
    ours = np.asarray(ours)[:, :, None]
    theirs = np.asarray(theirs)[:, None, :]
    return ((ours > theirs) + 0.5 * (ours == theirs)).mean(axis=(1, 2))


def summarise(name: str, values: ArrayLike, *, proportion: bool = False) -> dict[str, float]:
    """The mean of `values` as `name`, its 95% t interval as `name`_low and `name`_high.

    Args:
        values: one per prompt, `(prompts,)`.
        proportion: whether they lie in [0, 1], and so does their interval.
    """
    interval = stats.mean_interval(values, proportion=proportion)
    return {
        name: interval.estimate,
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
    }
