"""``python -m benchmarks.guards``: what the guards of objects cost a lane, in instructions counted by callgrind.

The same lane runs with the guards and from a copy of the sources in which they are left out; only its run from the boot
to its end is counted. Writes results/guards.json, which the documentation cites. By hand: it takes minutes, most of
which compile the copy.
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

from benchmarks.instructions import COUNTED, ENVIRONMENT, VALGRIND
from benchmarks.works import ROOT

RESULT = ROOT / "results" / "guards.json"
GUARDS = Path("fastalloc/kernels/alloc/guards.py")
LOADS = {"small": (64, 2.0), "full": (512, 20.0)}  # MB of the machine, seconds simulated: each swaps within them
MOST_S = 600  # of a count
LANE = """
import sys
from benchmarks.instructions import counting
from benchmarks.lanes import FAST_DISK, of_memory, scenario
from fastalloc.batch import check_sound, result_of
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.machine.run import run_lane
wanted = scenario("fix", FAST_DISK | {"policy.allocator": sys.argv[2], "run.duration_s": 60.0})
arrays = build_lane(of_memory(wanted, int(sys.argv[3])), 0, 1)
run_lane(*arrays, 0)
counting("on")
run_lane(*arrays, round(float(sys.argv[1]) * 1e9))
counting("off")
check_sound(0, arrays)
metrics = dict(zip(METRIC.names, result_of(0, arrays).metrics.tolist()))
print(metrics["slab_fast"] + metrics["slab_slow"], metrics["pages_swapped_out"])
"""


def without_guards(text: str) -> str:
    """The module with objects handed on as they are."""
    head, taken = text.split("@folded\ndef _checked_alloc(")
    given, tail = taken.split("@by_heap(lambda mem, heap, c, cpu, gfp, context: _checked_alloc(")
    assert given.count("note_broken") == 2, "both guards lie between"
    return (
        f"{head}@folded\ndef _checked_alloc(mem, heap, c, cpu, gfp, context):\n"
        "    handle = policed_alloc(mem, heap, c, cpu, gfp, context)\n"
        "    if 0 <= handle < st.PAGE_HANDLE:\n"
        "        mem.ctl[MEMCTL.granted] = owner_and_depth(heap, handle)\n"
        "    return handle\n\n\n"
        "@folded\ndef _checked_free(mem, heap, c, cpu, handle):\n"
        "    kmem_cache_free(mem, heap, c, cpu, handle)\n\n\n"
        f"@by_heap(lambda mem, heap, c, cpu, gfp, context: _checked_alloc({tail}"
    )


def count(source: Path, load: str, allocator: str, cache: Path) -> tuple[int, list[int]]:
    """Instructions of a lane from the sources, and what it did: objects taken, pages swapped out."""
    own = {"PYTHONPATH": f"{source}:{ROOT}", "NUMBA_CACHE_DIR": str(cache)}
    environment = os.environ | ENVIRONMENT | own
    memory_mb, seconds = LOADS[load]
    command = [sys.executable, "-c", LANE, str(seconds), allocator, str(memory_mb)]
    subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True)  # compiles what it must
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={Path(folder) / 'out'}"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--instr-atstart=no", out, *command], check=True, cwd=ROOT,
            env=environment | {VALGRIND: "1"}, capture_output=True, text=True, timeout=MOST_S,
        )  # fmt: skip
    found = COUNTED.search(done.stderr)
    if found is None:
        raise SystemExit(f"callgrind counted nothing: {done.stderr[-500:]}")
    return int(found[1]), [int(word) for word in done.stdout.split()]


def cost(allocator: str, load: str) -> dict[str, Any]:
    """What the guards cost a lane of an allocator under a load."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "src"
        shutil.copytree(ROOT / "src", bare)
        (bare / GUARDS).write_text(without_guards((bare / GUARDS).read_text()))
        figures = {}
        for name, source in (("with", ROOT / "src"), ("without", bare)):
            cache = Path(folder) / name
            cache.mkdir(mode=0o700)
            figures[name] = count(source, load, allocator, cache)
    (guarded, did), (plain, same) = figures["with"], figures["without"]
    assert did == same, "the guards changed what a lane does"
    objects, pages = did
    memory_mb, seconds = LOADS[load]
    found = {"seconds": seconds, "memory_mb": memory_mb, "objects": objects, "pages_swapped_out": pages}
    share = round(100 * (guarded / plain - 1), 3)
    return found | {"instructions": guarded, "without_guards": plain, "share_pct": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("allocators", nargs="*", default=["slub"])
    parser.add_argument("--loads", nargs="*", choices=LOADS, default=list(LOADS))
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON file; what it tells of others is kept")
    options = parser.parse_args()
    for allocator in options.allocators:
        for load in options.loads:
            found = cost(allocator, load)
            kept = json.loads(options.out.read_text()) if options.out.exists() else {}
            kept.setdefault(allocator, {})[load] = found
            options.out.write_text(json.dumps(kept, indent=1) + "\n")
            print(f"{allocator}, {load}: {found}", flush=True)


if __name__ == "__main__":
    main()
