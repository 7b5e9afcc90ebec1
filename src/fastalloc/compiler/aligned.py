"""Arrays that begin on a cache line, so that a record of 64 bytes lies in one line, and that cost what is written.

A small array comes from the C library. It gives a large one memory that another array had before, as soon as it has
any, and clears all of it; so a large one is mapped afresh: a page of it is memory of the process once it is written.
"""

import mmap
from typing import Any, NamedTuple

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


class Packed(NamedTuple):
    """A large array without its pages of zeros."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    written: np.ndarray  # numbers of the pages that are not 0
    pages: np.ndarray  # int64[written, words of a page]: these
    rest: np.ndarray  # uint8: what is behind the last whole page

    @property
    def nbytes(self) -> int:
        """Of what is kept."""
        return self.written.nbytes + self.pages.nbytes + self.rest.nbytes


def packed(array: np.ndarray) -> Packed:
    """What is not 0 of an array of MAPPED bytes or more, by pages."""
    pages, rest = _by_pages(array)
    written = np.flatnonzero(pages.any(axis=1))
    return Packed(array.shape, array.dtype, written, pages[written], rest.copy())


def unpacked(kept: Packed) -> np.ndarray:
    """The array, which takes memory only for what is not 0."""
    array = zeros(kept.shape, kept.dtype)
    pages, rest = _by_pages(array)
    pages[kept.written] = kept.pages
    rest[:] = kept.rest
    return array


def copied(array: np.ndarray) -> np.ndarray:
    """A copy that, as the array itself, takes memory only for what is not 0."""
    copy = zeros(array.shape, array.dtype)
    if array.nbytes < MAPPED:
        copy[...] = array
        return copy
    (given, behind), (taken, rest) = _by_pages(array), _by_pages(copy)
    written = np.flatnonzero(given.any(axis=1))
    taken[written] = given[written]
    rest[:] = behind
    return copy


def _by_pages(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An array's whole pages, and the bytes behind them."""
    whole = np.frombuffer(array.reshape(-1).data, np.uint8)
    full = array.nbytes // mmap.PAGESIZE * mmap.PAGESIZE
    return whole[:full].view(np.int64).reshape(-1, mmap.PAGESIZE // 8), whole[full:]
