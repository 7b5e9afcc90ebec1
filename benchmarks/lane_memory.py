"""What a lane takes: its arrays, what a process grows by, and which arrays are written."""

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.lanes import of_memory, scenario
from benchmarks.measure import Row, figure
from benchmarks.resident import resident
from fastalloc.batch.heap import build_layout
from fastalloc.batch.lane import build_lane
from fastalloc.batch.snapshot import named_arrays, take
from fastalloc.kernels.lane.state import NS_PER_S
from fastalloc.kernels.machine.run import run_lane

QUESTION = (
    "How much memory does a lane take, which of its arrays take it under full load (8 MB/s, 2 CPUs), and how long is "
    "one set up, and copied?"
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
MINUTES = (0, 1, 20)  # simulated, at which a lane is looked at
SHOWN = 1 << 16  # bytes from which on an array has a row


def run(quick: bool) -> Iterator[Row]:
    """By memory of the machine; then array by array."""
    yield from sizes(3 if quick else 15)
    yield from further()
    wanted = scenario("fix", {"run.duration_s": 60.0 * MINUTES[-1]})
    arrays = build_lane(wanted, 0, 1)
    for minutes in MINUTES[:2] if quick else MINUTES:
        run_lane(*arrays, minutes * 60 * NS_PER_S)
        written = {name: resident(array) for name, array in named_arrays(arrays)}
        work = f"lane of 512 MB after {minutes} minutes"
        for name in sorted(written, key=lambda name: -written[name]):
            if written[name] >= SHOWN:
                yield figure(work, name, [written[name] / 2**20], "MiB")
        yield figure(work, "all arrays", [sum(written.values()) / 2**20], "MiB")


def sizes(repeats: int) -> Iterator[Row]:
    """Bytes of a lane's arrays, and seconds to set one up and to copy it, its caches laid out before."""
    for mebibytes in (256, 512, 2048, 8192):
        wanted = of_memory(scenario(), mebibytes)
        layout = build_layout(wanted)
        built, copied = [], []
        for _ in range(repeats):
            begun = time.perf_counter()
            arrays = build_lane(wanted, 0, 1, layout=layout)
            built.append(time.perf_counter() - begun)
            run_lane(*arrays, NS_PER_S)
            begun = time.perf_counter()
            take(0, arrays)
            copied.append(time.perf_counter() - begun)
        size = sum(array.nbytes for _, array in named_arrays(arrays))
        yield figure(f"lane of {mebibytes} MB", "its arrays", [size / 2**20], "MiB")
        yield figure(f"lane of {mebibytes} MB", "set up", [1000 * each for each in built], "ms")
        yield figure(f"lane of {mebibytes} MB", "a snapshot after 1 s", [1000 * each for each in copied], "ms")


def further() -> Iterator[Row]:
    """What a process grows by with each lane, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", RESIDENT], check=True, capture_output=True, text=True)
    lane, process = map(int, done.stdout.split())
    yield figure("each further lane of 512 MB", "resident after a minute", [lane / 2**20], "MiB")
    yield figure("one lane of 512 MB", "resident, whole process", [process / 2**20], "MiB")
