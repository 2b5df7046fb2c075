"""`make bench`: what this repository does to be fast, each measured beside the plain way of doing
it.

Ours and plain run in turn (ours, plain, ours, plain, …) in one process after a warm-up of each, so
that a machine that is busy slows both. What is judged is the median of the paired results; their
range is shown as the spread. A target that is missed says so in the table, and is no failure of the
command.
"""

import argparse
import copy
import json
import math
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, cycle, groupby, islice
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch
from numba.extending import is_jitted
from pydantic import Field
from torch import Tensor
from torch.utils import benchmark
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from sympo.studies import provenance
from sympo import losses
from sympo.book import figures
from sympo.studies import records, sources
from sympo.studies.mnist import study as mnist
from sympo.studies.mnist.fast import graphs, kernels
from sympo.studies.profiles import StudyConfig, figures_folder, section_config, study_config

Count = mnist.Count
Sizes = Annotated[list[Count], Field(min_length=2)]

GRID_TARGET = {"cpu": 3.0, "cuda": 50.0}  # the plain loop's seconds over the grid's, at least
SLOPE_TARGET = 1.1  # log time over log size: linear, and a tenth for noise
MEMORY_TARGET = 4.0  # GiB, peak of the whole process
IMPORT_TARGET = 0.15  # s, beyond an interpreter that imports nothing
STUDY_TARGET = 75.0  # s on one H100: 175 models, 100 epochs, 10,000 pairs
SWEEP_TARGET = 2.0  # plain TRL's seconds over the sweep's, at least
# calls before the first that is timed
WARM_UPS = graphs.WARM_UP + 1 if torch.cuda.is_available() else 1
STEP_TARGET = 1.3  # our tokens per second over plain TRL's, at least
TRL_NAMES = {"dpo": "sigmoid", "rdpo": "robust"}  # what study gold and TRL both have
PLAIN_COLUMNS = ["prompt", "chosen", "rejected"]
HEAVY = ("torch", "transformers")  # what `import sympo` must not load


class BenchConfig(StudyConfig):
    """Sizes of the benchmarks: section `bench` of a profile."""

    repeats: Count
    losses: list[str]  # every loss at every rate is one model of the grid, all of one seed
    noise_rates: list[mnist.Rate]
    pairs: Annotated[int, Field(ge=2, le=25_000)]
    batch: Annotated[int, Field(ge=2)] = 512  # pairs per step, as in the study
    # models that the plain loop trains per repeat; a model costs it the same however many
    plain_models: Count
    test_images: Count
    gold_seeds: Count  # of study gold's sweep, with each of their runs that TRL can train too
    step_pairs: Count  # pairs of the language model's training that is timed alone
    growth_models: Sizes
    growth_pairs: Sizes
    # rows and columns of the matrices whose product gives the machine's matmul rate
    matmul_size: Count
    copy_mib: Count  # size of the tensor whose copy gives the machine's copy rate


class Row(NamedTuple):
    """One measurement: a row of the table.

    Attributes:
        unit: of `ours` and `plain`.
        ours, plain: one sample per repeat; `plain` is empty where there is nothing to compare with.
        results: what is judged, one per repeat; empty for a row that only informs.
        target: ("≥" or "≤", bound) on the median of `results`.
    """

    what: str
    unit: str
    ours: Sequence[float]
    plain: Sequence[float] = ()
    results: Sequence[float] = ()
    result_unit: str = ""
    target: tuple[str, float] | None = None


# -------------------------------------------------------------------------------------------------------- timing


def time_in_turn(
    functions: Sequence[Callable[[], object]], *, repeats: int, warm_up: bool = True
) -> list[tuple[float, ...]]:
    """Seconds of each call, one tuple of `repeats` per function; the functions take turns, after
    `WARM_UPS` of each.
    """
    for function in functions if warm_up else ():
        for _ in range(WARM_UPS):
            function()
    return list(
        zip(*[[_time(function) for function in functions] for _ in range(repeats)], strict=True)
    )


def _time(function: Callable[[], object]) -> float:
    start = benchmark.timer()  # waits for a GPU
    function()
    return benchmark.timer() - start


