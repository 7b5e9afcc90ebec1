"""What ``fastalloc replay`` does: one decode, its side inputs, and a prediction for each configuration."""

import codecs
import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fastalloc.errors import InputError, reader, reading
from fastalloc.foreign import MOST_CPUS, content_of, parquet_rows
from fastalloc.forked import refuse_forked
from fastalloc.linux import slub_eras as se
from fastalloc.linux.slub_boot import read_boot_line
from fastalloc.linux.versions import Kernel, kernel_of
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.columns import read_parquet
from fastalloc.trace.compact.convert import compact_events, refuse_inferred
from fastalloc.trace.compact.cut import between_readings
from fastalloc.trace.compact.recording_name import beside, run_of
from fastalloc.trace.compact.refills import Layout
from fastalloc.trace.compact.sheaf_calls import read_sheaf_calls, sheaf_calls_of, with_sheaf_calls
from fastalloc.trace.formats import tracedat
from fastalloc.trace.formats.packed import head_of, packing
from fastalloc.trace.lanes.caches import (
    REPLAYED,
    TracedCache,
    caches_of_geometry,
    caches_of_state,
    caches_of_trace,
    era_of_cache,
    with_sheaves,
)
from fastalloc.trace.lanes.lane import SHEAF_SITES, Config, old_objects
from fastalloc.trace.lanes.readings import Readings, caches_of_readings, read_readings
from fastalloc.trace.lanes.rebuilt_sheaves import rebuilt_starts
from fastalloc.trace.lanes.sheaf_start import SheafStart, read_sheaves
from fastalloc.trace.lanes.start import PERCPU_SHEAVES, Start
from fastalloc.trace.lanes.state_table import read_state
from fastalloc.trace.lanes.unseen_frees import Unseen, unseen_frees
from fastalloc.trace.order import known_start as ks
from fastalloc.trace.order.fit import STARTS, Fitted, fitted
from fastalloc.trace.order.known_start import KnownStart
from fastalloc.trace.order.resolve_order import resolve_order
from fastalloc.trace.order.sheaf_order import resolve_sheaf_order
from fastalloc.trace.replay.folder import Recorded
from fastalloc.trace.replay.prediction import Prediction, predict
from fastalloc.trace.replay.size import refuse_too_large
from fastalloc.trace.replay.whatif import as_traced, what_if

PARQUET = b"PAR1"
EVENT_TEXT, PACKED = 40, 8  # bytes of an event in a trace.dat, less than in a text; how much smaller packing makes it
ASSUMED = "6.1"  # whose rules run where no version is given
WITH_SHEAVES = "7.3"  # where the trace shows sheaves as no kernel before 7.0 makes them
# Bytes of a sheaf of 32 objects, of caches that asked for it, which 6.18 and 6.19 alone have; and of its slot
ASKED_SHEAF, ASKED_SHEAF_SLOT = 32 + 8 * 32, 512
MAKES_SHEAF = tuple(site for site in SHEAF_SITES if "prefill" not in site)


