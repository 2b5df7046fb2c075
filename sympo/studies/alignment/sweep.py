"""Alignment studies: SFT → preference training → sampling → metrics, one record per (method, noise
rate, β, seed).

All runs of one seed share a `World`: the SFT model that every policy starts from, the pairs, and
the log-probabilities that the SFT model gives to them. A flip swaps columns, so ONE reference pass
serves every method, noise rate and β. A study is a config and a function that builds its world:
`sympo.studies.alignment.gold` and `sympo.studies.alignment.offline`.
"""

import copy
import io
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow.compute as pc
import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.nn.functional import log_softmax
from torch.utils.data import DataLoader, Sampler
from transformers.utils import logging

from sympo import losses, noise, preferences, stats, trainer
from sympo.studies import progress, provenance, records
from sympo.studies.profiles import StudyConfig, build_folder
from sympo.trainer import SymPOConfig, SymPOTrainer

ROWS = 512  # ours: answers that are sampled together, at most
CACHE = 2**32  # ours: bytes of the keys and values that sampling keeps
LOGITS = 2**28  # ours: logits per forward pass of `divergences`, 1 GiB

Rate = Annotated[float, Field(ge=0, lt=0.5)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
_SWEEP = ("profile", "methods", "noise_rates", "seeds", "headline_methods", "headline_seeds")
_SWEEP += ("betas", "frontier_methods", "frontier_seeds")


class AlignConfig(StudyConfig):
    """What alignment studies share: which runs, and one budget for every method. Source: the paper,
    if not marked.
    """

    methods: list[str]
    noise_rates: list[Rate]
    seeds: Count  # runs use the seeds 0 … seeds − 1
    # ours: the methods of the contrasts, with more seeds at the highest rate
    headline_methods: list[str]
    headline_seeds: Count
    frontier_methods: list[str]  # ours: the methods of the reward–KL frontier, at the highest rate
    frontier_seeds: Annotated[int, Field(ge=0)]
    betas: list[Positive]  # ours: the other β of the frontier
    pairs: Count  # training pairs
    learning_rate: Positive  # AdamW, the same for every method
    sft_examples: Count
    sft_epochs: Count
    sft_learning_rate: Positive
    prompts: Count  # ours: evaluation prompts, never trained on
    samples: Annotated[int, Field(ge=2, multiple_of=2)]  # ours: answers to each of them
    max_new_tokens: Count
    max_prompt: Count = 256  # tokens; longer prompts are left out
    max_length: Count = 512  # tokens of a prompt with its answer; longer pairs are left out
    beta: Positive = 0.1
    batch: Count = 64  # pairs per step
    micro_batch: Count = 64  # ours: pairs that fit in memory; gradients accumulate to `batch`
    epochs: Count = 1
    # ours: share of the steps; the paper's 150 may exceed them all
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @field_validator("methods", "headline_methods", "frontier_methods")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in trainer.LOSS_TYPES:
                raise ValueError(
                    f"unknown method '{name}': give some of {', '.join(trainer.LOSS_TYPES)}"
                )
        return names

    @model_validator(mode="after")
    def _headline(self):
        if self.headline_seeds < self.seeds:
            raise ValueError(
                f"headline_seeds = {self.headline_seeds} is below seeds = {self.seeds}: raise it"
            )
        if self.batch % self.micro_batch:
            raise ValueError(
                f"micro_batch = {self.micro_batch} does not divide batch = {self.batch}"
            )
        if self.batch % (self.micro_batch * progress.processes()):
            given = f"micro_batch = {self.micro_batch} on {progress.processes()} processes"
            raise ValueError(
                f"{given} does not divide batch = {self.batch}: give a smaller micro_batch"
            )
        return self

    def runs(self) -> list[dict]:
        """One dict per policy to train; one seed is complete before the next begins."""
        shared = {field: value for field, value in self.model_dump().items() if field not in _SWEEP}
        return [
            {
                **shared,
                "method": method,
                "noise": f"symmetric-{rate:g}",
                "noise_rate": rate,
                "beta": beta,
                "seed": seed,
            }
            for seed in range(max(self.headline_seeds, self.frontier_seeds))
            for rate in self.noise_rates
            for method in dict.fromkeys(
                [*self.methods, *self.headline_methods, *self.frontier_methods]
            )
            for beta in dict.fromkeys([self.beta, *self.betas])
            if self._wants(method, rate, beta, seed)
        ]

    def _wants(self, method: str, rate: float, beta: float, seed: int) -> bool:
        highest = rate == max(self.noise_rates)
        if highest and method in self.frontier_methods and seed < self.frontier_seeds:
            return True
        if highest and method in self.headline_methods:
            return beta == self.beta and seed < self.headline_seeds
        return beta == self.beta and seed < self.seeds and method in self.methods


# -------------------------------------------------------------------------------------------------
# SFT and sampling


class Samples(NamedTuple):
    """Sampled answers, prompt by prompt: `texts`, their `lengths` in tokens, and what a model
    reads.

    A batch is token ids `(rows, tokens)`, the attention mask, and the mask of the answers' tokens,
    <eos> included.
    """

    texts: list[str]
    lengths: list[int]
    batches: list[tuple[Tensor, Tensor, Tensor]]


def settings(run: dict, folder: str, **changes) -> dict:
    """Trainer arguments that SFT, reward and preference training share; `batch` is over all
    processes.

    Raises:
        ValueError: one process sees several GPUs, and would train on a batch for each.
    """
    cuda = torch.cuda.is_available()
    if torch.cuda.device_count() > 1 and progress.processes() == 1:
        remedy = "set CUDA_VISIBLE_DEVICES=0, or start the study with `accelerate launch`"
        raise ValueError(f"{torch.cuda.device_count()} GPUs are visible to one process: {remedy}")
    bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)  # a T4 would emulate it
    fixed = {
        "output_dir": folder,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "max_length": None,
    }
    fixed |= {"dataloader_pin_memory": cuda, "use_cpu": not cuda, "bf16": bf16}
    fixed |= {"gradient_checkpointing": cuda and not bf16}  # float32 would not fit into a small GPU
    # one bound for losses of different scales would favour the flat ones
    fixed |= {"max_grad_norm": math.inf}
    steps = {
        "per_device_train_batch_size": run["micro_batch"],
        "warmup_steps": run["warmup"],
        "seed": run["seed"],
    }
    steps |= {
        "gradient_accumulation_steps": run["batch"] // (run["micro_batch"] * progress.processes())
    }
    return {**fixed, **steps, **changes}


