"""What a configuration leaves as it was: such caches are not replayed again.

Pages are without end in a replay, so a cache's slabs depend on nothing but its own operations and rules.
"""

import dataclasses

import numpy as np
import polars as pl

from fastalloc.kernels.replay.kmem_events import MET
from fastalloc.trace.compact import tallies
from fastalloc.trace.compact.compact import CompactTrace
from fastalloc.trace.lanes.lane import Config, LaneResult, cache_of_kind, counts_of
from fastalloc.trace.lanes.start import Start


def unchanged(config: Config, base: Config, trace: CompactTrace) -> set[str]:
    """The caches that ``config`` treats as ``base`` does, operation for operation."""
    if config.allocator != base.allocator or config.goes_to != base.goes_to or base.split or config.policy:
        return set()
    before = {cache.name: cache for cache in base.caches}
    taken_from = set(trace.kinds["cache"].gather(list(config.split)))
    return {
        cache.name
        for cache in config.caches
        if before.get(cache.name) == cache
        and cache.name not in taken_from
        and (cache.name in config.exact) == (cache.name in base.exact)
    }


def only(config: Config, left_out: set[str]) -> Config:
    """``config`` without the caches ``left_out``."""
    return dataclasses.replace(config, caches=[cache for cache in config.caches if cache.name not in left_out])


class Base:
    """The lane of the base configuration, from which others take what they do not change."""

    def __init__(self, trace: CompactTrace, start: Start, result: LaneResult) -> None:
        self.result = result
        caches = result.config.caches
        self.row = {cache.name: row for row, cache in enumerate(caches)}
        out = np.zeros(len(trace.ptrs), np.uint8)
        for cache in caches:
            out[start.laid(cache, result.config).old] = 1
        e = trace.events
        self.met = np.zeros((len(caches), MET.width), np.int64)
        tallies.met_by_cache(e["op"], e["object"], e["kind"], cache_of_kind(trace, result.config), out, self.met)

    def joined(self, config: Config, kept: set[str], lane: LaneResult) -> LaneResult:
        """The result of ``config``: the caches ``kept`` as here, the others as in ``lane``."""
        names = [cache.name for cache in config.caches]
        own = {cache.name: row for row, cache in enumerate(lane.config.caches)}
        tables = pl.concat([self.result.caches, lane.caches])
        row = [self.row[name] if name in kept else len(self.row) + own[name] for name in names]
        series = np.concatenate([self.result.series, lane.series], axis=1)[:, row]
        before = counts_of(self.met[[self.row[name] for name in kept]].sum(axis=0))
        counts = {name: count + before[name] for name, count in lane.counts.items()}
        return dataclasses.replace(lane, config=config, caches=tables[row], series=series, counts=counts)


__all__ = ["Base", "only", "unchanged"]
