"""How functions of files of one's own are compiled: by the rules of Python, in the way of kernels, in half the time.

A part is what only compiled functions call; an entry, which Python or C calls, is one program with all its parts. Other
than in kernels an index may count from the end.
"""

from collections.abc import Callable
from typing import Any

from fastalloc.compiler import patches
from fastalloc.compiler.jit import DISABLE_JIT

from numba import cfunc, njit  # isort: skip

_RULES: Any = {"error_model": "python", "nogil": True}
_FROM_PYTHON: Any = {"no_cfunc_wrapper": True}
_PART: Any = {"no_cpython_wrapper": True, **_FROM_PYTHON}
_ENTRY: Any = {}

if patches.USED and not DISABLE_JIT:
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler

    from fastalloc.compiler.pipeline import EntryCompiler, EntryLibrary, PartCompiler, PartLibrary

    class _OwnPart(PartLibrary):
        def create_ir_module(self, name: str) -> Any:
            return JITCodeLibrary.create_ir_module(self, name)  # which is no kernel's: see ``patches.mark``

    class _OwnEntry(EntryLibrary):
        def create_ir_module(self, name: str) -> Any:
            return JITCodeLibrary.create_ir_module(self, name)

    class _OwnPartCompiler(PartCompiler):
        library = _OwnPart

        def define_pipelines(self) -> Any:
            return Compiler.define_pipelines(self)  # with each pass, as what is raised may have to be computed

    class _OwnEntryCompiler(EntryCompiler):
        library = _OwnEntry

        def define_pipelines(self) -> Any:
            return Compiler.define_pipelines(self)

    _PART |= {"pipeline_class": _OwnPartCompiler}
    _ENTRY |= {"pipeline_class": _OwnEntryCompiler}


def part(function: Callable[..., Any], makes: bool = False, boundscheck: bool = False) -> Any:
    """A function that only compiled ones call. ``makes``: it or what it calls makes arrays or computes what it raises;
    without, nothing counts references."""
    options: Any = {**_RULES, **_PART, "boundscheck": boundscheck, "_nrt": makes}
    return njit(**options)(function)


def entry(function: Callable[..., Any], makes: bool = False, boundscheck: bool = False) -> Any:
    """A function that Python calls."""
    options: Any = {**_RULES, **_ENTRY, **_FROM_PYTHON, "boundscheck": boundscheck, "_nrt": makes}
    return njit(**options)(function)


def called_from_c(signature: Any, function: Callable[..., Any]) -> Any:
    """A function that C calls."""
    return cfunc(signature, **_ENTRY)(function)


def called_natively(signature: Any, function: Callable[..., Any]) -> Any:
    """A function that is called by its address as Numba calls its own."""
    return njit(signature, nogil=True, **_PART | _ENTRY)(function)
