"""What grows with what: threads, lanes, caches, simulated memory, the series; peak memory a lane."""

import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.lanes import of_memory, scenario, timed
from benchmarks.measure import Row, figure, race, rate
from benchmarks.twin import KernelRun
from benchmarks.works import SYNTHETIC, synthetic
from fastalloc.batch import run_lanes
from fastalloc.batch.lane import build_lane

QUESTION = (
    "How does speed change with threads, lanes, caches, memory and the series, and how much memory does a lane take?"
)
RESIDENT = """
from benchmarks.lanes import scenario
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.machine.run import run_lane

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

held = []
sizes = []
for lane in range(9):
    held.append(build_lane(scenario(), lane, 1))
    run_lane(*held[-1], 60_000_000_000)
    sizes.append(resident())
print((sizes[-1] - sizes[0]) // 8, sizes[0])
"""


def run(quick: bool) -> Iterator[Row]:
    """Threads first checked to give equal results."""
    repeats = 3 if quick else 7
    yield from threads(repeats, 5 if quick else 120)
    seconds = 5 if quick else 60
    for series_ms in (10, 250, 60_000):
        wanted = scenario("fix", {"run.series_ms": series_ms, "run.duration_s": seconds})
        factors = [seconds / timed(wanted, 0, seconds)[0] for _ in range(repeats)]
        yield figure(f"series every {series_ms} ms", "one lane", factors, "x real time")
    yield from memory()
    rest = SYNTHETIC["random"][1:]
    for many in (1, 8, 64, 512):
        SYNTHETIC[f"{many} caches"] = (many, *rest)
        work = synthetic(f"{many} caches", "cpu-partial", 1 << 16 if quick else 1 << 20)
        del SYNTHETIC[f"{many} caches"]
        times = race({"kernel": lambda work=work: KernelRun(work).run}, repeats)
        yield rate(f"replay, {many} caches", "kernel", times, len(work.events), "events/s")


def threads(repeats: int, seconds: float) -> Iterator[Row]:
    """Lanes on one thread and on two, in turn: so many that the last ones do not decide."""
    wanted = scenario("fix", {"run.duration_s": seconds})
    lanes = range(32)

    def metrics(count: int) -> list[list[int]]:
        return [result.metrics.tolist() for result in run_lanes(wanted, lanes, seed=1, threads=count)]

    if metrics(1) != metrics(2):
        raise SystemExit("two threads changed a result")
    times = race({"1 thread": lambda: lambda: metrics(1), "2 threads": lambda: lambda: metrics(2)}, repeats)
    work = f"{len(lanes)} lanes of {seconds:.0f} s"
    yield rate(work, "1 thread", times, seconds * len(lanes), "x real time")
    yield rate(work, "2 threads", times, seconds * len(lanes), "x real time", "1 thread")


def memory() -> Iterator[Row]:
    """Bytes of a lane's arrays, seconds to set one up, and what a process grows by with each lane."""
    for mebibytes in (256, 512, 2048, 8192):
        wanted = of_memory(scenario(), mebibytes)
        begun = time.perf_counter()
        arrays = build_lane(wanted, 0, 1)
        took = time.perf_counter() - begun
        size = sum(array.nbytes for group in arrays for array in group if isinstance(array, np.ndarray))
        yield figure(f"lane of {mebibytes} MB", "its arrays", [size / 2**20], "MiB")
        yield figure(f"lane of {mebibytes} MB", "set up", [took], "s")
    command = [sys.executable, "-c", RESIDENT]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lane, process = map(int, done.stdout.split())
    yield figure("each further lane of 512 MB", "resident after a minute", [lane / 2**20], "MiB")
    yield figure("one lane of 512 MB", "resident, whole process", [process / 2**20], "MiB")
