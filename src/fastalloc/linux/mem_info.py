"""What memory reports of each kernel from 2.6.9 look like: which words and fields came and went with which version.

Every row tells where to look, for what, and in which versions it stands there. ``reports that print it`` narrow a
report without a version to the versions that print so. Sources: ``mm/page_alloc.c`` (show_free_areas, warn_alloc; from
6.6 ``mm/show_mem.c``), ``mm/oom_kill.c`` (dump_header), ``mm/slub.c`` (slab_out_of_memory), ``mm/vmalloc.c``,
``lib/dump_stack.c``, ``lib/show_mem.c``, ``mm/swap_state.c``.
"""

from typing import NamedTuple

from fastalloc.linux.release import Base, Span, span

ZONES = ("DMA", "DMA32", "Normal", "HighMem", "Movable", "Device")  # in the order of their index
# Zones that a build may have, by version [include/linux/mmzone.h: enum zone_type].
ZONE_VERSIONS: dict[str, Span] = {
    "DMA": span("2.6.9", "7.3"),
    "DMA32": span("2.6.15", "7.3"),
    "Normal": span("2.6.9", "7.3"),
    "HighMem": span("2.6.9", "7.3"),
    "Movable": span("2.6.23", "7.3"),
    "Device": span("4.3", "7.3"),
}
# From here zones above gfp_zone(mask) are left out of a report [mm/page_alloc.c: __show_mem].
HIDES_ABOVE: Base = (6, 1, 0)


class Sign(NamedTuple):
    """Something that a report shows (or, with ``shown`` False, a whole report that lacks it) and the versions of it.

    ``where``: ``head``, ``totals``, ``node``, ``zone`` (names of fields), or ``text`` (a regular expression).
    """

    where: str
    what: str
    shown: bool
    versions: Span
    source: str


_PAGE_ALLOC = "mm/page_alloc.c: "
_SHOW = "mm/page_alloc.c (6.6+ mm/show_mem.c): show_free_areas"


def _sign(where: str, what: str, first: str, last: str, source: str, shown: bool = True) -> Sign:
    return Sign(where, what, shown, span(first, last), source)


