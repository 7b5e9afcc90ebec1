"""The gfp mask bits and task flags of 2.6.25 [include/linux/gfp.h, include/linux/sched.h]."""

GFP_DMA = 0x01
GFP_HIGHMEM = 0x02
WAIT = 0x10
HIGH = 0x20
IO = 0x40
FS = 0x80
NOWARN = 0x200
REPEAT = 0x400
NOFAIL = 0x800
NORETRY = 0x1000
COMP = 0x4000
ZERO = 0x8000
NOMEMALLOC = 0x10000
HARDWALL = 0x20000
THISNODE = 0x40000
RECLAIMABLE = 0x80000
MOVABLE = 0x100000

GFP_NOWAIT = 0
GFP_ATOMIC = HIGH
GFP_NOIO = WAIT
GFP_KERNEL = WAIT | IO | FS
GFP_TEMPORARY = GFP_KERNEL | RECLAIMABLE
GFP_USER = GFP_KERNEL | HARDWALL
GFP_HIGHUSER_PAGECACHE = GFP_USER | GFP_HIGHMEM | MOVABLE
# The NUMA build's composite: an attempt on one node that neither waits nor warns.
GFP_THISNODE = THISNODE | NOWARN | NORETRY

# Bits that proposals of the thread and later kernels add; their numbers are free in 2.6.25.
MEMALLOC = 0x2000  # __GFP_MEMALLOC: no watermark, whoever asks
SHORT = 0x200000  # short-lived: may go as deep as the policy says
NOHARDER = 0x400000  # not waiting earns no discount
POLITE = 0x800000  # not below pages_low
SPARE = 0x1000000  # SLAB_IO: a refused slab may take one of the spare pages
TEMPORARY = 0x2000000  # may dip into an emergency cache, as all of GFP_TEMPORARY may

# What SLUB and SLAB let through to the page allocator [mm/slub.c: new_slab].
GFP_SLAB_LEVEL_MASK = (
    WAIT | HIGH | IO | FS | NOWARN | REPEAT | NOFAIL | NORETRY | NOMEMALLOC | HARDWALL | THISNODE
) | (MEMALLOC | SHORT | NOHARDER | POLITE | SPARE)
# What mempool_alloc adds to every mask [mm/mempool.c: mempool_alloc].
MEMPOOL_MASK = NOMEMALLOC | NORETRY | NOWARN

# Task context of an allocation (a bit set passed as ``context``).
PF_MEMALLOC = 1
IN_INTERRUPT = 2
RT_TASK = 4

ALL_BITS = (1 << 32) - 1  # a gfp_t is unsigned int [include/linux/types.h]

COSTLY_ORDER = 3
MAX_ORDER = 11
