"""What ``fastalloc replay`` does: one decode, its side inputs, and a prediction for each configuration."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from fastalloc.errors import InputError, reading
from fastalloc.linux import slub_eras as se
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.columns import read_parquet
from fastalloc.trace.compact.convert import compact_events, refuse_inferred
from fastalloc.trace.formats import tracedat
from fastalloc.trace.formats.packed import head_of, packing
from fastalloc.trace.lanes.caches import TracedCache, caches_of_geometry, caches_of_state, caches_of_trace
from fastalloc.trace.lanes.lane import Config, old_objects
from fastalloc.trace.lanes.start import Start
from fastalloc.trace.lanes.state_table import read_state
from fastalloc.trace.order.settle_order import settled
from fastalloc.trace.replay.prediction import Prediction, predict
from fastalloc.trace.replay.whatif import as_traced, what_if

PARQUET = b"PAR1"


@dataclass(frozen=True)
class Recording:
    """A decoded trace with what is known of its kernel. ``shared``: caches that several names were merged into;
    ``steps``: what was inferred, with counts; ``order``: caches whose recorded order was not the kernel's, see
    ``settle``."""

    trace: co.CompactTrace
    caches: list[TracedCache]
    shared: set[str]
    aliases: dict[str, str]
    start: Start
    options: se.SlubOptions
    steps: dict[str, int]
    order: pl.DataFrame | None

    def configs(self, what_ifs: list[str]) -> list[Config]:
        """The traced kernel and every what-if, in the order asked for."""
        base = as_traced(self.caches)
        return [
            base,
            *(what_if(text, base, self.trace, self.options, self.shared, self.aliases) for text in what_ifs),
        ]

    def run(
        self, what_ifs: list[str], draws: int = 1, sample_ns: np.ndarray | None = None, threads: int = 1
    ) -> list[Prediction]:
        """A prediction for each configuration; see ``predict``."""
        return predict(self.trace, self.configs(what_ifs), self.start, draws, sample_ns, threads, self.loose)

    @property
    def loose(self) -> np.ndarray:
        """bool[kinds]: the events whose order the trace does not tell."""
        if self.order is None:
            return np.ones(len(self.trace.kinds), bool)
        names = self.order.filter(~pl.col("settled"))["cache"].to_list()
        return self.trace.kinds["cache"].is_in(names).to_numpy()


def read_trace(
    path: Path, strict: bool = False, aliases: dict[str, str] | None = None, caches: list[TracedCache] | None = None
) -> co.CompactTrace:
    """A trace of any format known: compact, Parquet, trace.dat, or text of ftrace, trace-cmd report or perf script.

    Raises InputError for every other file, saying what to run where that is known.
    """
    with reading(path, "", "cannot be read as a trace"):
        return _read_trace(path, strict, aliases, caches)


def _read_trace(
    path: Path, strict: bool, aliases: dict[str, str] | None, caches: list[TracedCache] | None
) -> co.CompactTrace:
    head = head_of(path)
    if not head:
        raise InputError(path, "byte 0", "is empty")
    if head.startswith(co.MAGIC) and packing(path) is None:
        trace = co.open_trace(path)
        if strict:
            refuse_inferred(path, trace.meta["inferred"])
        return trace
    sizes = None
    if caches:
        schema = {"name": pl.String, "bytes_req": pl.UInt32, "bytes_alloc": pl.UInt32}
        rows = [(cache.name, cache.object_size, cache.size) for cache in caches]
        sizes = pl.DataFrame(rows, schema=schema, orient="row")
    if head.startswith(PARQUET) and packing(path) is None:
        return compact_events(path, read_parquet(path), aliases, strict, sizes)
    if head.startswith(tracedat.MAGIC):
        from fastalloc.trace.formats.binary import read_binary

        return compact_events(path, read_binary(path), aliases, strict, sizes)
    from fastalloc.trace.formats.text import read_text

    return compact_events(path, read_text(path), aliases, strict, sizes)


def beside(path: Path, what: str) -> Path | None:
    """The side input ``what`` of a trace: RUN.events.parquet has RUN.slabstate.parquet beside it."""
    run = path.name.split(".")[0]
    for suffix in (".parquet", ".csv.gz", ".csv"):
        found = path.with_name(f"{run}.{what}{suffix}")
        if found.exists():
            return found
    return None


def open_recording(
    path: Path, state: Path | None, geometry: Path | None, kernel: str, boot: str, strict: bool = False
) -> Recording:
    """Decode ``path`` and read its side inputs.

    ``state``: dump of the slabs before the trace; ``geometry``: table of /sys/kernel/slab; without either the layout
    follows from the sizes in the trace and the rules of ``kernel`` (a version) booted with the line ``boot``.
    """
    caches: list[TracedCache] = []
    aliases: dict[str, str] = {}
    shared: set[str] = set()
    if geometry is not None:
        caches, aliases = caches_of_geometry(geometry, path.name.split(".")[0])
        shared |= set(aliases.values())
    start_state = None
    if state is not None:
        start_state = read_state(state)
        caches = caches_of_state(start_state)
        if "refcount" in start_state.columns:
            shared |= set(start_state.filter((pl.col("rec") == "cache") & (pl.col("refcount") > 1))["cache"])
    trace = read_trace(path, strict, aliases, caches)
    try:
        options = se.parse_boot_options(boot, se.era_of(kernel), cpus_present=max(trace.meta["cpus"], 1))
    except ValueError as error:
        raise InputError("--kernel", kernel, str(error)) from error
    more = caches_of_trace(trace, {cache.name for cache in caches}, options)
    steps = dict(trace.meta["inferred"])
    if more:
        steps["caches laid out from the sizes in the trace"] = len(more)
    old = old_objects(trace)
    if start_state is None and old:
        steps["objects whose slabs before the trace are not known"] = sum(map(len, old.values()))
    start = Start(start_state, old, trace.ptrs)
    order = None
    if start_state is not None and len(trace.events):
        found = settled(trace, as_traced(caches + more), start)
        trace, order = found.trace, found.caches
        steps |= found.steps
    return Recording(trace, caches + more, shared, aliases, start, options, steps, order)


__all__ = ["Recording", "beside", "open_recording", "read_trace"]
