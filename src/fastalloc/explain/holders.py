"""Who holds the memory, by the counters of a report."""

import re

from fastalloc.explain.mem_info import MemInfo

_HUGE = re.compile(
    r"(?:Node\s+(\d+)\s+)?hugepages_total=(\d+)\s+hugepages_free=(\d+)\s+hugepages_surp=\d+\s+hugepages_size=(\d+)\s?kB"
)
_LISTED = 5  # kinds that are named
_ANON = ("active_anon", "Active_anon", "inactive_anon", "isolated_anon")  # Active_anon: 2.6.28 to 2.6.31
_CACHE = ("active_file", "inactive_file", "isolated_file")
_LISTS = ("Active", "inactive")  # to 2.6.27 one pair of lists for both
_LRU = "more memory or swap, or a smaller load"
_SLAB = "slabtop, /proc/slabinfo"
_UNCOUNTED = (
    "pages that drivers and the kernel take as such, vmalloc, per-cpu memory, a balloon (/proc/vmallocinfo, "
    "/proc/allocinfo, page_owner); where it only grows, a leak"
)
# What the kernel prints that holds pages, each page once, and where to look further. (mapped, shmem, dirty and
# writeback are parts of the lists; free_pcp and free_cma are free.) [mm/page_alloc.c, mm/show_mem.c: show_free_areas]
_KINDS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (_ANON, "anonymous memory", _LRU),
    (_CACHE, "page cache", _LRU),
    (_LISTS, "LRU lists", _LRU),
    (("unevictable",), "unevictable", "who locks it: Mlocked in /proc/meminfo, VmLck in /proc/PID/status, ramfs"),
    (("slab_unreclaimable",), "unreclaimable slab", _SLAB),
    (("slab_reclaimable",), "reclaimable slab", f"{_SLAB}; names and inodes: vm.vfs_cache_pressure"),
    (("slab",), "slab", _SLAB),  # to 2.6.18 one number
    (("pagetables", "sec_pagetables"), "page tables", "many mappings of the same memory: huge pages for it"),
)


def who_holds(block: MemInfo, text: str) -> str:
    """The largest holders and where to look further. ``text``: of the report, for the lines of huge pages."""
    held = [(sum(block.totals.get(name, 0) for name in names), said, look) for names, said, look in _KINDS]
    huge, unused = _huge_pages(text, block.page_kb)
    held.append((huge, f"huge pages ({unused} of them free)" if unused else "huge pages", "vm.nr_hugepages"))
    held.append((_uncounted(block, sum(pages for pages, _, _ in held)), "in no counter", _UNCOUNTED))
    held = sorted((one for one in held if one[0] > 0), key=lambda one: -one[0])[:_LISTED]
    if not held or not block.totals:
        return "who holds the memory: the counters after Mem-Info are not in the text"
    said = ", ".join(f"{name} {pages} pages" for pages, name, _ in held)
    return f"who holds the memory ({said}): {held[0][2]}"


def who_holds_of(block: MemInfo, zones: list[tuple[int, str]]) -> str:
    """The holders of some zones by their own lines (2.6.32 to 4.7 print all kinds there), else slab, which is kernel
    memory and never in HighMem."""
    infos = [info for node, zone in zones if (info := block.find(node, zone)) is not None]
    names = [("slab_reclaimable", "reclaimable slab"), ("slab_unreclaimable", "unreclaimable slab")]
    own = all("slab_unreclaimable" in info.kb for info in infos)
    if own:
        names += [("kernel_stack", "kernel stacks"), ("pagetables", "page tables"), ("unevictable", "unevictable")]
    held = [
        (sum(info.kb.get(name, 0) for info in infos) // block.page_kb if own else block.totals.get(name, 0), said)
        for name, said in names
    ]
    if own:
        for fields, said in ((_ANON, "anonymous memory"), (_CACHE, "page cache")):
            held.append((sum(info.kb.get(name, 0) for info in infos for name in fields) // block.page_kb, said))
    held = sorted((one for one in held if one[0] > 0), reverse=True)[:_LISTED]
    if not held:
        return ""
    return ", ".join(f"{said} {pages} pages" for pages, said in held)


def _huge_pages(text: str, page_kb: int) -> tuple[int, int]:
    """Pages in the pools of huge pages, used or not, and those that are free [hugetlb_show_meminfo, 3.10 and later]."""
    pools = {(node, size): (int(total), int(free)) for node, total, free, size in _HUGE.findall(text)}
    each = {pool: int(pool[1]) // page_kb for pool in pools}
    return (
        sum(total * each[pool] for pool, (total, _) in pools.items()),
        sum(free * each[pool] for pool, (_, free) in pools.items()),
    )


def _uncounted(block: MemInfo, held: int) -> int:
    """Pages of the machine that are neither free nor in a counter; 0 where a counter or the size is lost."""
    totals, tail = block.totals, block.tail
    needed = {"free", "slab_reclaimable", "slab_unreclaimable", "active_anon", "inactive_file", "pagetables"}
    if not needed <= set(totals) or "pages RAM" not in tail or "pages reserved" not in tail:
        return 0
    stacks = max(
        sum(values.get("kernel_stack", 0) for values in block.nodes.values()),
        sum(info.kb.get("kernel_stack", 0) for info in block.zones),
    )
    known = held + totals["free"] + totals.get("free_pcp", 0) + stacks // block.page_kb
    return tail["pages RAM"] - tail["pages reserved"] - known