SIGNS: tuple[Sign, ...] = (
    # Heads.
    _sign("text", r"page allocation failure\. order", "2.6.9", "2.6.39", _PAGE_ALLOC + "__alloc_pages"),
    _sign("text", r"page allocation failure: order", "3.0", "7.3", _PAGE_ALLOC + "warn_alloc_failed"),
    _sign("text", r"\bmode:0x[0-9a-f]+\(", "4.6", "7.3", _PAGE_ALLOC + "warn_alloc_failed"),
    _sign("text", r"order:\d+, mode:0x[0-9a-f]+(?=\n)", "2.6.9", "4.5", _PAGE_ALLOC + "warn_alloc_failed"),
    _sign("text", r"failure: order:\d+, mode:0x[0-9a-f]+\([^)\n]*\)(?=\n)", "4.6", "4.10", _PAGE_ALLOC + "warn_alloc"),
    _sign(
        "text",
        r"failure: order:\d+,\s+mode:0x[0-9a-f]+\([^)]*\),\s+nodemask=",
        "4.11",
        "7.3",
        _PAGE_ALLOC + "warn_alloc",
    ),
    _sign("text", r"mode:0x[0-9a-f]+\([^)]*\),\s+nodemask=\S+?,cpuset=", "5.0", "7.3", _PAGE_ALLOC + "warn_alloc"),
    _sign("text", r"\S+ cpuset=\S+ mems_allowed=", "2.6.29", "4.20", "mm/oom_kill.c: dump_header"),
    _sign(
        "text", r"(?<!invoked )(?<!invoked\n)oom-killer: gfp_mask", "2.6.9", "2.6.19", "mm/oom_kill.c: out_of_memory"
    ),
    _sign("text", r"oomkilladj=", "2.6.20", "2.6.31", "mm/oom_kill.c: oom_kill_process"),
    _sign("text", r"\boom_adj=\S+(?=\n)", "2.6.32", "2.6.35", "mm/oom_kill.c: oom_kill_process"),
    _sign("text", r"oom_adj=\S+ oom_score_adj=", "2.6.36", "3.6", "mm/oom_kill.c: dump_header"),
    _sign("text", r"order=-?\d+,\s+oom_score_adj=", "3.7", "7.3", "mm/oom_kill.c: dump_header"),
    _sign("text", r"gfp_mask=0x[0-9a-f]+,", "2.6.9", "4.5", "mm/oom_kill.c: dump_header"),
    _sign("text", r"gfp_mask=0x[0-9a-f]+\(", "4.6", "7.3", "mm/oom_kill.c: dump_header"),
    _sign("text", r"gfp_mask=0x[0-9a-f]+\([^)]*\),\s+nodemask=", "4.9", "4.20", "mm/oom_kill.c: dump_header"),
    _sign("text", r"oom-kill:constraint=", "5.0", "7.3", "mm/oom_kill.c: dump_oom_summary"),
    _sign(
        "text",
        r"Task in \S+ killed as a result of limit",
        "2.6.30",
        "4.20",
        "mm/memcontrol.c: mem_cgroup_print_oom_info",
    ),
    _sign("text", r"vmalloc size \d+ allocation failure", "5.13", "5.13", "mm/vmalloc.c"),
    _sign("text", r"vmalloc error: size", "5.14", "7.3", "mm/vmalloc.c"),
    _sign("text", r"SLAB: Unable to allocate memory", "3.4", "6.7", "mm/slab.c: slab_out_of_memory"),
    _sign("text", r"Unable to allocate memory on node -?\d+ \(gfp=", "2.6.31", "4.5", "mm/slub.c: slab_out_of_memory"),
    _sign("text", r"Unable to allocate memory on node -?\d+, gfp=", "4.6", "6.11", "mm/slub.c: slab_out_of_memory"),
    _sign("text", r"Unable to allocate memory on CPU \d+ \(of node", "6.12", "7.3", "mm/slub.c: slab_out_of_memory"),
    # The line with the version, where the version itself is lost.
    _sign("text", r"\bPid: \d+, comm: ", "2.6.24", "3.9", "arch dump_stack"),
    _sign("text", r"\bCPU: \d+ PID: \d+ Comm: ", "3.10", "6.10", "lib/dump_stack.c"),
    _sign("text", r"\bCPU: \d+ UID: \d+ PID: ", "6.11", "7.3", "lib/dump_stack.c"),
    # Counters after Mem-Info.
    _sign("text", r"\bActive:\d+ inactive:\d+", "2.6.9", "2.6.27", _SHOW),
    _sign("text", r"\bActive:\d[^=]*?\bbounce:\d", "2.6.21", "2.6.27", _SHOW),
    _sign("text", r"\bActive_anon:\d+", "2.6.28", "2.6.31", _SHOW),
    _sign("totals", "isolated_anon", "2.6.32", "7.3", _SHOW),
    _sign("totals", "free_cma", "3.7", "7.3", _SHOW),
    _sign("totals", "free_cma", "2.6.9", "3.6", _SHOW, shown=False),
    _sign("totals", "free_pcp", "4.1", "7.3", _SHOW),
    _sign("totals", "free_pcp", "2.6.9", "4.0", _SHOW, shown=False),
    _sign("totals", "unstable", "2.6.9", "5.7", _SHOW),
    _sign("totals", "unstable", "5.8", "7.3", _SHOW, shown=False),
    _sign("totals", "kernel_misc_reclaimable", "5.15", "7.3", _SHOW),
    _sign("totals", "kernel_misc_reclaimable", "2.6.9", "5.14", _SHOW, shown=False),
    _sign("totals", "sec_pagetables", "6.1", "7.3", _SHOW),
    _sign("totals", "sec_pagetables", "2.6.9", "6.0", _SHOW, shown=False),
    # The line of a node.
    _sign("node", "active_anon", "4.8", "7.3", _SHOW),
    _sign("node", "pages_scanned", "4.8", "4.11", _SHOW),
    _sign("node", "pages_scanned", "4.12", "7.3", _SHOW, shown=False),
    _sign("node", "unstable", "4.8", "5.7", _SHOW),
    _sign("node", "unstable", "5.8", "7.3", _SHOW, shown=False),
    _sign("node", "kernel_stack", "5.9", "7.3", _SHOW),
    _sign("node", "kernel_stack", "4.8", "5.8", _SHOW, shown=False),
    _sign("node", "pagetables", "5.11", "7.3", _SHOW),
    _sign("node", "pagetables", "4.8", "5.10", _SHOW, shown=False),
    _sign("node", "sec_pagetables", "6.1", "7.3", _SHOW),
    _sign("node", "writeback_tmp", "4.8", "6.14", _SHOW),
    _sign("node", "Balloon", "6.15", "7.3", _SHOW),
    _sign("node", "gpu_active", "7.1", "7.3", _SHOW),
    # The line of a zone.
    _sign("zone", "active", "2.6.9", "2.6.27", _SHOW),
    _sign("zone", "active_anon", "2.6.28", "7.3", _SHOW),
    _sign("zone", "isolated(anon)", "2.6.32", "4.7", _SHOW),
    _sign("zone", "isolated(anon)", "4.8", "7.3", _SHOW, shown=False),
    _sign("zone", "managed", "3.8", "7.3", _SHOW),
    _sign("zone", "managed", "2.6.9", "3.7", _SHOW, shown=False),
    _sign("zone", "free_cma", "3.7", "7.3", _SHOW),
    _sign("zone", "free_cma", "2.6.9", "3.6", _SHOW, shown=False),
    _sign("zone", "free_pcp", "4.1", "7.3", _SHOW),
    _sign("zone", "free_pcp", "2.6.9", "4.0", _SHOW, shown=False),
    _sign("zone", "pages_scanned", "2.6.10", "4.7", _SHOW),
    _sign("zone", "writepending", "4.8", "7.3", _SHOW),
    _sign("zone", "slab_reclaimable", "2.6.32", "4.12", _SHOW),
    _sign("zone", "slab_reclaimable", "4.13", "7.3", _SHOW, shown=False),
    _sign("zone", "kernel_stack", "2.6.32", "5.8", _SHOW),
    _sign("zone", "pagetables", "2.6.32", "5.10", _SHOW),
    _sign("zone", "reserved_highatomic", "5.6", "7.3", _SHOW),
    _sign("zone", "reserved_highatomic", "2.6.9", "5.5", _SHOW, shown=False),
    _sign("zone", "boost", "5.16", "7.3", _SHOW),
    _sign("zone", "boost", "2.6.9", "5.15", _SHOW, shown=False),
    _sign("zone", "free_highatomic", "6.15", "7.3", _SHOW),
    _sign("zone", "free_highatomic", "2.6.9", "6.14", _SHOW, shown=False),
    _sign("zone", "zspages", "6.18", "7.3", _SHOW),
    _sign("text", r"reserved_highatomic:\d+kB", "7.3", "7.3", _SHOW),
    # Lists, reserve and the rest.
    _sign("text", r"protections\[\]:", "2.6.9", "2.6.10", _SHOW),
    _sign("text", r"lowmem_reserve\[\]:", "2.6.10", "7.3", _SHOW),
    _sign("text", r"(?:DMA|Normal|HighMem) per-cpu:", "2.6.9", "4.0", _SHOW),
    _sign("text", r"Cold: hi:", "2.6.20", "2.6.25", _SHOW),
    _sign("text", r"\bcpu \d+ hot: low", "2.6.9", "2.6.15", _SHOW),
    _sign("text", r"\bcpu \d+ hot: high", "2.6.16", "2.6.19", _SHOW),
    _sign("text", r"\d\*\d+kB \([UEMRCI]*R[UEMRCI]*\)", "3.8", "4.3", _SHOW),
    _sign("text", r"\d\*\d+kB \([UMEHCI]*H[UMEHCI]*\)", "4.4", "7.3", _SHOW),
    _sign("text", r"\d\*\d+kB \([UMECI]+\)", "3.8", "7.3", _SHOW),
    _sign("text", r"[1-9]\*\d+kB \d+\*\d+kB", "2.6.9", "3.7", _SHOW),
    _sign("text", r"Node \d+ hugepages_total=", "3.10", "7.3", "mm/hugetlb.c: hugetlb_show_meminfo"),
    _sign("text", r"Swap cache: add \d+, delete \d+, find \d+/\d+, race", "2.6.9", "2.6.25", "mm/swap_state.c"),
    _sign("text", r"\d+ pages in swap cache", "2.6.27", "7.3", "mm/swap_state.c: show_swap_cache_info"),
    _sign("text", r"Swap cache stats: add", "2.6.27", "5.19", "mm/swap_state.c: show_swap_cache_info"),
    _sign("text", r"pages in swap cache\s+Free swap", "6.0", "7.3", "mm/swap_state.c: show_swap_cache_info"),
    _sign("text", r"\d+ pages HighMem(?=\n)", "2.6.27", "3.12", "lib/show_mem.c"),
    _sign("text", r"\d+ pages HighMem/MovableOnly", "3.13", "7.3", "lib/show_mem.c"),
    _sign("text", r"\d+ pages of RAM", "2.6.9", "2.6.38", "arch show_mem"),
    _sign("text", r"\d+ pages non-shared", "2.6.27", "3.9", "lib/show_mem.c"),
    _sign("text", r"\d+ pages hwpoisoned", "3.14", "7.3", "lib/show_mem.c"),
    _sign("text", r"\d+ pages cma reserved", "3.19", "7.3", "lib/show_mem.c"),
)

