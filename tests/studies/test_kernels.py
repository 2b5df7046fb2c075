"""The compiled loops against PyTorch's pooling, unfolding and autograd, in both precisions."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional

from sympo.studies.mnist.fast import kernels

# Few values: windows tie often, and NaN is among them.
VALUES = arrays(np.float32, (4, 3, 20), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, np.nan]))
BIAS = arrays(np.float32, 3, elements=st.sampled_from([-2.0, 0.0, 0.25]))


def pool_by_torch(values, bias):
    """ReLU and max_pool2d of windows `(3, 20, 2, 2)`."""
    windows = functional.relu(values.permute(1, 2, 0) + bias[:, None, None]).unflatten(2, (2, 2))
    return functional.max_pool2d(windows, 2)[:, :, 0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None)  # the first call compiles
@given(
    values=VALUES,
    bias=BIAS,
    grad=arrays(np.float32, (3, 20), elements=st.sampled_from([-1.0, 0.5, 3.0])),
)
def test_pool_and_route_equal_max_pool2d(dtype, values, bias, grad):
    values, bias, grad = (array.astype(dtype) for array in (values, bias, grad))
    pooled = np.empty((3, 20), dtype)
    winners = np.empty((3, 20), np.uint8)
    kernels.pool(values, bias, pooled, winners)
    inputs = [torch.from_numpy(array).requires_grad_() for array in (values, bias)]
    expected = pool_by_torch(*inputs)
    np.testing.assert_array_equal(pooled, expected.detach())
    if np.isnan(values).any():
        return  # what flows back through NaN is nobody's definition
    routed = np.empty_like(values)
    bias_sums = np.ones(3, dtype)
    kernels.route(grad, winners, routed, bias_sums)
    expected.backward(torch.from_numpy(grad))
    np.testing.assert_array_equal(routed, inputs[0].grad)
    np.testing.assert_allclose(bias_sums, 1 + inputs[1].grad.numpy())  # added to what was there


def window_maps(maps):
    """The 3×3 windows `(3, 3, maps, 4, 4·images)` of `(maps, 6, 6, images)`, by slices."""
    windows = [maps[:, i : i + 4, j : j + 4].flatten(2) for i in range(3) for j in range(3)]
    return torch.stack(windows).unflatten(0, (3, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("images", [1, 7])
def test_unfold_and_its_adjoint_equal_slices(dtype, images):
    generator = np.random.default_rng(0)
    maps = generator.normal(size=(8, 6, 6 * images)).astype(dtype)
    columns = np.empty((3, 3, 8, 4, 4 * images), dtype)
    kernels.unfold(maps, columns)
    tensor = torch.from_numpy(maps).view(8, 6, 6, images).requires_grad_()
    windows = window_maps(tensor)
    np.testing.assert_array_equal(columns, windows.detach())

    grad = generator.normal(size=columns.shape).astype(dtype)
    windows.backward(torch.from_numpy(grad))
    folded = tensor.grad.view(8, 6, 6 * images).numpy()
    winners = generator.integers(0, kernels.DEAD + 1, maps.shape, dtype=np.uint8)
    routed = np.empty((4, *maps.shape), dtype)
    bias_sums = np.ones(2, dtype)
    kernels.fold_and_route(grad, winners, np.empty(6 * images, dtype), routed, bias_sums)
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype is np.float32 else 1e-12}
    for shift in range(4):
        np.testing.assert_allclose(
            routed[shift], np.where(winners == shift, folded, 0), **tolerance
        )
    # four maps are a channel
    alive = np.where(winners < kernels.DEAD, folded, 0).reshape(2, -1).sum(1)
    np.testing.assert_allclose(bias_sums, 1 + alive, rtol=1e-5, atol=tolerance["atol"] * 100)


@pytest.mark.parametrize("pixels_last", [False, True])
def test_patches_equal_unfolded_images(pixels_last):
    images = np.random.default_rng(0).normal(size=(28, 28, 3))
    patches = np.empty((36, 4, 36, 3))
    if pixels_last:
        patches = np.moveaxis(np.empty((4, 36, 3, 36)), 3, 0)
    kernels.extract(images, patches.reshape(6, 6, 2, 2, 6, 6, 3, copy=False))
    # image, pixel, place
    unfolded = functional.unfold(torch.from_numpy(images).permute(2, 0, 1)[:, None], 6, stride=2)
    expected = unfolded.view(3, 36, 6, 2, 6, 2).permute(1, 3, 5, 2, 4, 0)  # place = (y, sy, x, sx)
    np.testing.assert_array_equal(patches.reshape(36, 2, 2, 6, 6, 3), expected)


@pytest.mark.slow
def test_compiled_code_is_kept_where_the_user_says(tmp_path):
    shutil.copy(kernels.__file__, tmp_path)
    code = """if True:
        import numpy as np
        import kernels
        windows = np.zeros((3, 3, 1, 4, 4))
        kernels.unfold(np.ones((1, 6, 6)), windows)
        assert windows.all()
    """
    folders = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-B", "-c", code], env={**os.environ, **folders}, check=True)
    assert list((tmp_path / "cache").rglob("kernels.unfold*"))
    assert not (tmp_path / "__pycache__").exists()
