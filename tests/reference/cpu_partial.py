"""SLUB with per-CPU partial lists, 3.2 to 6.17 [mm/slub.c; rules as of 6.12], written to be read.

A CPU works on a slab of its own, whose free objects it takes over into a private list, and keeps a list of partial
slabs. What :mod:`tests.reference.node_lists` says of lists and of ``kernel`` holds here.
"""

from dataclasses import dataclass, field

from tests.reference.node_lists import NodeListCache, Object, Slab

NOWAIT, THISNODE = 0, 0x40000

# How an operation was served, in the numbers of the golden cases.
FAST, FROM_OWN, FROM_PARTIAL, FROM_NEW_SLAB, FROM_CPU_PARTIAL = 1, 2, 3, 4, 7
TO_OWN, TO_FROZEN, TURNED_PARTIAL, TO_OTHER, LEFT_LIST, EMPTIED, TO_CPU_PARTIAL = 1, 2, 3, 4, 5, 6, 7


@dataclass
class Cpu:
    slab: Slab | None = None
    free: list[int] = field(default_factory=list)  # private list of its slab
    partial: list[Slab] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)  # what each of them counted when it was put there


class CpuPartialCache(NodeListCache):
    """A kmem_cache. ``limit``: what a CPU's partial list may hold: slabs, or ``by_objects`` (before 5.16) free
    objects; 0: there is no such list (debugging)."""

    def __init__(self, *args, limit=2, by_objects=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.limit, self.by_objects = limit, by_objects
        self.cpus = [Cpu() for _ in range(self.kernel.nr_cpus)]
        self.path = 0  # of the last operation

    # -------------------------------------------------------------------------------------- partial lists

    def is_surplus(self, slab: Slab) -> bool:
        return not slab.inuse and len(self.partials[slab.node]) >= self.min_partial

    def put_cpu_partial(self, cpu: int, slab: Slab, drain: bool) -> None:
        """At the head; ``drain``: a full list goes to the nodes first."""
        c = self.cpus[cpu]
        spilled: list[Slab] = []
        full = sum(c.counted) > self.limit if self.by_objects else sum(c.counted) >= self.limit
        if drain and c.partial and full:
            spilled, c.partial, c.counted = c.partial, [], []
            self.stats[cpu]["cpu_partial_drain"] += 1
        c.partial.insert(0, slab)
        c.counted.insert(0, len(slab.freelist) if self.by_objects else 1)
        self.put_partials(cpu, spilled)

    def put_partials(self, cpu: int, slabs: list[Slab]) -> None:
        """To the tails of the nodes' lists; surplus ones go, last one first [__put_partials]."""
        surplus = []
        for slab in slabs:
            if self.is_surplus(slab):
                surplus.append(slab)
            else:
                self.add_partial(slab, tail=True)
                self.stats[cpu]["free_add_partial"] += 1
        for slab in reversed(surplus):
            self.stats[cpu]["deactivate_empty"] += 1
            self.stats[cpu]["free_slab"] += 1
            self.discard_slab(cpu, slab)

    def get_partial_node(self, cpu: int, gfp: int, node: int) -> Slab | None:
        """The first slab that may be used; more follow to the CPU's list until that is half full."""
        first, taken = None, 0
        for slab in list(self.partials[node]):
            if not self.may_use(slab, gfp):
                continue
            self.remove_partial(slab)
            if self.by_objects:
                taken += len(slab.freelist)
            if first is None:
                first = slab
                self.stats[cpu]["alloc_from_partial"] += 1
            else:
                self.put_cpu_partial(cpu, slab, drain=False)
                self.stats[cpu]["cpu_partial_node"] += 1
                taken += not self.by_objects
            if self.limit == 0 or taken > self.limit // 2:
                break
        return first

    def get_partial(self, cpu: int, gfp: int, node: int) -> Slab | None:
        home = self.kernel.node_of_cpu(cpu)
        slab = self.get_partial_node(cpu, gfp, home if node < 0 else node)
        if slab is None and not (node >= 0 and gfp & THISNODE):
            for other in self.other_nodes(cpu):
                slab = self.get_partial_node(cpu, gfp, other)
                if slab is not None:
                    break
        return slab

    def deactivate(self, cpu: int) -> None:
        """A CPU lets go of its slab: its private objects go in front of those freed remotely [deactivate_slab]."""
        c, stats = self.cpus[cpu], self.stats[cpu]
        slab, c.slab = c.slab, None
        remote = bool(slab.freelist)
        stats["deactivate_remote_frees"] += remote
        slab.freelist[:0] = c.free
        c.free = []
        if self.is_surplus(slab):
            stats["deactivate_empty"] += 1
            stats["free_slab"] += 1
            self.discard_slab(cpu, slab)
        elif slab.freelist:
            self.add_partial(slab, tail=remote)
            stats["deactivate_to_tail" if remote else "deactivate_to_head"] += 1
        else:
            stats["deactivate_full"] += 1

    # -------------------------------------------------------------------------------------------- objects

    def adopt(self, cpu: int, slab: Slab, path: int) -> Object:
        """Make it the CPU's slab: its first object is handed out, the rest are private [load_freelist]."""
        c = self.cpus[cpu]
        c.slab, c.free, slab.freelist = slab, slab.freelist[1:], slab.freelist[:1]
        self.path = path
        return Object(slab, slab.freelist.pop())

    def alloc(self, cpu: int, gfp: int, node: int = -1) -> Object | None:
        """[slab_alloc_node]"""
        c = self.cpus[cpu]
        if c.free and (node < 0 or c.slab.node == node):
            self.stats[cpu]["alloc_fastpath"] += 1
            self.path = FAST
            return Object(c.slab, c.free.pop(0))
        return self.slow_alloc(cpu, gfp, node)

    def slow_alloc(self, cpu: int, gfp: int, node: int) -> Object | None:
        """[___slab_alloc]"""
        c, stats = self.cpus[cpu], self.stats[cpu]
        stats["alloc_slowpath"] += 1
        if c.slab is not None:
            right_node = node < 0 or c.slab.node == node
            stats["alloc_node_mismatch"] += not right_node
            if not right_node or not self.may_use(c.slab, gfp):
                self.deactivate(cpu)
            elif c.slab.freelist:
                stats["alloc_refill"] += 1
                return self.adopt(cpu, c.slab, FROM_OWN)
            else:
                c.slab = None  # full: on no list from here on
                stats["deactivate_bypass"] += 1
        while c.partial:
            slab = c.partial.pop(0)
            c.counted.pop(0)
            if (node < 0 or slab.node == node) and self.may_use(slab, gfp):
                stats["cpu_partial_alloc"] += 1
                return self.adopt(cpu, slab, FROM_CPU_PARTIAL)
            self.put_partials(cpu, [slab])
        if node >= 0 and not gfp & THISNODE:
            thing = self.alloc_from_nodes(cpu, NOWAIT | THISNODE, node)
            if thing is not None:
                return thing
        return self.alloc_from_nodes(cpu, gfp, node)

    def alloc_from_nodes(self, cpu: int, gfp: int, node: int) -> Object | None:
        slab, path = self.get_partial(cpu, gfp, node), FROM_PARTIAL
        if slab is None:
            slab, path = self.new_slab(cpu, gfp, node), FROM_NEW_SLAB
            if slab is None:
                self.path = 0
                return None
            self.stats[cpu]["alloc_slab"] += 1
        return self.adopt(cpu, slab, path)

    def free(self, cpu: int, thing: Object) -> None:
        """[slab_free]"""
        self.free_chain(cpu, thing.slab, [thing.index])

    def free_chain(self, cpu: int, slab: Slab, indices: list[int]) -> None:
        """Objects of one slab at once [do_slab_free]."""
        c = self.cpus[cpu]
        if c.slab is slab:
            self.stats[cpu]["free_fastpath"] += len(indices)
            c.free[:0] = indices
            self.path = TO_OWN
        else:
            self.path = self.slab_free(cpu, slab, indices)

    def slab_free(self, cpu: int, slab: Slab, indices: list[int]) -> int:
        """A chain into a slab that is not the CPU's; the path taken [__slab_free]."""
        stats = self.stats[cpu]
        stats["free_slowpath"] += 1
        was_full = not slab.freelist
        slab.freelist[:0] = indices
        if any(c.slab is slab for c in self.cpus):
            stats["free_frozen"] += 1
            return TO_FROZEN
        if was_full and self.limit:
            self.put_cpu_partial(cpu, slab, drain=True)
            stats["cpu_partial_free"] += 1
            return TO_CPU_PARTIAL
        if self.is_surplus(slab) and (was_full or slab.listed):
            if slab.listed:
                self.remove_partial(slab)
                stats["free_remove_partial"] += 1
            stats["free_slab"] += 1
            self.discard_slab(cpu, slab)
            return EMPTIED if was_full else LEFT_LIST
        if was_full:
            self.add_partial(slab, tail=True)
            stats["free_add_partial"] += 1
            return TURNED_PARTIAL
        return TO_OTHER

    # ---------------------------------------------------------------------------------------- many at once

    def alloc_bulk(self, cpu: int, gfp: int, count: int) -> list[Object] | None:
        """All or none [kmem_cache_alloc_bulk, 4.3 on]."""
        got = []
        while len(got) < count:
            thing = self.alloc(cpu, gfp)
            if thing is None:
                for slab, indices in self.detached_freelists(got):
                    self.free_chain(cpu, slab, indices)
                return None
            got.append(thing)
        return got

    def free_many(self, cpu: int, things: list[Object]) -> None:
        """The hooks rebuild each chain, which turns it round [kmem_cache_free_bulk, slab_free_freelist_hook; 4.17]."""
        for slab, indices in self.detached_freelists(things):
            self.free_chain(cpu, slab, indices[::-1])

    # ------------------------------------------------------------------------------------- the whole cache

    def flush_cpu(self, cpu: int) -> None:
        """[flush_cpu_slab]"""
        c = self.cpus[cpu]
        if c.slab is not None:
            self.deactivate(cpu)
            self.stats[cpu]["cpuslab_flush"] += 1
        slabs, c.partial, c.counted = c.partial, [], []
        self.put_partials(cpu, slabs)

    def flush_all(self) -> None:
        """The workers of all CPUs (5.15 on); their order is open, here it is ascending."""
        for cpu in range(len(self.cpus)):
            self.flush_cpu(cpu)

    def shrink(self, cpu: int) -> bool:
        """Whether any slab is left [__kmem_cache_shrink]."""
        self.flush_all()
        return self.shrink_partials(cpu)
