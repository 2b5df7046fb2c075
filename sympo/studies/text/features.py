"""Features of answers: a vector φ(x, a) for each answer a to a prompt x, computed once and kept.

A reward head is linear in them, so that training takes seconds. What is costly, MiniLM, is kept
under build/features. Nothing here sees a preference label.

Check: tests/studies/test_text_features.py.
"""

import hashlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from sympo._files import write_atomically
from sympo.studies import progress, sources
from sympo.studies.text.corpora import Corpus

FeaturesName = Literal["length", "words", "static", "minilm"]

# Ours: how many words of the training answers are counted.
VOCABULARY = 500
# Ours: tokens of the last question, from its end, and of the answer, from its beginning. With the
# three markers a text has at most 96 tokens: more would cost more than minutes on two cores.
QUESTION_TOKENS = 16
ANSWER_TOKENS = 77
# MiniLM's markers [CLS] and [SEP].
BEGIN, END = 101, 102
# Texts per batch; of one length, more or less.
BATCH = 32
# Raised when `embed` computes something else: it names the files of the cache.
VERSION = 1

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")

Floats = NDArray[np.float32]


class Text(NamedTuple):
    """An answer, and the last thing that the person said before it."""

    question: str
    answer: str


class Differences(NamedTuple):
    """φ(x, chosen) − φ(x, rejected), which is all that a linear head sees of a pair.

    Attributes:
        train: `(pairs, features)`, in units of the spread of each feature over training answers.
        test: `(test pairs, features)`, in the same units.
    """

    train: Floats
    test: Floats


def texts_of(dataset: Dataset, side: str) -> list[Text]:
    """The answers of one side, "chosen" or "rejected", each with its question."""
    cells = zip(dataset["prompt"], dataset[side], strict=True)
    return [Text(prompt[-1]["content"], answer[-1]["content"]) for prompt, answer in cells]


def differences(corpus: Corpus, name: str, *, folder: Path) -> Differences:
    """The pairs of a corpus as differences of standardised features.

    Args:
        name: "length" (four numbers); or these, and "words" (log counts of common words of the
            training answers), "static" (the mean of WordLlama's vectors) or "minilm" (MiniLM's
            embedding of the answer after its question).
        folder: where embeddings are kept.
    """
    sides = ("chosen", "rejected")
    train, test = ([texts_of(part, side) for side in sides] for part in (corpus.train, corpus.test))
    texts = [text for side in (*train, *test) for text in side]
    lengths = measure_lengths(texts)
    if name == "length":
        columns = lengths
    elif name == "words":
        vocabulary = common_words([text for side in train for text in side], VOCABULARY)
        columns = np.hstack([lengths, count_words(texts, vocabulary)])
    elif name == "static":
        columns = np.hstack([lengths, mean_vectors(texts, sources.wordllama().path)])
    else:
        columns = np.hstack([lengths, load_embeddings(texts, folder=folder)])
    return _subtract(columns, len(corpus.train), len(corpus.test))


def _subtract(columns: Floats, train: int, test: int) -> Differences:
    """Chosen minus rejected; the rows are the training pairs' two sides, then the test pairs'."""
    # A head is linear, so that the mean of a feature cancels in every pair: the spread is enough.
    spread = columns[: 2 * train].std(axis=0)
    scaled = (columns / np.where(spread > 0, spread, 1)).astype(np.float32)
    first, second, third, fourth = np.split(scaled, np.cumsum([train, train, test]))
    return Differences(first - second, third - fourth)


def measure_lengths(texts: Sequence[Text]) -> Floats:
    """log(1 + n) for the n characters, words, sentences and lines of each answer: `(texts, 4)`."""
    counts = [
        (
            len(answer),
            len(answer.split()),
            len(re.findall(r"[.!?]+", answer)),
            len(answer.splitlines()),
        )
        for _, answer in texts
    ]
    return np.log1p(np.array(counts, dtype=np.float32))


def split_words(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return _WORD.findall(text.casefold())


def common_words(texts: Sequence[Text], most: int) -> list[str]:
    """The `most` words that stand in most answers, those that tie by the alphabet."""
    counts = Counter(word for text in texts for word in set(split_words(text.answer)))
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]


def count_words(texts: Sequence[Text], vocabulary: Sequence[str]) -> Floats:
    """log(1 + how often an answer has a word): `(texts, words)`."""
    place = {word: column for column, word in enumerate(vocabulary)}
    counts = np.zeros((len(texts), len(vocabulary)), dtype=np.float32)
    for row, text in enumerate(texts):
        columns = [place[word] for word in split_words(text.answer) if word in place]
        np.add.at(counts[row], columns, 1)
    return np.log1p(counts)


