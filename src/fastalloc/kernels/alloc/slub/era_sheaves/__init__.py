"""SLUB as of 6.18: caches that ask have sheaves, arrays of objects a CPU, above the slabs of era_cpu_partial."""
