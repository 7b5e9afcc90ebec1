"""An allocator of one's own: its functions interpreted and compiled, and its arrays."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.errors import InputError
from fastalloc.memory import memory_limit, size_in_words
from fastalloc.own import memory as om
from fastalloc.own.allocator_text import PROVIDED, AllocatorText, read_allocator
from fastalloc.own.arithmetic import COMPILED, INTERPRETED
from fastalloc.own.compiled import executed_module
from fastalloc.own.plain_python import refuse_constants
from fastalloc.own.rewritten import rewritten_module
from fastalloc.own.text import refuse_parameters

from numba import njit  # isort: skip


NOT_FROM_PYTHON: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # what the file alone calls


class OwnAllocator(NamedTuple):
    """``interpreted`` and ``compiled``: functions by name, which take ``turns`` after the arguments of FUNCTIONS."""

    source: str
    text: AllocatorText
    parameters: tuple[tuple[str, int], ...]
    interpreted: Mapping[str, Callable[..., Any]]
    compiled: Mapping[str, Callable[..., Any]]
    heap: Any  # the NamedTuple of its arrays

    def shapes(self, caches: int, cpus: int, tasks: int, pages: int) -> list[tuple[int, int]]:
        """Rows and columns of each array on a machine of that size."""
        sizes = {"CACHES": caches, "CPUS": cpus, "TASKS": tasks, "PAGES": pages, "SLOTS": pages * om.GRANULES}
        made = []
        for rows, columns in self.text.arrays.values():
            made.append((math.prod(sizes.get(each) or int(each) for each in str(rows).split(" * ")), columns))
        return made

    def arrays(self, caches: int, cpus: int, pages: int, tasks: int = 1) -> Any:
        """The arrays, all 0, of a machine of that size.

        Raises:
            InputError: they take more memory than may be taken.
        """
        shapes = self.shapes(caches, cpus, tasks, pages)
        sizes = [8 * rows * columns for rows, columns in shapes]
        if sum(sizes) > memory_limit():
            name = max(zip(sizes, self.text.arrays, strict=True))[1]
            raise InputError(
                self.text.text.where,
                "ARRAYS",
                f"take {size_in_words(sum(sizes))}, {name} {size_in_words(max(sizes))} of it; "
                f"{size_in_words(memory_limit())} may be taken, or more with --memory",
            )
        return self.heap(*(np.zeros(shape, np.int64) for shape in shapes))

    @property
    def grows(self) -> bool:
        """Whether its arrays can grow under it: a row of ``CPUS * PAGES`` would be another one's afterwards."""
        declared = [str(rows).split(" * ") for rows, _ in self.text.arrays.values()]
        return all(len(rows) == 1 or not {"PAGES", "SLOTS"} & set(rows) for rows in declared)

    def grown(self, heap: Any, before: int, pages: int) -> Any:
        """The arrays of a machine of ``pages`` pages, ``heap`` their begin, of ``before`` pages; where it ``grows``."""
        made = []
        for array, (rows, columns) in zip(heap, self.text.arrays.values(), strict=True):
            larger = array
            if rows in ("PAGES", "SLOTS"):
                larger = np.zeros((len(array) // before * pages, columns), np.int64)
                larger[: len(array)] = array
            made.append(larger)
        return self.heap(*made)


@lru_cache(maxsize=32)
def _allocator(source: str, where: str, parameters: tuple[tuple[str, int], ...], lines: bool) -> OwnAllocator:
    found = read_allocator(source, where)
    refuse_parameters(found.text, dict(parameters))
    module = rewritten_module(found.text, lines)
    plain = _plain(module, where, dict(parameters))
    refuse_constants(found.text, plain, PROVIDED)
    interpreted = {name: plain[name] for name in found.text.functions}
    # A class of its own for each file: Numba tells kernels of tuples apart by it.
    heap = NamedTuple("heap", [(name, np.ndarray) for name in found.arrays])  # type: ignore[misc]
    if DISABLE_JIT:
        return OwnAllocator(source, found, parameters, interpreted, interpreted, heap)
    namespace = executed_module(module, where, dict(parameters), {**COMPILED, **om.PROVIDED})
    for name in dict.fromkeys(each for names in found.text.used.values() for each in names):
        inner = {} if name in found.text.functions else NOT_FROM_PYTHON
        namespace[name] = njit(error_model="python", boundscheck=True, **inner)(namespace[name])
    compiled = {name: namespace[name] for name in found.text.functions}
    return OwnAllocator(source, found, parameters, interpreted, compiled, heap)


def _plain(module: Any, where: str, parameters: dict[str, int]) -> dict[str, Any]:
    """The file executed as plain Python."""
    provided = {name: getattr(function, "py_func", function) for name, function in om.PROVIDED.items()}
    return executed_module(module, where, parameters, {**INTERPRETED, **provided})


def interpreted_again(allocator: OwnAllocator) -> dict[str, Callable[..., Any]]:
    """Its functions interpreted, from one more execution of the file."""
    text = allocator.text.text
    plain = _plain(rewritten_module(text), text.where, dict(allocator.parameters))
    return {name: plain[name] for name in text.functions}


def own_allocator(
    source: str, where: str, parameters: Mapping[str, int] = MappingProxyType({}), lines: bool = False
) -> OwnAllocator:
    """The allocator that a text defines; ``lines`` as of ``rewritten``.

    Raises:
        InputError: the text is no allocator (see ``read_allocator``), raises, or an unknown parameter.
    """
    return _allocator(source, where, tuple(sorted(parameters.items())), lines)


WHY = {
    om.OUTSIDE: "lies outside of the pages that are held",
    om.ACROSS: "runs over the end of its pages",
    om.TWICE: "overlaps an object that is in use: it was handed out twice",
    om.MISPLACED: "is no multiple of 8 bytes",
}


def why_wrong(code: int, address: int, object_: int) -> str:
    """What ``note_object`` found, in words."""
    if code == om.PART:
        return f"alloc_bulk gave {address} of {object_} objects: it gives all or none"
    return f"address {address:#x} of object {object_} {WHY[code]}"
