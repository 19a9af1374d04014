"""Pictures against shapes sampled 40 times finer in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from rlx.envs import arm, raster

SIZE, HALF = 16, 0.4
PIXEL = 2 * HALF / SIZE
FINE = 40


def fine_points():
    """Points [SIZE, SIZE, FINE^2, 2] inside each pixel, row 0 at the top."""
    edge = (np.arange(SIZE * FINE) + 0.5) / (SIZE * FINE) * 2 * HALF - HALF
    x, y = np.meshgrid(edge, -edge)
    points = np.stack([x, y], -1).reshape(SIZE, FINE, SIZE, FINE, 2)
    return points.transpose(0, 2, 1, 3, 4).reshape(SIZE, SIZE, FINE**2, 2)


def covered(inside):
    return inside(fine_points()).mean(-1)


def drawn(distance):
    image = np.zeros((SIZE, SIZE, 3))
    return np.asarray(raster.paint(image, distance, (1.0, 0.5, 0.0), PIXEL))


def test_grid_is_the_centres_of_pixels_with_the_top_first():
    points = np.asarray(raster.grid(SIZE, HALF))
    np.testing.assert_allclose(points, fine_points().mean(2), atol=1e-6)
    assert points[0, 0, 1] > 0 > points[0, 0, 0]


@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.113, -0.07), (0.39, 0.39)])
def test_a_disc_covers_pixels_as_a_finely_sampled_one(centre):
    centre, radius = np.array(centre), 0.15
    want = covered(lambda p: np.linalg.norm(p - centre, axis=-1) < radius)
    got = drawn(raster.disc(raster.grid(SIZE, HALF), centre, radius))
    assert np.abs(got[..., 0] - want).max() < 0.12  # a rim across a pixel is not straight
    np.testing.assert_allclose(got[..., 0].sum(), want.sum(), rtol=0.02)
    np.testing.assert_allclose(got[..., 1], got[..., 0] / 2, atol=1e-6)


@pytest.mark.parametrize("end", [(0.2, 0.1), (-0.3, 0.0), (0.05, 0.05)])
def test_a_link_covers_pixels_as_a_finely_sampled_one(end):
    start, end, radius = np.array([-0.1, -0.2]), np.array(end), 0.06

    def inside(points):
        way = end - start
        share = np.clip((points - start) @ way / (way @ way), 0, 1)
        return np.linalg.norm(points - start - share[..., None] * way, axis=-1) < radius

    got = drawn(raster.link(raster.grid(SIZE, HALF), start, end, radius))[..., 0]
    assert np.abs(got - covered(inside)).max() < 0.2
    np.testing.assert_allclose(got.sum(), covered(inside).sum(), rtol=0.08)


def test_a_link_of_no_length_is_a_disc():
    points, centre = raster.grid(SIZE, HALF), np.array([0.1, 0.1])
    np.testing.assert_allclose(
        raster.link(points, centre, centre, 0.1), raster.disc(points, centre, 0.1), atol=1e-6
    )


def test_an_edge_along_the_pixels_is_exact():
    """A half plane at a distance d: the share of the pixel on its side."""
    x = np.asarray(raster.grid(SIZE, HALF))[..., 0]
    for edge in (0.0, 0.013, -0.31):
        want = covered(lambda p: p[..., 0] < edge)
        np.testing.assert_allclose(drawn(x - edge)[..., 0], want, atol=0.5 / FINE + 1e-6)


def test_the_second_shape_lies_on_top_and_bytes_are_rounded():
    image = raster.paint(np.zeros((1, 1, 3)), np.array([[-1.0]]), (0.2, 0.2, 0.2), 1.0)
    image = raster.paint(image, np.array([[0.25]]), (1.0, 0.0, 0.5), 1.0)  # a quarter covered
    np.testing.assert_allclose(image[0, 0], [0.4, 0.15, 0.275], atol=1e-6)
    np.testing.assert_array_equal(raster.to_bytes(image)[0, 0], [102, 38, 70])


def test_the_picture_of_the_arm_moves_with_it():
    discs = np.array([[0.1, 0.1], [-0.1, 0.1], [0.1, -0.1]])
    scene = arm.Scene(discs, np.int32(0), None)
    empty = np.asarray(arm.picture(np.array([0.0, np.pi]), scene))  # folded to the right
    right = np.asarray(arm.picture(np.array([0.0, 0.0]), scene))
    up = np.asarray(arm.picture(np.array([np.pi / 2, 0.0]), scene))
    column = lambda x: int((x + 0.26) / 0.52 * 32)  # noqa: E731
    row = lambda y: int((0.26 - y) / 0.52 * 32)  # noqa: E731
    assert right[row(0.0), column(0.2)].max() < 200 < empty[row(0.0), column(0.2)].min()
    assert up[row(0.2), column(0.0)].max() < 200 < right[row(0.2), column(0.0)].min()
    with_puck = scene.replace(puck=np.array([-0.1, -0.1]))
    assert np.asarray(arm.picture(np.zeros(2), with_puck))[row(-0.1), column(-0.1)].max() < 30
