"""Packages that can be called: ``fastalloc.sweep`` is the room of that name and the library call as well."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def can_be_called(package: str, home: str, function: str) -> None:
    """Makes ``package`` pass calls on to ``function`` of ``home``, which is imported at the first one."""

    class Callable(ModuleType):
        def __call__(self, *args: Any, **options: Any) -> Any:
            return getattr(import_module(home), function)(*args, **options)

    sys.modules[package].__class__ = Callable
