"""Real kernels booted in QEMU, recorded by the script, replayed, and held against their own counts."""
