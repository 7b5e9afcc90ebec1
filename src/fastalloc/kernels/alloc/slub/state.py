"""The eras of SLUB's rules, and the columns that the later ones add to the arrays of ``state.Slub``.

A cache's era is data (column ``C_ERA`` of a :class:`SlubEras`), so caches of all eras may live side by side in one
lane.

=============  ======================  ==============================================================================
era            Linux                   what differs
=============  ======================  ==============================================================================
``2.6.25``     2.6.22 to 2.6.25        an emptied slab goes back at once; one order; kernels/alloc/slub/slub.py
``cpu-partial`` 3.2 to 6.17            per-CPU partial lists, min_partial honoured on free, order fallback;
                                       kernels/alloc/slub/cpu_partial.py
``sheaves``    6.18 on                 arrays of objects per CPU and a barn per node before all that;
                                       kernels/alloc/slub/sheaves.py
=============  ======================  ==============================================================================
"""

from typing import NamedTuple

import numpy as np

from fastalloc.compiler.groups import group
from fastalloc.kernels.alloc import state as st

ERA_2_6_25 = 0
ERA_CPU_PARTIAL = 1
ERA_SHEAVES = 2
ERA_NAMES = ("2.6.25", "cpu-partial", "sheaves")

# cache[c, .]
C_ERA = 16
C_CPU_PARTIAL = 17  # what a CPU's partial list may hold: slabs, or free objects; 0: no such list
C_CPU_PARTIAL_OBJECTS = 18  # 1: it counts free objects (3.2 to 5.15), 0: slabs (5.16 on)
C_MIN_ORDER = 19  # order of the smallest slab, tried when the preferred one cannot be had; C_ORDER: no second try
C_SHEAF_CAPACITY = 20  # objects a sheaf
C_RANK = 22  # of the slab bought last, see kernels/alloc/entitlement.py
FIRST_RANK = 16  # of a cache without a slab
C_SHEAF_CACHE = 21  # cache (of era cpu-partial) that sheaves come from; -1: they cost no memory
C_MAX_SLABS = 23  # most slabs that a node held
C_KEEP_EMPTY = 24  # era 2.6.25: partial slabs below which a slab stays when its last object is freed; 0: it goes

# kcpu[c, cpu, .]
K_MAIN = 20  # sheaves of the CPU, -1 none
K_SPARE = 21
K_SHEAF_FREELIST = 22  # the CPU slab behind the sheaves; K_FREELIST and K_PAGE stay -1 in that era
K_SHEAF_PAGE = 23
K_ERA_STAT = 24
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
)
(
    K_CPU_PARTIAL_ALLOC,
    K_CPU_PARTIAL_FREE,
    K_CPU_PARTIAL_NODE,
    K_CPU_PARTIAL_DRAIN,
    K_DEACTIVATE_BYPASS,
    K_ALLOC_NODE_MISMATCH,
    K_ORDER_FALLBACK,
    K_ALLOC_PCS,
    K_FREE_PCS,
    K_BARN_GET,
    K_BARN_GET_FAIL,
    K_BARN_PUT,
    K_BARN_PUT_FAIL,
    K_SHEAF_REFILL,
    K_SHEAF_FLUSH,
    K_SHEAF_ALLOC,
    K_SHEAF_FREE,
) = range(K_ERA_STAT, K_ERA_STAT + len(ERA_STATS))
K_RESERVE = K_SHEAF_FREE + 1  # 1: the CPU slab came from below all watermarks
assert K_RESERVE < st.KCPU_FIELDS

# knode[c, n, .]: the barn
N_FULL = 4  # first full sheaf, -1 none
N_EMPTY = 5
N_NR_FULL = 6
N_NR_EMPTY = 7

# slubctl[.]
U_SHEAF_TOP = 9  # end of the sheaves made so far, 0 before the first
U_SHEAF_SPARE = 10  # first retired sheaf, 0 none
U_SHEAF_STRIDE = 11  # entries of ``ctl`` a sheaf takes

# A sheaf ``h`` is a place in ``ctl``, behind its fields: ctl[h + .]
H_NEXT = 0
H_SIZE = 1  # objects in it
H_MEMORY = 2  # handle of the object that holds it, -1 none
H_RESERVE = 3  # prefilled below the watermarks: flushed, not reused, when it comes back
H_OBJECTS = 4

MAX_FULL_SHEAVES = 10  # a node
SHEAF_HEADER = 32  # bytes of struct slab_sheaf in front of its pointers
SHRINK_PROMOTE_MAX = 32  # slabs with more free objects than this are not sorted [kmem_cache_shrink, 3.19 on]

# What ``slub.ctl[U_PATH]`` says beside the numbers of the golden cases.
PATH_CPU_PARTIAL = 7  # allocation from, or free into, the CPU's partial list
PATH_SHEAF = 10  # a sheaf gave or took the object


@group(cache=st.CACHE_FIELDS, kcpu=st.KCPU_FIELDS, knode=st.KNODE_FIELDS, slab=st.SLAB_FIELDS)
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

    A cache of era ``sheaves`` needs at most 2 a CPU and, for each node, the full and empty ones of its barn: with
    one node, 2 * CPUs + 10 full ones and as many empty ones as were ever full at once.
    """
    stride = H_OBJECTS + capacity
    ctl = np.zeros(st.SLUBCTL_FIELDS + sheaves * stride, np.int64)
    ctl[U_SHEAF_STRIDE] = stride
    return ctl
