"""A configuration's prediction over several draws of what the trace cannot say, see ``races``."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from fastalloc.kernels.replay.kmem_events import CACHE_SERIES
from fastalloc.trace.compact.compact import CompactTrace
from fastalloc.trace.lanes import own_lane, slab_lane, slub_lane
from fastalloc.trace.lanes.lane import Config, LaneResult, cache_of_kind, samples_of
from fastalloc.trace.lanes.start import Start
from fastalloc.trace.replay.drawn_orders import reordered
from fastalloc.trace.replay.unchanged_caches import Base, only, unchanged

RUN = {"slub": slub_lane.run, "slab": slab_lane.run, "own": own_lane.run}
FIGURES = ("new", "freed", "peak", "end")


@dataclass(frozen=True)
class Prediction:
    """``result``: the lane in the order of the events. ``draws``: int64[draws, caches, FIGURES] in slabs, the first
    one that lane's; ``at_once``: int64[draws], the most pages of all caches at one moment."""

    result: LaneResult
    draws: np.ndarray
    at_once: np.ndarray

    def joined(self, other: "Prediction") -> "Prediction":
        """This prediction with the draws of ``other``, of the same configuration, behind its own."""
        return dataclasses.replace(
            self,
            draws=np.concatenate([self.draws, other.draws]),
            at_once=np.concatenate([self.at_once, other.at_once]),
        )

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
        pages: np.ndarray = (self.draws * (weight << order)[None, :, None]).sum(axis=1)
        return pages


def pages_at_once(result: LaneResult) -> int:
    """The most pages that all caches held at one moment, of those that were sampled, the begin and the end."""
    order = result.caches["order"].to_numpy()
    held = (result.series[:, :, CACHE_SERIES.slabs].astype(np.int64) << order[None, :]).sum(axis=1)
    begin, end = ((result.caches[name].to_numpy() << order).sum() for name in ("start_slabs", "end"))
    return int(max(held.max(initial=0), begin, end))


def predict(
    trace: CompactTrace,
    configs: list[Config],
    start: Start,
    draws: int = 1,
    sample_ns: np.ndarray | None = None,
    threads: int = 1,
    loose: np.ndarray | None = None,
) -> list[Prediction]:
    """Run every configuration through the order of the events, and through ``draws`` - 1 others that all of them
    meet; ``sample_ns`` as for ``samples_of``, ``threads`` configurations at a time. ``loose``: bool[kinds], the events
    whose order is not known; all if None, and if there are none there is nothing to draw."""
    if loose is None:
        loose = np.ones(len(trace.kinds), bool)
    if not loose.any():
        draws = 1

    def run(config: Config) -> LaneResult:
        return RUN[config.allocator](order, config, start, samples)

    def run_each(pool: ThreadPoolExecutor) -> list[LaneResult]:
        """The lanes of all configurations; what the first has done as they would is not done again."""
        first = run(configs[0])
        kept = [unchanged(config, configs[0], trace) for config in configs[1:]]
        base = Base(order, start, first) if any(kept) else None

        def run_other(config: Config, same: set[str]) -> LaneResult:
            left = only(config, same)
            if base is None or not same:
                return run(config)
            if not left.caches:
                return dataclasses.replace(first, config=config)
            return base.joined(config, same, run(left))

        return [first, *pool.map(run_other, configs[1:], kept)]

    order, samples = trace, samples_of(trace, sample_ns)
    results, at_once = [], []
    with ThreadPoolExecutor(threads) as pool:
        for seed in range(draws):
            done = run_each(pool)
            at_once.append([pages_at_once(result) for result in done])
            if seed:  # the series of the first is enough
                done = [dataclasses.replace(result, series=result.series[:0]) for result in done]
            results.append(done)
            if seed + 1 < draws:
                order = trace  # the last draw is needed no more
                order = reordered(trace, seed + 1, loose)
    predictions = []
    for of_config, most in zip(zip(*results, strict=True), np.array(at_once, np.int64).T, strict=True):
        first = of_config[0]
        kinds = cache_of_kind(trace, first.config)
        crossed = np.zeros(len(first.caches), np.int64)
        np.add.at(crossed, kinds[kinds >= 0], trace.cross_cpu_frees[kinds >= 0])
        figures = np.array([result.caches.select(FIGURES).to_numpy() for result in of_config], np.int64)
        first = dataclasses.replace(first, caches=first.caches.with_columns(cross_cpu_frees=crossed))
        predictions.append(Prediction(first, figures, most))
    return predictions
