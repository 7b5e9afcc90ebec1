"""What Linux 7.2 and 7.3 do with whole caches, with many objects at once, with kfree_rcu and with prefilled sheaves
[mm/slub.c]."""

from tests.reference.node_lists import Object
from tests.reference.page_alloc import NOMEMALLOC, NOWARN
from tests.reference.percpu_sheaves import BARN_BYTES, Barn, Sheaf, SheafCache

INTO_RCU_SHEAF, FILLED_RCU_SHEAF, INTO_RCU_LIST = 10, 11, 12  # paths of the golden cases


class Cache(SheafCache):
    """A kmem_cache with all its calls."""

    # ------------------------------------------------------------------------------------- the whole cache

    def add_sheaves(self, cpu: int, gfp: int, capacity: int) -> bool:
        """A barn a node, a main sheaf a CPU; False when memory for one was refused [init_kmem_cache_nodes,
        init_percpu_sheaves, bootstrap_cache_sheaves]."""
        for node in range(self.kernel.nr_nodes):
            memory = self.kernel.kmalloc(cpu, BARN_BYTES, gfp, node=node)
            if memory is None:
                return False
            self.barns.append(Barn(memory))
        for c in self.cpus:
            c.main = self.alloc_empty_sheaf(cpu, gfp, capacity=capacity)
            if c.main is None:
                return False
        self.capacity = capacity
        return True

    def flush_cpu(self, cpu: int) -> None:
        """What the flush worker of a CPU does: only the main sheaf stays, empty [pcs_flush_all]."""
        c = self.cpus[cpu]
        spare, rcu = c.spare, c.rcu_free
        c.spare = c.rcu_free = None
        if spare:
            self.flush_unused(cpu, spare)
            self.free_empty_sheaf(cpu, spare)
        if rcu:
            self.kernel.call_rcu(cpu, lambda on: self.rcu_free_sheaf_nobarn(on, rcu), rcu)
        if c.main:
            self.flush_main(cpu)

    def flush_all(self) -> None:
        """The workers of all CPUs that have anything; their order is open, here it is ascending."""
        for cpu, c in enumerate(self.cpus):
            if c.spare or c.rcu_free or (c.main and c.main.objects):
                self.flush_cpu(cpu)

    def shrink_barns(self, cpu: int) -> None:
        for barn in self.barns:
            full, empty = barn.full, barn.empty
            barn.full, barn.empty = [], []
            for sheaf in full:
                self.flush_unused(cpu, sheaf)
                self.free_empty_sheaf(cpu, sheaf)
            for sheaf in empty:
                self.free_empty_sheaf(cpu, sheaf)

    def shrink(self, cpu: int) -> bool:
        """Whether any slab is left [__kmem_cache_shrink]."""
        self.flush_all()
        self.shrink_barns(cpu)
        return self.shrink_partials(cpu)

    def remove_sheaves(self, cpu: int) -> None:
        """Main sheaves of all CPUs, then the barns, of a cache that goes [pcs_destroy, free_kmem_cache_nodes]."""
        for c in self.cpus:
            if c.main:
                self.free_empty_sheaf(cpu, c.main)
                c.main = None
        self.capacity = 0
        for barn in self.barns:
            self.kernel.kfree(cpu, barn.memory)
        self.barns.clear()

    # ---------------------------------------------------------------------------------------- many at once

    def alloc_bulk(self, cpu: int, gfp: int, count: int) -> list[Object] | None:
        """All or none [kmem_cache_alloc_bulk]."""
        got = self.alloc_bulk_from_pcs(cpu, count)
        rest = count - len(got)
        if rest:
            more = self.refill_objects(cpu, gfp, rest)
            if len(more) < rest:
                self.free_bulk(cpu, more)
                self.free_bulk(cpu, got)
                return None
            self.stats[cpu]["alloc_slowpath"] += rest
            got += more
        return got

    def alloc_bulk_from_pcs(self, cpu: int, count: int) -> list[Object]:
        """Blocks from the top of main sheaves; no sheaf is refilled for them [alloc_from_pcs_bulk]."""
        c, stats = self.cpus[cpu], self.stats[cpu]
        got: list[Object] = []
        while len(got) < count and self.capacity:
            if not c.main.objects:
                if c.spare and c.spare.objects:
                    c.main, c.spare = c.spare, c.main
                elif self.barn_of(cpu).full:
                    barn = self.barn_of(cpu)
                    barn.empty.insert(0, c.main)
                    c.main = barn.full.pop(0)
                    stats["barn_get"] += 1
                else:
                    stats["barn_get_fail"] += 1
                    break
            batch = min(count - len(got), len(c.main.objects))
            got += c.main.objects[-batch:]
            del c.main.objects[-batch:]
            stats["alloc_fastpath"] += batch
        return got

    def free_many(self, cpu: int, things: list[Object]) -> None:
        """[kmem_cache_free_bulk, free_to_pcs_bulk, __free_to_pcs_batch]"""
        stats = self.stats[cpu]
        order, remote = list(things), 0
        for i, thing in enumerate(order):
            if not self.goes_to_sheaf(cpu, thing.slab):
                order[i], order[remote] = order[remote], order[i]
                remote += 1
        left = self.free_many_to_pcs(cpu, order[remote:])
        if left:
            self.free_bulk(cpu, left)
            stats["free_slowpath"] += len(left)
        if remote:
            self.free_bulk(cpu, order[:remote])
            stats["free_slowpath"] += remote

    def free_many_to_pcs(self, cpu: int, things: list[Object]) -> list[Object]:
        """What did not find room: nothing is flushed and no sheaf made for it."""
        c, stats = self.cpus[cpu], self.stats[cpu]
        while things and self.capacity:
            if c.main.full:
                barn = self.barn_of(cpu)
                if c.spare is None:
                    if not barn.empty:
                        break
                    c.spare, c.main = c.main, barn.empty.pop(0)
                elif not c.spare.full:
                    c.main, c.spare = c.spare, c.main
                elif len(barn.full) >= self.max_full or not barn.empty:
                    stats["barn_put_fail"] += 1
                    break
                else:
                    barn.full.insert(0, c.main)
                    c.main = barn.empty.pop(0)
                    stats["barn_put"] += 1
            batch = min(len(things), self.capacity - len(c.main.objects))
            c.main.objects += things[:batch]
            things = things[batch:]
            stats["free_fastpath"] += batch
        return things

    # ------------------------------------------------------------------------------------------------- RCU

    def kfree_rcu(self, cpu: int, thing: Object) -> bool:
        """Into the CPU's rcu sheaf; False: the caller's old way [kfree_rcu_sheaf, __kfree_rcu_sheaf]."""
        c = self.cpus[cpu]
        self.path = INTO_RCU_LIST
        if thing.slab.node != self.kernel.node_of_cpu(cpu):
            return False
        if c.rcu_free is None:
            c.rcu_free = self.new_rcu_sheaf(cpu) if self.capacity else None
            if c.rcu_free is None:
                self.stats[cpu]["free_rcu_sheaf_fail"] += 1
                self.path = INTO_RCU_LIST  # also where the sheaf's memory was asked of this same cache
                return False
        sheaf = c.rcu_free
        sheaf.objects.append(thing)
        self.path = INTO_RCU_SHEAF
        if sheaf.full:
            self.path = FILLED_RCU_SHEAF
            c.rcu_free = None
            node = self.kernel.node_of_cpu(cpu)
            self.kernel.call_rcu(cpu, lambda on: self.rcu_free_sheaf(on, sheaf, node), sheaf)
        self.stats[cpu]["free_rcu_sheaf"] += 1
        return True

    def new_rcu_sheaf(self, cpu: int) -> Sheaf | None:
        c = self.cpus[cpu]
        barn = self.barn_of(cpu)
        if c.spare and not c.spare.objects:
            sheaf, c.spare = c.spare, None
            return sheaf
        if barn.empty:
            return barn.empty.pop(0)
        return self.alloc_empty_sheaf(cpu, NOWARN)

    def rcu_free_sheaf(self, cpu: int, sheaf: Sheaf, node: int) -> None:
        """A grace period after the sheaf was full, on the CPU that runs the callback."""
        barn = self.barns[node]
        reserve = any(thing.slab.block.pfmemalloc for thing in sheaf.objects)
        if not reserve and len(barn.full) < self.max_full:
            barn.full.insert(0, sheaf)
            self.stats[cpu]["barn_put"] += 1
            return
        self.stats[cpu]["barn_put_fail"] += 1
        self.flush_unused(cpu, sheaf)
        if len(barn.empty) < self.max_empty:
            barn.empty.insert(0, sheaf)
        else:
            self.free_empty_sheaf(cpu, sheaf)

    def rcu_free_sheaf_nobarn(self, cpu: int, sheaf: Sheaf) -> None:
        self.flush_unused(cpu, sheaf)
        self.free_empty_sheaf(cpu, sheaf)

    def hand_over_rcu_sheaves(self) -> None:
        """[flush_rcu_sheaves_on_cache]"""
        for cpu, c in enumerate(self.cpus):
            sheaf, c.rcu_free = c.rcu_free, None
            if sheaf:
                self.kernel.call_rcu(cpu, lambda on, sheaf=sheaf: self.rcu_free_sheaf_nobarn(on, sheaf), sheaf)

    # --------------------------------------------------------------------------------------- prefilled sheaves

    def prefill(self, cpu: int, gfp: int, size: int) -> Sheaf | None:
        """A private sheaf with at least ``size`` objects [kmem_cache_prefill_sheaf]."""
        if size > self.capacity:
            return self.prefill_oversize(cpu, gfp, size)
        c, stats, barn = self.cpus[cpu], self.stats[cpu], self.barn_of(cpu)
        sheaf = None
        if c.spare:
            sheaf, c.spare = c.spare, None
            stats["sheaf_prefill_fast"] += 1
        else:
            stats["sheaf_prefill_slow"] += 1
            if barn.full:
                sheaf = barn.full.pop(0)
            elif barn.empty:
                sheaf = barn.empty.pop(0)
            stats["barn_get" if sheaf and sheaf.objects else "barn_get_fail"] += 1
        if sheaf is None:
            sheaf = self.alloc_empty_sheaf(cpu, gfp)
            if sheaf is None:
                return None
        sheaf.pfmemalloc = False
        if len(sheaf.objects) >= size or self.refill_sheaf(cpu, sheaf, gfp | NOMEMALLOC):
            return sheaf
        if self.kernel.task.ignores_watermarks and not gfp & NOMEMALLOC:
            sheaf.pfmemalloc = True
            if self.refill_sheaf(cpu, sheaf, gfp):
                return sheaf
        self.flush_unused(cpu, sheaf)
        self.free_empty_sheaf(cpu, sheaf)
        return None

    def prefill_oversize(self, cpu: int, gfp: int, size: int) -> Sheaf | None:
        sheaf = self.alloc_empty_sheaf(cpu, gfp, capacity=size)
        if sheaf is None:
            return None
        self.stats[cpu]["sheaf_prefill_oversize"] += 1
        things = self.refill_objects(cpu, gfp, size)
        if len(things) < size:
            self.free_bulk(cpu, things)
            self.free_empty_sheaf(cpu, sheaf)
            return None
        self.stats[cpu]["alloc_slowpath"] += size
        sheaf.objects = things
        return sheaf

    @staticmethod
    def alloc_from_sheaf(sheaf: Sheaf) -> Object | None:
        return sheaf.objects.pop() if sheaf.objects else None

    def return_sheaf(self, cpu: int, sheaf: Sheaf, gfp: int) -> None:
        """Back as the spare, refilled into the barn, or to the slabs [kmem_cache_return_sheaf]."""
        c, stats = self.cpus[cpu], self.stats[cpu]
        if sheaf.capacity != self.capacity or sheaf.pfmemalloc:
            self.flush_unused(cpu, sheaf)
            self.free_empty_sheaf(cpu, sheaf)
            return
        if c.spare is None:
            c.spare = sheaf
            stats["sheaf_return_fast"] += 1
            return
        stats["sheaf_return_slow"] += 1
        barn = self.barn_of(cpu)
        if len(barn.full) < self.max_full and self.refill_sheaf(cpu, sheaf, gfp | NOMEMALLOC | NOWARN):
            barn.full.insert(0, sheaf)
            stats["barn_put"] += 1
            return
        self.flush_unused(cpu, sheaf)
        self.free_empty_sheaf(cpu, sheaf)
