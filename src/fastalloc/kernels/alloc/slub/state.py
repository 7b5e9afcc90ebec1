"""The eras of SLUB's rules, and the columns that the later ones add to the arrays of ``state.Slub``.

A cache's era is data (``KMEM_CACHE.era`` of a :class:`SlubEras`), so caches of all eras may live side by side in one
lane.

=============  ======================  ==============================================================================
era            Linux                   what differs
=============  ======================  ==============================================================================
``2.6.25``     2.6.22 to 2.6.25        an emptied slab goes back at once; one order; alloc/slub/era_2_6_25
``cpu-partial`` 3.2 to 6.17            per-CPU partial lists, min_partial honoured on free, order fallback;
                                       alloc/slub/era_cpu_partial
``sheaves``    6.18                    arrays of objects per CPU and a barn per node before all that, for caches
                                       that ask; alloc/slub/era_sheaves
``7.3``        7.2 and 7.3             every cache has sheaves, and there is no CPU slab below them; 7.0 and 7.1 were
                                       not read; alloc/slub/era_7_3
=============  ======================  ==============================================================================
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.aligned import zeros
from fastalloc.compiler.groups import group
from fastalloc.compiler.records import Record, columns, field
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, SLUB_CTL, SLUB_SLAB

ERA_2_6_25 = 0
ERA_CPU_PARTIAL = 1
ERA_SHEAVES = 2
ERA_PERCPU_SHEAVES = 3
ERA_NAMES = ("2.6.25", "cpu-partial", "sheaves", "7.3")

# How a slab is tried at an order above the smallest one.
FIRST_TRIES = ("polite", "no-reclaim")  # 2.6.26 on: NORETRY and NOWARN; 4.4 on: also NOMEMALLOC and no reclaim
TRY_POLITE, TRY_NO_RECLAIM = range(len(FIRST_TRIES))
# Who may refill an empty sheaf from the slabs.
REFILLS = ("spinning", "blocking")  # 7.0-rc3 on: everybody; 7.0-rc1: callers that may block
REFILL_SPINNING, REFILL_BLOCKING = range(len(REFILLS))

FIRST_RANK = 16  # of a cache without a slab

# KMEM_CACHE_CPU.main by era where there is no main sheaf: common paths need not read the cache's row.
NO_MAIN = tuple(-1 - era for era in range(len(ERA_NAMES)))

ERA_STATS = (
    "cpu_partial_alloc",
    "cpu_partial_free",
    "cpu_partial_node",
    "cpu_partial_drain",
    "deactivate_bypass",
    "alloc_node_mismatch",
    "order_fallback",
    "alloc_pcs",
    "free_pcs",
    "barn_get",
    "barn_get_fail",
    "barn_put",
    "barn_put_fail",
    "sheaf_refill",
    "sheaf_flush",
    "sheaf_alloc",
    "sheaf_free",
    "free_rcu_sheaf",
    "free_rcu_sheaf_fail",
    "sheaf_prefill_fast",
    "sheaf_prefill_slow",
    "sheaf_prefill_oversize",
    "sheaf_return_fast",
    "sheaf_return_slow",
)
assert KMEM_CACHE_CPU.reserve < KMEM_CACHE_CPU.width


class SHEAF(Record):
    """A sheaf ``h`` is a place in ``ctl``, behind its fields: ctl[h + .]."""

    next = field("on a list of a barn, of retired records, or of callbacks")
    size = field("objects in it")
    capacity = field("objects that it is made for", "objects", "struct slab_sheaf")
    memory = field("handle of the object that holds it, -1 none")
    reserve = field("prefilled below the watermarks: flushed, not reused, when it comes back")
    room = field("objects that the record has room for")
    cache = field("of kfree_rcu's sheaves: their cache")
    cpu = field("of kfree_rcu's sheaves: the CPU that queued it")
    node = field("of kfree_rcu's sheaves: the node whose barn takes it; -1: it is flushed")
    objects = columns(0, "handles of its objects, SHEAF.size of them")


MAX_FULL_SHEAVES = 10  # a node
MAX_EMPTY_SHEAVES = 10
PCS_BATCH_MAX = 32  # objects of a main sheaf that are flushed at once
LOOKAHEAD = 3  # foreign objects after which a detached free list ends [build_detached_freelist]
BARN_BYTES = 48  # struct node_barn
SHEAF_HEADER = 32  # bytes of struct slab_sheaf in front of its pointers
SHRINK_PROMOTE_MAX = 32  # slabs with more free objects than this are not sorted [kmem_cache_shrink, 3.19 on]

# What ``slub.ctl[SLUB_CTL.path]`` says: an allocation's object is ...
PATH_REFUSED = 0
PATH_FREELIST = 1  # off the CPU's own list; a free: onto it
PATH_CPU_SLAB = 2  # the first of the CPU slab's list, which becomes the CPU's
PATH_PARTIAL = 3  # of a slab of the node's list
PATH_NEW_SLAB = 4
PATH_PAGES = 5  # pages, as no slab was to be had
PATH_KMALLOC_PAGES = 8  # pages, as it is too large for a slab; a free: of pages
# a freed object's slab ...
PATH_STAYS_FROZEN = 2  # is some CPU's
PATH_TO_PARTIAL = 3  # was full, and goes to the node's list
PATH_STAYS = 4  # stays where it is
PATH_OFF_PARTIAL = 5  # was its last object's: off the node's list, and given back
PATH_GIVEN_BACK = 6  # the same, of one object
# and beside these numbers, which are those of the golden cases
PATH_CPU_PARTIAL = 7  # allocation from, or free into, the CPU's partial list
PATH_SHEAF = 10  # a sheaf gave or took the object


@group(cache=KMEM_CACHE.width, kcpu=KMEM_CACHE_CPU.width, knode=KMEM_CACHE_NODE.width, slab=SLUB_SLAB.width)
class SlubEras(NamedTuple):
    """SLUB of one lane whose caches may follow any era; the arrays are those of ``state.Slub``."""

    cache: np.ndarray
    kcpu: np.ndarray
    knode: np.ndarray
    slab: np.ndarray
    link: np.ndarray
    ctl: np.ndarray  # with room for sheaves, see ctl_with_sheaves


def ctl_with_sheaves(sheaves, capacity):
    """A ``SlubEras.ctl`` with room for ``sheaves`` sheaves of up to ``capacity`` objects.

    A cache with sheaves needs at most 2 a CPU (of era ``7.3`` 3) and, for each node, the full and empty
    ones of its barn: with one node, 10 full ones and as many empty ones as were ever full at once.
    """
    stride = -(-(SHEAF.width + capacity) // 8) * 8  # whole cache lines
    ctl = zeros(SLUB_CTL.width + sheaves * stride, np.int64)
    ctl[SLUB_CTL.sheaf_stride] = stride
    ctl[[SLUB_CTL.rcu_head, SLUB_CTL.rcu_tail]] = -1
    return ctl
