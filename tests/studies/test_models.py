"""The models built here, against what any tokenizer and any generator must do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sympo.studies import models

TOKENIZER = models.byte_tokenizer()


def encode(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_its_bytes_and_comes_back(text):
    ids = encode(text)
    assert len(ids) == len(text.encode())
    assert TOKENIZER.decode(ids) == text


def test_equal_bytes_have_equal_tokens_and_different_bytes_different_ones():
    codes = [*range(0x80), 0x7FF, 0xFFFF, 0x10FFFF]
    seen = {}
    for code in codes:
        for byte, token in zip(chr(code).encode(), encode(chr(code)), strict=True):
            assert seen.setdefault(byte, token) == token
    assert len(set(seen.values())) == len(seen)
    assert not {TOKENIZER.pad_token_id, TOKENIZER.eos_token_id} & set(seen.values())
    assert len(TOKENIZER) == 258


def test_text_that_names_a_special_token_is_that_token():
    assert encode("a<eos>") == [*encode("a"), TOKENIZER.eos_token_id]


def test_the_chat_template_writes_each_turn_and_opens_the_answer():
    prompt = [{"role": "user", "content": "Hi there"}]
    answer = [{"role": "assistant", "content": "Hello"}]
    asked = TOKENIZER.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    whole = TOKENIZER.apply_chat_template(prompt + answer, tokenize=False)
    assert asked == "user: Hi there<eos>assistant: "
    assert whole == asked + "Hello<eos>"  # training and sampling then read the same tokens
    assert TOKENIZER.apply_chat_template(prompt + answer)["input_ids"][-1] == TOKENIZER.eos_token_id


def test_batches_are_padded_on_the_left():
    batch = TOKENIZER(["a", "abc"], padding=True)
    assert batch["input_ids"][0] == [TOKENIZER.pad_token_id] * 2 + encode("a")
    assert batch["attention_mask"][0] == [0, 0, 1]


def weights(seed):
    model = models.tiny_llama(TOKENIZER, seed=seed, context=64)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_tiny_model_is_its_seeds():
    torch.manual_seed(5)
    first = weights(0)
    torch.manual_seed(6)
    assert weights(0).equal(first)
    assert not weights(1).equal(first)


def test_making_a_model_leaves_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    weights(0)
    assert torch.rand(3).equal(expected)


def test_tiny_is_loaded_ready_to_read_a_long_prompt():
    model, tokenizer = models.load("tiny", seed=0)
    ids = tokenizer("x" * 1500, return_tensors="pt").input_ids
    with torch.no_grad():
        assert model(ids).logits.shape == (1, 1500, len(tokenizer))
    assert models.find_weights("tiny") == {"weights": "scratch", "weights_sha256": ""}


@pytest.fixture
def save(monkeypatch, tmp_path):
    """`save(**tokens)` saves the tiny model as SmolLM2, with other special tokens."""
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))

    def save(**tokens):
        model, tokenizer = models.load("tiny", seed=0)
        for name, token in tokens.items():
            setattr(tokenizer, name, token)
        for part in (model, tokenizer):
            part.save_pretrained(tmp_path / "smollm2-135m-instruct")

    return save


def test_a_saved_model_is_loaded_with_its_tokenizer(save):
    save()
    _, tokenizer = models.load("smollm2", seed=0)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<eos>", "<pad>")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({"pad_token": None}, "no padding token: delete this folder"),
        ({"eos_token": "<pad>"}, r"takes <pad> for the end .* ends one in .*<eos>': delete this"),
        ({"eos_token": None}, "takes None for the end"),
    ],
)
def test_a_tokenizer_that_was_misread_is_refused(save, tokens, message):
    save(**tokens)
    with pytest.raises(ValueError, match=message):
        models.load("smollm2", seed=0)
