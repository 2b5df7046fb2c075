"""Answers that a model samples, and what they tell: KL to the reference, win rates."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StaticCache,
)

from sympo import stats
from sympo.studies import graphs, memory, models, progress
from sympo.studies.alignment.config import WHOLE, Decoding, Messages, WorldSpec

# Bounds on memory, all ours.
# Answers that a processor samples together, at most.
ROWS = 512
# Bytes of the keys and values that sampling keeps on a processor.
CACHE = 2**32
# Logits per forward pass of `divergences`, 1 GiB.
LOGITS = 2**28

# Ours: tokens between two looks at whether all answers have ended. A look waits for a GPU, which
# has by then done all that was asked of it.
LOOK_EVERY = {"cpu": 1, "cuda": 16}


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
@models.tf32(allowed=True)
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    spec: WorldSpec,
    *,
    samples: int,
    seed: int,
    decoding: Decoding | None = None,
) -> Samples:
    """`samples` answers to each prompt.

    An answer that has not ended after `spec.max_new_tokens` tokens ends there.

    Args:
        prompts: messages, one list per prompt.
        spec: sets the lengths of prompts and answers.
        seed: of the draw, which leaves torch's generator as it was.
        decoding: in place of the spec's.
    Check: tests/studies/test_sampling.py::test_sampling_draws_from_the_whole_distribution.
    """
    asked = [
        tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        for prompt in prompts
        for _ in range(samples)
    ]
    # Drawn for all answers at once, on a processor: an answer depends neither on the device nor on
    # which others are sampled with it, and policies of one seed share their numbers.
    generator = torch.Generator().manual_seed(seed)
    shape = (len(asked), spec.max_new_tokens)
    # in (0, 1], as `invert` takes them
    uniform = 1 - torch.rand(shape, generator=generator, dtype=torch.float32)
    # without dropout
    model.eval()
    rows = _count_rows(model, prompt=spec.max_prompt, answer=spec.max_new_tokens)
    parts = [slice(start, start + rows) for start in range(0, len(asked), rows)]
    batches = [
        _generate(model, tokenizer, asked[part], uniform[part], decoding or spec.decoding)
        for part in parts
    ]
    # of each row the answer's tokens alone, without prompt and padding
    answers = [
        ids[answer.bool()]
        for batch in batches
        for ids, answer in zip(batch.ids, batch.answer, strict=True)
    ]
    texts = [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]
    return _take_main_process(Samples(texts, list(map(len, answers)), batches))


def _count_rows(model: PreTrainedModel, *, prompt: int, answer: int) -> int:
    """How many answers a model samples together, of at most so many tokens.

    On a GPU half of the free memory is used.
    """
    cache, rest = _count_bytes(model.config, prompt=prompt, answer=answer)
    if model.device.type == "cpu":
        return min(ROWS, max(1, CACHE // cache))
    return max(1, memory.free_on_gpu() // 2 // (cache + rest))


def _count_bytes(shape: PretrainedConfig, *, prompt: int, answer: int) -> tuple[int, int]:
    """Bytes per answer that a model of this config samples, in float32.

    Returns:
        of keys and values, which stay; and of what comes and goes beside them, at most.
    """
    heads = shape.num_attention_heads
    head = getattr(shape, "head_dim", None) or shape.hidden_size // heads
    tokens = prompt + answer
    kept = 2 * shape.num_hidden_layers * shape.num_key_value_heads * head * tokens
    # the logits and their shares, sorted with the tokens' numbers, and the sums of both; a sort
    # needs as much again for itself
    logits = 14 * shape.vocab_size
    # of the prompt, with a copy that is aligned
    mask = 2 * prompt * tokens
    # what one layer holds while it reads the prompt: three products of the MLP; states, queries
    # and outputs; keys and values, repeated for every head
    layer = prompt * (3 * shape.intermediate_size + 8 * shape.hidden_size)
    repeated = 2 * heads * head * tokens
    return 4 * kept, 4 * (logits + mask + layer + repeated)


def _take_main_process(samples: Samples) -> Samples:
    """The main process's samples.

    GPUs may differ in a last digit, and then in an answer that all processes should train on.
    """
    if progress.processes() == 1:
        return samples
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([samples])[0]


def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    uniform: Tensor,
    decoding: Decoding,
) -> Batch:
    """One sampled answer to each text.

    transformers' `generate` is not called: it draws as many random numbers as there are rows, so
    that an answer depends on the others; and where its cache is static it compiles the step, which
    takes longer than answers as short as these. With a cache that grows nothing can be recorded.

    Args:
        uniform: `(texts, tokens)`, in (0, 1], for every token that an answer may have.
    """
    # a chat template has written the special tokens already
    inputs = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
    ).to(model.device)
    sampler = _Sampler(
        model,
        inputs.input_ids,
        inputs.attention_mask,
        tokens=uniform.shape[1],
        # the tokenizer's: a model may list other ends of its own
        end=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        decoding=decoding,
    )
    answers = sampler.run(uniform.to(model.device)).cpu()
    ends = (answers == tokenizer.eos_token_id).long()
    # An answer goes on as long as no <eos> came before. Padding may be <eos> too: only the first
    # one counts.
    inside = (ends.cumsum(1) - ends == 0).long()
    # some tokens are drawn before it is seen that all answers have ended
    length = int(inside.sum(1).max())
    answers = answers[:, :length]
    inside = inside[:, :length]
    attention = inputs.attention_mask.cpu()
    return Batch(
        torch.cat([inputs.input_ids.cpu(), answers], 1),
        torch.cat([attention, inside], 1),
        torch.cat([torch.zeros_like(attention), inside], 1),
    )


class _Sampler:
    """Answers under way, and the step that gives each of them its next token.

    All that a step changes is a tensor that stays where it is, and no tensor's value decides what
    is done: so a CUDA graph can record a step (see `graphs`). That is why the keys and values have
    their full size from the start, and why the mask is made here; transformers' own code looks
    into a mask before it decides what to build.

    Args:
        prompts: `(rows, columns)`, padded on the left.
        attention: `(rows, columns)`, 1 at tokens that are no padding.
        tokens: of an answer, at most.
        end, pad: the token that ends an answer, and what follows it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Tensor,
        attention: Tensor,
        *,
        tokens: int,
        end: int,
        pad: int,
        decoding: Decoding = WHOLE,
    ) -> None:
        rows, columns = prompts.shape
        self.model = model
        self.prompts = prompts
        self.end = end
        self.pad = pad
        self.decoding = decoding
        self.cache = StaticCache(config=model.config, max_cache_len=columns + tokens)
        # counted from the first token that is no padding
        self.positions = (attention.cumsum(1) - 1).clamp(min=0)
        # added to a query's products with the keys: 0, or as good as −∞ where it must not look
        hidden = torch.finfo(model.dtype).min
        self.mask = torch.full(
            (rows, 1, 1, columns + tokens), hidden, dtype=model.dtype, device=model.device
        )
        self.mask[..., :columns].masked_fill_(attention.bool()[:, None, None], 0)
        self.answers = torch.full((rows, tokens), pad, device=model.device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=model.device)
        # what the next step reads: the last token of each answer, its place in the answer and in
        # the cache
        self.token = torch.empty_like(self.answers[:, :1])
        self.position = self.positions[:, -1:] + 1
        self.place = torch.zeros(1, dtype=torch.long, device=model.device)
        self.column = self.place + columns

    @torch.no_grad()
    def run(self, uniform: Tensor) -> Tensor:
        """The answers `(rows, tokens)`, with padding after their ends.

        Args:
            uniform: `(rows, tokens)`, in (0, 1].
        """
        step = graphs.Replay(self.step) if self.model.device.type == "cuda" else self.step
        self.start(uniform[:, 0])
        look_every = LOOK_EVERY[self.model.device.type]
        for count, numbers in enumerate(uniform[:, 1:].unbind(1)):
            if count % look_every == 0 and self.ended.all():
                break
            step(numbers)
        return self.answers

    def start(self, uniform: Tensor) -> None:
        """Read the prompts, and draw the first token of each answer with `uniform` `(rows,)`."""
        columns = self.prompts.shape[1]
        # a prompt's token sees those before it as well as itself
        hidden = torch.finfo(self.mask.dtype).min
        later = self.mask.new_full((columns, self.mask.shape[3]), hidden).triu(1)
        mask = torch.minimum(self.mask, later)
        self._draw(self._read(self.prompts, self.positions, mask), uniform)

    def step(self, uniform: Tensor) -> None:
        """Read the last token of each answer, and draw the next one with `uniform` `(rows,)`."""
        self.mask.index_fill_(3, self.column, 0)
        logits = self._read(self.token, self.position, self.mask)
        self.position.add_(1)
        self.column.add_(1)
        self.place.add_(1)
        self._draw(logits, uniform)

    def _read(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Logits `(rows, vocabulary)` after the last of `ids`, whose keys and values are kept."""
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    def _draw(self, logits: Tensor, uniform: Tensor) -> None:
        """Write the next token of each answer."""
        token = invert(logits, uniform, self.decoding).masked_fill(self.ended, self.pad)
        self.token.copy_(token[:, None])
        self.answers.index_copy_(1, self.place, self.token)
        self.ended.logical_or_(token == self.end)


def invert(logits: Tensor, uniform: Tensor, decoding: Decoding = WHOLE) -> Tensor:
    """The first token i with F(i) ≥ u, where F is the distribution function of `token_shares`.

    A token of no probability is never the first.

    Args:
        logits: `(rows, vocabulary)`.
        uniform: u, `(rows,)`, in (0, 1].
    Returns:
        `(rows,)`; where logits are NaN, token 0.
    Check: tests/studies/test_sampling.py::test_a_token_is_where_its_number_lies.
    """
    sums = token_shares(logits, decoding).cumsum(-1)
    # the shares that are left may sum to less than 1, and so may all, rounded
    return (sums < uniform[:, None] * sums[:, -1:]).sum(-1)


def token_shares(logits: Tensor, decoding: Decoding) -> Tensor:
    """p = softmax(logits/T), and 0 for a token before which, in falling order, Σp ≥ top_p.

    The most likely token is always left; what is left is not scaled to sum to 1.

    Args:
        logits: `(rows, vocabulary)`.
    Returns:
        `(rows, vocabulary)`, in float32, whatever the model computes in.
    Check: tests/studies/test_sampling.py::test_decoding_is_that_of_transformers.
    """
    shares = (logits.float() / decoding.temperature).softmax(-1)
    if decoding.top_p == 1:
        return shares
    falling, order = shares.sort(dim=-1, descending=True)
    before = falling.cumsum(-1) - falling
    return torch.zeros_like(shares).scatter(-1, order, falling * (before < decoding.top_p))


@torch.no_grad()
@models.tf32(allowed=False)
def divergences(
    policy: PreTrainedModel, reference: PreTrainedModel, samples: Samples
) -> NDArray[np.float64]:
    """KL(π ‖ π_ref) of each answer: Σₜ KL(π(·|x, y₍ₜ₎) ‖ π_ref(·|x, y₍ₜ₎)) over its tokens, nats.

    Each step's divergence is exact and only the path is sampled: an unbiased estimate that is never
    negative and varies less than log π/π_ref of the answer.

    Args:
        samples: of the policy, drawn from its `WHOLE` distribution. Along other answers the mean
            would be that of no divergence.
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
        `(prompts,)`, NaN where a reward is not finite.
    Check: tests/studies/test_sampling.py::test_win_rates_by_enumeration.
    """
    # every answer against every answer of the other side
    ours = np.asarray(ours)[:, :, None]
    theirs = np.asarray(theirs)[:, None, :]
    wins = (ours > theirs) + 0.5 * (ours == theirs)
    # every comparison with NaN is false, which would pass for a loss
    finite = np.isfinite(ours) & np.isfinite(theirs)
    return np.where(finite, wins, np.nan).mean(axis=(1, 2))


def summarise(name: str, values: ArrayLike, *, proportion: bool = False) -> dict[str, float]:
    """The mean of `values` as `name`, its 95% t interval as `name`_low and `name`_high.

    All three are NaN where a value is not finite: the policy has diverged.

    Args:
        values: one per prompt, `(prompts,)`.
        proportion: whether they lie in [0, 1], and so does their interval.
    """
    if not np.isfinite(values).all():
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), math.nan)
    interval = stats.mean_interval(values, proportion=proportion)
    return {
        name: interval.estimate,
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
    }
