"""From the config of an alignment study to its records.

`run_sweep` asks for the record of every run; a `Workbench` trains those that are missing, each in
its world, or several do in processes of their own (`train_parallel`); and `train_run` makes one
policy: preference training from the SFT model, then sampling and metrics.
"""

import copy
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel

from sympo import preferences
from sympo.studies import memory, models, phases, plan, progress, provenance, records
from sympo.studies.alignment import sampling, training
from sympo.studies.alignment.config import WHOLE, AlignConfig, AlignmentRun, WorldSpec
from sympo.studies.alignment.world import Answers, World
from sympo.studies.records import Result

# of a spec, which may be of a study's own class
BuildWorld = Callable[[Any], World]
# of a config: where data and weights come from, with their hashes
FindSource = Callable[[Any], dict[str, str]]

# what a record's history keeps of the trainer's log
_LOGGED = (
    "step",
    "loss",
    "grad_norm",
    "accuracy_true",
    "margin_true",
    "flipped_fit",
    "clip_fraction",
    "eta",
)


def run_sweep(
    config: AlignConfig, build_world: BuildWorld, *, version: int, find_source: FindSource
) -> records.Runs:
    """Train every policy of `config`, or load its record; arguments are those of `plan_sweep`.

    Models that a core trains as fast as all cores do are trained side by side, one process per
    core; not under `accelerate launch`, whose processes train each policy together.
    """
    read_only = plan.is_read_only(config.profile)
    planned = plan_sweep(
        config, build_world, version=version, find_source=find_source, read_only=read_only
    )
    # Processes of our own, unless somebody else has started some.
    alone = progress.processes() == 1
    small = config.model == "tiny" and not torch.cuda.is_available()
    if alone and small:
        planned = replace(planned, train=partial(train_parallel, build_world=build_world))
    return plan.run(planned)


def plan_sweep(
    config: AlignConfig,
    build_world: BuildWorld,
    *,
    version: int,
    find_source: FindSource,
    read_only: bool,
) -> plan.Plan[AlignmentRun]:
    """The policies of `config`, trained one by one.

    Args:
        build_world: a function of a module, so that other processes can import it.
        version: of the study, as `records.run_all` takes it.
        find_source: where data and weights come from, for the records' provenance. Their hashes
            (`…_sha256`) are part of what a run is.
        read_only: whether nothing may be trained; then no file is looked for, and the hashes are
            those of the records.
    """
    if read_only:
        folder = plan.records_folder(config.profile)
        source = records.find_hashes(config.study, folder=folder, version=version)
    else:
        source = find_source(config)
    # Where data lie may differ from machine to machine; what they are may not.
    hashes = records.list_hashes(source)
    workbench = Workbench(build_world)

    def train(runs: list[AlignmentRun]) -> Iterator[tuple[AlignmentRun, Result]]:
        # whoever interrupts it has the most telling ones, as in a queue
        return workbench.train_runs(sorted(runs, key=config.tier))

    return plan.Plan(
        study=config.study,
        profile=config.profile,
        version=version,
        read_only=read_only,
        provenance=provenance.collect(**source, processes=progress.processes()),
        list_runs=partial(config.list_runs, hashes=hashes),
        tier=config.tier,
        together=lambda run: run,
        train=train,
        is_prepared=workbench.has_world,
        prepare=workbench.prepare,
    )