def compare(
    what: str,
    ours: Callable[[], object],
    plain: Callable[[], object],
    *,
    shares: tuple[int, int],
    repeats: int,
    target: tuple[str, float] | None = None,
    warm_up: bool = True,
) -> Row:
    """Time `ours` and `plain` in turn, per model; the result is how many times as long the plain
    way takes.

    Args:
        shares: how many models a call of each trains or evaluates.
        warm_up: call each `WARM_UPS` times before.
    """
    times = time_in_turn((ours, plain), repeats=repeats, warm_up=warm_up)
    ours, plain = (
        [seconds / share for seconds in column] for column, share in zip(times, shares, strict=True)
    )
    ratios = [slow / fast for fast, slow in zip(ours, plain, strict=True)]
    return Row(what, "s", ours, plain, ratios, "×", target)


class Watch:
    """Seconds since it was made, and how busy the rest of the machine was: threads that wait for
    one another suffer.
    """

    def __init__(self):
        self._start = self._read()

    def seconds(self) -> float:
        return self._read()[0] - self._start[0]

    def others(self) -> float:
        """The share of the processors' time that went to anything but this process and its
        children.
        """
        wall, busy, own = np.subtract(self._read(), self._start)
        return max(0.0, float(busy - own)) / (wall * psutil.cpu_count())

    @staticmethod
    def _read() -> tuple[float, float, float]:
        times, own = psutil.cpu_times(), psutil.Process().cpu_times()
        unused = (
            times.idle
            + getattr(times, "iowait", 0)
            + getattr(times, "guest", 0)
            + getattr(times, "guest_nice", 0)
        )
        # of its own: user, system, and both of children
        return benchmark.timer(), sum(times) - unused, sum(own[:4])


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


# ---------------------------------------------------------------------------------------- ours, as
# mnist trains it


def list_runs(config: BenchConfig) -> list[dict]:
    """The models of the grid: one run of the study per loss and rate, for one epoch."""
    sizes = {"seeds": 1, "headline_seeds": 1, "epochs": 1, "eval_every": 1, "pairs": config.pairs}
    chosen = {"losses": config.losses, "noise_rates": config.noise_rates, "batch": config.batch}
    study = mnist.LossesConfig(study="mnist_losses", profile=config.profile, **sizes, **chosen)
    return study.runs()


def prepare_chunks(runs: list[dict], data: sources.MNIST) -> list[mnist.Chunk]:
    """The chunks in which `mnist.train_models` would train `runs`."""
    device = _device()
    chunks = mnist.list_chunks(runs, workers=mnist.count_workers(device), device=device)
    return [mnist.Chunk.prepare(chunk, data, device) for chunk in chunks]


def train_together(pool: Executor, chunks: list[mnist.Chunk]) -> list[tuple[Tensor, Tensor]]:
    """One epoch of every chunk."""
    return list(pool.map(mnist.Chunk.train_epoch, chunks))


# ------------------------------------------------------------------------------ plain, as a
# textbook would write it


def prepare_plain(run: dict, data: sources.MNIST) -> Callable[[], list[tuple[float, float]]]:
    """One model of `run` with its loader, ready to train: each call is an epoch of
    `train_plainly`.
    """
    pairs = mnist.draw_pairs(
        data.train_labels, run["pairs"], seed=run["seed"], class_prior=run["class_prior"]
    )
    labels = mnist.noisy_labels(pairs, run, data.train_images.mean((1, 2)))
    first, second = (_to_floats(data.train_images[rows]) for rows in (pairs.first, pairs.second))
    dataset = TensorDataset(first, second, torch.from_numpy(labels).float())
    network = mnist.initial_network(run["seed"]).to(_device())
    optimiser = torch.optim.Adam(network.parameters(), lr=run["learning_rate"])
    loader = DataLoader(dataset, batch_size=run["batch"], shuffle=True)
    return partial(train_plainly, network, optimiser, loader, losses.get(run["method"]))


def _to_floats(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images)[:, None] / 255


