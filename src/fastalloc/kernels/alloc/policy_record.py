"""What a user's own policy may be asked, and what it is told: numbers that the kernels and its compiled form share."""

from fastalloc.compiler.records import Record, field

KERNEL = -1  # an answer: as the kernel would


class QUESTION(Record, width=16):
    """Its number; ``mem.ctl[MEMCTL.ask[.]]`` holds the address of the answer, 0: the kernel decides."""

    entitlement = field("may the caller take what is at hand (2.6.25), or an object of this slab (later)?")
    depth = field("how many pages must stay free in this zone?")
    fallback = field("with which mask is a refused request tried once more?")
    next_slab = field("may the next object come from this slab of the lists?")
    free_to = field("where does a freed object, or the slab that it makes partial, go?")
    keep = field("from how many partial slabs on does an empty one go?")
    refill = field("to how many objects is a sheaf filled?")
    flush = field("how many objects of a full sheaf stay in it?")
    mempool = field("is the pool asked before the allocator?")
    sleep = field("how long does a caller sleep in a mempool?", "ms")


class ASKED(Record, width=40):
    """What the last question was asked with, ``mem.ctl[MEMCTL.asked[.]]``; see TELLS_NOW and the like."""

    who = field("who asks, a WHO")
    gfp = field("its mask")
    context = field("PF_MEMALLOC and IN_INTERRUPT bits of whoever asks")
    cpu = field("the CPU")
    now = field("since the start", "ms")
    cache_id = field("the cache: its row")
    cache_size = field("slot", "bytes")
    cache_objsize = field("object", "bytes")
    cache_objects = field("a slab")
    cache_order = field("of a slab")
    cache_pages = field("in its slabs", "pages")
    cache_partial = field("slabs on the node's partial list")
    cache_slabs = field("slabs of the node")
    cache_min_partial = field("partial slabs that the kernel keeps")
    slab_id = field("the slab: its record")
    slab_free = field("free slots of it, those of a CPU's private list aside")
    slab_total = field("its slots")
    slab_owner = field("who asked when it was allocated, a WHO")
    slab_depth = field("at which DEPTH")
    zone_id = field("the zone: its number, 0 the lowest")
    zone_free = field("left if the request is granted, by the number that marks are compared with", "pages")
    zone_min = field("pages_min", "pages")
    zone_low = field("pages_low", "pages")
    zone_high = field("pages_high", "pages")
    sheaf_size = field("objects in the sheaf")
    sheaf_capacity = field("that it has room for")
    sheaf_full = field("full sheaves in the barn")
    sheaf_empty = field("empty sheaves in the barn")
    pool_id = field("the mempool: its number")
    pool_free = field("elements in reserve, curr_nr")
    pool_min = field("elements that it is to hold, min_nr")


# Of what a question is asked with: what is told only where its function names it, bits of mem.ctl[MEMCTL.tells[.]].
TELLS_NOW = 1
TELLS_CACHE = 2
TELLS_SLAB = 4
# Of free_to, which is asked of each free: its answer is a function of mem.ctl alone like the others, not machine code
# that looks at the records themselves.
TELLS_ALL = 8


class OWN(Record, width=8):
    """mem.ctl[MEMCTL.own[.]]: where a policy's words of state lie behind the columns of ``mem.ctl``."""

    lane = field("place of the words of the lane")
    cpu = field("place of the words of CPU 0")
    cpu_words = field("how many a CPU has")
    cache = field("place of the words of cache 0")
    cache_words = field("how many a cache has")
    slab = field("place of the words of slab record 0")
    slab_words = field("how many a slab has, 0: a new slab has nothing to forget")
    turns = field("loops and calls of the answer that is being given")


# Answers to QUESTION.free_to.
TO_SLAB = 1  # past the sheaves to its slab (6.18 and later)
TO_NODE = 2  # the slab to its node's list, not to the CPU's (3.2 to 6.17)
TO_HEAD = 3  # the slab to the head of its node's list, not to the tail (2.6.25)
# MEMCTL.slab_match: what a slab is asked before an object of it is given or taken, bits.
MATCH_PFMEMALLOC = 1  # the kernel's own rule [pfmemalloc_match]
MATCH_ENTITLEMENT = 2
MATCH_NEXT = 4
MATCH_FREE_TO = 8
