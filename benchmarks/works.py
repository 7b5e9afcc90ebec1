"""The traces that the replay benchmarks run: recorded ones, where the shared data is at hand, and synthetic ones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.twin import SETUP, Work
from fastalloc.kernels.alloc.slub import state as er
from fastalloc.kernels.replay.kmem_events import KIND
from fastalloc.linux import gfp as g
from fastalloc.linux import slub_eras as se
from fastalloc.linux.versions import kernel_of
from fastalloc.trace.compact import compact as co
from fastalloc.trace.lanes.caches import caches_of_state, caches_of_trace
from fastalloc.trace.lanes.lane import GFP_DIRECT_RECLAIM
from fastalloc.trace.lanes.state_table import read_state
from fastalloc.trace.replay.recording import beside, read_trace

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT.parent / "shared" / "data" / "kernel" / "traces"
RUNS = ("d_long_mix_k61_smp4_nomerge", "d_w2_k61_smp2_sym", "d_w2_k612_smp2_vscsi", "d_stack_k612")
IN_REPOSITORY = ROOT / "tests" / "data" / "traces"
ERAS = ("2.6.25", "cpu-partial", "7.3")
SYNTHETIC_ROWS = 1 << 20


def capacity(objects: int, order: int) -> int:
    """Of the sheaves of a cache with so many objects a slab."""
    return se.sheaf_capacity((4096 << order) // objects, 0, se.SlubOptions(era="7.3"))


def recorded(run: str, era: str) -> Work | None:
    """The operations of a recorded run, from empty caches; None where the recording is not at hand."""
    path = next((p for p in (f / f"{run}.events.parquet" for f in (RECORDED, IN_REPOSITORY)) if p.exists()), None)
    if path is None:
        return None
    state_file = beside(path, "slabstate")
    caches = caches_of_state(read_state(state_file)) if state_file else []
    trace = read_trace(path, False, {}, caches)
    options = se.SlubOptions(era="6.1", cpus_present=max(trace.meta["cpus"], 1))
    caches += caches_of_trace(trace, {cache.name for cache in caches}, options, kernel_of("6.1"))
    setup = np.zeros(len(caches), SETUP)
    for row, cache in zip(setup, caches, strict=True):
        row["objects"], row["order"], row["min_partial"] = cache.objects, cache.order, cache.min_partial
        row["era"], row["cpu_partial"] = er.ERA_NAMES.index(era), cache.cpu_partial
        if era == "7.3":
            row["cpu_partial"] = capacity(cache.objects, cache.order)
    index = {cache.name: c for c, cache in enumerate(caches)}
    gfp = trace.kinds["gfp_flags"].to_numpy().astype(np.int64)
    kinds = np.zeros(len(trace.kinds), KIND)
    kinds["cache"] = [index.get(name, -1) for name in trace.kinds["cache"]]
    kinds["node"] = np.where(trace.kinds["node"].to_numpy() < 1, trace.kinds["node"].to_numpy(), -1)
    kinds["gfp"] = np.where(gfp & GFP_DIRECT_RECLAIM, g.GFP_KERNEL, g.GFP_NOWAIT)
    # What the traced kernel could not allocate is no work of an allocator.
    events = trace.events[trace.events["op"] <= co.OP_PAGE_FREE]
    return Work(f"{run} {era}", events, len(trace.ptrs), setup, kinds, max(trace.meta["cpus"], 1))


# name: caches, objects a slab, order, CPUs, most objects out, share freed on another CPU, newest first, pages or 0
SYNTHETIC = {
    "one CPU": (1, 32, 0, 1, 512, 0.0, False, 0),
    "stack": (1, 32, 0, 1, 512, 0.0, True, 0),
    "random": (8, 32, 0, 2, 4_000, 0.0, False, 0),
    "remote": (8, 32, 0, 4, 4_000, 0.9, False, 0),
    "tight": (4, 16, 1, 2, 20_000, 0.3, False, 900),
    "large": (64, 21, 0, 4, 400_000, 0.5, False, 0),
}


def synthetic(name: str, era: str, rows: int = SYNTHETIC_ROWS, seed: int = 1) -> Work:
    """A random walk of allocations and frees around half of the most objects out."""
    caches, per_slab, order, cpus, most, remote, newest, pages = SYNTHETIC[name]
    random = np.random.default_rng(seed)
    setup = np.zeros(caches, SETUP)
    setup["objects"], setup["order"], setup["min_partial"] = per_slab, order, 5
    setup["era"] = er.ERA_NAMES.index(era)
    setup["cpu_partial"] = capacity(per_slab, order) if era == "7.3" else 6
    kinds = np.zeros(2 * caches, KIND)
    kinds["cache"], kinds["node"] = np.arange(2 * caches) // 2, -1
    kinds["gfp"] = np.where(np.arange(2 * caches) % 2, g.GFP_KERNEL, g.GFP_NOWAIT)
    events = np.zeros(rows, co.EVENT)
    events["time"] = np.arange(rows)
    draws = random.random((rows, 3))
    kind, cpu = random.integers(0, 2 * caches, rows), random.integers(0, cpus, rows)
    out: list[tuple[int, int, int]] = []
    spare = list(range(most))[::-1]
    for i, (choice, which, far) in enumerate(draws.tolist()):
        if not out or (spare and choice < 0.5 + 0.4 * (0.5 - len(out) / most)):
            obj = spare.pop()
            out.append((obj, int(kind[i]), int(cpu[i])))
            events[i] = i, obj, kind[i], cpu[i], co.OP_ALLOC, 0
        else:
            at = len(out) - 1 if newest else int(which * len(out))
            out[at], out[-1] = out[-1], out[at]
            obj, its_kind, home = out.pop()
            spare.append(obj)
            events[i] = i, obj, its_kind, cpu[i] if far < remote else home, co.OP_FREE, 0
    return Work(f"{name} {era}", events, most, setup, kinds, cpus, total=pages, pages_min=pages // 16)


def works(rows: int = SYNTHETIC_ROWS) -> Iterator[Work]:
    """Every work at hand."""
    for era in ERAS:
        for run in RUNS:
            work = recorded(run, era)
            if work is not None:
                yield work
        for name in SYNTHETIC:
            yield synthetic(name, era, rows)
