"""Resizing and colours against closed forms, the warp against where it sends a blob."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from rlx.ops import augment as ops


@pytest.mark.parametrize(
    ("shape", "frame", "inner"),
    [((40, 80), (32, 32), (16, 32)), ((30, 10), (6, 6), (6, 2)), ((4, 4), (8, 16), (8, 8))],
)
def test_resize_keeps_the_aspect_and_pads_with_black(shape, frame, inner):
    image = np.full((*shape, 3), 0.5, np.float32)
    out = np.asarray(ops.resize_with_pad(image, *frame))
    top, left = ((f - n) // 2 for f, n in zip(frame, inner))
    want = np.zeros((*frame, 3))
    want[top : top + inner[0], left : left + inner[1]] = 0.5
    np.testing.assert_allclose(out, want, atol=1e-6)


def test_resize_of_the_right_size_is_the_image_and_halving_averages():
    image = np.float32(np.random.default_rng(0).random((8, 8, 3)))
    np.testing.assert_array_equal(ops.resize_with_pad(image, 8, 8), image)
    half = np.asarray(ops.resize_with_pad(image, 4, 4))
    assert abs(half.mean() - image.mean()) < 0.02
    ramp = np.tile(np.linspace(0, 1, 8, dtype=np.float32)[:, None, None], (1, 8, 3))
    inner = np.asarray(ops.resize_with_pad(ramp, 4, 4))[1:3, 0, 0]
    np.testing.assert_allclose(inner, ramp[:, 0, 0].reshape(4, 2).mean(1)[1:3], atol=1e-3)


def blob(size, at):
    row, column = np.mgrid[:size, :size]
    return np.exp(-((row - at[0]) ** 2 + (column - at[1]) ** 2) / 8.0)[..., None]


def centre(image):
    row, column = np.mgrid[: image.shape[0], : image.shape[1]]
    w = image[..., 0] / image.sum()
    return np.array([(w * row).sum(), (w * column).sum()])


@pytest.mark.parametrize("degrees", [0.0, 5.0, -5.0])
@pytest.mark.parametrize("offset", [(0.025, 0.025), (0.0, 0.05)])
def test_the_warp_moves_a_blob_as_the_equations_say(degrees, offset):
    size, at = 64, np.array([20.0, 40.0])
    out = np.asarray(ops.warp(np.float32(blob(size, at)), np.array(offset), np.deg2rad(degrees)))
    a, middle = np.deg2rad(degrees), (size - 1) / 2
    resized = (at + 0.5 - np.array(offset) * size) / ops.CROP - 0.5  # in the resized crop
    y, x = resized - middle
    want = np.array([np.cos(a) * y + np.sin(a) * x, -np.sin(a) * y + np.cos(a) * x]) + middle
    np.testing.assert_allclose(centre(out), want, atol=0.05)


def test_crops_and_angles_stay_in_their_ranges_and_black_comes_from_outside_only():
    image = np.ones((32, 32, 3), np.float32)
    out = np.asarray(
        jax.vmap(lambda k: ops.shaken(k, image))(jax.random.split(jax.random.key(0), 64))
    )
    assert out.min() >= 0 and out.max() <= 1 + 1e-6
    np.testing.assert_allclose(out[:, 8:24, 8:24], 1.0, atol=1e-5)  # 5 degrees reach corners only
    assert (out[:, 0, 0, 0] < 1).any()


def test_recolour_against_numpy_and_the_neutral_factors():
    image = np.float32(np.random.default_rng(1).random((5, 4, 3)))
    luma = np.array(ops.LUMA)
    b, c, s = 1.2, 0.7, 1.4
    x = np.clip(image * b, 0, 1)
    x = np.clip((x @ luma).mean() + c * (x - (x @ luma).mean()), 0, 1)
    x = np.clip((x @ luma)[..., None] + s * (x - (x @ luma)[..., None]), 0, 1)
    np.testing.assert_allclose(ops.recolour(image, np.float32([b, c, s])), x, atol=1e-5)
    np.testing.assert_allclose(ops.recolour(image, np.ones(3, np.float32)), image, atol=1e-6)
    grey = np.asarray(ops.recolour(image, np.float32([1, 1, 0])))
    np.testing.assert_allclose(grey[..., 0], grey[..., 2], atol=1e-6)


def test_a_wrist_camera_does_not_move():
    image = np.zeros((16, 16, 3), np.float32)
    image[8, 8] = 0.5
    key = jax.random.key(3)
    held, moved = (np.asarray(ops.augment(key, image, move)) for move in (False, True))
    assert np.count_nonzero(held.sum(-1)) == 1  # the point stays where it is
    assert np.count_nonzero(moved.sum(-1)) > 1  # and is spread by the interpolation
