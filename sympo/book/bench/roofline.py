"""MNIST: operations and bytes of a training step, beside what the machine can do at its best."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import benchmark
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sympo.book.bench import grid, timing
from sympo.book.bench.config import BenchConfig
from sympo.book.bench.timing import Row
from sympo.studies import mnist, sources
from sympo.studies.mnist.study import open_pool

KERNELS = "sympo.studies.mnist.fast.kernels"  # the compiled loops


def bench_roofline(config: BenchConfig) -> list[Row]:
    """Operations and bytes of a step, and the share of the machine's rates at which they are done.

    Bytes are those that operations ask for. Where a cache serves them, their rate exceeds what
    memory can deliver.
    """
    # The counters stop at every operation: the fewest pairs are enough.
    fewest = min(config.growth_pairs)
    runs = [replace(run, pairs=fewest) for run in grid.list_runs(config)]
    data = sources.mnist()
    chunks = grid.prepare_chunks(runs, data)
    plain = grid.prepare_plain(runs[0], data)
    # per model: the plain loop trains one
    ours = count_work(partial(_train_unrecorded, chunks)) / len(runs)
    # (FLOPs and bytes, ours and plain) per model and epoch
    work = np.stack([ours, count_work(plain)], axis=1)
    with open_pool(timing.device()) as pool:
        together = partial(grid.train_together, pool, chunks)
        times = timing.time_in_turn(
            (together, plain), repeats=config.repeats, warm_ups=timing.WARM_UPS
        )
    # (ours and plain, repeats) per model and epoch
    seconds = np.array(times) / [[len(runs)], [1]]
    return _tabulate_work(work, seconds, config, steps=math.ceil(fewest / config.batch))


def _tabulate_work(
    work: NDArray, seconds: NDArray, config: BenchConfig, *, steps: int
) -> list[Row]:
    """The rows of `work` `(2, 2)` done in `seconds` `(2, repeats)`."""
    # in the same process, right after: a rate depends on the hour, too
    matmul = measure_matmul(config.matmul_size)
    copy = measure_copy(config.copy_mib)
    flops, moved = work
    # percent; broadcast over the repeats
    flop_shares = 100 * flops[:, None] / seconds / matmul
    byte_shares = 100 * moved[:, None] / seconds / copy
    step = "MNIST training, per model and step"
    rates = (f"matmul rate, {matmul / 1e9:.3g} GFLOP/s", f"copy rate, {copy / 1e9:.3g} GB/s")
    return [
        _row(f"{step}: matmul and convolution", "GFLOP", flops[:, None] / steps / 1e9),
        _row(f"{step}: bytes asked for", "GB", moved[:, None] / steps / 1e9),
        _row(f"{step}: share of the machine's {rates[0]}", "%", flop_shares),
        _row(f"{step}: share of the machine's {rates[1]}", "%", byte_shares),
    ]


def _row(what: str, unit: str, samples: NDArray) -> Row:
    """A row of `samples`, `(2, repeats)`: of ours and of the plain loop."""
    ours, plain = samples.tolist()
    return Row(what, unit, ours, plain)


def _train_unrecorded(chunks: list[mnist.Chunk]) -> None:
    """An epoch of every chunk without CUDA graphs, into which the counters cannot see."""
    for chunk in chunks:
        # in place of the cached property, which an epoch on a GPU asks for
        vars(chunk)["replay"] = chunk.train_batch
        chunk.train_epoch()
        del vars(chunk)["replay"]


def count_work(function: Callable[[], object]) -> NDArray[np.float64]:
    """`(2,)`: FLOPs of the products and convolutions in a call, and bytes of all its operations.

    An argument that is overwritten in place counts twice, as it is read and written; those of
    `kernels` count once.

    Check: tests/book/test_bench.py, by hand.
    """
    # FLOPs are PyTorch's to count; bytes nobody counts
    counter = _ByteCounter()
    with FlopCounterMode(display=False) as flops, counter, _watch_kernels(counter):
        function()
    return np.array([flops.get_total_flops() + counter.flops, counter.total], dtype=float)


class _ByteCounter(TorchDispatchMode):
    """Sums the bytes of the tensors that operations read and write; a view touches none.

    `flops` are those of compiled loops.
    """

    total = 0
    flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # allocated memory is not touched yet
        if not func.is_view and "empty" not in func.overloadpacket.__name__:
            self.total += _count_bytes(func._schema.arguments, args, kwargs or {}, result)
        return result


def _count_bytes(schema: list[Any], args: tuple, kwargs: dict[str, Any], result: Any) -> int:
    """Bytes that an operation reads and writes.

    Args:
        schema: the operation's arguments, which say what it overwrites.
    """
    # arguments left at their defaults are no tensors
    positional = zip([argument.name for argument in schema], args, strict=False)
    values = {**dict(positional), **kwargs}
    changed = [each.name for each in schema if each.alias_info and each.alias_info.is_write]
    written = [values[name] for name in changed if name in values]
    # `out` is written only
    read = [value for name, value in values.items() if name != "out"]
    # in place, an operation returns what it has written
    known = {id(leaf) for leaf in tree_leaves(written)}
    new = [leaf for leaf in tree_leaves(result) if id(leaf) not in known]
    touched = [leaf for leaf in tree_leaves((read, written, new)) if isinstance(leaf, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in touched)


@contextmanager
def _watch_kernels(counter: _ByteCounter) -> Iterator[None]:
    """Count the compiled loops' FLOPs and the bytes of their arrays, which PyTorch does not see."""
    # a grid loads them when it first computes on a processor; a GPU needs neither them nor numba
    if timing.device() == "cpu":
        import_module(KERNELS)
    if KERNELS not in sys.modules:
        yield
        return
    from numba.extending import is_jitted

    kernels = sys.modules[KERNELS]
    # private ones run inside the others
    public = {name: value for name, value in vars(kernels).items() if not name.startswith("_")}
    compiled = {name: function for name, function in public.items() if is_jitted(function)}

    def count(name: str, *arrays: np.ndarray) -> Any:
        counter.total += sum(array.nbytes for array in arrays)
        counter.flops += kernels.count_flops(name, arrays)
        return compiled[name](*arrays)

    vars(kernels).update({name: partial(count, name) for name in compiled})
    try:
        yield
    finally:
        vars(kernels).update(compiled)


def measure_matmul(size: int) -> float:
    """FLOP/s of the best float32 product of two `(size, size)` matrices, in all threads."""
    # into memory that is there already: allocation is not arithmetic
    a, b, out = (torch.ones(size, size, device=timing.device()) for _ in range(3))
    return 2 * size**3 / _best_time("torch.mm(a, b, out=out)", a=a, b=b, out=out)


def measure_copy(mib: int) -> float:
    """Bytes read and written per second by the best copy of a tensor of `mib` MiB."""
    # 2¹⁸ floats are a MiB
    source = torch.ones(mib * 2**18, device=timing.device())
    target = torch.empty_like(source)
    # read once, written once
    moved = 2 * mib * 2**20
    return moved / _best_time("target.copy_(source)", source=source, target=target)


def _best_time(statement: str, **names: Tensor) -> float:
    timer = benchmark.Timer(statement, globals=names, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange(min_run_time=0.5).times)
