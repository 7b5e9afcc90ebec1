"""The layout of a lane's state: flat integer arrays, grouped by subsystem.

A *lane* is one simulated machine. Each group below is a tuple of arrays; a kernel takes the groups that it may
change. Records are rows of an integer array and the constants of this module are their columns, so that one
compilation serves every machine. All sizes are data.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.compiler.records import Record, block, columns, field
from fastalloc.kernels.alloc.policy_record import ASKED, OWN, QUESTION
from fastalloc.kernels.lane.policy import POLICY


class ZONE(Record):
    """zone[z, .]: pages unless said otherwise. In the stub memory model a "zone" is a NUMA node."""

    free = field("NR_FREE_PAGES: buddy pages, per-CPU lists excluded")
    min = field("pages_min: no plain allocation leaves fewer free", "pages", "struct zone")
    low = field("pages_low: below it kswapd is woken", "pages", "struct zone")
    high = field("pages_high: up to it kswapd reclaims", "pages", "struct zone")
    present = field("pages that the zone has, less holes", "pages", "struct zone")
    start = field("first page frame number")
    reserve = columns(4, "lowmem_reserve against each class zone")
    batch = field("pages moved at a time between the buddy lists and a CPU's list", "pages", "struct per_cpu_pages")
    pcp_high = field("length from which on a CPU's list gives a batch back", "pages", "struct per_cpu_pages")
    nr_active = field("length of the active LRU list", "pages", "NR_ACTIVE")
    nr_inactive = field("length of the inactive LRU list", "pages", "NR_INACTIVE")
    scan_active = field("nr_scan_active: the carry of shrink_zone")
    scan_inactive = field("nr_scan_inactive: the same carry for the inactive list", "pages", "struct zone")
    pages_scanned = field("scanned since a page of the zone was last freed", "pages", "struct zone")
    all_unreclaimable = field("1: scanned six times over without success, kswapd leaves it alone", source="struct zone")
    active_head = field("page at the head of the active list, -1 empty", "pfn")
    active_tail = field("page at its tail, -1 empty", "pfn")
    inactive_head = field("page at the head of the inactive list, -1 empty", "pfn")
    inactive_tail = field("page at its tail, -1 empty", "pfn")
    min_free = field("lowest NR_FREE_PAGES seen")
    used = field("the stub model's own columns: used, hold, total and its counters")
    hold = field("stub: pages that the golden case withholds", "pages")
    total = field("stub: pages that the node has", "pages")
    alloc_ok = field("stub: requests granted")
    alloc_fail = field("stub: requests refused")
    frees = field("stub: blocks given back")
    below_low = field("stub: requests that left fewer than low free")
    memalloc_used = field("stub: requests granted without a mark, by PF_MEMALLOC")
    emergency = field("pages_emerg: added to every watermark")
    short = field("mark of short-lived requests, -1 they have none")
    zone_name = field("its name: an index of metrics.ZONES")
    stat_threshold = field("pages that a CPU's vm_stat_diff holds at most", "pages", "mm/vmstat.c, calculate_threshold")
    stat_thresholds = columns(2, "the same while kswapd sleeps, and while it is awake")
    percpu_drift_mark = field("pages seen below which kswapd adds up vm_stat_diff, 0 never", "pages", "struct zone")
    vm_stat_lag = field("sum of the CPUs' vm_stat_diff: in ZONE.free, and not yet in zone_page_state", "pages")


class MIGRATE(Record):
    """Types of allocations that are kept apart, by pageblocks [include/linux/mmzone.h]."""

    unmovable = field("what the kernel allocates for itself")
    reclaimable = field("what the kernel can give back: __GFP_RECLAIMABLE")
    movable = field("pages of tasks: __GFP_MOVABLE")
    reserve = field("pageblocks at the start of a zone that are used last")


class AREA(Record):
    """area[z, MIGRATE, order, .]."""

    head = field("first free block of the order, -1 none", "pfn", "struct free_area")
    nr = field("blocks on the list", "blocks", "struct free_area")


class PCP(Record):
    """pcp[cpu, z, .]."""

    count = field("pages on the CPU's list of the zone", "pages", "struct per_cpu_pages")
    head = field("first page of the list, -1 none", "pfn")
    tail = field("last page of the list, -1 none", "pfn")
    first = columns(4, "first page of each MIGRATE on the list, -1 none: found without a walk past the others")
    last = columns(4, "last page of each MIGRATE on the list, -1 none")
    vm_stat_diff = field("change of NR_FREE_PAGES that the zone does not count yet", "pages", "struct per_cpu_pageset")


class PAGE(Record):
    """page[pfn, .]."""

    next = field("the list the page is on: buddy, per-CPU, LRU or a reclaimer's private list")
    prev = field("the page before it on that list, -1 none", "pfn")
    flags = field("PG_* bits, as declared below")
    owner = field("logical page of the task that owns it, -1 none")
    slot = field("swap slot while in the swap cache, -1 none")
    file = field("file record of a tmpfs page while in its mapping, -1 none", shares="slot")
    same = field("next page of its MIGRATE while on a per-CPU list, -1 none", shares="slot")


class MEMCTL(Record, width=POLICY.width):
    """memctl[.]: the memory model and what the last request met."""

    model = field("which memory model: MODEL_UNLIMITED, MODEL_STUB or MODEL_ZONES")
    nr_zones = field("zones of the machine, lowest first")
    jiffies = field("set by whoever drives time")
    hz = field("jiffies a second", "1/s")
    kswapd_wanted = field("1 + the largest order of the requests that fell below pages_low, 0 none did")
    reclaim_order = field("order of the last request that was refused and is to reclaim", source="scan_control, order")
    depth = field("depth of the last granted request, a DEPTH")
    deepest = field("deepest DEPTH that any request was granted at")
    below_low = field("1: a request was served by no zone above pages_low, where policies begin to tell")
    failed = field("requests refused for good")
    no_watermark = field("requests served with no watermark")
    reports = field("page allocation failures printed")
    suppressed = field("reports that printk_ratelimit swallowed")
    missed = field("suppressed since the last printed one")
    tokens = field("printk_ratelimit bucket, jiffies")
    token_jiffy = field("when printk_ratelimit last refilled its bucket", "jiffies", "__printk_ratelimit")
    pageblock_order = field("of the blocks that one MIGRATE each is noted for, 0: too few pages for grouping")
    report_gfp = field("mask and order of the last failure")
    report_order = field("order of the last failed allocation")
    report_cpu = field("on which the last report was printed")
    cpu_node_shift = field("stub model: node of a cpu = cpu >> shift")
    nr_nodes = field("NUMA nodes, stub model")
    last_missed = field("suppressed before the last printed one")
    who = field("who is asking now: a new slab remembers him")
    probe_gfp = field("what such an attempt adds to the mask")
    gfp_add = columns(16, "what a policy adds to the mask of each WHO")
    refusals = field("of objects at hand, by the entitlement rule")
    probes = field("slabs that such callers tried to allocate")
    unfair = field("callers left with nothing although objects were at hand")
    spare = field("pages set aside for slabs of the swap path, linked by PAGE.next: first one, -1 none")
    nr_spare = field("pages set aside now", "pages")
    spare_used = field("slabs allocated with one")
    policed = field("1: an allocation asks more than SLUB does, see kernels/alloc/entitlement.py")
    slab_match = field("bits MATCH_*: what a slab is asked before an object of it is given; 0 nothing")
    emergency_cache = columns(4, "cache of each class of them")
    emergency_used = field("objects that they gave")
    free = field("one of FREE_*")
    migrated = field("slabs that changed their cache so")
    charges_refused = field("by the reserve tree")
    tests = field("questions that the policy adds")
    locks = field("locks that it adds")
    charge_limit = columns(16, "of each WHO: objects charged at once stay below it; 0 not charged")
    charge_usage = columns(16, "of each WHO: objects charged now")
    emergency_nomerge = field("1: emergency caches share their slabs with nobody")
    by_batch = field("entered as one number: 1 a batch taken for a CPU's list, 2 one freed too", source="2.6.31 to 6.9")
    idle_enters = field("1: a CPU that stops its tick enters what it counted", source="quiet_vmstat, 4.5")
    page_doublings = field("of 4096 bytes: 0, 2 or 4 for pages of 4, 16 or 64 kB")
    user_zones = field("zones at the top that serve tasks' pages alone: HighMem, Movable")
    context = field("PF_MEMALLOC and IN_INTERRUPT bits of whoever frees: a free under sheaves may need memory")
    cpu = field("that was last past the fast path")
    ask = columns(QUESTION.width, "addresses of a user's answers by QUESTION, 0 none; see policy_hooks.py")
    tells = columns(QUESTION.width, "by QUESTION: what is told only where its answer wants it, bits TELLS_*")
    asked = columns(ASKED.width, "what the last question was asked with, by ASKED")
    own = columns(OWN.width, "where a user's policy has its words of state, by OWN")
    policy_failed = field("1 + the first QUESTION that a user's policy failed at, 0 none: the lane ends")
    policy_given = field("what it answered, FAILED in place of an exception")
    policy_most = field("the largest answer that there is; less than 0: the only one is -1 - that")
    policy_asked = columns(ASKED.width, "with what it was asked, by ASKED")
    stopped = field("1: the lane ends with this event, since a policy raised or a guard failed")
    broken = field("the first guard that failed, one of guards.GUARDS; 0 none")
    broken_cache = field("with which cache ...")
    broken_handle = field("... and which handle")
    granted = field("owner and depth of the slab of the object granted last, see kmem.owner_and_depth")


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

    low = field("at or above pages_low: no reserve touched")
    min = field("between pages_low and pages_min")
    harder = field("3/4 min")
    high = field("1/2 min")
    atomic = field("3/8 min")
    earned = block("min", "atomic")  # one deeper for HARDER, two for HIGH
    short = field("as deep as the policy lets short-lived requests")
    none = field("no watermark")


DEPTH_NAMES = ("low", "min", "3/4 min", "1/2 min", "3/8 min", "short-lived", "no watermark")


@group(zone=ZONE.width, area=AREA.width, pcp=PCP.width, page=PAGE.width)
class Mem(NamedTuple):
    """The page allocator of one lane."""

    zone: np.ndarray  # int64[zones, ZONE.width]
    area: np.ndarray  # int64[zones, MIGRATE.width, MAX_ORDER, AREA.width]
    block: np.ndarray  # int64[zones, pageblocks]: MIGRATE of each pageblock of a zone
    pcp: np.ndarray  # int64[cpus, zones, PCP.width]
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
PG_FIRST = 32768  # page 0 of its tmpfs file
PG_MLOCKED = 65536  # in a VM_LOCKED mapping: page_referenced says yes whenever it is asked
PG_ZONE_SHIFT = 28
PG_ORDER_SHIFT = 24
PG_MIGRATE_SHIFT = 22  # bits 22 and 23 of a free page: whose list it is on, or was filled for


class KMEM_CACHE(Record, width=40):
    """cache[c, .]."""

    size = field("slot, bytes")
    objsize = field("bytes that a caller uses of a slot", "bytes", "struct kmem_cache, objsize")
    align = field("alignment of each object", "bytes", "struct kmem_cache")
    flags = field(
        "SLAB_* bits that the cache was made with, less those that debugging adds", source="struct kmem_cache"
    )
    order = field("a slab of the cache is 2**order pages", source="struct kmem_cache")
    objects = field("per slab")
    fallback = field("__PAGE_ALLOC_FALLBACK: kmalloc caches with fewer than 4 objects a page")
    allocflags = field("what the cache adds to every mask: __GFP_COMP, DMA, RECLAIMABLE", source="struct kmem_cache")
    ctor = field("1: each object of a new slab is run through a constructor")
    min_partial = field("partial slabs that a node keeps although they are empty", "slabs", "struct kmem_cache")
    geometry = block("size", "min_partial")
    free_slab = field("retired slab records of this cache, linked by SLUB_SLAB.next")
    ordinals = field("slabs numbered so far (golden cases)")
    pages = field("pages held")
    max_pages = field("most pages that the cache held at one time", "pages")
    alive = field("1 between kmem_cache_create and kmem_cache_destroy")
    ctor_calls = field("constructor runs so far")
    era = field("rules that the cache follows, one of ERA_*")
    cpu_partial = field("what a CPU's partial list may hold: slabs, or free objects; 0: no such list")
    cpu_partial_objects = field("1: it counts free objects (3.2 to 5.15), 0: slabs (5.16 on)")
    min_order = field(
        "order of the smallest slab, tried where KMEM_CACHE.order cannot be had; equal to it: no second try"
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
    later = block("era", "barn_cache")  # what later eras add


class CPU_SLAB(Record):
    """kcpu[c, cpu, f + .]: a CPU slab, ``f`` the column at which the cache's era has it."""

    freelist = field("object index, -1 empty")
    page = field("slab record, -1 none")


