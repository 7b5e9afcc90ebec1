"""Kernels and reference side by side: every operation is done twice and the whole state is compared."""

from collections import Counter
from dataclasses import dataclass, field

from fastalloc.kernels.alloc import mempool as mp
from fastalloc.kernels.alloc import page_alloc
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.slub import slub
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, MEMCTL, PCP, SLUB_CTL, SLUB_SLAB, ZONE
from fastalloc.kernels.alloc.vmstat import refresh_cpu_vm_stats
from fastalloc.linux import gfp as g
from tests.kernels import build, snapshot
from tests.reference.mempool import Mempool
from tests.reference.page_alloc import PLAIN, PageAllocator, Task, Zone
from tests.reference.slub import Cache, Object, PageObject


def context_of(task: Task) -> int:
    """The kernels' context bits of a task."""
    return task.memalloc * g.PF_MEMALLOC | task.in_interrupt * g.IN_INTERRUPT | task.realtime * g.RT_TASK


@dataclass
class Held:
    """An object or block that somebody holds: the reference's and the kernels' name of it."""

    real: Object | PageObject | None
    handle: int


@dataclass
class Pair:
    """One small machine, twice."""

    zones: list[dict]
    caches: list[dict] = field(default_factory=lambda: [build.KMALLOC_128])
    cpus: int = 1
    pools: list[tuple[int, int]] = field(default_factory=list)
    hz: int = 250
    slabs: int = 1024

    def __post_init__(self):
        self.mem = build.make_mem(self.zones, self.cpus, self.hz)
        self.slub = build.make_slub(self.caches, self.cpus, self.slabs)
        starts = [int(start) for start in self.mem.zone[:, ZONE.start]]
        self.real_pages = PageAllocator(
            [Zone(start=start, **spec) for start, spec in zip(starts, self.zones, strict=True)], self.cpus, self.hz
        )
        self.real_caches = [
            Cache(
                self.real_pages,
                spec["objects"],
                spec["order"],
                spec["objsize"],
                spec["allocflags"],
                spec["fallback"],
                spec["min_partial"],
            )
            for spec in self.caches
        ]
        self.objects: list[Held] = []
        self.blocks: list[tuple[int, int]] = []  # frame, order
        self.attempts: Counter = Counter()  # how requests ended
        self.real_pools = [Mempool(self.real_caches[c], min_nr) for c, min_nr in self.pools]
        self.mempools = build.make_pools(self.pools)
        for p, pool in enumerate(self.real_pools):
            build.fill_pool(self.mem, self.slub, self.mempools, p)
            pool.fill(0)

    # -- operations

    @property
    def free(self) -> int:
        return int(self.mem.zone[:, ZONE.free].sum())

    def tick(self, jiffies: int = 1) -> None:
        self.mem.ctl[MEMCTL.jiffies] += jiffies
        self.real_pages.jiffies += jiffies

    def refresh_cpu_vm_stats(self, cpu: int) -> None:
        refresh_cpu_vm_stats(self.mem, cpu)
        self.real_pages.refresh_cpu_vm_stats(cpu)

    def leave_free(self, free: int, z: int = 0, cpu: int = 0) -> None:
        """Somebody else holds memory, so that ``free`` pages are left in the buddy of a zone."""
        frames = build.leave_free(self.mem, free, z, cpu)
        zone = self.real_pages.zones[z]
        mine = []
        listed = self.real_pages.pcp[cpu, z]
        left = zone.free_pages
        while left > free:
            before = len(listed)
            mine.append(self.real_pages.buffered_rmqueue(cpu, z, 0))
            if len(listed) != before - 1:  # the list was filled from the zone
                left = zone.free_pages
        assert frames == mine
        self.blocks += [(pfn, 0) for pfn in frames]

    def alloc_pages(self, gfp, order=0, cpu=0, task=PLAIN) -> str:
        """A request for pages; the attempt that granted it ("A", "B", "C"), or "fail", "reclaim", "for ever"."""
        before = int(self.mem.ctl[MEMCTL.failed])
        pfn = page_alloc.alloc_pages(self.mem, cpu, -1, gfp, order, context_of(task))
        result = self.real_pages.alloc_pages(cpu, gfp, order, task)
        assert (None if pfn < 0 else pfn) == result.page
        self.attempts[result.attempt] += 1
        assert self.mem.ctl[MEMCTL.failed] - before == (result.attempt == "fail")
        if result.page is not None:
            assert st.DEPTH_NAMES[self.mem.ctl[MEMCTL.depth]] == result.depth
            self.blocks.append((pfn, order))
        return result.attempt

    def free_pages(self, which: int, cpu=0) -> None:
        pfn, order = self.blocks.pop(which)
        page_alloc.free_pages(self.mem, cpu, pfn, order)
        self.real_pages.free_pages(cpu, pfn, order)

    def _accept(self, real, handle) -> Held | None:
        self.assert_same(real, handle)
        return None if real is None else Held(real, int(handle))

    def alloc(self, c=0, cpu=0, gfp=0xD0, task=PLAIN) -> Held | None:
        """An object of a cache, which the machine then holds."""
        handle = slub.slab_alloc(self.mem, self.slub, c, cpu, -1, gfp, context_of(task))
        held = self._accept(self.real_caches[c].alloc(cpu, gfp, task), handle)
        if held:
            self.objects.append(held)
            self.attempts["page object"] += isinstance(held.real, PageObject)
        return held

    def give_back(self, held: Held, cpu=0) -> None:
        self.objects.remove(held)
        slub.slab_free(self.mem, self.slub, cpu, held.handle)
        if isinstance(held.real, PageObject):
            self.real_caches[0].free(cpu, held.real)
        else:
            held.real.slab.cache.free(cpu, held.real)

    def flush(self, c=0, cpu=0) -> None:
        slub.flush_all(self.mem, self.slub, c, cpu)
        self.real_caches[c].flush_all(cpu)

    def shrink(self, c=0, cpu=0) -> None:
        slub.kmem_cache_shrink(self.mem, self.slub, c, cpu)
        self.real_caches[c].shrink(cpu)

    def pool_alloc(self, p=0, cpu=0, gfp=0x10, task=PLAIN, first=True) -> Held | None:
        handle = mp.mempool_alloc(self.mem, self.slub, self.mempools, p, cpu, gfp, context_of(task), first)
        held = self._accept(self.real_pools[p].alloc_round(cpu, gfp, task, first), handle)
        if held:
            self.objects.append(held)
        return held

    def pool_free(self, p: int, held: Held, cpu=0) -> bool:
        """True: the reserve took it, and its waiters wake up."""
        self.objects.remove(held)
        wakes = mp.mempool_free(self.mem, self.slub, self.mempools, p, cpu, held.handle)
        assert wakes == self.real_pools[p].free(cpu, held.real)
        return bool(wakes)

    # -- comparison

    def slab_name(self, s: int) -> tuple[int, int]:
        """A slab is known by its cache and its first page."""
        return int(self.slub.slab[s, SLUB_SLAB.cache]), int(self.slub.slab[s, SLUB_SLAB.pfn])

    def real_slab_name(self, slab) -> tuple[int, int]:
        return self.real_caches.index(slab.cache), slab.page

    def assert_same(self, real, handle) -> None:
        """One object under its two names."""
        if real is None:
            assert handle == st.NO_OBJECT
        elif isinstance(real, PageObject):
            assert handle == st.PAGE_HANDLE | real.order << st.PAGE_HANDLE_ORDER_SHIFT | real.page
        else:
            s, i = snapshot.split(handle)
            assert (self.slab_name(s), i) == (self.real_slab_name(real.slab), real.index)

    def compare(self) -> None:
        """The whole state, and the books."""
        self.compare_pages()
        for c in range(len(self.caches)):
            self.compare_cache(c)
        for p, pool in enumerate(self.real_pools):
            elements = snapshot.pool_elements(self.mempools, p)
            assert len(elements) == len(pool.elements) == self.mempools.pool[p, MEMPOOL.curr]
            for real, handle in zip(pool.elements, elements, strict=True):
                self.assert_same(real, handle)
            assert self.mempools.pool[p, MEMPOOL.would_sleep] == pool.sleeps
            assert self.mempools.pool[p, MEMPOOL.fail_atomic] == pool.refusals
        self.assert_conserved()

    def compare_pages(self) -> None:
        ctl = self.mem.ctl
        real = self.real_pages
        for z, zone in enumerate(real.zones):
            assert snapshot.free_area(self.mem, z) == zone.free_area
            if zone.pageblock_order:
                assert self.mem.block[z, : len(zone.migrate_types)].tolist() == zone.migrate_types
            assert self.mem.zone[z, ZONE.free] == zone.free_pages
            assert snapshot.page_state(self.mem, z) == real.zone_page_state(z)
            for cpu in range(self.cpus):
                assert snapshot.pcp_list(self.mem, cpu, z) == list(real.pcp[cpu, z])
                assert self.mem.pcp[cpu, z, PCP.vm_stat_diff] == real.vm_stat_diff[cpu, z]
        assert ctl[MEMCTL.failed] == real.failed
        assert ctl[MEMCTL.reports] == len(real.reports)
        assert ctl[MEMCTL.suppressed] == real.suppressed
        assert ctl[MEMCTL.missed] == real.ratelimit.missed
        assert ctl[MEMCTL.tokens] == real.ratelimit.tokens
        assert ctl[MEMCTL.kswapd_wanted] == (0 if real.kswapd_order is None else 1 + real.kswapd_order)

    def compare_cache(self, c: int) -> None:
        cache = self.real_caches[c]
        records = self.slub.slab
        for cpu, real in enumerate(cache.cpu):
            row = self.slub.kcpu[c, cpu]
            s = int(row[KMEM_CACHE_CPU.page])
            assert (s >= 0) == (real.slab is not None)
            if s >= 0:
                assert self.slab_name(s) == self.real_slab_name(real.slab)
                assert snapshot.free_objects(self.slub, s, row[KMEM_CACHE_CPU.freelist]) == list(real.freelist)
            assert snapshot.stats(self.slub, c, cpu) == dict(real.stats)
        listed = snapshot.partial_list(self.slub, c)
        assert [self.slab_name(s) for s in listed] == [self.real_slab_name(slab) for slab in cache.partial]
        live = {self.slab_name(s): s for s in snapshot.live_slabs(self.slub, c)}
        assert live.keys() == {self.real_slab_name(slab) for slab in cache.slabs}
        for slab in cache.slabs:
            s = live[self.real_slab_name(slab)]
            assert records[s, SLUB_SLAB.inuse] == slab.inuse
            assert records[s, SLUB_SLAB.frozen] == (0 if slab.frozen is None else 1 + slab.frozen)
            assert snapshot.free_objects(self.slub, s, records[s, SLUB_SLAB.freelist]) == list(slab.freelist)
            assert st.DEPTH_NAMES[records[s, SLUB_SLAB.depth]] == slab.depth

    def assert_conserved(self) -> None:
        handles = [held.handle for held in self.objects]
        for p in range(len(self.pools)):
            handles += snapshot.pool_elements(self.mempools, p)
        snapshot.assert_objects_conserved(self.slub, handles)
        frame = (1 << st.PAGE_HANDLE_ORDER_SHIFT) - 1
        page_backed = [(h & frame, (h >> st.PAGE_HANDLE_ORDER_SHIFT) & 0xFF) for h in handles if h >= st.PAGE_HANDLE]
        snapshot.assert_pages_conserved(self.mem, self.slub, self.blocks + page_backed)
        assert self.slub.ctl[SLUB_CTL.overflow] == 0
