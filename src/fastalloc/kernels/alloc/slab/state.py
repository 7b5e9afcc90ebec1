"""The layout of SLAB's state: flat integer arrays, one row a record, columns named here.

Objects are named by the handles of :mod:`fastalloc.kernels.alloc.state`: slab record << 16 | object index.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group

# cache[c, .]: struct kmem_cache of mm/slab.c
A_NUM = 0  # objects a slab
A_ORDER = 1
A_COLOUR = 2
A_OFF_SLAB = 3
A_MGMT_CACHE = 4  # row of the cache that management objects come from, -1 none
A_ALLOCFLAGS = 5  # what the cache adds to every mask: DMA, RECLAIMABLE
A_CTOR = 6
A_LIMIT = 7
A_BATCHCOUNT = 8
A_ALIVE = 9
A_FREE_SLAB = 10  # retired slab records of this cache, linked by L_NEXT
A_ORDINALS = 11  # slabs numbered so far (golden cases)
A_CTOR_CALLS = 12
A_STAT = 13  # first of the STATS counters, in the order of SLAB_STATS
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
(
    A_ACTIVE,
    A_ALLOCATIONS,
    A_HIGH_MARK,
    A_GROWN,
    A_REAPED,
    A_ERRORS,
    A_MAX_FREEABLE,
    A_NODE_ALLOCS,
    A_NODE_FREES,
    A_NODE_OVERFLOW,
    A_ALLOCHIT,
    A_ALLOCMISS,
    A_FREEHIT,
    A_FREEMISS,
) = range(A_STAT, A_STAT + len(SLAB_STATS))
A_MAX_SLABS = A_STAT + len(SLAB_STATS)  # most slabs held
A_SIZE = A_MAX_SLABS + 1  # slot, bytes
SLAB_CACHE_FIELDS = 32

REAPTIMEOUT_CPUC_S = 2  # between two passes of a CPU's reaper
REAPTIMEOUT_LIST3_S = 4  # between two looks at a node's free slabs
REAP_SKEW = 3  # jiffies by which each CPU's reaper runs after that of the CPU before it [start_cpu_timer]

# array[q, .]: struct array_cache. Queue ``q`` of cache ``c``: its CPUs' arrays, then for each node the shared
# array, then for each pair of nodes the alien array; see :func:`fastalloc.kernels.alloc.slab.slab.cpu_queue`.
Q_AVAIL = 0
Q_LIMIT = 1  # 0: the array does not exist
Q_BATCHCOUNT = 2
Q_TOUCHED = 3
Q_BASE = 4  # first entry in ``entry``
QUEUE_FIELDS = 5
BATCHREFILL_LIMIT = 16
MAX_ENTRIES = 480  # the longest array: shared, 8 * 60

# node[c, n, .]: struct kmem_list3. Full slabs are only counted: nothing reads their order.
L3_PARTIAL_HEAD = 0
L3_PARTIAL_TAIL = 1
L3_FREE_HEAD = 2
L3_FREE_TAIL = 3
L3_NR_FULL = 4
L3_NR_PARTIAL = 5
L3_NR_FREE = 6
L3_FREE_OBJECTS = 7
L3_FREE_LIMIT = 8
L3_COLOUR_NEXT = 9
L3_NEXT_REAP = 10  # jiffies
L3_FREE_TOUCHED = 11
LIST3_FIELDS = 12

# slab[s, .]: struct slab
L_CACHE = 0
L_NODE = 1
L_INUSE = 2
L_FREE = 3  # next object to hand out, -1 end
L_NEXT = 4  # partial or free list, or retired records of the cache
L_PREV = 5
L_PFN = 6  # -1: retired
L_BASE = 7  # first entry in ``link``
L_ORDINAL = 8  # -1 until a trace operation returned an object of it
L_MGMT = 9  # handle of the off-slab management object, -1 none
L_LIST = 10  # one of the three below
L_BUYER = 11  # who asked when it was bought
L_DEPTH = 12  # at which depth
SLAB_RECORD_FIELDS = 13
ON_FULL = 0
ON_PARTIAL = 1
ON_FREE = 2

# slabctl[.]
T_SLAB_TOP = 0
T_LINK_TOP = 1
T_PATH = 2  # path of the last operation (numbers of the golden cases)
T_OVERFLOW = 3  # 1: the arrays were too small; the lane's result is void
T_NODES = 4
T_PENDING = 5  # management objects waiting in ``pending``
T_STAGE = 6  # where an allocation stopped for want of a management object
T_PFN = 7  # the pages it holds
T_WHERE = 8  # and the slab's node
T_CHAIN = 9  # caches in ``chain``
T_DEPTH = 10  # the depth at which T_PFN was bought
T_PAGES = 11  # in slabs
T_MAX_PAGES = 12
SLABCTL_FIELDS = 16


@group(cache=SLAB_CACHE_FIELDS, queue=QUEUE_FIELDS, node=LIST3_FIELDS, slab=SLAB_RECORD_FIELDS)
class Slab(NamedTuple):
    """SLAB of one lane."""

    cache: np.ndarray  # int64[caches, SLAB_CACHE_FIELDS]
    queue: np.ndarray  # int64[caches, queues, QUEUE_FIELDS]
    entry: np.ndarray  # int64[entries]: handles, oldest first
    node: np.ndarray  # int64[caches, nodes, LIST3_FIELDS]
    slab: np.ndarray  # int64[slabs, SLAB_RECORD_FIELDS]
    link: np.ndarray  # int16[objects]: next free object of the same slab
    chain: np.ndarray  # int64[caches]: cache_chain, newest first
    reap_node: np.ndarray  # int64[cpus]: whose alien array the CPU's reaper drains next
    pending: np.ndarray  # int64[slots]: management objects of destroyed slabs, to be freed
    ctl: np.ndarray  # int64[SLABCTL_FIELDS]
