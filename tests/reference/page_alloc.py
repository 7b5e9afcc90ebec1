"""The page allocator of 2.6.25 [mm/page_alloc.c]: watermarks, buddy, per-CPU lists, the attempts of __alloc_pages.

One node, one migrate type, no cpusets. Pages are frame numbers, lists are Python lists whose head is item 0.
__GFP_COLD is not modelled.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

DMA, WAIT, HIGH, FS = 0x01, 0x10, 0x20, 0x80
NOWARN, REPEAT, NOFAIL, NORETRY = 0x200, 0x400, 0x800, 0x1000
NOMEMALLOC = 0x10000

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


@dataclass
class Zone:
    """A zone: its marks, and its free blocks by order."""

    start: int
    present: int
    pages_min: int = 0
    pages_low: int = 0
    pages_high: int = 0
    lowmem_reserve: tuple[int, ...] = (0, 0, 0, 0)
    batch: int = 1
    pcp_high: int = 0
    free_area: list[list[int]] = field(default_factory=lambda: [[] for _ in range(MAX_ORDER)])
    on_free: Callable[[], None] = lambda: None  # what reclaim wants to know

    def __post_init__(self):
        """All pages free, in the largest aligned blocks, the lowest block at the head of its list."""
        page = self.start
        left = self.present
        while left:
            order = MAX_ORDER - 1
            while 2**order > left or (page - self.start) % 2**order:
                order -= 1
            self.free_area[order].append(page)
            page += 2**order
            left -= 2**order

    @property
    def free_pages(self) -> int:
        """NR_FREE_PAGES: the pages of per-CPU lists are not in it."""
        return sum(len(blocks) << order for order, blocks in enumerate(self.free_area))

    @property
    def nr_free(self) -> list[int]:
        return [len(blocks) for blocks in self.free_area]

    def holds(self, page: int) -> bool:
        return self.start <= page < self.start + self.present

    def free_block(self, page: int, order: int) -> None:
        """Merge with the buddy while the buddy is free and whole; the result goes to the head [__free_one_page]."""
        self.on_free()
        while order < MAX_ORDER - 1:
            buddy = self.start + ((page - self.start) ^ 2**order)
            if buddy not in self.free_area[order]:
                break
            self.free_area[order].remove(buddy)
            page = min(page, buddy)
            order += 1
        self.free_area[order].insert(0, page)

    def take_block(self, order: int) -> int | None:
        """The head of the smallest order that has a block; upper halves stay behind [__rmqueue_smallest, expand]."""
        for have in range(order, MAX_ORDER):
            if self.free_area[have]:
                page = self.free_area[have].pop(0)
                while have > order:
                    have -= 1
                    self.free_area[have].insert(0, page + 2**have)
                return page
        return None


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
        self.ratelimit = RateLimit(hz)
        self.jiffies = 0
        self.kswapd_wanted = False
        self.failed = 0
        self.reports: list[tuple[int, int, int]] = []  # (jiffy, mask, order) of each one printed
        self.suppressed = 0
        self.oom_kills = 0
        self.naps = 0  # congestion_wait of 20 ms between two rounds of reclaim

    # -- zones and lists

    def zonelist(self, gfp: int) -> list[int]:
        """The populated zones that may serve the mask, highest first."""
        usable = [0] if gfp & DMA else range(len(self.zones))
        return [z for z in sorted(usable, reverse=True) if self.zones[z].present]

    def buffered_rmqueue(self, cpu: int, z: int, order: int) -> int | None:
        """Order 0 through the CPU's list, filled a batch at a time in address order; whole blocks from the buddy."""
        zone = self.zones[z]
        if order > 0:
            return zone.take_block(order)
        pages = self.pcp[cpu, z]
        if not pages:
            for _ in range(zone.batch):
                page = zone.take_block(0)
                if page is None:
                    break
                pages.append(page)
        return pages.popleft() if pages else None

    def get_page_from_freelist(self, cpu, gfp, order, mark, high=False, harder=False) -> int | None:
        """First zone that passes its mark and has a page; ``mark`` names one of the three, or is None."""
        zonelist = self.zonelist(gfp)
        for z in zonelist:
            zone = self.zones[z]
            if mark is not None:
                reserve = zone.lowmem_reserve[zonelist[0]]
                level = getattr(zone, mark)
                if not zone_watermark_ok(zone.free_pages, order, level, high, harder, reserve, zone.nr_free):
                    continue
            page = self.buffered_rmqueue(cpu, z, order)
            if page is not None:
                return page
        return None

    def drain_all_pages(self) -> None:
        for (_cpu, z), pages in self.pcp.items():
            while pages:
                self.zones[z].free_block(pages.pop(), 0)

    def free_pages(self, cpu: int, page: int, order: int, cold: bool = False) -> None:
        """Order 0 to the hot end of the CPU's list, or to the cold one; at ``pcp_high`` a batch leaves at that."""
        z = next(z for z, zone in enumerate(self.zones) if zone.holds(page))
        zone = self.zones[z]
        if order > 0:
            zone.free_block(page, order)
            return
        pages = self.pcp[cpu, z]
        if cold:
            pages.append(page)
        else:
            pages.appendleft(page)
        if len(pages) >= zone.pcp_high:
            for _ in range(min(zone.batch, len(pages))):
                zone.free_block(pages.pop(), 0)

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
            self.kswapd_wanted = True
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
