"""The language models of the studies: a tiny one of bytes for tests and laptops, SmolLM2, and the
paper's Llama.
"""

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from sympo.studies import sources

PRETRAINED = {"smollm2": sources.smollm2, "llama": sources.llama}

_TINY = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_BYTES_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}<eos>{% endfor %}"
_BYTES_TEMPLATE += "{% if add_generation_prompt %}assistant: {% endif %}"


def find_weights(name: str) -> dict[str, str]:
    """Where the weights of a model come from and their sha256, for a record: `weights`,
    `weights_sha256`.
    """
    source, sha256 = PRETRAINED[name]()[1:] if name in PRETRAINED else ("scratch", "")
    return {"weights": source, "weights_sha256": sha256}


def load(name: str, *, seed: int):
    """A causal language model in float32 and its tokenizer, which has a chat template and a padding
    token.

    Args:
        name: "tiny" (untrained, of bytes), "smollm2" (SmolLM2-135M-Instruct) or "llama"
            (Llama-3.2-3B-Instruct).
        seed: draws the weights of the tiny one.
    """
    if name == "tiny":
        tokenizer = byte_tokenizer()
        return tiny_llama(tokenizer, seed=seed, context=2048), tokenizer
    folder = PRETRAINED[name]().path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        # Llama 3's own, which its tokenizer does not name
        tokenizer.pad_token = "<|finetune_right_pad_id|>"
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True
    ), tokenizer


def tiny_llama(tokenizer, *, seed: int, context: int) -> LlamaForCausalLM:
    """An untrained Llama of 2 layers, 128 wide; `seed` draws its weights, `context` is what it can
    read, tokens.
    """
    tokens = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=context, **_TINY, **tokens
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that reads any text as its bytes, so that nothing has to be learned or fetched
    for it.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *alphabet])}
    made = Tokenizer(models.BPE(vocabulary, merges=[]))
    made.pre_tokenizer, made.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    special = {"pad_token": "<pad>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, chat_template=_BYTES_TEMPLATE, padding_side="left", **special
    )
