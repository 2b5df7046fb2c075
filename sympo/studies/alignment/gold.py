"""A world whose true reward is known: VADER's sentiment of the answer.

On real preference data nobody can say by how much a policy improved. Here everybody can: the gold
reward labels the pairs through Bradley–Terry, and the same gold reward judges the policies. For a
laptop the module holds a small grammar of reviews, with a tokenizer and a Llama of a quarter of a
million weights that learn to write them. Study gold aligns that model, or SmolLM2, in this world.
"""

import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray

from sympo import noise, preferences
from sympo.studies import models, records
from sympo.studies.alignment import sweep as align
from sympo.studies.alignment.sweep import AlignConfig, World

# prompts for SmolLM2; answers are its own
HH_TRAIN = ("helpful-online/test", "helpful-rejection-sampled/test")
HH_TEST = ("helpful-base/test",)
# ours: an answer whose reward is higher by 0.2 (of a range of 2) is preferred with σ(1) = 73%
TEMPERATURE = 0.2

# place → what a review of it can talk about. No word of this block has a sentiment in VADER's
# lexicon.
PLACES = {
    "hotel": ("room", "bed", "hall"),
    "cafe": ("coffee", "cake", "menu"),
    "museum": ("gallery", "guide", "map"),
    "cinema": ("film", "seat", "screen"),
    "library": ("desk", "shelf", "catalogue"),
    "garden": ("path", "bench", "pond"),
    "theatre": ("stage", "cast", "costume"),
    "market": ("fruit", "queue", "fish"),
    "bakery": ("bread", "oven", "counter"),
    "station": ("train", "clock", "platform"),
    "harbour": ("boat", "pier", "view"),
    "castle": ("tower", "gate", "wall"),
}
EVERYWHERE = ("staff", "service", "price")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
COMPANIONS = ("sister", "brother", "mother", "father", "uncle", "aunt", "cousin", "neighbour")

GOOD = ("great", "good", "lovely", "nice", "perfect", "superb")
NEUTRAL = ("small", "ordinary", "usual", "plain", "modern", "old")
BAD = ("awful", "bad", "dull", "dirty", "terrible", "ugly")
DEGREES = ("", "", "", "very", "quite", "not")  # an empty word: half of the adjectives stand alone
# VADER gives what follows a "but" three times the weight of what precedes it
LINKS = ("and", "but")

CHAT_TEMPLATE = (
    # no system turn
    "{% for m in messages %}{{ m.content }}{{ ' : ' if m.role == 'user' else ' <eos> ' }}{% endfor %}"
)


@cache
def _analyzer():
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@cache
def reward(answer: str) -> float:
    """The gold reward of an answer: VADER's compound score, in [−1, 1].

    Source: Hutto and Gilbert 2014, package vaderSentiment. Check:
    tests/test_gold.py::test_reward_is_vader.
    """
    return _analyzer().polarity_scores(answer)["compound"]


def prefer_first(first: ArrayLike, second: ArrayLike, uniform: ArrayLike) -> NDArray[np.bool_]:
    """Bradley–Terry labels: the first is preferred where `uniform` < σ((r₁ − r₂)/TEMPERATURE).

    Args:
        first, second: gold rewards `(pairs,)`.
        uniform: `(pairs,)`, in [0, 1).
    Source: Section 2.1. Check: tests/test_gold.py::test_labels_follow_bradley_terry.
    """
    return np.asarray(uniform) < 1 / (1 + np.exp(np.subtract(second, first) / TEMPERATURE))


def label_pairs(
    prompts: Sequence[list[dict]], pairs: Iterable[tuple[str, str]], *, seed: int
) -> Dataset:
    """Clean preference pairs in TRL's conversational format; a pair of equal answers says nothing
    and is dropped.

    Labels are keyed by row content: they depend neither on the other rows nor on the order of the
    two answers.

    Args:
        prompts: messages, one list per pair.
        pairs: two answers each.
    Returns:
        columns prompt, chosen, rejected, is_flipped (all false), gold_chosen, gold_rejected
        (rewards).
    """
    rows = [
        (prompt, *sorted(pair))
        for prompt, pair in zip(prompts, pairs, strict=True)
        if pair[0] != pair[1]
    ]
    keys = [("label", *(m["content"] for m in prompt), a, b) for prompt, a, b in rows]
    rewards = np.array([[reward(a), reward(b)] for _, a, b in rows]).reshape(-1, 2)
    wins = prefer_first(*rewards.T, noise.RowGenerator(keys, seed).random(len(rows)))
    return _to_dataset(
        [(p, a, b) if won else (p, b, a) for (p, a, b), won in zip(rows, wins, strict=True)]
    )