def device() -> torch.device | str:
    """Where models live: this process's GPU, or the CPU."""
    from accelerate import PartialState

    return PartialState().device if torch.cuda.is_available() else "cpu"


@contextmanager
def quietly():
    """Keep the libraries' bars and logs out of a notebook; `progress.progress` shows how far a
    study is.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def fine_tune(model, tokenizer, examples: Dataset, run: dict) -> None:
    """Supervised fine-tuning on `examples` (prompt, completion), in place."""
    from trl import SFTConfig, SFTTrainer

    with quietly(), tempfile.TemporaryDirectory() as folder:
        budget = {"learning_rate": run["sft_learning_rate"], "num_train_epochs": run["sft_epochs"]}
        arguments = SFTConfig(**settings(run, folder, **budget))
        # TRL patches the forward pass of the model that it trains, and a copy of a patched model
        # runs the original's.
        made = SFTTrainer(
            copy.deepcopy(model), arguments, train_dataset=examples, processing_class=tokenizer
        )
        made.train()
    load_trained(model, made)


def load_trained(model, made) -> None:
    """Give `model` the weights that the trainer `made` ends with, gathered where they are sharded
    (FSDP).
    """
    model.load_state_dict(
        get_model_state_dict(made.model, options=StateDictOptions(full_state_dict=True))
    )


def completions(pairs: Dataset, count: int) -> Dataset:
    """What `fine_tune` learns from pairs: the prompts and chosen answers of the first `count`, or
    of all there are.
    """
    kept = pairs.select(range(min(count, len(pairs))))
    return kept.select_columns(["prompt", "chosen"]).rename_column("chosen", "completion")


@torch.no_grad()
def sample(
    model, tokenizer, prompts: Sequence[list[dict]], run: dict, *, samples: int, seed: int
) -> Samples:
    """`samples` answers to each prompt at temperature 1, from the whole distribution: no top-k, no
    top-p.

    An answer that has not ended after `max_new_tokens` ends there.
    """
    texts = [
        tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=False)
        for p in prompts
    ]
    texts = [text for text in texts for _ in range(samples)]
    options = {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": run["max_new_tokens"],
    }
    # not the model's lists
    options |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.eval()
    size = _count_rows(model.config, tokens=run["max_prompt"] + run["max_new_tokens"])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        batches = [
            _generate(model, tokenizer, texts[i : i + size], options)
            for i in range(0, len(texts), size)
        ]
    rows = [
        row[kept.bool()]
        for ids, _, answer in batches
        for row, kept in zip(ids, answer, strict=True)
    ]
    decoded = [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
    return _of_main_process(Samples(decoded, list(map(len, rows)), batches))


def _count_rows(shape, *, tokens: int) -> int:
    """How many answers of `tokens`, their prompts included, to sample together with a model of this
    config.
    """
    head = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    row = 4 * 2 * shape.num_hidden_layers * shape.num_key_value_heads * head * tokens
    return min(ROWS, max(1, CACHE // row))


def _of_main_process(samples: Samples) -> Samples:
    """The main process's: GPUs may differ in a last digit, and then in an answer that all should
    train on.
    """
    if progress.processes() == 1:
        return samples
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([samples])[0]


def _generate(model, tokenizer, texts: list[str], options: dict) -> tuple[Tensor, Tensor, Tensor]:
    given = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
    )
    ids = model.generate(**given.to(model.device), **options).cpu()
    start = given.input_ids.shape[1]
    ended = (ids[:, start:] == tokenizer.eos_token_id).long()
    answer = torch.cat(
        [torch.zeros(len(ids), start).long(), (ended.cumsum(1) - ended == 0).long()], 1
    )
    return ids, torch.cat([given.attention_mask.cpu(), answer[:, start:]], 1), answer


@torch.no_grad()
def divergences(policy, reference, samples: Samples) -> NDArray[np.float64]:
    """KL(π ‖ π_ref) of each sampled answer: Σₜ KL(π(·|x, y₍ₜ₎) ‖ π_ref(·|x, y₍ₜ₎)) over its tokens,
    nats.

    Each step's divergence is exact and only the path is sampled: an unbiased estimate that is never
    negative and varies less than log π/π_ref of the answer.

    Returns:
        `(prompts·samples,)`.
    Check: tests/test_align.py::test_divergence_by_enumeration.
    """
    found = []
    for batch in samples.batches:
        rows = max(1, LOGITS // (policy.config.vocab_size * batch[2].sum(1).max().item()))
        found += [
            _divergence(policy, reference, *p)
            for p in zip(*(t.split(rows) for t in batch), strict=True)
        ]
    return np.concatenate(found)


def _divergence(
    policy, reference, ids: Tensor, attention: Tensor, answer: Tensor
) -> NDArray[np.float64]:
    # prompts are padded on the left, so that all answers begin there
    start = answer.argmax(1).min().item()
    inputs = {
        "input_ids": ids,
        "attention_mask": attention,
        "position_ids": (attention.cumsum(1) - 1).clamp(min=0),
    }
    inputs = {name: value.to(policy.device) for name, value in inputs.items()}
    kept = ids.shape[1] - start + 1  # the token before an answer predicts its first
    ours, theirs = (
        log_softmax(
            model(**inputs, use_cache=False, logits_to_keep=kept).logits[:, :-1].float(), -1
        )
        for model in (policy, reference)
    )
    steps = (ours.exp() * (ours - theirs)).sum(-1).cpu()
    return (steps * answer[:, start:]).sum(1).double().numpy()


# ------------------------------------------------------------------------------------------------------- the world


@dataclass(frozen=True)
class World:
    """What all runs of one seed share.

    Attributes:
        model: the SFT model, which is the reference policy; runs copy it and leave it as it is.
        train, test: pairs with token ids and `ref_chosen_logps`, `ref_rejected_logps`; labels not
            flipped yet.
        prompts: of the evaluation.
        score: the judge, `score(prompts, answers)` → a reward per answer.
        rewards: its rewards of the SFT model's answers to `prompts`, `(prompts, samples)`.
        facts: metrics of the world itself, which go into every record of it.
    """

    model: object
    tokenizer: object
    train: Dataset
    test: Dataset
    prompts: list[list[dict]]
    score: Callable[[Sequence[list[dict]], Sequence[str]], ArrayLike]
    rewards: NDArray[np.float64]
    facts: dict[str, float] = field(default_factory=dict)


class BatchBuckets(Sampler[int]):
    """The random batches that TRL would draw, each sorted by length, so that its micro-batches are
    little padded.

    Gradients of a batch are summed over its micro-batches, so the order inside it changes nothing
    but the time; except for drdpo, whose loss couples the pairs of a micro-batch.

    Args:
        lengths: of each pair, in tokens.
        batch: pairs per step, over micro-batches and processes.
    Check: tests/test_align.py::test_batches_are_those_of_trl.
    """

    def __init__(self, lengths: Sequence[int], *, batch: int, seed: int):
        self.lengths, self.batch = lengths, batch
        self.order = SeedableRandomSampler(lengths, generator=torch.Generator(), data_seed=seed)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = list(self.order)
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=self.lengths.__getitem__)


class PairTrainer(SymPOTrainer):
    """SymPOTrainer that takes data whose token ids are there already, instead of tokenising it for
    every run.

    The reference pass stays in memory: TRL hands it on through a file, in a folder that only one
    process knows. Where weights are sharded (FSDP), mixed precision is autocast's, as it is where
    they are not: accelerate would round what the model returns, and an answer's log-probability
    with it, to whole nats.
    """

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = None

    def compute_loss_context_manager(self):
        return self.accelerator.autocast()

    def _prepare_dataset(self, dataset, *rest):
        return (
            dataset
            if "prompt_ids" in dataset.column_names
            else super()._prepare_dataset(dataset, *rest)
        )

    def _precompute_ref_logps(self, dataset, name, batch_size):
        if set(_REFERENCE) <= set(dataset.column_names):
            return dataset
        for column, values in zip(
            _REFERENCE, log_probs(self, self.ref_model or self.model, dataset), strict=True
        ):
            dataset = dataset.add_column(column, values)
        return dataset

    def _get_train_sampler(self, train_dataset=None):
        data = self.train_dataset if train_dataset is None else train_dataset
        batch = (
            self.args.train_batch_size
            * self.args.gradient_accumulation_steps
            * progress.processes()
        )
        return BatchBuckets(pair_lengths(data), batch=batch, seed=self.args.seed)


_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


@torch.no_grad()
def log_probs(made: PairTrainer, model, pairs: Dataset) -> NDArray[np.float32]:
    """log π(y | x) of the chosen and of the rejected answers under `model`, `(2, pairs)`, nats.

    Several processes share the pairs, and each gets all the values.
    """
    needed = pairs.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
    loader = DataLoader(
        needed, batch_size=made.args.per_device_eval_batch_size, collate_fn=made.data_collator
    )
    rows = []
    for batch in made.accelerator.prepare(loader):
        # of the model given, reference or not
        found = torch.stack(made.compute_ref_log_probs(model, batch), dim=1)
        rows.append(made.accelerator.gather_for_metrics(found))
    return torch.cat(rows).T.float().cpu().numpy()


def pair_lengths(pairs: Dataset) -> NDArray[np.int64]:
    """Tokens of each pair's prompt with its longer answer, `(pairs,)`."""
    # lists of Python numbers would take as long as three training steps
    table = pairs.with_format("arrow")[:]
    columns = (table[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    prompt, chosen, rejected = (
        pc.list_value_length(column).to_numpy().astype(int) for column in columns
    )
    return prompt + np.maximum(chosen, rejected)


def build_trainer(model, tokenizer, run: dict, folder: str, **data: Dataset) -> PairTrainer:
    """The trainer of `run`; cdpo and rdpo are told the true noise rate, as in the paper."""
    told = {"noise_rate": run["noise_rate"]} if run["method"] in trainer.NEEDS_NOISE_RATE else {}
    arguments = SymPOConfig(
        **settings(
            run, folder, learning_rate=run["learning_rate"], num_train_epochs=run["epochs"], **told
        ),
        loss_type=run["method"],
        beta=run["beta"],
        per_device_eval_batch_size=run["micro_batch"],
        precompute_ref_log_probs=True,
        logging_steps=0.125,
    )
    # Where weights are sharded (FSDP), TRL would load the reference anew, from where the SFT
    # model's weights came.
    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    reference = copy.deepcopy(model) if sharded else None
    return PairTrainer(model, reference, arguments, processing_class=tokenizer, **data)


def add_reference(
    model, tokenizer, run: dict, train: Dataset, test: Dataset
) -> tuple[Dataset, Dataset]:
    """Both sets of pairs with token ids and the log-probabilities that `model` gives to their
    answers, nats.

    The test pairs come back sorted by length: only means are taken over them, and sorted they need
    little padding.
    """
    with quietly(), tempfile.TemporaryDirectory() as folder:
        data = {"train_dataset": train, "eval_dataset": test}
        made = build_trainer(copy.deepcopy(model), tokenizer, run, folder, **data)
        return made.train_dataset, made.eval_dataset.select(
            np.argsort(pair_lengths(made.eval_dataset))
        )


# ------------------------------------------------------------------------------------------------------------- runs


def train_run(run: dict, world: World, train: Dataset) -> dict:
    """Metrics and history of one policy, trained from the SFT model of `world` on its pairs with
    flips, `train`.
    """
    policy, metrics, history = _train_policy(run, world, train)
    return {
        "metrics": {**metrics, **measure(policy, world, run), **world.facts},
        "history": history,
    }


def _train_policy(run: dict, world: World, train: Dataset) -> tuple:
    """A policy, its metrics on pairs, and its history; the trainer's memory is free again
    afterwards.
    """
    flipped = train.select(np.flatnonzero(train["is_flipped"]))
    with quietly(), tempfile.TemporaryDirectory() as folder:
        made = build_trainer(
            copy.deepcopy(world.model), world.tokenizer, run, folder, train_dataset=train
        )
        made.train()
        policy = copy.deepcopy(world.model)
        load_trained(policy, made)  # at once: a forward pass may leave sharded weights gathered
        held_out = margins(made, world.test)
        fitted = float((margins(made, flipped) > 0).mean()) if len(flipped) else None
    history = [
        {name: entry[name] for name in _LOGGED if name in entry}
        for entry in made.state.log_history[:-1]
    ]
    metrics = {
        "accuracy": float((held_out > 0).mean()),
        "margin": float(held_out.mean()),
        "fit_flipped": fitted,
    }
    return policy, metrics, history


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


def margins(made: PairTrainer, pairs: Dataset) -> NDArray[np.float64]:
    """β·(log-ratio chosen − log-ratio rejected) of the trainer's policy, `(pairs,)`, nats, without
    clipping.
    """
    made.model.eval()
    chosen, rejected = log_probs(made, made.model, pairs) - np.array(
        [pairs[column][:] for column in _REFERENCE]
    )
    return made.beta * (chosen - rejected)


def measure(policy, world: World, run: dict) -> dict:
    """What a policy is worth on prompts that nothing was trained on.

    Returns:
        win_rate (against the SFT model's answers; a tie counts ½), reward (the judge's) and kl (to
        the SFT model,
            nats), each with its 95% interval over prompts as _low and _high; reward_sft; length in
            tokens.
    """
    # The same seed for every method. Another than that of the pairs and of the SFT model's answers.
    answers = sample(
        policy,
        world.tokenizer,
        world.prompts,
        run,
        samples=run["samples"],
        seed=3 * run["seed"] + 2,
    )
    asked = [prompt for prompt in world.prompts for _ in range(run["samples"])]
    rewards = np.reshape(world.score(asked, answers.texts), (-1, run["samples"]))
    kl = divergences(policy, world.model, answers).reshape(rewards.shape)
    return {
        **summarise("win_rate", win_rates(rewards, world.rewards)),
        **summarise("reward", rewards.mean(1)),
        **summarise("kl", kl.mean(1)),
        "reward_sft": float(world.rewards.mean()),
        "length": float(np.mean(answers.lengths)),
    }


def win_rates(ours: ArrayLike, theirs: ArrayLike) -> NDArray[np.float64]:
    """Per prompt, the share of its pairs (one answer of ours, one of theirs) that ours wins; a tie
    counts ½.

    Args:
        ours, theirs: rewards `(prompts, samples)`; the two numbers of samples may differ.
    Returns:
        `(prompts,)`. Prompts, not answers, are the independent units of an interval.
    Check: tests/test_gold.py::test_win_rates_by_enumeration.
    """
    ours, theirs = np.asarray(ours)[:, :, None], np.asarray(theirs)[:, None, :]
    return ((ours > theirs) + 0.5 * (ours == theirs)).mean(axis=(1, 2))


def summarise(name: str, values: ArrayLike) -> dict[str, float]:
    """The mean of `values` `(prompts,)` as `name`, with its 95% t interval as `name`_low and
    `name`_high.
    """
    estimate, low, high, _ = stats.mean_interval(values)
    return {name: estimate, f"{name}_low": low, f"{name}_high": high}


# ----------------------------------------------------------------------------------------------------------- sweeps


Build = Callable[[dict], World]  # the world of a run


def run_sweep(
    config: AlignConfig, build_world: Build, *modules, parallel: bool, **source: str
) -> records.Runs:
    """Train every policy of `config`, or load its record.

    Args:
        build_world: a function of a module, so that other processes can import it.
        modules: that make the study's records, beside those every alignment study needs.
        parallel: train the seeds in processes, one per core; for models that a core trains as fast
            as all. No effect under `accelerate launch`, whose processes train each policy together.
        source: of data and weights, for records' provenance. The hashes (`…_sha256`) enter the
            config too.
    """
    hashes = {name: value for name, value in source.items() if name.endswith("sha256")}
    train = train_parallel if parallel and progress.processes() == 1 else train_runs
    return records.run_all(
        [{**run, **hashes} for run in config.runs()],
        partial(train, build_world=build_world),
        folder=build_folder(config.profile) / "records",
        version=records.code_version(
            sys.modules[__name__], trainer, preferences, losses, noise, *modules
        ),
        provenance=provenance.collect(**source, processes=progress.processes()),
    )


def train_runs(runs: list[dict], *, build_world: Build) -> Iterator[tuple[dict, dict]]:
    """Train the policies of `runs`, one after the other, and yield each run with its metrics and
    history.
    """
    with progress.progress(len(runs), "policies") as bar:
        for _, group in groupby(runs, key=lambda run: run["seed"]):
            try:
                for run in group:
                    yield run, train_in_world(run, build_world)
                    bar.update()
            finally:
                # before the next world takes its place in memory
                for shared in (_noisy_pairs, _shared_world):
                    shared.cache_clear()


def train_parallel(runs: list[dict], *, build_world: Build) -> Iterator[tuple[dict, dict]]:
    """As `train_runs`, but in processes of one thread, one per core, each of which takes whole
    seeds.
    """
    seeds = sorted(
        {run["seed"] for run in runs}, key=lambda seed: -sum(run["seed"] == seed for run in runs)
    )
    queues: list[list[dict]] = [[] for _ in seeds[: torch.get_num_threads()]]
    for seed in seeds:
        min(queues, key=len).extend(run for run in runs if run["seed"] == seed)
    spawn = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
    with (
        ExitStack() as stack,
        progress.progress(len(runs), f"policies, {len(queues)} at a time") as bar,
    ):
        pools = [
            ProcessPoolExecutor(1, mp_context=spawn, initializer=_start_worker) for _ in queues
        ]
        idle = [
            (stack.enter_context(pool), iter(queue))
            for pool, queue in zip(pools, queues, strict=True)
        ]
        under_way = {}
        while True:  # one run at a time for each worker, so that no other begins after Ctrl-C
            for pool, queue in idle:
                if run := next(queue, None):
                    under_way[pool.submit(train_in_world, run, build_world)] = (run, pool, queue)
            if not under_way:
                return
            idle = []
            for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                run, *worker = under_way.pop(done)
                idle.append(worker)
                yield run, done.result()
                bar.update()


def _start_worker() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()  # a kernel that is killed cleans up nothing
    os._exit(1)


def train_in_world(run: dict, build_world: Build) -> dict:
    """Metrics and history of `run`; its world and its noisy pairs are kept for the next run that
    shares them.
    """
    # all runs of it agree
    of_world = {**run, "method": "dpo", "noise": "symmetric-0", "noise_rate": 0.0, "beta": 1.0}
    key = (build_world, tuple(of_world.items()))
    return train_run(run, _shared_world(*key), _noisy_pairs(*key, run["noise_rate"]))


@lru_cache(maxsize=1)
def _shared_world(build_world: Build, run: tuple) -> World:
    return build_world(dict(run))


@lru_cache(maxsize=1)
def _noisy_pairs(build_world: Build, run: tuple, noise_rate: float) -> Dataset:
    return preferences.flip_preferences(
        _shared_world(build_world, run).train, noise_rate, seed=dict(run)["seed"]
    )
