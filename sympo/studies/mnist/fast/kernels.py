"""Both convolutions with their pools on a processor, forwards and backwards, in compiled loops.

Forwards, 16 images at a time lie side by side, so that one vector instruction treats 16 (or 8) of
them (`correlate`). Each 5×5 kernel is computed at the four places of its pooling window, and
the pool takes the largest. 16 images, of one model, are carried through both layers before the next
are begun, and stay in a core's cache.

Backwards, three of the four places get no gradient, nor does any where the ReLU shut or the dropout
struck: multiplying by all of these zeros would be most of the work. So the loops go from one
winner to the next, image by image, and add its 5×5 window, scaled by its gradient, to the gradient
of the kernel, and the kernel to the gradient of the window (`add_scaled`). Here the six
channels of a pixel lie side by side, and a row of a window is 30 numbers in a row.

numba compiles a function at its first call and keeps the result beside this file, or in the user's
cache folder where it cannot write there (NUMBA_CACHE_DIR names another); where it can write to
neither, every process compiles anew. Compiled functions let go of the interpreter, so that models
train in parallel threads.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numpy.typing import NDArray

DEAD = 4  # no winner: the ReLU gives 0 and nothing flows back; one more than the last place

# Rows of numbers are padded to whole vectors. What a vector reads or adds beyond a row is either
# multiplied by 0 or never looked at.
PIXEL_ROW = 32  # of 28 pixels
MAP_ROW = 72  # of 12 pixels of 6 channels, not padded
MAP_SIZE = 12 * MAP_ROW + 8  # the last row of the last window ends two numbers behind the map
KERNEL1_ROW = 8  # of 5 weights
KERNEL2_ROW = 32  # of 5 weights for each of 6 channels

Floats = NDArray[np.floating]  # of single or double precision, all arguments the same
Bytes = NDArray[np.uint8]

# Sums may be reordered and products fused, so that loops become vector instructions. NaN and
# infinity stay as they are: a model that diverged must not look like one that did not.
_OPTIONS = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}}


def _compile(function: Callable[..., Any]) -> Any:
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder that numba can write to
        return njit(**_OPTIONS)(function)


# Two vector operations, from which the loops below are made. A compiled loop becomes vector
# instructions only where the compiler can prove that the array it writes does not overlap those it
# reads, and numba gives it no way to know; so the two innermost loops are written as what they
# should become. LLVM, the compiler behind numba, splits or joins these short vectors into whatever
# the processor has. They check no bounds, and take flat indices of contiguous arrays. They stand in
# this file because numba keeps what it compiled until the file of the compiled function changes.

# Ours: numbers per vector of `correlate`. Two registers of a processor with AVX2, so that with six
# channels its twelve sums fill the registers but for what it multiplies; one with AVX-512.
LANES = 16
TILE = LANES  # images that go through both layers together

# A multiplication and an addition may become one instruction, which rounds once.
_FUSED = ("contract",)


def _require_literal(value: types.Type, name: str) -> int:
    """The number that was written in the call: it decides which instructions are made."""
    if not isinstance(value, types.IntegerLiteral):
        raise TypingError(f"{name} has to be a number written in the call")
    return value.literal_value


def _data(context: Any, builder: ir.IRBuilder, array_type: types.Array, array: Any) -> ir.Value:
    """The pointer to an array's first number."""
    return context.make_array(array_type)(context, builder, array).data


def _vector_at(builder: ir.IRBuilder, data: ir.Value, index: ir.Value, lanes: int) -> ir.Value:
    """The pointer to `lanes` numbers from `index` on."""
    place = builder.gep(data, [index])
    return builder.bitcast(place, ir.VectorType(place.type.pointee, lanes).as_pointer())


def _repeat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """A vector of `lanes` times the same number."""
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, empty, places)


