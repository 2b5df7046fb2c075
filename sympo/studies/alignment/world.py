"""A world: what all runs of one seed share."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sympo.studies import phases
from sympo.studies.alignment import training
from sympo.studies.alignment.config import Messages, WorldSpec

# prompts and answers → a reward per answer
Score = Callable[[Sequence[Messages], Sequence[str]], Any]


class Answers(NamedTuple):
    """An answer to each prompt, `texts`, and the judge's `rewards` of them, `(prompts,)`."""

    texts: list[str]
    rewards: NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """The SFT model of a seed, its pairs and its judge.

    Attributes:
        spec: what the world was built from.
        model: the SFT model, which is the reference policy; runs copy it and leave it as it is.
        train, test: pairs whose labels are not flipped yet; the last `spec.validation_pairs` of
            train are for validation. After `add_reference` with token ids, the columns
            `ref_chosen_logps` and `ref_rejected_logps` in the precision of training, and
            `exact_chosen_logps` and `exact_rejected_logps` in float32.
        prompts: of the evaluation.
        score: the judge, `score(prompts, answers)` → a reward per answer.
        answers: the SFT model's first answer to each of `prompts`.
        rewards: its rewards of the SFT model's answers to `prompts`, `(prompts, samples)`.
        facts: metrics of the world itself, which go into every record of it.
        chosen: the data set's chosen answers to `prompts`, a second opponent; None where the SFT
            model wrote the pairs itself.
    """

    spec: WorldSpec
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    train: Dataset
    test: Dataset
    prompts: list[Messages]
    score: Score
    answers: list[str]
    rewards: NDArray[np.float64]
    facts: dict[str, float] = field(default_factory=dict)
    chosen: Answers | None = None


def add_reference(world: World) -> World:
    """The world with its pairs encoded, and their answers' log-probabilities under its model, nats.

    The test pairs are sorted by length: only means are taken over them, and sorted they need little
    padding.
    """
    with (
        phases.phase("reference"),
        training.quietly(),
        tempfile.TemporaryDirectory() as folder,
    ):
        # Nothing is trained here. A trainer encodes its pairs when it is built, and runs the
        # reference model over them; so pairs are encoded as in training, and any loss would do.
        trainer = training.build_trainer(
            # a copy, because TRL patches the model that it is told to train
            copy.deepcopy(world.model),
            world.tokenizer,
            training.pair_arguments(world.spec, folder),
            train_dataset=world.train,
            eval_dataset=world.test,
        )
        by_length = np.argsort(training.pair_lengths(trainer.eval_dataset))
        return replace(
            world, train=trainer.train_dataset, test=trainer.eval_dataset.select(by_length)
        )
