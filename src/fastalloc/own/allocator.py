"""An allocator of one's own: its functions interpreted and compiled, and its arrays."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fastalloc.compiler.jit import DISABLE_JIT
from fastalloc.own import memory as om
from fastalloc.own.allocator_text import AllocatorText, read_allocator
from fastalloc.own.arithmetic import COMPILED, INTERPRETED
from fastalloc.own.compiled import executed_module
from fastalloc.own.rewritten import rewritten
from fastalloc.own.text import refuse_parameters

from numba import njit  # isort: skip


class OwnAllocator(NamedTuple):
    """``interpreted`` and ``compiled``: functions by name, which take ``turns`` after the arguments of FUNCTIONS."""

    source: str
    text: AllocatorText
    parameters: tuple[tuple[str, int], ...]
    interpreted: Mapping[str, Callable[..., Any]]
    compiled: Mapping[str, Callable[..., Any]]
    heap: Any  # the NamedTuple of its arrays

    def shapes(self, caches: int, cpus: int, pages: int) -> list[tuple[int, int]]:
        """Rows and columns of each array on a machine of that size."""
        sizes = {"CACHES": caches, "CPUS": cpus, "PAGES": pages, "SLOTS": pages * om.GRANULES}
        made = []
        for rows, columns in self.text.arrays.values():
            made.append((math.prod(sizes.get(each) or int(each) for each in str(rows).split(" * ")), columns))
        return made

    def arrays(self, caches: int, cpus: int, pages: int) -> Any:
        """The arrays, all 0, of a machine of that size."""
        return self.heap(*(np.zeros(shape, np.int64) for shape in self.shapes(caches, cpus, pages)))

    def grown(self, heap: Any, before: int, pages: int) -> Any:
        """The arrays of a machine of ``pages`` pages, ``heap`` their begin, of ``before`` pages."""
        made = []
        for array, (rows, columns) in zip(heap, self.text.arrays.values(), strict=True):
            larger = array
            if {"PAGES", "SLOTS"} & set(str(rows).split(" * ")):
                larger = np.zeros((len(array) // before * pages, columns), np.int64)
                larger[: len(array)] = array
            made.append(larger)
        return self.heap(*made)


@lru_cache(maxsize=32)
def _allocator(source: str, where: str, parameters: tuple[tuple[str, int], ...]) -> OwnAllocator:
    found = read_allocator(source, where)
    refuse_parameters(found.text, dict(parameters))
    module = compile(rewritten(found.text), where, "exec")
    plain_provided = {name: getattr(function, "py_func", function) for name, function in om.PROVIDED.items()}
    plain = executed_module(module, where, dict(parameters), {**INTERPRETED, **plain_provided})
    interpreted = {name: plain[name] for name in found.text.functions}
    # A class of its own for each file: Numba tells kernels of tuples apart by it.
    heap = NamedTuple("heap", [(name, np.ndarray) for name in found.arrays])  # type: ignore[misc]
    if DISABLE_JIT:
        return OwnAllocator(source, found, parameters, interpreted, interpreted, heap)
    namespace = executed_module(module, where, dict(parameters), {**COMPILED, **om.PROVIDED})
    for name in dict.fromkeys(each for names in found.text.used.values() for each in names):
        namespace[name] = njit(error_model="python", boundscheck=True)(namespace[name])
    compiled = {name: namespace[name] for name in found.text.functions}
    return OwnAllocator(source, found, parameters, interpreted, compiled, heap)


def own_allocator(source: str, where: str, parameters: Mapping[str, int] = MappingProxyType({})) -> OwnAllocator:
    """The allocator that a text defines.

    Raises:
        InputError: the text is no allocator (see ``read_allocator``), raises, or an unknown parameter.
    """
    return _allocator(source, where, tuple(sorted(parameters.items())))


class Wrong(NamedTuple):
    """What is wrong with what an allocator did: the function, and why."""

    function: str
    why: str


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
