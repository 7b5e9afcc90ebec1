"""Percpu sheaves and barns of Linux 7.2 and 7.3 [mm/slub.c], written to be read; there is no CPU slab below them.

A sheaf is a list whose last item is handed out first. Beside what :mod:`tests.reference.node_lists` asks of it,
``kernel`` has

    kmalloc(cpu, size, gfp, node=-1, recurse=True), kfree(cpu, thing)
"""

from dataclasses import dataclass, field
from typing import Any

from tests.reference.node_lists import THISNODE, NodeListCache, Object, Slab
from tests.reference.page_alloc import NOFAIL, NOMEMALLOC, NOWARN

COMP, ZERO = 0x4000, 0x8000
MAX_FULL_SHEAVES = 10
MAX_EMPTY_SHEAVES = 10
PCS_BATCH_MAX = 32  # objects of the main sheaf that are flushed at once
SHEAF_HEADER = 32  # sizeof(struct slab_sheaf) without its pointers
BARN_BYTES = 48  # sizeof(struct node_barn)
KMALLOC_SIZES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)

# How an operation was served, in the numbers of the golden cases.
FROM_MAIN, FROM_SPARE, FROM_BARN, FROM_REFILL, FROM_SLAB, FROM_NEW_SLAB = 1, 2, 3, 4, 5, 6
TO_MAIN, TO_SPARE, TO_BARN_EMPTY, TO_NEW, TO_FLUSHED_SPARE, TO_SAME_MAIN = 1, 2, 3, 4, 5, 6


