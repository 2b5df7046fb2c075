"""Both convolutions of many models as matrix products, in PyTorch's operations.

Each layer of the network is a 5×5 convolution followed by a 2×2 max pool. Three ideas turn them
into a few large products:

- **A pooling window reads one 6×6 patch.** Its four outputs are the kernel at four shifts, and the
  four together read 6×6 inputs. So a patch is a column of 36 numbers, a kernel is four rows, one
  for each shift and 0 where the shift leaves the patch, and the pool is a maximum over the four
  rows of the product. The products have 36/25 of the multiplications, but a quarter of the
  columns: 144 patches of 36 numbers for an image in place of 576 of 25.
- **Models share patches.** The models of a seed see the same images, so the patches of the first
  layer are extracted once for all of them.
- **Images are the last axis** of every tensor. A shift, a pool or a norm then moves or reads a
  whole row of images at once, which is contiguous memory.

`fast.tiles` computes the same on a processor, where it is several times as fast. This module knows
nothing of numba and is all that a GPU needs.
"""

import torch
from torch import Tensor
from torch.nn import functional


def expand_first(weight: Tensor) -> Tensor:
    """Kernels `(models, 6, 1, 5, 5)` → `(models, 24, 36)`: each at its four shifts in a patch."""
    # models, shift, out, 1, row, column
    shifted = torch.stack(_shift_kernels(weight), 1)
    return shifted.flatten(3).flatten(1, 2)


def expand_second(weight: Tensor) -> Tensor:
    """Kernels `(models, 16, 6, 5, 5)` → `(models, 64, 216)`, in the order of `extract_columns`.

    The second layer's input lies in four maps per channel, one for each parity of row and column
    (`extract_patches` says why), so a 6×6 patch of it is a 3×3 window of each of the four.
    """
    shifted = torch.stack(_shift_kernels(weight), 1)
    # models, shift, out, in, by, sy, bx, sx: row 2·by + sy and column 2·bx + sx of the patch
    blocks = shifted.unflatten(5, (3, 2)).unflatten(4, (3, 2))
    # models, (shift, out), (by, bx, in, sy, sx)
    return blocks.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(len(weight), 64, 216)


def _shift_kernels(weight: Tensor) -> list[Tensor]:
    """The 5×5 kernels at the four places that they can have in a 6×6 patch, row by row."""
    return [functional.pad(weight, (dx, 1 - dx, dy, 1 - dy)) for dy in (0, 1) for dx in (0, 1)]


def extract_patches(images: Tensor) -> Tensor:
    """`(seeds, 28, 28, images)` → `(seeds, 36, 144·images)`: the patch of each pooled position.

    There are 12×12 positions. Position (2·by + sy, 2·bx + sx) is stored as (sy, sx, by, bx), which
    splits the pooled map by the parity of its row and column. The windows of the second pool lie
    two positions apart, and so one apart in each of the four parts: the next layer finds its
    patches as plain 3×3 windows.
    """
    seed, row, column, image = images.stride()
    # Patches overlap, so they are a view with strides of its own: rows and columns inside a patch,
    # then parities (a pooled position is 2 pixels from the next), then positions of one parity.
    shape = (len(images), 6, 6, 2, 2, 6, 6, images.shape[3])
    strides = (seed, row, column, 2 * row, 2 * column, 4 * row, 4 * column, image)
    return images.as_strided(shape, strides, images.storage_offset()).reshape(len(images), 36, -1)


def extract_columns(maps: Tensor) -> Tensor:
    """`(models, 24, 6, 6, images)` → `(models, 3, 3, 24, 4, 4, images)`: 3×3 windows, a view.

    The 24 maps are the first layer's 6 channels, each in its four parts.
    """
    windows = maps.unfold(-3, 4, 1).unfold(-3, 4, 1)  # models, 24, 3, 3, images, 4, 4
    return windows.movedim(-6, -4).movedim(-3, -1)


def convolve(
    images: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """Both convolutions with their pools and ReLUs, for all models at once.

    Args:
        images: `(seeds, 28, 28, images)`; an equal share of the models, in their order, sees those
            of each seed.
        weight1: `(models, 24, 36)` of `expand_first`.
        bias1: `(models, 6)`.
        weight2: `(models, 64, 216)` of `expand_second`.
        bias2: `(models, 16)`.
    Returns:
        features `(models, 256, images)`.
    Check: tests/studies/test_mnist_grid.py, against the textbook's layers.
    """
    models = len(weight1)
    # The bias is the same at all four shifts, so it is added after the maximum: a quarter of the
    # work, and the same rounding. ReLU never decreases, so it may come
    # after the maximum too.
    values = weight1.reshape(len(images), -1, 36) @ extract_patches(images)
    maps = functional.relu(values.view(models, 4, 6, -1).max(1).values + bias1[:, :, None])

    columns = extract_columns(maps.view(models, 24, 6, 6, -1)).reshape(models, 216, -1)
    values = (weight2 @ columns).view(models, 4, 16, -1)
    features = functional.relu(values.max(1).values + bias2[:, :, None])
    return features.view(models, 256, -1)
