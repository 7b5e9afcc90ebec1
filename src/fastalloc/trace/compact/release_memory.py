"""Memory that was freed goes back to the system: allocators keep it, and a trace would need it twice."""

import ctypes
import sys

import pyarrow as pa


def give_back() -> None:
    """Give back what Arrow and the C library keep for later [malloc_trim(3), where there is one]."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


__all__ = ["give_back"]