def train_plainly(
    network: mnist.Network, optimiser: torch.optim.Optimizer, loader: DataLoader, loss: losses.Loss
) -> list[tuple[float, float]]:
    """One epoch of one model: the loss and the accuracy on the given labels of every step.

    PyTorch's defaults, so that on recent GPUs its convolutions are in TF32; the grid is in float32
    everywhere.
    """
    metrics, device = [], _device()
    network.train()
    for batch in loader:
        first, second, labels = (tensor.to(device) for tensor in batch)
        # in one pass, as the grid: a batch norm sees both images
        rewards = network(torch.cat([first, second]))
        margins = labels * (rewards[: len(first)] - rewards[len(first) :])
        value = loss.fn(margins).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        metrics.append((value.item(), (margins > 0).float().mean().item()))
    return metrics


@torch.no_grad()
def evaluate_plainly(network: mnist.Network, images: Tensor) -> Tensor:
    """Rewards `(images,)` of `images` `(images, 1, 28, 28)`, with dropout off."""
    network.eval()
    return torch.cat([network(part) for part in images.split(mnist.EVALUATION_BATCH)])


# --------------------------------------------------------------------------------------------------------- parts


def bench_grid(config: BenchConfig) -> list[Row]:
    """Training: all models of the grid together, against one model at a time."""
    runs, data = list_runs(config), sources.mnist()
    chunks, plain = (
        prepare_chunks(runs, data),
        [prepare_plain(run, data) for run in runs[: config.plain_models]],
    )
    what = f"MNIST training, per model and epoch, {len(runs)} models"
    with mnist.open_pool(_device()) as pool:
        sides = partial(train_together, pool, chunks), lambda: [train() for train in plain]
        options = {"shares": (len(runs), len(plain)), "target": ("≥", GRID_TARGET[_device()])}
        return [compare(what, *sides, repeats=config.repeats, **options)]


def bench_evaluation(config: BenchConfig) -> list[Row]:
    """The rewards of the test images: all models of the grid together, against one model at a
    time.
    """
    runs, data, device = list_runs(config), sources.mnist(), _device()
    grids = [chunk.grid for chunk in prepare_chunks(runs, data)]
    images = torch.from_numpy(data.test_images[: config.test_images]).to(device)
    network, floats = (
        mnist.initial_network(0).to(device),
        _to_floats(data.test_images[: config.test_images]).to(device),
    )
    what = f"MNIST evaluation, per model, {len(images)} images"
    with mnist.open_pool(_device()) as pool:
        sides = (
            partial(_evaluate_together, pool, grids, images),
            partial(evaluate_plainly, network, floats),
        )
        return [compare(what, *sides, shares=(len(runs), 1), repeats=config.repeats)]


def _evaluate_together(pool: Executor, grids: list[mnist.Grid], images: Tensor) -> list[Tensor]:
    return list(pool.map(lambda grid: mnist.evaluate_rewards(grid, images), grids))


def bench_memory(config: BenchConfig) -> list[Row]:
    """The peak memory of a process that trains the grid for an epoch and evaluates it; on a
    processor.
    """
    if _device() == "cuda":
        return []
    peak = measure_peak(_train_once, list_runs(config), torch.get_num_threads()) / 2**30
    what = f"MNIST training and evaluation, peak memory, {len(list_runs(config))} models"
    return [
        Row(what, "GiB", [peak], results=[peak], result_unit="GiB", target=("≤", MEMORY_TARGET))
    ]


def _train_once(runs: list[dict], threads: int) -> None:
    torch.set_num_threads(threads)
    list(mnist.train_models(runs, device=_device()))


def measure_peak(function: Callable, *arguments) -> int:
    """The most memory, in bytes, that a fresh process which calls `function` held at any look; it
    looks often.

    The system's own count of a child starts from its parent's peak, so it would tell about the
    benchmarks before.

    Raises:
        RuntimeError: the function failed; its traceback is on stderr.
    """
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    child, peak = psutil.Process(process.pid), 0
    while process.exitcode is None:
        with suppress(psutil.Error):  # it has ended since
            peak = max(peak, child.memory_info().rss)
        process.join(0.01)  # seconds
    if process.exitcode:
        raise RuntimeError(
            f"the process whose memory is measured ended with exit status {process.exitcode}"
        )
    return peak


