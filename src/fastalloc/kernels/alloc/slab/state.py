"""The layout of SLAB's state: flat integer arrays, one row a record, columns named here.

Objects are named by the handles of :mod:`fastalloc.kernels.alloc.state`: slab record << 16 | object index.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.records import Record, field


class SLAB_CACHE(Record, width=32):
    """cache[c, .]: struct kmem_cache of mm/slab.c."""

    num = field("objects a slab")
    order = field()
    colour = field()
    off_slab = field()
    mgmt_cache = field("row of the cache that management objects come from, -1 none")
    allocflags = field("what the cache adds to every mask: DMA, RECLAIMABLE")
    ctor = field()
    limit = field()
    batchcount = field()
    alive = field()
    free_slab = field("retired slab records of this cache, linked by SLAB_SLAB.next")
    ordinals = field("slabs numbered so far (golden cases)")
    ctor_calls = field()
    stat = field("first of the STATS counters, in the order of SLAB_STATS", width=0)
    active = field()
    allocations = field()
    high_mark = field()
    grown = field()
    reaped = field()
    errors = field()
    max_freeable = field()
    node_allocs = field()
    node_frees = field()
    node_overflow = field()
    allochit = field()
    allocmiss = field()
    freehit = field()
    freemiss = field()
    max_slabs = field("most slabs held")
    size = field("slot, bytes")


SLAB_STATS = (
    "num_active",
    "num_allocations",
    "high_mark",
    "grown",
    "reaped",
    "errors",
    "max_freeable",
    "node_allocs",
    "node_frees",
    "node_overflow",
    "allochit",
    "allocmiss",
    "freehit",
    "freemiss",
)

REAPTIMEOUT_CPUC_S = 2  # between two passes of a CPU's reaper
REAPTIMEOUT_LIST3_S = 4  # between two looks at a node's free slabs
REAP_SKEW = 3  # jiffies by which each CPU's reaper runs after that of the CPU before it [start_cpu_timer]


class SLAB_ARRAY(Record):
    """array[q, .]: struct array_cache. Queue ``q`` of cache ``c``: its CPUs' arrays, then for each node the shared
    array, then for each pair of nodes the alien array; see :func:`fastalloc.kernels.alloc.slab.slab.cpu_queue`.
    """

    avail = field()
    limit = field("0: the array does not exist")
    batchcount = field()
    touched = field()
    base = field("first entry in ``entry``")


BATCHREFILL_LIMIT = 16
MAX_ENTRIES = 480  # the longest array: shared, 8 * 60


class SLAB_LIST3(Record):
    """node[c, n, .]: struct kmem_list3. Full slabs are only counted: nothing reads their order."""

    partial_head = field()
    partial_tail = field()
    free_head = field()
    free_tail = field()
    nr_full = field()
    nr_partial = field()
    nr_free = field()
    free_objects = field()
    free_limit = field()
    colour_next = field()
    next_reap = field("jiffies")
    free_touched = field()


class SLAB_SLAB(Record):
    """slab[s, .]: struct slab."""

    cache = field()
    node = field()
    inuse = field()
    free = field("next object to hand out, -1 end")
    next = field("partial or free list, or retired records of the cache")
    prev = field()
    pfn = field("-1: retired")
    base = field("first entry in ``link``")
    ordinal = field("-1 until a trace operation returned an object of it")
    mgmt = field("handle of the off-slab management object, -1 none")
    list = field("one of the three below")
    owner = field("who asked when it was allocated")
    depth = field("at which depth")


ON_FULL = 0
ON_PARTIAL = 1
ON_FREE = 2


class SLAB_CTL(Record, width=16):
    """slabctl[.]."""

    slab_top = field()
    link_top = field()
    path = field("path of the last operation (numbers of the golden cases)")
    overflow = field("1: the arrays were too small; the lane's result is void")
    nodes = field()
    pending = field("management objects waiting in ``pending``")
    stage = field("where an allocation stopped for want of a management object")
    pfn = field("the pages it holds")
    where = field("and the slab's node")
    chain = field("caches in ``chain``")
    depth = field("the depth at which SLAB_CTL.pfn was allocated")
    pages = field("in slabs")
    max_pages = field()


@group(cache=SLAB_CACHE.width, queue=SLAB_ARRAY.width, node=SLAB_LIST3.width, slab=SLAB_SLAB.width)
class Slab(NamedTuple):
    """SLAB of one lane."""

    cache: np.ndarray  # int64[caches, SLAB_CACHE.width]
    queue: np.ndarray  # int64[caches, queues, SLAB_ARRAY.width]
    entry: np.ndarray  # int64[entries]: handles, oldest first
    node: np.ndarray  # int64[caches, nodes, SLAB_LIST3.width]
    slab: np.ndarray  # int64[slabs, SLAB_SLAB.width]
    link: np.ndarray  # int16[objects]: next free object of the same slab
    chain: np.ndarray  # int64[caches]: cache_chain, newest first
    reap_node: np.ndarray  # int64[cpus]: whose alien array the CPU's reaper drains next
    pending: np.ndarray  # int64[slots]: management objects of destroyed slabs, to be freed
    ctl: np.ndarray  # int64[SLAB_CTL.width]
