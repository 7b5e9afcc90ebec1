"""How many operations a second inside the kernel that replays golden cases, one core, each allocator?"""

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, figure
from fastalloc.kernels.replay import operations as rp
from fastalloc.verify.golden import lane_of, verify_build
from fastalloc.verify.golden_case import GoldenCase, read_case

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data" / "golden" / "io_1m"
QUESTION = "How many operations a second does the kernel of the golden cases run, for each allocator?"


def kernel_seconds(case: GoldenCase, build: str) -> float:
    """Seconds inside the kernel for one replay of the whole trace; no reading, set-up, checkpoints or comparing."""
    lane = lane_of(case, build)(1 << 16)
    lane.setup()
    lane.limit_memory()
    trace, play = case.trace, lane.play
    seconds = 0.0
    row = 0
    while row < case.rows:
        begun = time.perf_counter()
        row = rp.replay(lane.mem, lane.heap, lane.pools, trace, play, row, case.rows)
        seconds += time.perf_counter() - begun
        if row < case.rows:
            if trace.op[row] != rp.OP_CKPT:
                raise SystemExit("the benchmark takes cases without CREATE and DESTROY")
            row += 1
    return seconds


def run(quick: bool) -> Iterator[Row]:
    """A row for each allocator; every table of the case must be exact first."""
    if not SHARED.exists():
        return
    case = read_case(SHARED)
    for build in ("slub64", "slab64", "slob64"):
        if not verify_build(case, build).ok:
            raise SystemExit(f"{case.name} {build}: not exact")
        rates = [case.rows / kernel_seconds(case, build) for _ in range(2 if quick else 7)]
        yield figure(case.name, build, rates, "operations/s")
