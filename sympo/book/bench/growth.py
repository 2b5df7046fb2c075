"""MNIST: how the time of an epoch grows with the models and with the pairs."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from itertools import cycle, islice

import numpy as np

from sympo.book.bench import grid, timing
from sympo.book.bench.config import BenchConfig
from sympo.book.bench.timing import Row
from sympo.studies import sources
from sympo.studies.mnist.config import MnistRun
from sympo.studies.mnist.study import open_pool

SLOPE_TARGET = 1.1  # log time over log size: linear, and a tenth for noise


def bench_growth(config: BenchConfig) -> list[Row]:
    """Growth with the models, at the fewest pairs, and with the pairs, at all models."""
    data = sources.mnist()
    runs = grid.list_runs(config)
    fewest = min(config.growth_pairs)
    # the same runs over again, where more models are asked for than there are
    endless = cycle(replace(run, pairs=fewest) for run in runs)
    grids = [list(islice(endless, count)) for count in config.growth_models]
    models = fit_growth(config.growth_models, grids, data, repeats=config.repeats)
    # all models at each number of pairs
    grids = [[replace(run, pairs=count) for run in runs] for count in config.growth_pairs]
    pairs = fit_growth(config.growth_pairs, grids, data, repeats=config.repeats)
    return [
        models._replace(what=_describe(f"models, at {fewest} pairs", config.growth_models)),
        pairs._replace(what=_describe(f"pairs, at {len(runs)} models", config.growth_pairs)),
    ]


def _describe(what: str, sizes: list[int]) -> str:
    measured = "log–log slope of the epoch; seconds at the largest"
    return f"MNIST growth with {what} ({', '.join(map(str, sizes))}): {measured}"


def fit_growth(
    sizes: list[int], grids: Sequence[list[MnistRun]], data: sources.MNIST, *, repeats: int
) -> Row:
    """The slope of log seconds over log size, by least squares, for each repeat."""
    with open_pool(timing.device()) as pool:
        # On a processor every size has to be seen once; on a GPU `_time_epoch` warms up itself.
        for runs in grids if timing.device() == "cpu" else grids[:1]:
            _time_epoch(pool, runs, data)
        rounds = [[_time_epoch(pool, runs, data) for runs in grids] for _ in range(repeats)]
    seconds = np.array(rounds)
    # a slope of 1 is linear growth; below, larger sizes are used better
    slopes, _ = np.polyfit(np.log(sizes), np.log(seconds).T, 1)
    largest = seconds[:, -1].tolist()
    return Row("", "s", largest, (), slopes.tolist(), "", ("≤", SLOPE_TARGET))


def _time_epoch(pool: Executor, runs: list[MnistRun], data: sources.MNIST) -> float:
    """Seconds of an epoch of fresh models; no size is in memory while another is timed."""
    chunks = grid.prepare_chunks(runs, data)
    # what a GPU records
    for _ in range(timing.WARM_UPS - 1):
        grid.train_together(pool, chunks)
    return timing.time_call(partial(grid.train_together, pool, chunks))
