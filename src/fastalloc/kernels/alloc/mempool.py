"""mempool of 2.6.25 [mm/mempool.c]: the reserve behind a cache, a kmalloc size or whole pages.

One call of :func:`mempool_alloc` is one round of the kernel's loop; a caller that may WAIT and gets NO_OBJECT sleeps
(5 s, or until an element refills the pool) and calls again with ``first=False``. The allocator is whichever ``heap``
is (see :mod:`fastalloc.kernels.alloc.kmem`).
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.jit import called_folded, folded, internal, kernel, out_of_line
from fastalloc.compiler.records import Record, block, field
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.guards import checked_alloc, checked_free
from fastalloc.kernels.alloc.kmalloc import free_page_handle, page_handle
from fastalloc.kernels.alloc.kmem import kfree, kmalloc
from fastalloc.kernels.alloc.policy_hooks import about_request, answer, wanted
from fastalloc.kernels.alloc.policy_record import ASKED, QUESTION
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.linux import gfp as g


# pool[p, .]
class MEMPOOL(Record):
    """Columns."""

    cache = field("cache the elements come from; page order of a MP_PAGES pool, bytes of a MP_KMALLOC pool")
    curr = field("curr_nr")
    min = field("min_nr")
    from_allocator = field("elements that the allocator gave", source="mempool_alloc")
    from_pool = field("elements that the reserve gave", source="mempool_alloc")
    fail_atomic = field("requests without __GFP_WAIT that found the reserve empty", source="mempool_alloc")
    would_sleep = field("times that a caller went to sleep for an element", source="mempool_alloc")
    free_to_pool = field("elements that went back into the reserve", source="mempool_free")
    free_to_allocator = field("elements that went back to the allocator", source="mempool_free")
    counts = block("from_allocator", "free_to_allocator")
    kind = field("where elements come from: a cache, pages or kmalloc, one of MP_*")
    elements = field("handle of the array of the reserve, itself kmalloc'ed; -1 not modelled")
    rule = field("one of MEMPOOL_RULES")
    bytes = field("of an element; known in the closed loop")
    least = field("elements that a pool of none holds all the same: 1 in 6.12.117 and 7.3")


MP_SLAB = 0  # mempool_alloc_slab
MP_PAGES = 1  # mempool_alloc_pages
MP_KMALLOC = 2  # mempool_kmalloc, where that is not simply one cache: SLOB

# What a round asks, and in which order.
MEMPOOL_RULES = (
    "2.6.25",  # allocator without WAIT and IO, reserve, sleep, allocator as asked
    "keep-wait",  # the first try is as asked
    "no-harder",  # the first try stops at min: not waiting earns no discount
    "pool-first",  # the reserve, then the allocator
    "polite",  # the first try stops at low
    "retry",  # refused and the reserve empty: as asked at once, before any sleep [mm/mempool.c since 3.3]
)
RULE_2_6_25, RULE_KEEP_WAIT, RULE_NO_HARDER, RULE_POOL_FIRST, RULE_POLITE, RULE_RETRY = range(len(MEMPOOL_RULES))

# A kmalloc of SLOB that fails returns address 8, its header's size, and mempool takes it for an element.
BOGUS_HANDLE = 1 << 56
LONGEST_SLEEP = 3_600_000  # ms that a user's policy may answer
LARGEST_WITH_HEADER = 4087


@group(pool=MEMPOOL.width)
class Pools(NamedTuple):
    """The mempools of one lane."""

    pool: np.ndarray  # int64[pools, MEMPOOL.width]
    element: np.ndarray  # int64[pools, most elements]: handles, a stack


@called_folded
def first_try_mask(gfp, rule):
    """The mask of the first round: the caller's with the mempool bits, without WAIT and IO."""
    mask = gfp | g.MEMPOOL_MASK
    if rule == RULE_KEEP_WAIT:
        return mask
    if rule == RULE_NO_HARDER:
        mask |= g.NOHARDER
    elif rule == RULE_POLITE:
        mask |= g.POLITE
    return mask & ~(g.WAIT | g.IO)