@dataclass(frozen=True)
class Recording:
    """A decoded trace with what is known of its kernel. ``shared``: caches that several names were merged into;
    ``steps``: what was inferred, with counts; ``order``: caches whose recorded order was not the kernel's, see
    ``resolve_order``. ``known``: what the start was made from; ``others``: starts that are as good as ``start``, and
    ``recorded`` the trace in its own order, where there are others. ``unseen``: caches whose frees show no event.
    ``assumed``: nobody said which ``kernel``."""

    trace: co.CompactTrace
    caches: list[TracedCache]
    shared: set[str]
    aliases: dict[str, str]
    start: Start
    options: se.SlubOptions
    steps: dict[str, int]
    order: pl.DataFrame | None
    known: KnownStart
    kernel: Kernel
    assumed: bool
    others: list[Start] = field(default_factory=list)
    recorded: co.CompactTrace | None = None
    left: frozenset[str] = frozenset()
    unseen: list[Unseen] = field(default_factory=list)

    def not_explained(self, prediction: Prediction) -> list[dict[str, Any]]:
        """Of each cache whose frees show no event: cache, allocations, frees, ``slabs_by_pages`` (None: not known) and
        ``slabs_predicted`` (how many more at the end), and the ``line`` that says so; of the traced kernel."""
        table = prediction.table()
        more = dict(zip(table["cache"].to_list(), (table["end"] - table["start_slabs"]).to_list(), strict=True))
        return [
            {
                "cache": each.cache,
                "allocations": each.allocations,
                "frees": each.frees,
                "slabs_by_pages": each.slabs,
                "slabs_predicted": more[each.cache],
                "line": each.line(more[each.cache]),
            }
            for each in self.unseen
            if each.cache in more
        ]

    def kernel_record(self) -> dict[str, Any]:
        """The kernel whose rules run, as plain data."""
        return self.kernel.record() | {"assumed": self.assumed}

    def kernel_line(self) -> str:
        """The kernel whose rules run, in a line."""
        told = "" if not self.assumed else ", assumed: nothing told it"
        if self.assumed and self.kernel.version == WITH_SHEAVES:
            told = ", assumed: the trace shows sheaves of 7.0 or later"
        return self.kernel.line("slabs", "layout", "version") + told

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
        """A prediction for each configuration; see ``predict``. Other starts that are as good are further draws.

        Raises:
            InputError: a trace without a cache, a what-if that it cannot answer, or more memory than may be taken.
        """
        configs = self.configs(what_ifs)
        if not self.caches:
            raise InputError(self.trace.path, "", "holds no cache with objects of a size: there is nothing to replay")
        samples = None if sample_ns is None else len(sample_ns)
        refuse_too_large(self.trace, configs, self.start, draws, samples, threads)
        predictions = predict(self.trace, configs, self.start, draws, sample_ns, threads, self.loose)
        for start in self.others:
            trace = self.trace  # of sheaves, where no order is resolved
            if self.recorded is not None:
                trace = resolve_order(self.recorded, configs[0], start, self.left).trace
            more = predict(trace, configs, start, 1, sample_ns, threads)
            predictions = [first.joined(other) for first, other in zip(predictions, more, strict=True)]
        return predictions

    @property
    def loose(self) -> np.ndarray:
        """bool[kinds]: the events whose order the trace does not tell."""
        if self.kernel.era == PERCPU_SHEAVES:
            return np.zeros(len(self.trace.kinds), bool)
        if self.order is None:
            return np.ones(len(self.trace.kinds), bool)
        names = self.order.filter(~pl.col("resolved"))["cache"].to_list()
        return self.trace.kinds["cache"].is_in(names).to_numpy()


def read_trace(
    path: Path,
    strict: bool = False,
    aliases: dict[str, str] | None = None,
    caches: list[TracedCache] | None = None,
    opened: tracedat.TraceDat | None = None,
) -> co.CompactTrace:
    """A trace of any format known: compact, Parquet, trace.dat, or text of ftrace, trace-cmd report or perf script.

    ``opened``: the trace.dat, where it was opened before; its events are read but once.

    Raises InputError for every other file, saying what to run where that is known.
    """
    refuse_forked(str(path))
    with reading(path, "", "cannot be read as a trace"):
        return _read_trace(path, strict, aliases, caches, opened)


def events_about(path: Path) -> int:
    """How many events a trace has, from its header where that tells, else about, from its size; nothing is decoded."""
    with reading(path, "", "cannot be read as a trace"):
        head, packed = head_of(path), packing(path)
        if packed is None and head.startswith(PARQUET):
            return parquet_rows(path)
        return path.stat().st_size * (PACKED if packed else 1) // (16 if head.startswith(co.MAGIC) else EVENT_TEXT)


def _read_trace(
    path: Path,
    strict: bool,
    aliases: dict[str, str] | None,
    caches: list[TracedCache] | None,
    opened: tracedat.TraceDat | None,
) -> co.CompactTrace:
    head = head_of(path)
    if not head:
        raise InputError(path, "byte 0", "is empty")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(path, "byte 0", "is text in UTF-16; write it as UTF-8")
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
        from fastalloc.trace.formats.binary import SheafRows, read_binary

        dat = opened or tracedat.open_tracedat(path)
        sheaves = SheafRows(dat)
        trace = compact_events(path, read_binary(path, dat, sheaves), aliases, strict, sizes)
        trace = dataclasses.replace(trace, sheaf_calls=sheaves.calls())
        present = min(dat.nr_cpus, MOST_CPUS)
    else:
        from fastalloc.trace.formats.text import cpus_told, read_text

        trace = compact_events(path, read_text(path), aliases, strict, sizes)
        present = cpus_told(path)
    trace.meta["cpus_present"] = max(trace.meta["cpus"], present)
    return trace


def side_inputs(path: Path, state: Path | None, slabs: Path | None, exact: bool = True) -> list[Path | None]:
    """Files that tell of the slabs before the trace at ``path``, exact lists and readings: what was asked for, else
    what lies beside it, readings only where there are no lists (or, not ``exact``, none are wanted)."""
    if state is None and slabs is None and exact:
        state = beside(path, "slabstate")
    if state is None and slabs is None:
        slabs = beside(path, "slabs") or beside(path, "slabinfo")
    return [state, slabs]


