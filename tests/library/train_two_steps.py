"""Import all of the library, and train two steps on a model and a tokenizer built on the spot.

It is run by test_install.py in an environment that has the library and its hard dependencies only.
"""

import sys
from importlib import import_module, metadata

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import sympo
from sympo.preferences import flip_preferences, parse_rows
from sympo.trainer import SymPOConfig, SymPOTrainer

MODULES = (
    "_entries",
    "_names",
    "_settings",
    "judge",
    "losses",
    "noise",
    "preferences",
    "rating",
    "rating_widget",
    "stats",
    "train",
    "trainer",
)
WORDS = ["<pad>", "<eos>", "<unk>", "user:", "bot:", "yes", "no", "maybe"]
TEMPLATE = (
    "{% for m in messages %}{{ 'user: ' if m.role == 'user' else 'bot: ' }}{{ m.content }} "
    "{% if m.role == 'assistant' %}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}bot: {% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template=TEMPLATE,
    )


def build_model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def write_pairs() -> Dataset:
    row = {"prompt": "yes or no", "chosen": "yes", "rejected": "no"}
    other = {"prompt": "maybe", "chosen": "no yes", "rejected": "yes no"}
    clean = parse_rows([row, other] * 8).dataset
    return flip_preferences(clean, 0.3, seed=0)


def main(folder: str) -> None:
    """Print where the library lies, its version twice, and the losses of two steps."""
    for name in MODULES:
        import_module(f"sympo.{name}")
    config = SymPOConfig(
        output_dir=folder,
        loss_type="sympo_sigmoid",
        max_steps=2,
        logging_steps=1,
        per_device_train_batch_size=8,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )
    # The model was built in memory, so TRL has no place to read a reference from.
    trainer = SymPOTrainer(
        build_model(),
        build_model(),
        config,
        train_dataset=write_pairs(),
        processing_class=build_tokenizer(),
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    print("result", sympo.__file__, sympo.__version__, metadata.version("sympo"), *losses)


if __name__ == "__main__":
    main(sys.argv[1])
