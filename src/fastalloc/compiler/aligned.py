"""Arrays that begin on a cache line: a record of 64 bytes lies in one line, not in two."""

from typing import Any

import numpy as np

LINE = 64


def zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """``np.zeros`` that begins at a multiple of LINE bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + LINE, np.uint8)
    begin = -raw.ctypes.data % LINE
    array: np.ndarray = raw[begin : begin + size].view(dtype).reshape(shape)
    return array
