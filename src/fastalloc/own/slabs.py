"""Slabs for those who write an allocator: lists of slabs with room, and the free objects of each.

A slab is a run of pages cut into objects. Three arrays of the file hold all: ``first`` a row a list, ``page`` SLAB
columns a page, ``slot`` a row for each 8 bytes (``SLOTS``).
"""

from collections.abc import Callable
from typing import Any

from fastalloc.kernels.alloc.own.state import GRANULES, PAGE_SHIFT

from numba import njit  # isort: skip

USED, FREE, NEXT, PREV, LIST = range(5)  # of page[page, .]: FREE, NEXT and PREV are 1 + what they name, 0 none


def _compiled(function: Callable[..., Any]) -> Any:
    return njit(error_model="python", boundscheck=True, nogil=True)(function)


@_compiled
def order_of(size: Any) -> Any:
    """The smallest order of pages that hold ``size`` bytes."""
    order = 0
    while (1 << (PAGE_SHIFT + order)) < size:
        order += 1
    return order


@_compiled
def _link(first: Any, page: Any, row: Any, p: Any) -> Any:
    after = first[row, 0]
    page[p, NEXT] = after
    page[p, PREV] = 0
    first[row, 0] = p + 1
    if after > 0:
        page[after - 1, PREV] = p + 1


@_compiled
def _unlink(first: Any, page: Any, row: Any, p: Any) -> Any:
    before, after = page[p, PREV], page[p, NEXT]
    if before > 0:
        page[before - 1, NEXT] = after
    else:
        first[row, 0] = after
    if after > 0:
        page[after - 1, PREV] = before


@_compiled
def add_slab(first: Any, page: Any, slot: Any, row: Any, p: Any, objects: Any) -> Any:
    """The pages from ``p`` on become a slab of ``objects`` free objects, at the head of list ``row``."""
    for i in range(objects):
        slot[p * GRANULES + i, 0] = (i + 2) % (objects + 1)
    page[p, USED] = 0
    page[p, FREE] = 1
    page[p, LIST] = row
    _link(first, page, row, p)


@_compiled
def take_slot(first: Any, page: Any, slot: Any, row: Any, size: Any) -> Any:
    """The address of an object of the first slab of list ``row``, which must have one; a full slab leaves the list."""
    p = first[row, 0] - 1
    i = page[p, FREE] - 1
    page[p, FREE] = slot[p * GRANULES + i, 0]
    page[p, USED] += 1
    if page[p, FREE] == 0:
        _unlink(first, page, row, p)
    return (p << PAGE_SHIFT) + i * size


@_compiled
def put_slot(first: Any, page: Any, slot: Any, p: Any, address: Any, size: Any) -> Any:
    """Free an object of the slab at page ``p``: how many are in use then; at 0 the slab has left its list."""
    row = page[p, LIST]
    i = (address - (p << PAGE_SHIFT)) // size
    if page[p, FREE] == 0:
        _link(first, page, row, p)
    slot[p * GRANULES + i, 0] = page[p, FREE]
    page[p, FREE] = i + 1
    page[p, USED] -= 1
    if page[p, USED] == 0:
        _unlink(first, page, row, p)
    return page[p, USED]


PROVIDED = {"order_of": order_of, "add_slab": add_slab, "take_slot": take_slot, "put_slot": put_slot}