def sheaf_capacity(slot: int, asked: int = 0) -> int:
    """Objects of a sheaf: by slot size, grown to fill its kmalloc cache, at least ``asked``
    [calculate_sheaf_capacity]."""
    wanted = next(objects for least, objects in ((4096, 4), (1024, 12), (256, 26), (0, 60)) if slot >= least)
    bucket = min(size for size in KMALLOC_SIZES if size >= SHEAF_HEADER + 8 * wanted)
    return max((bucket - SHEAF_HEADER) // 8, asked)


@dataclass(eq=False)
class Sheaf:
    """An array of objects; ``memory`` is the object that holds it."""

    capacity: int
    memory: Any
    objects: list[Object] = field(default_factory=list)
    pfmemalloc: bool = False  # prefilled below the watermarks

    @property
    def full(self) -> bool:
        return len(self.objects) >= self.capacity


@dataclass
class Barn:
    """The full and the empty sheaves of a node, first one first."""

    memory: Any
    full: list[Sheaf] = field(default_factory=list)
    empty: list[Sheaf] = field(default_factory=list)


@dataclass
class Cpu:
    main: Sheaf | None = None
    spare: Sheaf | None = None
    rcu_free: Sheaf | None = None


class SheafCache(NodeListCache):
    """A kmem_cache. ``capacity`` is 0 while it has no sheaves: for good, or until ``add_sheaves``."""

    def __init__(self, *args, kmalloc=False, max_full=MAX_FULL_SHEAVES, max_empty=MAX_EMPTY_SHEAVES, **kwargs):
        super().__init__(*args, **kwargs)
        self.kmalloc, self.max_full, self.max_empty = kmalloc, max_full, max_empty
        self.capacity = 0
        self.cpus = [Cpu() for _ in range(self.kernel.nr_cpus)]
        self.barns: list[Barn] = []
        self.path = 0  # of the last operation

    # ----------------------------------------------------------------------------------------------- sheaves

    def alloc_empty_sheaf(self, cpu: int, gfp: int, recurse: bool = True, capacity=0) -> Sheaf | None:
        """A new sheaf. The memory of a kmalloc cache's own one is taken without another sheaf being made for it."""
        if not recurse:
            return None
        capacity = capacity or self.capacity
        mask = (gfp | ZERO) & ~(NOFAIL | THISNODE | COMP)
        memory = self.kernel.kmalloc(cpu, SHEAF_HEADER + 8 * capacity, mask, recurse=not self.kmalloc)
        if memory is None:
            return None
        self.stats[cpu]["sheaf_alloc"] += 1
        return Sheaf(capacity, memory)

    def free_empty_sheaf(self, cpu: int, sheaf: Sheaf) -> None:
        self.kernel.kfree(cpu, sheaf.memory)
        self.stats[cpu]["sheaf_free"] += 1

    def flush_unused(self, cpu: int, sheaf: Sheaf) -> None:
        """All objects of a sheaf that nobody uses to the slabs [sheaf_flush_unused]."""
        things, sheaf.objects = sheaf.objects, []
        self.free_bulk(cpu, things)
        self.stats[cpu]["sheaf_flush"] += len(things)

    def flush_main(self, cpu: int) -> None:
        """The main sheaf, by batches from its top [sheaf_flush_main]."""
        c = self.cpus[cpu]
        while c.main.objects:
            things = c.main.objects[-PCS_BATCH_MAX:]
            del c.main.objects[-PCS_BATCH_MAX:]
            self.free_bulk(cpu, things)
            self.stats[cpu]["sheaf_flush"] += len(things)

    def refill_sheaf(self, cpu: int, sheaf: Sheaf, gfp: int) -> bool:
        missing = self.capacity - len(sheaf.objects)
        if missing == 0:
            return True
        got = self.refill_objects(cpu, gfp, missing)
        sheaf.objects += got
        self.stats[cpu]["sheaf_refill"] += len(got)
        return len(got) == missing

    def barn_of(self, cpu: int) -> Barn:
        return self.barns[self.kernel.node_of_cpu(cpu)]

    def replace_empty_main(self, cpu: int, gfp: int, recurse: bool) -> int:
        """How the CPU's main sheaf came to hold objects, 0 if it did not [__pcs_replace_empty_main]."""
        c = self.cpus[cpu]
        if not self.capacity:
            return 0
        if c.spare and c.spare.objects:
            c.main, c.spare = c.spare, c.main
            return FROM_SPARE
        barn = self.barn_of(cpu)
        if barn.full:
            barn.empty.insert(0, c.main)
            c.main = barn.full.pop(0)
            self.stats[cpu]["barn_get"] += 1
            return FROM_BARN
        self.stats[cpu]["barn_get_fail"] += 1
        if c.spare:
            sheaf, c.spare = c.spare, None
        elif barn.empty:
            sheaf = barn.empty.pop(0)
        else:
            sheaf = self.alloc_empty_sheaf(cpu, gfp, recurse)
            if sheaf is None:
                return 0
        if not self.refill_sheaf(cpu, sheaf, gfp | NOMEMALLOC | NOWARN):
            self.flush_unused(cpu, sheaf)
            self.free_empty_sheaf(cpu, sheaf)
            return 0
        if c.spare is None:
            c.spare = c.main
        else:
            barn.empty.insert(0, c.main)
        c.main = sheaf
        return FROM_REFILL

    def replace_full_main(self, cpu: int) -> int:
        """How the CPU's main sheaf came to have room [__pcs_replace_full_main, __pcs_install_empty_sheaf]."""
        c = self.cpus[cpu]
        barn = self.barn_of(cpu)
        had_spare = c.spare is not None
        if not had_spare and barn.empty:
            c.spare, c.main = c.main, barn.empty.pop(0)
            return TO_BARN_EMPTY
        if had_spare and not c.spare.full:
            c.main, c.spare = c.spare, c.main
            return TO_SPARE
        if had_spare and len(barn.full) >= self.max_full:
            self.stats[cpu]["barn_put_fail"] += 1
            sheaf, c.spare = c.spare, None
            self.flush_unused(cpu, sheaf)
            self.install_empty(cpu, sheaf)
            return TO_FLUSHED_SPARE
        if had_spare and barn.empty:
            barn.full.insert(0, c.main)
            c.main = barn.empty.pop(0)
            self.stats[cpu]["barn_put"] += 1
            return TO_BARN_EMPTY
        before = c.main
        sheaf = self.alloc_empty_sheaf(cpu, NOWARN)
        if sheaf is None:
            self.stats[cpu]["barn_put_fail"] += had_spare
            self.flush_main(cpu)
            return TO_SAME_MAIN
        self.install_empty(cpu, sheaf)
        return TO_SAME_MAIN if c.main is before else TO_NEW

    def install_empty(self, cpu: int, sheaf: Sheaf) -> None:
        """Put an empty sheaf to use; the sheaf's own memory may have come out of the main one meanwhile."""
        c = self.cpus[cpu]
        barn = self.barn_of(cpu)
        if c.spare is None:
            c.spare, c.main = c.main, sheaf
        elif not c.main.full:
            barn.empty.insert(0, sheaf)
        elif not c.spare.full:
            c.main, c.spare = c.spare, c.main
            barn.empty.insert(0, sheaf)
        else:
            barn.full.insert(0, c.main)
            self.stats[cpu]["barn_put"] += 1
            c.main = sheaf

    # ------------------------------------------------------------------------------------- the common calls

    def alloc(self, cpu: int, gfp: int, node: int = -1, recurse: bool = True) -> Object | None:
        """[slab_alloc_node, alloc_from_pcs]"""
        thing, path = self.alloc_from_pcs(cpu, gfp, node, recurse)
        if thing is None:
            thing = self.slab_alloc(cpu, gfp, node)
            if thing is not None:
                path = FROM_NEW_SLAB if thing.slab.born == self.kernel.now else FROM_SLAB
        self.path = path
        return thing

    def alloc_from_pcs(self, cpu: int, gfp: int, node: int, recurse: bool) -> tuple[Object | None, int]:
        c = self.cpus[cpu]
        if node >= 0 and node != self.kernel.node_of_cpu(cpu):
            self.stats[cpu]["alloc_node_mismatch"] += 1
            return None, 0
        path = FROM_MAIN
        if not (c.main and c.main.objects):
            path = self.replace_empty_main(cpu, gfp, recurse)
            if not path:
                return None, 0
        if node >= 0 and c.main.objects[-1].slab.node != node:
            self.stats[cpu]["alloc_node_mismatch"] += 1
            return None, 0
        self.stats[cpu]["alloc_fastpath"] += 1
        return c.main.objects.pop(), path

    def goes_to_sheaf(self, cpu: int, slab: Slab) -> bool:
        """[can_free_to_pcs]"""
        return slab.node == self.kernel.node_of_cpu(cpu) and not slab.block.pfmemalloc

    def free(self, cpu: int, thing: Object) -> None:
        """[slab_free, free_to_pcs]"""
        c = self.cpus[cpu]
        if self.capacity and self.goes_to_sheaf(cpu, thing.slab):
            path = self.replace_full_main(cpu) if c.main.full else TO_MAIN
            c.main.objects.append(thing)
            self.stats[cpu]["free_fastpath"] += 1
        else:
            path = self.slab_free(cpu, thing.slab, [thing.index])
            self.stats[cpu]["free_slowpath"] += 1
        self.path = path
