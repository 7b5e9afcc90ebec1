"""The later SLUBs, written to be read: per-CPU partial lists (3.2 to 6.17) and, over them, sheaves (6.18 on).

One node, one thread. A slab is an object, a free list is a list whose first item is handed out first, the order of
every list is its order in the kernel. ``pages`` answers ``take(order)`` and ``give(order)``.
"""

from collections import Counter
from dataclasses import dataclass, field

SHRINK_PROMOTE_MAX = 32
MAX_FULL_SHEAVES = 10


class Pages:
    """So many pages; a request is granted when they suffice."""

    def __init__(self, free: int):
        self.free = free

    def take(self, order: int) -> bool:
        if self.free < 2**order:
            return False
        self.free -= 2**order
        return True

    def give(self, order: int) -> None:
        self.free += 2**order


@dataclass(eq=False)
class Slab:
    number: int
    order: int
    objects: int
    free: list[int]  # the shared list
    inuse: int = 0  # as the kernel counts: what a CPU holds privately is in use
    where: str = "nowhere"  # cpu, cpu partial, node partial
    counted: int = 0  # what it counts on a CPU's partial list


@dataclass
class Cpu:
    slab: Slab | None = None
    free: list[int] = field(default_factory=list)  # private list of its slab
    partial: list[Slab] = field(default_factory=list)
    partial_count: int = 0  # slabs, or free objects, as counted when each slab was put there
    main: list | None = None
    spare: list | None = None
    stats: Counter = field(default_factory=Counter)


