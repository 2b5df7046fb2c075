"""How much memory a GPU has left, for whatever is cut into parts that fit."""

import torch


def free_on_gpu() -> int:
    """Bytes free on this process's GPU, with those that PyTorch holds and does not use."""
    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return torch.cuda.mem_get_info()[0] + unused
