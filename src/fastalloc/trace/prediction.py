"""A configuration's prediction over several draws of what the trace cannot say, see ``races``."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import polars as pl

from fastalloc.trace import slab_lane, slub_lane
from fastalloc.trace.compact import CompactTrace
from fastalloc.trace.lane import Config, LaneResult, cache_of_kind
from fastalloc.trace.races import reordered
from fastalloc.trace.start import Start

RUN = {"slub": slub_lane.run, "slab": slab_lane.run}
FIGURES = ("new", "freed", "peak", "end")


@dataclass(frozen=True)
class Prediction:
    """``result``: the lane in the order of the events. ``draws``: int64[draws, caches, FIGURES] in slabs, the first
    one that lane's."""

    result: LaneResult
    draws: np.ndarray

    def table(self) -> pl.DataFrame:
        """``result.caches`` with each figure the median over the draws, and its range as FIGURE_low, FIGURE_high."""
        middle = np.sort(self.draws, axis=0)[len(self.draws) // 2]
        columns = {}
        for i, name in enumerate(FIGURES):
            columns[name] = middle[:, i]
            columns[f"{name}_low"] = self.draws[:, :, i].min(axis=0)
            columns[f"{name}_high"] = self.draws[:, :, i].max(axis=0)
        return self.result.caches.with_columns(**{name: pl.Series(values) for name, values in columns.items()})

    def pages(self, names: list[str] | None = None) -> np.ndarray:
        """int64[draws, FIGURES]: pages over all caches, or those of ``names``."""
        order = self.result.caches["order"].to_numpy()
        weight = np.where(self.result.caches["cache"].is_in(names).to_numpy() if names is not None else True, 1, 0)
        return (self.draws * (weight << order)[None, :, None]).sum(axis=1)


def predict(
    traces: list[CompactTrace], config: Config, start: Start, sample_ns: np.ndarray | None = None
) -> Prediction:
    """Run ``config`` through every draw of ``traces``, the order of the events first."""
    first = None
    draws = []
    for trace in traces:
        result = RUN[config.allocator](trace, config, start, sample_ns if first is None else np.zeros(0, np.int64))
        first = first or result
        draws.append(result.caches.select(FIGURES).to_numpy())
    assert first is not None
    kinds = cache_of_kind(traces[0], config)
    crossed = np.zeros(len(first.caches), np.int64)
    np.add.at(crossed, kinds[kinds >= 0], traces[0].cross_cpu_frees[kinds >= 0])
    first = dataclasses.replace(first, caches=first.caches.with_columns(cross_cpu_frees=crossed))
    return Prediction(first, np.array(draws, np.int64))


def draws_of(trace: CompactTrace, draws: int) -> list[CompactTrace]:
    """The trace and ``draws`` - 1 reordered ones; seeds are 1, 2, ... so that all configurations meet the same."""
    return [reordered(trace, seed) for seed in range(draws)]