def _multiply_add(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    product = builder.fmul(a, b, flags=_FUSED)
    return builder.fadd(total, product, flags=_FUSED)


@intrinsic
def add_scaled(_, width, target, start, source, origin, scale):  # type: ignore[no-untyped-def]
    """target[start + k] += scale · source[origin + k] for k < width.

    Args:
        width: a number written in the call.
        target, source: arrays of one dtype.
        start, origin: flat indices into them.
        scale: a number of their dtype.
    Check: tests/studies/test_kernels.py, by NumPy.
    """
    lanes = _require_literal(width, "width")
    signature = types.void(width, target, types.intp, source, types.intp, target.dtype)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, target, start, source, origin, scale = arguments
        target_type, source_type = signature.args[1], signature.args[3]
        align = context.get_abi_sizeof(scale.type)
        to = _vector_at(builder, _data(context, builder, target_type, target), start, lanes)
        at = _vector_at(builder, _data(context, builder, source_type, source), origin, lanes)
        total = builder.load(to, align=align)
        added = builder.load(at, align=align)
        result = _multiply_add(builder, total, _repeat(builder, scale, lanes), added)
        builder.store(result, to, align=align)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def correlate(  # type: ignore[no-untyped-def]
    _, width, values, start, step, maps, corner, strides, weights, origin, channels
):
    """values[start + k·step + n] = Σ weights·maps, for k < width channels and n < `LANES` images.

    The sum is that of a 5×5 convolution at one position: over `channels` maps and over the 25
    numbers of each from `corner` on. All sums are kept in registers until they are complete.

    Args:
        width: a number written in the call.
        values, maps, weights: arrays of one dtype.
        start, corner, origin: flat indices into them; the weights are `(channels, 5, 5, width)`.
        step: between the sums of one channel and the next.
        strides: of the maps, `(channel, row, column)`; images are next to one another.
        channels: how many maps there are.
    Check: tests/studies/test_kernels.py, by PyTorch's conv2d.
    """
    sums = _require_literal(width, "width")
    index = types.intp
    signature = types.void(
        width, values, index, index, maps, index, types.UniTuple(index, 3), weights, index, index
    )

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, values, start, step, maps, corner, strides, weights, origin, channels = arguments
        to = _data(context, builder, signature.args[1], values)
        at = _data(context, builder, signature.args[4], maps)
        by = _data(context, builder, signature.args[7], weights)
        number = to.type.pointee
        align = context.get_abi_sizeof(number)
        channel_stride, row_stride, column_stride = cgutils.unpack_tuple(builder, strides, 3)

        def offset(base: ir.Value, count: int, stride: ir.Value) -> ir.Value:
            return builder.add(base, builder.mul(ir.Constant(stride.type, count), stride))

        # Variables that never leave this function: the compiler keeps them in registers.
        zero = ir.Constant(ir.VectorType(number, LANES), [0.0] * LANES)
        totals = [cgutils.alloca_once(builder, zero.type) for _ in range(sums)]
        for total in totals:
            builder.store(zero, total)
        with cgutils.for_range(builder, channels) as loop:
            first = builder.add(corner, builder.mul(loop.index, channel_stride))
            size = ir.Constant(loop.index.type, 25 * sums)
            weight = builder.add(origin, builder.mul(loop.index, size))
            for row in range(5):
                for column in range(5):
                    place = offset(offset(first, row, row_stride), column, column_stride)
                    pixels = builder.load(_vector_at(builder, at, place, LANES), align=align)
                    for k, total in enumerate(totals):
                        shift = ir.Constant(weight.type, (row * 5 + column) * sums + k)
                        value = builder.load(builder.gep(by, [builder.add(weight, shift)]))
                        factor = _repeat(builder, value, LANES)
                        fused = _multiply_add(builder, builder.load(total), factor, pixels)
                        builder.store(fused, total)
        for k, total in enumerate(totals):
            place = offset(start, k, step)
            builder.store(builder.load(total), _vector_at(builder, to, place, LANES), align=align)
        return context.get_dummy_value()

    return signature, generate


@_compile
def forward(
    images: Floats,
    weight1: Floats,
    bias1: Floats,
    weight2: Floats,
    bias2: Floats,
    masks: Floats,
    features: Floats,
    maps_kept: Floats,
    winners1_kept: Bytes,
    winners2_kept: Bytes,
) -> None:
    """The features of all images and models, and what `backward` needs.

    Args:
        images: `(28, 28, images)`.
        weight1: `(models, 1, 1, 5, 5, 6)`: blocks of channels, inputs, kernel, channels of a block.
        bias1: `(models, 6)`.
        weight2: `(models, 4, 6, 5, 5, 4)`, likewise.
        bias2: `(models, 16)`.
        masks: of dropout, `(256, images)`; without images, there is no dropout.
        features: `(models, images, 256)`, overwritten.
        maps_kept: `(models, images, MAP_SIZE)`, overwritten with the first layer's output; without
            images, nothing is kept.
        winners1_kept: `(models, images, 864)`, overwritten: which place won each pool.
        winners2_kept: `(models, images, 256)`, likewise for the second layer.
    Check: tests/studies/test_kernels.py, against PyTorch's layers.
    """
    size = images.shape[2]
    keep = maps_kept.shape[1] > 0
    drop = masks.shape[1] > 0
    tile = np.zeros((1, 28, 28 * TILE), images.dtype)
    pixels = tile.reshape(28, 28, TILE)
    # Every model and tile writes into the same few arrays, so that they never leave the cache.
    sums1 = np.empty((4, 6, 12 * TILE), images.dtype)
    maps = np.empty((6, 12, 12 * TILE), images.dtype)
    winners1 = np.empty((6, 12, 12 * TILE), np.uint8)
    sums2 = np.empty((4, 16, 4 * TILE), images.dtype)
    pooled = np.empty((16, 4, 4 * TILE), images.dtype)
    winners2 = np.empty((16, 4, 4 * TILE), np.uint8)
    mask = np.ones((256, TILE), images.dtype)
    for start in range(0, size, TILE):
        # The last tile may be short: what then stands behind its images is computed and dropped.
        count = min(TILE, size - start)
        for row in range(28):
            for column in range(28):
                for n in range(count):
                    pixels[row, column, n] = images[row, column, start + n]
        if drop:
            mask[:, :count] = masks[:, start : start + count]
        for model in range(len(weight1)):
            convolve(tile, weight1[model], bias1[model], sums1, maps, winners1)
            convolve(maps, weight2[model], bias2[model], sums2, pooled, winners2)
            by_feature = pooled.reshape(256, TILE)
            for feature in range(256):
                for n in range(count):
                    features[model, start + n, feature] = by_feature[feature, n] * mask[feature, n]
            if keep:
                _interleave(maps, maps_kept[model, start : start + count])
                _interleave(winners1, winners1_kept[model, start : start + count])
                _transpose(winners2.reshape(256, TILE), winners2_kept[model, start : start + count])


@_compile
def convolve(
    maps: Floats, weights: Floats, bias: Floats, sums: Floats, pooled: Floats, winners: Bytes
) -> None:
    """pooled[c] = ReLU(max over 2×2 of (weights ∗ maps)[c] + bias[c]), and which place won.

    Args:
        maps: `(inputs, rows, rows·TILE)`, the images of a pixel side by side.
        weights: `(blocks, inputs, 5, 5, width)`; channel c is number c % width of its block.
        bias: `(channels,)`.
        sums: `(4, channels, pooled rows·TILE)`, to work in.
        pooled: `(channels, pooled rows, pooled rows·TILE)`, overwritten.
        winners: as `pooled`, overwritten; `DEAD` where the ReLU gives 0.
    Check: tests/studies/test_kernels.py, by conv2d and max_pool2d.
    """
    inputs, height, row_stride = maps.shape
    blocks, _, _, _, width = weights.shape
    side = pooled.shape[1]
    strides = (height * row_stride, row_stride, TILE)
    flat_maps = maps.ravel()
    flat_weights = weights.ravel()
    flat_sums = sums.ravel()
    channel_step = sums.shape[2]
    block_step = inputs * 25 * width
    for y in range(side):
        for x in range(side):
            for block in range(blocks):
                for place in range(4):
                    corner = (2 * y + place // 2) * row_stride + (2 * x + place % 2) * TILE
                    channel = block * width
                    start = (place * sums.shape[1] + channel) * channel_step + x * TILE
                    origin = block * block_step
                    # The number of sums decides which instructions are made, so it is written out.
                    if width == 6:
                        correlate(
                            6, flat_sums, start, channel_step, flat_maps, corner, strides,
                            flat_weights, origin, inputs,
                        )  # fmt: skip
                    else:
                        correlate(
                            4, flat_sums, start, channel_step, flat_maps, corner, strides,
                            flat_weights, origin, inputs,
                        )  # fmt: skip
        for channel in range(len(bias)):
            places = (sums[0, channel], sums[1, channel], sums[2, channel], sums[3, channel])
            _pool_row(places, bias[channel], pooled[channel, y], winners[channel, y])


@_compile
def _pool_row(
    places: tuple[Floats, ...], bias: np.floating, pooled: Floats, winners: Bytes
) -> None:
    """The largest of four sums, plus the bias, through the ReLU, for a row of windows."""
    # The four are written out, so that the loop can become vector instructions.
    place0, place1, place2, place3 = places
    # Of the arrays' own precision: a plain 0.0 would turn single into double.
    zero = pooled.dtype.type(0)
    for p in range(len(pooled)):
        best = place0[p]
        winner = 0
        # The first largest wins, and so does NaN, which alone differs from itself, as in PyTorch.
        if place1[p] > best or place1[p] != place1[p]:
            best = place1[p]
            winner = 1
        if place2[p] > best or place2[p] != place2[p]:
            best = place2[p]
            winner = 2
        if place3[p] > best or place3[p] != place3[p]:
            best = place3[p]
            winner = 3
        # The bias is the same at all places, so the winner is known without it.
        best += bias
        if best <= 0:
            best = zero
            winner = DEAD
        pooled[p] = best
        winners[p] = winner


@_compile
def _interleave(maps: NDArray, rows: NDArray) -> None:
    """rows[n, (12y + x)·6 + c] = maps[c, y, x·TILE + n]: image by image, channels side by side."""
    for channel in range(6):
        for pixel in range(144):
            row = maps[channel, pixel // 12]
            for n in range(len(rows)):
                rows[n, pixel * 6 + channel] = row[pixel % 12 * TILE + n]


@_compile
def _transpose(columns: NDArray, rows: NDArray) -> None:
    """rows[n, k] = columns[k, n]."""
    for k in range(len(columns)):
        for n in range(len(rows)):
            rows[n, k] = columns[k, n]


@_compile
def backward(
    grad: Floats,
    images: Floats,
    weight2: Floats,
    masks: Floats,
    maps_kept: Floats,
    winners1_kept: Bytes,
    winners2_kept: Bytes,
    grad_weight1: Floats,
    grad_bias1: Floats,
    grad_weight2: Floats,
    grad_bias2: Floats,
) -> None:
    """Add the gradients of all models' weights and biases to what stands in the last four arrays.

    Args:
        grad: `(models, 256, images)`, of the features after dropout.
        images: `(28, 28, images)`.
        weight2: `(models, 16, 5·KERNEL2_ROW)`: rows of a kernel, columns and channels in them.
        masks: as for `forward`.
        maps_kept, winners1_kept, winners2_kept: of `forward`.
        grad_weight1: `(models, 6, 5·KERNEL1_ROW)`: rows of a kernel and columns in them.
        grad_bias1: `(models, 6)`.
        grad_weight2: as `weight2`.
        grad_bias2: `(models, 16)`.
    Check: tests/studies/test_kernels.py, by autograd through PyTorch's layers.
    """
    size = images.shape[2]
    pixels = np.zeros((TILE, 28 * PIXEL_ROW), images.dtype)
    by_image = np.empty((TILE, 256), images.dtype)
    mask = np.ones((TILE, 256), images.dtype)
    grad_maps = np.empty(MAP_SIZE, images.dtype)
    # Of one tile. Thousands of numbers are added up, and single precision wants them in portions.
    part1 = np.empty(6 * 5 * KERNEL1_ROW, images.dtype)
    part2 = np.empty(16 * 5 * KERNEL2_ROW, images.dtype)
    for start in range(0, size, TILE):
        count = min(TILE, size - start)
        for row in range(28):
            for column in range(28):
                for n in range(count):
                    pixels[n, row * PIXEL_ROW + column] = images[row, column, start + n]
        if masks.shape[1] > 0:
            _transpose(masks[:, start : start + count], mask[:count])
        for model in range(len(grad)):
            _transpose(grad[model, :, start : start + count], by_image[:count])
            by_image *= mask
            part1[:] = 0
            part2[:] = 0
            for n in range(count):
                _second_layer(
                    by_image[n],
                    winners2_kept[model, start + n],
                    maps_kept[model, start + n],
                    weight2[model].ravel(),
                    grad_maps,
                    part2,
                    grad_bias2[model],
                )
                _first_layer(
                    grad_maps, winners1_kept[model, start + n], pixels[n], part1, grad_bias1[model]
                )
            grad_weight1[model] += part1.reshape(6, -1)
            grad_weight2[model] += part2.reshape(16, -1)


@_compile
def _second_layer(
    grad: Floats,
    winners: Bytes,
    maps: Floats,
    weight: Floats,
    grad_maps: Floats,
    grad_weight: Floats,
    grad_bias: Floats,
) -> None:
    """The second layer's gradients for one image; overwrites `grad_maps`, adds to the others."""
    grad_maps[:] = 0
    for feature in range(256):
        winner = winners[feature]
        value = grad[feature]
        # A shut ReLU; or a unit that dropout struck.
        if winner == DEAD or value == 0:
            continue
        channel = feature // 16
        y = 2 * (feature // 4 % 4) + winner // 2
        x = 2 * (feature % 4) + winner % 2
        grad_bias[channel] += value
        for row in range(5):
            window = (y + row) * MAP_ROW + x * 6
            kernel = (channel * 5 + row) * KERNEL2_ROW
            add_scaled(KERNEL2_ROW, grad_maps, window, weight, kernel, value)
            add_scaled(KERNEL2_ROW, grad_weight, kernel, maps, window, value)


@_compile
def _first_layer(
    grad: Floats, winners: Bytes, pixels: Floats, grad_weight: Floats, grad_bias: Floats
) -> None:
    """Add the first layer's gradients for one image."""
    for pixel in range(144):
        for channel in range(6):
            winner = winners[pixel * 6 + channel]
            if winner == DEAD:
                continue
            value = grad[pixel * 6 + channel]
            y = 2 * (pixel // 12) + winner // 2
            x = 2 * (pixel % 12) + winner % 2
            grad_bias[channel] += value
            for row in range(5):
                kernel = (channel * 5 + row) * KERNEL1_ROW
                add_scaled(
                    KERNEL1_ROW, grad_weight, kernel, pixels, (y + row) * PIXEL_ROW + x, value
                )


def count_flops(name: str, arguments: Sequence[NDArray]) -> int:
    """FLOPs of `forward`, or of `backward`, with these arguments; 0 for any other function.

    A multiplication and an addition count as two.
    """
    if name == "forward":
        images, weights1 = arguments[:2]
        return 2 * len(weights1) * images.shape[2] * (6 * 25 * 24**2 + 16 * 150 * 8**2)
    if name == "backward":
        grad, masks, winners1, winners2 = (arguments[k] for k in (0, 3, 5, 6))
        alive = grad.mT != 0
        if masks.shape[1] > 0:
            alive = alive & (masks.T != 0)
        # A winner's window adds to the kernel, and in the second layer the kernel to the window.
        first = (winners1 != DEAD).sum() * 25
        second = ((winners2 != DEAD) & alive).sum() * 2 * 150
        return 2 * int(first + second)
    return 0
