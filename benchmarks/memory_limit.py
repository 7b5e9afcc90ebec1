"""What would the memory alone allow? Bytes that an event touches, against the bandwidth and latency measured here."""

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Row, figure, race, rate
from benchmarks.twin import KernelRun
from benchmarks.works import ERAS, RUNS, SYNTHETIC_ROWS, recorded, synthetic
from fastalloc.compiler.jit import kernel
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, SLUB_CTL, SLUB_SLAB
from fastalloc.trace.compact import compact as co

QUESTION = "How near does the replay come to what bandwidth and latency of this machine's memory allow?"
LINE = 64
STREAM_BYTES = 1 << 28
CHASE_BYTES = 1 << 27
STEPS = 1 << 20


@kernel
def total(array):
    """Sum of an array: reads every byte once, in order."""
    found = 0
    for i in range(array.shape[0]):
        found += array[i]
    return found


@kernel
def chase(following, steps):
    """Follow a chain: each load waits for the one before."""
    i = 0
    for _ in range(steps):
        i = following[i]
    return i


def bandwidth() -> float:
    """Bytes a second of one core reading in order."""
    array = np.ones(STREAM_BYTES // 8, np.int64)
    total(array)
    begun = time.perf_counter()
    total(array)
    return STREAM_BYTES / (time.perf_counter() - begun)


def latency(size: int) -> float:
    """Seconds a dependent load takes in ``size`` bytes, a cache line each, in random order."""
    lines = size // LINE
    order = np.random.default_rng(1).permutation(lines)
    following = np.zeros(size // 8, np.int64)
    following[order * (LINE // 8)] = np.roll(order, -1) * (LINE // 8)
    chase(following, STEPS)
    begun = time.perf_counter()
    chase(following, STEPS)
    return (time.perf_counter() - begun) / STEPS


def touched(run: KernelRun) -> int:
    """Bytes of all that a replay touches: its events once in order, the rest is its working set."""
    slabs = int(run.slub.ctl[SLUB_CTL.slab_top])
    used = run.slub.kcpu[:, :, KMEM_CACHE_CPU.stats[:]].any(axis=2).sum()
    return int(
        run.lane.handle.nbytes
        + slabs * run.slub.slab.itemsize * SLUB_SLAB.width
        + run.slub.ctl[SLUB_CTL.link_top] * run.slub.link.itemsize
        + used * run.slub.kcpu.itemsize * KMEM_CACHE_CPU.width
    )


def run(quick: bool) -> Iterator[Row]:
    """Bandwidth, latency, and for each work: its working set, and the rate that the events' bytes alone allow."""
    repeats = 3 if quick else 7
    bytes_a_second = [bandwidth() for _ in range(repeats)]
    yield figure("stream", "one core, reading", [value / 1e9 for value in bytes_a_second], "GB/s")
    for size, name in ((1 << 15, "32 KiB"), (1 << 19, "512 KiB"), (1 << 23, "8 MiB"), (CHASE_BYTES, "128 MiB")):
        yield figure("latency", f"load in {name}", [latency(size) * 1e9 for _ in range(repeats)], "ns")
    works = [recorded(RUNS[0], era) for era in ERAS] + [
        synthetic(n, ERAS[1], SYNTHETIC_ROWS) for n in ("stack", "large")
    ]
    for work in works:
        if work is None:
            continue
        done = KernelRun(work)
        done.run()
        yield figure(work.name, "working set", [touched(done) / 2**20], "MiB")
        limit = float(np.median(bytes_a_second)) / co.EVENT.itemsize
        yield figure(work.name, "limit: events streamed once", [limit], "events/s")
        times = race({"kernel": lambda work=work: KernelRun(work).run}, repeats)
        yield rate(work.name, "kernel", times, len(work.events), "events/s")
