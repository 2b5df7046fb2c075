"""The compiled loops against PyTorch's convolutions, pools and autograd, in both precisions."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import njit
from torch.nn import functional

from sympo.studies.mnist.fast import kernels

TOLERANCES = {np.float32: {"rtol": 1e-4, "atol": 1e-4}, np.float64: {"rtol": 1e-11, "atol": 1e-11}}


def stand_in(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_add_scaled_adds_a_multiple_and_touches_nothing_else(dtype):
    @njit
    def add(target, source, scale):
        kernels.add_scaled(8, target, 3, source, 1, scale)
        kernels.add_scaled(32, target, 20, source, 7, scale)

    target = stand_in(60, dtype)
    source = stand_in(60, dtype, seed=1)
    expected = target.copy()
    scale = dtype(0.5)
    add(target, source, scale)
    expected[3:11] += scale * source[1:9]
    expected[20:52] += scale * source[7:39]
    np.testing.assert_allclose(target, expected, **TOLERANCES[dtype])
    np.testing.assert_array_equal(
        target[[0, 1, 2, 11, 19, 52, 59]], expected[[0, 1, 2, 11, 19, 52, 59]]
    )


def test_a_width_that_is_not_written_in_the_call_is_refused():
    @njit
    def add(width, target):
        kernels.add_scaled(width, target, 0, target, 0, 1.0)

    with pytest.raises(Exception, match="width has to be a number written in the call"):
        add(8, np.ones(8))


# Few values: windows tie often, and NaN is among them.
KERNELS = arrays(np.float32, (6, 25), elements=st.sampled_from([-1.0, 0.0, 0.5]))
PIXELS = arrays(
    np.float32, (28, 28), elements=st.sampled_from([0.0, 0.0, 0.25, 1.0, np.nan]), fill=st.just(0.0)
)
BIAS = arrays(np.float32, 6, elements=st.sampled_from([-2.0, 0.0, 0.25]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(weights=KERNELS, pixels=PIXELS, bias=BIAS)
def test_convolve_equals_conv2d_and_max_pool2d(dtype, weights, pixels, bias):
    """With sums that are exact, so that ties are ties on both sides."""
    weights, pixels, bias = (array.astype(dtype) for array in (weights, pixels, bias))
    images = np.stack([np.roll(pixels, shift, 1) for shift in range(kernels.TILE)], 2)
    sums = np.empty((4, 6, 12 * kernels.TILE), dtype)
    pooled = np.empty((6, 12, 12 * kernels.TILE), dtype)
    winners = np.empty(pooled.shape, np.uint8)
    blocks = np.ascontiguousarray(weights.reshape(1, 6, 1, 5, 5).transpose(0, 2, 3, 4, 1))
    kernels.convolve(images.reshape(1, 28, -1), blocks, bias, sums, pooled, winners)

    inputs = torch.from_numpy(images).permute(2, 0, 1)[:, None]
    values = functional.conv2d(inputs, torch.from_numpy(weights).view(6, 1, 5, 5))
    values = functional.relu(values + torch.from_numpy(bias)[:, None, None])
    expected, places = functional.max_pool2d(values, 2, return_indices=True)
    by_image = pooled.reshape(6, 12, 12, -1).transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(by_image, expected)
    # PyTorch's index in the map, as the number of the place in its window.
    rows, columns = places // 24 % 2, places % 2
    won = torch.where(expected == 0, kernels.DEAD, 2 * rows + columns)
    finite = ~expected.isnan()
    ours = torch.from_numpy(winners.reshape(6, 12, 12, -1).transpose(3, 0, 1, 2).astype(np.int64))
    torch.testing.assert_close(ours[finite], won[finite])


def pass_both_ways(images, masks, weight1, bias1, weight2, bias2, grad, keep=True):
    """Features and, if they are kept, gradients, by the compiled loops."""
    models, count, dtype = len(weight1), images.shape[2], images.dtype
    kept = count if keep else 0
    features = np.empty((models, count, 256), dtype)
    maps = np.zeros((models, kept, kernels.MAP_SIZE), dtype)
    winners1 = np.empty((models, kept, 864), np.uint8)
    winners2 = np.empty((models, kept, 256), np.uint8)
    blocks1 = np.ascontiguousarray(
        weight1.reshape(models, 1, 6, 1, 5, 5).transpose(0, 1, 3, 4, 5, 2)
    )
    blocks2 = np.ascontiguousarray(
        weight2.reshape(models, 4, 4, 6, 5, 5).transpose(0, 1, 3, 4, 5, 2)
    )
    kernels.forward(
        images, blocks1, bias1, blocks2, bias2, masks, features, maps, winners1, winners2
    )
    if not keep:
        return features
    rows = np.zeros((models, 16, 5, kernels.KERNEL2_ROW), dtype)
    rows[..., :30] = weight2.transpose(0, 1, 3, 4, 2).reshape(models, 16, 5, 30)
    sums1 = np.zeros((models, 6, 5 * kernels.KERNEL1_ROW), dtype)
    sums2 = np.zeros((models, 16, 5 * kernels.KERNEL2_ROW), dtype)
    sums = (sums1, np.zeros((models, 6), dtype), sums2, np.zeros((models, 16), dtype))
    kernels.backward(
        grad, images, rows.reshape(models, 16, -1), masks, maps, winners1, winners2, *sums
    )
    first = sums1.reshape(models, 6, 5, -1)[..., :5]
    second = sums2.reshape(models, 16, 5, -1)[..., :30].reshape(models, 16, 5, 5, 6)
    return features, first, sums[1], second.transpose(0, 1, 4, 2, 3), sums[3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize("count", [1, 16, 21])  # less than a tile, one, and one with a rest
def test_forward_and_backward_equal_autograd(dtype, count, dropout):
    models = 2
    images = np.random.default_rng(0).random((28, 28, count)).astype(dtype)
    shapes = ((models, 6, 1, 5, 5), (models, 6), (models, 16, 6, 5, 5), (models, 16))
    parameters = [stand_in(shape, dtype, seed) / 4 for seed, shape in enumerate(shapes)]
    grad = stand_in((models, 256, count), dtype, seed=9)
    masks = np.empty((256, 0), dtype)
    if dropout:
        masks = 1.25 * (np.random.default_rng(1).random((256, count)) > 0.2).astype(dtype)
    ours = pass_both_ways(images, masks, *parameters, grad)
    for model in range(models):
        tensors = [torch.from_numpy(each[model]).requires_grad_() for each in parameters]
        weight1, bias1, weight2, bias2 = tensors
        hidden = torch.from_numpy(images).permute(2, 0, 1)[:, None]
        hidden = functional.max_pool2d(
            functional.relu(functional.conv2d(hidden, weight1, bias1)), 2
        )
        hidden = functional.max_pool2d(
            functional.relu(functional.conv2d(hidden, weight2, bias2)), 2
        )
        features = hidden.flatten(1)
        if dropout:
            features = features * torch.from_numpy(masks.T)
        features.backward(torch.from_numpy(grad[model].T.copy()))
        expected = [features.detach(), weight1.grad[:, 0], bias1.grad, weight2.grad, bias2.grad]
        for value, reference in zip(ours, expected, strict=True):
            np.testing.assert_allclose(value[model], reference, **TOLERANCES[dtype])
    # Where nothing flows back, nothing is kept, and the features are the same.
    alone = pass_both_ways(images, masks, *parameters, grad, keep=False)
    np.testing.assert_array_equal(alone, ours[0])


def test_flops_of_the_backward_pass_are_those_of_the_winners():
    winners1 = np.full((1, 3, 864), kernels.DEAD, np.uint8)
    winners2 = np.full((1, 3, 256), kernels.DEAD, np.uint8)
    grad = np.ones((1, 256, 3), np.float32)
    masks = np.ones((256, 3), np.float32)
    arguments = [grad, None, None, masks, None, winners1, winners2]
    assert kernels.count_flops("backward", arguments) == 0
    winners1[0, 1, :2] = 0
    winners2[0, 2, 5] = 3
    winners2[0, 0, 7] = 1
    winners2[0, 0, 9] = 2
    grad[0, 7, 0] = 0
    masks[9, 0] = 0
    assert kernels.count_flops("backward", arguments) == 2 * (2 * 25 + 2 * 150)


@pytest.mark.slow
def test_compiled_code_is_kept_where_the_user_says(tmp_path):
    shutil.copy(kernels.__file__, tmp_path)
    code = """if True:
        import numpy as np
        import kernels
        maps = np.ones((1, 28, 28 * kernels.TILE))
        weights = np.ones((1, 1, 5, 5, 6))
        sums = np.empty((4, 6, 12 * kernels.TILE))
        pooled = np.empty((6, 12, 12 * kernels.TILE))
        kernels.convolve(maps, weights, np.zeros(6), sums, pooled, pooled.astype(np.uint8))
        assert (pooled == 25).all()
    """
    folders = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-B", "-c", code], env={**os.environ, **folders}, check=True)
    assert list((tmp_path / "cache").rglob("kernels.convolve*"))
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.slow
def test_where_nothing_can_be_kept_every_process_compiles(tmp_path):
    shutil.copy(kernels.__file__, tmp_path)
    code = """if True:
        from numba.core import caching
        # the folders that numba tries, none of which can be written to
        caching.CompileResultCacheImpl._locator_classes = []
        import numpy as np
        import kernels
        values = np.zeros(2)
        kernels._compile(lambda values: values.fill(1.0))(values)
        assert (values == 1).all()
    """
    folders = {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-B", "-c", code], env={**os.environ, **folders}, check=True)
    assert not (tmp_path / "__pycache__").exists()
