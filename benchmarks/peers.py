"""The replay kernel beside what else could do the work: plain Python, the same kernels interpreted, perf kmem."""

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.lockstep import LockStep
from benchmarks.measure import Row, beside, figure, seconds_of
from benchmarks.twin import STATS, KernelRun, Outcome, TwinRun, Work
from benchmarks.works import ERAS, ROOT, recorded, synthetic
from fastalloc.trace.compact import compact as co
from fastalloc.trace.replay.recording import read_trace

QUESTION = (
    "How far ahead is the replay of tests/reference (plain Python), of the same kernels interpreted "
    "(NUMBA_DISABLE_JIT=1), and of `perf kmem stat`, which only adds up?"
)
UNIT = "events/s"
ROWS = 20_000
LOCK_STEPS = 2_000
LONG = 1 << 20
RAW = ROOT.parent / "shared" / "data" / "kernel" / "raw" / "d_perf_k61.perf.data.gz"


def reference(work: Work) -> tuple[float, np.ndarray]:
    """Seconds of the plain-Python model over the events, and its counters: int64[caches, cpus, STATS]."""
    from tests.reference.cpu_partial import CpuPartialCache
    from tests.reference.slub_eras import KERNEL, Pages

    pages = Pages(1 << 40, work.cpus)
    caches = [
        CpuPartialCache(
            pages,
            (4096 << int(row["order"])) // int(row["objects"]),
            int(row["order"]),
            int(row["order"]),
            int(row["min_partial"]),
            limit=int(row["cpu_partial"]),
            by_objects=bool(row["by_objects"]),
        )
        for row in work.setup
    ]
    rows = list(zip(*(work.events[name].tolist() for name in ("op", "object", "kind", "cpu")), strict=True))
    cache_of = work.kinds["cache"].tolist()
    out: dict[int, tuple] = {}

    def all_events() -> None:
        for op, obj, kind, cpu in rows:
            cache = caches[cache_of[kind]]
            if op == co.OP_ALLOC:
                out[obj] = cache.alloc(cpu, KERNEL)
            else:
                cache.free(cpu, out.pop(obj))

    seconds = seconds_of(all_events)
    counters = [[[cpu[name] for name in STATS] for cpu in cache.stats] for cache in caches]
    return seconds, np.array(counters)


def interpreted(work_name: str, era: str) -> tuple[float, Outcome]:
    """Seconds of the kernels interpreted by Python, in a process of its own, and what they came to."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "outcome.npz"
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers", work_name, era, str(file)]
        subprocess.run(command, check=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1"})
        found = np.load(file)
        return float(found["seconds"]), Outcome(**{name: found[name] for name in Outcome.__dataclass_fields__})


def compiled(work: Work, repeats: int) -> list[float]:
    """Events a second of the kernel on a long run of the same kind of work."""
    rates = []
    for _ in range(repeats):
        ready = KernelRun(work)
        rates.append(len(work.events) / seconds_of(ready.run))
    return rates


def run(quick: bool) -> Iterator[Row]:
    """Equal counters first, then rates."""
    repeats = 3 if quick else 7
    for name in ("random", "remote"):
        short, long = synthetic(name, ERAS[1], ROWS), synthetic(name, ERAS[1], LONG)
        truth = TwinRun(short)
        truth.run()
        expected = truth.outcome()
        python = [reference(short) for _ in range(repeats)]
        if not np.array_equal(python[0][1], expected.stat):
            raise SystemExit(f"{short.name}: the kernel and tests/reference disagree")
        slow = [interpreted(name, ERAS[1]) for _ in range(repeats)]
        if not slow[0][1].same_as(expected):
            raise SystemExit(f"{short.name}: the kernel interpreted and compiled disagree")
        compiled(long, 1)
        own = figure(short.name, "kernel", compiled(long, repeats), UNIT)
        for contestant, seconds in (
            ("tests/reference", [each[0] for each in python]),
            ("kernel, interpreted", [each[0] for each in slow]),
        ):
            peer = figure(short.name, contestant, [ROWS / each for each in seconds], UNIT)
            yield peer
            yield beside(own, peer.value, contestant)
    yield from numpy_lanes(repeats, 64 if quick else 4096)
    yield from perf_kmem(repeats)


def numpy_lanes(repeats: int, lanes: int) -> Iterator[Row]:
    """Many lanes of one cache and one CPU, in lock step in NumPy and one after the other in the kernel."""
    works = [synthetic("one CPU", ERAS[0], LOCK_STEPS, seed) for seed in range(1, 65)]
    works = [works[lane % len(works)] for lane in range(lanes)]
    together, kernels = LockStep(works), [KernelRun(work) for work in works[:64]]
    together.run()
    for lane, kernel in enumerate(kernels):
        kernel.run()
        if not np.array_equal(kernel.outcome().stat[0, 0], together.stat[lane]):
            raise SystemExit(f"lane {lane}: the kernel and NumPy disagree")
    seconds = [seconds_of(LockStep(works).run) for _ in range(repeats)]
    rates = []
    for _ in range(repeats):
        ready = [KernelRun(work) for work in works[:64]]
        rates.append(64 * LOCK_STEPS / seconds_of(lambda ready=ready: [each.run() for each in ready]))
    what = f"{lanes:,} lanes, one cache, one CPU, {ERAS[0]}"
    peer = figure(what, "NumPy, lanes in lock step", [lanes * LOCK_STEPS / each for each in seconds], UNIT)
    yield peer
    yield beside(figure(what, "kernel, a lane at a time", rates, UNIT), peer.value, peer.contestant)


def perf_kmem(repeats: int) -> Iterator[Row]:
    """perf kmem over a recorded perf.data, and the replay of the same recording; no rows without either."""
    work = recorded("d_perf_k61", ERAS[1])
    if work is None or not RAW.exists() or shutil.which("perf") is None:
        return
    printed = read_trace(RAW.with_name("d_perf_k61.perf-script.txt.gz"))
    rows = printed.meta["rows_read"]  # what perf reads: it began before the trace that is replayed, and ended after
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "perf.data"
        data.write_bytes(gzip.decompress(RAW.read_bytes()))
        command = ["perf", "kmem", "-i", str(data), "--slab", "stat"]

        def perf() -> None:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        seconds = [seconds_of(perf) for _ in range(repeats)]
    what = f"d_perf_k61, {rows:,} events of perf, {len(work.events):,} of ftrace"
    peer = figure(what, "perf kmem stat, whole process", [rows / each for each in seconds], UNIT)
    yield peer
    compiled(work, 1)
    yield beside(figure(what, "kernel, simulating", compiled(work, repeats), UNIT), peer.value, "perf kmem stat")


def main(name: str, era: str, file: str) -> None:
    """The interpreted contestant."""
    ready = KernelRun(synthetic(name, era, ROWS))
    begun = time.perf_counter()
    ready.run()
    seconds = time.perf_counter() - begun
    np.savez(file, seconds=seconds, **vars(ready.outcome()))


if __name__ == "__main__":
    main(*sys.argv[1:])
