"""The page allocator of 2.6.25 [mm/page_alloc.c]: watermarks, buddy, per-CPU lists, the attempts of __alloc_pages.

One node, no cpusets. Pages are frame numbers, lists are Python lists whose head is item 0.
__GFP_COLD is not modelled.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

DMA, WAIT, HIGH, FS = 0x01, 0x10, 0x20, 0x80
NOWARN, REPEAT, NOFAIL, NORETRY = 0x200, 0x400, 0x800, 0x1000
NOMEMALLOC = 0x10000
RECLAIMABLE_BIT, MOVABLE_BIT = 0x80000, 0x100000

MAX_ORDER = 11
COSTLY_ORDER = 3


@dataclass(frozen=True)
class Task:
    """Who asks."""

    memalloc: bool = False  # PF_MEMALLOC, or chosen by the OOM killer
    in_interrupt: bool = False
    realtime: bool = False

    @property
    def ignores_watermarks(self) -> bool:
        return self.memalloc and not self.in_interrupt


PLAIN = Task()
RECLAIMER = Task(memalloc=True)
SOFTIRQ = Task(memalloc=True, in_interrupt=True)


# ------------------------------------------------------------------------------------------------ watermarks


def zone_watermark_ok(free, order, mark, high=False, harder=False, reserve=0, nr_free=()):
    """May a zone with ``free`` pages, ``nr_free[o]`` of its blocks of order o, give 2**order pages?"""
    need = mark
    if high:
        need -= need // 2
    if harder:
        need -= need // 4
    left = free - 2**order + 1
    if left <= need + reserve:
        return False
    for o in range(order):  # blocks that are too small do not count, and ever less has to remain
        left -= nr_free[o] * 2**o
        need //= 2
        if left <= need:
            return False
    return True


# ---------------------------------------------------------------------------------------------------- a zone


UNMOVABLE, RECLAIMABLE, MOVABLE, RESERVE = range(4)
FALLBACKS = {
    UNMOVABLE: (RECLAIMABLE, MOVABLE),
    RECLAIMABLE: (UNMOVABLE, MOVABLE),
    MOVABLE: (RECLAIMABLE, UNMOVABLE),
}


@dataclass
class Zone:
    """A zone: its marks, and its free blocks by migrate type and order. Pageblocks of order 0: all is unmovable."""

    start: int
    present: int
    pages_min: int = 0
    pages_low: int = 0
    pages_high: int = 0
    lowmem_reserve: tuple[int, ...] = (0, 0, 0, 0)
    batch: int = 1
    pcp_high: int = 0
    pageblock_order: int = 0
    stat_threshold: int = 0  # pages that a CPU counts for itself at most
    free_area: list[list[list[int]]] = field(default_factory=lambda: [[[] for _ in range(MAX_ORDER)] for _ in range(4)])
    on_free: Callable[[], None] = lambda: None  # what reclaim wants to know

    def __post_init__(self):
        """All pages free, in the largest aligned blocks, the lowest block at the head of its list. Pageblocks are
        movable, but for as many at the start as pages_min takes."""
        size = 2**self.pageblock_order
        reserve = -(-self.pages_min // size)
        self.migrate_types = [RESERVE if n < reserve else MOVABLE for n in range(self.present // size + 1)]
        page = self.start
        left = self.present
        while left:
            order = MAX_ORDER - 1
            while 2**order > left or (page - self.start) % 2**order:
                order -= 1
            self.free_area[self.migrate_type(page)][order].append(page)
            page += 2**order
            left -= 2**order

    @property
    def free_pages(self) -> int:
        """NR_FREE_PAGES: the pages of per-CPU lists are not in it."""
        return sum(n << order for order, n in enumerate(self.nr_free))

    @property
    def nr_free(self) -> list[int]:
        return [sum(len(lists[order]) for lists in self.free_area) for order in range(MAX_ORDER)]

    def holds(self, page: int) -> bool:
        return self.start <= page < self.start + self.present

    def pageblock(self, page: int) -> int:
        return (page - self.start) >> self.pageblock_order

    def migrate_type(self, page: int) -> int:
        return self.migrate_types[self.pageblock(page)] if self.pageblock_order else UNMOVABLE

    def remove_block(self, page: int, order: int) -> bool:
        """Take a free block off whichever list has it; False: none has."""
        for lists in self.free_area:
            if page in lists[order]:
                lists[order].remove(page)
                return True
        return False

    def free_block(self, page: int, order: int) -> None:
        """Merge with the buddy while the buddy is free and whole; the result goes to the head [__free_one_page]."""
        self.on_free()
        migrate = self.migrate_type(page)
        while order < MAX_ORDER - 1:
            buddy = self.start + ((page - self.start) ^ 2**order)
            if not self.remove_block(buddy, order):
                break
            page = min(page, buddy)
            order += 1
        self.free_area[migrate][order].insert(0, page)

    def expand(self, page: int, order: int, have: int, migrate: int) -> int:
        """Upper halves stay behind."""
        while have > order:
            have -= 1
            self.free_area[migrate][have].insert(0, page + 2**have)
        return page

    def take_smallest(self, order: int, migrate: int) -> int | None:
        """The head of the smallest order that has a block [__rmqueue_smallest]."""
        for have in range(order, MAX_ORDER):
            if self.free_area[migrate][have]:
                return self.expand(self.free_area[migrate][have].pop(0), order, have, migrate)
        return None

    def move_pageblock(self, page: int, migrate: int) -> int:
        """Its free blocks, lowest first, each to the head of a list of another type [move_freepages_block]."""
        size = 2**self.pageblock_order
        first = self.start + self.pageblock(page) * size
        if first + size > self.start + self.present:
            return 0
        moved = 0
        for at in range(first, first + size):
            for order in range(MAX_ORDER):
                if self.remove_block(at, order):
                    self.free_area[migrate][order].insert(0, at)
                    moved += 2**order
                    break
        return moved

    def set_aside(self, pages_min: int) -> None:
        """The mark was changed while the machine runs [setup_per_zone_pages_min, setup_zone_migrate_reserve]."""
        self.pages_min = pages_min
        still = -(-pages_min // 2**self.pageblock_order)
        for n in range(-(-self.present // 2**self.pageblock_order)):
            was = self.migrate_types[n]
            if was not in (RESERVE, MOVABLE):
                continue
            self.migrate_types[n] = RESERVE if still > 0 else MOVABLE
            still -= 1
            if self.migrate_types[n] != was:
                self.move_pageblock(self.start + n * 2**self.pageblock_order, self.migrate_types[n])

    def take_block(self, order: int, migrate: int = UNMOVABLE) -> int | None:
        """Of its own type, else the largest of another's, else of the reserve [__rmqueue, __rmqueue_fallback]."""
        page = self.take_smallest(order, migrate)
        if page is not None or not self.pageblock_order:
            return page
        for have in range(MAX_ORDER - 1, order - 1, -1):
            for other in FALLBACKS[migrate]:
                if not self.free_area[other][have]:
                    continue
                page = self.free_area[other][have][0]
                if have >= self.pageblock_order // 2 or migrate == RECLAIMABLE:
                    if self.move_pageblock(page, migrate) >= 2 ** (self.pageblock_order - 1):
                        self.migrate_types[self.pageblock(page)] = migrate
                    other = migrate
                self.remove_block(page, have)
                if have == self.pageblock_order:
                    self.migrate_types[self.pageblock(page)] = migrate
                return self.expand(page, order, have, other)
        return self.take_smallest(order, RESERVE)


