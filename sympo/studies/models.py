"""The language models of the studies: one that reads bytes, SmolLM2, and the paper's Llama."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from sympo.studies import sources

# name → what finds its weights; "tiny" has none
PRETRAINED = {"smollm2": sources.smollm2, "llama": sources.llama}

_BYTES_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def find_weights(name: str) -> dict[str, str]:
    """Where the weights of a model come from, for a record: `weights` and `weights_sha256`.

    The hash is "" where a seed draws the weights.
    """
    if name not in PRETRAINED:
        return {"weights": "scratch", "weights_sha256": ""}
    asset = PRETRAINED[name]()
    return {"weights": asset.source, "weights_sha256": asset.sha256}


def load(name: str, *, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in float32, and its tokenizer.

    The tokenizer has a padding token, and a chat template that ends a turn with its <eos>.

    Args:
        name: "tiny" (untrained, of bytes), "smollm2" (SmolLM2-135M-Instruct) or "llama"
            (Llama-3.2-3B-Instruct).
        seed: draws the weights of the tiny one.
    Raises:
        ValueError: the saved tokenizer lacks one of these.
    """
    if name == "tiny":
        tokenizer = byte_tokenizer()
        return tiny_llama(tokenizer, seed=seed, context=2048), tokenizer
    folder = PRETRAINED[name]().path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if name == "llama" and tokenizer.pad_token is None:
        # Llama 3's own, which its tokenizer does not name
        tokenizer.pad_token = "<|finetune_right_pad_id|>"
    check_tokenizer(tokenizer, folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return model, tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuse a tokenizer with which a model would never learn, or be seen, to end its answers.

    transformers 5.17 reads one like that from SmolLM2's GGUF: eos `<|im_start|>`, and no pad.

    Args:
        folder: where it was saved, for the message.
    Raises:
        ValueError: no padding token, or another <eos> than the one that ends a turn.
    """
    remedy = "delete this folder and let transformers 5.23 or later make it again"
    if tokenizer.pad_token_id is None:
        raise ValueError(f"the tokenizer in {folder} has no padding token: {remedy}")
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    # some templates add a line break
    dialogue = tokenizer.apply_chat_template(turns, tokenize=False).rstrip()
    if tokenizer.eos_token is None or not dialogue.endswith(tokenizer.eos_token):
        raise ValueError(
            f"the tokenizer in {folder} takes {tokenizer.eos_token} for the end of an answer, and "
            f"its chat template ends one in {dialogue[-12:]!r}: {remedy}"
        )


def find_shape(name: str) -> PretrainedConfig:
    """The config of the model that `load` would load, without its weights."""
    if name == "tiny":
        return _tiny_shape(byte_tokenizer(), context=2048)
    return AutoConfig.from_pretrained(PRETRAINED[name]().path)


@contextmanager
def tf32(*, allowed: bool) -> Iterator[None]:
    """Whether a GPU may round the factors of float32 products to 11 bits, several times as fast.

    That is enough to sample and to judge: the log-probability of an answer of 42 tokens moves by
    0.03 nats (SmolLM2, root mean square over 64 answers of HH; rounded so on a processor).
    """
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    products.allow_tf32 = allowed
    try:
        yield
    finally:
        products.allow_tf32 = before


def tiny_llama(
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    context: int,
    width: int = 128,
    layers: int = 2,
) -> LlamaForCausalLM:
    """An untrained Llama.

    Args:
        seed: draws its weights.
        context: tokens that it can read.
        width: of its states and of its MLP; a head has 32.
    """
    config = _tiny_shape(tokenizer, context=context, width=width, layers=layers)
    # the caller's random numbers stay what they would have been
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _tiny_shape(
    tokenizer: PreTrainedTokenizerBase, *, context: int, width: int = 128, layers: int = 2
) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        vocab_size=len(tokenizer),
        max_position_embeddings=context,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that reads any text as its bytes: there is nothing to learn or to fetch."""
    # BPE without merges; the alphabet writes each byte as a character
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<pad>", "<eos>", *alphabet]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer: Any = Tokenizer(BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=_BYTES_TEMPLATE,
        padding_side="left",
        pad_token="<pad>",
        eos_token="<eos>",
    )
