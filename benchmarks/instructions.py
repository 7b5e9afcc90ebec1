"""Instructions an event, counted by callgrind: exact, and the same on a busy machine."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Row, figure
from benchmarks.own_policy import POLICIES
from benchmarks.twin import KernelRun, TwinRun, Work
from benchmarks.works import ERAS, synthetic
from fastalloc.own.compiled import own_policy

QUESTION = "How many instructions does an event take in the kernel and in the C twin (callgrind; both without AVX-512)?"
NAME = "random"
OWN_ERA = "7.3"
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
VALGRIND = "FASTALLOC_UNDER_VALGRIND"  # in the environment of a process that is counted
NOTHING = "nothing"
COUNTED = re.compile(r"Collected : (\d+)")


def rounds(name: str, era: str, counted: str) -> None:
    """Prepare ROUNDS runs of the contestant ``counted``, and do them while instructions are counted."""
    small, work = synthetic(name, era, 100), synthetic(name, era, ROWS)
    contestants: dict[str, Callable[[Work], KernelRun | TwinRun]] = {"kernel": KernelRun, "C twin": TwinRun}
    if counted in POLICIES:
        policy = own_policy(POLICIES[counted], counted)
        contestants[counted] = lambda work: KernelRun(work, policy)
    for each in contestants.values():
        each(small).run()  # loaded, and not counted
    make = contestants.get(counted)
    ready = [make(work) for _ in range(ROUNDS)] if make else []
    counting("on")
    for prepared in ready:
        prepared.run()
    counting("off")


def counting(instructions: str) -> None:
    """Switch callgrind "on" or "off" for this process; what is compiled and prepared before is not counted."""
    if VALGRIND in os.environ:
        subprocess.run(
            ["callgrind_control", f"--instr={instructions}", str(os.getpid())], check=True, capture_output=True
        )


def count(name: str, era: str, counted: str) -> int:
    """Instructions of the rounds, and of the switch."""
    command = [sys.executable, "-m", "benchmarks.instructions", name, era, counted]
    environment = os.environ | ENVIRONMENT
    subprocess.run(command, check=True, env=environment)  # compiles what it must
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={Path(folder) / 'out'}"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--instr-atstart=no", out, *command],
            check=True,
            env=environment | {VALGRIND: "1"},
            capture_output=True,
            text=True,
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
        nothing = count(NAME, era, NOTHING)
        counted = ("C twin", "kernel", *(POLICIES if era == OWN_ERA else []))
        each = {name: (count(NAME, era, name) - nothing) / ROUNDS / ROWS for name in counted}
        for name in counted:
            other = {"C twin": "", "kernel": "C twin"}.get(name, "kernel")
            row = figure(f"{NAME} {era}", name, [each[name]], "instructions/event")
            ratio = each[other] / each[name] if other else None
            yield replace(row, versus=other, ratio=ratio, ratio_low=ratio, ratio_high=ratio)


if __name__ == "__main__":
    rounds(*sys.argv[1:])