# ------------------------------------------------------------------------------------------ printk_ratelimit


@dataclass
class RateLimit:
    """One message per 5 s after a burst of 10; time is in jiffies [kernel/printk.c: __printk_ratelimit]."""

    hz: int = 250
    last: int = 0
    missed: int = 0

    def __post_init__(self):
        self.interval = 5 * self.hz
        self.tokens = 10 * self.interval

    def allows(self, jiffies: int) -> bool:
        self.tokens = min(self.tokens + jiffies - self.last, 10 * self.interval)
        self.last = jiffies
        if self.tokens < self.interval:
            self.missed += 1
            return False
        self.missed = 0
        self.tokens -= self.interval
        return True


# ---------------------------------------------------------------------------------------------- the allocator


@dataclass(frozen=True)
class Result:
    """What became of a request."""

    page: int | None
    attempt: str  # A to E; "fail"; "reclaim": would reclaim now; "for ever": NOFAIL without a free page
    depth: str = ""


class PageAllocator:
    """All zones of a machine (lowest first) and the per-CPU lists."""

    def __init__(self, zones: list[Zone], cpus: int, hz: int = 250):
        self.zones = zones
        self.cpus = cpus
        self.pcp = {(cpu, z): deque() for cpu in range(cpus) for z in range(len(zones))}
        self.filled_for: dict[int, int] = {}  # migrate type of each page on these lists
        self.vm_stat_diff = dict.fromkeys(self.pcp, 0)  # free pages that a CPU counts for itself
        self.ratelimit = RateLimit(hz)
        self.jiffies = 0
        self.kswapd_order: int | None = None  # the largest that missed pages_low since kswapd was woken
        self.reclaim_order = 0  # of the last request that is to reclaim
        self.failed = 0
        self.reports: list[tuple[int, int, int]] = []  # (jiffy, mask, order) of each one printed
        self.suppressed = 0
        self.oom_kills = 0
        self.naps = 0  # congestion_wait of 20 ms between two rounds of reclaim

    # -- zones and lists

    def mod_zone_page_state(self, cpu: int, z: int, delta: int) -> None:
        """NR_FREE_PAGES changes: the zone's own count follows once a CPU has more than stat_threshold of it."""
        self.vm_stat_diff[cpu, z] += delta
        if abs(self.vm_stat_diff[cpu, z]) > self.zones[z].stat_threshold:
            self.vm_stat_diff[cpu, z] = 0

    def zone_page_state(self, z: int) -> int:
        """NR_FREE_PAGES as a look at the zone's own count gives it."""
        return max(0, self.zones[z].free_pages - sum(self.vm_stat_diff[cpu, z] for cpu in range(self.cpus)))

    def global_page_state(self) -> int:
        """The same of all zones together."""
        return max(0, sum(zone.free_pages for zone in self.zones) - sum(self.vm_stat_diff.values()))

    def refresh_cpu_vm_stats(self, cpu: int) -> None:
        """A CPU enters what it counted for itself."""
        self.vm_stat_diff.update({(cpu, z): 0 for z in range(len(self.zones))})

    def give_block(self, cpu: int, z: int, page: int, order: int) -> None:
        """A block to the buddy."""
        self.zones[z].free_block(page, order)
        self.mod_zone_page_state(cpu, z, 2**order)

    def take_block(self, cpu: int, z: int, order: int, migrate: int) -> int | None:
        """A block off the buddy."""
        page = self.zones[z].take_block(order, migrate)
        if page is not None:
            self.mod_zone_page_state(cpu, z, -(2**order))
        return page

    def zonelist(self, gfp: int) -> list[int]:
        """The populated zones that may serve the mask, highest first."""
        usable = [0] if gfp & DMA else range(len(self.zones))
        return [z for z in sorted(usable, reverse=True) if self.zones[z].present]

    def migrate_type(self, z: int, gfp: int) -> int:
        """Whose pages a request takes [allocflags_to_migratetype]."""
        if not self.zones[z].pageblock_order:
            return UNMOVABLE
        return MOVABLE if gfp & MOVABLE_BIT else RECLAIMABLE if gfp & RECLAIMABLE_BIT else UNMOVABLE

    def buffered_rmqueue(self, cpu: int, z: int, order: int, gfp: int = 0) -> int | None:
        """Order 0 through the CPU's list, to whose head a batch for the type is added in address order where it has no
        page of that; whole blocks from the buddy."""
        zone = self.zones[z]
        migrate = self.migrate_type(z, gfp)
        if order > 0:
            return self.take_block(cpu, z, order, migrate)
        pages = self.pcp[cpu, z]
        page = next((page for page in pages if self.filled_for[page] == migrate), None)
        if page is None:
            for place in range(zone.batch):
                new = self.take_block(cpu, z, 0, migrate)
                if new is None:
                    break
                pages.insert(place, new)
                self.filled_for[new] = migrate
            page = pages[0] if pages else None
        if page is not None:
            pages.remove(page)
        return page

    def get_page_from_freelist(self, cpu, gfp, order, mark, high=False, harder=False) -> int | None:
        """First zone that passes its mark and has a page; ``mark`` names one of the three, or is None."""
        zonelist = self.zonelist(gfp)
        for z in zonelist:
            zone = self.zones[z]
            if mark is not None:
                reserve = zone.lowmem_reserve[zonelist[0]]
                level = getattr(zone, mark)
                if not zone_watermark_ok(self.zone_page_state(z), order, level, high, harder, reserve, zone.nr_free):
                    continue
            page = self.buffered_rmqueue(cpu, z, order, gfp)
            if page is not None:
                return page
        return None

    def drain_all_pages(self) -> None:
        for (cpu, z), pages in self.pcp.items():
            while pages:
                self.give_block(cpu, z, pages.pop(), 0)

    def free_pages(self, cpu: int, page: int, order: int, cold: bool = False) -> None:
        """Order 0 to the hot end of the CPU's list, or to the cold one; at ``pcp_high`` a batch leaves at that."""
        z = next(z for z, zone in enumerate(self.zones) if zone.holds(page))
        zone = self.zones[z]
        if order > 0:
            self.give_block(cpu, z, page, order)
            return
        pages = self.pcp[cpu, z]
        self.filled_for[page] = zone.migrate_type(page)
        if cold:
            pages.append(page)
        else:
            pages.appendleft(page)
        if len(pages) >= zone.pcp_high:
            for _ in range(min(zone.batch, len(pages))):
                self.give_block(cpu, z, pages.pop(), 0)

    def is_below_low(self, z: int, order: int) -> bool:
        """What wakeup_kswapd asks of a zone: no reserve counts."""
        zone = self.zones[z]
        return not zone_watermark_ok(self.zone_page_state(z), order, zone.pages_low, nr_free=zone.nr_free)

    # -- the request

    def alloc_pages(
        self, cpu: int, gfp: int, order: int, task: Task = PLAIN, reclaim: Callable[[], bool] | None = None
    ) -> Result:
        """__alloc_pages. ``reclaim`` is try_to_free_pages: it frees what it can and tells whether it got anywhere.

        Without one, a request that would reclaim ends as "reclaim".
        """
        high = bool(gfp & HIGH)
        harder = not gfp & WAIT or (task.realtime and not task.in_interrupt)
        depth = {(0, 0): "min", (0, 1): "3/4 min", (1, 0): "1/2 min", (1, 1): "3/8 min"}[high, harder]
        while True:  # each OOM kill starts over here
            page = self.get_page_from_freelist(cpu, gfp, order, "pages_low")
            if page is not None:
                return Result(page, "A", "low")
            if any(self.is_below_low(z, order) for z in self.zonelist(gfp)):
                self.kswapd_order = max(order, self.kswapd_order or 0)
            page = self.get_page_from_freelist(cpu, gfp, order, "pages_min", high, harder)
            if page is not None:
                return Result(page, "B", depth)

            if task.ignores_watermarks:
                if not gfp & NOMEMALLOC:
                    page = self.get_page_from_freelist(cpu, gfp, order, None)
                    if page is not None:
                        return Result(page, "C", "no watermark")
                    if gfp & NOFAIL:
                        return Result(None, "for ever")
                return self.fail(gfp, order)
            if not gfp & WAIT:
                return self.fail(gfp, order)
            if reclaim is None:
                self.reclaim_order = order
                return Result(None, "reclaim")

            killed = False
            while not killed:
                progress = reclaim()
                if order > 0:
                    self.drain_all_pages()
                if progress:
                    page = self.get_page_from_freelist(cpu, gfp, order, "pages_min", high, harder)
                    if page is not None:
                        return Result(page, "D", depth)
                elif gfp & FS and not gfp & NORETRY:
                    page = self.get_page_from_freelist(cpu, gfp, order, "pages_high")
                    if page is not None:
                        return Result(page, "E", "high")
                    if order > COSTLY_ORDER:
                        return self.fail(gfp, order)
                    self.oom_kills += 1
                    killed = True
                    continue
                if gfp & NORETRY or not (order <= COSTLY_ORDER or gfp & (REPEAT | NOFAIL)):
                    return self.fail(gfp, order)
                self.naps += 1

    def fail(self, gfp: int, order: int) -> Result:
        """The end of a request: a report unless NOWARN or the rate limit forbids."""
        self.failed += 1
        if not gfp & NOWARN:
            if self.ratelimit.allows(self.jiffies):
                self.reports.append((self.jiffies, gfp, order))
            else:
                self.suppressed += 1
        return Result(None, "fail")
