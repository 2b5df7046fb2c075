"""Alignment studies: SFT → preference training → sampling → metrics, one record per (method, noise rate, β, seed).

All runs of one seed share a `World`: the SFT model that every policy starts from, the pairs, and the log-probabilities
that the SFT model gives to them. A flip swaps columns, so ONE reference pass serves every method, noise rate and β.
"""

import copy
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.nn.functional import log_softmax

from sympo import assets, gold, losses, noise, preferences, store, trainer
from sympo.config import StudyConfig, build_folder
from sympo.trainer import SymPOConfig, SymPOTrainer

MAX_PROMPT, MAX_LENGTH = 256, 512  # tokens of a real prompt, and of it with its answer; the paper
ROWS = 512  # ours: answers that are sampled together
LOGITS = 2**28  # ours: logits per forward pass of `divergences`, 1 GiB

Rate = Annotated[float, Field(ge=0, lt=0.5)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
_SWEEP = ("profile", "methods", "noise_rates", "seeds", "headline_methods", "headline_seeds")
_SWEEP += ("betas", "frontier_methods", "frontier_seeds")


class AlignConfig(StudyConfig):
    """What alignment studies share: which runs, and one budget for every method. Source: the paper, if not marked."""

    methods: list[str]
    noise_rates: list[Rate]
    seeds: Count  # runs use the seeds 0 … seeds − 1
    headline_methods: list[str]  # ours: the methods of the contrasts, with more seeds at the highest rate
    headline_seeds: Count
    frontier_methods: list[str]  # ours: the methods of the reward–KL frontier, at the highest rate
    frontier_seeds: Annotated[int, Field(ge=0)]
    betas: list[Positive]  # ours: the other β of the frontier
    pairs: Count  # training pairs
    learning_rate: Positive  # AdamW, the same for every method
    max_new_tokens: Count
    samples: Annotated[int, Field(ge=2, multiple_of=2)]  # ours: answers per evaluation prompt
    beta: Positive = 0.1
    batch: Count = 64  # pairs per step
    micro_batch: Count = 64  # ours: pairs that fit in memory; gradients accumulate to `batch`
    epochs: Count = 1
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1  # ours: share of the steps; the paper's 150 may exceed them all

    @field_validator("methods", "headline_methods", "frontier_methods")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in trainer.LOSS_TYPES:
                raise ValueError(f"unknown method '{name}': give some of {', '.join(trainer.LOSS_TYPES)}")
        return names

    @model_validator(mode="after")
    def _headline(self):
        if self.headline_seeds < self.seeds:
            raise ValueError(f"headline_seeds = {self.headline_seeds} is below seeds = {self.seeds}: raise it")
        if self.batch % self.micro_batch:
            raise ValueError(f"micro_batch = {self.micro_batch} does not divide batch = {self.batch}")
        return self

    def runs(self) -> list[dict]:
        """One dict per policy to train; one seed is complete before the next begins."""
        shared = {field: value for field, value in self.model_dump().items() if field not in _SWEEP}
        return [
            {**shared, "method": method, "noise": f"symmetric-{rate:g}", "noise_rate": rate, "beta": beta, "seed": seed}
            for seed in range(max(self.headline_seeds, self.frontier_seeds))
            for rate in self.noise_rates
            for method in dict.fromkeys([*self.methods, *self.headline_methods, *self.frontier_methods])
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


class GoldConfig(AlignConfig):
    """Study gold: alignment with the known reward of `sympo.gold`. All fields are ours: the paper has no such study."""

    model: Literal["tiny", "smollm2"]  # trained from scratch on the grammar's reviews, or SmolLM2-135M-Instruct
    sft_examples: Count
    sft_epochs: Count
    sft_learning_rate: Positive
    prompts: Count  # evaluation prompts, never trained on


# ------------------------------------------------------------------------------------------------- SFT and sampling


class Samples(NamedTuple):
    """Sampled answers, prompt by prompt: `texts`, their `lengths` in tokens, and what a model reads.

    A batch is token ids `(rows, tokens)`, the attention mask, and the mask of the answers' tokens, <eos> included.
    """

    texts: list[str]
    lengths: list[int]
    batches: list[tuple[Tensor, Tensor, Tensor]]


def settings(run: dict, folder: str, **changes) -> dict:
    """Trainer arguments that SFT and preference training share."""
    cuda = torch.cuda.is_available()
    fixed = {"output_dir": folder, "save_strategy": "no", "report_to": [], "disable_tqdm": True, "max_length": None}
    fixed |= {"gradient_checkpointing": False, "dataloader_pin_memory": cuda, "use_cpu": not cuda}
    steps = {"per_device_train_batch_size": run["micro_batch"], "warmup_steps": run["warmup"], "seed": run["seed"]}
    steps |= {"gradient_accumulation_steps": run["batch"] // run["micro_batch"]}
    bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)  # a T4 would emulate it
    return {**fixed, **steps, "bf16": bf16, **changes}


@contextmanager
def _quietly():
    """Keep the libraries' bars and logs out of a notebook; `store.progress` shows how far a study is."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def fine_tune(model, tokenizer, examples: Dataset, run: dict) -> None:
    """Supervised fine-tuning on `examples` (prompt, completion), in place."""
    from trl import SFTConfig, SFTTrainer

    with _quietly(), tempfile.TemporaryDirectory() as folder:
        budget = {"learning_rate": run["sft_learning_rate"], "num_train_epochs": run["sft_epochs"]}
        arguments = SFTConfig(**settings(run, folder, **budget))
        # TRL patches the forward pass of the model that it trains, and a copy of a patched model runs the original's.
        made = SFTTrainer(copy.deepcopy(model), arguments, train_dataset=examples, processing_class=tokenizer)
        made.train()
    model.load_state_dict(made.model.state_dict())


@torch.no_grad()
def sample(model, tokenizer, prompts: Sequence[list[dict]], run: dict, *, samples: int, seed: int) -> Samples:
    """`samples` answers to each prompt at temperature 1, from the whole distribution: no top-k, no top-p.

    An answer that has not ended after `max_new_tokens` ends there.
    """
    texts = [tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=False) for p in prompts]
    texts = [text for text in texts for _ in range(samples)]
    options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": run["max_new_tokens"]}
    model.eval()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        batches = [_generate(model, tokenizer, texts[i : i + ROWS], options) for i in range(0, len(texts), ROWS)]
    rows = [row[kept.bool()] for ids, _, answer in batches for row, kept in zip(ids, answer, strict=True)]
    decoded = [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
    return Samples(decoded, list(map(len, rows)), batches)


def _generate(model, tokenizer, texts: list[str], options: dict) -> tuple[Tensor, Tensor, Tensor]:
    given = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    ids = model.generate(**given.to(model.device), **options, pad_token_id=tokenizer.pad_token_id).cpu()
    start = given.input_ids.shape[1]
    ended = (ids[:, start:] == tokenizer.eos_token_id).long()
    answer = torch.cat([torch.zeros(len(ids), start).long(), (ended.cumsum(1) - ended == 0).long()], 1)
    return ids, torch.cat([given.attention_mask.cpu(), answer[:, start:]], 1), answer


@torch.no_grad()
def divergences(policy, reference, samples: Samples) -> NDArray[np.float64]:
    """KL(π ‖ π_ref) of each sampled answer: Σₜ KL(π(·|x, y₍ₜ₎) ‖ π_ref(·|x, y₍ₜ₎)) over its tokens, nats.

    Each step's divergence is exact and only the path is sampled: an unbiased estimate that is never negative and
    varies less than log π/π_ref of the answer.

    Returns:
        `(prompts·samples,)`.
    Check: tests/test_align.py::test_divergence_by_enumeration.
    """
    found = []
    for batch in samples.batches:
        rows = max(1, LOGITS // (policy.config.vocab_size * batch[2].sum(1).max().item()))
        found += [_divergence(policy, reference, *p) for p in zip(*(t.split(rows) for t in batch), strict=True)]
    return np.concatenate(found)


def _divergence(policy, reference, ids: Tensor, attention: Tensor, answer: Tensor) -> NDArray[np.float64]:
    start = answer.argmax(1).min().item()  # prompts are padded on the left, so that all answers begin there
    inputs = {"input_ids": ids, "attention_mask": attention, "position_ids": (attention.cumsum(1) - 1).clamp(min=0)}
    inputs = {name: value.to(policy.device) for name, value in inputs.items()}
    kept = ids.shape[1] - start + 1  # the token before an answer predicts its first
    ours, theirs = (
        log_softmax(model(**inputs, use_cache=False, logits_to_keep=kept).logits[:, :-1].float(), -1)
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
        train, test: pairs with token ids and `ref_chosen_logps`, `ref_rejected_logps`; labels not flipped yet.
        prompts: of the evaluation.
        rewards: of the SFT model's answers to them, `(prompts, samples)`.
    """

    model: object
    tokenizer: object
    train: Dataset
    test: Dataset
    prompts: list[list[dict]]
    rewards: NDArray[np.float64]


class PairTrainer(SymPOTrainer):
    """SymPOTrainer that takes data whose token ids are there already, instead of tokenising it for every run."""

    def _prepare_dataset(self, dataset, *rest):
        return dataset if "prompt_ids" in dataset.column_names else super()._prepare_dataset(dataset, *rest)


def build_trainer(model, tokenizer, run: dict, folder: str, **data: Dataset) -> PairTrainer:
    """The trainer of `run`; cdpo and rdpo are told the true noise rate, as in the paper."""
    told = {"noise_rate": run["noise_rate"]} if run["method"] in trainer.NEEDS_NOISE_RATE else {}
    arguments = SymPOConfig(
        **settings(run, folder, learning_rate=run["learning_rate"], num_train_epochs=run["epochs"], **told),
        loss_type=run["method"],
        beta=run["beta"],
        per_device_eval_batch_size=run["micro_batch"],
        precompute_ref_log_probs=True,
        logging_steps=0.125,
    )
    return PairTrainer(model, args=arguments, processing_class=tokenizer, **data)


def add_reference(model, tokenizer, run: dict, train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    """Both sets of pairs with token ids and the log-probabilities that `model` gives to their answers, nats."""
    with _quietly(), tempfile.TemporaryDirectory() as folder:
        data = {"train_dataset": train, "eval_dataset": test}
        made = build_trainer(copy.deepcopy(model), tokenizer, run, folder, **data)
        return made.train_dataset, made.eval_dataset


def build_world(run: dict) -> World:
    """The SFT model of a seed, pairs of its own answers labelled by the gold reward, and the rewards of its answers."""
    model, tokenizer, examples, train_prompts, prompts = (gold.load_tiny if run["model"] == "tiny" else _load_smollm2)(
        run
    )
    fine_tune(model, tokenizer, examples, run)
    seed, samples = run["seed"], run["samples"]
    asked = [train_prompts[i % len(train_prompts)] for i in range(run["pairs"])]
    drawn = sample(model, tokenizer, asked, run, samples=2, seed=3 * seed).texts
    train = gold.label_pairs(asked, zip(drawn[::2], drawn[1::2], strict=True), seed=seed)
    answers = sample(model, tokenizer, prompts, run, samples=samples, seed=3 * seed + 1).texts
    asked = [prompt for prompt in prompts for _ in range(samples // 2)]
    test = gold.order_pairs(asked, zip(answers[::2], answers[1::2], strict=True))
    rewards = np.reshape([gold.reward(answer) for answer in answers], (-1, samples))
    return World(model, tokenizer, *add_reference(model, tokenizer, run, train, test), prompts, rewards)


def _load_smollm2(run: dict):
    """As `gold.load_tiny`: SmolLM2-135M-Instruct, and prompts and answers of Anthropic HH."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = assets.smollm2().path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    load = preferences.load_hh
    split = preferences.split_pairs(load(*preferences.HH_TRAIN), load(*preferences.HH_TEST))
    train, test = (_shorten(part, tokenizer).shuffle(seed=run["seed"]) for part in (split.train, split.test))
    examples = train.select(range(min(run["sft_examples"], len(train)))).rename_column("chosen", "completion")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    examples = examples.select_columns(["prompt", "completion"])
    return model.to(device), tokenizer, examples, train["prompt"][:], test["prompt"][: run["prompts"]]


def _shorten(pairs: Dataset, tokenizer) -> Dataset:
    """The pairs whose prompt and chosen answer fit the paper's lengths."""

    def fits(row: dict) -> bool:
        prompt, whole = (tokenizer.apply_chat_template(m) for m in (row["prompt"], row["prompt"] + row["chosen"]))
        return len(prompt["input_ids"]) <= MAX_PROMPT and len(whole["input_ids"]) <= MAX_LENGTH

    return pairs.filter(fits)


# ------------------------------------------------------------------------------------------------------------- runs


def train_run(run: dict, world: World, train: Dataset) -> dict:
    """Metrics and history of one policy, trained from the SFT model of `world` on its pairs with flips, `train`."""
    flipped = train.select(np.flatnonzero(train["is_flipped"]))
    with _quietly(), tempfile.TemporaryDirectory() as folder:
        made = build_trainer(copy.deepcopy(world.model), world.tokenizer, run, folder, train_dataset=train)
        made.train()
        held_out = margins(made, world.test)
        fitted = float((margins(made, flipped) > 0).mean()) if len(flipped) else None
    history = [{name: entry[name] for name in _LOGGED if name in entry} for entry in made.state.log_history]
    metrics = {"accuracy": float((held_out > 0).mean()), "margin": float(held_out.mean()), "fit_flipped": fitted}
    return {"metrics": {**metrics, **measure(made.model, world, run)}, "history": history[:-1]}


_LOGGED = ("step", "loss", "grad_norm", "accuracy_true", "margin_true", "flipped_fit", "clip_fraction", "eta")


@torch.no_grad()
def margins(made: PairTrainer, pairs: Dataset) -> NDArray[np.float64]:
    """β·(log-ratio chosen − log-ratio rejected) of the trainer's policy, `(pairs,)`, nats, without clipping."""
    made.model.eval()
    rows = []
    for batch in made.get_eval_dataloader(pairs):
        chosen, rejected = made.compute_ref_log_probs(made.model, batch)  # of the model given, reference or not
        rows.append(chosen - batch["ref_chosen_logps"] - rejected + batch["ref_rejected_logps"])
    return made.beta * torch.cat(rows).double().cpu().numpy()


def measure(policy, world: World, run: dict) -> dict:
    """What a policy is worth on prompts that nothing was trained on.

    Returns:
        win_rate (against the SFT model's answers; a tie counts ½), reward (gold) and kl (to the SFT model, nats), each
            with its 95% interval over prompts as _low and _high; reward_sft; length in tokens.
    """
    asked = {"samples": run["samples"], "seed": 3 * run["seed"] + 2}  # the same for every method
    answers = sample(policy, world.tokenizer, world.prompts, run, **asked)
    rewards = np.reshape([gold.reward(answer) for answer in answers.texts], (-1, run["samples"]))
    kl = divergences(policy, world.model, answers).reshape(rewards.shape)
    return {
        **gold.summarise("win_rate", gold.win_rates(rewards, world.rewards)),
        **gold.summarise("reward", rewards.mean(1)),
        **gold.summarise("kl", kl.mean(1)),
        "reward_sft": float(world.rewards.mean()),
        "length": float(np.mean(answers.lengths)),
    }


def train_runs(runs: list[dict]) -> Iterator[tuple[dict, dict]]:
    """Train the policies of `runs`, one seed after the other, and yield each run with its metrics and history."""
    for seed, group in groupby(runs, key=lambda run: run["seed"]):
        group = list(group)
        world = build_world(group[0])
        with store.progress(len(group), f"seed {seed}, {len(group)} policies") as bar:
            for rate, same_flips in groupby(group, key=lambda run: run["noise_rate"]):
                train = preferences.flip_preferences(world.train, rate, seed=seed)
                for run in same_flips:
                    yield run, train_run(run, world, train)
                    bar.update()


def run_study(config: GoldConfig) -> store.Runs:
    """Train every policy of `config`, or load its record."""
    source, sha256 = ("scratch", "") if config.model == "tiny" else assets.smollm2()[1:]
    return store.run_all(
        [{**run, "weights_sha256": sha256} for run in config.runs()],
        train_runs,
        folder=build_folder(config.profile) / "records",
        version=store.code_version(sys.modules[__name__], gold, trainer, preferences, losses, noise),
        provenance=store.provenance(weights=source, weights_sha256=sha256),
    )
