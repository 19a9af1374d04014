"""Images fitted into a size: proportions, margins, extremes."""

from __future__ import annotations

import numpy as np
import pytest

from rlx.ops.images_host import fit


@pytest.mark.parametrize("turned", [False, True])
def test_images_are_fitted_with_their_proportions_kept(turned):
    image = np.full((20, 10, 3) if turned else (10, 20, 3), 200, np.uint8)
    out = fit(image, 16, 16)
    out = out.transpose(1, 0, 2) if turned else out
    assert out.shape == (16, 16, 3)
    np.testing.assert_array_equal(out[4:12], 200)  # 8 rows of 16 by the ratio 2:1
    assert out[:4].max() == out[12:].max() == 0


def test_an_image_of_the_size_is_left_as_it_is():
    image = np.zeros((10, 20, 3), np.uint8)
    assert fit(image, 10, 20) is image


def test_a_line_stays_a_line():
    out = fit(np.full((1, 1000, 3), 255, np.uint8), 8, 8)
    assert out.shape == (8, 8, 3)
    assert (out.max((1, 2)) == 255).sum() == 1
