"""Readers of the kernels' arrays: the lists behind the links, and the books that must balance."""

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.state import (
    AREA,
    KMEM_CACHE,
    KMEM_CACHE_CPU,
    KMEM_CACHE_NODE,
    MEMCTL,
    MIGRATE,
    PAGE,
    PCP,
    SLUB_CTL,
    SLUB_SLAB,
    ZONE,
)
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
    """The blocks on each buddy list, by migrate type and order, head first."""
    following, preceding, flags = columns_of(mem.page, PAGE.next, PAGE.prev, PAGE.flags)
    present, area = int(mem.zone[z, ZONE.present]), mem.area[z].tolist()
    lists = [
        [chain(area[m][o][AREA.head], following.__getitem__, present) for o in range(g.MAX_ORDER)]
        for m in range(MIGRATE.width)
    ]
    for m, of_type in enumerate(lists):
        for o, blocks in enumerate(of_type):
            assert len(blocks) == area[m][o][AREA.nr]
            assert_linked_back(blocks, preceding.__getitem__)
            for p in blocks:
                assert flags[p] & st.PG_BUDDY
                assert ((flags[p] >> st.PG_ORDER_SHIFT) & 15, flags[p] >> st.PG_ZONE_SHIFT & 3) == (o, z)
                assert flags[p] >> st.PG_MIGRATE_SHIFT & 3 == m
    return lists


def columns_of(array, *columns):
    """Columns of an array as lists: an index of NumPy's costs ten times one of a list's."""
    return [array[:, column].tolist() for column in columns]


def page_state(mem, z):
    """Free pages of a zone as its own count has them, which its CPUs' are not entered in."""
    return max(0, mem.zone[z, ZONE.free] - mem.zone[z, ZONE.vm_stat_lag])


def pcp_list(mem, cpu, z):
    """The pages of a CPU's list, hot end first."""
    following, preceding, same, flags = columns_of(mem.page, PAGE.next, PAGE.prev, PAGE.same, PAGE.flags)
    pages = chain(mem.pcp[cpu, z, PCP.head], following.__getitem__, mem.zone[z, ZONE.present])
    assert len(pages) == mem.pcp[cpu, z, PCP.count]
    assert mem.pcp[cpu, z, PCP.tail] == (pages[-1] if pages else -1)
    assert_linked_back(pages, preceding.__getitem__)
    for migrate in range(MIGRATE.width):
        of_type = chain(mem.pcp[cpu, z, PCP.first[migrate]], same.__getitem__, len(pages))
        assert of_type == [p for p in pages if flags[p] >> st.PG_MIGRATE_SHIFT & 3 == migrate]
        assert mem.pcp[cpu, z, PCP.last[migrate]] == (of_type[-1] if of_type else -1)
    return pages


def assert_linked_back(items, preceding):
    for before, item in zip([-1, *items], items, strict=False):
        assert preceding(item) == before


def partial_list(slub, c, node=0):
    """The slab records on a node's partial list, head first."""
    records = chain(
        slub.knode[c, node, KMEM_CACHE_NODE.partial_head], lambda s: slub.slab[s, SLUB_SLAB.next], slub.slab.shape[0]
    )
    assert len(records) == slub.knode[c, node, KMEM_CACHE_NODE.nr_partial]
    assert slub.knode[c, node, KMEM_CACHE_NODE.partial_tail] == (records[-1] if records else -1)
    assert_linked_back(records, lambda s: slub.slab[s, SLUB_SLAB.prev])
    return records


def retired_slabs(slub, c):
    return chain(slub.cache[c, KMEM_CACHE.free_slab], lambda s: slub.slab[s, SLUB_SLAB.next], slub.slab.shape[0])


def live_slabs(slub, c):
    """All slab records of a cache that own pages."""
    retired = set(retired_slabs(slub, c))
    cache_of = slub.slab[: slub.ctl[SLUB_CTL.slab_top], SLUB_SLAB.cache].tolist()
    return [s for s, of in enumerate(cache_of) if of == c and s not in retired]