class KMEM_CACHE_CPU(Record, width=56):
    """kcpu[c, cpu, .]."""

    freelist = field("object index, -1 empty")
    page = field("slab record, -1 none")
    cpu_slab = block("freelist", "page")  # by CPU_SLAB
    partial = field("first slab of the CPU's partial list, -1 none (later eras)")
    main = field("the CPU's main sheaf; without one NO_MAIN of the cache's era")
    alloc_fastpath = field("allocations from the CPU's own freelist", source="enum stat_item")
    alloc_slowpath = field("allocations that found that freelist empty", source="enum stat_item")
    free_fastpath = field("frees into the CPU's own slab", source="enum stat_item")
    free_slowpath = field("frees into another slab", source="enum stat_item")
    free_frozen = field("of these, into a slab that is frozen by a CPU", source="enum stat_item")
    free_add_partial = field("frees that put a full slab on its node's partial list", source="enum stat_item")
    free_remove_partial = field("frees that emptied a slab, which left the partial list", source="enum stat_item")
    alloc_from_partial = field("CPU slabs taken from a node's partial list", source="enum stat_item")
    alloc_slab = field("new slabs from the page allocator", source="enum stat_item")
    alloc_refill = field("freelists refilled with what other CPUs had freed into the CPU slab", source="enum stat_item")
    free_slab = field("slabs given back to the page allocator", source="enum stat_item")
    cpuslab_flush = field("CPU slabs given up for another reason than being full", source="enum stat_item")
    deactivate_full = field("CPU slabs that were full when given up", source="enum stat_item")
    deactivate_empty = field("CPU slabs whose objects were all free when given up", source="enum stat_item")
    deactivate_to_head = field("CPU slabs put at the head of the partial list", source="enum stat_item")
    deactivate_to_tail = field("CPU slabs put at its tail", source="enum stat_item")
    deactivate_remote_frees = field(
        "CPU slabs given up with objects that other CPUs had freed", source="enum stat_item"
    )
    stats = block("alloc_fastpath", "deactivate_remote_frees")  # of CONFIG_SLUB_STATS, in the order of SLUB_STATS
    spare = field("the CPU's second sheaf, -1 none", source="struct slub_percpu_sheaves")
    rcu_free = field("sheaf that collects objects of kfree_rcu, -1 none")
    sheaf_freelist = field(
        "the CPU slab behind the sheaves; KMEM_CACHE_CPU.freelist and KMEM_CACHE_CPU.page stay -1 in that era"
    )
    sheaf_page = field("slab record of the CPU slab behind the sheaves, -1 none")
    sheaf_slab = block("sheaf_freelist", "sheaf_page")  # by CPU_SLAB
    sheaf_main = field("main sheaf over that slab, -1 none; KMEM_CACHE_CPU.main stays NO_MAIN in that era")
    prefilled = field("replay: prefilled sheaves in use on the CPU, linked by SHEAF.next; -1 none")
    sheaves = block("spare", "prefilled")  # of eras with sheaves
    cpu_partial_alloc = field("CPU slabs taken from the CPU's partial list", source="enum stat_item")
    cpu_partial_free = field("slabs put on the CPU's partial list by a free", source="enum stat_item")
    cpu_partial_node = field("slabs put on it when the node's list was searched", source="enum stat_item")
    cpu_partial_drain = field("times that it was emptied to the node, since it held too much", source="enum stat_item")
    deactivate_bypass = field("full CPU slabs let go without a walk over a freelist", source="enum stat_item")
    alloc_node_mismatch = field("CPU slabs given up as being of another node than asked for", source="enum stat_item")
    order_fallback = field(
        "new slabs of the smallest order, since the preferred one was refused", source="enum stat_item"
    )
    alloc_pcs = field("allocations from the CPU's main sheaf", source="enum stat_item, 6.18 on")
    free_pcs = field("frees into it", source="enum stat_item, 6.18 on")
    barn_get = field("full sheaves taken from the node's barn", source="enum stat_item, 6.18 on")
    barn_get_fail = field("times that the barn had none", source="enum stat_item, 6.18 on")
    barn_put = field("full sheaves put into the barn", source="enum stat_item, 6.18 on")
    barn_put_fail = field("full sheaves that the barn had no room for", source="enum stat_item, 6.18 on")
    sheaf_refill = field("objects put into sheaves when they were refilled", "objects", "enum stat_item, 6.18 on")
    sheaf_flush = field("objects that left sheaves for their slabs", "objects", "enum stat_item, 6.18 on")
    sheaf_alloc = field("sheaves allocated", source="enum stat_item, 6.18 on")
    sheaf_free = field("sheaves freed", source="enum stat_item, 6.18 on")
    free_rcu_sheaf = field("objects that kfree_rcu put into a sheaf", "objects", "enum stat_item, 6.18 on")
    free_rcu_sheaf_fail = field("objects that it could not", "objects", "enum stat_item, 6.18 on")
    sheaf_prefill_fast = field("prefilled sheaves from the spare one or the barn", source="enum stat_item, 6.18 on")
    sheaf_prefill_slow = field("prefilled sheaves that had to be allocated empty", source="enum stat_item, 6.18 on")
    sheaf_prefill_oversize = field(
        "prefilled sheaves larger than the cache's capacity", source="enum stat_item, 6.18 on"
    )
    sheaf_return_fast = field(
        "prefilled sheaves that became the spare one or went to the barn", source="enum stat_item, 6.18 on"
    )
    sheaf_return_slow = field("prefilled sheaves that were flushed and freed", source="enum stat_item, 6.18 on")
    era_stats = block("cpu_partial_alloc", "sheaf_return_slow")  # of later kernels, in the order of ERA_STATS
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

    nr_partial = field("slabs on the partial list", "slabs", "struct kmem_cache_node")
    partial_head = field("first slab of the partial list, -1 none")
    partial_tail = field("last slab of it, -1 none")
    nr_slabs = field("slabs of the node", "slabs", "struct kmem_cache_node")
    full = field("first full sheaf, -1 none")
    empty = field("first empty sheaf of the barn, -1 none", source="struct node_barn")
    nr_full = field("full sheaves in the barn", source="struct node_barn")
    nr_empty = field("empty sheaves in it", source="struct node_barn")
    sheaf_list = block("full", "empty")  # by barn.FULL, barn.EMPTY
    nr_sheaves = block("nr_full", "nr_empty")  # the same
    barn = field("handle of the object that holds the barn, -1 none")
    list_locks = field("later eras: how often list_lock was taken by allocations and frees")
    barn_locks = field("how often that of the barn was")


