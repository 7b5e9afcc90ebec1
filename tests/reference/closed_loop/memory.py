"""Pages of tasks: the LRU lists, the mappings of files, the swap cache [mm/swap.c, mm/shmem.c, mm/swap_state.c]."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.reference.closed_loop.radix_tree import LONGEST_PATH, RadixTree
from tests.reference.closed_loop.sched import Scheduler, Task
from tests.reference.closed_loop.swapfile import SwapInfo
from tests.reference.page_alloc import RECLAIMABLE_BIT, PageAllocator
from tests.reference.page_alloc import Task as Context

GFP_ATOMIC, NOMEMALLOC, NOWARN = 0x20, 0x10000, 0x200


@dataclass(eq=False)
class File:
    """A file of tmpfs."""

    inode: Any
    dentry: Any
    tree: RadixTree
    pages: list["Logical"] = field(default_factory=list)


@dataclass(eq=False)
class Logical:
    """A page of a task's memory, wherever it is: in a frame, in a swap slot, or gone."""

    frame: "Page | None" = None
    slot: int | None = None


@dataclass(eq=False)
class Page:
    """A page frame in use."""

    pfn: int
    zone: "LruZone"
    owner: Logical | None = None
    file: File | None = None
    index: int = 0  # in its file
    anon: bool = False
    mapped: bool = False
    referenced: bool = False
    dirty: bool = False
    active: bool = False
    writeback: bool = False
    locked: bool = False
    reclaim: bool = False
    isolated: bool = False
    mlocked: bool = False  # in a VM_LOCKED mapping
    orphan: bool = False  # its owner is gone
    slot: int | None = None  # in the swap cache

    def flags(self) -> set[str]:
        """The bits that are set."""
        names = "active referenced dirty writeback locked reclaim anon mapped mlocked orphan isolated"
        return {name for name in names.split() if getattr(self, name)} | (
            {"swapcache"} if self.slot is not None else set()
        )


@dataclass(eq=False)
class LruZone:
    """The lists of a zone; their heads are on the left."""

    number: int
    active: deque[Page] = field(default_factory=deque)
    inactive: deque[Page] = field(default_factory=deque)
    nr_scan_active: int = 0
    nr_scan_inactive: int = 0
    pages_scanned: int = 0
    all_unreclaimable: bool = False

    def add(self, page: Page) -> None:
        (self.active if page.active else self.inactive).appendleft(page)

    def remove(self, page: Page) -> None:
        (self.active if page.active else self.inactive).remove(page)

    def holds(self, page: Page) -> bool:
        return page in (self.active if page.active else self.inactive)

    @property
    def pages(self) -> int:
        return len(self.active) + len(self.inactive)


