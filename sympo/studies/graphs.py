"""Steps as CUDA graphs: recorded once, then launched by one call.

A training step of the grid is a few hundred small kernels, and a token that a language model
samples some two thousand: a GPU finishes each sooner than Python can ask for the next. In a graph
there is no Python between them.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Shapes = tuple[torch.Size, ...]  # of the arguments

# Calls before a recording: they set up libraries and the optimiser's state, which a graph must not
# contain. The number is that of PyTorch's documentation.
WARM_UP = 3


class Replay:
    """A function that changes tensors in place, recorded as a CUDA graph after `WARM_UP` calls.

    There is one graph for each combination of argument shapes. A recording fixes the addresses of
    all tensors and every Python value, so the function must read no tensor's value, and what
    changes between calls must be in its arguments or in tensors that live on. It returns nothing.

    PyTorch has the graphs and their capture. Around them it has only `make_graphed_callables`,
    which covers the forward and backward pass and leaves the optimiser's step out.
    Check: tests/studies/test_graphs.py.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self._calls: Counter[Shapes] = Counter()
        self._recorded: dict[Shapes, tuple[torch.cuda.CUDAGraph, list[Tensor]]] = {}
        # Graphs that never run at once can share the memory of their intermediate results.
        self._pool: Any = None
        # Nothing can be recorded on the default stream. Warming up happens on the same one, since
        # freed memory is reused within a stream only.
        self._stream = torch.cuda.Stream()

    def __call__(self, *arguments: Tensor) -> None:
        """Call the function, record it, or launch what was recorded."""
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
        # The two streams wait for each other, as they would not by themselves.
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self.function(*arguments)
        current.wait_stream(self._stream)

    def _record(self, arguments: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
        """The graph, and the tensors from which it reads its arguments."""
        graph = torch.cuda.CUDAGraph()
        places = [argument.clone() for argument in arguments]
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            self.function(*places)
        self._pool = graph.pool()
        return graph, places
