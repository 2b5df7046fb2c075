"""Training steps as CUDA graphs: recorded once, then launched by one call, with no Python between
their kernels.
"""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

# calls before a recording, which set up libraries and the optimiser's state; PyTorch's
# documentation
WARM_UP = 3


class Replay:
    """A function of tensors that changes other tensors in place, recorded as a CUDA graph after
    `WARM_UP` calls.

    There is one graph for each combination of argument shapes. A recording fixes the addresses of
    all tensors and every Python value, so the function must read no tensor's value, and what
    changes between calls must be in its arguments or in tensors that live on. It returns nothing.

    PyTorch has the graphs and their capture, but only `make_graphed_callables` around them, which
    covers the forward and backward pass and leaves the optimiser's step out.
    Check: tests/test_capture.py.
    """

    def __init__(self, function: Callable[..., None]):
        self.function = function
        self._calls: Counter = Counter()
        self._recorded: dict = {}  # shapes → graph and the tensors that it reads its arguments from
        self._pool = None  # of memory; graphs that never run at once can share one
        # nothing can be recorded on the default one; memory is kept by stream
        self._stream = torch.cuda.Stream()

    def __call__(self, *arguments: Tensor) -> None:
        shapes = tuple(argument.shape for argument in arguments)
        self._calls[shapes] += 1
        if self._calls[shapes] <= WARM_UP:
            self._warm_up(arguments)
            return
        if shapes not in self._recorded:
            self._recorded[shapes] = self._record(arguments)
        graph, places = self._recorded[shapes]
        for place, argument in zip(places, arguments, strict=True):
            place.copy_(argument)
        graph.replay()

    def _warm_up(self, arguments: tuple[Tensor, ...]) -> None:
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self.function(*arguments)
        current.wait_stream(self._stream)

    def _record(self, arguments: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
        graph, places = torch.cuda.CUDAGraph(), [argument.clone() for argument in arguments]
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            self.function(*places)
        self._pool = graph.pool()
        return graph, places
