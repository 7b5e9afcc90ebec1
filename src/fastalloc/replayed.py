"""What the library calls ``replay`` and ``trace`` return."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from fastalloc.trace.compact.compact import CompactTrace
    from fastalloc.trace.compact.holders import Held
    from fastalloc.trace.replay.prediction import Prediction
    from fastalloc.trace.replay.recording import Recording


@dataclass(frozen=True, repr=False)
class Replay:
    """A trace under its own kernel's rules (the first configuration) and under each what-if."""

    recording: "Recording"
    predictions: "list[Prediction]"

    @cached_property
    def summary(self) -> pl.DataFrame:
        """A row a configuration: ``config``; pages ``new``, ``peak`` (most at one moment) and ``end`` (medians over
        orders); ``peak_change`` against the first; ``resolved``: whether the start is known well enough to tell it;
        ``peak_waste_bytes``; ``alloc_slow``, ``free_slow``, ``node_list``, ``list_lock``, ``cross_cpu_frees``."""
        from fastalloc.trace.replay.results import summaries

        plain = ("peak_change", "resolved", "peak_waste_bytes", "alloc_slow", "free_slow", "node_list", "list_lock")
        rows = [
            {"config": row["config"]}
            | {name: row[f"{name}_pages"]["median"] for name in ("new", "peak", "end")}
            | {name: row.get(name) for name in (*plain, "cross_cpu_frees")}
            for row in summaries(self.recording, self.predictions)
        ]
        return pl.DataFrame(rows)

    @cached_property
    def caches(self) -> pl.DataFrame:
        """A row a configuration and cache; columns as ``caches.parquet`` (see the documentation of replay)."""
        tables = [
            each.table().select(pl.lit(each.result.config.name).alias("config"), pl.all()) for each in self.predictions
        ]
        return pl.concat(tables, how="diagonal_relaxed")

    @property
    def kernel(self) -> str:
        """Whose rules ran, in a line."""
        return self.recording.kernel_line()

    @property
    def start(self) -> str:
        """How much of the state before the trace is known, in a line."""
        return self.recording.known.words()

    def __repr__(self) -> str:
        peaks = ", ".join(f"{name} {peak:,.0f}" for name, peak in self.summary.select("config", "peak").rows())
        return f"Replay of {len(self.recording.trace.events):,} events; peak pages: {peaks}"

    def _repr_html_(self) -> str:
        from fastalloc.notebook import table_html

        return table_html(self.summary, f"{self.kernel}<br>{self.start}")


@dataclass(frozen=True, repr=False)
class Trace:
    """A recorded trace: who allocated what, where, for how long."""

    compact: "CompactTrace"

    @cached_property
    def caches(self) -> pl.DataFrame:
        """A row a cache, most bytes first: ``cache``, ``allocs``, ``frees``, ``bytes_requested``, ``bytes_allocated``,
        ``bytes_freed``, ``bytes_freed_again``, ``cross_cpu_frees``, ``median_life_ns``."""
        from fastalloc.trace.compact.describe import describe

        return pl.DataFrame(describe(self.compact)["caches"])

    def holders(self, by: str = "call-site") -> pl.DataFrame:
        """Who holds the memory: a row a holder, most bytes at the end first.

        Args:
            by: ``call-site``, ``cache`` or ``task``.

        Raises:
            InputError: the trace does not tell that.
        """
        return self.held(by).rows

    def held(self, by: str = "call-site") -> "Held":
        """``rows`` of the holders, leak ``suspects``, and ``pins``: slabs nearly empty, by who keeps them."""
        from fastalloc.trace.compact.holders import holders

        return holders(self.compact, by)

    def __repr__(self) -> str:
        cpus = self.compact.meta["cpus"]
        return f"Trace of {len(self.compact.events):,} events, {len(self.caches)} caches, {cpus} CPUs"

    def _repr_html_(self) -> str:
        from fastalloc.notebook import table_html

        return table_html(self.caches.head(12), repr(self))
