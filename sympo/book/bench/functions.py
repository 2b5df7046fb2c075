"""The library: what `import sympo` costs, and its hot functions, each by itself.

The tests look at what each case computes, so that nothing fast and wrong passes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils import benchmark

from sympo import losses, noise, preferences, stats
from sympo.book.bench import timing
from sympo.book.bench.config import BenchConfig
from sympo.book.bench.timing import Row
from sympo.studies import mnist

IMPORT_TARGET = 0.15  # s, beyond an interpreter that imports nothing
HEAVY = ("torch", "transformers")  # what `import sympo` must not load

# what the methods that are told something are told; ipo and hinge run in TRL's code
TOLD: dict[str, dict[str, float]] = {
    "dpo": {},
    "rdpo": {"noise_rate": 0.2},
    "ropo": {},
    "drdpo": {},
    "repo": {"reliability": 0.9},
    "sympo_sigmoid": {},
}


def bench_import(config: BenchConfig) -> list[Row]:
    """`import sympo` in a fresh interpreter, against an interpreter that imports nothing."""
    # fresh processes: a module is imported once in each
    sides = [partial(timing.run_python, code) for code in ("import sympo", "pass")]
    ours, bare = timing.time_in_turn(sides, repeats=config.repeats)
    # paired, as the start of an interpreter differs from minute to minute
    beyond = [with_it - without for with_it, without in zip(ours, bare, strict=True)]
    # printed by the other process, whose modules are asked about
    count = f"import sys, sympo; print(len({set(HEAVY)} & set(sys.modules)))"
    loaded = [float(timing.run_python(count))]
    what = "`import sympo`, beyond a bare interpreter"
    heavy = f"of {' and '.join(HEAVY)}, loaded by `import sympo`"
    return [
        Row(what, "s", ours, bare, beyond, "s", ("≤", IMPORT_TARGET)),
        Row(heavy, "", loaded, (), loaded, "", ("≤", 0)),
    ]


def bench_functions(config: BenchConfig) -> list[Row]:
    """Milliseconds of a call of each case."""
    return [
        Row(what, "ms", [1e3 * _time_often(case) for _ in range(config.repeats)])
        for what, case in list_cases().items()
    ]


def _time_often(case: Callable[[], object]) -> float:
    """Seconds of a call: the median of the calls of a tenth of a second, as one is too short."""
    # the timer would take one thread otherwise
    threads = torch.get_num_threads()
    timer = benchmark.Timer("case()", globals={"case": case}, num_threads=threads)
    return timer.blocked_autorange(min_run_time=0.1).median


def list_cases() -> dict[str, Callable[[], Any]]:
    """What is timed, by its name in the table, on inputs that stand ready."""
    # the same on every machine, so that tests can tell the results
    margin = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    digits = torch.arange(10_000) % 10
    keys = [(i, i + 1) for i in range(10_000)]
    table = draw_scores()
    return {
        f"{len(losses.LOSSES)} margin losses of 100,000 margins": partial(compute_losses, margin),
        f"{len(TOLD)} methods, gradients at 100,000 margins": partial(differentiate, margin),
        # 45 million pairs each
        "order of 10,000 test images, 28 models": partial(
            mnist.reward_accuracy, rank_digits(digits), digits
        ),
        "flips of 10,000 labels, keyed by row": partial(flip_labels, keys),
        "1,000 HH dialogues, parsed": partial(preferences.parse_rows, write_dialogues(1_000)),
        "contrasts of 6 methods, 50 seeds": partial(compute_contrasts, table),
    }


def compute_losses(margin: Tensor) -> dict[str, Tensor]:
    """Every margin loss of `margin`."""
    return {name: loss.fn(margin) for name, loss in losses.LOSSES.items()}


def differentiate(margin: Tensor) -> dict[str, Tensor]:
    """The gradient of each method's mean loss in `margin`."""
    # the registry is read once, outside of what is timed per method
    methods = losses.pair_losses()
    gradients = {}
    for name, told in TOLD.items():
        # a leaf of its own: gradients of several methods would add up
        leaf = margin.clone().requires_grad_()
        loss = methods[name].fn(leaf, **told).mean()
        (gradients[name],) = torch.autograd.grad(loss, leaf)
    return gradients


def rank_digits(digits: Tensor) -> Tensor:
    """Rewards `(28, images)`: in turn in the digits' order, in the opposite one, and all equal."""
    # three rewards whose accuracy is known: 1, 0, and 0 because all tie
    orders = torch.stack([digits.float(), -digits.float(), torch.zeros(len(digits))])
    return orders.repeat(10, 1)[:28]


def flip_labels(keys: list[tuple[int, int]]) -> np.ndarray:
    """Labels +1, three in ten of them flipped."""
    # all +1, so that only the first rate matters
    labels = np.ones(len(keys), dtype=np.int64)
    return noise.flip(labels, 0.3, 0.1, noise.RowGenerator(keys, seed=0))


def write_dialogues(count: int) -> list[dict[str, str]]:
    """Rows as Anthropic HH has them; one in a hundred is a tie of equal answers."""
    rows = []
    for i in range(count):
        dialogue = f"\n\nHuman: question {i}\n\nAssistant: why?\n\nHuman: because\n\nAssistant: "
        # equal answers say nothing, and the parser has to find them
        rejected = "yes" if i % 100 == 0 else "no"
        rows.append({"chosen": dialogue + "yes", "rejected": dialogue + rejected})
    return rows


def draw_scores() -> pd.DataFrame:
    """Accuracies of the methods m0 … m7 over 50 seeds, each method 0.1 better than the last."""
    # methods of one seed share what the seed brings, so that a paired test is sharp
    shared, own = np.random.default_rng(0).normal(size=(2, 50))
    rows = [
        (f"m{method}", seed, shared[seed] + 0.1 * method + 0.001 * own[seed] * method)
        for method in range(8)
        for seed in range(50)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "accuracy"])


def compute_contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """The methods m2 … m7 of `draw_scores` against m0 and m1."""
    methods = [f"m{method}" for method in range(2, 8)]
    options = {"value": "accuracy", "method": "method"}
    return stats.contrasts(table, methods=methods, baselines=["m0", "m1"], **options)
