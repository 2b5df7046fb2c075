"""Study gold: runs of its sweep beside TRL's DPOTrainer, used as its documentation shows it."""

import copy
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sympo import preferences
from sympo.book.bench import timing
from sympo.book.bench.config import BenchConfig
from sympo.book.bench.timing import Row
from sympo.studies.alignment import gold, sweep, training
from sympo.studies.alignment.config import AlignmentRun
from sympo.studies.alignment.world import World
from sympo.studies.profiles import study_config

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, Trainer
    from trl import DPOConfig, DPOTrainer

SWEEP_TARGET = 2.0  # plain TRL's seconds over the sweep's, at least
STEP_TARGET = 1.3  # our tokens per second over plain TRL's, at least
TRL_NAMES = {"dpo": "sigmoid", "rdpo": "robust"}  # what study gold and TRL both have
PLAIN_COLUMNS = ["prompt", "chosen", "rejected"]


def list_runs(config: BenchConfig) -> list[AlignmentRun]:
    """The runs of study gold that TRL can train too, of the first seeds."""
    study = study_config("gold", config.profile)
    assert isinstance(study, gold.GoldConfig)
    return [run for run in study.runs() if run.method in TRL_NAMES and run.seed < config.gold_seeds]


# Plain


def train_with_trl(runs: list[AlignmentRun]) -> Iterator[dict[str, Any]]:
    """Metrics of each of `runs`, by TRL: one DPOTrainer after the other.

    Each run encodes its pairs and asks the reference model at every step.
    """
    # runs of one seed follow each other and share the SFT model
    for spec, group in groupby(runs, key=attrgetter("world")):
        world = gold.build_unreferenced(spec)
        with training.quietly(), tempfile.TemporaryDirectory() as folder:
            # from where TRL loads the reference model
            world.model.save_pretrained(folder)
            for run in group:
                pairs = preferences.flip_preferences(world.train, run.noise_rate, seed=run.seed)
                yield train_plain_policy(run, world, pairs, folder)


def train_plain_policy(
    run: AlignmentRun, world: World, pairs: "Dataset", folder: str
) -> dict[str, Any]:
    """Metrics of one policy that TRL trains from the SFT model saved in `folder`."""
    pairs, _ = sweep.split_validation(run.world, pairs)
    # at ε = 0 there are none to evaluate
    flipped = pairs.select(np.flatnonzero(pairs["is_flipped"]))
    held_out = {"test": world.test, **({"flipped": flipped} if len(flipped) else {})}
    trainer = build_plain_trainer(
        run,
        world.tokenizer,
        folder,
        train_dataset=pairs.select_columns(PLAIN_COLUMNS),
        eval_dataset={name: part.select_columns(PLAIN_COLUMNS) for name, part in held_out.items()},
    )
    trainer.train()
    measured = {name: trainer.evaluate(name) for name in held_out}
    # a copy, because the trainer's own may be under autocast
    policy = copy.deepcopy(world.model)
    training.load_trained(policy, trainer)
    return {
        # TRL's names for what our records call accuracy and margin
        "accuracy": measured["test"]["eval_rewards/accuracies"],
        "margin": measured["test"]["eval_rewards/margins"],
        "fit_flipped": measured["flipped"]["eval_rewards/accuracies"] if len(flipped) else None,
        **sweep.measure(policy, world),
    }


def build_plain_trainer(
    run: AlignmentRun,
    tokenizer: "PreTrainedTokenizerBase",
    folder: str,
    *,
    recompute: bool = True,
    **data: Any,
) -> "DPOTrainer":
    """TRL's DPOTrainer for the SFT model saved in `folder`.

    With TRL's defaults, but for what the study fixes (batch, learning rate, epochs, warm-up, β, no
    bound on gradients) and for bfloat16, which is 15 times slower than float32 on a CPU.

    Args:
        recompute: activations in the backward pass (gradient checkpointing), TRL's default.
        data: `train_dataset` and `eval_dataset`.
    """
    from transformers import AutoModelForCausalLM
    from trl import DPOTrainer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    arguments = _plain_arguments(run, folder, recompute=recompute)
    return DPOTrainer(model, args=arguments, processing_class=tokenizer, **data)


def _plain_arguments(run: AlignmentRun, folder: str, *, recompute: bool) -> "DPOConfig":
    from trl import DPOConfig

    micro_batch = training.micro_batch(run.world)
    return DPOConfig(
        output_dir=f"{folder}/out",
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        bf16=training.mixed_precision(run.world.model),
        seed=run.seed,
        max_length=None,
        max_grad_norm=math.inf,
        gradient_checkpointing=recompute,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=run.world.batch // micro_batch,
        num_train_epochs=run.epochs,
        learning_rate=run.learning_rate,
        warmup_steps=run.world.warmup,
        beta=run.beta,
        loss_type=TRL_NAMES[run.method],
        # the rate of wrong labels, which TRL's "robust" is told
        label_smoothing=run.noise_rate if run.method == "rdpo" else 0.0,
    )


