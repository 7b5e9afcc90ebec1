"""A simulator of the Linux kernel's memory-allocation path under pressure."""