class SLUB_SLAB(Record):
    """slab[s, .]."""

    cache = field("row of its cache")
    node = field("NUMA node of its pages")
    inuse = field("objects allocated, those of a CPU's freelist included", "objects", "struct page, inuse")
    freelist = field("object index, -1 empty")
    frozen = field("1 + cpu whose slab it is, negative for a CPU's partial list, 0 neither")
    next = field("partial list, or retired records of the cache")
    prev = field("the slab before it on that list, -1 none")
    pfn = field("its first page, -1: retired", "pfn")
    objects = field("objects that it is cut into", "objects", "struct page, objects")
    base = field("first entry in ``link``")
    ordinal = field("-1 until a trace operation returned an object of it")
    owner = field("who asked when the slab was allocated")
    depth = field("at which depth")
    partial = field("on the node's partial list")
    order = field("it is 2**order pages")
    count = field("on a CPU's partial list: slabs or free objects from here on; sheaves: which operation allocated it")


class SLUB_CTL(Record, width=16):
    """slubctl[.]."""

    slab_top = field("slab records in use so far")
    link_top = field("entries of ``link`` in use so far")
    path = field("path of the last operation (numbers of the golden cases)")
    whole = field("pages behind objects that the page allocator gave in place of a slab's", "pages")
    overflow = field("1: the arrays were too small; the lane's result is void")
    nr_caches = field("rows of caches in use")
    nodes = field("NUMA nodes")
    max_pages = field("most pages in slabs")
    pages = field("pages in slabs of all caches", "pages")
    sheaf_top = field("end of the sheaves made so far, 0 before the first")
    sheaf_spare = field("first retired sheaf, 0 none")
    sheaf_stride = field("entries of ``ctl`` a sheaf takes")
    operation = field("number of the operation that went past the CPU's main sheaf")
    rcu_head = field("first callback queued for the end of a grace period, see alloc/slub/rcu.py; -1 none")
    rcu_tail = field("last callback of that queue, -1 none")
    nr_callbacks = field("callbacks in that queue")


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
