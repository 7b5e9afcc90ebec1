"""SLUB of 2.6.25-rc8 on one or two nodes [mm/slub.c], with real slabs and real lists.

A free list is a deque whose left end is its head. ``inuse`` counts as the kernel counts it: all objects of a slab
that a CPU has taken over are in use, whether handed out or waiting in the CPU's private list.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.reference.page_alloc import NORETRY, PLAIN, PageAllocator, Task

COMP = 0x4000
THISNODE = 0x40000
PASSED_ON = 0x71EF0  # the bits of the caller's mask that reach the page allocator
PAGE_SIZE = 4096


@dataclass(eq=False)
class Slab:
    """One slab; two slabs are the same only if they are the same object."""

    cache: "Cache"
    page: int
    depth: str  # how deep into the zone its owner went
    freelist: deque[int]  # the shared list
    inuse: int = 0
    frozen: int | None = None  # the CPU whose slab it is
    node: int = 0

    @property
    def full(self) -> bool:
        return not self.freelist


class Object(NamedTuple):
    slab: Slab
    index: int


class PageObject(NamedTuple):
    """What kmalloc-2048 and kmalloc-4096 hand out when no slab is to be had."""

    page: int
    order: int


@dataclass
class CpuSlab:
    slab: Slab | None = None
    freelist: deque[int] = field(default_factory=deque)  # private to the CPU
    stats: Counter = field(default_factory=Counter)  # CONFIG_SLUB_STATS, by the kernel's names in small letters


class Cache:
    """A kmem_cache."""

    def __init__(
        self, pages: PageAllocator, objects, order=0, objsize=128, allocflags=0, fallback=False, min_partial=5, nodes=1
    ):
        self.pages = pages
        self.objects = objects
        self.order = order
        self.objsize = objsize
        self.allocflags = allocflags
        self.fallback = fallback
        self.min_partial = min_partial
        self.partials: list[deque[Slab]] = [deque() for _ in range(nodes)]
        self.cpu = [CpuSlab() for _ in range(pages.cpus)]
        self.slabs: list[Slab] = []  # every one, for the sake of checks: the kernel has no such list
        self.why = ""  # what the page allocator said last

    @property
    def partial(self) -> deque[Slab]:
        """The partial list of the only node."""
        return self.partials[0]

    def total(self, stat: str) -> int:
        return sum(c.stats[stat] for c in self.cpu)

    # -- slabs

    def new_slab(self, cpu: int, gfp: int, task: Task, node: int = -1) -> Slab | None:
        where = {"node": node} if len(self.partials) > 1 else {}
        result = self.pages.alloc_pages(cpu, gfp & PASSED_ON | self.allocflags, self.order, task, **where)
        self.why = result.attempt
        if result.page is None:
            return None
        slab = Slab(self, result.page, result.depth, deque(range(self.objects)))
        if where:
            slab.node = result.page.node
        self.slabs.append(slab)
        return slab

    def discard_slab(self, cpu: int, slab: Slab) -> None:
        self.slabs.remove(slab)
        self.pages.free_pages(cpu, slab.page, self.order)

    def deactivate_slab(self, cpu: int) -> None:
        """A CPU lets go of its slab."""
        c = self.cpu[cpu]
        slab = c.slab
        if slab.freelist:
            c.stats["deactivate_remote_frees"] += 1
        where = "head" if c.freelist else "tail"
        while c.freelist:
            slab.freelist.appendleft(c.freelist.popleft())
            slab.inuse -= 1
        c.slab = None
        slab.frozen = None
        if slab.inuse and slab.full:
            c.stats["deactivate_full"] += 1  # from here on it is on no list
        elif slab.inuse:
            c.stats[f"deactivate_to_{where}"] += 1
            if where == "head":
                self.partials[slab.node].appendleft(slab)
            else:
                self.partials[slab.node].append(slab)
        else:
            c.stats["deactivate_empty"] += 1
            if len(self.partials[slab.node]) < self.min_partial:
                self.partials[slab.node].append(slab)
            else:
                c.stats["free_slab"] += 1
                self.discard_slab(cpu, slab)

    # -- objects

    def take_over(self, cpu: int, slab: Slab) -> Object:
        """The slab becomes the CPU's: the shared list turns private, less its head, which is handed out."""
        c = self.cpu[cpu]
        c.stats["alloc_slowpath"] += 1
        c.slab = slab
        slab.frozen = cpu
        slab.inuse = self.objects
        index = slab.freelist.popleft()
        c.freelist, slab.freelist = slab.freelist, deque()
        return Object(slab, index)

    def get_partial(self, cpu: int, gfp: int, node: int) -> Slab | None:
        """The head of the wanted node's list; else, unless the mask insists, of a node that can spare one."""
        nodes = range(len(self.partials))
        home = self.pages.node_of_cpu(cpu) if len(nodes) > 1 else 0
        wanted = self.partials[home if node < 0 else node]
        if wanted:
            return wanted.popleft()
        if len(nodes) > 1 and not gfp & THISNODE:
            for other in sorted(nodes, key=lambda n: n != home):
                if len(self.partials[other]) > self.min_partial:
                    return self.partials[other].popleft()
        return None

    def alloc(self, cpu: int, gfp: int, task: Task = PLAIN, node: int = -1) -> Object | PageObject | None:
        c = self.cpu[cpu]
        right_node = node < 0 or (c.slab is not None and c.slab.node == node)
        if c.freelist and right_node:
            c.stats["alloc_fastpath"] += 1
            return Object(c.slab, c.freelist.popleft())
        if c.slab:
            if right_node:
                c.stats["alloc_refill"] += 1
                if c.slab.freelist:  # objects that other CPUs gave back
                    return self.take_over(cpu, c.slab)
            self.deactivate_slab(cpu)
        slab = self.get_partial(cpu, gfp, node)
        if slab:  # anybody's, whatever mask paid for it
            c.stats["alloc_from_partial"] += 1
            return self.take_over(cpu, slab)
        slab = self.new_slab(cpu, gfp, task, node)
        if slab:
            c.stats["alloc_slab"] += 1
            return self.take_over(cpu, slab)
        # A request that is still to reclaim has not failed: it does not come here with the slab's order.
        if self.fallback and not gfp & NORETRY and self.why == "fail":
            order = max((self.objsize - 1).bit_length() - 12, 0)
            result = self.pages.alloc_pages(cpu, gfp | COMP, order, task)
            if result.page is not None:
                return PageObject(result.page, order)
        return None

    def free(self, cpu: int, what: Object | PageObject) -> None:
        if isinstance(what, PageObject):
            self.pages.free_pages(cpu, what.page, what.order)
            return
        slab, index = what
        c = self.cpu[cpu]
        if slab is c.slab:
            c.stats["free_fastpath"] += 1
            c.freelist.appendleft(index)
            return
        c.stats["free_slowpath"] += 1
        was_full = slab.full
        slab.freelist.appendleft(index)
        slab.inuse -= 1
        if slab.frozen is not None:
            c.stats["free_frozen"] += 1
        elif slab.inuse == 0:  # given back at once, however few partial slabs there are
            if not was_full:
                self.partials[slab.node].remove(slab)
                c.stats["free_remove_partial"] += 1
            c.stats["free_slab"] += 1
            self.discard_slab(cpu, slab)
        elif was_full:
            c.stats["free_add_partial"] += 1
            self.partials[slab.node].append(slab)

    # -- the whole cache

    def flush_all(self, cpu: int) -> None:
        """Every CPU lets go of its slab; the caller's CPU is the last."""
        others = [other for other in range(len(self.cpu)) if other != cpu]
        for each in [*others, cpu]:
            if self.cpu[each].slab:
                self.cpu[each].stats["cpuslab_flush"] += 1
                self.deactivate_slab(each)

    def free_empty(self, cpu: int) -> None:
        """Give every empty partial slab back."""
        for partial in self.partials:
            for slab in [slab for slab in partial if slab.inuse == 0]:
                partial.remove(slab)
                self.discard_slab(cpu, slab)

    def shrink(self, cpu: int) -> None:
        """Flush, give empty partial slabs back, order the rest fullest first, equals the other way round."""
        self.flush_all(cpu)
        self.free_empty(cpu)
        for partial in self.partials:
            partial.reverse()
        self.partials = [deque(sorted(partial, key=lambda slab: -slab.inuse)) for partial in self.partials]
