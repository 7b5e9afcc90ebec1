"""The allocator of Linux 2.6.25-rc8 in plain Python, written to be read: the second opinion on the kernels."""
