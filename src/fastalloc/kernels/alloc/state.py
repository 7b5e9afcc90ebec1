"""The layout of a lane's state: flat integer arrays, grouped by subsystem.

A *lane* is one simulated machine. Each group below is a tuple of arrays; a kernel takes the groups that it may
change. Records are rows of an integer array and the constants of this module are their columns, so that one
compilation serves every machine. All sizes are data.
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group

# ---------------------------------------------------------------------------------------------- page allocator

# zone[z, .]: pages unless said otherwise. In the stub memory model a "zone" is a NUMA node.
Z_FREE = 0  # NR_FREE_PAGES: buddy pages, per-CPU lists excluded
Z_MIN = 1
Z_LOW = 2
Z_HIGH = 3
Z_PRESENT = 4
Z_START = 5  # first page frame number
Z_RESERVE = 6  # lowmem_reserve against class zone 0, 1, 2, 3: four columns
Z_BATCH = 10
Z_PCP_HIGH = 11
Z_NR_ACTIVE = 12
Z_NR_INACTIVE = 13
Z_SCAN_ACTIVE = 14  # nr_scan_active: the carry of shrink_zone
Z_SCAN_INACTIVE = 15
Z_PAGES_SCANNED = 16
Z_ALL_UNRECLAIMABLE = 17
Z_ACTIVE_HEAD = 18
Z_ACTIVE_TAIL = 19
Z_INACTIVE_HEAD = 20
Z_INACTIVE_TAIL = 21
Z_MIN_FREE = 22  # lowest NR_FREE_PAGES seen
Z_USED = 23  # the stub model's own columns: used, hold, total and its counters
Z_HOLD = 24
Z_TOTAL = 25
Z_ALLOC_OK = 26
Z_ALLOC_FAIL = 27
Z_FREES = 28
Z_BELOW_LOW = 29
Z_MEMALLOC_USED = 30
Z_EMERGENCY = 31  # pages_emerg: added to every watermark
Z_SHORT = 32  # mark of short-lived requests, -1 they have none
ZONE_FIELDS = 33

# area[z, order, .]
AREA_HEAD = 0
AREA_NR = 1

# pcp[cpu, z, .]
PCP_COUNT = 0
PCP_HEAD = 1
PCP_TAIL = 2

# page[pfn, .]
P_NEXT = 0  # the list the page is on: buddy, per-CPU, LRU or a reclaimer's private list
P_PREV = 1
P_FLAGS = 2
P_OWNER = 3  # logical page of the task that owns it, -1 none
P_SLOT = 4  # swap slot while in the swap cache, -1 none
P_FILE = 5  # file record of a tmpfs page, -1 none
PAGE_FIELDS = 6

# memctl[.]: the memory model and what the last request met
M_MODEL = 0
M_NR_ZONES = 1
M_JIFFIES = 2  # set by whoever drives time
M_HZ = 3
M_KSWAPD_WANTED = 4  # set when a request fell below pages_low
M_DEPTH = 5  # depth of the last granted request, one of DEPTH_*
M_DEEPEST = 6
M_FAILED = 7  # requests refused for good
M_NO_WATERMARK = 8  # requests served with no watermark
M_REPORTS = 9  # page allocation failures printed
M_SUPPRESSED = 10  # reports that printk_ratelimit swallowed
M_MISSED = 11  # suppressed since the last printed one
M_TOKENS = 12  # printk_ratelimit bucket, jiffies
M_TOKEN_JIFFY = 13
M_REPORT_GFP = 14  # mask and order of the last failure
M_REPORT_ORDER = 15
M_CPU_NODE_SHIFT = 16  # stub model: node of a cpu = cpu >> shift
M_NR_NODES = 17
M_LAST_MISSED = 18  # suppressed before the last printed one
M_WHO = 19  # who is asking now: a slab remembers its buyer
M_WATERMARK_RULE = 20  # one of WATERMARKS_*
M_ENTITLEMENT = 21  # one of entitlement.ENTITLEMENTS
M_PROBE_EVERY = 22  # refusals for one attempt to buy a slab
M_PROBE_GFP = 23  # what such an attempt adds to the mask
M_GFP_ADD = 24  # what a policy adds to the mask of each of names.WHO
M_REFUSALS = 40  # of objects at hand, by the entitlement rule
M_PROBES = 41  # slabs that such callers tried to buy
M_UNFAIR = 42  # callers left with nothing although objects were at hand
M_SPARE = 43  # pages set aside for slabs of the swap path, linked by P_NEXT: first one, -1 none
M_NR_SPARE = 44
M_SPARE_MOST = 45
M_SPARE_USED = 46  # slabs bought with one
M_POLICED = 47  # 1: an allocation asks more than SLUB does, see kernels/alloc/entitlement.py
M_PFMEMALLOC = 48  # 1: slabs from below all watermarks are for those who may go there
M_EMERGENCY = 49  # one of emergency.EMERGENCY_CACHES
M_EMERGENCY_CACHE = 50  # cache of each class of them: four columns
M_EMERGENCY_SLABS = 54  # a class sets aside at boot, ideal
M_EMERGENCY_USED = 55  # objects that they gave
M_FREE = 56  # one of FREE_*
M_MIGRATED = 57  # slabs that changed their cache so
M_ASK_ENTITLEMENT = 58  # addresses of a user's answers, 0 none; see kernels/alloc/policy_hooks.py
M_ASK_DEPTH = 59
M_ASK_FALLBACK = 60
M_CHARGES_REFUSED = 61  # by the reserve tree
M_TESTS = 62  # questions that the policy adds
M_LOCKS = 63  # locks that it adds
M_CHARGE_LIMIT = 64  # of each of names.WHO: objects charged at once stay below it; 0 not charged
M_CHARGE_USAGE = 80
M_EMERGENCY_APART = 96  # 1: emergency caches share their slabs with nobody
MEMCTL_FIELDS = 104

# Which cache an object is freed into.
FREE_PLAIN = 0  # its slab's: the caller named no other
FREE_NAMED = 1  # the one that the caller names
FREE_BY_PAGE = 2  # its slab's, which is looked up for it

WATERMARKS_2_6_25 = 0
WATERMARKS_6_3 = 1

MODEL_UNLIMITED = 0
MODEL_STUB = 1  # the counting allocator of the golden cases
MODEL_ZONES = 2  # zones, buddy, per-CPU lists

# How deep a granted page was: what a bought slab remembers of its buyer.
DEPTH_LOW = 0
DEPTH_MIN = 1
DEPTH_HARDER = 2  # 3/4 min
DEPTH_HIGH = 3  # 1/2 min
DEPTH_ATOMIC = 4  # 3/8 min
DEPTH_SHORT = 5  # as deep as the policy lets short-lived requests
DEPTH_NONE = 6  # no watermark
NR_DEPTHS = 7
DEPTH_NAMES = ("low", "min", "3/4 min", "1/2 min", "3/8 min", "short-lived", "no watermark")


@group(zone=ZONE_FIELDS, area=2, pcp=3, page=PAGE_FIELDS)
class Mem(NamedTuple):
    """The page allocator of one lane."""

    zone: np.ndarray  # int64[zones, ZONE_FIELDS]
    area: np.ndarray  # int64[zones, MAX_ORDER, 2]
    pcp: np.ndarray  # int64[cpus, zones, 3]
    page: np.ndarray  # int32[pages, PAGE_FIELDS]
    ctl: np.ndarray  # int64[MEMCTL_FIELDS]


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

# cache[c, .]
C_SIZE = 0  # slot, bytes
C_OBJSIZE = 1
C_ALIGN = 2
C_FLAGS = 3
C_ORDER = 4
C_OBJECTS = 5  # per slab
C_FALLBACK = 6  # __PAGE_ALLOC_FALLBACK: kmalloc caches with fewer than 4 objects a page
C_ALLOCFLAGS = 7
C_CTOR = 8
C_MIN_PARTIAL = 9
C_FREE_SLAB = 10  # retired slab records of this cache, linked by S_NEXT
C_ORDINALS = 11  # slabs numbered so far (golden cases)
C_PAGES = 12  # pages held
C_MAX_PAGES = 13
C_ALIVE = 14
C_CTOR_CALLS = 15
CACHE_FIELDS = 32  # from 16 on: kernels/alloc/slub/state.py; a power of two, for it is a stride

# kcpu[c, cpu, .]
K_FREELIST = 0  # object index, -1 empty
K_PAGE = 1  # slab record, -1 none
K_PARTIAL = 2  # first slab of the CPU's partial list, -1 none (later eras)
K_STAT = 3  # first of the CONFIG_SLUB_STATS counters, in the order of SLUB_STATS
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
(
    K_ALLOC_FASTPATH,
    K_ALLOC_SLOWPATH,
    K_FREE_FASTPATH,
    K_FREE_SLOWPATH,
    K_FREE_FROZEN,
    K_FREE_ADD_PARTIAL,
    K_FREE_REMOVE_PARTIAL,
    K_ALLOC_FROM_PARTIAL,
    K_ALLOC_SLAB,
    K_ALLOC_REFILL,
    K_FREE_SLAB,
    K_CPUSLAB_FLUSH,
    K_DEACTIVATE_FULL,
    K_DEACTIVATE_EMPTY,
    K_DEACTIVATE_TO_HEAD,
    K_DEACTIVATE_TO_TAIL,
    K_DEACTIVATE_REMOTE_FREES,
) = range(K_STAT, K_STAT + len(SLUB_STATS))
KCPU_FIELDS = 48  # from 20 on: what the later eras add, see kernels/alloc/slub/state.py

# knode[c, node, .]
N_NR_PARTIAL = 0
N_PARTIAL_HEAD = 1
N_PARTIAL_TAIL = 2
N_NR_SLABS = 3
KNODE_FIELDS = 8  # from 4 on: the barn of kernels/alloc/slub/state.py

# slab[s, .]
S_CACHE = 0
S_NODE = 1
S_INUSE = 2
S_FREELIST = 3  # object index, -1 empty
S_FROZEN = 4  # 1 + cpu that holds it, 0 none
S_NEXT = 5  # partial list, or retired records of the cache
S_PREV = 6
S_PFN = 7
S_OBJECTS = 8
S_BASE = 9  # first entry in ``link``
S_ORDINAL = 10  # -1 until a trace operation returned an object of it
S_BUYER = 11  # who asked when the slab was bought
S_DEPTH = 12  # at which depth
S_PARTIAL = 13  # on the node's partial list
S_ORDER = 14
S_COUNT = 15  # on a CPU's partial list: slabs, or free objects, from here to its end (later eras)
SLAB_FIELDS = 16

# slubctl[.]
U_SLAB_TOP = 0  # slab records in use so far
U_LINK_TOP = 1  # entries of ``link`` in use so far
U_PATH = 2  # path of the last operation (numbers of the golden cases)
U_OVERFLOW = 4  # 1: the arrays were too small; the lane's result is void
U_NR_CACHES = 5
U_NODES = 6
U_MAX_PAGES = 7  # most pages in slabs
U_PAGES = 8
SLUBCTL_FIELDS = 16  # from 9 on: kernels/alloc/slub/state.py

# A handle names an allocated object: slab record << 16 | object index; or a page-backed one.
HANDLE_SHIFT = 16
HANDLE_INDEX_MASK = 0xFFFF
PAGE_HANDLE = 1 << 48  # | order << 40 | page frame (stub model: node)
PAGE_HANDLE_ORDER_SHIFT = 40
NO_OBJECT = -1


@group(cache=CACHE_FIELDS, kcpu=KCPU_FIELDS, knode=KNODE_FIELDS, slab=SLAB_FIELDS)
class Slub(NamedTuple):
    """SLUB of one lane."""

    cache: np.ndarray  # int64[caches, CACHE_FIELDS]
    kcpu: np.ndarray  # int64[caches, cpus, KCPU_FIELDS]
    knode: np.ndarray  # int64[caches, nodes, KNODE_FIELDS]
    slab: np.ndarray  # int32[slabs, SLAB_FIELDS]
    link: np.ndarray  # int16[objects]: next free object of the same slab
    ctl: np.ndarray  # int64[SLUBCTL_FIELDS]
