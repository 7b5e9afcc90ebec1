"""Which memory of a process an array takes."""

import mmap

import numpy as np


def resident(array: np.ndarray) -> int:
    """Bytes of the pages of an array that are in memory [Documentation/admin-guide/mm/pagemap.rst, bit 63]."""
    first, end = array.ctypes.data // mmap.PAGESIZE, -(-(array.ctypes.data + array.nbytes) // mmap.PAGESIZE)
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(first * 8)
        words = np.frombuffer(file.read((end - first) * 8), np.uint64)
    return int((words >> np.uint64(63)).sum()) * mmap.PAGESIZE
