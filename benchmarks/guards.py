"""``python -m benchmarks.guards``: what the guards of objects cost a lane, in instructions counted by callgrind.

The same lane runs with the guards and from a copy of the sources in which they are left out, for no time and for
SECONDS, so that start and compilation fall out. Writes results/guards.json, of which ``make tables`` makes a row. By
hand: a count takes minutes, most of which compile the copy.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.instructions import COUNTED, ENVIRONMENT
from benchmarks.works import ROOT

RESULT = ROOT / "results" / "guards.json"
GUARDS = Path("fastalloc/kernels/alloc/guards.py")
SECONDS = 2.0
MEMORY_MB = 64  # small, so that it swaps within SECONDS
MOST_S = 600  # of a count
LANE = """
import sys
from benchmarks.lanes import FAST_DISK, of_memory, scenario
from fastalloc.batch import check_sound, result_of
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.machine.run import run_lane
wanted = scenario("fix", FAST_DISK | {"policy.allocator": sys.argv[2], "run.duration_s": 60.0})
arrays = build_lane(of_memory(wanted, int(sys.argv[3])), 0, 1)
run_lane(*arrays, 0)
run_lane(*arrays, round(float(sys.argv[1]) * 1e9))
check_sound(0, arrays)
metrics = dict(zip(METRIC.names, result_of(0, arrays).metrics.tolist()))
print(metrics["slab_fast"] + metrics["slab_slow"], metrics["pages_swapped_out"])
"""


def without_guards(text: str) -> str:
    """The module with objects handed on as they are."""
    head, taken = text.split("@folded\ndef checked_alloc(")
    _, given = taken.split("@folded\ndef checked_free(")
    assert "note_broken" in given
    return head + (
        "@folded\ndef checked_alloc(mem, heap, c, cpu, gfp, context):\n"
        "    return policed_alloc(mem, heap, c, cpu, gfp, context)\n\n\n"
        "@folded\ndef checked_free(mem, heap, c, cpu, handle):\n"
        "    kmem_cache_free(mem, heap, c, cpu, handle)\n"
    )


def count(source: Path, seconds: float, allocator: str, cache: Path) -> tuple[int, list[int]]:
    """Instructions of a lane from the sources, and what it did: objects taken, pages swapped out."""
    own = {"PYTHONPATH": f"{source}:{ROOT}", "NUMBA_CACHE_DIR": str(cache)}
    environment = os.environ | ENVIRONMENT | own
    command = [sys.executable, "-c", LANE, str(seconds), allocator, str(MEMORY_MB)]
    subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True)  # compiles what it must
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={Path(folder) / 'out'}"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", out, *command], check=True, env=environment, cwd=ROOT,
            capture_output=True, text=True, timeout=MOST_S,
        )  # fmt: skip
    found = COUNTED.search(done.stderr)
    if found is None:
        raise SystemExit(f"callgrind counted nothing: {done.stderr[-500:]}")
    return int(found[1]), [int(word) for word in done.stdout.split()]


def cost(allocator: str, seconds: float) -> dict[str, Any]:
    """What the guards cost lanes of an allocator."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "src"
        shutil.copytree(ROOT / "src", bare)
        (bare / GUARDS).write_text(without_guards((bare / GUARDS).read_text()))
        figures = {}
        for name, source in (("with", ROOT / "src"), ("without", bare)):
            cache = Path(folder) / name
            cache.mkdir(mode=0o700)
            idle, _ = count(source, 0, allocator, cache)
            busy, did = count(source, seconds, allocator, cache)
            figures[name] = busy - idle, did
    (guarded, did), (plain, same) = figures["with"], figures["without"]
    assert did == same, "the guards changed what a lane does"
    objects, pages = did
    found = {"seconds": seconds, "memory_mb": MEMORY_MB, "objects": objects, "pages_swapped_out": pages}
    return found | {"instructions": guarded, "without_guards": plain, "share": round(guarded / plain - 1, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("allocators", nargs="*", default=["slub"])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="simulated")
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON file; what it tells of others is kept")
    options = parser.parse_args()
    for allocator in options.allocators:
        kept = json.loads(options.out.read_text()) if options.out.exists() else {}
        kept[allocator] = found = cost(allocator, options.seconds)
        options.out.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"{allocator}: {found}", flush=True)


if __name__ == "__main__":
    main()
