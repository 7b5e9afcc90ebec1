"""The layout of slab caches under a kernel's rules: of one size, and of a table as posted. Starts without Numba."""
