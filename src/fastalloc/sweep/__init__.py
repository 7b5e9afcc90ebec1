"""Sweeps: axes and samplers to points, points to tasks, tasks to shards, and on from where it stopped."""

from fastalloc.called import can_be_called
from fastalloc.sweep.expand import Plan, Point, plan_sweep
from fastalloc.sweep.model import SweepFile, load_sweep
from fastalloc.sweep.run import SweepProgress, plan_into, run_sweep

__all__ = [
    "Plan",
    "Point",
    "SweepFile",
    "SweepProgress",
    "load_sweep",
    "plan_into",
    "plan_sweep",
    "run_sweep",
]

can_be_called(__name__, "fastalloc.api", "sweep")
