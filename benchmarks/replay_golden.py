"""Operations per second inside the replay kernel, one core, for each allocator, on the case ``io_1m``.

    python benchmarks/replay_golden.py [CASE] [--builds slub64,slab64,slob64] [--repeats 7] [--json]

CASE defaults to ``io_1m`` of the shared data folder beside the repository. Only the time inside the kernel counts: no
reading, no set-up, no checkpoints, no comparing. The best of the repeats is the figure; the median is beside it.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from fastalloc.kernels import replay as rp
from fastalloc.trace.golden import GoldenCase, read_case
from fastalloc.verify.golden import lane_of

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "golden" / "io_1m"


def kernel_seconds(case: GoldenCase, build: str) -> float:
    """Seconds inside the kernel for one replay of the whole trace."""
    lane = lane_of(case, build)(1 << 16)
    lane.setup()
    lane.limit_memory()
    trace, play = case.trace, lane.play
    seconds = 0.0
    row = 0
    while row < case.rows:
        start = time.perf_counter()
        row = rp.replay(lane.mem, lane.heap, lane.pools, trace, play, row, case.rows)
        seconds += time.perf_counter() - start
        if row < case.rows:
            if trace.op[row] != rp.OP_CKPT:
                raise SystemExit("the benchmark takes cases without CREATE and DESTROY")
            row += 1
    return seconds


def main() -> None:
    """Print a line a build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--builds", default="slub64,slab64,slob64")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    case = read_case(options.case)
    rows = []
    for build in options.builds.split(","):
        kernel_seconds(case, build)  # compiles
        times = [kernel_seconds(case, build) for _ in range(options.repeats)]
        best, median = case.rows / min(times) / 1e6, case.rows / statistics.median(times) / 1e6
        rows.append({"case": case.name, "build": build, "operations": case.rows, "best": best, "median": median})
        if not options.json:
            print(f"{case.name} {build}: {best:.1f} M operations/s best, {median:.1f} median of {options.repeats}")
    if options.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