def mean_vectors(texts: Sequence[Text], folder: Path) -> Floats:
    """The mean of WordLlama's vectors over the word parts of each whole answer: `(texts, 256)`.

    Args:
        folder: of the model, as `sources.wordllama` gives it. An empty answer has zeros.
    """
    from safetensors.numpy import load_file

    (vectors,) = load_file(folder / "model.safetensors").values()
    encoded = read_tokens([text.answer for text in texts], folder)
    means = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
    for row, ids in enumerate(encoded):
        if ids:
            means[row] = vectors[ids].mean(axis=0, dtype=np.float32)
    return means


def read_tokens(texts: Sequence[str], folder: Path) -> list[list[int]]:
    """The token ids of each text, whole and without markers."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [encoding.ids for encoding in encoded]


def load_embeddings(texts: Sequence[Text], *, folder: Path) -> Floats:
    """MiniLM's embedding of each text, `(texts, 384)`, from the cache or computed and kept there.

    The file's name is a hash of the texts, the model, what is done with them and where, since a GPU
    rounds in its own way. Its first 32 bytes are the sha256 of the rest: a file that is cut short
    or changed is computed again.
    """
    model = sources.minilm()
    key = [VERSION, model.sha256, QUESTION_TOKENS, ANSWER_TOKENS, find_device(), texts]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    path = folder / f"minilm-{digest[:16]}.f4"
    kept = read_kept(path, rows=len(texts))
    if kept is None:
        kept = embed(texts, model.path)
        content = kept.tobytes()
        write_atomically(path, hashlib.sha256(content).digest() + content)
    return kept


def find_device() -> str:
    """Where this machine computes: "cuda" or "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def read_kept(path: Path, *, rows: int) -> Floats | None:
    """The embeddings in a file of the cache; None where there is none, or a damaged one."""
    if not path.is_file():
        return None
    stored = path.read_bytes()
    content = stored[32:]
    if not content or hashlib.sha256(content).digest() != stored[:32]:
        warnings.warn(f"{path.name} is damaged and is computed again", stacklevel=2)
        return None
    return np.frombuffer(content, dtype=np.float32).reshape(rows, -1)


def embed(texts: Sequence[Text], folder: Path, *, device: str | None = None) -> Floats:
    """The mean of MiniLM's last layer over the tokens of each answer, read after its question.

    Args:
        folder: of the model, as `sources.minilm` gives it.
    Returns:
        `(texts, 384)`.
    """
    import torch
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(folder, use_safetensors=True).eval()
    model.to(device or find_device())
    tokens = tokenise(texts, folder)
    # By length, so that little of a batch is padding; the longest first, since they decide whether
    # it fits in memory.
    order = sorted(range(len(texts)), key=lambda row: -len(tokens[row].ids))
    result = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
    with torch.inference_mode(), progress.progress(len(texts), "texts embedded") as bar:
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            result[rows] = _embed_batch(model, [tokens[row] for row in rows]).cpu().numpy()
            bar.update(len(rows))
    return result


class Tokens(NamedTuple):
    """A text as MiniLM reads it: [CLS] question [SEP] answer [SEP].

    Attributes:
        ids: its token ids.
        of_answer: 1 for the answer and the marker after it, 0 before them.
    """

    ids: list[int]
    of_answer: list[int]


def tokenise(texts: Sequence[Text], folder: Path) -> list[Tokens]:
    """The end of each question and the beginning of its answer as token ids."""
    # Without the markers, which are put in below: here a text is cut from the side that matters.
    questions, answers = (read_tokens(column, folder) for column in zip(*texts, strict=True))
    result = []
    for question, answer in zip(questions, answers, strict=True):
        first = [BEGIN, *question[-QUESTION_TOKENS:], END]
        # The marker at its end stands for an answer that is empty.
        second = [*answer[:ANSWER_TOKENS], END]
        result.append(Tokens(first + second, [0] * len(first) + [1] * len(second)))
    return result


def _embed_batch(model: Any, batch: Sequence[Tokens]) -> Any:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def pad(rows: list[list[int]]) -> Any:
        tensors = [torch.tensor(row, device=model.device) for row in rows]
        return pad_sequence(tensors, batch_first=True)

    ids = pad([text.ids for text in batch])
    attended = pad([[1] * len(text.ids) for text in batch])
    of_answer = pad([text.of_answer for text in batch])
    # All of one kind of segment, as the model was trained.
    states = model(input_ids=ids, attention_mask=attended).last_hidden_state
    weights = of_answer[:, :, None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
