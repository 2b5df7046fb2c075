"""Studies hh and ultrafeedback: preference training on recorded comparisons.

Both ask what the paper asks of language models: pairs that people or a larger model compared,
labels flipped at a known rate, one pass over them. The judge is a reward model, trained with clean
labels on pairs that no policy sees; how well it agrees with the held-out labels is in every record
(`judge_accuracy`), because a win rate is worth no more. A policy has two opponents: the SFT model
that it starts from, and the answer that the data set calls chosen, which is the paper's. A language
model that judges, as the paper's does, is asked later (see `judging`).
"""

import copy
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from pydantic import Field
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sympo import preferences
from sympo.judge import ModelJudge
from sympo.studies import comparisons, models, phases, plan, records
from sympo.studies.alignment import sampling, sweep, training
from sympo.studies.alignment.config import (
    PROBE_SEED,
    AlignConfig,
    AlignmentRun,
    Count,
    Decoding,
    Messages,
    Positive,
    WorldSpec,
)
from sympo.studies.alignment.world import Answers, Score, World, add_reference
from sympo.studies.records import Record
from sympo.trainer import SymmetricRewardConfig, SymmetricRewardTrainer

# raised when what the studies compute changes; tests/studies/test_golden.py tells when
VERSION = 4


@dataclass(frozen=True, kw_only=True)
class OfflineSpec(WorldSpec):
    """A world of recorded comparisons, with a judge trained on some of them."""

    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    test_share: float
    test_pairs: int
    judge_share: float
    judge_pairs: int
    judge_epochs: int
    judge_learning_rate: float
    temperature: float
    top_p: float

    @property
    def decoding(self) -> Decoding:
        """How every answer of this world is drawn."""
        return Decoding(self.temperature, self.top_p)

    def config(self) -> dict[str, Any]:
        """The spec as a dict of JSON values; the files' names as one text each."""
        names = {"train_files": self.train_files, "test_files": self.test_files}
        return {**super().config(), **{field: " ".join(files) for field, files in names.items()}}


class OfflineConfig(AlignConfig):
    """What studies hh and ultrafeedback share. Source: the paper, where not marked ours."""

    spec_type: ClassVar[type[WorldSpec]] = OfflineSpec

    # The paper's is "llama", Llama-3.2-3B-Instruct. Ours: SmolLM2-135M-Instruct, and an untrained
    # model that reads bytes.
    model: Literal["tiny", "smollm2", "llama"]

    # names that `sympo.studies.comparisons` knows
    train_files: list[str]
    test_files: list[str]
    # ours: of the prompts of the test files so many are for the test, and the others train
    test_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    # ours: held-out pairs with clean labels, for accuracy and margin
    test_pairs: Count

    # ours: the judge gets a share of the training prompts for itself, and trains on some of them
    judge_share: Annotated[float, Field(gt=0, lt=1)]
    judge_pairs: Count
    judge_epochs: Count
    judge_learning_rate: Positive

    # how answers are drawn; the paper's are 0.7 and 0.95
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0


def run_study(config: OfflineConfig) -> records.Runs:
    """Train every policy of `config`, or load its record."""
    return sweep.run_sweep(config, build_world, version=VERSION, find_source=find_source)


def plan_study(config: OfflineConfig, *, read_only: bool = False) -> plan.Plan[AlignmentRun]:
    """The policies of `config`, one by one; arguments as for `sweep.plan_sweep`."""
    return sweep.plan_sweep(
        config,
        build_world,
        version=VERSION,
        find_source=find_source,
        read_only=read_only,
    )


def load_shared(config: OfflineConfig) -> list[Record]:
    """The records of `select_shared` that there are, of complete seeds; no data set is needed.

    Raises:
        ValueError: no seed is complete.
    """
    return select_shared(plan.run(plan_study(config, read_only=True)).records, config)


def select_shared(runs: Iterable[Record], config: OfflineConfig) -> list[Record]:
    """The policies at the learning rate and β that all methods share, without the probe's."""
    shared = {"learning_rate": config.learning_rate, "beta": config.beta}
    return [
        record
        for record in runs
        if record["config"]["seed"] < PROBE_SEED and shared.items() <= record["config"].items()
    ]


def find_source(config: OfflineConfig) -> dict[str, str]:
    """The files behind a world."""
    return {**load_split(config).source(), **models.find_weights(config.model)}


def load_split(source: OfflineConfig | OfflineSpec) -> preferences.Split:
    """The pairs of a study: which may train policies and judges, and which are for the test.

    No prompt is on both sides. Of the test files' prompts a share `test_share` is tested, the same
    ones for every seed, and pairs of the others train: preferences of one kind of dialogue may
    say nothing about, or contradict, those of another.

    Check: tests/studies/test_offline.py::test_prompts_of_the_test_files_that_are_not_tested_train.
    """
    split = comparisons.load_split(source.study, source.train_files, source.test_files)
    if source.test_share == 1:
        return split
    rest, test = preferences.hold_out(split.test, fraction=source.test_share, seed=0)
    return split._replace(train=concatenate_datasets([split.train, rest]), test=test)


