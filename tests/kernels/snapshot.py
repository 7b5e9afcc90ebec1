"""Readers of the kernels' arrays: the lists behind the links, and the books that must balance."""

from fastalloc.kernels.alloc import mempool as mp
from fastalloc.kernels.alloc import state as st
from fastalloc.linux import gfp as g


def chain(head, following, limit=1 << 20):
    """The items of a linked list, head first; ``following`` maps an item to the next one, -1 ends."""
    items = []
    while head >= 0:
        items.append(int(head))
        assert len(items) <= limit, "a list runs in a circle"
        head = following(head)
    return items


def free_area(mem, z):
    """The blocks on each buddy list, head first."""
    page = mem.page
    lists = [
        chain(mem.area[z, o, st.AREA_HEAD], lambda p: page[p, st.P_NEXT], mem.zone[z, st.Z_PRESENT])
        for o in range(g.MAX_ORDER)
    ]
    for o, blocks in enumerate(lists):
        assert len(blocks) == mem.area[z, o, st.AREA_NR]
        assert_linked_back(blocks, lambda p: page[p, st.P_PREV])
        for p in blocks:
            flags = page[p, st.P_FLAGS]
            assert flags & st.PG_BUDDY
            assert ((flags >> st.PG_ORDER_SHIFT) & 15, flags >> st.PG_ZONE_SHIFT & 3) == (o, z)
    return lists


def pcp_list(mem, cpu, z):
    """The pages of a CPU's list, hot end first."""
    pages = chain(mem.pcp[cpu, z, st.PCP_HEAD], lambda p: mem.page[p, st.P_NEXT], mem.zone[z, st.Z_PRESENT])
    assert len(pages) == mem.pcp[cpu, z, st.PCP_COUNT]
    assert mem.pcp[cpu, z, st.PCP_TAIL] == (pages[-1] if pages else -1)
    assert_linked_back(pages, lambda p: mem.page[p, st.P_PREV])
    return pages


def assert_linked_back(items, preceding):
    for before, item in zip([-1, *items], items, strict=False):
        assert preceding(item) == before


def partial_list(slub, c, node=0):
    """The slab records on a node's partial list, head first."""
    records = chain(slub.knode[c, node, st.N_PARTIAL_HEAD], lambda s: slub.slab[s, st.S_NEXT], slub.slab.shape[0])
    assert len(records) == slub.knode[c, node, st.N_NR_PARTIAL]
    assert slub.knode[c, node, st.N_PARTIAL_TAIL] == (records[-1] if records else -1)
    assert_linked_back(records, lambda s: slub.slab[s, st.S_PREV])
    return records


def retired_slabs(slub, c):
    return chain(slub.cache[c, st.C_FREE_SLAB], lambda s: slub.slab[s, st.S_NEXT], slub.slab.shape[0])


def live_slabs(slub, c):
    """All slab records of a cache that own pages."""
    retired = set(retired_slabs(slub, c))
    return [s for s in range(slub.ctl[st.U_SLAB_TOP]) if slub.slab[s, st.S_CACHE] == c and s not in retired]


def free_objects(slub, s, head):
    """The indices on a free list of slab ``s`` that begins at ``head``."""
    base = slub.slab[s, st.S_BASE]
    return chain(head, lambda i: slub.link[base + i], slub.slab[s, st.S_OBJECTS])


def stats(slub, c, cpu):
    """The non-zero CONFIG_SLUB_STATS counters of one CPU."""
    row = slub.kcpu[c, cpu, st.K_STAT : st.K_STAT + len(st.SLUB_STATS)].tolist()
    return {name: value for name, value in zip(st.SLUB_STATS, row, strict=True) if value}


def total_stats(slub, c):
    """The counters of a cache, all CPUs together, zeros included."""
    rows = slub.kcpu[c, :, st.K_STAT : st.K_STAT + len(st.SLUB_STATS)].sum(axis=0).tolist()
    return dict(zip(st.SLUB_STATS, rows, strict=True))


def pool_elements(pools, p):
    return pools.element[p, : pools.pool[p, mp.MP_CURR]].tolist()


def split(handle):
    """(slab record, index) of a slab object's handle."""
    return int(handle) >> st.HANDLE_SHIFT, int(handle) & st.HANDLE_INDEX_MASK


def assert_pages_conserved(mem, slub, held):
    """Every page is exactly once in the buddy, on a CPU's list, in a slab, or in ``held`` (pairs of frame, order)."""
    owner = {}

    def claim(pfn, order, who):
        for page in range(pfn, pfn + (1 << order)):
            assert page not in owner, f"page {page} is {owner.get(page)} and {who}"
            owner[page] = who

    for z in range(mem.ctl[st.M_NR_ZONES]):
        free = 0
        for order, blocks in enumerate(free_area(mem, z)):
            for pfn in blocks:
                claim(pfn, order, "free")
            free += len(blocks) << order
        assert free == mem.zone[z, st.Z_FREE]
        assert mem.zone[z, st.Z_MIN_FREE] <= free
        for cpu in range(mem.pcp.shape[0]):
            for pfn in pcp_list(mem, cpu, z):
                claim(pfn, 0, f"on the list of CPU {cpu}")
    in_slabs = 0
    for c in range(slub.ctl[st.U_NR_CACHES]) if slub is not None else ():
        order = int(slub.cache[c, st.C_ORDER])
        slabs = live_slabs(slub, c)
        assert len(slabs) << order == slub.cache[c, st.C_PAGES] <= slub.cache[c, st.C_MAX_PAGES]
        in_slabs += len(slabs) << order
        for s in slabs:
            claim(int(slub.slab[s, st.S_PFN]), order, f"in slab {s}")
    assert slub is None or in_slabs == slub.ctl[st.U_PAGES] <= slub.ctl[st.U_MAX_PAGES]
    for pfn, order in held:
        claim(pfn, order, "held")
    present = {
        page
        for row in mem.zone[: mem.ctl[st.M_NR_ZONES]]
        for page in range(row[st.Z_START], row[st.Z_START] + row[st.Z_PRESENT])
    }
    assert owner.keys() == present


def assert_objects_conserved(slub, handles):
    """Every object of every slab is exactly once allocated (in ``handles``) or on one free list."""
    allocated = {}
    for handle in handles:
        if handle < st.PAGE_HANDLE:
            s, i = split(handle)
            assert i not in allocated.setdefault(s, set()), f"object {i} of slab {s} was handed out twice"
            allocated[s].add(i)
    for c in range(slub.ctl[st.U_NR_CACHES]):
        listed = set(partial_list(slub, c))
        mine = {int(row[st.K_PAGE]): row for row in slub.kcpu[c] if row[st.K_PAGE] >= 0}
        for s in live_slabs(slub, c):
            row = slub.slab[s]
            shared = free_objects(slub, s, row[st.S_FREELIST])
            private = free_objects(slub, s, mine[s][st.K_FREELIST]) if s in mine else []
            out = allocated.pop(s, set())
            assert sorted([*shared, *private, *out]) == list(range(row[st.S_OBJECTS]))
            assert row[st.S_INUSE] == len(out) + len(private)
            assert (row[st.S_FROZEN] != 0) == (s in mine)
            assert row[st.S_PARTIAL] == (s in listed)
            assert (s in listed) == (s not in mine and len(shared) > 0)
        assert slub.knode[c, 0, st.N_NR_SLABS] == len(live_slabs(slub, c))
    assert not allocated, "objects of slabs that are gone"
