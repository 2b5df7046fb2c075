"""A world whose true reward is known: VADER's sentiment of the answer.

On real preference data nobody can say by how much a policy improved. Here everybody can: the gold
reward labels the pairs through Bradley–Terry, and the same gold reward judges the policies. For a
laptop the module holds a small grammar of reviews, with a tokenizer and a Llama of a quarter of a
million weights that learn to write them. Study gold aligns that model, or SmolLM2, in this world.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sympo import noise, preferences
from sympo.studies import comparisons, models, records
from sympo.studies.alignment import sampling, sweep, training
from sympo.studies.alignment.config import AlignConfig, WorldSpec
from sympo.studies.alignment.world import World, add_reference

# raised when what the study computes changes; tests/studies/test_golden.py tells when
VERSION = 1

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
            "chosen": _answer(chosen),
            "rejected": _answer(rejected),
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


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the grammar's words.

    Its chat template writes "<prompt> : <answer> <eos>".
    """
    texts = (
        *("<pad>", "<eos>", "<unk>"),
        *PLACES,
        *(thing for things in PLACES.values() for thing in things),
        *EVERYWHERE,
        *DAYS,
        *COMPANIONS,
        *GOOD,
        *NEUTRAL,
        *BAD,
        *DEGREES,
        *LINKS,
        *("the", "was", ".", ":"),
    )
    # each word once; a degree may be empty
    words = [word for word in dict.fromkeys(texts) if word]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


def tiny_model(tokenizer: PreTrainedTokenizerBase, *, seed: int) -> PreTrainedModel:
    """An untrained Llama of 2 layers, 128 wide; `seed` draws its weights."""
    return models.tiny_llama(tokenizer, seed=seed, context=64)


# The study


class GoldConfig(AlignConfig):
    """Study gold: alignment with a known reward.

    All fields are ours: the paper has no such study.
    """

    # trained from scratch on the grammar's reviews, or SmolLM2-135M-Instruct
    model: Literal["tiny", "smollm2"]


def run_study(config: GoldConfig) -> records.Runs:
    """Train every policy of `config`, or load its record."""
    source = models.find_weights(config.model)
    if config.model == "smollm2":
        source = {**_load_hh().source(), **source}
    return sweep.run_sweep(config, build_world, version=VERSION, **source)


def build_world(spec: WorldSpec) -> World:
    """The world of a spec: SFT, pairs of the SFT model's own answers, and the reference pass."""
    return add_reference(build_unreferenced(spec))


def build_unreferenced(spec: WorldSpec) -> World:
    """The world of a spec, before the reference pass.

    Raises:
        ValueError: no two of the SFT model's answers differ in reward.
    """
    start = _load_tiny(spec) if spec.model == "tiny" else _load_smollm2(spec)
    model, tokenizer, prompts = start.model, start.tokenizer, start.prompts
    training.fine_tune(model, tokenizer, start.examples, spec)

    # two answers to each training prompt; in turn, if there are fewer prompts than pairs
    asked = [start.train_prompts[i % len(start.train_prompts)] for i in range(spec.pairs)]
    drawn = sampling.sample(model, tokenizer, asked, spec, samples=2, seed=spec.pairs_seed).texts
    train = label_pairs(asked, _pair_up(drawn), seed=spec.seed)

    # the SFT model's answers to the evaluation prompts: held-out pairs, and what policies must beat
    answers = sampling.sample(
        model, tokenizer, prompts, spec, samples=spec.samples, seed=spec.sft_seed
    ).texts
    asked = [prompt for prompt in prompts for _ in range(spec.samples // 2)]
    test = order_pairs(asked, _pair_up(answers))
    rewards = np.reshape(score(asked, answers), (-1, spec.samples))

    if not (len(train) and len(test)):
        raise ValueError(
            "the SFT model's answers are all alike to the gold reward: "
            "raise prompts, pairs or max_new_tokens"
        )
    return World(spec, model, tokenizer, train, test, prompts, score, rewards)


def score(prompts: Sequence[list[dict]], answers: Sequence[str]) -> list[float]:
    """The judge of this world: the gold reward of each answer, whatever was asked."""
    return [reward(answer) for answer in answers]


def _pair_up(answers: Sequence[str]) -> Iterable[tuple[str, str]]:
    """The first two answers, the next two, and so on."""
    return zip(answers[::2], answers[1::2], strict=True)


class _Start(NamedTuple):
    """What a world begins with.

    Attributes:
        model: before SFT.
        examples: for SFT: prompt and completion.
        train_prompts: of the pairs.
        prompts: of the evaluation.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    examples: Dataset
    train_prompts: list[list[dict]]
    prompts: list[list[dict]]


def _load_tiny(spec: WorldSpec) -> _Start:
    """The untrained model of a seed, and reviews of the grammar to fine-tune it on."""
    generator = np.random.default_rng(spec.seed)
    tokenizer = tiny_tokenizer()
    train, held_out = split_prompts(list_prompts(), held_out=spec.prompts)
    shown = [train[i] for i in generator.integers(len(train), size=spec.sft_examples)]
    reviews = [_answer(write_review(prompt, generator)) for prompt in shown]
    examples = Dataset.from_dict({"prompt": shown, "completion": reviews})
    model = tiny_model(tokenizer, seed=spec.seed).to(training.device())
    return _Start(model, tokenizer, examples, train, held_out)


def _load_smollm2(spec: WorldSpec) -> _Start:
    """SmolLM2-135M-Instruct, with prompts and answers of Anthropic HH."""
    with training.quietly():
        model, tokenizer = models.load("smollm2", seed=spec.seed)
    split = _load_hh()

    def take(pairs: Dataset, count: int) -> Dataset:
        return preferences.take_fitting(
            pairs.shuffle(seed=spec.seed),
            tokenizer,
            count=count,
            max_prompt=spec.max_prompt,
            max_length=spec.max_length,
        )

    train = take(split.train, max(spec.sft_examples, spec.pairs))
    test = take(split.test, spec.prompts)
    examples = training.completions(train, spec.sft_examples)
    model = model.to(training.device())
    return _Start(model, tokenizer, examples, train["prompt"][:], test["prompt"][:])


def _load_hh() -> preferences.Split:
    train = comparisons.load_hh(*HH_TRAIN)
    return preferences.split_pairs(train, comparisons.load_hh(*HH_TEST))


def _answer(text: str) -> list[dict]:
    """An assistant's message, as TRL wants it."""
    return [{"role": "assistant", "content": text}]
