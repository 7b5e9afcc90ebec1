"""A start of a 7.x trace rebuilt from readings and addresses.

/sys/kernel/slab tells the slabs of each node's list and the objects free in them, as for older kernels (see
``rebuilt``); what lies in sheaves and barns counts as in use there, and no file tells it. But a CPU whose sheaf is
empty refills it with its first allocation, from the lists, and allocates slabs for what they do not give; the trace
shows
these (see ``refills``). So what a CPU hands out before its first refill that the trace shows is taken to have lain in
its sheaves: the main one, the spare one, and the barn's. A refill from lists that allocated nothing is not told from
that.
"""

import dataclasses

import numpy as np

from fastalloc.kernels.replay import sheaf_events as sv
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.infer import DIRECT_MAP
from fastalloc.trace.compact.refills import Layout, Refills
from fastalloc.trace.compact.sheaf_calls import tasks
from fastalloc.trace.lanes import lane as ln
from fastalloc.trace.lanes.readings import Readings
from fastalloc.trace.lanes.rebuilt import Evidence, draw, state_of
from fastalloc.trace.lanes.sheaf_start import Sheaf, SheafStart
from fastalloc.trace.lanes.start import Start
from fastalloc.trace.lanes.touched import OldSlab, PageEvents, old_slabs


class _Cache:
    """One cache's operations: ``rows`` ascending, ``refilled``: by CPU the first row that tells of a refill."""

    def __init__(self, trace: co.CompactTrace, rows: np.ndarray, refilled: dict[int, int]) -> None:
        e = trace.events
        self.rows, self.refilled = rows, refilled
        first = np.sort(np.unique(e["object"][rows], return_index=True)[1])
        self.first = rows[first][e["op"][rows[first]] % 2 == 0]  # allocations of what was not out
        self.cpu = e["cpu"][self.first]
        self.object = e["object"][self.first].astype(np.int64)

    def stock(self, there: np.ndarray) -> dict[int, np.ndarray]:
        """Objects in the sheaves of each CPU, the one that was taken first first. ``there``: which of ``first`` are of
        slabs that there were."""
        found = {}
        for cpu in np.unique(self.cpu[there]).tolist():
            own = there & (self.cpu == cpu) & (self.first < self.refilled.get(cpu, 1 << 62))
            if own.any():
                found[cpu] = self.object[own]
        return found


def _sheaves(cpu: int, node: int, objects: list[int], capacity: int) -> list[Sheaf]:
    """``objects`` as a CPU's main sheaf, full ones behind it: spare, then the barn's."""
    main = len(objects) % capacity or capacity
    parts = [objects[:main], *(objects[i : i + capacity] for i in range(main, len(objects), capacity))]
    where = [sv.MAIN, sv.SPARE] + [sv.BARN_FULL] * len(parts)
    return [Sheaf(kind, cpu, node, part[::-1]) for kind, part in zip(where, parts, strict=False)]


def rebuilt_starts(
    trace: co.CompactTrace, config: ln.Config, readings: Readings | None, old: dict[str, np.ndarray], starts: int
) -> list[Start]:
    """Up to ``starts`` different draws of what there was before ``trace``, by ``readings`` (None: nothing was read) and
    addresses."""
    first_pfn = readings.first_pfn if readings else (0,)
    shrunk = bool(readings and readings.shrunk)
    pages = PageEvents(trace)
    meet = bool(trace.meta.get("direct_map_votes"))
    top = max(pages.top, (int(trace.ptrs[-1]) - DIRECT_MAP >> 12) + 1 if len(trace.ptrs) else 0)
    spare = max(1 << 20, 1 << top.bit_length())
    of_kind = ln.cache_of_kind(trace, config)
    cache_of = np.where(trace.events["op"] <= co.OP_BULK_FREE, of_kind[trace.events["kind"]], -1)
    order = np.argsort(cache_of, kind="stable")
    edges = np.searchsorted(cache_of[order], np.arange(len(config.caches) + 1))
    refilled = _refilled(trace, config, of_kind)
    states: list[list[dict[str, object]]] = [[] for _ in range(starts)]
    sheaves: dict[str, list[Sheaf]] = {}
    cpus = int(trace.meta["cpus"])
    for c, cache in enumerate(config.caches):
        reading = readings.caches.get(cache.name) if readings else None
        own = order[edges[c] : edges[c + 1]]
        touched = old_slabs(trace, pages, own, cache.order, cache.objects) if meet and len(own) else []
        if reading is None and not touched:
            continue
        if cache.sheaf_capacity and touched:
            operations = _Cache(trace, own, refilled.get(c, {}))
            block = (trace.ptrs[operations.object] - np.uint64(DIRECT_MAP) >> np.uint64(12)).astype(np.int64)
            block = block >> cache.order << cache.order
            was_there = np.isin(block, [slab.pfn for slab in touched])
            stock = operations.stock(was_there)
            nodes = max(len(first_pfn), readings.nodes if readings else 1)
            for cpu, objects in stock.items():
                addresses = trace.ptrs[objects].tolist()
                node = min(cpu * nodes // max(cpus, 1), nodes - 1)
                sheaves.setdefault(cache.name, []).extend(_sheaves(cpu, node, addresses, cache.sheaf_capacity))
            held = np.concatenate([*stock.values(), np.zeros(0, np.int64)])
            touched = _less(touched, np.isin(operations.object, held), block)
        evidence = Evidence(cache, touched, reading, first_pfn, shrunk, cpus, spare)
        spare += 1 << 18
        for number, state in enumerate(states):
            state += draw(evidence, number)
    capacity = {cache.name: cache.sheaf_capacity for cache in config.caches}
    known = SheafStart(sheaves, capacity)
    different = [state for number, state in enumerate(states) if state not in states[:number]]
    return [Start(state_of(state), old, trace.ptrs, first_pfn, known) for state in different]


def _refilled(trace: co.CompactTrace, config: ln.Config, of_kind: np.ndarray) -> dict[int, dict[int, int]]:
    """By cache and CPU the first row that tells of a refill."""
    layouts = {cache.name: Layout(cache.sheaf_capacity, cache.order) for cache in config.caches}
    finder = Refills(trace, trace.events["op"], tasks(trace), layouts)
    index = {cache.name: c for c, cache in enumerate(config.caches)}
    found: dict[int, dict[int, int]] = {}
    for refill in finder.find():
        row = refill.begin
        own = found.setdefault(index[finder.names[refill.cache]], {})
        cpu = int(trace.events["cpu"][row])
        own[cpu] = min(own.get(cpu, row), row)
    return found


def _less(slabs: list[OldSlab], held: np.ndarray, block: np.ndarray) -> list[OldSlab]:
    """``slabs`` without the objects ``held`` in sheaves, which are in use as far as a slab goes."""
    blocks, counts = np.unique(block[held], return_counts=True)
    less = dict(zip(blocks.tolist(), counts.tolist(), strict=True))
    return [
        dataclasses.replace(slab, least=slab.least - less.get(slab.pfn, 0), most=slab.most - less.get(slab.pfn, 0))
        for slab in slabs
    ]


__all__ = ["rebuilt_starts"]
