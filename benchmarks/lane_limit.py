"""What would the memory alone allow a lane under full load? Misses that callgrind counts, times their latency."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from benchmarks.instructions import ENVIRONMENT, VALGRIND
from benchmarks.measure import Row, figure, latest
from benchmarks.works import ROOT

QUESTION = (
    "How many instructions does a page cost under full load, how often does it miss a cache of 512 KiB, and how fast "
    "would a lane be that did nothing but wait for these misses (a load in 8 MiB of `memory_limit` each)?"
)
LOADS = {"full load, 8 MB/s, 1 CPUs": "slow", "full load, 50 MB/s, 2 CPUs": "fast"}
CACHE = ["--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=524288,8,64"]
SECONDS = 20  # simulated, from the second 20 on, when memory is full
LANE = """
import sys
from benchmarks.instructions import counting
from benchmarks.lanes import FAST_DISK, scenario
from fastalloc.batch import check_sound, result_of
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.machine.run import run_lane

def pages():
    metrics = dict(zip(METRIC.names, result_of(0, arrays).metrics.tolist()))
    return metrics["pages_copied"] + metrics["pages_swapped_out"]

settings = {"slow": {"machine.cpus": 1}, "fast": FAST_DISK}[sys.argv[1]]
seconds = int(sys.argv[2])
arrays = build_lane(scenario("fix", settings | {"run.duration_s": 2.0 * seconds}), 0, 1)
run_lane(*arrays, seconds * 10**9)
before = pages()
counting("on")
run_lane(*arrays, 2 * seconds * 10**9)
counting("off")
check_sound(0, arrays)
print(pages() - before)
"""
COUNTED = re.compile(r"Collected : ([\d ]+)")


def run(quick: bool) -> Iterator[Row]:
    """Each load; the limit where a latency was kept."""
    for work, load in LOADS.items():
        instructions, misses, pages = count(load)
        yield figure(work, "instructions", [instructions / pages], "a page copied or swapped")
        yield figure(work, "misses of 512 KiB", [misses / pages], "a page copied or swapped")
        latency = latest("memory_limit")
        if latency is not None:
            row = latency.row(by_predicate=pl.col("contestant") == "load in 8 MiB", named=True)
            factors = [SECONDS / (misses * row[name] * 1e-9) for name in ("low", "value", "high")]
            yield figure(work, "limit: its misses alone", factors, "x real time")
        if quick:
            return


def count(load: str) -> tuple[int, int, int]:
    """Instructions, misses of data in the last of two caches, and pages of SECONDS under a load."""
    command = [sys.executable, "-c", LANE, load, str(SECONDS)]
    environment = os.environ | ENVIRONMENT
    subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True)  # compiles what it must
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={Path(folder) / 'out'}"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--instr-atstart=no", *CACHE, out, *command], check=True, cwd=ROOT,
            env=environment | {VALGRIND: "1"}, capture_output=True, text=True,
        )  # fmt: skip
    found = COUNTED.search(done.stderr)
    if found is None:
        raise SystemExit(f"callgrind counted nothing: {done.stderr[-500:]}")
    counts = [int(word) for word in found[1].split()]  # Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw
    return counts[0], counts[7] + counts[8], int(done.stdout.split()[-1])
