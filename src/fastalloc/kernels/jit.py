"""The one decorator of every kernel: compiled once for all configurations, without the GIL, cached on disk."""

from numba import njit

kernel = njit(nogil=True, cache=True, error_model="numpy")