def shows_sheaves(trace: co.CompactTrace) -> bool:
    """Whether memory of sheaves is allocated in ``trace`` as no kernel before 7.0 does, which knows sheaves of one size
    [mm/slub.c: calculate_sheaf_capacity, alloc_empty_sheaf].

    What was asked for tells it: what was given holds the red zones and owners of slub_debug too. A sheaf prefilled for
    a large store is of any size in every kernel that has sheaves [kmem_cache_prefill_sheaf].
    """
    sites = trace.kinds["call_site"].str.split("+").list.first()
    made = sites.is_in(MAKES_SHEAF) & (trace.kinds["bytes_alloc"] > 0)
    asked, given = trace.kinds["bytes_req"], trace.kinds["bytes_alloc"]
    untold = (asked == 0) & (given != ASKED_SHEAF_SLOT)  # a trace without the column
    return bool((made & (untold | ~asked.is_in([0, ASKED_SHEAF]))).any())


def taken_within(trace: co.CompactTrace, state: pl.DataFrame) -> bool:
    """Whether the lists of ``state`` are of a moment after the first event of ``trace``, such as a machine's boot, as
    the marker of their snapshot tells; such lists are no start."""
    snapshot = re.compile(rf"KTSNAP {int(state['snap'][0])} begin\b")
    begins = [ns for ns, text in trace.markers.select("ts_ns", "text").iter_rows() if snapshot.match(text)]
    unit = trace.meta["time_unit_ns"]  # what an event's time is cut to
    return bool(begins) and len(trace.events) > 0 and min(begins) >= int(trace.time_ns()[0]) + unit


@reader("cannot be replayed")
def open_recording(
    path: Path,
    state: Path | None,
    geometry: Path | None,
    kernel: str | None,
    boot: str,
    strict: bool = False,
    slabs: Path | None = None,
    starts: int = STARTS,
    origin: Recorded | None = None,
) -> Recording:
    """Decode ``path`` and read its side inputs.

    ``state``: dump of the slabs before the trace; ``slabs``: readings of /sys/kernel/slab or /proc/slabinfo before it;
    ``geometry``: table of /sys/kernel/slab. Without any the layout follows from the sizes in the trace and the rules of
    ``kernel`` (a version, None: ASSUMED, or WITH_SHEAVES where the trace shows them) booted with ``boot``. Without
    ``state`` up to ``starts`` starts are fitted. ``origin``: of ``recorded``: its file is named where its
    ``boot`` is wrong, and its trace.dat is not opened again.

    Raises:
        InputError: files that cannot be read, a kernel outside the table, a boot option that the kernel does not take.
    """
    rules = _kernel(kernel or ASSUMED)
    caches: list[TracedCache] = []
    aliases: dict[str, str] = {}
    shared: set[str] = set()
    start_state = readings = None
    told = b""
    if slabs is not None:
        told = content_of(slabs)
        readings = read_readings(slabs, told)
        readings = readings if readings.caches else None  # a kernel without such files: nothing is known
        caches, aliases = caches_of_readings(slabs, rules.version, told)
    if geometry is not None:
        caches, aliases = caches_of_geometry(geometry, run_of(path))
    shared |= set(aliases.values())
    if state is not None:
        start_state = read_state(state)
        caches = caches_of_state(start_state)
        if "refcount" in start_state.columns:
            shared |= set(start_state.filter((pl.col("rec") == "cache") & (pl.col("refcount") > 1))["cache"])
    whole = read_trace(path, strict, aliases, caches, origin.opened if origin else None)
    if kernel is None and shows_sheaves(whole):
        rules = _kernel(WITH_SHEAVES)
        if slabs is not None and geometry is None and state is None:
            caches, aliases = caches_of_readings(slabs, rules.version, told)
    trace = between_readings(whole)
    later = start_state is not None and taken_within(trace, start_state)
    if later:
        start_state = None  # its layouts stand, its lists are of a later moment
    line = read_boot_line(boot, rules.version, cpus_present=max(trace.meta["cpus"], trace.meta.get("cpus_present", 1)))
    if line.unknown:
        told_in = origin.boot_in if origin and boot == origin.boot else "--boot"
        raise InputError(told_in, line.unknown[0], f"Linux {rules.version} does not take it so")
    options = line.options
    caches = [cache._replace(era=era_of_cache(cache.name, rules)) for cache in caches]
    more = caches_of_trace(trace, {cache.name for cache in caches}, options, rules)
    sheaves = SheafStart()
    if rules.era == PERCPU_SHEAVES:
        sheaves = _sheaves(path) if start_state is not None else sheaves
        caches = with_sheaves(caches, options, sheaves.capacity or (readings.capacity if readings else {}))
        more = with_sheaves(more, options)
    steps = dict(trace.meta["inferred"])
    if trace.meta.get("events_left_out"):
        steps["events before the first readings or after the last, left out"] = trace.meta["events_left_out"]
    if later:
        steps["lists that are of a moment within the trace, of which layouts alone were taken"] = 1
    if more:
        steps["caches laid out from the sizes in the trace"] = len(more)
    old = old_objects(trace)
    base = as_traced(caches + more)
    unseen = unseen_frees(trace, base.caches)
    order, recorded, others = None, None, []
    if start_state is not None:
        start = Start(start_state, old, trace.ptrs, sheaves=sheaves)
        lists = rules.era == PERCPU_SHEAVES and beside(path, "sheafstate") is None
        known = KnownStart(ks.LISTS if lists else ks.EXACT, file=state.name if state else "", sheaves=lists)
        left: frozenset[str] = frozenset()
    elif rules.era == PERCPU_SHEAVES:
        left = frozenset()
        start, *others = rebuilt_starts(trace, base, readings, old, starts)
        known = _known(readings, trace, slabs.name if slabs else "", len(others) + 1, sheaves=True)
        if readings is None and old:
            steps["objects whose slabs before the trace are not known"] = sum(map(len, old.values()))
    else:
        found = fitted(trace, base, readings, old, starts)
        start, *others = found.starts
        # On a wrong start moved operations make it worse: with one allocation in a thousand not explained, none is.
        wrong = found.caches.filter(~pl.col("explained") & (pl.col("misfit") * 100 > pl.col("operations")))
        left = frozenset(wrong["cache"])
        known = _known(readings, trace, slabs.name if slabs else "", len(found.starts), found)
        recorded = trace if others else None
        if readings is None and old:
            steps["objects whose slabs before the trace are not known"] = sum(map(len, old.values()))
    known = dataclasses.replace(known, unseen=[each.cache for each in unseen])
    if rules.era == PERCPU_SHEAVES:
        # Slabs move when sheaves are filled and flushed: what tells the order of operations are the refills.
        calls = _sheaf_calls(path, whole)
        layouts = {cache.name: Layout(cache.sheaf_capacity, cache.order) for cache in caches + more}
        raw = trace
        trace, woven = with_sheaf_calls(raw, calls, layouts)
        steps |= woven
        if start_state is not None:
            trace, resolved_steps = resolve_sheaf_order(trace, base, start, raw)
            steps |= resolved_steps
    elif len(trace.events):
        resolved = resolve_order(trace, base, start, left)
        trace, order = resolved.trace, resolved.caches
        steps |= resolved.steps
    return Recording(
        trace,
        caches + more,
        shared,
        aliases,
        start,
        options,
        steps,
        order,
        known,
        rules,
        kernel is None,
        others,
        recorded,
        left,
        unseen,
    )


