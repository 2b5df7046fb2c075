"""A stand-in for CUDA's graphs that a processor can run."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def storages(tree) -> dict:
    """Every piece of memory in `tree`, by its identity."""
    return {
        t.untyped_storage()._cdata: t.untyped_storage()
        for t in tree_leaves(tree)
        if isinstance(t, torch.Tensor)
    }


class Tape(TorchDispatchMode):
    """What a CUDA graph does: recording changes no memory, and a replay repeats the operations on
    the same memory.

    A replay calls no Python of the recorded function, so a number that this computes stays what it
    was. Streams and the memory that graphs share are CUDA's own, and only the tests marked `cuda`
    see them.
    """

    def __init__(self):
        super().__init__()
        self.operations = []
        self.saved = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        # whose schema hides the running statistics
        if func._schema.is_mutable or "batch_norm" in str(func):
            for key, storage in storages((args, kwargs)).items():
                self.saved.setdefault(key, (storage, storage.clone()))
        result = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, result))
        return result

    def __exit__(self, *error):
        super().__exit__(*error)
        for storage, value in self.saved.values():
            storage.copy_(value)

    def pool(self):
        return None

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, recorded in self.operations:
            result = func(*args, **kwargs)
            inputs = storages((args, kwargs))
            for place, value in zip(tree_leaves(recorded), tree_leaves(result), strict=True):
                if isinstance(place, torch.Tensor) and place.untyped_storage()._cdata not in inputs:
                    place.copy_(value)
