"""SLUB as of 2.6.22 to 2.6.25: a list of partial slabs a node, a slab a CPU, and one order a cache."""
