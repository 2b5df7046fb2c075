"""The MNIST studies: from a config to its records.

All models of one seed start from the same weights, see the same pairs, batches and dropout masks,
and differ in loss and label noise alone. They train together (`fast.chunks`), and every result is
the same, but for rounding, as if each had trained by itself.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from sympo import stats
from sympo.studies import plan, progress, provenance, records, sources
from sympo.studies.mnist.config import LossesConfig, NoiseConfig
from sympo.studies.mnist.evaluation import choose_evaluation, fit_shares
from sympo.studies.mnist.fast.chunks import AnyMnistRun, Chunk, list_chunks
from sympo.studies.mnist.patterns import PatternsConfig

if TYPE_CHECKING:
    import pandas as pd

# Of all of them. Records of another version are not read; tests/studies/test_golden.py says when
# to raise it. The metric `chosen` came later: it moved no number that was there, so records without
# it stay valid, and whoever reads it says where it is missing.
VERSION = 3
# Ours: test images whose rewards a record keeps, to compare rankings.
SAMPLE = 1000


def run_study(config: LossesConfig | NoiseConfig | PatternsConfig) -> records.Runs:
    """Train every model of `config`, or load its record."""
    return plan.run(plan_study(config, read_only=plan.is_read_only(config.profile)))


def plan_study(
    config: LossesConfig | NoiseConfig | PatternsConfig, *, read_only: bool = False
) -> plan.Plan[Any]:
    """The models of `config`, those of a tier and seed together.

    Args:
        read_only: whether nothing may be trained; then no data is needed.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = {}
    if not read_only:
        data = sources.mnist()
        source = {"data": data.source, "data_sha256": data.sha256}
    return plan.Plan(
        study=config.study,
        profile=config.profile,
        version=VERSION,
        read_only=read_only,
        provenance=provenance.collect(**source),
        list_runs=lambda load: config.runs(),
        tier=config.tier,
        # A seed's models are enough to keep a GPU busy, and no more is lost if it is cut off.
        together=attrgetter("seed"),
        train=partial(train_models, device=device),
    )


def train_models(
    runs: Sequence[AnyMnistRun], *, device: str
) -> Iterator[tuple[AnyMnistRun, records.Result]]:
    """Train the models of `runs`, and yield each run with its result.

    The models of one seed train together, in chunks that fit in memory; every chunk sees the same
    batches and masks. On a GPU a chunk holds several seeds.
    """
    chunks = list_chunks(runs, workers=count_workers(device), device=device)
    with progress.stage("reading MNIST"):
        data = sources.mnist()
    stop = threading.Event()
    # A chunk of many models takes longer, so the bar counts the epochs of each.
    epochs = sum(len(chunk) * chunk[0].epochs for chunk in chunks)
    bar = progress.progress(epochs, "epochs of all models")
    with bar, open_pool(device) as pool:
        try:
            waiting = [
                pool.submit(_train_chunk, chunk, data, device, bar, stop) for chunk in chunks
            ]
            # Whichever ends first: its records are then on disk before the next is waited for.
            for done in as_completed(waiting):
                yield from done.result()
        finally:
            # After Ctrl-C whatever is still training ends with its epoch.
            stop.set()


def count_workers(device: str) -> int:
    """How many chunks train at a time: one per core of a processor, one on a GPU."""
    return torch.get_num_threads() if device == "cpu" else 1


@contextmanager
def open_pool(device: str) -> Iterator[Executor]:
    """The threads in which chunks train; what still waits at the end is dropped.

    On a processor each thread computes alone: threads that share every small operation wait for
    one another, and on a busy machine for long.
    """
    threads = torch.get_num_threads()
    workers = count_workers(device)
    # Threads and not processes: they share the data, and the matrix products and compiled loops,
    # which are nearly all of the work, let go of the interpreter.
    pool = ThreadPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(threads // workers,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _train_chunk(
    runs: list[AnyMnistRun],
    data: sources.MNIST,
    device: str,
    bar: tqdm,
    stop: threading.Event,
) -> list[tuple[AnyMnistRun, records.Result]]:
    # The runs of a chunk differ in loss, noise and seed alone.
    epochs = runs[0].epochs
    eval_every = runs[0].eval_every
    chunk = Chunk.prepare(runs, data, device)
    evaluations = []  # a list of entries, one per model, for each evaluation
    samples = []  # `(models, SAMPLE)` for each evaluation
    for epoch in range(1, epochs + 1):
        # Python delivers Ctrl-C to the main thread only, which sets `stop` on its way out.
        if stop.is_set():
            raise KeyboardInterrupt
        risk, fitted = chunk.train_epoch()
        bar.update(len(runs))
        if epoch % eval_every == 0 or epoch == epochs:
            rewards = chunk.evaluate()
            evaluations.append(_list_entries(chunk, epoch, rewards, risk, fitted))
            samples.append(rewards[:, :SAMPLE].cpu())

    # By model instead of by evaluation.
    histories = map(list, zip(*evaluations, strict=True))
    results = map(_summarise, histories, torch.stack(samples, 1))
    return list(zip(runs, results, strict=True))


