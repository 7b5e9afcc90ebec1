"""Machines read from real kernels: /proc and slab sysfs, live, dumped or pasted, and reports of failed allocations."""

from fastalloc.scenario.imports.assemble import import_machine
from fastalloc.scenario.imports.zoneinfo import write_zoneinfo

__all__ = ["import_machine", "write_zoneinfo"]
