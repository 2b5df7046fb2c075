"""Features by hand, embeddings one at a time, and a cache that anything may have happened to."""

import hashlib

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel

from sympo.studies import sources
from sympo.studies.text import features
from sympo.studies.text.features import Text

TEXTS = [
    Text("what?", "Yes. It is, it is!"),
    Text("and why", ""),
    Text("a b c d e f g h i j k l m n o p q r s t", "one\ntwo\nthree"),
    Text("", "it's one of those"),
]


def test_lengths_by_hand():
    # characters, words, sentences, lines
    counts = [[18, 5, 2, 1], [0, 0, 0, 0], [13, 3, 0, 3], [17, 4, 0, 1]]
    np.testing.assert_allclose(features.measure_lengths(TEXTS), np.log1p(counts), rtol=1e-6)


def test_words_are_counted_by_answers_and_then_within_them():
    # "it" stands in one answer twice, "one" in two; then the alphabet decides
    assert features.common_words(TEXTS, 3) == ["one", "is", "it"]
    counts = features.count_words(TEXTS, ["it", "one", "it's"])
    expected = np.log1p([[2, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 1]])
    np.testing.assert_allclose(counts, expected, rtol=1e-6)


def test_features_are_in_units_of_the_spread_over_training_answers():
    columns = np.array([[1.0, 5], [3, 5], [1, 5], [3, 5], [9, 5], [1, 6]], dtype=np.float32)
    # two training pairs, and a test pair that has no part in the spread
    train, test = features._subtract(columns, 2, 1)
    # chosen are the rows 0 and 1, rejected 2 and 3; the spread of 1, 3, 1, 3 is 1
    np.testing.assert_allclose(train, [[0, 0], [0, 0]])
    # a feature that never varies in training is left as it is
    np.testing.assert_allclose(test, [[8, -1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small BERT with random weights, and a tokenizer of single characters."""
    folder = tmp_path_factory.mktemp("bert")
    letters = {letter: 10 + at for at, letter in enumerate("abcdefghijklmnopqrstuvwxyz.,!?'")}
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 1, **letters}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=110,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_a_batch_embeds_each_text_as_alone(folder, monkeypatch):
    monkeypatch.setattr(features, "BATCH", 3)
    together = features.embed(TEXTS, folder, device="cpu")
    model = BertModel.from_pretrained(folder).eval()
    for text, embedding in zip(TEXTS, together, strict=True):
        question, answer = features.read_tokens(text, folder)
        before = [features.BEGIN, *question[-features.QUESTION_TOKENS :], features.END]
        ids = [*before, *answer[: features.ANSWER_TOKENS], features.END]
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        np.testing.assert_allclose(states[len(before) :].mean(0), embedding, atol=1e-5)


def test_long_texts_are_cut_from_the_side_that_matters(folder):
    long = Text("a" * 100 + "z" * features.QUESTION_TOKENS, "b" * features.ANSWER_TOKENS + "c" * 9)
    ((ids, of_answer),) = features.tokenise([long], folder)
    assert len(ids) == features.QUESTION_TOKENS + features.ANSWER_TOKENS + 3
    assert sum(of_answer) == features.ANSWER_TOKENS + 1
    # "z" is 35, "b" 11
    assert set(ids) == {features.BEGIN, features.END, 35, 11}


@pytest.fixture
def counted(folder, monkeypatch):
    """How often embeddings were computed."""
    calls = []
    computed = np.arange(32, dtype=np.float32).reshape(4, 8)
    asset = sources.Asset(folder, "test", "0" * 64)
    monkeypatch.setattr(sources, "minilm", lambda: asset)
    monkeypatch.setattr(features, "embed", lambda texts, path: calls.append(1) or computed)
    return calls


def test_embeddings_are_computed_once(counted, tmp_path):
    first = features.load_embeddings(TEXTS, folder=tmp_path)
    second = features.load_embeddings(TEXTS, folder=tmp_path)
    np.testing.assert_array_equal(first, second)
    assert len(counted) == 1
    # other texts, or the same in another order, are others
    features.load_embeddings(TEXTS[::-1], folder=tmp_path)
    assert len(counted) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_another_device_has_embeddings_of_its_own(counted, tmp_path, monkeypatch):
    for available in (False, True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda here=available: here)
        features.load_embeddings(TEXTS, folder=tmp_path)
    assert len(counted) == 2


def flip_a_bit(content):
    return content[:60] + bytes([content[60] ^ 1]) + content[61:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:16],
        lambda content: content[:32],
        lambda content: content[:-4],
        lambda content: content + b"more",
        flip_a_bit,
    ],
    ids=["empty", "half a hash", "hash alone", "cut", "longer", "a bit"],
)
def test_a_damaged_file_is_computed_again(counted, tmp_path, damage):
    expected = features.load_embeddings(TEXTS, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="is damaged and is computed again"):
        again = features.load_embeddings(TEXTS, folder=tmp_path)
    np.testing.assert_array_equal(again, expected)
    # and the file is whole once more
    content = path.read_bytes()
    assert hashlib.sha256(content[32:]).digest() == content[:32]


def test_vectors_are_averaged_over_the_answer(folder, tmp_path):
    from safetensors.numpy import save_file

    vectors = np.random.default_rng(0).normal(size=(110, 4)).astype(np.float16)
    save_file({"embedding.weight": vectors}, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    means = features.mean_vectors([Text("x", "aab"), Text("x", "")], tmp_path)
    # "a" is 10, "b" 11
    expected = (2 * vectors[10].astype(float) + vectors[11]) / 3
    np.testing.assert_allclose(means, [expected, np.zeros(4)], atol=1e-3)