class Workbench:
    """Trains runs in their worlds, and keeps worlds and noisy pairs for the next run.

    Runs that follow each other share a world, as a rule, and most of them its noisy pairs. A GPU
    with room keeps worlds that are left, too: a queue comes back to every seed in each tier.
    """

    def __init__(self, build_world: BuildWorld) -> None:
        self.build_world = build_world
        # at hand: worlds, the last used one last
        self._worlds: dict[WorldSpec, World] = {}
        # and the training pairs of one, flipped at one rate
        self._pairs: Dataset | None = None
        self._flipped: tuple[WorldSpec, float] | None = None
        # seconds of worlds that no record tells of yet
        self._building: dict[str, float] = {}

    def prepare(self, run: AlignmentRun) -> dict[str, float]:
        """Have the world of a run at hand; seconds of the phases in which it was built."""
        with phases.collect() as seconds:
            self._enter_world(run.world)
        # the next record says what its world took
        self._building.update(seconds)
        return seconds

    def has_world(self, run: AlignmentRun) -> bool:
        """Whether the world of a run is at hand."""
        return run.world in self._worlds

    def train_runs(self, runs: list[AlignmentRun]) -> Iterator[tuple[AlignmentRun, Result]]:
        """Train the policies of `runs`, one after the other; yield each run with its result."""
        with progress.progress(len(runs), "policies") as bar:
            for run in runs:
                yield run, self.train(run)
                bar.update()

    def train(self, run: AlignmentRun) -> Result:
        """The result of `run`, in its world, on pairs flipped at its noise rate."""
        self.prepare(run)
        world = self._enter_world(run.world)
        with phases.collect() as seconds:
            result = train_run(run, world, self._flip_pairs(world, run.noise_rate))
        building, self._building = self._building, {}
        return result._replace(phases={**building, **seconds})

    def _enter_world(self, spec: WorldSpec) -> World:
        world = self._worlds.pop(spec, None)
        if world is None:
            # Old worlds have to be gone before a new one is built: a GPU may hold only one.
            while self._worlds and not _has_room():
                self._worlds.pop(next(iter(self._worlds)))
            self._pairs = None
            self._flipped = None
            world = self.build_world(spec)
        self._worlds[spec] = world
        return world

    def _flip_pairs(self, world: World, noise_rate: float) -> Dataset:
        if self._pairs is None or self._flipped != (world.spec, noise_rate):
            self._pairs = preferences.flip_preferences(
                world.train, noise_rate, seed=world.spec.seed
            )
            self._flipped = (world.spec, noise_rate)
        return self._pairs


def _has_room() -> bool:
    """Whether one more world may be built beside those at hand: less than half a GPU is in use."""
    if not torch.cuda.is_available():
        return False
    _, total = torch.cuda.mem_get_info()
    return memory.free_on_gpu() > total / 2


# One policy


def train_run(run: AlignmentRun, world: World, pairs: Dataset) -> Result:
    """One policy: trained from the SFT model of `world`, then measured.

    Args:
        pairs: the world's pairs, with flips; the last `validation_pairs` are not trained on.
    Returns:
        metrics: accuracy and margin (mean, nats) on test pairs with true labels; validation, the
            share of noisy labels of validation pairs that the policy agrees with, a tie counted ½;
            fit_flipped, the share of flipped training pairs whose wrong label the policy agrees
            with, None without flips; those of `measure`; the world's facts. history: the trainer's
            log.
    Raises:
        ValueError: as `split_validation`.
    """
    training_pairs, validation = split_validation(world.spec, pairs)
    policy, of_pairs, history = _train_policy(run, world, training_pairs, validation)
    return Result({**of_pairs, **measure(policy, world), **world.facts}, history)


def split_validation(spec: WorldSpec, pairs: Dataset) -> tuple[Dataset, Dataset]:
    """The pairs of a world that policies train on, and the last ones, which are for validation.

    Raises:
        ValueError: nothing is left to train on.
    """
    first = len(pairs) - spec.validation_pairs
    if first <= 0:
        message = f"validation_pairs = {spec.validation_pairs} leaves nothing of {len(pairs)} pairs"
        raise ValueError(f"{message} to train on: lower it, or raise pairs")
    return pairs.select(range(first)), pairs.select(range(first, len(pairs)))


def _train_policy(
    run: AlignmentRun, world: World, pairs: Dataset, validation: Dataset
) -> tuple[PreTrainedModel, dict[str, Any], list[dict[str, Any]]]:
    """A policy, its metrics on pairs, and its history.

    The trainer, with its optimiser and its copy of the model, is gone before the policy samples.
    """
    # of the whole world, so that its runs are trained alike
    longest = int(training.pair_lengths(world.train).max())
    with training.quietly(), tempfile.TemporaryDirectory() as folder:
        trainer = training.build_trainer(
            copy.deepcopy(world.model),
            world.tokenizer,
            training.run_arguments(run, folder, tokens=longest),
            train_dataset=pairs,
        )
        with phases.phase("training"), models.tf32(allowed=True):
            trainer.train()
        policy = copy.deepcopy(world.model)
        # at once: a forward pass may leave sharded weights gathered
        training.load_trained(policy, trainer)
        with phases.phase("evaluation"):
            metrics = {
                **_measure_on_pairs(trainer, world.test, pairs),
                "validation": agreement(training.margins(trainer, validation)),
            }
    # the last entry sums up the whole training
    log = trainer.state.log_history[:-1]
    history = [{name: entry[name] for name in _LOGGED if name in entry} for entry in log]
    return policy, metrics, history


