"""A simulator of the Linux kernel's memory-allocation path under pressure."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastalloc import explain, report, sweep, trace
    from fastalloc.api import caches, compare, frontier, policies, replay, run, scenarios
    from fastalloc.errors import InputError
    from fastalloc.explain.answer import Answer
    from fastalloc.replayed import Replay, Trace
    from fastalloc.runner import rerun
    from fastalloc.scenario import Machine, Scenario, import_machine, load_policy, load_scenario
    from fastalloc.store import Dataset, open_dataset

__all__ = [
    "Answer",
    "Dataset",
    "InputError",
    "Machine",
    "Replay",
    "Scenario",
    "Trace",
    "caches",
    "compare",
    "explain",
    "frontier",
    "import_machine",
    "load_policy",
    "load_scenario",
    "open_dataset",
    "policies",
    "replay",
    "report",
    "rerun",
    "run",
    "scenarios",
    "sweep",
    "trace",
]

_HOMES = {
    "Answer": "fastalloc.explain.answer",
    "Dataset": "fastalloc.store",
    "InputError": "fastalloc.errors",
    "Machine": "fastalloc.scenario",
    "Replay": "fastalloc.replayed",
    "Scenario": "fastalloc.scenario",
    "Trace": "fastalloc.replayed",
    "caches": "fastalloc.api",
    "compare": "fastalloc.api",
    "frontier": "fastalloc.api",
    "import_machine": "fastalloc.scenario",
    "load_policy": "fastalloc.scenario",
    "load_scenario": "fastalloc.scenario",
    "open_dataset": "fastalloc.store",
    "policies": "fastalloc.api",
    "replay": "fastalloc.api",
    "rerun": "fastalloc.runner",
    "run": "fastalloc.api",
    "scenarios": "fastalloc.api",
}
_CALLED = ("explain", "report", "sweep", "trace")  # packages that can be called


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for, so that ``import fastalloc`` costs nothing."""
    if name == "__version__":
        from importlib.metadata import version

        return version("fastalloc")
    if name in _CALLED:
        return import_module(f"fastalloc.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'fastalloc' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