# Parts


def bench_gold(config: BenchConfig) -> list[Row]:
    """The sweep over the runs that TRL can train too, SFT included, beside TRL used plainly.

    Nothing is warmed up: what a sweep pays once, it pays once here.
    """
    runs = list_runs(config)
    # as `run_sweep` would choose for the tiny model
    train = (
        partial(sweep.train_parallel, build_world=gold.build_world)
        if timing.device() == "cpu"
        else sweep.Workbench(gold.build_world).train_runs
    )
    # means over the runs, one per repeat: both sides have to learn as much
    our_accuracies: list[float] = []
    plain_accuracies: list[float] = []

    def train_ours() -> None:
        results = [result for _, result in train(runs)]
        # all have ended by now: a generator trains as it is read
        accuracies = [result.metrics["accuracy"] for result in results]
        our_accuracies.append(float(np.mean(accuracies)))

    def train_plain() -> None:
        accuracies = [metrics["accuracy"] for metrics in train_with_trl(runs)]
        plain_accuracies.append(float(np.mean(accuracies)))

    row = timing.compare(
        f"gold sweep, {len(runs)} runs on {config.gold_seeds} SFT models, per run",
        train_ours,
        train_plain,
        shares=(len(runs), len(runs)),
        repeats=config.repeats,
        target=("≥", SWEEP_TARGET),
        warm_ups=0,
    )
    what = "mean held-out accuracy of these runs"
    return [row, Row(what, "", our_accuracies, plain_accuracies)]


def bench_step(config: BenchConfig) -> list[Row]:
    """Training steps of one policy of study gold, beside those of TRL used plainly.

    Only training is timed: neither the encoding of the pairs nor our reference pass, which a sweep
    pays once.
    """
    first = list_runs(config)[0]
    # a world of its own size, long enough to time steps in it
    run = replace(first, world=replace(first.world, pairs=config.step_pairs))
    world = gold.build_world(run.world)
    pairs = preferences.flip_preferences(world.train, run.noise_rate, seed=run.seed)
    with training.quietly(), tempfile.TemporaryDirectory() as folder:
        world.model.save_pretrained(folder)
        builds = _list_builds(run, world, pairs, folder)
        rounds = [[_time_training(build()) for build in builds] for _ in range(1 + config.repeats)]
    # the first round warms up; then (seconds and mean loss, trainer, repeat)
    seconds, losses = np.transpose(rounds[1:], (2, 1, 0))
    # both sides read the same tokens, so a ratio of rates is one of seconds
    rates = _count_tokens(run, pairs) / seconds
    what = (
        f"{run.world.model} model, training on {len(pairs)} pairs, our reference pass not counted"
    )
    same = "the same, TRL without recomputed activations"
    ours, plain, unrecomputed = rates.tolist()
    ratios = (rates[0] / rates[1:]).tolist()
    return [
        Row(what, "tokens/s", ours, plain, ratios[0], "×", ("≥", STEP_TARGET)),
        Row(same, "tokens/s", ours, unrecomputed, ratios[1], "×"),
        Row("mean training loss of these steps", "", losses[0].tolist(), losses[1].tolist()),
    ]


def _list_builds(
    run: AlignmentRun, world: World, pairs: "Dataset", folder: str
) -> list[Callable[[], "Trainer"]]:
    """What builds our trainer, TRL's, and TRL's without recomputed activations."""

    # a fresh trainer for every repeat, so that each trains the same steps
    def build_ours() -> "Trainer":
        return training.build_trainer(
            copy.deepcopy(world.model),
            world.tokenizer,
            training.run_arguments(run, folder),
            train_dataset=pairs,
        )

    plain_pairs = pairs.select_columns(PLAIN_COLUMNS)
    plain = partial(build_plain_trainer, run, world.tokenizer, folder, train_dataset=plain_pairs)
    return [build_ours, plain, partial(plain, recompute=False)]


def _count_tokens(run: AlignmentRun, pairs: "Dataset") -> int:
    """Tokens that training reads: a prompt goes with each of its two answers."""
    # without padding, which is what the two sides differ in
    answers = sum(map(len, chain(pairs["chosen_ids"], pairs["rejected_ids"])))
    return run.epochs * (2 * sum(map(len, pairs["prompt_ids"])) + answers)


def _time_training(trainer: "Trainer") -> tuple[float, float]:
    """Seconds of a trainer's training, and its mean loss."""
    # TRL sums up a training in the last entry of its log
    seconds = timing.time_call(trainer.train)
    return seconds, trainer.state.log_history[-1]["train_loss"]