def bench_import(config: BenchConfig) -> list[Row]:
    """`import sympo` in a fresh interpreter, against an interpreter that imports nothing."""
    ours, bare = time_in_turn(
        [partial(_run_python, code) for code in ("import sympo", "pass")], repeats=config.repeats
    )
    beyond = [with_it - without for with_it, without in zip(ours, bare, strict=True)]
    loaded = float(_run_python(f"import sys, sympo; print(len({set(HEAVY)} & set(sys.modules)))"))
    return [
        Row(
            "`import sympo`, beyond a bare interpreter",
            "s",
            ours,
            bare,
            beyond,
            "s",
            ("≤", IMPORT_TARGET),
        ),
        Row(
            f"of {' and '.join(HEAVY)}, loaded by `import sympo`",
            "",
            [loaded],
            results=[loaded],
            target=("≤", 0),
        ),
    ]


def _run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def bench_growth(config: BenchConfig) -> list[Row]:
    """How the time of an epoch grows with the models, at the fewest pairs, and with the pairs, at
    all models.
    """
    data, fewest = sources.mnist(), min(config.growth_pairs)
    runs = list_runs(config)
    models = [
        list(islice(cycle({**run, "pairs": fewest} for run in runs), count))
        for count in config.growth_models
    ]
    pairs = [[{**run, "pairs": count} for run in runs] for count in config.growth_pairs]
    return [
        _fit_growth(
            f"models, at {fewest} pairs", config.growth_models, models, data, config.repeats
        ),
        _fit_growth(
            f"pairs, at {len(runs)} models", config.growth_pairs, pairs, data, config.repeats
        ),
    ]


def _fit_growth(
    what: str, sizes: list[int], grids: list[list[dict]], data: sources.MNIST, repeats: int
) -> Row:
    with mnist.open_pool(_device()) as pool:
        # one warms up
        rounds = [[_time_epoch(pool, runs, data) for runs in grids] for _ in range(1 + repeats)][1:]
    slopes = np.polyfit(np.log(sizes), np.log(rounds).T, 1)[0].tolist()
    what = f"MNIST growth with {what} ({', '.join(map(str, sizes))}): log–log slope of the epoch; seconds at the largest"
    return Row(
        what, "s", [times[-1] for times in rounds], results=slopes, target=("≤", SLOPE_TARGET)
    )


def _time_epoch(pool: Executor, runs: list[dict], data: sources.MNIST) -> float:
    """Seconds of an epoch of fresh models; no size is in memory while another is timed."""
    chunks = prepare_chunks(runs, data)
    for _ in range(WARM_UPS - 1):  # what a GPU records
        train_together(pool, chunks)
    return _time(partial(train_together, pool, chunks))


def bench_roofline(config: BenchConfig) -> list[Row]:
    """Operations and bytes of a training step, and the share of the machine's rates at which they
    are done.

    Bytes are those that operations ask for. Where a cache serves them, their rate exceeds what
    memory can deliver.
    """
    # The counters stop at every operation: the fewest pairs are enough.
    runs, data = (
        [{**run, "pairs": min(config.growth_pairs)} for run in list_runs(config)],
        sources.mnist(),
    )
    chunks, plain = prepare_chunks(runs, data), prepare_plain(runs[0], data)
    steps = math.ceil(runs[0]["pairs"] / config.batch)
    for chunk in chunks:
        vars(chunk)["replay"] = chunk.train_batch  # the counters do not see into a CUDA graph
    counts = np.stack(
        [
            count_work(lambda: [chunk.train_epoch() for chunk in chunks]) / len(runs),
            count_work(plain),
        ]
    )
    for chunk in chunks:
        del vars(chunk)["replay"]
    with mnist.open_pool(_device()) as pool:
        times = time_in_turn((partial(train_together, pool, chunks), plain), repeats=config.repeats)
    seconds = np.array(times) / [[len(runs)], [1]]
    flops, moved = counts.T[:, :, None]
    matmul, copy = measure_matmul(config.matmul_size), measure_copy(config.copy_mib)
    step = "MNIST training, per model and step"

    def share(done: np.ndarray, rate: float) -> list[list[float]]:
        return (100 * done / seconds / rate).tolist()

    return [
        Row(f"{step}: matmul and convolution", "GFLOP", *(flops / steps / 1e9).tolist()),
        Row(f"{step}: bytes asked for", "GB", *(moved / steps / 1e9).tolist()),
        Row(
            f"{step}: share of the machine's matmul rate, {matmul / 1e9:.3g} GFLOP/s",
            "%",
            *share(flops, matmul),
        ),
        Row(
            f"{step}: share of the machine's copy rate, {copy / 1e9:.3g} GB/s",
            "%",
            *share(moved, copy),
        ),
    ]


