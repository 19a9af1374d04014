"""What we use of scipy.special, for the type checker: logsumexp without signs is one array.

Read off the library's source, it would be that or a pair of arrays.
"""

from typing import Any

def logsumexp(
    a: Any, axis: int | tuple[int, ...] | None = None, b: Any = None, keepdims: bool = False
) -> Any: ...
def __getattr__(name: str) -> Any: ...
