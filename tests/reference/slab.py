"""SLAB of 2.6.25-rc8 on one or two nodes [mm/slab.c]: stacks of objects per CPU, three lists of slabs per node.

Lists of slabs are Python lists whose head is item 0; arrays of objects are lists whose last item goes out first. An
object is (slab, index): two slabs are the same only if they are the same object.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.reference.page_alloc import NORETRY, NOWARN, PLAIN, Task
from tests.reference.stub_pages import THISNODE, Block, StubPages

BATCHREFILL_LIMIT = 16
REAPTIMEOUT_LIST3 = 4000  # jiffies
PASSED_ON = 0x71EF0  # what reaches the page allocator of a caller's mask
GFP_THISNODE = THISNODE | NORETRY | NOWARN  # nothing on a machine of one node
ALIEN_LIMIT = 12


@dataclass(eq=False)
class Slab:
    cache: "SlabCache"
    node: int
    block: Block
    free: list[int]  # indices in the order they are handed out
    mgmt: "Object | None" = None  # where struct slab lies when it does not lie in the slab

    @property
    def inuse(self) -> int:
        return self.cache.num - len(self.free)


class Object(NamedTuple):
    slab: Slab
    index: int


@dataclass
class Array:
    """An array_cache."""

    limit: int
    batchcount: int = 0
    touched: int = 0
    entry: list[Object] = field(default_factory=list)

    def room(self) -> int:
        return self.limit - len(self.entry)

    def move_newest(self, other: "Array", most: int) -> int:
        """Up to ``most`` of the newest objects go to ``other``, in their order [transfer_objects]."""
        count = min(len(self.entry), most, other.room())
        if count:
            other.entry += self.entry[-count:]
            del self.entry[-count:]
            other.touched = 1
        return count

    def oldest(self, count: int) -> list[Object]:
        taken = self.entry[:count]
        del self.entry[:count]
        return taken


@dataclass
class Node:
    """A kmem_list3."""

    free_limit: int
    next_reap: int
    shared: Array | None
    alien: list[Array | None]
    full: list[Slab] = field(default_factory=list)
    partial: list[Slab] = field(default_factory=list)
    free: list[Slab] = field(default_factory=list)
    free_objects: int = 0
    free_touched: int = 0
    colour_next: int = 0

    def drop(self, slab: Slab) -> None:
        next(slabs for slabs in (self.full, self.partial, self.free) if slab in slabs).remove(slab)


class SlabCache:
    """A kmem_cache. ``mgmt_cache`` serves the management objects of an off-slab cache."""

    def __init__(self, pages: StubPages, layout, jiffies: int, mgmt_cache: "Callable[[], SlabCache]"):
        self.pages = pages
        self.layout = layout
        self.name, self.num, self.order = layout.name, layout.num, layout.gfporder
        self.mgmt_cache = mgmt_cache if layout.off_slab else None
        self.cpu = [Array(layout.limit, layout.batchcount) for _ in range(pages.cpus)]
        nodes = len(pages.nodes)
        alien_limit = ALIEN_LIMIT if layout.limit > 1 else layout.limit
        self.node = [
            Node(
                layout.free_limit,
                jiffies + REAPTIMEOUT_LIST3,
                Array(layout.shared_limit) if layout.shared_limit else None,
                [Array(alien_limit) if other != node else None for other in range(nodes)],
            )
            for node in range(nodes)
        ]
        self.stats: Counter = Counter()
        self.ctor_calls = 0
        self.path = 0

    # -- slabs

    def count_out(self) -> None:
        """An object leaves its slab."""
        self.stats["num_active"] += 1
        self.stats["high_mark"] = max(self.stats["high_mark"], self.stats["num_active"])

    def grow(self, cpu: int, gfp: int, task: Task, node: int, block: Block | None = None) -> bool:
        """A new slab at the tail of the free list; ``block`` if its pages are here already [cache_grow]."""
        mask = gfp & PASSED_ON
        n = self.node[node]
        n.colour_next = (n.colour_next + 1) % self.layout.colour if self.layout.colour else 0
        block = block or self.pages.take(cpu, mask, self.order, task, node)
        if block is None:
            return False
        slab = Slab(self, node, block, list(range(self.num)))
        if self.mgmt_cache:
            slab.mgmt = self.mgmt_cache().alloc(cpu, mask & ~self.thisnode(), task, node)
            if slab.mgmt is None:
                self.pages.give(block)
                return False
        if self.layout.ctor:
            self.ctor_calls += self.num
        n.free.append(slab)
        n.free_objects += self.num
        self.stats["grown"] += 1
        return True

    def thisnode(self) -> int:
        return GFP_THISNODE if len(self.pages.nodes) > 1 else 0

    def destroy_slab(self, cpu: int, slab: Slab) -> None:
        self.pages.give(slab.block)
        if slab.mgmt:
            slab.mgmt.slab.cache.free(cpu, slab.mgmt)

    def free_block(self, cpu: int, objects: list[Object], node: int) -> None:
        """Objects go back into their slabs."""
        n = self.node[node]
        for slab, index in objects:
            n.drop(slab)
            slab.free.insert(0, index)
            self.stats["num_active"] -= 1
            n.free_objects += 1
            if slab.inuse:
                n.partial.append(slab)
            elif n.free_objects > n.free_limit:
                n.free_objects -= self.num
                self.destroy_slab(cpu, slab)
            else:
                n.free.insert(0, slab)

    def drain_freelist(self, cpu: int, node: int, most: int) -> int:
        """Give up to ``most`` free slabs back, from the tail."""
        n = self.node[node]
        gone = 0
        while gone < most and n.free:
            slab = n.free.pop()
            n.free_objects -= self.num
            self.destroy_slab(cpu, slab)
            gone += 1
        return gone

    def first_slab(self, node: int) -> Slab | None:
        """Where the next object comes from."""
        n = self.node[node]
        if n.partial:
            return n.partial[0]
        n.free_touched = 1
        return n.free[0] if n.free else None

    def put_first(self, node: int, slab: Slab) -> None:
        """A slab that objects were taken from becomes the first of its list."""
        n = self.node[node]
        n.drop(slab)
        (n.partial if slab.free else n.full).insert(0, slab)

    # -- allocation

    def alloc(self, cpu: int, gfp: int, task: Task = PLAIN, node: int = -1) -> Object | None:
        grown = self.stats["grown"]
        home = self.pages.node_of_cpu(cpu)
        thing = None
        if node in (-1, home):
            thing = self.alloc_here(cpu, gfp, task)
        if thing is None and len(self.pages.nodes) > 1:
            thing = self.alloc_on(cpu, gfp, task, home if node < 0 else node)
        if thing is None:
            self.path = 0
        elif self.stats["grown"] > grown:
            self.path = 4
        return thing

    def alloc_here(self, cpu: int, gfp: int, task: Task) -> Object | None:
        """Through the CPU's array [____cache_alloc, cache_alloc_refill]."""
        array = self.cpu[cpu]
        if array.entry:
            self.stats["allochit"] += 1
            self.path = 1
        else:
            self.stats["allocmiss"] += 1
            self.path = 2
            self.refill(cpu)
            if not array.entry:
                if not self.grow(cpu, gfp | self.thisnode(), task, self.pages.node_of_cpu(cpu)):
                    return None
                self.refill(cpu)
        array.touched = 1
        return array.entry.pop()

    def refill(self, cpu: int) -> None:
        """A batch from the shared array, or from the slabs."""
        array = self.cpu[cpu]
        node = self.pages.node_of_cpu(cpu)
        n = self.node[node]
        left = array.batchcount
        if not array.touched:
            left = min(left, BATCHREFILL_LIMIT)
        if n.shared and n.shared.move_newest(array, left):
            return
        while left > 0:
            slab = self.first_slab(node)
            if slab is None:
                break
            while slab.free and left > 0:
                array.entry.append(Object(slab, slab.free.pop(0)))
                self.stats["num_allocations"] += 1
                self.count_out()
                n.free_objects -= 1
                left -= 1
            self.put_first(node, slab)

    def alloc_on(self, cpu: int, gfp: int, task: Task, node: int) -> Object | None:
        """One object straight from a node's slabs [____cache_alloc_node]."""
        self.path = 2
        while True:
            slab = self.first_slab(node)
            if slab:
                self.stats["node_allocs"] += 1
                self.count_out()
                thing = Object(slab, slab.free.pop(0))
                self.node[node].free_objects -= 1
                self.put_first(node, slab)
                return thing
            if not self.grow(cpu, gfp | GFP_THISNODE, task, node):
                return self.fallback(cpu, gfp, task)

    def fallback(self, cpu: int, gfp: int, task: Task) -> Object | None:
        """Any node's free objects, then pages of any node, unless the caller insists on his [fallback_alloc]."""
        if gfp & THISNODE:
            return None
        home = self.pages.node_of_cpu(cpu)
        for node in sorted(range(len(self.node)), key=lambda n: n != home):
            if self.node[node].free_objects:
                thing = self.alloc_on(cpu, gfp | GFP_THISNODE, task, node)
                if thing:
                    return thing
        block = self.pages.take(cpu, gfp & PASSED_ON, self.order, task)
        if block and self.grow(cpu, gfp, task, block.node, block):
            return self.alloc_on(cpu, gfp | GFP_THISNODE, task, block.node)
        return None

    # -- free

    def free(self, cpu: int, thing: Object) -> None:
        home = self.pages.node_of_cpu(cpu)
        array = self.cpu[cpu]
        if thing.slab.node != home:
            self.free_foreign(cpu, thing, home)
            self.path = 3
            return
        if array.room():
            self.stats["freehit"] += 1
            path = 1
        else:
            self.stats["freemiss"] += 1
            path = 2
            self.flush_array(cpu, array, home)
        array.entry.append(thing)
        self.path = path

    def flush_array(self, cpu: int, array: Array, node: int) -> None:
        """The oldest batch makes room: to the shared array as far as it goes, else to the slabs [cache_flusharray]."""
        n = self.node[node]
        if n.shared and n.shared.room():
            n.shared.entry += array.oldest(min(array.batchcount, n.shared.room()))
        else:
            self.free_block(cpu, array.entry[: array.batchcount], node)
            array.oldest(array.batchcount)
        self.stats["max_freeable"] = max(self.stats["max_freeable"], len(n.free))

    def free_foreign(self, cpu: int, thing: Object, home: int) -> None:
        """Another node's object waits in the alien array [cache_free_alien]."""
        self.stats["node_frees"] += 1
        alien = self.node[home].alien[thing.slab.node]
        if not alien.room():
            self.stats["node_overflow"] += 1
            self.drain_alien(cpu, alien, thing.slab.node)
        alien.entry.append(thing)

    def drain_alien(self, cpu: int, alien: Array, node: int) -> None:
        """Home to ``node``: its shared array first [__drain_alien_cache]."""
        if not alien.entry:
            return
        shared = self.node[node].shared
        if shared:
            alien.move_newest(shared, alien.limit)
        self.free_block(cpu, alien.oldest(len(alien.entry)), node)

    # -- draining

    def drain_cpu(self, cpu: int) -> None:
        """The CPU empties its array into the slabs [do_drain]."""
        array = self.cpu[cpu]
        self.free_block(cpu, list(array.entry), self.pages.node_of_cpu(cpu))
        array.entry.clear()

    def drain_some(self, cpu: int, array: Array | None, node: int) -> None:
        """The reaper's share: nothing from an array that was used since [drain_array]."""
        if array is None or not array.entry:
            return
        if array.touched:
            array.touched = 0
            return
        count = (array.limit + 4) // 5
        if count > len(array.entry):
            count = (len(array.entry) + 1) // 2
        self.free_block(cpu, array.entry[:count], node)
        array.oldest(count)

    def shrink(self, cpu: int) -> int:
        """Everything that can go goes; 1 if something stays [kmem_cache_shrink]."""
        others = [other for other in range(len(self.cpu)) if other != cpu]
        for each in [*others, cpu]:
            self.drain_cpu(each)
        for n in self.node:
            for node, alien in enumerate(n.alien):
                if alien:
                    self.drain_alien(cpu, alien, node)
        for node, n in enumerate(self.node):
            if n.shared:
                self.free_block(cpu, list(n.shared.entry), node)
                n.shared.entry.clear()
        for node, n in enumerate(self.node):
            self.drain_freelist(cpu, node, n.free_objects)
        return int(any(n.full or n.partial for n in self.node))

    def reap(self, cpu: int, jiffies: int, reap_node: int) -> None:
        """The periodic pass of one CPU [cache_reap]."""
        home = self.pages.node_of_cpu(cpu)
        n = self.node[home]
        alien = n.alien[reap_node]
        if alien:
            self.drain_alien(cpu, alien, reap_node)
        self.drain_some(cpu, self.cpu[cpu], home)
        if n.next_reap > jiffies:
            return
        n.next_reap = jiffies + REAPTIMEOUT_LIST3
        self.drain_some(cpu, n.shared, home)
        if n.free_touched:
            n.free_touched = 0
        else:
            most = (n.free_limit + 5 * self.num - 1) // (5 * self.num)
            self.stats["reaped"] += self.drain_freelist(cpu, home, most)