def _list_entries(
    chunk: Chunk, epoch: int, rewards: Tensor, risk: Tensor, fitted: Tensor
) -> list[dict[str, Any]]:
    """A row of history for each model of `chunk`."""
    per_model = zip(
        chunk.score(rewards), risk.tolist(), fitted.cpu().numpy(), chunk.flipped, strict=True
    )
    return [
        {"epoch": epoch, **score, "train_risk": mean, **fit_shares(labels, flipped)}
        for score, mean, labels, flipped in per_model
    ]


def _summarise(history: list[dict[str, Any]], samples: Tensor) -> records.Result:
    """The last entry as metrics, with the rewards then and at the epoch that noisy pairs choose.

    Args:
        samples: `(evaluations, SAMPLE)`, the rewards of the first `SAMPLE` test images.
    """
    best = choose_evaluation(history)
    chosen = {"epoch": history[best]["epoch"], "rewards": _round_rewards(samples[best])}
    metrics = {**history[-1], "rewards": _round_rewards(samples[-1]), "chosen": chosen}
    return records.Result(metrics, history)


def _round_rewards(rewards: Tensor) -> list[float]:
    # Five decimals are enough to rank by; in full, each number would take twenty characters.
    return [round(reward, 5) for reward in rewards.tolist()]


def compare_rankings(runs: Iterable[records.Record]) -> "pd.DataFrame":
    """How alike the rewards of two models rank the same test images, by Kendall's τ.

    Asymmetric noise is compared with its equivalent and with tied noise on the same pairs. The
    yardstick is the equivalent noise on the pairs of the next seed, the first after the last; two
    seeds make one such pair, not two.

    Args:
        runs: records of study mnist_noise.
    Returns:
        columns method, noise_pair, seed, comparison, tau.
    Raises:
        ValueError: records of one seed only.
    """
    import pandas as pd

    keys = ("method", "noise_pair", "seed", "condition")
    rewards = {
        tuple(record["config"][key] for key in keys): record["metrics"]["rewards"]
        for record in runs
    }
    following = _next_seeds(sorted({seed for _, _, seed, _ in rewards}))
    rows = []
    for method, pair, seed in dict.fromkeys(key[:3] for key in rewards):
        asymmetric = rewards[method, pair, seed, "asymmetric"]
        equivalent = rewards[method, pair, seed, "equivalent"]
        tied = rewards[method, pair, seed, "tied"]
        compared = {"asymmetric, equivalent": (asymmetric, equivalent)}
        if seed in following:
            other = rewards[method, pair, following[seed], "equivalent"]
            compared["equivalent, other data"] = (equivalent, other)
        compared["asymmetric, tied"] = (asymmetric, tied)
        for name, (one, another) in compared.items():
            rows.append((method, pair, seed, name, stats.kendall(one, another)))
    return pd.DataFrame(rows, columns=["method", "noise_pair", "seed", "comparison", "tau"])


def _next_seeds(seeds: list[int]) -> dict[int, int]:
    """Each seed's partner: the next one, and the first for the last."""
    if len(seeds) < 2:
        raise ValueError(
            f"rankings of the seeds {seeds} have no yardstick: give records of at least two seeds"
        )
    if len(seeds) == 2:  # the last and the first are the pair that the first and the last are
        return {seeds[0]: seeds[1]}
    return dict(zip(seeds, [*seeds[1:], seeds[0]], strict=True))