@internal
def alloc_otherwise(mem, heap, pools, p, cpu, gfp, context):
    """An element of a pool that no cache is behind; handle or NO_OBJECT."""
    out_of_line()
    pool = pools.pool
    source = pool[p, MEMPOOL.cache]
    if pool[p, MEMPOOL.kind] == MP_PAGES:
        return page_handle(mem, cpu, gfp, context, source)
    handle = kmalloc(mem, heap, pool[p], cpu, gfp, context, source)
    return BOGUS_HANDLE if handle < 0 and source <= LARGEST_WITH_HEADER else handle


@folded
def pool_alloc(mem, heap, pools, p, cpu, gfp, context):
    """One element from the allocator behind the pool [pool->alloc]; handle or NO_OBJECT."""
    if pools.pool[p, MEMPOOL.kind] == MP_SLAB:
        return checked_alloc(mem, heap, pools.pool[p, MEMPOOL.cache], cpu, gfp, context)
    return alloc_otherwise(mem, heap, pools, p, cpu, gfp, context)


@internal
def free_otherwise(mem, heap, pools, p, cpu, handle):
    """Give an element back to a pool that no cache is behind."""
    out_of_line()
    if pools.pool[p, MEMPOOL.kind] == MP_PAGES:
        free_page_handle(mem, cpu, handle)
    elif handle != BOGUS_HANDLE:
        kfree(mem, heap, cpu, handle)


@folded
def pool_free(mem, heap, pools, p, cpu, handle):
    """Give one element back to the allocator [pool->free]."""
    if pools.pool[p, MEMPOOL.kind] == MP_SLAB:
        checked_free(mem, heap, pools.pool[p, MEMPOOL.cache], cpu, handle)
    else:
        free_otherwise(mem, heap, pools, p, cpu, handle)


@kernel
def take_element(pools, p):
    """The last element of the reserve, which holds one [remove_element]."""
    pool = pools.pool[p]
    pool[MEMPOOL.curr] -= 1
    pool[MEMPOOL.from_pool] += 1
    return pools.element[p, pool[MEMPOOL.curr]]


@internal
def about_pool(mem, pools, p):
    """Tell a user's policy of pool ``p``."""
    mem.ctl[MEMCTL.asked[ASKED.pool_id]] = p
    mem.ctl[MEMCTL.asked[ASKED.pool_free]] = pools.pool[p, MEMPOOL.curr]
    mem.ctl[MEMCTL.asked[ASKED.pool_min]] = pools.pool[p, MEMPOOL.min]


