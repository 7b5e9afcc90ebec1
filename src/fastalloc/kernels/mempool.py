"""mempool of 2.6.25 [mm/mempool.c]: the reserve behind a slab cache.

One call of :func:`mempool_alloc` is one round of the kernel's loop; a caller that may WAIT and gets NO_OBJECT sleeps
(5 s, or until an element refills the pool) and calls again with ``first=False``.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.kernels import gfp as g
from fastalloc.kernels import state as st
from fastalloc.kernels.jit import kernel
from fastalloc.kernels.slub import slab_alloc, slab_free

# pool[p, .]
MP_CACHE = 0  # cache the elements come from
MP_CURR = 1  # curr_nr
MP_MIN = 2  # min_nr
MP_FROM_ALLOCATOR = 3
MP_FROM_POOL = 4
MP_FAIL_ATOMIC = 5
MP_WOULD_SLEEP = 6
MP_FREE_TO_POOL = 7
MP_FREE_TO_ALLOCATOR = 8
MEMPOOL_FIELDS = 10


class Pools(NamedTuple):
    """The mempools of one lane."""

    pool: np.ndarray  # int64[pools, MEMPOOL_FIELDS]
    element: np.ndarray  # int64[pools, most elements]: handles, a stack


@kernel
def first_try_mask(gfp):
    """The mask of the first round: the caller's with the mempool bits, without WAIT and IO."""
    return (gfp | g.MEMPOOL_MASK) & ~(g.WAIT | g.IO)


@kernel
def mempool_alloc(mem, slub, pools, p, cpu, gfp, context, first):
    """One round: the allocator with the stripped (first) or full mask, then the reserve; handle or NO_OBJECT."""
    mask = first_try_mask(gfp) if first else gfp | g.MEMPOOL_MASK
    pool = pools.pool[p]
    handle = slab_alloc(mem, slub, pool[MP_CACHE], cpu, -1, mask, context)
    if handle >= 0:
        pool[MP_FROM_ALLOCATOR] += 1
        return handle
    if pool[MP_CURR] > 0:
        pool[MP_CURR] -= 1
        pool[MP_FROM_POOL] += 1
        return pools.element[p, pool[MP_CURR]]
    if (gfp & g.WAIT) == 0:
        pool[MP_FAIL_ATOMIC] += 1
    else:
        pool[MP_WOULD_SLEEP] += 1
    return st.NO_OBJECT


@kernel
def mempool_free(mem, slub, pools, p, cpu, handle):
    """Refill the reserve first (True: its waiters must be woken), else back to the allocator [mempool_free]."""
    pool = pools.pool[p]
    if pool[MP_CURR] < pool[MP_MIN]:
        pools.element[p, pool[MP_CURR]] = handle
        pool[MP_CURR] += 1
        pool[MP_FREE_TO_POOL] += 1
        return True
    pool[MP_FREE_TO_ALLOCATOR] += 1
    slab_free(mem, slub, cpu, handle)
    return False
