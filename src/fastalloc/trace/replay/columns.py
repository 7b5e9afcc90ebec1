"""What the columns of a replay's tables mean; docs/replay.md has the same lists."""

CACHES = {
    "config": "the configuration, `as traced` or the what-if",
    "cache": "name as the traced kernel shows it",
    "size": "bytes of a slot, padding and metadata included",
    "order": "pages of a slab are 2**order",
    "start_slabs": "slabs before the first event",
    "new": "slabs allocated; the median over the draws, as freed, peak and end",
    "freed": "slabs given back",
    "peak": "most slabs that this cache held at once, at a moment of its own",
    "end": "slabs after the last event",
    "objects": "objects out after the last event, those from before the trace included",
    "cross_cpu_frees": "objects allocated in the trace and freed on another CPU",
    "alloc_fast": "allocations from the CPU's private list or sheaf",
    "alloc_slow": "allocations that went past it",
    "free_fast": "frees to the CPU's private list or sheaf",
    "free_slow": "frees that went past it",
    "node_list": "slabs moved on and off the lists of nodes (SLAB: batches of objects)",
    "tail_bytes": "at the end: bytes of slabs behind their last slot",
    "partial_bytes": "at the end: free slots of slabs on lists of nodes (SLAB: of all slabs)",
    "cpu_bytes": "at the end: free slots with CPUs and in barns: their slabs, partial lists, sheaves, arrays",
    "rounding_bytes": "at the end: what slots of objects allocated in the trace have more than was asked for",
    "list_lock": "times list_lock of a node was taken (era sheaves: the lock of a barn too)",
}
RANGES = {f"{name}_{end}" for name in ("new", "freed", "peak", "end") for end in ("low", "high")}
SERIES = {
    "config": "the configuration",
    "ts_ns": "trace clock of the sample, taken before the next event",
    "cache": "name as the traced kernel shows it",
    "slabs": "slabs held",
    "objects": "objects out",
    "partial": "slabs on the partial lists of nodes",
    "slabs_allocated": "slabs allocated so far",
    "slabs_freed": "slabs given back so far",
    "alloc_fast": "so far, as in caches.parquet",
    "alloc_slow": "so far",
    "free_fast": "so far",
    "free_slow": "so far",
    "node_list": "moves on the lists of nodes so far",
    "pages": "slabs times 2**order",
    "waste_bytes": "4096 * pages less size * objects: tails of slabs and slots that hold no object, wherever they lie",
}
# Further columns of caches.parquet are the allocator's own counters by their names in the kernel (SLUB's of
# /sys/kernel/slab/NAME with CONFIG_SLUB_STATS, SLAB's of /proc/slabinfo and mm/slab.c).

__all__ = ["CACHES", "RANGES", "SERIES"]