class _ByteCounter(TorchDispatchMode):
    """Sums the bytes of the tensors that operations read and write; a view touches none."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        # allocated memory is not touched yet
        if not func.is_view and "empty" not in func.overloadpacket.__name__:
            arguments = func._schema.arguments
            given = {
                **dict(zip([argument.name for argument in arguments], args, strict=False)),
                **kwargs,
            }
            changed = {
                argument.name
                for argument in arguments
                if argument.alias_info and argument.alias_info.is_write
            }
            written = [given[name] for name in changed & given.keys()]
            read = [value for name, value in given.items() if name != "out"]
            known = set(map(id, tree_leaves(written)))
            made = [leaf for leaf in tree_leaves(result) if id(leaf) not in known]
            touched = [
                leaf for leaf in tree_leaves((read, written, made)) if isinstance(leaf, Tensor)
            ]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in touched)
        return result


@contextmanager
def _watch_kernels(counter: _ByteCounter) -> Iterator[None]:
    """Add the bytes of the arrays that the compiled loops get, which PyTorch does not see."""
    # the rest is inside
    public = {name: value for name, value in vars(kernels).items() if not name.startswith("_")}
    compiled = {name: function for name, function in public.items() if is_jitted(function)}

    def count(function, *arrays):
        counter.total += sum(array.nbytes for array in arrays)
        return function(*arrays)

    vars(kernels).update({name: partial(count, function) for name, function in compiled.items()})
    try:
        yield
    finally:
        vars(kernels).update(compiled)


def count_work(function: Callable[[], object]) -> np.ndarray:
    """`(2,)`: FLOPs of the matrix products and convolutions in a call, and bytes of the tensors of
    all operations.

    An argument that is overwritten in place counts twice, as it is read and written; those of
    `kernels` count once.

    Check: tests/test_bench.py, by hand.
    """
    with (
        FlopCounterMode(display=False) as flops,
        _ByteCounter() as counter,
        _watch_kernels(counter),
    ):
        function()
    return np.array([flops.get_total_flops(), counter.total], dtype=float)


def measure_matmul(size: int) -> float:
    """FLOP/s of the best float32 product of two `(size, size)` matrices, in all threads."""
    a, b, out = (torch.ones(size, size, device=_device()) for _ in range(3))
    return 2 * size**3 / _best_time("torch.mm(a, b, out=out)", a=a, b=b, out=out)


def measure_copy(mib: int) -> float:
    """Bytes read and written per second by the best copy of a tensor of `mib` MiB, in all
    threads.
    """
    source = torch.ones(mib * 2**18, device=_device())
    return (
        2
        * mib
        * 2**20
        / _best_time("out.copy_(source)", source=source, out=torch.empty_like(source))
    )


def _best_time(statement: str, **names) -> float:
    timer = benchmark.Timer(statement, globals=names, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange(min_run_time=0.5).times)


def bench_study(config: BenchConfig) -> list[Row]:
    """The profile's whole study mnist_losses, evaluation included; on a GPU only, elsewhere it
    takes too long.
    """
    if _device() == "cpu":
        return []
    runs = study_config("mnist_losses", config.profile).runs()
    (seconds,) = time_in_turn(
        [lambda: list(mnist.train_models(runs, device=_device()))], repeats=config.repeats
    )
    what = f"study mnist_losses, {len(runs)} models, {runs[0]['epochs']} epochs, {runs[0]['pairs']} pairs"
    return [Row(what, "s", seconds, (), seconds, "s", ("≤", STUDY_TARGET))]


def bench_gold(config: BenchConfig) -> list[Row]:
    """The runs of study gold that TRL can train too, SFT included, beside TRL's DPOTrainer used
    plainly for them.

    Nothing is warmed up: what a sweep pays once, it pays once here.
    """
    from sympo.studies.alignment import gold
    from sympo.studies.alignment import sweep as align

    runs = _list_gold_runs(config)
    train = align.train_parallel if _device() == "cpu" else align.train_runs
    accuracies: dict[str, list[float]] = {"ours": [], "plain": []}

    def ours() -> None:
        results = train(runs, build_world=gold.build_world)
        accuracies["ours"].append(np.mean([result["metrics"]["accuracy"] for _, result in results]))

    def plain() -> None:
        accuracies["plain"].append(
            np.mean([metrics["accuracy"] for metrics in train_with_trl(runs)])
        )

    what = f"gold sweep, {len(runs)} runs on {config.gold_seeds} SFT models, per run"
    shares = (len(runs), len(runs))
    row = compare(
        what,
        ours,
        plain,
        shares=shares,
        repeats=config.repeats,
        target=("≥", SWEEP_TARGET),
        warm_up=False,
    )
    return [
        row,
        Row("mean held-out accuracy of these runs", "", accuracies["ours"], accuracies["plain"]),
    ]


def _list_gold_runs(config: BenchConfig) -> list[dict]:
    runs = study_config("gold", config.profile).runs()
    return [run for run in runs if run["method"] in TRL_NAMES and run["seed"] < config.gold_seeds]


def train_with_trl(runs: list[dict]) -> Iterator[dict]:
    """Metrics of each of `runs` of study gold, by TRL as its documentation shows it: one DPOTrainer
    after the other.

    Each run encodes its pairs and asks the reference model at every step.
    """
    from sympo import preferences
    from sympo.studies.alignment import gold
    from sympo.studies.alignment import sweep as align

    for seed, group in groupby(runs, key=lambda run: run["seed"]):
        group = list(group)
        model, tokenizer, train, test, prompts, rewards = gold.build_pairs(group[0])
        world = align.World(model, tokenizer, train, test, prompts, gold.score, rewards)
        with align.quietly(), tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)  # from where TRL loads the reference model
            for run in group:
                pairs = preferences.flip_preferences(train, run["noise_rate"], seed=seed)
                yield train_plain_policy(run, world, pairs, folder)


def build_plain_trainer(run: dict, tokenizer, folder: str, *, recompute: bool = True, **data):
    """TRL's DPOTrainer for the SFT model saved in `folder`.

    With TRL's defaults, but for what the study fixes (batch, learning rate, epochs, warm-up, β, no
    bound on gradients) and for bfloat16, which is 15 times slower than float32 on a CPU.

    Args:
        recompute: activations in the backward pass (gradient checkpointing), TRL's default.
    """
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    cuda = torch.cuda.is_available()
    bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)  # as ours
    fixed = {
        "output_dir": f"{folder}/out",
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    fixed |= {"use_cpu": not cuda, "bf16": bf16, "seed": run["seed"], "max_length": None}
    fixed |= {"max_grad_norm": math.inf, "gradient_checkpointing": recompute}
    budget = {"per_device_train_batch_size": run["micro_batch"], "num_train_epochs": run["epochs"]}
    budget |= {"gradient_accumulation_steps": run["batch"] // run["micro_batch"]}
    budget |= {
        "learning_rate": run["learning_rate"],
        "warmup_steps": run["warmup"],
        "beta": run["beta"],
    }
    smoothing = run["noise_rate"] if run["method"] == "rdpo" else 0.0
    arguments = DPOConfig(
        **fixed, **budget, loss_type=TRL_NAMES[run["method"]], label_smoothing=smoothing
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return DPOTrainer(model, args=arguments, processing_class=tokenizer, **data)


def train_plain_policy(run: dict, world, pairs, folder: str) -> dict:
    """Metrics of one policy that TRL's DPOTrainer trains from the SFT model saved in `folder`."""
    from sympo.studies.alignment import sweep as align

    flipped = pairs.select(np.flatnonzero(pairs["is_flipped"]))
    data = {"test": world.test, **({"flipped": flipped} if len(flipped) else {})}
    made = build_plain_trainer(
        run,
        world.tokenizer,
        folder,
        train_dataset=pairs.select_columns(PLAIN_COLUMNS),
        eval_dataset={name: part.select_columns(PLAIN_COLUMNS) for name, part in data.items()},
    )
    made.train()
    found = {name: made.evaluate(name) for name in data}
    metrics = {"accuracy": "eval_rewards/accuracies", "margin": "eval_rewards/margins"}
    metrics = {name: found["test"][key] for name, key in metrics.items()}
    fitted = found["flipped"]["eval_rewards/accuracies"] if len(flipped) else None
    policy = copy.deepcopy(world.model)  # the trainer's own may be under autocast
    align.load_trained(policy, made)
    return {**metrics, "fit_flipped": fitted, **align.measure(policy, world, run)}


