"""A simulator of the Linux kernel's memory-allocation path under pressure."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastalloc.errors import InputError
    from fastalloc.explain.answer import Answer, explain
    from fastalloc.runner import compare, rerun, run
    from fastalloc.scenario import Machine, Scenario, import_machine, load_scenario
    from fastalloc.store import Dataset, open_dataset

__all__ = [
    "Answer",
    "Dataset",
    "InputError",
    "Machine",
    "Scenario",
    "compare",
    "explain",
    "import_machine",
    "load_scenario",
    "open_dataset",
    "rerun",
    "run",
]

_HOMES = {
    "Answer": "fastalloc.explain.answer",
    "Dataset": "fastalloc.store",
    "InputError": "fastalloc.errors",
    "Machine": "fastalloc.scenario",
    "Scenario": "fastalloc.scenario",
    "compare": "fastalloc.runner",
    "import_machine": "fastalloc.scenario",
    "load_scenario": "fastalloc.scenario",
    "open_dataset": "fastalloc.store",
    "rerun": "fastalloc.runner",
    "run": "fastalloc.runner",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for, so that ``import fastalloc`` costs nothing."""
    if name == "explain":  # the package itself, which can be called
        return import_module("fastalloc.explain")
    if name not in _HOMES:
        raise AttributeError(f"module 'fastalloc' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
