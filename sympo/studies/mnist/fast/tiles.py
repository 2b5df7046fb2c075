"""Both convolutions on a processor, as one operation of autograd: `kernels` on PyTorch's tensors.

Importing this module imports numba.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sympo.studies.mnist.fast import kernels

# Memory for what a step keeps for its backward pass: by models, images and dtype, what no step
# uses now. A step of the laptop profile keeps 50 MiB. Memory of that size goes back to the system
# when it is freed, and to get it again page by page took a tenth of a step's time.
Spare = dict[tuple[int, int, torch.dtype], list[tuple[Tensor, Tensor, Tensor]]]


class TiledConvolve(torch.autograd.Function):
    """Both convolutions with their pools and ReLUs, and dropout, for the images of one seed.

    Args:
        images: `(28, 28, images)`, without a gradient.
        masks: of dropout on the features, `(256, images)`, or None.
        weight1: `(models, 6, 1, 5, 5)`.
        bias1: `(models, 6)`.
        weight2: `(models, 16, 6, 5, 5)`.
        bias2: `(models, 16)`.
        spare: memory that other steps have used, and that this one may use; the backward pass puts
            its own there.
    Returns:
        features `(models, 256, images)`.
    Check: tests/studies/test_mnist_grid.py, against the textbook's layers and their gradients.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        masks: Tensor | None,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        spare: Spare,
    ) -> Tensor:
        """Features; keeps each layer's winners, and the first layer's output."""
        models = len(weight1)
        # Nothing is kept where nothing flows back. (Under no_grad a weight still says that it needs
        # a gradient: an evaluation has to detach it.)
        kept = images.shape[2] if any(ctx.needs_input_grad) else 0
        maps, winners1, winners2 = _take(spare, models, kept, images.dtype)
        masks = images.new_empty(256, 0) if masks is None else masks.contiguous()
        # Image by image: the features of a tile are then a piece of memory.
        features = images.new_empty(models, images.shape[2], 256)
        kernels.forward(
            images.contiguous().numpy(),
            _block_channels(weight1, 6).numpy(),
            bias1.numpy(),
            _block_channels(weight2, 4).numpy(),
            bias2.numpy(),
            masks.numpy(),
            features.numpy(),
            maps.numpy(),
            winners1.numpy(),
            winners2.numpy(),
        )
        ctx.save_for_backward(images, masks, weight2, maps, winners1, winners2)
        ctx.spare = spare
        return features.mT

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the weights and biases.

        Raises:
            RuntimeError: a second backward pass, whose memory another step may have by now.
        """
        (grad,) = grads  # of the one output
        spare, ctx.spare = ctx.spare, None
        if spare is None:
            raise RuntimeError("these convolutions have one backward pass: repeat the forward pass")
        images, masks, weight2, maps, winners1, winners2 = ctx.saved_tensors
        models = len(weight2)
        # Rows of kernels as `kernels` wants them: columns, with the channels of each side by side.
        rows2 = weight2.permute(0, 1, 3, 4, 2).flatten(3)
        rows2 = functional.pad(rows2, (0, kernels.KERNEL2_ROW - 30)).flatten(2)
        sums1 = grad.new_zeros(models, 6, 5 * kernels.KERNEL1_ROW)
        sums2 = torch.zeros_like(rows2)
        bias1 = grad.new_zeros(models, 6)
        bias2 = grad.new_zeros(models, 16)
        kernels.backward(
            grad.contiguous().numpy(),
            images.contiguous().numpy(),
            rows2.numpy(),
            masks.numpy(),
            maps.numpy(),
            winners1.numpy(),
            winners2.numpy(),
            sums1.numpy(),
            bias1.numpy(),
            sums2.numpy(),
            bias2.numpy(),
        )
        weight1 = sums1.unflatten(2, (5, -1))[:, :, None, :, :5]
        weight2 = sums2.unflatten(2, (5, -1))[..., :30].unflatten(3, (5, 6)).permute(0, 1, 4, 2, 3)
        key = (models, maps.shape[1], maps.dtype)
        spare.setdefault(key, []).append((maps, winners1, winners2))
        return None, None, weight1, bias1, weight2, bias2, None


def _take(
    spare: Spare, models: int, images: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for the first layer's output and for both layers' winners, used or new."""
    if waiting := spare.get((models, images, dtype)):
        return waiting.pop()
    return (
        # What pads a row is read, multiplied by 0, and never written.
        torch.zeros(models, images, kernels.MAP_SIZE, dtype=dtype),
        torch.empty(models, images, 864, dtype=torch.uint8),
        torch.empty(models, images, 256, dtype=torch.uint8),
    )


def _block_channels(weight: Tensor, width: int) -> Tensor:
    """`(models, out, in, 5, 5)` → `(models, out/width, in, 5, 5, width)`."""
    return weight.unflatten(1, (-1, width)).movedim(2, -1).contiguous()
