"""Golden traces of 6.12 on the reference of per-CPU partial lists."""

from fastalloc.linux.slab_flags import DESTROY_BY_RCU, get_order
from tests.reference.cpu_partial import CpuPartialCache
from tests.reference.later_machine import LaterMachine

STATS = (
    "alloc_fastpath",
    "alloc_slowpath",
    "free_fastpath",
    "free_slowpath",
    "free_frozen",
    "free_add_partial",
    "free_remove_partial",
    "alloc_from_partial",
    "alloc_slab",
    "alloc_refill",
    "alloc_node_mismatch",
    "free_slab",
    "cpuslab_flush",
    "deactivate_full",
    "deactivate_empty",
    "deactivate_to_head",
    "deactivate_to_tail",
    "deactivate_remote_frees",
    "deactivate_bypass",
    "order_fallback",
    "cmpxchg_double_cpu_fail",
    "cmpxchg_double_fail",
    "cpu_partial_alloc",
    "cpu_partial_free",
    "cpu_partial_node",
    "cpu_partial_drain",
)


class CpuPartialMachine(LaterMachine):
    era = "6.12"

    def open(self, index):
        layout = self.set.caches[index]
        cache = CpuPartialCache(
            self,
            layout.size,
            layout.order,
            get_order(layout.size),
            layout.min_partial,
            rcu_slabs=bool(layout.flags & DESTROY_BY_RCU),
            limit=layout.cpu_partial_slabs,
        )
        cache.name, cache.ctor, cache.ordinals = layout.name, layout.ctor, {}
        self.caches[index] = cache
        return cache

    def close(self, index, cpu):
        cache = self.caches[index]
        self.run_callbacks()
        cache.flush_all()
        self.run_callbacks()
        for node in range(self.nr_nodes):
            cache.free_partial(cpu, node)
        self.run_callbacks()

    def shrink(self, index, cpu, task):
        return True, int(self.cache_of(index).shrink(cpu))

    def flush(self, index, cpu):
        for cache in self.newest_first() if index < 0 else [self.cache_of(index)]:
            cache.flush_cpu(cpu)

    # -- tables

    def allocator_rows(self):
        self.tables.setdefault("stats_sum", [])
        for cache in self.newest_first():
            totals = dict.fromkeys(STATS, 0)
            shown = False
            for cpu, c in enumerate(cache.cpus):
                counts = {stat: cache.stats[cpu][stat] for stat in STATS}
                if not any(counts.values()) and c.slab is None and not c.partial:
                    continue
                shown = True
                totals = {stat: totals[stat] + counts[stat] for stat in STATS}
                listed = " ".join(f"{cache.ordinals.get(slab, -1)}:{slab.inuse}" for slab in c.partial)
                self.add(
                    "cpu",
                    cache=cache.name,
                    cpu=cpu,
                    **counts,
                    cpu_slab=cache.ordinals.get(c.slab, -1) if c.slab else -2,
                    cpu_free=len(c.free),
                    page_free=len(c.slab.freelist) if c.slab else 0,
                    cpu_partial_slabs=len(c.partial),
                    cpu_partial_list=listed or None,
                )
            if shown:
                self.add("stats_sum", cache=cache.name, **totals)
            for node in range(self.nr_nodes):
                self.node_row(cache, node)

    def node_row(self, cache, node):
        slabs = [slab for slab in cache.slabs if slab.node == node]
        if not slabs:
            return
        partial = cache.partials[node]
        private = sum(len(c.free) for c in cache.cpus if c.slab and c.slab.node == node)
        total = sum(slab.objects for slab in slabs)
        self.add(
            "node",
            cache=cache.name,
            node=node,
            nr_slabs=len(slabs),
            nr_partial=len(partial),
            partial_inuse=sum(slab.inuse for slab in partial),
            partial_empty=sum(not slab.inuse for slab in partial),
            total_objects=total,
            slabinfo_active=total - sum(len(slab.freelist) for slab in partial),
            live_objects=sum(slab.inuse for slab in slabs) - private,
            partial_list=" ".join(f"{cache.ordinals.get(s, -1)}:{s.inuse}" for s in partial[:100]) or None,
        )