def order_pairs(prompts: Sequence[list[dict]], pairs: Iterable[tuple[str, str]]) -> Dataset:
    """Pairs as `label_pairs` gives them, but the answer of higher gold reward is always chosen;
    ties are dropped.
    """
    ranked = [
        (prompt, *sorted(pair, key=reward)) for prompt, pair in zip(prompts, pairs, strict=True)
    ]
    return _to_dataset(
        [(prompt, high, low) for prompt, low, high in ranked if reward(low) < reward(high)]
    )


def _to_dataset(rows: list[tuple[list[dict], str, str]]) -> Dataset:
    return Dataset.from_list([
        {
            "prompt": prompt,
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
            "is_flipped": False,
            "gold_chosen": reward(chosen),
            "gold_rejected": reward(rejected),
        }
        for prompt, chosen, rejected in rows
    ])  # fmt: skip


# The tiny world: a grammar of reviews


def list_prompts() -> list[list[dict]]:
    """Every prompt of the grammar: place, day and companion, such as "cafe monday aunt", as one
    user message.
    """
    texts = [f"{place} {day} {who}" for place in PLACES for day in DAYS for who in COMPANIONS]
    return [[{"role": "user", "content": text}] for text in texts]


def split_prompts(
    prompts: Sequence[list[dict]], *, held_out: int
) -> tuple[list[list[dict]], list[list[dict]]]:
    """Training prompts and `held_out` evaluation prompts, which no run of any seed trains on."""
    keys = [tuple(message["content"] for message in prompt) for prompt in prompts]
    order = np.argsort(noise.RowGenerator(keys, 0).random(len(keys)))
    if not 0 < held_out < len(prompts):
        raise ValueError(
            f"held_out = {held_out} is no part of {len(prompts)} prompts: give a smaller number above 0"
        )
    return [prompts[i] for i in order[held_out:]], [prompts[i] for i in order[:held_out]]


def write_review(prompt: list[dict], generator: np.random.Generator) -> str:
    """A review from the grammar, such as "the cake was very good but the staff was plain ."

    Good, neutral and bad words are equally frequent, whatever the prompt: the sentiment is all
    there is to learn.
    """
    place = prompt[-1]["content"].split()[0]
    things = generator.choice((*PLACES[place], *EVERYWHERE), 2, replace=False)
    clauses = [
        f"the {thing} was {generator.choice(DEGREES)} {_draw_adjective(generator)}"
        for thing in things
    ]
    return " ".join(f"{clauses[0]} {generator.choice(LINKS)} {clauses[1]} .".split())


def _draw_adjective(generator: np.random.Generator) -> str:
    return generator.choice((GOOD, NEUTRAL, BAD)[generator.integers(3)])


def tiny_tokenizer():
    """A word-level tokenizer of the grammar's words, with a chat template: "<prompt> : <answer>
    <eos>".
    """
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = (
        *PLACES,
        *sum(PLACES.values(), ()),
        *EVERYWHERE,
        *DAYS,
        *COMPANIONS,
        *GOOD,
        *NEUTRAL,
        *BAD,
    )
    words = " ".join((*words, *DEGREES, *LINKS, "the was . :")).split()
    vocabulary = {
        word: index for index, word in enumerate(dict.fromkeys(["<pad>", "<eos>", "<unk>", *words]))
    }
    made = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, chat_template=CHAT_TEMPLATE, padding_side="left", **special
    )


def tiny_model(tokenizer, *, seed: int):
    """An untrained Llama of 2 layers, 128 wide; `seed` draws its weights."""
    return models.tiny_llama(tokenizer, seed=seed, context=64)