def build_world(spec: OfflineSpec) -> World:
    """The world of a spec: pairs, a judge, SFT, the SFT model's answers, the reference pass."""
    with phases.phase("loading"):
        with training.quietly():
            model, tokenizer = models.load(spec.model, seed=spec.seed)
        model = model.to(training.device())
        pairs = _draw_pairs(spec, tokenizer)

    # Before SFT, so that the judge starts from the model as it was loaded and has seen no answer
    # of the policies' pairs.
    with phases.phase("judge"):
        score, facts = train_judge(model, tokenizer, pairs.judge, pairs.test, spec)
    with phases.phase("SFT"):
        examples = training.completions(pairs.train, spec.sft_examples)
        training.fine_tune(model, tokenizer, examples, spec)

    # What policies must beat: the SFT model's answers to held-out prompts, and the chosen ones.
    prompts = pairs.test["prompt"][: spec.prompts]
    texts = _texts(pairs.test["chosen"][: spec.prompts])
    chosen = _score_chosen(prompts, texts, tokenizer, score, tokens=spec.max_new_tokens)
    answers = sampling.sample(
        model, tokenizer, prompts, spec, samples=spec.samples, seed=spec.sft_seed
    ).texts
    asked = [prompt for prompt in prompts for _ in range(spec.samples)]
    rewards = np.reshape(score(asked, answers), (-1, spec.samples))
    facts = {**facts, **sweep.compare_with_chosen("sft_chosen", rewards, chosen)}
    return add_reference(
        World(
            spec=spec,
            model=model,
            tokenizer=tokenizer,
            train=pairs.train,
            test=pairs.test,
            prompts=prompts,
            score=score,
            answers=answers[:: spec.samples],
            rewards=rewards,
            facts=facts,
            chosen=chosen,
        )
    )


class _Parts(NamedTuple):
    """Pairs for the policies, for the judge, and for the test; no prompt is in two of them."""

    train: Dataset
    judge: Dataset
    test: Dataset


def _draw_pairs(spec: OfflineSpec, tokenizer: PreTrainedTokenizerBase) -> _Parts:
    """The first pairs that fit, in the order of the world's seed.

    Raises:
        ValueError: fewer pairs fit than the spec asks for.
    """
    split = load_split(spec)
    # the judge's share is the same for every seed
    policy, for_judge = preferences.hold_out(split.train, fraction=spec.judge_share, seed=0)
    limits = {"max_prompt": spec.max_prompt, "max_length": spec.max_length}

    def take(field: str, pairs: Dataset, *, more: int = 0) -> Dataset:
        count = getattr(spec, field) + more
        shuffled = pairs.shuffle(seed=spec.seed)
        fitting = preferences.take_fitting(shuffled, tokenizer, count=count, **limits)
        if len(fitting) < count:
            beside = f" with validation_pairs = {more}" if more else ""
            raise ValueError(
                f"{field} = {count - more}{beside}, but {len(fitting)} pairs fit {limits}: "
                f"lower {field}"
            )
        return fitting

    return _Parts(
        train=take("pairs", policy, more=spec.validation_pairs),
        judge=take("judge_pairs", for_judge),
        test=take("test_pairs", split.test),
    )


def train_judge(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
    test: Dataset,
    spec: OfflineSpec,
) -> tuple[Score, dict[str, float]]:
    """A reward model that starts from `model`, trained on clean labels with the logistic loss.

    Returns:
        `score(prompts, answers)` → rewards, and the judge's accuracy on `test`, as a fact of the
        world.
    """
    with training.quietly(), tempfile.TemporaryDirectory() as folder:
        classifier = _add_head(model, tokenizer, seed=spec.seed)
        arguments = SymmetricRewardConfig(
            **training.settings(
                spec,
                folder,
                learning_rate=spec.judge_learning_rate,
                num_train_epochs=spec.judge_epochs,
            ),
            loss_type="logistic",
        )
        # a copy, because TRL patches the model that it trains
        trainer = SymmetricRewardTrainer(
            copy.deepcopy(classifier), arguments, train_dataset=pairs, processing_class=tokenizer
        )
        with models.tf32(allowed=True):
            trainer.train()
        training.load_trained(classifier, trainer)
    judge = ModelJudge(classifier.to(model.device), tokenizer, training.micro_batch(spec))
    score: Score = models.tf32(allowed=True)(judge.score)
    chosen = score(test["prompt"], _texts(test["chosen"]))
    rejected = score(test["prompt"], _texts(test["rejected"]))
    return score, {"judge_accuracy": float(np.greater(chosen, rejected).mean())}


def _add_head(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> PreTrainedModel:
    """A classifier with the weights of `model` and a new head."""
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    # it scores the last token that is no padding, and has to know which that is
    config.pad_token_id = tokenizer.pad_token_id
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # draws the weights of the head, and others that are replaced
        classifier = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    classifier.base_model.load_state_dict(model.base_model.state_dict())
    return classifier


def _score_chosen(
    prompts: Sequence[Messages],
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    score: Score,
    *,
    tokens: int,
) -> Answers:
    """Recorded answers as they read if they, too, are cut after so many tokens; their rewards."""
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    kept = [ids[:tokens] for ids in encoded]
    cut = [text.strip() for text in tokenizer.batch_decode(kept, skip_special_tokens=True)]
    return Answers(cut, np.asarray(score(prompts, cut), dtype=np.float64))


def _texts(answers: Sequence[Messages]) -> list[str]:
    return [messages[-1]["content"] for messages in answers]