def free_objects(slub, s, head):
    """The indices on a free list of slab ``s`` that begins at ``head``."""
    base, objects = int(slub.slab[s, SLUB_SLAB.base]), int(slub.slab[s, SLUB_SLAB.objects])
    return chain(head, slub.link[base : base + objects].tolist().__getitem__, objects)


def stats(slub, c, cpu):
    """The non-zero CONFIG_SLUB_STATS counters of one CPU."""
    row = slub.kcpu[c, cpu, KMEM_CACHE_CPU.stats[:]].tolist()
    return {name: value for name, value in zip(st.SLUB_STATS, row, strict=True) if value}


def total_stats(slub, c):
    """The counters of a cache, all CPUs together, zeros included."""
    rows = slub.kcpu[c, :, KMEM_CACHE_CPU.stats[:]].sum(axis=0).tolist()
    return dict(zip(st.SLUB_STATS, rows, strict=True))


def pool_elements(pools, p):
    return pools.element[p, : pools.pool[p, MEMPOOL.curr]].tolist()


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

    for z in range(mem.ctl[MEMCTL.nr_zones]):
        free = 0
        for order, blocks in ((o, b) for of_type in free_area(mem, z) for o, b in enumerate(of_type)):
            for pfn in blocks:
                claim(pfn, order, "free")
            free += len(blocks) << order
        assert free == mem.zone[z, ZONE.free]
        assert mem.zone[z, ZONE.min_free] <= free
        for cpu in range(mem.pcp.shape[0]):
            for pfn in pcp_list(mem, cpu, z):
                claim(pfn, 0, f"on the list of CPU {cpu}")
    in_slabs = 0
    for c in range(slub.ctl[SLUB_CTL.nr_caches]) if slub is not None else ():
        order = int(slub.cache[c, KMEM_CACHE.order])
        slabs = live_slabs(slub, c)
        assert len(slabs) << order == slub.cache[c, KMEM_CACHE.pages] <= slub.cache[c, KMEM_CACHE.max_pages]
        in_slabs += len(slabs) << order
        for s in slabs:
            claim(int(slub.slab[s, SLUB_SLAB.pfn]), order, f"in slab {s}")
    assert slub is None or in_slabs == slub.ctl[SLUB_CTL.pages] <= slub.ctl[SLUB_CTL.max_pages]
    for pfn, order in held:
        claim(pfn, order, "held")
    present = {
        page
        for row in mem.zone[: mem.ctl[MEMCTL.nr_zones]]
        for page in range(row[ZONE.start], row[ZONE.start] + row[ZONE.present])
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
    for c in range(slub.ctl[SLUB_CTL.nr_caches]):
        listed = set(partial_list(slub, c))
        mine = {int(row[KMEM_CACHE_CPU.page]): row for row in slub.kcpu[c] if row[KMEM_CACHE_CPU.page] >= 0}
        for s in live_slabs(slub, c):
            row = slub.slab[s]
            shared = free_objects(slub, s, row[SLUB_SLAB.freelist])
            private = free_objects(slub, s, mine[s][KMEM_CACHE_CPU.freelist]) if s in mine else []
            out = allocated.pop(s, set())
            assert sorted([*shared, *private, *out]) == list(range(row[SLUB_SLAB.objects]))
            assert row[SLUB_SLAB.inuse] == len(out) + len(private)
            assert (row[SLUB_SLAB.frozen] != 0) == (s in mine)
            assert row[SLUB_SLAB.partial] == (s in listed)
            assert (s in listed) == (s not in mine and len(shared) > 0)
        assert slub.knode[c, 0, KMEM_CACHE_NODE.nr_slabs] == len(live_slabs(slub, c))
    assert not allocated, "objects of slabs that are gone"