def bench_step(config: BenchConfig) -> list[Row]:
    """Training steps of one policy of study gold, beside those of TRL's DPOTrainer used plainly.

    Only training is timed: neither the encoding of the pairs nor our reference pass, which a sweep
    pays once.
    """
    from sympo import preferences
    from sympo.studies.alignment import gold
    from sympo.studies.alignment import sweep as align

    run = {**_list_gold_runs(config)[0], "pairs": config.step_pairs}
    world = gold.build_world(run)
    pairs = preferences.flip_preferences(world.train, run["noise_rate"], seed=run["seed"])
    answers = sum(map(len, chain(pairs["chosen_ids"], pairs["rejected_ids"])))
    tokens = run["epochs"] * (2 * sum(map(len, pairs["prompt_ids"])) + answers)
    with align.quietly(), tempfile.TemporaryDirectory() as folder:
        world.model.save_pretrained(folder)
        plain_pairs = pairs.select_columns(PLAIN_COLUMNS)
        plain = partial(
            build_plain_trainer, run, world.tokenizer, folder, train_dataset=plain_pairs
        )
        own = (world.tokenizer, run, folder)
        sides = (
            lambda: align.build_trainer(copy.deepcopy(world.model), *own, train_dataset=pairs),
            plain,
            partial(plain, recompute=False),
        )
        # one warms up
        rounds = [[_time_training(build()) for build in sides] for _ in range(1 + config.repeats)][
            1:
        ]
    (ours, *others), (our_losses, *other_losses) = np.transpose(rounds, (2, 1, 0)).tolist()
    what = f"{run['model']} model, training on {len(pairs)} pairs, our reference pass not counted"
    kinds = ((what, ("≥", STEP_TARGET)), ("the same, TRL without recomputed activations", None))
    rows = [
        Row(what, "tokens/s", *_to_rates(tokens, ours, other), "×", target)
        for (what, target), other in zip(kinds, others, strict=True)
    ]
    return [*rows, Row("mean training loss of these steps", "", our_losses, other_losses[0])]


