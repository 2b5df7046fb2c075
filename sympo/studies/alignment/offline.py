"""Studies hh and ultrafeedback: preference training on recorded comparisons, judged by a reward
model.

Both ask what the paper asks of language models: pairs that people or a larger model compared,
labels flipped at a known rate, one pass over them. The judge here is a reward model, trained with
clean labels on pairs that no policy sees; how well it agrees with the held-out labels is in every
record (`judge_accuracy`), because a win rate is worth no more.
"""

import copy
import sys
import tempfile
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from datasets import Dataset
from pydantic import Field

from sympo import judge, preferences
from sympo.studies import models, records
from sympo.studies.alignment import sweep as align
from sympo.studies.alignment.sweep import AlignConfig, Count, Positive, World
from sympo.trainer import SymmetricRewardConfig, SymmetricRewardTrainer

LOADERS = {"hh": preferences.load_hh, "ultrafeedback": preferences.load_ultrafeedback}


class OfflineConfig(AlignConfig):
    """What studies hh and ultrafeedback share. Source: the paper, where not marked ours."""

    # ours: bytes, untrained; SmolLM2-135M-Instruct; Llama-3.2-3B-Instruct
    model: Literal["tiny", "smollm2", "llama"]
    train_files: list[str]  # what `sympo.preferences` loads for training
    test_files: list[str]
    test_pairs: Count  # ours: held-out pairs with clean labels, for accuracy and margin
    # ours: share of the training prompts kept for the judge alone
    judge_share: Annotated[float, Field(gt=0, lt=1)]
    judge_pairs: Count  # ours: pairs of these that it is trained on
    judge_epochs: Count  # ours
    judge_learning_rate: Positive  # ours

    def runs(self) -> list[dict]:
        """As `AlignConfig.runs`, with the files' names as one text each."""
        files = {"train_files": " ".join(self.train_files), "test_files": " ".join(self.test_files)}
        return [{**run, **files} for run in super().runs()]


def load_split(
    study: str, train_files: Sequence[str], test_files: Sequence[str]
) -> preferences.Split:
    """Clean training and test pairs of a study that share no prompt, with the reports of their
    files.
    """
    return preferences.split_pairs(LOADERS[study](*train_files), LOADERS[study](*test_files))


def build_world(run: dict) -> World:
    """The SFT model of a seed, recorded pairs with its log-probabilities, a judge, and its view of
    the SFT answers.
    """
    with align.quietly():
        model, tokenizer = models.load(run["model"], seed=run["seed"])
    model = model.to(align.device())
    train, for_judge, test = _draw_pairs(run, tokenizer)
    score, facts = train_judge(model, tokenizer, for_judge, test, run)
    align.fine_tune(model, tokenizer, align.completions(train, run["sft_examples"]), run)
    prompts, samples = test["prompt"][: run["prompts"]], run["samples"]
    answers = align.sample(
        model, tokenizer, prompts, run, samples=samples, seed=3 * run["seed"] + 1
    ).texts
    rewards = np.reshape(
        score([prompt for prompt in prompts for _ in range(samples)], answers), (-1, samples)
    )
    pairs = align.add_reference(model, tokenizer, run, train, test)
    return World(model, tokenizer, *pairs, prompts, score, rewards, facts)


def _draw_pairs(run: dict, tokenizer) -> tuple[Dataset, ...]:
    """Pairs for the policies, for the judge, and for the test: the first that fit, in the order of
    the run's seed.
    """
    split = load_split(run["study"], run["train_files"].split(), run["test_files"].split())
    policy, for_judge = preferences.hold_out(split.train, fraction=run["judge_share"], seed=0)
    limits, found = {"max_prompt": run["max_prompt"], "max_length": run["max_length"]}, []
    for name, part in {"pairs": policy, "judge_pairs": for_judge, "test_pairs": split.test}.items():
        shuffled = part.shuffle(seed=run["seed"])
        found.append(preferences.take_fitting(shuffled, tokenizer, count=run[name], **limits))
        if len(found[-1]) < run[name]:
            raise ValueError(
                f"{name} = {run[name]}, but {len(found[-1])} pairs fit {limits}: lower {name}"
            )
    return tuple(found)


def train_judge(model, tokenizer, pairs: Dataset, test: Dataset, run: dict):
    """A reward model that starts from `model` and is trained on clean labels with the logistic
    loss.

    Returns:
        `score(prompts, answers)` → rewards, and the judge's accuracy on `test`, as a fact of the
        world.
    """
    from transformers import AutoModelForSequenceClassification

    with align.quietly(), tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        options = {"num_labels": 1, "dtype": torch.float32, "use_safetensors": True}
        with torch.random.fork_rng():
            torch.manual_seed(run["seed"])  # draws the weights of the new head
            classifier = AutoModelForSequenceClassification.from_pretrained(folder, **options)
        classifier.config.pad_token_id = tokenizer.pad_token_id
        budget = {
            "learning_rate": run["judge_learning_rate"],
            "num_train_epochs": run["judge_epochs"],
        }
        arguments = SymmetricRewardConfig(
            **align.settings(run, folder, **budget), loss_type="logistic"
        )
        given = {"train_dataset": pairs, "processing_class": tokenizer}
        made = SymmetricRewardTrainer(copy.deepcopy(classifier), arguments, **given)
        made.train()
        align.load_trained(classifier, made)
    found = judge.ModelJudge(classifier.to(model.device), tokenizer, run["micro_batch"])
    chosen, rejected = (
        found.score(test["prompt"], _texts(test[side])) for side in ("chosen", "rejected")
    )
    return found.score, {"judge_accuracy": float(np.greater(chosen, rejected).mean())}


def _texts(answers: Sequence[list[dict]]) -> list[str]:
    return [messages[-1]["content"] for messages in answers]


def run_study(config: OfflineConfig) -> records.Runs:
    """Train every policy of `config`, or load its record."""
    split = load_split(config.study, config.train_files, config.test_files)
    source = {**split.source(), **models.find_weights(config.model)}
    parallel = config.model == "tiny" and not torch.cuda.is_available()
    return align.run_sweep(
        config, build_world, sys.modules[__name__], judge, models, parallel=parallel, **source
    )
