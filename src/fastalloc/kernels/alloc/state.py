"""The layout of a lane's state: flat integer arrays, grouped by subsystem.

A *lane* is one simulated machine. Each group below is a tuple of arrays; a kernel takes the groups that it may
change. Records are rows of an integer array and the constants of this module are their columns, so that one
compilation serves every machine. All sizes are data.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.records import Record, field
from fastalloc.kernels.lane.policy import POLICY

# ---------------------------------------------------------------------------------------------- page allocator


class ZONE(Record):
    """zone[z, .]: pages unless said otherwise. In the stub memory model a "zone" is a NUMA node."""

    free = field("NR_FREE_PAGES: buddy pages, per-CPU lists excluded")
    min = field()
    low = field()
    high = field()
    present = field()
    start = field("first page frame number")
    reserve = field("lowmem_reserve against class zone 0, 1, 2, 3: four columns", width=4)
    batch = field()
    pcp_high = field()
    nr_active = field()
    nr_inactive = field()
    scan_active = field("nr_scan_active: the carry of shrink_zone")
    scan_inactive = field()
    pages_scanned = field()
    all_unreclaimable = field()
    active_head = field()
    active_tail = field()
    inactive_head = field()
    inactive_tail = field()
    min_free = field("lowest NR_FREE_PAGES seen")
    used = field("the stub model's own columns: used, hold, total and its counters")
    hold = field()
    total = field()
    alloc_ok = field()
    alloc_fail = field()
    frees = field()
    below_low = field()
    memalloc_used = field()
    emergency = field("pages_emerg: added to every watermark")
    short = field("mark of short-lived requests, -1 they have none")
    zone_name = field("its name: an index of metrics.ZONES")


class AREA(Record):
    """area[z, order, .]."""

    head = field()
    nr = field()


class PCP(Record):
    """pcp[cpu, z, .]."""

    count = field()
    head = field()
    tail = field()


class PAGE(Record):
    """page[pfn, .]."""

    next = field("the list the page is on: buddy, per-CPU, LRU or a reclaimer's private list")
    prev = field()
    flags = field()
    owner = field("logical page of the task that owns it, -1 none")
    slot = field("swap slot while in the swap cache, -1 none")
    file = field("file record of a tmpfs page, -1 none")


class MEMCTL(Record, width=POLICY.width):
    """memctl[.]: the memory model and what the last request met."""

    model = field()
    nr_zones = field()
    jiffies = field("set by whoever drives time")
    hz = field()
    kswapd_wanted = field("set when a request fell below pages_low")
    depth = field("depth of the last granted request, a DEPTH")
    deepest = field()
    failed = field("requests refused for good")
    no_watermark = field("requests served with no watermark")
    reports = field("page allocation failures printed")
    suppressed = field("reports that printk_ratelimit swallowed")
    missed = field("suppressed since the last printed one")
    tokens = field("printk_ratelimit bucket, jiffies")
    token_jiffy = field()
    report_gfp = field("mask and order of the last failure")
    report_order = field()
    cpu_node_shift = field("stub model: node of a cpu = cpu >> shift")
    nr_nodes = field()
    last_missed = field("suppressed before the last printed one")
    who = field("who is asking now: a new slab remembers him")
    probe_gfp = field("what such an attempt adds to the mask")
    gfp_add = field("what a policy adds to the mask of each WHO", width=16)
    refusals = field("of objects at hand, by the entitlement rule")
    probes = field("slabs that such callers tried to allocate")
    unfair = field("callers left with nothing although objects were at hand")
    spare = field("pages set aside for slabs of the swap path, linked by PAGE.next: first one, -1 none")
    nr_spare = field()
    spare_used = field("slabs allocated with one")
    policed = field("1: an allocation asks more than SLUB does, see kernels/alloc/entitlement.py")
    pfmemalloc = field("1: slabs from below all watermarks are for those who may go there")
    emergency_cache = field("cache of each class of them: four columns", width=4)
    emergency_used = field("objects that they gave")
    free = field("one of FREE_*")
    migrated = field("slabs that changed their cache so")
    ask_entitlement = field("addresses of a user's answers, 0 none; see kernels/alloc/policy_hooks.py")
    ask_depth = field()
    ask_fallback = field()
    charges_refused = field("by the reserve tree")
    tests = field("questions that the policy adds")
    locks = field("locks that it adds")
    charge_limit = field("of each WHO: objects charged at once stay below it; 0 not charged", width=16)
    charge_usage = field("of each WHO: objects charged now", width=16)
    emergency_nomerge = field("1: emergency caches share their slabs with nobody")
    page_doublings = field("of 4096 bytes: 0, 2 or 4 for pages of 4, 16 or 64 KB")
    user_zones = field("zones at the top that serve tasks' pages alone: HighMem, Movable")
    policy_failed = field("the first question (its column here) that a user's policy raised at, 0 none: the lane ends")
    policy_asked = field("with what it was asked", width=5)
    context = field("PF_MEMALLOC and IN_INTERRUPT bits of whoever frees: a free under sheaves may need memory")


# Which cache an object is freed into.
FREE_PLAIN = 0  # its slab's: the caller named no other
FREE_NAMED = 1  # the one that the caller names
FREE_BY_PAGE = 2  # its slab's, which is looked up for it

WATERMARKS_2_6_25 = 0
WATERMARKS_6_3 = 1

MODEL_UNLIMITED = 0
MODEL_STUB = 1  # the counting allocator of the golden cases
MODEL_ZONES = 2  # zones, buddy, per-CPU lists


class DEPTH(Record):
    """How deep a granted page was: what a slab remembers of its owner."""

    low = field()
    min = field()
    harder = field("3/4 min")
    high = field("1/2 min")
    atomic = field("3/8 min")
    short = field("as deep as the policy lets short-lived requests")
    none = field("no watermark")


DEPTH_NAMES = ("low", "min", "3/4 min", "1/2 min", "3/8 min", "short-lived", "no watermark")


@group(zone=ZONE.width, area=2, pcp=3, page=PAGE.width)
class Mem(NamedTuple):
    """The page allocator of one lane."""

    zone: np.ndarray  # int64[zones, ZONE.width]
    area: np.ndarray  # int64[zones, MAX_ORDER, 2]
    pcp: np.ndarray  # int64[cpus, zones, 3]
    page: np.ndarray  # int32[pages, PAGE.width]
    ctl: np.ndarray  # int64[MEMCTL.width]


# page flags
PG_BUDDY = 1  # head of a free block; its order sits in bits 24..27
PG_SLAB = 2
PG_LRU = 4
PG_ACTIVE = 8
PG_REFERENCED = 16
PG_DIRTY = 32
PG_WRITEBACK = 64
PG_SWAPCACHE = 128
PG_RECLAIM = 256
PG_LOCKED = 512
PG_ANON = 1024
PG_MAPPED = 2048
PG_ORPHAN = 4096  # its owner is gone; only the swap cache or a reclaimer still holds it
PG_PCP = 8192
PG_ISOLATED = 16384  # on a reclaimer's private list
PG_ZONE_SHIFT = 28
PG_ORDER_SHIFT = 24

# ------------------------------------------------------------------------------------------------------- SLUB


class KMEM_CACHE(Record, width=64):
    """cache[c, .]."""

    size = field("slot, bytes")
    objsize = field()
    align = field()
    flags = field()
    order = field()
    objects = field("per slab")
    fallback = field("__PAGE_ALLOC_FALLBACK: kmalloc caches with fewer than 4 objects a page")
    allocflags = field()
    ctor = field()
    min_partial = field()
    free_slab = field("retired slab records of this cache, linked by SLUB_SLAB.next")
    ordinals = field("slabs numbered so far (golden cases)")
    pages = field("pages held")
    max_pages = field()
    alive = field()
    ctor_calls = field()
    era = field()
    cpu_partial = field("what a CPU's partial list may hold: slabs, or free objects; 0: no such list")
    cpu_partial_objects = field("1: it counts free objects (3.2 to 5.15), 0: slabs (5.16 on)")
    min_order = field(
        "order of the smallest slab, tried when the preferred one cannot be had; KMEM_CACHE.order: no second try"
    )
    sheaf_capacity = field("objects a sheaf")
    sheaf_cache = field("cache (of era cpu-partial) that sheaves come from; -1: they cost no memory")
    rank = field("of the slab allocated last, see kernels/alloc/entitlement.py")
    max_slabs = field("most slabs that a node held")
    keep_empty = field("era 2.6.25: partial slabs below which a slab stays when its last object is freed; 0: it goes")
    first_try = field("of a slab, one of FIRST_TRIES")
    is_kmalloc = field("1: memory for its own sheaves is had without another sheaf being made")
    max_full = field("full sheaves from which on a barn takes no more, MAX_FULL_SHEAVES")
    max_empty = field("empty ones from which on a barn takes none that kfree_rcu leaves, MAX_EMPTY_SHEAVES")
    refill = field("who refills a sheaf, one of REFILLS")
    rcu_slabs = field("1: pages of its slabs are freed a grace period later, SLAB_TYPESAFE_BY_RCU")
    rcu_due = field("replay: objects whose grace period is over by the trace, and whose sheaf was not queued yet")
    barn_cache = field("cache that struct node_barn comes from, -1: it costs no memory")


class KMEM_CACHE_CPU(Record, width=64):
    """kcpu[c, cpu, .]."""

    freelist = field("object index, -1 empty")
    page = field("slab record, -1 none")
    partial = field("first slab of the CPU's partial list, -1 none (later eras)")
    main = field("sheaves of the CPU, -1 none")
    stat = field("first of the CONFIG_SLUB_STATS counters, in the order of SLUB_STATS", width=0)
    alloc_fastpath = field()
    alloc_slowpath = field()
    free_fastpath = field()
    free_slowpath = field()
    free_frozen = field()
    free_add_partial = field()
    free_remove_partial = field()
    alloc_from_partial = field()
    alloc_slab = field()
    alloc_refill = field()
    free_slab = field()
    cpuslab_flush = field()
    deactivate_full = field()
    deactivate_empty = field()
    deactivate_to_head = field()
    deactivate_to_tail = field()
    deactivate_remote_frees = field()
    spare = field()
    rcu_free = field("sheaf that collects objects of kfree_rcu, -1 none")
    sheaf_freelist = field(
        "the CPU slab behind the sheaves; KMEM_CACHE_CPU.freelist and KMEM_CACHE_CPU.page stay -1 in that era"
    )
    sheaf_page = field()
    prefilled = field("replay: prefilled sheaves in use on the CPU, linked by SHEAF.next; -1 none")
    era_stat = field(width=0)
    cpu_partial_alloc = field()
    cpu_partial_free = field()
    cpu_partial_node = field()
    cpu_partial_drain = field()
    deactivate_bypass = field()
    alloc_node_mismatch = field()
    order_fallback = field()
    alloc_pcs = field()
    free_pcs = field()
    barn_get = field()
    barn_get_fail = field()
    barn_put = field()
    barn_put_fail = field()
    sheaf_refill = field()
    sheaf_flush = field()
    sheaf_alloc = field()
    sheaf_free = field()
    free_rcu_sheaf = field()
    free_rcu_sheaf_fail = field()
    sheaf_prefill_fast = field()
    sheaf_prefill_slow = field()
    sheaf_prefill_oversize = field()
    sheaf_return_fast = field()
    sheaf_return_slow = field()
    reserve = field("1: the CPU slab came from below all watermarks")


SLUB_STATS = (
    "alloc_fastpath",
    "alloc_slowpath",
    "free_fastpath",
    "free_slowpath",
    "free_frozen",
    "free_add_partial",
    "free_remove_partial",
    "alloc_from_partial",
    "alloc_slab",
    "alloc_refill",
    "free_slab",
    "cpuslab_flush",
    "deactivate_full",
    "deactivate_empty",
    "deactivate_to_head",
    "deactivate_to_tail",
    "deactivate_remote_frees",
)


class KMEM_CACHE_NODE(Record, width=16):
    """knode[c, node, .]."""

    nr_partial = field()
    partial_head = field()
    partial_tail = field()
    nr_slabs = field()
    full = field("first full sheaf, -1 none")
    empty = field()
    nr_full = field()
    nr_empty = field()
    barn = field("handle of the object that holds the barn, -1 none")
    list_locks = field("later eras: how often list_lock was taken by allocations and frees")
    barn_locks = field("how often that of the barn was")


class SLUB_SLAB(Record):
    """slab[s, .]."""

    cache = field()
    node = field()
    inuse = field()
    freelist = field("object index, -1 empty")
    frozen = field("1 + cpu whose slab it is, negative for a CPU's partial list, 0 neither")
    next = field("partial list, or retired records of the cache")
    prev = field()
    pfn = field()
    objects = field()
    base = field("first entry in ``link``")
    ordinal = field("-1 until a trace operation returned an object of it")
    owner = field("who asked when the slab was allocated")
    depth = field("at which depth")
    partial = field("on the node's partial list")
    order = field()
    count = field(
        "on a CPU's partial list: slabs, or free objects, from here to its end; under sheaves: the operation "
        "that allocated it"
    )


class SLUB_CTL(Record, width=16):
    """slubctl[.]."""

    slab_top = field("slab records in use so far")
    link_top = field("entries of ``link`` in use so far")
    path = field("path of the last operation (numbers of the golden cases)")
    overflow = field("1: the arrays were too small; the lane's result is void", at=4)
    nr_caches = field()
    nodes = field()
    max_pages = field("most pages in slabs")
    pages = field()
    sheaf_top = field("end of the sheaves made so far, 0 before the first")
    sheaf_spare = field("first retired sheaf, 0 none")
    sheaf_stride = field("entries of ``ctl`` a sheaf takes")
    operation = field("number of the operation that went past the CPU's main sheaf")
    rcu_head = field("first callback queued for the end of a grace period, see alloc/slub/rcu.py; -1 none")
    rcu_tail = field()
    nr_callbacks = field()


# A handle names an allocated object: slab record << 16 | object index; or a page-backed one.
HANDLE_SHIFT = 16
HANDLE_INDEX_MASK = 0xFFFF
PAGE_HANDLE = 1 << 48  # | order << 40 | page frame (stub model: node)
PAGE_HANDLE_ORDER_SHIFT = 40
NO_OBJECT = -1


@group(cache=KMEM_CACHE.width, kcpu=KMEM_CACHE_CPU.width, knode=KMEM_CACHE_NODE.width, slab=SLUB_SLAB.width)
class Slub(NamedTuple):
    """SLUB of one lane."""

    cache: np.ndarray  # int64[caches, KMEM_CACHE.width]
    kcpu: np.ndarray  # int64[caches, cpus, KMEM_CACHE_CPU.width]
    knode: np.ndarray  # int64[caches, nodes, KMEM_CACHE_NODE.width]
    slab: np.ndarray  # int32[slabs, SLUB_SLAB.width]
    link: np.ndarray  # int16[objects]: next free object of the same slab
    ctl: np.ndarray  # int64[SLUB_CTL.width]
