"""A world whose true reward is known: VADER's sentiment of the answer.

On real preference data nobody can say by how much a policy improved. Here everybody can: the gold
reward labels the pairs through Bradley–Terry, and the same gold reward judges the policies. Study
gold aligns SmolLM2 in this world or, on a laptop, a Llama of a quarter of a million weights, which
learns to write the reviews of a small grammar.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import cycle, islice
from typing import Any, Literal, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sympo import noise, preferences
from sympo.studies import comparisons, models, phases, plan, records
from sympo.studies.alignment import sampling, sweep, training
from sympo.studies.alignment.config import AlignConfig, AlignmentRun, Messages, WorldSpec
from sympo.studies.alignment.world import World, add_reference

# raised when what the study computes changes; tests/studies/test_golden.py tells when
VERSION = 3

# The prompts for SmolLM2, which writes the answers itself.
HH_TRAIN = ("helpful-online/test", "helpful-rejection-sampled/test")
HH_TEST = ("helpful-base/test",)
# ours: an answer whose reward is higher by 0.1 (of a range of 2) is preferred with σ(1) = 73%
TEMPERATURE = 0.1

# The grammar. Places, things and days have no sentiment in VADER's lexicon.

# place → what a review of it can talk about
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

# of each sentiment; a review draws the sentiment first, so that all three are equally frequent
GOOD = ("great", "good", "lovely", "nice", "perfect", "superb")
NEUTRAL = ("small", "ordinary", "usual", "plain", "modern", "old")
BAD = ("awful", "bad", "dull", "dirty", "terrible", "ugly")
# half of the adjectives stand alone
DEGREES = ("", "", "", "very", "quite", "not")
# VADER gives what follows a "but" three times the weight of what precedes it
LINKS = ("and", "but")

# "<prompt> <answer> <eos>", without a system turn: every token costs time
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m.content }}{{ ' ' if m.role == 'user' else ' <eos> ' }}{% endfor %}"
)


@cache
def _load_analyzer() -> Any:
    # here, so that the study's config can be read where VADER is not installed
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@cache
def reward(answer: str) -> float:
    """The gold reward of an answer: VADER's compound score, in [−1, 1].

    Source: Hutto and Gilbert 2014, package vaderSentiment.
    Check: tests/studies/test_gold.py::test_reward_is_vader.
    """
    return _load_analyzer().polarity_scores(answer)["compound"]


def prefer_first(first: ArrayLike, second: ArrayLike, uniform: ArrayLike) -> NDArray[np.bool_]:
    """Bradley–Terry labels: the first is preferred where `uniform` < σ((r₁ − r₂)/TEMPERATURE).

    Args:
        first, second: gold rewards `(pairs,)`.
        uniform: `(pairs,)`, in [0, 1).
    Returns:
        `(pairs,)`.
    Source: Section 2.1.
    Check: tests/studies/test_gold.py::test_labels_follow_bradley_terry.
    """
    deficit = np.subtract(second, first)
    return np.asarray(uniform) < 1 / (1 + np.exp(deficit / TEMPERATURE))


def label_pairs(
    prompts: Sequence[Messages], pairs: Iterable[tuple[str, str]], *, seed: int
) -> Dataset:
    """Clean preference pairs in TRL's conversational format, labelled by the gold reward.

    Labels are keyed by row content: they depend neither on the other rows nor on the order of the
    two answers. A pair of equal answers says nothing and is dropped.

    Args:
        prompts: messages, one list per pair.
        pairs: two answers each.
        seed: another seed gives independent labels.
    Returns:
        columns prompt, chosen, rejected, is_flipped (all false), gold_chosen and gold_rejected
        (the rewards).
    Check: tests/studies/test_gold.py::test_pairs_are_labelled_by_bradley_terry.
    """
    # the two answers in alphabetical order, whatever order they came in
    rows = [
        (prompt, min(pair), max(pair))
        for prompt, pair in zip(prompts, pairs, strict=True)
        if pair[0] != pair[1]
    ]
    keys = [("label", *(turn["content"] for turn in prompt), a, b) for prompt, a, b in rows]
    uniform = noise.RowGenerator(keys, seed).random(len(rows))
    first = [reward(a) for _, a, _ in rows]
    second = [reward(b) for _, _, b in rows]
    wins = prefer_first(first, second, uniform)
    return _to_dataset(
        [
            (prompt, a, b) if first_wins else (prompt, b, a)
            for (prompt, a, b), first_wins in zip(rows, wins, strict=True)
        ]
    )


def order_pairs(prompts: Sequence[Messages], pairs: Iterable[tuple[str, str]]) -> Dataset:
    """As `label_pairs`, but the answer of higher gold reward is always chosen; ties are dropped."""
    ranked = [
        (prompt, max(pair, key=reward), min(pair, key=reward))
        for prompt, pair in zip(prompts, pairs, strict=True)
    ]
    return _to_dataset([row for row in ranked if reward(row[1]) > reward(row[2])])


def _to_dataset(rows: list[tuple[Messages, str, str]]) -> Dataset:
    """The dataset of rows (prompt, chosen, rejected)."""
    return Dataset.from_list(
        [
            {
                "prompt": prompt,
                "chosen": _answer(chosen),
                "rejected": _answer(rejected),
                "is_flipped": False,
                "gold_chosen": reward(chosen),
                "gold_rejected": reward(rejected),
            }
            for prompt, chosen, rejected in rows
        ]
    )


# The tiny world: a grammar of reviews


def list_prompts() -> list[Messages]:
    """Every prompt of the grammar, such as "cafe monday", each one user message."""
    texts = [f"{place} {day}" for place in PLACES for day in DAYS]
    return [[{"role": "user", "content": text}] for text in texts]


def split_prompts(
    prompts: Sequence[Messages], *, held_out: int
) -> tuple[list[Messages], list[Messages]]:
    """Training prompts, and `held_out` evaluation prompts.

    The split is the same for every seed, so that no run trains on an evaluation prompt.

    Raises:
        ValueError: nothing is held out, or everything.
    """
    if not 0 < held_out < len(prompts):
        raise ValueError(
            f"held_out = {held_out} of {len(prompts)} prompts: choose a smaller number above 0"
        )
    keys = [tuple(message["content"] for message in prompt) for prompt in prompts]
    order = np.argsort(noise.RowGenerator(keys, 0).random(len(keys)))
    return [prompts[i] for i in order[held_out:]], [prompts[i] for i in order[:held_out]]


def write_review(prompt: Messages, generator: np.random.Generator) -> str:
    """A review from the grammar, such as "cake very good but staff plain".

    Good, neutral and bad words are equally frequent, whatever the prompt: the sentiment is all
    there is to learn.
    """
    things = generator.choice(list_things(prompt), 2, replace=False)
    first, second = (
        f"{thing} {generator.choice(DEGREES)} {_draw_adjective(generator)}" for thing in things
    )
    review = f"{first} {generator.choice(LINKS)} {second}"
    # an empty degree leaves two spaces behind
    return " ".join(review.split())


def list_things(prompt: Messages) -> tuple[str, ...]:
    """What a review of the prompt's place can talk about."""
    place = prompt[-1]["content"].split()[0]
    return (*PLACES[place], *EVERYWHERE)


