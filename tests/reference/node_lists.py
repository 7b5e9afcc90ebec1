"""Slabs and node lists of Linux 7.2 and 7.3 [mm/slub.c], written to be read: what lies below the percpu sheaves.

One thread, as many CPUs and nodes as asked for. A free list is a list whose first item is handed out first; the order
of every list is its order in the kernel. ``kernel`` is what a cache lives in:

    task                               who runs: page_alloc.Task
    take_pages(cpu, gfp, order, node)  a block (``node``, ``pfmemalloc``) or None
    give_pages(block)
    call_rcu(cpu, function), node_of_cpu(cpu), constructed(cache, objects)
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.reference.page_alloc import NOFAIL, NOMEMALLOC, NORETRY, NOWARN, WAIT

THISNODE = 0x40000
PAGE_SIZE = 4096
SHRINK_PROMOTE_MAX = 32
LOOKAHEAD = 3  # foreign objects after which a detached freelist ends

TO_SLAB, SLAB_WENT = 7, 9  # paths of the golden cases


@dataclass(eq=False)
class Slab:
    """``inuse`` counts what is not on the slab's free list: objects in sheaves are in use."""

    cache: "NodeListCache"
    block: Any
    objects: int
    freelist: list[int]
    born: int
    listed: bool = False  # on its node's partial list

    @property
    def node(self) -> int:
        return self.block.node

    @property
    def inuse(self) -> int:
        return self.objects - len(self.freelist)


class Object(NamedTuple):
    slab: Slab
    index: int


