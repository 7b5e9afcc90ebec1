"""The program of an allocator: its operations compiled, and their addresses entered where the machine calls them."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np

from fastalloc.compiler.addresses import WORD, address_of, compile_for
from fastalloc.compiler.jit import DISABLE_JIT, entry, folded, hint
from fastalloc.kernels.alloc import guards, kmem, slab_owner, taken_back
from fastalloc.kernels.alloc import kmem_inspect as ki
from fastalloc.kernels.alloc.heap_ops import HEAP_OP, HeapOps
from fastalloc.kernels.machine.check_heap import check_heap

from numba import types  # isort: skip
from numba.core import cgutils  # isort: skip

OPERATIONS = (
    slab_owner.slab_take, slab_owner.slab_give, guards.checked_alloc, guards.checked_free,
    kmem.kmalloc, kmem.kfree, kmem.reap, kmem.owner_and_depth,
    taken_back.private_object, taken_back.has_no_cpu_slab, taken_back.count_taken_back,
    ki.init_caches, ki.set_aside, ki.aside_bytes, ki.heap_pages, ki.pages_apart, ki.max_heap_pages, ki.cache_slabs,
    ki.max_cache_slabs, ki.free_objects, ki.deep_objects, ki.heap_costs, ki.note_current, check_heap,
)  # fmt: skip
# Of arguments that are no integers
_ARRAYS = {
    "geometry": types.Array(types.int64, 2, "C"),
    "sizes": types.Array(types.int64, 1, "C"),
    "into": types.Array(types.int64, 1, "C"),
}


def _compiled(face: Callable[..., Any]) -> Any:
    def operation(*args):
        return face(*args)

    return folded(operation)  # part of the function that has the address


_PROGRAM = [(getattr(HEAP_OP, face.__name__), list(signature(face).parameters), _compiled(face)) for face in OPERATIONS]


def _enter(typingctx, mem, heap, out, table):
    known = {"mem": mem, "heap": heap, "out": out, **_ARRAYS}
    program = [
        (place, operation, tuple(known.get(name, types.int64) for name in names))
        for place, names, operation in _PROGRAM
    ]
    for _, operation, kinds in program:
        compile_for(typingctx, operation, kinds)

    def raised_of(kinds):
        def raised(builder, words):
            behind_table = builder.inttoptr(words[kinds.index(heap)], WORD.as_pointer())
            return builder.gep(behind_table, [WORD(-1)])  # HEAP_OP.raised, the last one

        return raised

    def codegen(context, builder, signature, args):
        data = context.make_array(table)(context, builder, args[3]).data
        for place, operation, kinds in program:
            address = address_of(context, builder, typingctx, operation, kinds, raised_of(kinds))
            builder.store(address, builder.gep(data, [WORD(place)]))
        words = WORD(context.get_abi_sizeof(context.get_value_type(heap.members)))
        cgutils.raw_memcpy(builder, builder.gep(data, [WORD(HEAP_OP.width)]), args[1], words, 1)
        return context.get_dummy_value()

    return types.void(mem, heap, out, table), codegen


_enter_operations: Any = hint(_enter, None)


@entry
def enter_operations(mem, heap, out, table):
    """Enter the operations of ``heap`` and the words of its arrays in ``table``, HeapOps.table."""
    _enter_operations(mem, heap, out, table)


NO_HEAP = HeapOps(np.zeros(HEAP_OP.width, np.int64))
"""What programs are compiled with, for any heap."""


def behind(mem: Any, heap: Any, out: Any) -> Any:
    """``heap`` as the machine's kernels get it. It must live as long as what is returned."""
    if DISABLE_JIT:
        return heap
    words = sum(5 + 2 * array.ndim for array in heap)  # [numba.core.datamodel.models.ArrayModel]
    table = np.zeros(HEAP_OP.width + words, np.int64)
    enter_operations(mem, heap, out, table)
    table[HEAP_OP.overflow] = heap.ctl[ki.overflow_word(heap) :].ctypes.data
    return HeapOps(table)
