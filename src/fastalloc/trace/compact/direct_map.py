"""Where the traced kernel mapped all memory, voted from the trace; addresses are kept as without KASLR.

x86-64 maps all memory at ``page_offset_base``, 0xffff888000000000 unless CONFIG_RANDOMIZE_MEMORY puts it at another
multiple of 1 GiB [kernel_randomize_memory, arch/x86/mm/kaslr.c: PUD_SIZE], as it does by default. Object and page
events meet only if that base is known. An allocation that needed a new slab shows both: its CPU's page event before it
has the page frame, its own the address of an object in that block.
"""

import numpy as np

from fastalloc.trace.compact import row_passes
from fastalloc.trace.compact.row_passes import DIRECT_MAP
from fastalloc.trace.compact.rows import Rows

MOST_VOTES = 1 << 16
_KERNEL = 0xC000000000000000  # the lowest: where ppc64 maps memory; x86-64 and arm64 do in the last 128th
_HASHED = 1 << 40  # %p without nohash-ptr prints 32 bits


def move_to_direct_map(rows: Rows) -> dict[str, int | bool]:
    """Addresses of ``rows`` become those of a kernel that maps memory at DIRECT_MAP.

    Returns what goes into the trace's meta: ``direct_map`` (where it was), ``direct_map_votes`` for it and
    ``direct_map_voters`` (all), ``addresses_hashed`` whether the addresses are none.
    """
    votes = np.zeros(MOST_VOTES, np.uint64)
    cpus = int(rows.cpu.max(initial=0)) + 1
    count = row_passes.base_votes(
        rows.op, rows.object, rows.kind, rows.cpu, rows.ptrs, rows.kinds["order"].to_numpy(),
        np.full(cpus, -1), votes,
    )  # fmt: skip
    hashed = bool(len(rows.ptrs)) and bool((rows.ptrs < _HASHED).mean() > 0.5)
    votes = votes[:count]
    votes = votes[votes >= _KERNEL]
    if not len(votes) or hashed:
        return {"direct_map": DIRECT_MAP, "direct_map_votes": 0, "direct_map_voters": 0, "addresses_hashed": hashed}
    bases, each = np.unique(votes, return_counts=True)
    base, most = int(bases[each.argmax()]), int(each.max())
    if base != DIRECT_MAP:
        with np.errstate(over="ignore"):
            moved = rows.ptrs - np.uint64(base) + np.uint64(DIRECT_MAP)
        order = np.argsort(moved, kind="stable")
        rank = np.empty(len(order), np.uint32)
        rank[order] = np.arange(len(order), dtype=np.uint32)
        row_passes.renumber(rows.op, rows.object, rank)
        rows.ptrs = moved[order]
    return {"direct_map": base, "direct_map_votes": most, "direct_map_voters": len(votes), "addresses_hashed": False}


__all__ = ["move_to_direct_map"]