def _sheaf_calls(path: Path, trace: co.CompactTrace) -> pl.DataFrame | None:
    """What probes saw of whole sheaves: in a table beside the trace, or in the trace.dat itself."""
    table = beside(path, "sheaftruth")
    if table is not None:
        return read_sheaf_calls(table)
    return None if trace.sheaf_calls is None else sheaf_calls_of(trace.sheaf_calls, path)


def _sheaves(path: Path) -> SheafStart:
    """The sheaves before the trace at ``path``, where a table of them lies beside it."""
    found = beside(path, "sheafstate")
    return read_sheaves(found, beside(path, "sheafobjects"), beside(path, "allslabs")) if found else SheafStart()


def _kernel(version: str) -> Kernel:
    try:
        rules = kernel_of(version)
    except ValueError as error:
        raise InputError("--kernel", version, str(error)) from error
    if rules.era not in REPLAYED:
        known = ", ".join(REPLAYED)
        raise InputError("--kernel", version, f"replay does not move slabs as {rules.version} does; eras are {known}")
    return rules


def _known(
    readings: Readings | None,
    trace: co.CompactTrace,
    file: str,
    starts: int,
    found: Fitted | None = None,
    sheaves: bool = False,
) -> KnownStart:
    if readings is None:
        source = ks.NOTHING
    elif readings.source == "slabinfo":
        source = ks.SLABINFO
    else:
        listed = all(cache.on_cpu is not None and cache.partial is not None for cache in readings.caches.values())
        source = ks.SYSFS if listed else ks.SYSFS_LESS
    return KnownStart(
        source,
        shrunk=bool(readings and readings.shrunk),
        caches=len(found.caches) if found else 0,
        unexplained=found.unexplained if found else [],
        starts=starts,
        bulk_rows=bool(trace.meta["bulk_rows"]),
        file=file,
        sheaves=sheaves,
    )


__all__ = ["Recording", "beside", "events_about", "open_recording", "read_trace", "side_inputs"]
