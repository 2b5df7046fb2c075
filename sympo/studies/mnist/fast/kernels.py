"""What `tiles` does between its matrix products, each pass one compiled loop over its data.

PyTorch would need several operations for each of these, and every operation reads and writes all of
its data once. Every function here writes into arrays that its caller owns and releases the
interpreter, so that models train in parallel threads.

numba compiles a function at its first call and keeps the result beside this file, or in the user's
cache folder where it cannot write there (NUMBA_CACHE_DIR names another); one of them must be
writable.

A pool takes the maximum of four shifts (see `convolutions`). Its winner is the first largest one,
as in PyTorch, or `DEAD` where the ReLU after it gives 0 and nothing flows back.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

DEAD = 4  # no shift: one more than the last

Floats = NDArray[np.floating]  # of single or double precision, all arguments the same
Bytes = NDArray[np.uint8]

# Sums may be reordered and products fused, so that loops become vector instructions. NaN and
# infinity stay as they are: a model that diverged must not look like one that did not.
_compile = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})


@_compile
def extract(images: Floats, patches: Floats) -> None:
    """patches[i, j, sy, sx, y, x, n] = images[4y + 2sy + i, 4x + 2sx + j, n]: all 6×6 patches.

    Args:
        images: `(28, 28, images)`.
        patches: `(6, 6, 2, 2, 6, 6, images)` in any order of memory, overwritten; `(i, j)` is the
            pixel, the rest the pooled position, in the order of `convolutions.extract_patches`.
    Check: tests/studies/test_kernels.py, by PyTorch's unfold.
    """
    # Pixels innermost but for the images: a patch's pixels then come from few lines of the cache.
    for sy, sx in np.ndindex(2, 2):
        for y, x in np.ndindex(6, 6):
            for i, j in np.ndindex(6, 6):
                source = images[4 * y + 2 * sy + i, 4 * x + 2 * sx + j]
                target = patches[i, j, sy, sx, y, x]
                for n in range(len(source)):
                    target[n] = source[n]


@_compile
def pool(values: Floats, bias: Floats, pooled: Floats, winners: Bytes) -> None:
    """pooled[c, p] = ReLU(maxₛ values[s, c, p] + bias[c]), and which shift s won.

    NaN wins, as in PyTorch.

    Args:
        values: `(4, channels, positions)`.
        bias: `(channels,)`.
        pooled: `(channels, positions)`, overwritten.
        winners: as `pooled`, uint8, overwritten.
    Check: tests/studies/test_kernels.py, by PyTorch's max_pool2d.
    """
    _, channels, positions = values.shape
    # Of the arrays' own precision: a plain 0.0 would turn single into double.
    zero = values.dtype.type(0)
    for channel in range(channels):
        offset = bias[channel]
        out = pooled[channel]
        winner = winners[channel]
        # The four shifts are written out, so that the loop over positions is the innermost one and
        # can become vector instructions.
        shift0 = values[0, channel]
        shift1 = values[1, channel]
        shift2 = values[2, channel]
        shift3 = values[3, channel]
        for p in range(positions):
            best = shift0[p]
            index = 0
            # Only NaN differs from itself.
            if shift1[p] > best or shift1[p] != shift1[p]:
                best = shift1[p]
                index = 1
            if shift2[p] > best or shift2[p] != shift2[p]:
                best = shift2[p]
                index = 2
            if shift3[p] > best or shift3[p] != shift3[p]:
                best = shift3[p]
                index = 3
            # The bias is the same for all shifts, so the winner is known without it.
            best += offset
            if best <= 0:
                best = zero
                index = DEAD
            out[p] = best
            winner[p] = index


@_compile
def route(grad: Floats, winners: Bytes, routed: Floats, bias: Floats) -> None:
    """routed[s, c, p] = grad[c, p] where shift s won, else 0: the adjoint of `pool`.

    The gradient of the bias is the sum over all of it: bias[c] += Σₛₚ routed[s, c, p].

    Args:
        grad: `(channels, positions)`.
        winners: `(channels, positions)` of `pool`.
        routed: `(4, channels, positions)`, overwritten.
        bias: `(channels,)`, added to.
    Check: tests/studies/test_kernels.py, by autograd through max_pool2d.
    """
    for channel in range(len(grad)):
        rows = (routed[0, channel], routed[1, channel], routed[2, channel], routed[3, channel])
        bias[channel] += _route_row(grad[channel], winners[channel], rows)


@_compile
def _route_row(grad: Floats, winner: Bytes, routed: tuple[Floats, ...]) -> np.floating:
    """`route` for one channel: fills the four rows of `routed`, and returns the sum."""
    shift0, shift1, shift2, shift3 = routed
    zero = grad.dtype.type(0)
    total = zero
    for p in range(len(grad)):
        won = winner[p]
        value = grad[p]
        shift0[p] = value if won == 0 else zero
        shift1[p] = value if won == 1 else zero
        shift2[p] = value if won == 2 else zero
        shift3[p] = value if won == 3 else zero
        total += value if won != DEAD else zero
    return total


@_compile
def unfold(maps: Floats, columns: Floats) -> None:
    """columns[i, j, m, y, x] = maps[m, y + i, x + j]: the 3×3 windows of 6×6 maps.

    Args:
        maps: `(maps, 6, 6·images)`, the images of a position side by side.
        columns: `(3, 3, maps, 4, 4·images)`, overwritten.
    Check: tests/studies/test_kernels.py, by slices.
    """
    images = maps.shape[2] // 6
    for m in range(maps.shape[0]):
        for y in range(6):
            row = maps[m, y]
            # Row y of a map is row i of the windows at y − i, which is one of four.
            for i in range(max(0, y - 3), min(3, y + 1)):
                for j in range(3):
                    # Four positions side by side are one run of memory, images and all.
                    source = row[j * images : (j + 4) * images]
                    target = columns[i, j, m, y - i]
                    for p in range(4 * images):
                        target[p] = source[p]


@_compile
def fold_and_route(
    columns: Floats, winners: Bytes, row: Floats, routed: Floats, bias: Floats
) -> None:
    """The adjoint of `unfold`, then `route`: from windows back to maps and to the winning shifts.

    One loop does both, so that a row of maps is still in the cache when it is routed.

    Args:
        columns: `(3, 3, 4·channels, 4, 4·images)`; each channel is four maps.
        winners: `(4·channels, 6, 6·images)` of `pool`.
        row: `(6·images,)`, to work in.
        routed: `(4, 4·channels, 6, 6·images)`, overwritten.
        bias: `(channels,)`, added to.
    Check: tests/studies/test_kernels.py, by autograd through slices.
    """
    images = columns.shape[4] // 4
    for m in range(columns.shape[2]):
        for y in range(6):
            # The windows overlap: a row of a map gets the sum of what its windows got.
            row[:] = 0
            for i in range(max(0, y - 3), min(3, y + 1)):
                for j in range(3):
                    source = columns[i, j, m, y - i]
                    target = row[j * images : (j + 4) * images]
                    for p in range(4 * images):
                        target[p] += source[p]
            rows = (routed[0, m, y], routed[1, m, y], routed[2, m, y], routed[3, m, y])
            bias[m // 4] += _route_row(row, winners[m, y], rows)