def _measure_on_pairs(
    trainer: training.PairTrainer, test: Dataset, pairs: Dataset
) -> dict[str, Any]:
    """Accuracy and mean margin on `test`, and how well the flipped ones of `pairs` are fitted."""
    held_out = training.margins(trainer, test)
    flipped = pairs.select(np.flatnonzero(pairs["is_flipped"]))
    fitted = float((training.margins(trainer, flipped) > 0).mean()) if len(flipped) else None
    return {
        "accuracy": float((held_out > 0).mean()),
        "margin": float(held_out.mean()),
        "fit_flipped": fitted,
    }


def agreement(margins: NDArray[np.float64]) -> float:
    """The share of margins above 0, a tie counted ½; NaN if any is NaN."""
    # sign(NaN) is NaN, where a comparison would be false
    return float((1 + np.sign(margins)).mean() / 2)


def measure(policy: PreTrainedModel, world: World) -> dict[str, Any]:
    """What a policy is worth on prompts that nothing was trained on, as `measure_answers` says."""
    with phases.phase("sampling"):
        answers = draw_answers(policy, world)
    with phases.phase("judging and KL"):
        return measure_answers(answers, policy, world)


def draw_answers(policy: PreTrainedModel, world: World) -> sampling.Samples:
    """The policy's answers to the evaluation prompts.

    The random numbers are the same for every method, so that methods differ by their policies
    alone.
    """
    spec = world.spec
    return sampling.sample(
        policy, world.tokenizer, world.prompts, spec, samples=spec.samples, seed=spec.policy_seed
    )


def measure_answers(
    answers: sampling.Samples, policy: PreTrainedModel, world: World
) -> dict[str, Any]:
    """What a policy's `answers` are worth.

    Returns:
        win_rate (against the SFT model's answers; a tie counts ½), reward (the judge's) and kl (to
        the SFT model, nats), each with its 95% interval over prompts as _low and _high; reward_sft;
        length in tokens; generations, for each prompt its last turn and the first answer of the
        policy and of the SFT model, for other judges and for the reader. Where the data set has
        chosen answers, win_rate_chosen against these, and in generations also the whole dialogue
        and the chosen answer.
    """
    spec = world.spec
    asked = [prompt for prompt in world.prompts for _ in range(spec.samples)]
    rewards = np.reshape(world.score(asked, answers.texts), (-1, spec.samples))
    win_rates = sampling.win_rates(rewards, world.rewards)
    return {
        **sampling.summarise("win_rate", win_rates, proportion=True),
        **compare_with_chosen("win_rate_chosen", rewards, world.chosen),
        **sampling.summarise("reward", rewards.mean(1)),
        **sampling.summarise("kl", _measure_kl(policy, world, answers)),
        "reward_sft": float(world.rewards.mean()),
        "length": float(np.mean(answers.lengths)),
        "generations": _list_generations(world, answers.texts[:: spec.samples]),
    }


def compare_with_chosen(
    name: str, rewards: NDArray[np.float64], chosen: Answers | None
) -> dict[str, float]:
    """The win rate `name` against the chosen answers, as `sampling.summarise` gives it.

    Args:
        rewards: of the answers that are compared with them, `(prompts, samples)`.
        chosen: None gives no win rate.
    """
    if chosen is None:
        return {}
    win_rates = sampling.win_rates(rewards, chosen.rewards[:, None])
    return sampling.summarise(name, win_rates, proportion=True)


