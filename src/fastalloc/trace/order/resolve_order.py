"""The order in which the traced kernel's operations happened, as far as addresses tell; see ``order_search``.

Caches do not touch each other, so each is resolved by itself: with the state of its slabs before the trace, the rules
must give every object out of the slab that its address says. What is found holds for what-ifs too.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.alloc.state import MEMCTL, SLUB_CTL, SLUB_SLAB
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.release_memory import give_back
from fastalloc.trace.lanes import lane as ln
from fastalloc.trace.lanes import slub_lane
from fastalloc.trace.lanes.start import Start
from fastalloc.trace.order import model as om
from fastalloc.trace.order import window as order_window
from fastalloc.trace.order.merge import CacheOrder, Merge
from fastalloc.trace.order.model import FOUND, MOVE, WHERE
from fastalloc.trace.order.order_search import search_order
from fastalloc.trace.order.window import Operations, Window

SPARE = 64  # slabs that the rules may have more than the traced kernel had, at first
EVERY = 256  # positions between two saved models
SAVED = 12
PATIENCE = 20  # with more allocations of a cache that nothing explains, its order is left as it was recorded
assert order_window.WINDOW > (SAVED + 2) * EVERY + om.LOOK


@dataclass(frozen=True)
class Resolved:
    """``trace`` with its operations in the order found; ``steps``: what was done, with counts. ``caches``: a row each
    that the addresses contradict: cache, allocations, moved, new_slabs, reserve (slabs from below all watermarks),
    unexplained, resolved (else left as recorded)."""

    trace: co.CompactTrace
    steps: dict[str, int]
    caches: pl.DataFrame


class Search:
    """Resolves the caches of one trace, each from any start."""

    def __init__(self, trace: co.CompactTrace, config: ln.Config, nodes: int, shortages: np.ndarray) -> None:
        self.trace, self.config, self.shortages = trace, config, shortages
        self.operations = Operations(trace, config, nodes)

    def resolve(self, c: int, start: Start) -> tuple[CacheOrder, int, np.ndarray, np.ndarray]:
        """The order of cache ``c``, how many allocations it has, what was ``found``, and its kinds that may have slabs
        from below all watermarks."""
        spare = SPARE
        while (result := self._resolve(c, start, spare)) is None:
            spare *= 2
        return result

    def _resolve(self, c: int, start: Start, spare: int) -> tuple[CacheOrder, int, np.ndarray, np.ndarray] | None:
        """The same with room for ``spare`` slabs more than the traced kernel had; None where the rules need more."""
        cache = self.config.caches[c]
        one = ln.Config(cache.name, [cache], {}, self.config.exact, {})
        run = slub_lane.SlubRun(self.trace, one, start, ln.NO_SAMPLES)
        laid = start.laid(cache, one)
        window = Window(self.operations, c, laid, run.lane.handle)
        room = int(run.slub.ctl[SLUB_CTL.slab_top]) + window.most + spare
        slub = _sized(run.slub, room, cache.objects)
        nothing = np.full((room, 2), -1, np.int64)
        model = om.Model(slub, np.zeros(window.objects, np.int64), nothing[:, 0].copy(), nothing)
        known = np.flatnonzero(laid.first_page >= 0)
        model.block[known] = np.searchsorted(window.blocks, laid.first_page[known] >> cache.order)
        ring, trial = _stacked(model, SAVED), om.Model(*(_empty(part) for part in model))
        ring.slub.kcpu[:], trial.slub.kcpu[:] = slub.kcpu, slub.kcpu
        at = np.zeros(SAVED, np.int64)
        found = np.zeros(FOUND.width, np.int64)
        move = np.zeros((2, MOVE.width), np.int64)
        where = np.zeros(WHERE.width, np.int64)
        where[WHERE.slot] = -1
        mem = ln.unlimited_mem(start.nodes, slub.kcpu.shape[1])
        mem.ctl[MEMCTL.slab_match] = cache.era != "2.6.25"
        order, allocs = CacheOrder(self.shortages), 0
        while not window.last:
            window.fill(model, ring)
            scratch = np.zeros(2 * len(window.order), np.int32)
            search = om.Search(
                mem,
                model,
                ring,
                at,
                trial,
                window.events,
                window.order,
                scratch,
                move[0],
                move[1],
                found,
                where,
                window.entitled,
                window.cpus,
            )
            search_order(search, EVERY, PATIENCE, window.last)
            if where[WHERE.overflow]:
                return None
            # What is before the first saved model, and one more, since an allocation looks at the operation before it.
            done = len(window.order) if window.last else max(int(at[at >= 0].min()) - 1, 0) // EVERY * EVERY
            op, row, reserve, following = window.give(done)
            order.add(op, row, reserve, following)
            allocs += int((op == om.ALLOC).sum())
            at[at >= 0] -= done
            where[WHERE.position] -= done
        return order, allocs, found, np.flatnonzero(window.entitled == om.IS_ENTITLED)


def _sized(slub: er.SlubEras, slabs: int, objects: int) -> er.SlubEras:
    """A copy of ``slub`` of one cache with room for ``slabs`` slabs of ``objects``."""
    top, link_top = int(slub.ctl[SLUB_CTL.slab_top]), int(slub.ctl[SLUB_CTL.link_top])
    slab = np.zeros((slabs, SLUB_SLAB.width), np.int32)
    slab[:top] = slub.slab[:top]
    link = np.zeros(max(slabs * objects, link_top), np.int16)
    link[:link_top] = slub.link[:link_top]
    return slub._replace(slab=slab, link=link)


def _empty(part: Any) -> Any:
    return type(part)(*(np.zeros_like(array) for array in part)) if isinstance(part, tuple) else np.zeros_like(part)


def _stacked(model: om.Model, count: int) -> om.Model:
    """Room for ``count`` models."""
    slub = er.SlubEras(*(np.zeros((count, *array.shape), array.dtype) for array in model.slub))
    return om.Model(slub, *(np.zeros((count, *array.shape), array.dtype) for array in model[1:]))


def resolve_order(
    trace: co.CompactTrace, config: ln.Config, start: Start, left: frozenset[str] = frozenset()
) -> Resolved:
    """``trace`` with the operations moved that the addresses say were elsewhere; caches ``left`` as recorded."""
    give_back()
    merge = Merge(trace)
    search = Search(trace, config, start.nodes, merge.shortages)
    rows: list[tuple[Any, ...]] = []
    entitled: list[int] = []
    for c in np.flatnonzero(search.operations.named).tolist():
        if config.caches[c].name in left:
            continue
        order, allocs, found, may = search.resolve(c, start)
        if not found.any():
            continue
        known = bool(found[FOUND.wrong] <= PATIENCE)
        counts = (int(found[i]) for i in (FOUND.moved, FOUND.new_slab, FOUND.reserve, FOUND.wrong))
        rows.append((config.caches[c].name, allocs, *counts, known))
        if known:
            merge.add(order)
            entitled += may.tolist()
    del search
    give_back()
    columns = {
        "moved": pl.Int64,
        "new_slabs": pl.Int64,
        "reserve": pl.Int64,
        "unexplained": pl.Int64,
        "resolved": pl.Boolean,
    }
    report = pl.DataFrame(rows, schema={"cache": pl.String, "allocations": pl.Int64, **columns}, orient="row")
    done = report.filter("resolved")
    steps = {
        "operations put where addresses say they were": int(done["moved"].sum()),
        "new slabs taken as the kernel took them": int(done["new_slabs"].sum()),
        "slabs from below all watermarks, by who passed them over": int(done["reserve"].sum()),
        "allocations from a slab that no order explains": int(report["unexplained"].sum()),
    }
    found_order = merge.trace()
    if entitled:
        found_order = dataclasses.replace(found_order, meta={**trace.meta, "entitled": entitled})
    return Resolved(found_order, {step: count for step, count in steps.items() if count}, report)


__all__ = ["PATIENCE", "Resolved", "Search", "resolve_order"]
