"""Both convolutions on a processor: `convolutions.convolve` in pieces that stay in a core's cache.

Over all images at once every pass would wait for memory: at 512 pairs the first layer's products
alone take 14 MB a model. So one model and `CPU_TILE` images are carried through both layers before
the next are begun. The matrix products are PyTorch's, the passes between them those of `kernels`.

Importing this module imports numba.
"""

from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sympo.studies.mnist.fast import kernels

CPU_TILE = 32  # ours: images whose convolutions, of one model, stay in a core's own cache


class _Tape(NamedTuple):
    """What the backward pass needs of a tile; the rest it computes again, which is faster.

    Attributes:
        maps: `(models, 24, 6, 6·images)`, the first layer's output.
        winners1: as `maps`, which shift won each pool of the first layer.
        winners2: `(models, 16, 16·images)`, the same of the second layer.
    """

    maps: NDArray
    winners1: NDArray[np.uint8]
    winners2: NDArray[np.uint8]


class _Layers(NamedTuple):
    """Both layers' weights and biases, or gradients of them, one model after the other.

    The weights are tensors, which products read and write; the biases arrays, for the kernels.
    """

    weight1: tuple[Tensor, ...]
    bias1: NDArray
    weight2: tuple[Tensor, ...]
    bias2: NDArray

    @classmethod
    def unbind(cls, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Self:
        return cls(weight1.unbind(), bias1.numpy(), weight2.unbind(), bias2.numpy())


class TiledConvolve(torch.autograd.Function):
    """`convolve(images, weight1, bias1, weight2, bias2)` for the images of one seed.

    Args:
        images: `(28, 28, images)`, without a gradient.
        weight1, bias1, weight2, bias2: as for `convolutions.convolve`.
    Returns:
        features `(models, 256, images)`.
    Check: tests/studies/test_mnist_grid.py, against the textbook's layers and their gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
    ) -> Tensor:
        """Features of all tiles; keeps a tape of each."""
        # The first layer's weights are not kept: nothing flows back beyond them, to the images.
        ctx.save_for_backward(images, weight2)
        ctx.tapes = []
        features = images.new_empty(len(weight1), 256, images.shape[2])
        layers = _Layers.unbind(weight1, bias1, weight2, bias2)
        for tile, part in zip(_split(images), _split(features), strict=True):
            pooled, tape = _convolve_tile(tile, layers)
            # A tile's images are a stripe of every row of the features, hence a copy.
            part.copy_(torch.from_numpy(pooled).view(part.shape))
            ctx.tapes.append(tape)
        return features

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the weights and biases, summed over the tiles."""
        (grad,) = grads  # of the one output
        images, weight2 = ctx.saved_tensors
        models = len(weight2)
        sums = [grad.new_zeros(models, *shape) for shape in ((24, 36), (6,), (64, 216), (16,))]
        # Views, through which every tile adds to the same four sums.
        layers = _Layers.unbind(*sums)
        transposed2 = weight2.mT.unbind()
        for tile, part, tape in zip(_split(images), _split(grad), ctx.tapes, strict=True):
            _add_gradients(tile, part, tape, transposed2, layers)
        return None, *sums


def _split(tensor: Tensor) -> tuple[Tensor, ...]:
    """Views of `CPU_TILE` images each, the last axis."""
    return tensor.split(CPU_TILE, 2)


def _convolve_tile(tile: Tensor, layers: _Layers) -> tuple[NDArray, _Tape]:
    """Features `(models, 16, 16·images)` of one tile, model after model, and its tape."""
    models = len(layers.weight1)
    size = tile.shape[2]
    # Every model writes into the same few arrays, so that they never leave the cache.
    patches = _allocate(tile, 36, 144)
    values1 = _allocate(tile, 24, 144)
    columns = _allocate(tile, 216, 16)
    values2 = _allocate(tile, 64, 16)
    maps = _allocate(tile, models, 6, 144).numpy()
    pooled = _allocate(tile, models, 16, 16).numpy()
    winners1 = np.empty(maps.shape, np.uint8)
    winners2 = np.empty(pooled.shape, np.uint8)

    # The kernels' view of the same memory.
    shifts1 = values1.view(4, 6, -1).numpy()
    shifts2 = values2.view(4, 16, -1).numpy()
    windows = columns.view(3, 3, 24, 4, -1).numpy()

    # Once for all models, which see the same images.
    kernels.extract(tile.contiguous().numpy(), patches.view(6, 6, 2, 2, 6, 6, size).numpy())
    for model in range(models):
        # First layer: 24 rows are 4 shifts of 6 channels, and the pool leaves 6 of them.
        torch.mm(layers.weight1[model], patches, out=values1)
        kernels.pool(shifts1, layers.bias1[model], maps[model], winners1[model])
        # Second layer: the same with 4 shifts of 16 channels, at 16 positions.
        kernels.unfold(maps[model].reshape(24, 6, -1), windows)
        torch.mm(layers.weight2[model], columns, out=values2)
        kernels.pool(shifts2, layers.bias2[model], pooled[model], winners2[model])

    # Six channels in four parts are 24 maps of 6×6.
    parts = (models, 24, 6, -1)
    return pooled, _Tape(maps.reshape(parts), winners1.reshape(parts), winners2)


def _add_gradients(
    tile: Tensor, grad: Tensor, tape: _Tape, transposed2: tuple[Tensor, ...], sums: _Layers
) -> None:
    """Add one tile's gradients to `sums`, model after model.

    Args:
        grad: `(models, 256, images)`, with respect to the features of the tile.
        transposed2: the second layer's weights `(216, 64)` of each model.
    """
    models = len(transposed2)
    size = tile.shape[2]
    # Here a patch is a row: the last product below is then twice as fast.
    patches = _allocate(tile, 36, 144).view(-1, 36)
    routed1 = _allocate(tile, 24, 144)
    columns = _allocate(tile, 216, 16)
    routed2 = _allocate(tile, 64, 16)
    row = np.empty_like(tape.maps[0, 0, 0])

    # The kernels' view of the same memory.
    places = patches.view(2, 2, 6, 6, size, 6, 6).permute(5, 6, 0, 1, 2, 3, 4).numpy()
    shifts1 = routed1.view(4, 24, 6, -1).numpy()
    shifts2 = routed2.view(4, 16, -1).numpy()
    windows = columns.view(3, 3, 24, 4, -1).numpy()
    gradients = grad.reshape(models, 16, -1).numpy()

    kernels.extract(tile.contiguous().numpy(), places)
    for model in range(models):
        # Backwards through the second pool: all of a gradient goes to the shift that won.
        kernels.route(gradients[model], tape.winners2[model], shifts2, sums.bias2[model])
        # The second product, with respect to its weights (whose columns are extracted again) …
        kernels.unfold(tape.maps[model], windows)
        torch.addmm(sums.weight2[model], routed2, columns.T, out=sums.weight2[model])
        # … and with respect to its columns, which go back to the maps and through the first pool.
        torch.mm(transposed2[model], routed2, out=columns)
        kernels.fold_and_route(windows, tape.winners1[model], row, shifts1, sums.bias1[model])
        torch.addmm(sums.weight1[model], routed1, patches, out=sums.weight1[model])


def _allocate(tile: Tensor, *shape: int) -> Tensor:
    """An uninitialised tensor of `shape`, its last size times the images of `tile`."""
    return tile.new_empty(*shape[:-1], shape[-1] * tile.shape[2])