def _to_rates(tokens: int, ours: list[float], plain: list[float]) -> tuple[list[float], ...]:
    """Tokens per second of both, from their seconds, and the ratio."""
    rates = [[tokens / seconds for seconds in side] for side in (ours, plain)]
    return *rates, [slow / fast for fast, slow in zip(ours, plain, strict=True)]


def _time_training(made) -> tuple[float, float]:
    """Seconds of a trainer's training, and its mean loss."""
    seconds = _time(made.train)
    return seconds, made.state.log_history[-1]["train_loss"]


# part -> what measures it
PARTS: dict[str, Callable[[BenchConfig], list[Row]]] = {
    "grid": bench_grid,
    "evaluation": bench_evaluation,
    "memory": bench_memory,
    "gold": bench_gold,
    "step": bench_step,
    "growth": bench_growth,
    "roofline": bench_roofline,
    "study": bench_study,
    "import": bench_import,
}


# -------------------------------------------------------------------------------------------------------- report


def summarise(row: Row) -> dict:
    """The fields of `row`, its medians, the range of its results, and whether the target is met."""
    summary = {**row._asdict(), "median_ours": float(np.median(row.ours))}
    if row.plain:
        summary["median_plain"] = float(np.median(row.plain))
    if row.results:
        summary |= {
            "median": float(np.median(row.results)),
            "low": min(row.results),
            "high": max(row.results),
        }
    if row.target:
        sign, bound = row.target
        summary["met"] = summary["median"] >= bound if sign == "≥" else summary["median"] <= bound
    return summary


