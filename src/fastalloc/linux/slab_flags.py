"""The SLAB_* flag words and gfp bits that decide a cache's layout [include/linux/slab.h, mm/slub.c of 2.6.25]."""

DEBUG_FREE = 0x100  # later SLAB_CONSISTENCY_CHECKS
RED_ZONE = 0x400
POISON = 0x800
HWCACHE_ALIGN = 0x2000
CACHE_DMA = 0x4000
CACHE_DMA32 = 0x8000  # 5.0 on
STORE_USER = 0x10000
RECLAIM_ACCOUNT = 0x20000
PANIC = 0x40000
DESTROY_BY_RCU = 0x80000  # later SLAB_TYPESAFE_BY_RCU
MEM_SPREAD = 0x100000
TRACE = 0x200000
NOLEAKTRACE = 0x800000
NO_MERGE = 0x1000000  # 6.5 on; the SLAB_NOMERGE of the April 2008 thread, and so honoured in every era
FAILSLAB = 0x2000000
ACCOUNT = 0x4000000  # 4.5 on: charged to a memory cgroup
KASAN = 0x8000000
NO_SHEAVES = 0x40000000  # ours for the SLAB_NO_SHEAVES of kmem_cache and kmem_cache_node, 7.0 on

# Internal to SLUB.
PAGE_ALLOC_FALLBACK = 0x10000000
KMALLOC_CACHE = 0x20000000
OBJECT_POISON = 0x80000000

DEBUG_METADATA = RED_ZONE | POISON | STORE_USER


def fls(x: int) -> int:
    """Position of the highest set bit, counted from 1; 0 for 0 [fls]."""
    return x.bit_length()


def round_up(x: int, to: int) -> int:
    """The next multiple of ``to``."""
    return -(-x // to) * to


def get_order(size: int, page_shift: int = 12) -> int:
    """The smallest page order that holds ``size`` bytes [get_order]."""
    return max(0, fls(size - 1) - page_shift)
