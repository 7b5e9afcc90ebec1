"""What runs: Numba kernels over flat integer arrays, one module per subsystem, named as Linux names it."""