def load_tiny(run: dict):
    """The untrained model of a seed, its tokenizer, reviews to fine-tune it on, training and
    evaluation prompts.
    """
    tokenizer, generator = tiny_tokenizer(), np.random.default_rng(run["seed"])
    train, held_out = split_prompts(list_prompts(), held_out=run["prompts"])
    shown = [train[i] for i in generator.integers(len(train), size=run["sft_examples"])]
    reviews = [
        [{"role": "assistant", "content": write_review(prompt, generator)}] for prompt in shown
    ]
    examples = Dataset.from_dict({"prompt": shown, "completion": reviews})
    model = tiny_model(tokenizer, seed=run["seed"]).to(align.device())
    return model, tokenizer, examples, train, held_out


# The study


class GoldConfig(AlignConfig):
    """Study gold: alignment with a known reward. All fields are ours: the paper has no such
    study.
    """

    # trained from scratch on the grammar's reviews, or SmolLM2-135M-Instruct
    model: Literal["tiny", "smollm2"]


def build_world(run: dict) -> World:
    """The SFT model of a seed, pairs of its own answers labelled by the gold reward, and the
    rewards of its answers.
    """
    model, tokenizer, train, test, prompts, rewards = build_pairs(run)
    return World(
        model,
        tokenizer,
        *align.add_reference(model, tokenizer, run, train, test),
        prompts,
        score,
        rewards,
    )


def build_pairs(run: dict):
    """The world but for the reference pass: SFT model, tokenizer, training and test pairs, prompts,
    rewards.
    """
    load = load_tiny if run["model"] == "tiny" else _load_smollm2
    model, tokenizer, examples, train_prompts, prompts = load(run)
    align.fine_tune(model, tokenizer, examples, run)
    seed, samples = run["seed"], run["samples"]
    asked = [train_prompts[i % len(train_prompts)] for i in range(run["pairs"])]
    drawn = align.sample(model, tokenizer, asked, run, samples=2, seed=3 * seed).texts
    train = label_pairs(asked, zip(drawn[::2], drawn[1::2], strict=True), seed=seed)
    answers = align.sample(model, tokenizer, prompts, run, samples=samples, seed=3 * seed + 1).texts
    asked = [prompt for prompt in prompts for _ in range(samples // 2)]
    test = order_pairs(asked, zip(answers[::2], answers[1::2], strict=True))
    if not (len(train) and len(test)):
        raise ValueError(
            "the SFT model's answers are all alike to the gold reward: give more prompts, pairs or tokens"
        )
    return model, tokenizer, train, test, prompts, np.reshape(score(asked, answers), (-1, samples))


def score(prompts: Sequence[list[dict]], answers: Sequence[str]) -> list[float]:
    """The judge of this world: the gold reward of each answer, whatever was asked."""
    return [reward(answer) for answer in answers]


def _load_smollm2(run: dict):
    """As `load_tiny`: SmolLM2-135M-Instruct, and prompts and answers of Anthropic HH."""
    with align.quietly():
        model, tokenizer = models.load("smollm2", seed=run["seed"])
    split, limits = _load_hh(), {"max_prompt": run["max_prompt"], "max_length": run["max_length"]}
    wanted = ((split.train, max(run["sft_examples"], run["pairs"])), (split.test, run["prompts"]))
    train, test = (
        preferences.take_fitting(part.shuffle(seed=run["seed"]), tokenizer, count=count, **limits)
        for part, count in wanted
    )
    examples = align.completions(train, run["sft_examples"])
    return model.to(align.device()), tokenizer, examples, train["prompt"][:], test["prompt"][:]


def _load_hh() -> preferences.Split:
    return preferences.split_pairs(preferences.load_hh(*HH_TRAIN), preferences.load_hh(*HH_TEST))


def run_study(config: GoldConfig) -> records.Runs:
    """Train every policy of `config`, or load its record."""
    tiny = config.model == "tiny"
    source = (
        {"weights": "scratch"}
        if tiny
        else {**_load_hh().source(), **models.find_weights("smollm2")}
    )
    parallel = tiny and not torch.cuda.is_available()
    return align.run_sweep(
        config, build_world, sys.modules[__name__], models, parallel=parallel, **source
    )
