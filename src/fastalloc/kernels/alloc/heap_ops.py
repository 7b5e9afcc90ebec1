"""A heap behind the addresses of its operations, as a file of the kernel is behind its struct file_operations.

So the machine is one program for all allocators: it knows a table, and each allocator has a program of its own that
enters the addresses of its operations there [kernels/machine/heap_table.py]. Where kernels are interpreted there is no
table: they get the heap itself.
"""

from collections.abc import Callable, Mapping
from functools import cache
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

from fastalloc.compiler.addresses import WORD, as_word, call_address, refuse_unfit
from fastalloc.compiler.groups import group
from fastalloc.compiler.jit import BOUNDSCHECK, INLINED, dispatched, hint
from fastalloc.compiler.records import Record, field

from numba import types  # isort: skip
from numba.core import cgutils  # isort: skip


class HEAP_OP(Record):
    """table[.]: addresses of the operations, each of the function of that name; then words that are looked at without a
    call; behind them stand the words that describe the heap's arrays."""

    slab_take = field("address of slab_owner.slab_take")
    slab_give = field("address of slab_owner.slab_give")
    checked_alloc = field("address of guards.checked_alloc")
    checked_free = field("address of guards.checked_free")
    kmalloc = field("address of kmem.kmalloc")
    kfree = field("address of kmem.kfree")
    reap = field("address of kmem.reap")
    owner_and_depth = field("address of kmem.owner_and_depth")
    private_object = field("address of taken_back.private_object")
    has_no_cpu_slab = field("address of taken_back.has_no_cpu_slab")
    count_taken_back = field("address of taken_back.count_taken_back")
    init_caches = field("address of kmem_inspect.init_caches")
    set_aside = field("address of kmem_inspect.set_aside")
    aside_bytes = field("address of kmem_inspect.aside_bytes")
    heap_pages = field("address of kmem_inspect.heap_pages")
    pages_apart = field("address of kmem_inspect.pages_apart")
    max_heap_pages = field("address of kmem_inspect.max_heap_pages")
    cache_slabs = field("address of kmem_inspect.cache_slabs")
    max_cache_slabs = field("address of kmem_inspect.max_cache_slabs")
    free_objects = field("address of kmem_inspect.free_objects")
    deep_objects = field("address of kmem_inspect.deep_objects")
    heap_costs = field("address of kmem_inspect.heap_costs")
    note_current = field("address of kmem_inspect.note_current")
    check_heap = field("address of check_heap.check_heap")
    overflow = field("address of the word that is not 0 once the heap's arrays were too small")
    raised = field("1: an operation raised, where indices are checked; the words of the arrays begin behind it")


@group()
class HeapOps(NamedTuple):
    """A heap as the machine gets it."""

    table: np.ndarray  # int64[HEAP_OP.width + words of the heap's arrays]


def is_behind(heap: Any) -> bool:
    """Whether a Numba type, or a plain tuple, is a heap behind its operations."""
    return getattr(heap, "instance_class", type(heap)) is HeapOps


def _call_of(place: int) -> Any:
    """An intrinsic that calls operation ``place`` with a tuple of arguments, one of which is the heap."""

    def typed(typingctx, arguments):
        refuse_unfit(tuple(arguments))

        def codegen(context, builder, signature, given):
            words = []
            function = raised = None
            for kind, value in zip(arguments, cgutils.unpack_tuple(builder, given[0]), strict=True):
                if not is_behind(kind):
                    words.append(as_word(context, builder, kind, value))
                    continue
                table = context.get_getattr(kind, "table")(context, builder, kind, value, "table")
                data = context.make_array(kind.members[0])(context, builder, table).data
                function = builder.load(builder.gep(data, [WORD(place)]))
                words.append(builder.ptrtoint(builder.gep(data, [WORD(HEAP_OP.width)]), WORD))
                raised = builder.gep(data, [WORD(HEAP_OP.raised)])
            value = call_address(builder, function, words)
            if BOUNDSCHECK:
                with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, builder.load(raised))):
                    name = HEAP_OP.names[place]
                    context.call_conv.return_user_exc(builder, IndexError, (f"index out of bounds in {name}",))
            return value

        return types.int64(arguments), codegen

    return hint(typed, None)


def _word_at(typingctx, address):
    def codegen(context, builder, signature, args):
        return builder.load(builder.inttoptr(args[0], WORD.as_pointer()))

    return types.int64(types.int64), codegen


word_at: Any = hint(_word_at, None)
"""The word at an address."""


@cache
def through(name: str) -> Callable[..., Any]:
    """What the machine runs in place of function ``name``: a call of the operation."""
    call = _call_of(getattr(HEAP_OP, name))

    def operation(*args):
        return call(args)

    return operation


def by_heap(typed: Callable[..., Any]) -> Any:
    """The decorated function, a name and its documentation, is ``typed`` where the heap's type is known, and the
    operation of its name behind a table."""

    def stands_for(face):
        place = list(signature(face).parameters).index("heap")
        operation = through(face.__name__)
        return dispatched(lambda *args: operation if is_behind(args[place]) else typed, **INLINED)(face)

    return stands_for


def its_own(faces: Mapping[str, Any], name: str, **options: Any) -> Any:
    """Each allocator has its own of the decorated function: ``name`` of its entry in ``faces``, which go by the type of
    its state. Behind a table it is the operation of that name, or what the entry of HeapOps has."""

    def stands_for(face):
        place = list(signature(face).parameters).index("heap")
        operation = through(name) if name in HEAP_OP.names else None

        def choose(*args):
            kind = getattr(args[place], "instance_class", type(args[place]))
            return operation if operation and kind is HeapOps else getattr(faces[kind.__name__], name)

        return dispatched(choose, **options)(face)

    return stands_for