class NodeListCache:
    """A kmem_cache as far as its slabs go."""

    defrag = True  # what the dice say whether other nodes' lists may be looked at

    def __init__(self, kernel, slot, order, min_order=0, min_partial=5, rcu_slabs=False):
        self.kernel, self.slot, self.order, self.min_order = kernel, slot, order, min_order
        self.min_partial, self.rcu_slabs = min_partial, rcu_slabs
        self.stats = [Counter() for _ in range(kernel.nr_cpus)]  # CONFIG_SLUB_STATS by their sysfs names
        self.partials: list[list[Slab]] = [[] for _ in range(kernel.nr_nodes)]
        self.slabs: list[Slab] = []  # every one, for the tables: the kernel has no such list

    # ------------------------------------------------------------------------------------------------ slabs

    def new_slab(self, cpu: int, gfp: int, node: int) -> Slab | None:
        """A try that neither reclaims nor touches the reserves if a smaller one may follow; then the smallest order
        as asked, also where that is the same one [allocate_slab]."""
        first = (gfp | NOWARN | NORETRY) & ~NOFAIL
        if gfp & WAIT and self.order > self.min_order:
            first = (first | NOMEMALLOC) & ~WAIT
        order = self.order
        block = self.kernel.take_pages(cpu, first, order, node)
        if block is None:
            order = self.min_order
            block = self.kernel.take_pages(cpu, gfp, order, node)
            if block is None:
                return None
            self.stats[cpu]["order_fallback"] += 1
        objects = (PAGE_SIZE << order) // self.slot
        slab = Slab(self, block, objects, list(range(objects)), self.kernel.now)
        self.slabs.append(slab)
        self.kernel.constructed(self, objects)
        return slab

    def discard_slab(self, cpu: int, slab: Slab) -> None:
        self.slabs.remove(slab)
        if self.rcu_slabs:
            self.kernel.call_rcu(cpu, lambda _cpu: self.kernel.give_pages(slab.block))
        else:
            self.kernel.give_pages(slab.block)

    def add_partial(self, slab: Slab, tail: bool) -> None:
        partial = self.partials[slab.node]
        partial.insert(len(partial) if tail else 0, slab)
        slab.listed = True

    def remove_partial(self, slab: Slab) -> None:
        self.partials[slab.node].remove(slab)
        slab.listed = False

    def may_use(self, slab: Slab, gfp: int) -> bool:
        """A slab from below all watermarks is for those who may go there [pfmemalloc_match]."""
        return not slab.block.pfmemalloc or (self.kernel.task.ignores_watermarks and not gfp & NOMEMALLOC)

    def other_nodes(self, cpu: int) -> list[int]:
        """The nodes whose lists may be searched after the local one, in the order of the zonelist."""
        if len(self.partials) == 1 or not self.defrag:
            return []
        home = self.kernel.node_of_cpu(cpu)
        nodes = sorted(range(len(self.partials)), key=lambda n: (n - home) % len(self.partials))
        return [n for n in nodes if len(self.partials[n]) > self.min_partial]

    # ------------------------------------------------------------------------- objects straight from slabs

    def refill_objects(self, cpu: int, gfp: int, wanted: int) -> list[Object]:
        """Up to ``wanted`` objects: the local partial list, other nodes', new slabs [refill_objects]."""
        home = self.kernel.node_of_cpu(cpu)
        got = self.refill_from_node(cpu, gfp, home, wanted)
        if len(got) < wanted:
            for node in self.other_nodes(cpu):
                got += self.refill_from_node(cpu, gfp, node, wanted - len(got))
                if len(got) >= wanted:
                    break
        while len(got) < wanted:
            slab = self.new_slab(cpu, gfp, home)
            if slab is None:
                break
            self.stats[cpu]["alloc_slab"] += 1
            got += self.take_from_new_slab(slab, wanted - len(got))
        return got

    def take_from_new_slab(self, slab: Slab, wanted: int) -> list[Object]:
        """The first objects; a slab with some left goes to the head of the list [alloc_from_new_slab]."""
        taken = [Object(slab, index) for index in slab.freelist[:wanted]]
        del slab.freelist[:wanted]
        if slab.freelist:
            self.add_partial(slab, tail=False)
        return taken

    def refill_from_node(self, cpu: int, gfp: int, node: int, wanted: int) -> list[Object]:
        """Whole free lists from the head of a partial list on; the last slab's surplus goes back with it to the tail
        [get_partial_node_bulk, __refill_objects_node, __slab_try_return_freelist]."""
        taken: list[Slab] = []
        free = 0
        for slab in list(self.partials[node]):
            if free >= wanted:
                break
            if self.may_use(slab, gfp):
                self.remove_partial(slab)
                taken.append(slab)
                free += len(slab.freelist)
        got: list[Object] = []
        for slab in taken:
            here, slab.freelist = slab.freelist[: wanted - len(got)], slab.freelist[wanted - len(got) :]
            got += [Object(slab, index) for index in here]
            if slab.freelist:
                self.add_partial(slab, tail=True)
        return got

    def slab_alloc(self, cpu: int, gfp: int, node: int) -> Object | None:
        """One object without a sheaf [___slab_alloc]. A node asked for, but not insisted on, is tried alone first."""
        self.stats[cpu]["alloc_slowpath"] += 1
        if node >= 0 and not gfp & THISNODE:
            thing = self.slab_alloc_once(cpu, gfp & NOMEMALLOC | NOWARN | THISNODE, node)
            if thing is not None:
                return thing
        return self.slab_alloc_once(cpu, gfp, node)

    def slab_alloc_once(self, cpu: int, gfp: int, node: int) -> Object | None:
        home = self.kernel.node_of_cpu(cpu)
        thing = self.get_from_partial_node(home if node < 0 else node, gfp)
        if thing is None and not (node >= 0 and gfp & THISNODE):
            for other in self.other_nodes(cpu):
                thing = self.get_from_partial_node(other, gfp)
                if thing is not None:
                    break
        if thing is not None:
            return thing
        slab = self.new_slab(cpu, gfp, node)
        if slab is None:
            return None
        self.stats[cpu]["alloc_slab"] += 1
        return self.take_from_new_slab(slab, 1)[0]

    def get_from_partial_node(self, node: int, gfp: int) -> Object | None:
        """One object of the first slab that may be used, which stays where it is while it has more."""
        for slab in self.partials[node]:
            if self.may_use(slab, gfp):
                index = slab.freelist.pop(0)
                if not slab.freelist:
                    self.remove_partial(slab)
                return Object(slab, index)
        return None

    def slab_free(self, cpu: int, slab: Slab, indices: list[int]) -> int:
        """A chain of objects in front of their slab's list; the path taken [__slab_free]."""
        stats = self.stats[cpu]
        was_full = not slab.freelist
        slab.freelist[:0] = indices
        if slab.inuse and not was_full:
            return TO_SLAB
        if not was_full and not slab.listed:
            return TO_SLAB
        if not slab.inuse and len(self.partials[slab.node]) >= self.min_partial:
            if not was_full:
                self.remove_partial(slab)
                stats["free_remove_partial"] += 1
            stats["free_slab"] += 1
            self.discard_slab(cpu, slab)
            return SLAB_WENT
        if was_full:
            self.add_partial(slab, tail=True)
            stats["free_add_partial"] += 1
        return TO_SLAB

    @staticmethod
    def detached_freelists(things: list[Object]) -> list[tuple[Slab, list[int]]]:
        """``things`` from the end, as chains of one slab each [build_detached_freelist]."""
        left, chains = list(things), []
        while left:
            size = len(left) - 1
            slab, chain = left[size].slab, [left[size].index]
            same, misses = size, LOOKAHEAD
            while size:
                size -= 1
                if left[size].slab is slab:
                    chain.insert(0, left[size].index)
                    same -= 1
                    left[size], left[same] = left[same], left[size]
                    continue
                misses -= 1
                if not misses:
                    break
            del left[same:]
            chains.append((slab, chain))
        return chains

    def free_bulk(self, cpu: int, things: list[Object]) -> None:
        """Objects to their slabs [__kmem_cache_free_bulk]."""
        for slab, indices in self.detached_freelists(things):
            self.slab_free(cpu, slab, indices)

    # ------------------------------------------------------------------------------------------- whole lists

    def shrink_partials(self, cpu: int) -> bool:
        """Empty slabs go, the fullest of the rest come first; whether any slab is left [__kmem_cache_do_shrink]."""
        for node, partial in enumerate(self.partials):
            self.free_partial(cpu, node)
            near = [slab for slab in partial if len(slab.freelist) <= SHRINK_PROMOTE_MAX]
            far = [slab for slab in partial if len(slab.freelist) > SHRINK_PROMOTE_MAX]
            near.reverse()  # of equals the last one comes first
            near.sort(key=lambda slab: len(slab.freelist))
            partial[:] = near + far
        return bool(self.slabs)

    def free_partial(self, cpu: int, node: int) -> None:
        """The empty slabs of a list go, uncounted [free_partial]."""
        for slab in [slab for slab in self.partials[node] if not slab.inuse]:
            self.remove_partial(slab)
            self.discard_slab(cpu, slab)
