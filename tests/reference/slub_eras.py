"""SLUB of 6.18 with sheaves that a cache asks for, written to be read: over the rules of per-CPU partial lists.

One node, one thread. A sheaf is a list whose last item is handed out first; the order of every list is its order in
the kernel.
"""

from dataclasses import dataclass

from tests.reference.cpu_partial import CpuPartialCache
from tests.reference.page_alloc import PLAIN

KERNEL = 0xD0
MAX_FULL_SHEAVES = 10


@dataclass(eq=False)
class Block:
    """Pages in somebody's hands."""

    order: int
    node: int = 0
    pfmemalloc: bool = False


class Pages:
    """So many pages, and whatever else a cache asks its kernel for; a request is granted when they suffice."""

    now, task, nr_nodes = 0, PLAIN, 1

    def __init__(self, free: int, cpus: int = 2):
        self.free, self.nr_cpus = free, cpus

    def take_pages(self, _cpu, _gfp, order, _node):
        if self.free < 2**order:
            return None
        self.free -= 2**order
        return Block(order)

    def give_pages(self, block):
        self.free += 2**block.order

    def node_of_cpu(self, _cpu):
        return 0

    def constructed(self, _cache, _objects):
        pass


@dataclass
class Sheaves:
    """What a CPU has."""

    main: list | None = None
    spare: list | None = None


class SheafCache(CpuPartialCache):
    """A cache of 6.18 with sheaves of ``capacity`` objects; ``make_sheaf`` answers whether one can be had."""

    def __init__(self, *args, capacity=4, make_sheaf=lambda: True, **kwargs):
        super().__init__(*args, **kwargs)
        self.capacity, self.make_sheaf = capacity, make_sheaf
        self.pcs = [Sheaves() for _ in self.cpus]
        self.full: list[list] = []  # the barn
        self.empty: list[list] = []

    def _new_sheaf(self, c: int) -> list | None:
        if not self.make_sheaf():
            return None
        self.stats[c]["sheaf_alloc"] += 1
        return []

    def _flush_sheaf(self, c: int, sheaf: list) -> None:
        while sheaf:
            self.stats[c]["sheaf_flush"] += 1
            super().free(c, sheaf.pop())

    def _refill(self, c: int, sheaf: list) -> bool:
        before = len(sheaf)
        while len(sheaf) < self.capacity:
            thing = super().alloc(c, KERNEL)
            if thing is None:
                while len(sheaf) > before:
                    super().free(c, sheaf.pop())
                return False
            sheaf.append(thing)
        self.stats[c]["sheaf_refill"] += self.capacity - before
        return True

    def _ready(self, c: int) -> bool:
        cpu = self.pcs[c]
        if cpu.main is None:
            cpu.main = self._new_sheaf(c)
        return cpu.main is not None

    def _find_objects(self, c: int, may_wait: bool) -> bool:
        cpu = self.pcs[c]
        if cpu.spare:
            cpu.main, cpu.spare = cpu.spare, cpu.main
            return True
        if self.full:
            self.stats[c]["barn_get"] += 1
            self.empty.insert(0, cpu.main)
            cpu.main = self.full.pop(0)
            return True
        self.stats[c]["barn_get_fail"] += 1
        if not may_wait:
            return False
        if cpu.spare is not None:
            sheaf, cpu.spare = cpu.spare, None
        else:
            sheaf = self.empty.pop(0) if self.empty else self._new_sheaf(c)
        if sheaf is None:
            return False
        if not self._refill(c, sheaf):
            self.stats[c]["sheaf_free"] += 1
            return False
        if cpu.spare is None:
            cpu.spare = cpu.main
        else:
            self.empty.insert(0, cpu.main)
        cpu.main = sheaf
        return True

    def _find_room(self, c: int) -> None:
        cpu = self.pcs[c]
        had_spare = cpu.spare is not None
        if had_spare and len(cpu.spare) < self.capacity:
            cpu.main, cpu.spare = cpu.spare, cpu.main
            return
        if had_spare and len(self.full) >= MAX_FULL_SHEAVES:
            self.stats[c]["barn_put_fail"] += 1
            room, cpu.spare = cpu.spare, None
            self._flush_sheaf(c, room)
        else:
            room = self.empty.pop(0) if self.empty else self._new_sheaf(c)
        if room is None:
            self.stats[c]["barn_put_fail"] += had_spare
            self._flush_sheaf(c, cpu.main)
            return
        if cpu.spare is None:
            cpu.spare = cpu.main
        else:
            self.stats[c]["barn_put"] += 1
            self.full.insert(0, cpu.main)
        cpu.main = room

    def alloc(self, c: int, may_wait: bool = True):
        cpu = self.pcs[c]
        if self._ready(c) and (cpu.main or self._find_objects(c, may_wait)):
            self.stats[c]["alloc_pcs"] += 1
            return cpu.main.pop()
        return super().alloc(c, KERNEL)

    def free(self, c: int, thing) -> None:
        cpu = self.pcs[c]
        if not self._ready(c):
            super().free(c, thing)
            return
        if len(cpu.main) == self.capacity:
            self._find_room(c)
        self.stats[c]["free_pcs"] += 1
        cpu.main.append(thing)

    def flush_cpu(self, c: int) -> None:
        cpu = self.pcs[c]
        if cpu.spare is not None:
            self._flush_sheaf(c, cpu.spare)
            cpu.spare = None
            self.stats[c]["sheaf_free"] += 1
        if cpu.main is not None:
            self._flush_sheaf(c, cpu.main)
        super().flush_cpu(c)

    def shrink(self, c: int) -> bool:
        self.flush_all()
        for barn in (self.full, self.empty):
            for sheaf in barn:
                self._flush_sheaf(c, sheaf)
                self.stats[c]["sheaf_free"] += 1
            barn.clear()
        # What the flush above gave back to CPU ``c`` stays with it, as in the kernel.
        return self.shrink_partials(c)
