"""Instructions an event, counted by callgrind: exact, and the same on a busy machine."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Row, figure
from benchmarks.twin import KernelRun, TwinRun
from benchmarks.works import ERAS, synthetic

QUESTION = "How many instructions does an event take in the kernel and in the C twin (callgrind; both without AVX-512)?"
NAME = "random"
ROWS = 1 << 16
ROUNDS = 32
# valgrind knows no AVX-512, so both are built for a CPU without it.
ENVIRONMENT = {
    "NUMBA_CPU_NAME": "x86-64-v3",
    "NUMBA_CPU_FEATURES": "",
    "FASTALLOC_TWIN_ARCH": "x86-64-v3",
    "PYTHONHASHSEED": "0",
    # threads that wait in a loop would be counted
    "POLARS_MAX_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
COUNTED = re.compile(r"Collected : (\d+)")


def rounds(name: str, era: str, kernel: int, twin: int) -> None:
    """Prepare ROUNDS runs of each contestant and do as many as asked: what a counted process does."""
    small, work = synthetic(name, era, 100), synthetic(name, era, ROWS)
    for make in (KernelRun, TwinRun):
        make(small).run()  # loaded, and not counted
    for make, wanted in ((KernelRun, kernel), (TwinRun, twin)):
        ready = [make(work) for _ in range(ROUNDS)]
        for prepared in ready[:wanted]:
            prepared.run()


def count(name: str, era: str, kernel: int, twin: int) -> int:
    """Instructions of such a process."""
    command = [sys.executable, "-m", "benchmarks.instructions", name, era, str(kernel), str(twin)]
    environment = os.environ | ENVIRONMENT
    subprocess.run(command, check=True, env=environment)  # compiles what it must
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={Path(folder) / 'out'}"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", out, *command], check=True, env=environment, capture_output=True, text=True
        )
    found = COUNTED.search(done.stderr)
    if found is None:
        raise SystemExit(f"callgrind counted nothing: {done.stderr[-500:]}")
    return int(found[1])


def run(quick: bool) -> Iterator[Row]:
    """A row for each work and contestant; none without valgrind."""
    if shutil.which("valgrind") is None:
        return
    for era in ERAS[:1] if quick else ERAS:
        neither = count(NAME, era, 0, 0)
        twin = (count(NAME, era, 0, ROUNDS) - neither) / ROUNDS / ROWS
        kernel = (count(NAME, era, ROUNDS, 0) - neither) / ROUNDS / ROWS
        yield figure(f"{NAME} {era}", "C twin", [twin], "instructions/event")
        row = figure(f"{NAME} {era}", "kernel", [kernel], "instructions/event")
        yield replace(row, versus="C twin", ratio=twin / kernel, ratio_low=twin / kernel, ratio_high=twin / kernel)


if __name__ == "__main__":
    rounds(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
