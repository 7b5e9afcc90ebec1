"""Machines read from real kernels: /proc and slab sysfs, live, dumped or pasted, and reports of failed allocations."""

from fastalloc.scenario.imports.assemble import import_machine

__all__ = ["import_machine"]