def is_review(prompt: Messages, answer: str) -> bool:
    """Whether `write_review` could have written `answer`.

    Check: tests/studies/test_gold.py::test_what_is_a_review.
    """
    thing = f"({'|'.join(list_things(prompt))})"
    # a degree may be missing
    degrees = "|".join(degree for degree in dict.fromkeys(DEGREES) if degree)
    judged = f"(?:(?:{degrees}) )?(?:{'|'.join((*GOOD, *NEUTRAL, *BAD))})"
    pattern = f"{thing} {judged} (?:{'|'.join(LINKS)}) {thing} {judged}"
    match = re.fullmatch(pattern, answer)
    # a review talks about two things
    return match is not None and match[1] != match[2]


def _draw_adjective(generator: np.random.Generator) -> str:
    words = (GOOD, NEUTRAL, BAD)[generator.integers(3)]
    return generator.choice(words)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the grammar's words, whose chat template is `CHAT_TEMPLATE`."""
    texts = (
        *("<pad>", "<eos>", "<unk>"),
        *PLACES,
        *(thing for things in PLACES.values() for thing in things),
        *EVERYWHERE,
        *DAYS,
        *GOOD,
        *NEUTRAL,
        *BAD,
        *DEGREES,
        *LINKS,
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
    """An untrained Llama of one layer, 64 wide; `seed` draws its weights."""
    return models.tiny_llama(tokenizer, seed=seed, context=64, width=64, layers=1)


# The study


class GoldConfig(AlignConfig):
    """Study gold: alignment with a known reward.

    All fields are ours: the paper has no such study.
    """

    # "tiny" is trained from scratch on the grammar's reviews; SmolLM2 is SmolLM2-135M-Instruct
    model: Literal["tiny", "smollm2"]


def run_study(config: GoldConfig) -> records.Runs:
    """Train every policy of `config`, or load its record."""
    return sweep.run_sweep(config, build_world, version=VERSION, find_source=find_source)


def plan_study(config: GoldConfig, *, read_only: bool = False) -> plan.Plan[AlignmentRun]:
    """The policies of `config`, one by one; arguments as for `sweep.plan_sweep`."""
    return sweep.plan_sweep(
        config,
        build_world,
        version=VERSION,
        find_source=find_source,
        read_only=read_only,
    )


def find_source(config: GoldConfig) -> dict[str, str]:
    """The files behind a world; the tiny model's pairs come from the grammar alone."""
    weights = models.find_weights(config.model)
    return {**_load_hh().source(), **weights} if config.model == "smollm2" else weights


def build_world(spec: WorldSpec) -> World:
    """The world of a spec: SFT, pairs of the SFT model's own answers, and the reference pass."""
    return add_reference(build_unreferenced(spec))


def build_unreferenced(spec: WorldSpec) -> World:
    """The world of a spec, before the reference pass; raises what `draw_world` raises."""
    with phases.phase("loading"):
        start = load_tiny(spec) if spec.model == "tiny" else _load_smollm2(spec)
        start.model.to(training.device())
    with phases.phase("SFT"):
        training.fine_tune(start.model, start.tokenizer, start.examples, spec)
    with phases.phase("the SFT model's answers"):
        return draw_world(start, spec)


def draw_world(start: "Start", spec: WorldSpec) -> World:
    """The world whose SFT model is that of `start`, which has been fine-tuned.

    Raises:
        ValueError: no training pair has two different answers, or no held-out pair answers of
            different reward.
    """
    model = start.model
    tokenizer = start.tokenizer
    # Two answers to each training prompt, and round again if there are fewer prompts than pairs.
    asked = list(islice(cycle(start.train_prompts), spec.pairs + spec.validation_pairs))
    drawn = sampling.sample(model, tokenizer, asked, spec, samples=2, seed=spec.pairs_seed).texts
    train = label_pairs(asked, _pair_up(drawn), seed=spec.seed)

    # Its answers to the evaluation prompts make held-out pairs, and are what policies must beat.
    answers = sampling.sample(
        model, tokenizer, start.prompts, spec, samples=spec.samples, seed=spec.sft_seed
    ).texts
    asked = [prompt for prompt in start.prompts for _ in range(spec.samples // 2)]
    test = order_pairs(asked, _pair_up(answers))
    rewards = np.reshape([reward(answer) for answer in answers], (-1, spec.samples))

    if not (len(train) and len(test)):
        raise ValueError(
            "the SFT model's answers are all alike to the gold reward: "
            "raise prompts, pairs or max_new_tokens"
        )
    first = answers[:: spec.samples]
    return World(spec, model, tokenizer, train, test, start.prompts, score, first, rewards)


def score(prompts: Sequence[Messages], answers: Sequence[str]) -> list[float]:
    """The judge of this world: the gold reward of each answer, whatever was asked."""
    return [reward(answer) for answer in answers]


def _pair_up(answers: Sequence[str]) -> Iterable[tuple[str, str]]:
    """The first two answers, the next two, and so on."""
    return zip(answers[::2], answers[1::2], strict=True)


class Start(NamedTuple):
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
    train_prompts: list[Messages]
    prompts: list[Messages]


def load_tiny(spec: WorldSpec) -> Start:
    """The untrained model of a seed, and reviews of the grammar to fine-tune it on."""
    tokenizer = tiny_tokenizer()
    # one stream for the choice of prompts and for the reviews
    generator = np.random.default_rng(spec.seed)
    train, held_out = split_prompts(list_prompts(), held_out=spec.prompts)
    shown = [train[i] for i in generator.integers(len(train), size=spec.sft_examples)]
    reviews = [_answer(write_review(prompt, generator)) for prompt in shown]
    examples = Dataset.from_dict({"prompt": shown, "completion": reviews})
    model = tiny_model(tokenizer, seed=spec.seed)
    return Start(model, tokenizer, examples, train, held_out)


def _load_smollm2(spec: WorldSpec) -> Start:
    """SmolLM2-135M-Instruct, with prompts and answers of Anthropic HH."""
    with training.quietly():
        model, tokenizer = models.load("smollm2", seed=spec.seed)
    split = _load_hh()

    # another seed takes other rows, in another order
    def take(pairs: Dataset, count: int) -> Dataset:
        return preferences.take_fitting(
            pairs.shuffle(seed=spec.seed),
            tokenizer,
            count=count,
            max_prompt=spec.max_prompt,
            max_length=spec.max_length,
        )

    train = take(split.train, max(spec.sft_examples, spec.pairs + spec.validation_pairs))
    test = take(split.test, spec.prompts)
    examples = training.completions(train, spec.sft_examples)
    return Start(model, tokenizer, examples, train["prompt"][:], test["prompt"][:])


def _load_hh() -> preferences.Split:
    train = comparisons.load_hh(*HH_TRAIN)
    return preferences.split_pairs(train, comparisons.load_hh(*HH_TEST))


def _answer(text: str) -> Messages:
    """An assistant's message, as TRL wants it."""
    return [{"role": "assistant", "content": text}]
