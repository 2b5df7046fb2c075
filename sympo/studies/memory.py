"""How much memory a GPU has left, for whatever is cut into parts that fit."""

import torch

from sympo.studies import progress


def free_on_gpu() -> int:
    """Bytes free on this process's GPU, with those that PyTorch holds and does not use.

    Where SYMPO_GPU_SHARDS says that n processes share the GPU, each has 1/n of it: what the others
    do not hold yet is theirs all the same.

    Check: tests/studies/test_training.py::test_shards_on_one_gpu_divide_its_memory.
    """
    free, total = torch.cuda.mem_get_info()
    allocated = torch.cuda.memory_allocated()
    unused = torch.cuda.memory_reserved() - allocated
    share = total // progress.read_count("SYMPO_GPU_SHARDS", default=1, least=1)
    return max(min(free + unused, share - allocated), 0)
