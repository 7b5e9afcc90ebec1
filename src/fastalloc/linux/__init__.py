"""What real kernels do, as data: slab layout, watermarks, masks. Nothing here imports Numba or what runs."""
