"""The layout of SLAB's state: flat integer arrays, one row a record, columns named here.

Objects are named by the handles of :mod:`fastalloc.kernels.alloc.state`: slab record << 16 | object index.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.records import Record, block, field


class SLAB_CACHE(Record, width=32):
    """cache[c, .]: struct kmem_cache of mm/slab.c."""

    num = field("objects a slab")
    order = field("gfporder: a slab is 2**order pages", source="struct kmem_cache of mm/slab.c")
    colour = field(
        "colours: offsets of the first object, by which slabs differ", source="struct kmem_cache of mm/slab.c"
    )
    off_slab = field("1: struct slab lies outside the slab, in an object of another cache", source="CFLGS_OFF_SLAB")
    mgmt_cache = field("row of the cache that management objects come from, -1 none")
    allocflags = field("what the cache adds to every mask: DMA, RECLAIMABLE")
    ctor = field("1: each object of a new slab is run through a constructor")
    limit = field("objects that a CPU's array may hold", "objects", "struct kmem_cache of mm/slab.c")
    batchcount = field(
        "objects moved at a time between the array and the lists", "objects", "struct kmem_cache of mm/slab.c"
    )
    alive = field("1 between kmem_cache_create and kmem_cache_destroy")
    free_slab = field("retired slab records of this cache, linked by SLAB_SLAB.next")
    ordinals = field("slabs numbered so far (golden cases)")
    ctor_calls = field("constructor runs so far")
    active = field("objects out, those in arrays not counted", "objects", "STATS_INC_ACTIVE")
    allocations = field("objects allocated", source="STATS")
    high_mark = field("most objects out at one time", "objects", "STATS_SET_HIGH")
    grown = field("slabs allocated", "slabs", "STATS_INC_GROWN")
    reaped = field("slabs that the reaper gave back", "slabs", "STATS_ADD_REAPED")
    errors = field("errors found", source="STATS_INC_ERR")
    max_freeable = field("most objects that one pass took out of an array", "objects", "STATS_SET_FREEABLE")
    node_allocs = field("objects allocated for another node than the CPU's", source="STATS_INC_NODEALLOCS")
    node_frees = field("objects freed that are another node's", source="STATS_INC_NODEFREES")
    node_overflow = field("alien arrays found full", source="STATS_INC_ACOVERFLOW")
    allochit = field("allocations from the CPU's array", source="STATS_INC_ALLOCHIT")
    allocmiss = field("allocations that found it empty", source="STATS_INC_ALLOCMISS")
    freehit = field("frees into the CPU's array", source="STATS_INC_FREEHIT")
    freemiss = field("frees that found it full", source="STATS_INC_FREEMISS")
    stats = block("active", "freemiss")  # of STATS, in the order of SLAB_STATS
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

    avail = field("objects in it", "objects", "struct array_cache")
    limit = field("0: the array does not exist")
    batchcount = field("objects moved at a time", "objects", "struct array_cache")
    touched = field("1: used since the reaper last looked", source="struct array_cache")
    base = field("first entry in ``entry``")


BATCHREFILL_LIMIT = 16
MAX_ENTRIES = 480  # the longest array: shared, 8 * 60


class SLAB_LIST3(Record):
    """node[c, n, .]: struct kmem_list3. Full slabs are only counted: nothing reads their order."""

    partial_head = field("first slab of the partial list, -1 none")
    partial_tail = field("last slab of it, -1 none")
    free_head = field("first slab with all objects free, -1 none")
    free_tail = field("last one, -1 none")
    lists = block("partial_head", "free_tail")
    nr_full = field("slabs without a free object", "slabs")
    nr_partial = field("slabs on the partial list", "slabs")
    nr_free = field("slabs with all objects free", "slabs")
    nr = block("nr_full", "nr_free")  # by SLAB_SLAB.list
    free_objects = field("free objects in slabs of the node", "objects", "struct kmem_list3")
    free_limit = field("free objects above which a free slab goes back", "objects", "struct kmem_list3")
    colour_next = field("colour of the next slab", source="struct kmem_list3")
    next_reap = field("jiffies")
    free_touched = field("1: grown since the reaper last looked", source="struct kmem_list3")


class SLAB_SLAB(Record):
    """slab[s, .]: struct slab."""

    cache = field("row of its cache")
    node = field("NUMA node of its pages", source="struct slab, nodeid")
    inuse = field("objects out of the slab, those in arrays included", "objects", "struct slab")
    free = field("next object to hand out, -1 end")
    next = field("partial or free list, or retired records of the cache")
    prev = field("the slab before it on that list, -1 none")
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

    slab_top = field("slab records in use so far")
    link_top = field("entries of ``link`` in use so far")
    path = field("path of the last operation (numbers of the golden cases)")
    overflow = field("1: the arrays were too small; the lane's result is void")
    nodes = field("NUMA nodes")
    pending = field("management objects waiting in ``pending``")
    stage = field("where an allocation stopped for want of a management object")
    pfn = field("the pages it holds")
    where = field("and the slab's node")
    chain = field("caches in ``chain``")
    depth = field("the depth at which SLAB_CTL.pfn was allocated")
    pages = field("in slabs")
    max_pages = field("most pages in slabs at one time", "pages")


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
