"""Images on the host, in NumPy: brought to one size before they reach a model."""

from __future__ import annotations

import numpy as np


def fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return `image` uint8 [h, w, 3] scaled, its proportions kept, into the middle of a black
    [height, width, 3].
    """
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    from PIL import Image

    scale = min(height / h, width / w)
    new_h, new_w = max(1, round(h * scale)), max(1, round(w * scale))
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - new_h) // 2, (width - new_w) // 2
    small = Image.fromarray(image).resize((new_w, new_h), Image.Resampling.BILINEAR)
    out[top : top + new_h, left : left + new_w] = np.asarray(small)
    return out
