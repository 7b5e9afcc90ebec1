"""Of many possible starts of each cache those that the addresses contradict least.

Caches do not touch each other, so each has its own draws (see ``rebuilt``). A draw is as good as few operations must be
moved, new slabs taken as the kernel took them, and allocations left unexplained until the rules give out every object
from the slab that its address says (see ``resolve_order``).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.infer import DIRECT_MAP
from fastalloc.trace.lanes import lane as ln
from fastalloc.trace.lanes.readings import Readings
from fastalloc.trace.lanes.rebuilt import Evidence, draw, state_of
from fastalloc.trace.lanes.start import Start
from fastalloc.trace.lanes.touched import PageEvents, old_slabs
from fastalloc.trace.order.merge import Merge
from fastalloc.trace.order.model import FOUND
from fastalloc.trace.order.resolve_order import PATIENCE, Search

TRIES = 24
LEAST_TRIES = 3
MOST_OPERATIONS = 2_000_000  # of one cache, all its tries together
STARTS = 3  # that are as good, for the range
UNEXPLAINED = 10  # misfit of an allocation that nothing explains
_UNRESOLVED = 1000


@dataclass(frozen=True)
class Fitted:
    """``starts``: the best found, the first one first. ``caches``: a row each that the trace names: cache, operations,
    tries, misfit, explained."""

    starts: list[Start]
    caches: pl.DataFrame

    @property
    def unexplained(self) -> list[str]:
        """Caches that no start found explains."""
        return self.caches.filter(~pl.col("explained"))["cache"].to_list()


def fitted(
    trace: co.CompactTrace,
    config: ln.Config,
    readings: Readings | None,
    old: dict[str, np.ndarray],
    starts: int = STARTS,
) -> Fitted:
    """Up to ``starts`` starts of ``trace`` from ``readings`` (None: nothing was read) and its addresses."""
    first_pfn = readings.first_pfn if readings else (0,)
    nodes = max(len(first_pfn), readings.nodes if readings else 1)
    pages = PageEvents(trace)
    # Without page events that meet the addresses of objects no block is known to be old.
    meet = bool(trace.meta.get("direct_map_votes"))
    search = Search(trace, config, nodes, Merge(trace).shortages)
    top = max(pages.top, (int(trace.ptrs[-1]) - DIRECT_MAP >> 12) + 1 if len(trace.ptrs) else 0)
    spare = max(1 << 20, 1 << top.bit_length())
    states: list[list[dict[str, Any]]] = [[] for _ in range(starts)]
    rows = []
    for c, cache in enumerate(config.caches):
        reading = readings.caches.get(cache.name) if readings else None
        own, _ = search.operations.of(c)
        touched = old_slabs(trace, pages, own, cache.order, cache.objects) if meet and len(own) else []
        if reading is None and not touched:
            continue
        shrunk = bool(readings and readings.shrunk)
        evidence = Evidence(cache, touched, reading, first_pfn, shrunk, int(trace.meta["cpus"]), spare)
        spare += 1 << 18
        if not meet:
            best = [draw(evidence, number) for number in range(starts)]
            rows.append((cache.name, len(own), 0, 0, False))
        elif search.operations.named[c]:
            own_old = {cache.name: old[cache.name]} if cache.name in old else {}
            best, misfit, tries = _best(search, c, evidence, own_old, starts)
            rows.append((cache.name, len(own), tries, misfit, misfit < UNEXPLAINED))
        else:
            best = [draw(evidence, number) for number in range(starts)]
        for number, state in enumerate(states):
            state += best[min(number, len(best) - 1)]
    schema = {
        "cache": pl.String, "operations": pl.Int64, "tries": pl.Int64, "misfit": pl.Int64, "explained": pl.Boolean,
    }  # fmt: skip
    built = [Start(state_of(state), old, trace.ptrs, first_pfn) for state in states]
    return Fitted(built, pl.DataFrame(rows, schema=schema, orient="row"))


def _best(
    search: Search, c: int, evidence: Evidence, old: dict[str, np.ndarray], wanted: int
) -> tuple[list[list[dict[str, Any]]], int, int]:
    """The records of up to ``wanted`` draws of cache ``c`` with the least misfit, that misfit, and how many were tried.

    Ends when so many draws have none.
    """
    operations = len(search.operations.of(c)[0])
    tries = min(max(MOST_OPERATIONS // max(operations, 1), LEAST_TRIES), TRIES)
    if operations * LEAST_TRIES > MOST_OPERATIONS:
        wanted = 1
    best: list[list[dict[str, Any]]] = []
    least, number = -1, 0
    for number in range(tries):
        rows = draw(evidence, number)
        start = Start(state_of(rows), old, search.trace.ptrs, evidence.first_pfn)
        _, _, found, _ = search.resolve(c, start)
        misfit = int(found[FOUND.moved] + 3 * found[FOUND.new_slab] + UNEXPLAINED * found[FOUND.wrong])
        misfit += _UNRESOLVED * bool(found[FOUND.wrong] > PATIENCE)
        if least < 0 or misfit < least:
            best, least = [rows], misfit
        elif misfit == least and len(best) < wanted and rows not in best:
            best.append(rows)
        if not least and (len(best) == wanted or number + 1 >= 2 * wanted):
            break
    return best, least, number + 1


__all__ = ["STARTS", "Fitted", "fitted"]