class CpuPartialCache:
    """A cache by the rules of 3.2 to 6.17; ``by_objects`` counts the CPU's partial list as before 5.16."""

    def __init__(self, pages, size, order, min_order, limit, min_partial=5, cpus=1, by_objects=False):
        self.pages, self.size, self.order, self.min_order = pages, size, order, min_order
        self.limit, self.min_partial, self.by_objects = limit, min_partial, by_objects
        self.cpus = [Cpu() for _ in range(cpus)]
        self.partial: list[Slab] = []  # of the node
        self.slabs = 0
        self.made = 0

    # ------------------------------------------------------------------------------------------------ slabs

    def _buy(self, cpu: Cpu) -> Slab | None:
        for order in dict.fromkeys((self.order, self.min_order)):
            if self.pages.take(order):
                if order < self.order:
                    cpu.stats["order_fallback"] += 1
                count = (4096 << order) // self.size
                slab = Slab(self.made, order, count, list(range(count)))
                self.made += 1
                self.slabs += 1
                return slab
        return None

    def _discard(self, slab: Slab) -> None:
        slab.where = "gone"
        self.slabs -= 1
        self.pages.give(slab.order)

    def _to_node(self, slab: Slab, tail: bool) -> None:
        slab.where = "node partial"
        self.partial.insert(len(self.partial) if tail else 0, slab)

    def _is_surplus(self, slab: Slab) -> bool:
        return slab.inuse == 0 and len(self.partial) >= self.min_partial

    def _adopt(self, cpu: Cpu, slab: Slab):
        cpu.slab, cpu.free, slab.free = slab, slab.free[1:], slab.free[:1]
        slab.where, slab.inuse = "cpu", slab.objects
        return slab, slab.free.pop()

    # ------------------------------------------------------------------------------------- the partial list

    def _put_cpu_partial(self, cpu: Cpu, slab: Slab, drain: bool) -> None:
        spilled: list[Slab] = []
        full = cpu.partial_count > self.limit if self.by_objects else cpu.partial_count >= self.limit
        if drain and cpu.partial and full:
            spilled, cpu.partial, cpu.partial_count = cpu.partial, [], 0
            cpu.stats["cpu_partial_drain"] += 1
        slab.where = "cpu partial"
        cpu.partial.insert(0, slab)
        slab.counted = slab.objects - slab.inuse if self.by_objects else 1
        cpu.partial_count += slab.counted
        self._unfreeze(cpu, spilled)

    def _unfreeze(self, cpu: Cpu, slabs: list[Slab]) -> None:
        surplus = []
        for slab in slabs:
            if self._is_surplus(slab):
                surplus.append(slab)
            else:
                self._to_node(slab, tail=True)
                cpu.stats["free_add_partial"] += 1
        for slab in reversed(surplus):
            cpu.stats["deactivate_empty"] += 1
            cpu.stats["free_slab"] += 1
            self._discard(slab)

    def _take_from_node(self, cpu: Cpu) -> Slab | None:
        first, taken = None, 0
        while self.partial:
            slab = self.partial.pop(0)
            if self.by_objects:
                taken += slab.objects - slab.inuse
            if first is None:
                first = slab
                cpu.stats["alloc_from_partial"] += 1
            else:
                self._put_cpu_partial(cpu, slab, drain=False)
                cpu.stats["cpu_partial_node"] += 1
                taken += not self.by_objects
            if self.limit == 0 or taken > self.limit // 2:
                break
        return first

    def _retire(self, cpu: Cpu) -> None:
        slab, cpu.slab = cpu.slab, None
        remote = bool(slab.free)
        slab.inuse -= len(cpu.free)
        slab.free = cpu.free + slab.free
        cpu.free = []
        cpu.stats["deactivate_remote_frees"] += remote
        if self._is_surplus(slab):
            cpu.stats["deactivate_empty"] += 1
            cpu.stats["free_slab"] += 1
            self._discard(slab)
        elif slab.free:
            self._to_node(slab, tail=remote)
            cpu.stats["deactivate_to_tail" if remote else "deactivate_to_head"] += 1
        else:
            slab.where = "full"
            cpu.stats["deactivate_full"] += 1

    # ------------------------------------------------------------------------------------------ the objects

    def slab_alloc(self, c: int):
        """An object, (slab, index), or None."""
        cpu = self.cpus[c]
        if cpu.free:
            cpu.stats["alloc_fastpath"] += 1
            return cpu.slab, cpu.free.pop(0)
        cpu.stats["alloc_slowpath"] += 1
        if cpu.slab is not None:
            if cpu.slab.free:
                cpu.stats["alloc_refill"] += 1
                return self._adopt(cpu, cpu.slab)
            cpu.slab.where = "full"
            cpu.slab = None
            cpu.stats["deactivate_bypass"] += 1
        if cpu.partial:
            cpu.stats["cpu_partial_alloc"] += 1
            slab = cpu.partial.pop(0)
            cpu.partial_count -= slab.counted
            return self._adopt(cpu, slab)
        slab = self._take_from_node(cpu)
        if slab is None:
            slab = self._buy(cpu)
            if slab is None:
                return None
            cpu.stats["alloc_slab"] += 1
        return self._adopt(cpu, slab)

    def slab_free(self, c: int, thing) -> None:
        slab, index = thing
        cpu = self.cpus[c]
        if cpu.slab is slab:
            cpu.stats["free_fastpath"] += 1
            cpu.free.insert(0, index)
            return
        cpu.stats["free_slowpath"] += 1
        was_full = not slab.free
        slab.free.insert(0, index)
        slab.inuse -= 1
        if slab.where in ("cpu", "cpu partial"):
            cpu.stats["free_frozen"] += 1
        elif was_full and self.limit:
            cpu.stats["cpu_partial_free"] += 1
            self._put_cpu_partial(cpu, slab, drain=True)
        elif self._is_surplus(slab):
            if not was_full:
                self.partial.remove(slab)
                cpu.stats["free_remove_partial"] += 1
            cpu.stats["free_slab"] += 1
            self._discard(slab)
        elif was_full:
            self._to_node(slab, tail=True)
            cpu.stats["free_add_partial"] += 1

    alloc = slab_alloc
    free = slab_free

    # -------------------------------------------------------------------------------------- the whole cache

    def flush(self, c: int) -> None:
        cpu = self.cpus[c]
        if cpu.slab is not None:
            cpu.stats["cpuslab_flush"] += 1
            self._retire(cpu)
        slabs, cpu.partial, cpu.partial_count = cpu.partial, [], 0
        self._unfreeze(cpu, slabs)

    def shrink(self, c: int) -> None:
        for other in [o for o in range(len(self.cpus)) if o != c] + [c]:
            self.flush(other)
        self._sort_partial()

    def _sort_partial(self) -> None:
        for slab in [slab for slab in self.partial if slab.inuse == 0]:
            self.partial.remove(slab)
            self._discard(slab)
        most = min(SHRINK_PROMOTE_MAX, (4096 << self.order) // self.size - 1)
        near = [slab for slab in self.partial if len(slab.free) <= most]
        far = [slab for slab in self.partial if len(slab.free) > most]
        self.partial = sorted(near, key=lambda slab: (len(slab.free), -near.index(slab))) + far


class SheafCache(CpuPartialCache):
    """A cache of 6.18 with sheaves of ``capacity`` objects; ``make_sheaf`` answers whether one can be had."""

    def __init__(self, *args, capacity=4, make_sheaf=lambda: True, **kwargs):
        super().__init__(*args, **kwargs)
        self.capacity, self.make_sheaf = capacity, make_sheaf
        self.full: list[list] = []  # the barn
        self.empty: list[list] = []

    def _new_sheaf(self, cpu: Cpu) -> list | None:
        if not self.make_sheaf():
            return None
        cpu.stats["sheaf_alloc"] += 1
        return []

    def _flush_sheaf(self, c: int, sheaf: list) -> None:
        while sheaf:
            self.cpus[c].stats["sheaf_flush"] += 1
            self.slab_free(c, sheaf.pop())

    def _refill(self, c: int, sheaf: list) -> bool:
        before = len(sheaf)
        while len(sheaf) < self.capacity:
            thing = self.slab_alloc(c)
            if thing is None:
                while len(sheaf) > before:
                    self.slab_free(c, sheaf.pop())
                return False
            sheaf.append(thing)
        self.cpus[c].stats["sheaf_refill"] += self.capacity - before
        return True

    def _ready(self, cpu: Cpu) -> bool:
        if cpu.main is None:
            cpu.main = self._new_sheaf(cpu)
        return cpu.main is not None

    def _find_objects(self, c: int, may_wait: bool) -> bool:
        cpu = self.cpus[c]
        if cpu.spare:
            cpu.main, cpu.spare = cpu.spare, cpu.main
            return True
        if self.full:
            cpu.stats["barn_get"] += 1
            self.empty.insert(0, cpu.main)
            cpu.main = self.full.pop(0)
            return True
        cpu.stats["barn_get_fail"] += 1
        if not may_wait:
            return False
        if cpu.spare is not None:
            sheaf, cpu.spare = cpu.spare, None
        else:
            sheaf = self.empty.pop(0) if self.empty else self._new_sheaf(cpu)
        if sheaf is None:
            return False
        if not self._refill(c, sheaf):
            cpu.stats["sheaf_free"] += 1
            return False
        if cpu.spare is None:
            cpu.spare = cpu.main
        else:
            self.empty.insert(0, cpu.main)
        cpu.main = sheaf
        return True

    def _find_room(self, c: int) -> None:
        cpu = self.cpus[c]
        had_spare = cpu.spare is not None
        if had_spare and len(cpu.spare) < self.capacity:
            cpu.main, cpu.spare = cpu.spare, cpu.main
            return
        if had_spare and len(self.full) >= MAX_FULL_SHEAVES:
            cpu.stats["barn_put_fail"] += 1
            room, cpu.spare = cpu.spare, None
            self._flush_sheaf(c, room)
        else:
            room = self.empty.pop(0) if self.empty else self._new_sheaf(cpu)
        if room is None:
            cpu.stats["barn_put_fail"] += had_spare
            self._flush_sheaf(c, cpu.main)
            return
        if cpu.spare is None:
            cpu.spare = cpu.main
        else:
            cpu.stats["barn_put"] += 1
            self.full.insert(0, cpu.main)
        cpu.main = room

    def alloc(self, c: int, may_wait: bool = True):
        cpu = self.cpus[c]
        if self._ready(cpu) and (cpu.main or self._find_objects(c, may_wait)):
            cpu.stats["alloc_pcs"] += 1
            return cpu.main.pop()
        return self.slab_alloc(c)

    def free(self, c: int, thing) -> None:
        cpu = self.cpus[c]
        if not self._ready(cpu):
            self.slab_free(c, thing)
            return
        if len(cpu.main) == self.capacity:
            self._find_room(c)
        cpu.stats["free_pcs"] += 1
        cpu.main.append(thing)

    def flush(self, c: int) -> None:
        cpu = self.cpus[c]
        if cpu.spare is not None:
            self._flush_sheaf(c, cpu.spare)
            cpu.spare = None
            cpu.stats["sheaf_free"] += 1
        if cpu.main is not None:
            self._flush_sheaf(c, cpu.main)
        super().flush(c)

    def shrink(self, c: int) -> None:
        for other in [o for o in range(len(self.cpus)) if o != c] + [c]:
            self.flush(other)
        for barn in (self.full, self.empty):
            for sheaf in barn:
                self._flush_sheaf(c, sheaf)
                self.cpus[c].stats["sheaf_free"] += 1
            barn.clear()
        # What the flush above gave back to CPU ``c`` stays with it, as in the kernel.
        self._sort_partial()
