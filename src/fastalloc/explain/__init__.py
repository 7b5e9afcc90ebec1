"""Answers from the report that people have: a page allocation failure, an OOM, a SLUB or vmalloc line of any kernel.

The rules stand in :mod:`fastalloc.linux` as data; here a log is cleaned, the reports in it are found and read, the
kernel's own sum is done for each zone, and the answer is written as text, JSON or one HTML page.

``fastalloc.explain`` is the library call as well as this package: the module can be called.
"""

import sys
from types import ModuleType
from typing import Any

from fastalloc.explain.answer import Answer, explain

__all__ = ["Answer", "explain"]


class _Callable(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> list[Answer]:
        return explain(*args, **options)


sys.modules[__name__].__class__ = _Callable
