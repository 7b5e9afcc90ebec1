"""The one decorator of every kernel: compiled once for all configurations, without the GIL, cached on disk."""

import fastalloc.kernels.cache_dir  # noqa: F401 - it names the cache folder before numba is imported

from numba import njit  # isort: skip

kernel = njit(nogil=True, cache=True, error_model="numpy")
