"""What we use of scipy.fft, for the type checker: a transform is an array.

Read off the library's source, it would be the array's dispatch, which a decorator replaces.
"""

from typing import Any

import numpy as np

def dct(x: Any, *, axis: int = -1, norm: str | None = None) -> np.ndarray: ...
def idct(x: Any, *, axis: int = -1, norm: str | None = None) -> np.ndarray: ...
def __getattr__(name: str) -> Any: ...
