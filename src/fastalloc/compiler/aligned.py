"""Arrays that begin on a cache line, so that a record of 64 bytes lies in one line, and that cost what is written.

A small array comes from the C library. It gives a large one memory that another array had before, as soon as it has
any, and clears all of it; so a large one is mapped afresh: a page of it is memory of the process once it is written.
"""

import mmap
from typing import Any

import numpy as np

LINE = 64
MAPPED = 1 << 15  # bytes from which on an array is mapped
_AFRESH = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}


def zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """``np.zeros`` that begins at a multiple of LINE bytes.

    Raises:
        MemoryError: there is no room.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size >= MAPPED:
        try:
            whole = np.frombuffer(mmap.mmap(-1, size, **_AFRESH), np.uint8)
        except OSError as error:
            raise MemoryError(f"{size} bytes") from error
    else:
        raw = np.zeros(size + LINE, np.uint8)
        begin = -raw.ctypes.data % LINE
        whole = raw[begin : begin + size]
    array: np.ndarray = whole.view(dtype).reshape(shape)
    return array


def copied(array: np.ndarray) -> np.ndarray:
    """A copy that, as the array itself, takes memory only for what is not 0."""
    copy = zeros(array.shape, array.dtype)
    if array.nbytes < MAPPED:
        copy[...] = array
        return copy
    given, taken = (np.frombuffer(each.reshape(-1).data, np.uint8) for each in (array, copy))
    full = array.nbytes // mmap.PAGESIZE * mmap.PAGESIZE
    pages = given[:full].view(np.int64).reshape(-1, mmap.PAGESIZE // 8)
    written = np.flatnonzero(pages.any(axis=1))
    taken[:full].view(np.int64).reshape(pages.shape)[written] = pages[written]
    taken[full:] = given[full:]
    return copy