def _measure_kl(
    policy: PreTrainedModel, world: World, answers: sampling.Samples
) -> NDArray[np.float64]:
    """KL(π ‖ π_ref) per prompt, of the distributions themselves, however answers are drawn."""
    spec = world.spec
    paths = answers
    # The most likely answers alone would give the mean of something else, and of two truncated
    # distributions one may give nothing to what the other draws: an infinite KL.
    if spec.decoding != WHOLE:
        draw = partial(sampling.sample, samples=1, seed=spec.policy_seed, decoding=WHOLE)
        paths = draw(policy, world.tokenizer, world.prompts, spec)
    kl = sampling.divergences(policy, world.model, paths)
    return kl.reshape(len(world.prompts), -1).mean(1)


def _list_generations(world: World, answers: list[str]) -> list[dict[str, Any]]:
    """For each prompt its last turn, an answer of the policy, and those that it has to beat."""
    rows = [
        {"prompt": prompt[-1]["content"], "policy": ours, "sft": theirs}
        for prompt, ours, theirs in zip(world.prompts, answers, world.answers, strict=True)
    ]
    if world.chosen is None:
        return rows
    beside = zip(rows, world.prompts, world.chosen.texts, strict=True)
    return [{**row, "dialogue": prompt, "chosen": chosen} for row, prompt, chosen in beside]


# Many policies side by side


class _Worker(NamedTuple):
    """A process of one thread, and the runs that it has not begun."""

    pool: ProcessPoolExecutor
    queue: Iterator[AlignmentRun]


def train_parallel(
    runs: list[AlignmentRun], *, build_world: BuildWorld, workbench: type[Workbench] = Workbench
) -> Iterator[tuple[AlignmentRun, Result]]:
    """As `workbench.train_runs`, in processes, one per core, each of which takes whole worlds."""
    start = partial(_start_process, partial(workbench, build_world))
    queues = _share_out(runs, workers=torch.get_num_threads())
    with (
        ExitStack() as stack,
        progress.progress(len(runs), f"policies, {len(queues)} at a time") as bar,
    ):
        workers = [_Worker(start(), iter(queue)) for queue in queues]
        for worker in workers:
            stack.enter_context(worker.pool)
        # leaving this block, by an error or Ctrl-C as well, waits for the runs under way
        for result in _keep_busy(workers):
            yield result
            bar.update()


def _share_out(runs: list[AlignmentRun], *, workers: int) -> list[list[AlignmentRun]]:
    """The runs of each worker: whole worlds, the largest first, each to whoever has least."""
    by_world: dict[WorldSpec, list[AlignmentRun]] = {}
    for run in runs:
        by_world.setdefault(run.world, []).append(run)
    queues: list[list[AlignmentRun]] = [[] for _ in range(min(workers, len(by_world)))]
    for group in sorted(by_world.values(), key=len, reverse=True):
        min(queues, key=len).extend(group)
    return queues


def _keep_busy(workers: list[_Worker]) -> Iterator[tuple[AlignmentRun, Result]]:
    """Give each worker a run, and the next one when it has finished; yield as they finish."""
    under_way: dict[Future[Result], tuple[AlignmentRun, _Worker]] = {}
    idle = workers
    while True:
        # one run at a time for each worker, so that no other begins after Ctrl-C
        for worker in idle:
            if run := next(worker.queue, None):
                under_way[worker.pool.submit(_train_here, run)] = (run, worker)
        if not under_way:
            return
        idle = []
        for done in wait(under_way, return_when=FIRST_COMPLETED).done:
            run, worker = under_way.pop(done)
            idle.append(worker)
            yield run, done.result()


def _start_process(make_workbench: Callable[[], Workbench]) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1,
        # threads of torch do not survive a fork
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_work,
        initargs=(make_workbench,),
    )


# Of a worker's process, from its start to its end: runs come one by one, and the next one finds
# the world of the last.
_workbench: Workbench


def _begin_work(make_workbench: Callable[[], Workbench]) -> None:
    global _workbench
    _workbench = make_workbench()
    # there is a worker for each core
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # a notebook's kernel that is killed cleans up nothing, and its workers would train on
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train_here(run: AlignmentRun) -> Result:
    return _workbench.train(run)
