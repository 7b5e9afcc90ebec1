"""Answers from the report that people have: a page allocation failure, an OOM, a SLUB or vmalloc line of any kernel.

The rules stand in :mod:`fastalloc.linux` as data; here a log is cleaned, the reports in it are found and read, the
kernel's own sum is done for each zone, and the answer is written as text, JSON or one HTML page.

``fastalloc.explain`` is the library call as well as this package: the module can be called.
"""

from fastalloc.called import can_be_called
from fastalloc.explain.answer import Answer
from fastalloc.explain.log import explain

__all__ = ["Answer", "explain"]

can_be_called(__name__, "fastalloc.explain.log", "explain")
