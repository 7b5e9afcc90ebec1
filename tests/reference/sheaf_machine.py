"""Golden traces on the reference of 7.3: percpu sheaves and barns."""

from typing import Any

from fastalloc.linux.slab_flags import DESTROY_BY_RCU, get_order
from tests.reference.later_machine import LaterMachine
from tests.reference.machine import GFP_KERNEL, NOWHERE
from tests.reference.page_alloc import Task
from tests.reference.sheaf_calls import Cache

STATS = (
    "alloc_fastpath",
    "alloc_slowpath",
    "free_rcu_sheaf",
    "free_rcu_sheaf_fail",
    "free_fastpath",
    "free_slowpath",
    "free_add_partial",
    "free_remove_partial",
    "alloc_slab",
    "alloc_node_mismatch",
    "free_slab",
    "order_fallback",
    "cmpxchg_double_fail",
    "sheaf_flush",
    "sheaf_refill",
    "sheaf_alloc",
    "sheaf_free",
    "barn_get",
    "barn_get_fail",
    "barn_put",
    "barn_put_fail",
    "sheaf_prefill_fast",
    "sheaf_prefill_slow",
    "sheaf_prefill_oversize",
    "sheaf_return_fast",
    "sheaf_return_slow",
)
FIRST = 8  # objects of a sheaf that a short list shows


class SheafMachine(LaterMachine):
    era = "7.2"

    def open(self, index):
        layout = self.set.caches[index]
        cache = Cache(
            self,
            layout.size,
            layout.order,
            get_order(layout.size),
            layout.min_partial,
            rcu_slabs=bool(layout.flags & DESTROY_BY_RCU),
            kmalloc=layout.name.startswith("kmalloc-"),
        )
        cache.name, cache.ctor, cache.ordinals = layout.name, layout.ctor, {}
        self.caches[index] = cache
        return cache

    def add_sheaves(self, index, cpu):
        capacity = self.set.caches[index].sheaf_capacity
        return not capacity or self.caches[index].add_sheaves(cpu, GFP_KERNEL, capacity)

    def remove_sheaves(self, index, cpu):
        self.caches[index].remove_sheaves(cpu)

    def close(self, index, cpu):
        cache = self.caches[index]
        cache.hand_over_rcu_sheaves()
        self.run_callbacks()
        cache.flush_all()
        self.run_callbacks()
        cache.shrink_barns(cpu)
        for node in range(self.nr_nodes):
            cache.free_partial(cpu, node)
        self.run_callbacks()

    def shrink(self, index, cpu, task):
        return True, int(self.cache_of(index).shrink(cpu))

    def flush(self, index, cpu):
        for cache in self.newest_first() if index < 0 else [self.cache_of(index)]:
            cache.flush_cpu(cpu)

    # -- operations

    def call_rcu(self, cpu, function, sheaf=None):
        if sheaf is None:
            self.callbacks[cpu].append(function)
            return
        entry = (self, sheaf)

        def done(on):
            self.rcu_sheaves.remove(entry)
            function(on)

        self.rcu_sheaves.append(entry)
        self.callbacks[cpu].append(done)

    def play(self, row, op, cpu, cache, thing_id, gfp, context, arg):
        if op == "KFREE_RCU":
            thing = self.live.pop(thing_id)
            if thing is None:
                return (0, 0, *NOWHERE)
            place = self.place(thing)
            self.task, self.now = Task(memalloc=bool(context & 1), in_interrupt=bool(context & 2)), row
            owner = thing.slab.cache
            if not owner.kfree_rcu(cpu, thing):
                self.rcu_list[cpu].append(thing)
            return (1, owner.path, *place)
        if op == "SHEAF_ALLOC":
            sheaf = self.live[arg]
            thing = self.cache_of(cache).alloc_from_sheaf(sheaf) if sheaf else None
            self.live[thing_id] = thing
            return (0, 0, *NOWHERE) if thing is None else (1, 0, *self.place(thing))
        return super().play(row, op, cpu, cache, thing_id, gfp, context, arg)

    def play_sheaf(self, op, cpu, cache, thing_id, gfp, arg) -> tuple[int, int, int, int]:
        if op == "PREFILL":
            sheaf = self.cache_of(cache).prefill(cpu, gfp, arg) if self.exists(cache) else None
            self.live[thing_id] = sheaf
            return (int(sheaf is not None), 0, -1, len(sheaf.objects) if sheaf else -1)
        sheaf = self.live.pop(thing_id)
        if sheaf is None:
            return (0, 0, *NOWHERE)
        self.cache_of(cache).return_sheaf(cpu, sheaf, gfp)
        return (1, 0, *NOWHERE)

    # -- tables

    def listed(self, sheaf: Any) -> str | None:
        if sheaf is None or not sheaf.objects:
            return None
        top = sheaf.objects[::-1]
        if not self.case.lists_whole:
            top = top[:FIRST]
        return " ".join(f"{thing.slab.cache.ordinals.get(thing.slab, -1)}.{thing.index}" for thing in top)

    def allocator_rows(self):
        self.tables.setdefault("stats_sum", [])
        for cache in self.newest_first():
            totals = dict.fromkeys(STATS, 0)
            shown = False
            for cpu, c in enumerate(cache.cpus):
                counts = {stat: cache.stats[cpu][stat] for stat in STATS}
                if not any(counts.values()) and not (c.main and c.main.objects) and not c.spare and not c.rcu_free:
                    continue
                shown = True
                totals = {stat: totals[stat] + counts[stat] for stat in STATS}
                sizes = {
                    f"{name}_size": len(sheaf.objects) if sheaf else -1
                    for name, sheaf in (("main", c.main), ("spare", c.spare), ("rcu", c.rcu_free))
                }
                lists = {
                    "main_objects": self.listed(c.main),
                    "spare_objects": self.listed(c.spare),
                    "rcu_objects": self.listed(c.rcu_free),
                }
                self.add("cpu", cache=cache.name, cpu=cpu, **counts, **sizes, **lists)
            if shown:
                self.add("stats_sum", cache=cache.name, **totals)
            for node in range(self.nr_nodes):
                self.node_row(cache, node)

    def node_row(self, cache, node):
        def here(sheaves):
            return sum(thing.slab.node == node for sheaf in sheaves if sheaf for thing in sheaf.objects)

        slabs = [slab for slab in cache.slabs if slab.node == node]
        barn = cache.barns[node] if cache.barns else None
        if not slabs and not (barn and (barn.full or barn.empty)):
            return
        partial = cache.partials[node]
        in_cpus = here([sheaf for c in cache.cpus for sheaf in (c.main, c.spare)])
        in_barns = here([sheaf for each in cache.barns for sheaf in each.full + each.empty])
        waiting = [sheaf for _, sheaf in self.rcu_sheaves if sheaf.objects and sheaf.objects[0].slab.cache is cache]
        in_rcu = here([c.rcu_free for c in cache.cpus] + waiting)
        total = sum(slab.objects for slab in slabs)
        used = sum(slab.inuse for slab in slabs)
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
            in_cpu_sheaves=in_cpus,
            in_barn=in_barns,
            in_rcu=in_rcu,
            live_objects=used - in_cpus - in_barns - in_rcu,
            barn_full=len(barn.full) if barn else -1,
            barn_empty=len(barn.empty) if barn else -1,
            barn_sizes=" ".join(str(len(sheaf.objects)) for sheaf in barn.full) or None if barn else None,
            partial_list=" ".join(f"{cache.ordinals.get(s, -1)}:{s.inuse}" for s in partial[:100]) or None,
        )
