"""``python -m benchmarks.guards``: what the guards of objects cost a lane, in instructions counted by callgrind.

The same lane runs with the guards and from a copy of the sources in which they are left out, for no time and for
SECONDS, so that start and compilation fall out. By hand: a count takes minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.instructions import COUNTED, ENVIRONMENT
from benchmarks.works import ROOT

GUARDS = Path("fastalloc/kernels/alloc/guards.py")
SECONDS = 5
LANE = """
import sys
from benchmarks.lanes import FAST_DISK, scenario
from fastalloc.batch import result_of
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.machine.run import run_lane
arrays = build_lane(scenario("fix", FAST_DISK | {"policy.allocator": sys.argv[2], "run.duration_s": 60.0}), 0, 1)
run_lane(*arrays, 0)
run_lane(*arrays, round(float(sys.argv[1]) * 1e9))
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


def count(source: Path, seconds: float, allocator: str, cache: Path) -> tuple[int, str]:
    """Instructions of a lane from the sources, and what it did."""
    own = {"PYTHONPATH": f"{source}:{ROOT}", "NUMBA_CACHE_DIR": str(cache)}
    environment = os.environ | ENVIRONMENT | own
    command = [sys.executable, "-c", LANE, str(seconds), allocator]
    subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True)  # compiles what it must
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={Path(folder) / 'out'}"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", out, *command], check=True, env=environment, cwd=ROOT,
            capture_output=True, text=True,
        )  # fmt: skip
    found = COUNTED.search(done.stderr)
    if found is None:
        raise SystemExit(f"callgrind counted nothing: {done.stderr[-500:]}")
    return int(found[1]), done.stdout.strip()


def main() -> None:
    for allocator in sys.argv[1:] or ["slub"]:
        with tempfile.TemporaryDirectory() as folder:
            bare = Path(folder) / "src"
            shutil.copytree(ROOT / "src", bare)
            (bare / GUARDS).write_text(without_guards((bare / GUARDS).read_text()))
            figures = {}
            for name, source in (("with", ROOT / "src"), ("without", bare)):
                cache = Path(folder) / name
                cache.mkdir(mode=0o700)
                idle, _ = count(source, 0, allocator, cache)
                busy, did = count(source, SECONDS, allocator, cache)
                figures[name] = busy - idle, did
        (guarded, did), (plain, same) = figures["with"], figures["without"]
        assert did == same, "the guards changed what a lane does"
        print(f"{allocator}: {guarded:,} instructions, {plain:,} without guards: {guarded / plain - 1:+.2%}; {did}")


if __name__ == "__main__":
    main()