def tabulate(parts: dict[str, dict]) -> pd.DataFrame:
    """The rows of all parts as text: medians with units, the result and its spread, the target and
    if it is met.
    """
    rows = []
    for row in (row for part in parts.values() for row in part["rows"]):
        shown = {"what": row["what"], "ours": _show(row["median_ours"], row["unit"])}
        shown["plain"] = _show(row["median_plain"], row["unit"]) if row["plain"] else "–"
        shown |= dict.fromkeys(("result", "spread", "target", "met"), "–")
        if row["results"]:
            shown["result"] = _show(row["median"], row["result_unit"])
            shown["spread"] = (
                f"{row['low']:.3g} to {row['high']:.3g}" if len(row["results"]) > 1 else "–"
            )
        if row["target"]:
            sign, bound = row["target"]
            shown |= {
                "target": f"{sign} {_show(bound, row['result_unit'])}",
                "met": "yes" if row["met"] else "no",
            }
        rows.append(shown)
    return pd.DataFrame(rows)


def _show(value: float, unit: str) -> str:
    return f"{float(f'{value:.3g}'):,g} {unit}".rstrip()  # three digits, and 21,600 for 2.16e+04


def _write_report(parts: dict[str, dict], path: Path) -> None:
    # JSON, not csv: `make verify` compares every csv with the committed one, and timings differ
    # from run to run.
    records.write_atomically(
        path, json.dumps({"parts": parts}, indent=1, ensure_ascii=False) + "\n"
    )
    made = [part["provenance"] for part in parts.values()]
    machines = {
        f"{one['gpu'] or one['cpu']}, threads: {one['threads']}, torch {one['torch']}"
        for one in made
    }
    note = (
        "Medians over repeats in which ours and plain take turns. A result in × is the plain way's time over ours; its "
        "spread is from the smallest to the largest repeat. Bytes that a cache serves count too, so that their share "
        "of the copy rate can exceed 100 %; FLOPs include the zeros of our padded kernels. TRL has its defaults: it "
        "asks the reference model at every step and recomputes activations in the backward pass. "
        f"Measured on {'; '.join(sorted(machines))}; "
        f"other programs used at most {max(one['others'] for one in made):.0%} of the processors meanwhile. Every "
        f"sample, and what made it: data/{path.name}.\n"
    )
    table = figures.to_markdown(tabulate(parts), "lrrrrrl")
    records.write_atomically(path.parents[1] / "table_bench.md", f"{table}\n{note}")


def measure(config: BenchConfig, names: Sequence[str]) -> Path:
    """Run the parts `names` and write each at once; the results of other parts stay as they are.

    Returns:
        the JSON file; the table lies in the folder above it.
    """
    path = figures_folder(config.profile) / "data" / "bench.json"
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
    for name in names:
        watch = Watch()
        rows = [summarise(row) for row in PARTS[name](config)]
        made = provenance.collect(
            seconds=round(watch.seconds(), 1), others=round(watch.others(), 3)
        )
        parts[name] = {"config": config.model_dump(), "provenance": made, "rows": rows}
        parts = {part: parts[part] for part in PARTS if part in parts}
        _write_report(parts, path)
        print(
            f"{name}: {made['seconds']} s, other programs used {made['others']:.0%} of the processors"
        )
        print(
            tabulate({name: parts[name]}).to_string(index=False, header=False)
            if rows
            else "  not on this machine"
        )
    return path


def main(arguments: list[str] | None = None) -> int:
    """0 done, whether or not targets are met; 1 the data could not be had, 2 bad input, 130
    interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m sympo.book.bench", description=__doc__)
    parser.add_argument("--profile", default="auto", help="its section `bench` holds the sizes")
    parser.add_argument(
        "--only", default=",".join(PARTS), help="parts, with commas between them; all: %(default)s"
    )
    parser.add_argument("--repeats", type=int, help="in place of the profile's")
    given = parser.parse_args(arguments)
    names, overrides = (
        given.only.split(","),
        {} if given.repeats is None else {"repeats": given.repeats},
    )
    try:
        for name in names:
            if name not in PARTS:
                raise ValueError(unknown_name("part", name, PARTS))
        path = measure(section_config(BenchConfig, "bench", given.profile, **overrides), names)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except sources.AssetError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the parts that finished are kept", file=sys.stderr)
        return 130
    print(f"{path.parents[1] / 'table_bench.md'}, {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