@internal
def longest_sleep(mem, pools, p, cpu, gfp, jiffies):
    """How long a caller sleeps for an element at most, jiffies, -1: until one returns [io_schedule_timeout]."""
    if mem.ctl[MEMCTL.ask[QUESTION.sleep]] == 0:
        return jiffies
    out_of_line()
    about_request(mem, wanted(mem, QUESTION.sleep), gfp, 0, cpu)
    about_pool(mem, pools, p)
    given = answer(mem, QUESTION.sleep, LONGEST_SLEEP, -1)
    if given < 0:
        return jiffies
    return max(1, given * mem.ctl[MEMCTL.hz] // 1000) if given > 0 else -1


@kernel
def mempool_alloc(mem, heap, pools, p, cpu, gfp, context, first):
    """One round: the allocator with the stripped (first) or full mask, then the reserve; handle or NO_OBJECT."""
    out_of_line()
    pool = pools.pool[p]
    rule = pool[MEMPOOL.rule]
    pool_first = rule == RULE_POOL_FIRST
    if mem.ctl[MEMCTL.ask[QUESTION.mempool]] != 0:
        about_request(mem, wanted(mem, QUESTION.mempool), gfp, context, cpu)
        about_pool(mem, pools, p)
        pool_first = answer(mem, QUESTION.mempool, 1, int(pool_first)) != 0
    if pool_first:
        mem.ctl[MEMCTL.locks] += 1
        if pool[MEMPOOL.curr] > 0:
            return take_element(pools, p)
    mask = first_try_mask(gfp, rule) if first else gfp | g.MEMPOOL_MASK
    handle = pool_alloc(mem, heap, pools, p, cpu, mask, context)
    if handle < 0 and pool[MEMPOOL.curr] > 0:
        return take_element(pools, p)
    if handle < 0 and first and rule == RULE_RETRY and (gfp & (g.WAIT | g.IO)) != 0:
        handle = pool_alloc(mem, heap, pools, p, cpu, gfp | g.MEMPOOL_MASK, context)
    if handle >= 0:
        pool[MEMPOOL.from_allocator] += 1
        return handle
    if (gfp & g.WAIT) == 0:
        pool[MEMPOOL.fail_atomic] += 1
    else:
        pool[MEMPOOL.would_sleep] += 1
    return st.NO_OBJECT


@kernel
def mempool_free(mem, heap, pools, p, cpu, handle):
    """Refill the reserve first (True: its waiters must be woken), else back to the allocator [mempool_free]."""
    pool = pools.pool[p]
    if pool[MEMPOOL.curr] < max(pool[MEMPOOL.min], pool[MEMPOOL.least]):
        pools.element[p, pool[MEMPOOL.curr]] = handle
        pool[MEMPOOL.curr] += 1
        pool[MEMPOOL.free_to_pool] += 1
        return True
    pool[MEMPOOL.free_to_allocator] += 1
    pool_free(mem, heap, pools, p, cpu, handle)
    return False


@kernel
def mempool_fill(mem, heap, pools, p, cpu, gfp, context):
    """Take elements until the reserve holds ``min_nr``; False at the first that cannot be had."""
    out_of_line()
    pool = pools.pool[p]
    while pool[MEMPOOL.curr] < max(pool[MEMPOOL.min], pool[MEMPOOL.least]):
        handle = pool_alloc(mem, heap, pools, p, cpu, gfp, context)
        if handle < 0:
            return False
        pools.element[p, pool[MEMPOOL.curr]] = handle
        pool[MEMPOOL.curr] += 1
    return True


@kernel
def mempool_resize(mem, heap, pools, sizes, p, cpu, gfp, context, new_min):
    """Change ``min_nr``: shrinking frees the surplus, growing takes a new array first [mempool_resize].

    False when that array cannot be had (nothing changes then); a reserve left unfilled is no failure.
    """
    out_of_line()
    pool = pools.pool[p]
    if new_min <= pool[MEMPOOL.min]:
        while new_min < pool[MEMPOOL.curr]:
            pool[MEMPOOL.curr] -= 1
            pool_free(mem, heap, pools, p, cpu, pools.element[p, pool[MEMPOOL.curr]])
        pool[MEMPOOL.min] = new_min
        return True
    array = kmalloc(mem, heap, sizes, cpu, gfp, context, 8 * new_min)
    if array < 0:
        return False
    kfree(mem, heap, cpu, pool[MEMPOOL.elements])
    pool[MEMPOOL.elements] = array
    pool[MEMPOOL.min] = new_min
    mempool_fill(mem, heap, pools, p, cpu, gfp, context)
    return True


@kernel
def mempool_create(mem, heap, pools, sizes, p, cpu, cache, kind, min_nr):
    """A pool of ``min_nr`` elements: its struct (72 bytes), its array and the elements [mempool_create]; success.

    ``cache`` and ``kind`` are the columns MEMPOOL.cache and MEMPOOL.kind.
    """
    out_of_line()
    pool = pools.pool[p]
    least = pool[MEMPOOL.least]
    pool[:] = 0
    pool[MEMPOOL.least] = least
    pool[MEMPOOL.cache] = cache
    pool[MEMPOOL.kind] = kind
    pool[MEMPOOL.min] = min_nr
    if kmalloc(mem, heap, sizes, cpu, g.GFP_KERNEL | g.ZERO, 0, 72) < 0:
        return False
    pool[MEMPOOL.elements] = kmalloc(mem, heap, sizes, cpu, g.GFP_KERNEL, 0, 8 * max(min_nr, least))
    return pool[MEMPOOL.elements] >= 0 and mempool_fill(mem, heap, pools, p, cpu, g.GFP_KERNEL, 0)