class Memory:
    """Frames of tasks, above the page allocator."""

    def __init__(self, pages: PageAllocator, sched: Scheduler, rcu: Any, swap: SwapInfo, radix: Any):
        self.allocator = pages
        self.sched = sched
        self.rcu = rcu
        self.swap = swap
        self.radix = radix  # cache of nodes
        self.zones = [LruZone(z) for z in range(len(pages.zones))]
        self.cpu = 0  # whose step it is
        self.swapper_space = RadixTree(self.node_alloc, self.node_free, least_height=1)
        self.anon_mapped = 0
        self.writeback = 0
        for zone, lru in zip(pages.zones, self.zones, strict=True):
            zone.on_free = lambda lru=lru: self.pages_came_back(lru)

    def pages_came_back(self, lru: LruZone) -> None:
        """free_pages_bulk and __free_pages_ok clear what reclaim noted of the zone."""
        lru.pages_scanned = 0
        lru.all_unreclaimable = False

    # -- frames

    def new_page(self, pfn: int) -> Page:
        z = next(z for z, zone in enumerate(self.allocator.zones) if zone.holds(pfn))
        return Page(pfn, self.zones[z])

    def free_page(self, page: Page, cold: bool = False) -> None:
        self.allocator.free_pages(self.cpu, page.pfn, 0, cold)

    # -- radix nodes

    def preload(self, gfp: int, context: Context) -> bool:
        """radix_tree_preload: the CPU's stock up to 11; what was had stays."""
        stock = self.sched.cpus[self.cpu].stock
        while len(stock) < LONGEST_PATH:
            node = self.radix.alloc(self.cpu, gfp | RECLAIMABLE_BIT, context)
            if node is None:
                return False
            stock.append(node)
        return True

    def node_alloc(self) -> Any:
        return self.sched.cpus[self.cpu].stock.pop()

    def node_free(self, node: Any) -> None:
        self.call_rcu(lambda cpu: self.radix.free(cpu, node))

    def call_rcu(self, callback: Any) -> None:
        """The callback runs on the CPU that queued it."""
        cpu = self.cpu
        self.rcu.call_rcu(cpu, lambda: callback(cpu))

    # -- files

    def new_file(self, inode: Any, dentry: Any) -> File:
        return File(inode, dentry, RadixTree(self.node_alloc, self.node_free))

    def add_to_page_cache(self, file: File, page: Page) -> None:
        page.file, page.index = file, len(file.pages)
        page.owner = Logical(page)
        page.dirty = True
        file.tree.insert(page.index)
        file.pages.append(page.owner)
        page.zone.add(page)

    def leave_mapping(self, page: Page) -> None:
        if page.file:
            page.file.tree.delete(page.index)
        page.file = None

    # -- swap cache

    def add_to_swap_cache(self, page: Page, slot: int, gfp: int, task: Task) -> bool:
        """The stock is topped up first; a refusal gives the slot back, and the cursor has moved on."""
        if not self.preload(gfp, Context(memalloc=task.memalloc)):
            self.swap.swap_free(slot)
            return False
        self.swapper_space.insert(slot)
        page.slot = slot
        return True

    def shmem_writepage(self, page: Page, slot: int | None, task: Task) -> bool:
        """Pass 1 of a tmpfs page: out of its file, into the swap cache, dirty still; no I/O."""
        if slot is None or not self.add_to_swap_cache(page, slot, GFP_ATOMIC, task):
            return False
        self.leave_mapping(page)
        return True

    def add_to_swap(self, page: Page, slot: int | None, task: Task) -> bool:
        """An anonymous page: the reserve is not for it; then it is unmapped."""
        if slot is None or not self.add_to_swap_cache(page, slot, GFP_ATOMIC | NOMEMALLOC | NOWARN, task):
            return False
        page.dirty = True
        page.mapped = False
        self.anon_mapped -= 1
        return True

    def remove_mapping(self, page: Page) -> None:
        """A clean page leaves the swap cache; its owner finds it in the slot, an orphan's slot is free."""
        slot, page.slot = page.slot, None
        self.swapper_space.delete(slot)
        if page.owner:
            page.owner.frame, page.owner.slot = None, slot
        else:
            self.swap.swap_free(slot)
        page.owner = None

    # -- the end of a page

    def truncate(self, logical: Logical) -> None:
        """The owner drops it; what a reclaimer or the disk holds stays as an orphan."""
        if logical.slot is not None:
            self.swap.swap_free(logical.slot)
        page = logical.frame
        logical.slot = logical.frame = None
        if page is None:
            return
        if page.mapped:
            self.anon_mapped -= 1
        if page.slot is None:
            self.leave_mapping(page)
        page.owner = page.file = None
        if page.isolated or page.writeback or page.locked:
            page.orphan, page.mapped = True, False
            return
        page.zone.remove(page)
        if page.slot is not None:
            self.remove_mapping(page)
        self.free_page(page)

    def rotate_reclaimable_page(self, page: Page) -> None:
        """A written page that reclaim wanted goes to the tail: the next to be isolated."""
        usable = not page.locked and not page.dirty and not page.active
        if page.reclaim and usable and page.zone.holds(page):
            page.zone.inactive.remove(page)
            page.zone.inactive.append(page)
        page.reclaim = False