TEXT_SIGNS = tuple(sign for sign in SIGNS if sign.where == "text")
FIELD_SIGNS = tuple(sign for sign in SIGNS if sign.where != "text")

# Kernels that many ran for years: what is assumed when several versions print alike and decide alike.
LONG_TERM: tuple[Base, ...] = (
    (2, 6, 9), (2, 6, 18), (2, 6, 32), (3, 2, 0), (3, 10, 0), (3, 16, 0), (3, 18, 0), (4, 4, 0), (4, 9, 0), (4, 14, 0),
    (4, 19, 0), (5, 4, 0), (5, 10, 0), (5, 15, 0), (6, 1, 0), (6, 6, 0), (6, 12, 0), (6, 18, 0),
)  # fmt: skip

# Words that a broken line may be broken inside.
KEYWORDS = (
    "allocation failure", "page allocation", "oom-killer", "invoked", "gfp_mask", "oom_score_adj", "nodemask", "cpuset",
    "mems_allowed", "lowmem_reserve[]", "protections[]", "Mem-Info", "Mem-info", "Node ", "Normal", "HighMem",
    "Movable", "DMA32", "active_anon", "inactive_anon", "active_file", "inactive_file", "isolated_anon",
    "isolated_file",
    "isolated(anon)", "isolated(file)", "unevictable", "writepending", "writeback", "writeback_tmp", "present",
    "managed", "mlocked", "slab_reclaimable", "slab_unreclaimable", "kernel_stack", "pagetables", "sec_pagetables",
    "bounce", "free_pcp", "local_pcp", "free_cma", "zspages", "reserved_highatomic", "free_highatomic", "boost:",
    "all_unreclaimable", "pages_scanned", "shmem", "mapped", "unstable", "inactive:", "active:", "free:", "min:",
    "low:", "high:", "per-cpu", "hugepages_total", "hugepages_free", "hugepages_surp", "hugepages_size",
    "kernel_misc_reclaimable",
    "total pagecache pages", "pages RAM", "pages reserved", "Tainted", "Not tainted", "Unable to allocate memory",
    "object size", "buffer size", "default order", "min order", "vmalloc", "oom_memcg", "task_memcg", "constraint",
    "Free swap", "Total swap", "Swap cache", "Memory cgroup", "failcnt",
)  # fmt: skip
