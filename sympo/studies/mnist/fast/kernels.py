"""The passes between the matrix products of `mnist`'s convolutions on a processor, each one loop
over its data.

Every function writes into arrays it is given and releases the interpreter, so that models train in
parallel threads. numba compiles them at the first call and keeps the result beside this file, or in
the user's cache folder where it cannot write there (NUMBA_CACHE_DIR names another); one of them
must be writable.

A pool takes the maximum of four shifts; its winner is the first largest one, as in PyTorch, or
`DEAD` where the ReLU after it gives 0 and nothing flows back.
"""

import numpy as np
from numba import njit

DEAD = 4  # no shift: one more than the last

# Sums may be reordered and products fused, so that loops become vector instructions; NaN and
# infinity stay as they are.
_compile = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})


@_compile
def extract(images, patches):
    """patches[i, j, sy, sx, y, x, n] = images[4y + 2sy + i, 4x + 2sx + j, n]: the 6×6 patch of each
    pooled position.

    Args:
        images: `(28, 28, images)`.
        patches: `(6, 6, 2, 2, 6, 6, images)` in any order of memory, overwritten.
    Check: tests/test_kernels.py, by PyTorch's unfold.
    """
    for sy, sx in np.ndindex(2, 2):
        for y, x in np.ndindex(6, 6):
            for i, j in np.ndindex(6, 6):
                source, target = (
                    images[4 * y + 2 * sy + i, 4 * x + 2 * sx + j],
                    patches[i, j, sy, sx, y, x],
                )
                for n in range(len(source)):
                    target[n] = source[n]


@_compile
def pool(values, bias, pooled, winners):
    """pooled[c, p] = ReLU(maxₛ values[s, c, p] + bias[c]), and which shift s won; NaN wins, as in
    PyTorch.

    Args:
        values: `(4, channels, positions)`.
        bias: `(channels,)`.
        pooled: `(channels, positions)`, overwritten.
        winners: as `pooled`, uint8, overwritten.
    Check: tests/test_kernels.py, by PyTorch's max_pool2d.
    """
    _, channels, positions = values.shape
    zero = values.dtype.type(0)
    for channel in range(channels):
        shift, out, winner = bias[channel], pooled[channel], winners[channel]
        v0, v1, v2, v3 = (
            values[0, channel],
            values[1, channel],
            values[2, channel],
            values[3, channel],
        )
        for p in range(positions):
            best, index = v0[p], 0
            if v1[p] > best or v1[p] != v1[p]:
                best, index = v1[p], 1
            if v2[p] > best or v2[p] != v2[p]:
                best, index = v2[p], 2
            if v3[p] > best or v3[p] != v3[p]:
                best, index = v3[p], 3
            best += shift
            if best <= 0:
                best, index = zero, DEAD
            out[p] = best
            winner[p] = index


@_compile
def route(grad, winners, routed, bias):
    """routed[s, c, p] = grad[c, p] where shift s won, else 0: the adjoint of `pool`; bias[c] += Σ
    over all of it.

    Args:
        grad: `(channels, positions)`.
        winners: `(channels, positions)` of `pool`.
        routed: `(4, channels, positions)`, overwritten.
        bias: `(channels,)`, added to.
    Check: tests/test_kernels.py, by autograd through max_pool2d.
    """
    for channel in range(len(grad)):
        rows = routed[0, channel], routed[1, channel], routed[2, channel], routed[3, channel]
        bias[channel] += _route_row(grad[channel], winners[channel], rows)


@_compile
def _route_row(grad, winner, routed):
    """`route` for one channel: fills the four rows of `routed`, and returns the sum."""
    r0, r1, r2, r3 = routed
    zero = grad.dtype.type(0)
    total = zero
    for p in range(len(grad)):
        w, g = winner[p], grad[p]
        r0[p] = g if w == 0 else zero
        r1[p] = g if w == 1 else zero
        r2[p] = g if w == 2 else zero
        r3[p] = g if w == 3 else zero
        total += g if w != DEAD else zero
    return total


@_compile
def unfold(maps, columns):
    """columns[i, j, m, y, x] = maps[m, y + i, x + j]: the 3×3 windows at the 4×4 positions of 6×6
    maps.

    Args:
        maps: `(maps, 6, 6·images)`, the images of a position side by side.
        columns: `(3, 3, maps, 4, 4·images)`, overwritten.
    Check: tests/test_kernels.py, by slices.
    """
    images = maps.shape[2] // 6
    for m in range(maps.shape[0]):
        for y in range(6):
            row = maps[m, y]
            for i in range(max(0, y - 3), min(3, y + 1)):
                for j in range(3):
                    source, target = row[j * images : (j + 4) * images], columns[i, j, m, y - i]
                    for p in range(4 * images):
                        target[p] = source[p]


@_compile
def fold_and_route(columns, winners, row, routed, bias):
    """`route` of the adjoint of `unfold`: each gradient of a window goes back to its map, and on to
    the winning shift.

    Args:
        columns: `(3, 3, 4·channels, 4, 4·images)`; each channel is four maps.
        winners: `(4·channels, 6, 6·images)` of `pool`.
        row: `(6·images,)`, to work in.
        routed: `(4, 4·channels, 6, 6·images)`, overwritten.
        bias: `(channels,)`, added to.
    Check: tests/test_kernels.py, by autograd through slices.
    """
    maps, images = columns.shape[2], columns.shape[4] // 4
    for m in range(maps):
        for y in range(6):
            row[:] = 0
            for i in range(max(0, y - 3), min(3, y + 1)):
                for j in range(3):
                    source, target = columns[i, j, m, y - i], row[j * images : (j + 4) * images]
                    for p in range(4 * images):
                        target[p] += source[p]
            rows = routed[0, m, y], routed[1, m, y], routed[2, m, y], routed[3, m, y]
            bias[m // 4] += _route_row(row, winners[m, y], rows)
