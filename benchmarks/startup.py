"""How long until something happens: help, the first tick with and without compiled kernels, compilation by module."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.measure import Row, figure, seconds_of

QUESTION = "How long does one wait: for --help, for the first tick when kernels must be compiled, and when they are?"
FIRST_TICK = """
import fastalloc
from fastalloc.batch import run_lanes
scenario = fastalloc.load_scenario("swap-livelock").variant("rc8").with_settings({"run.duration_s": 0.01})
(result,) = run_lanes(scenario, [0], seed=1, threads=1)
print(result.metrics.tolist())
"""
SECOND = {  # allocators, once a machine with SLUB was compiled
    name: FIRST_TICK.replace('"run.duration_s"', f'"policy.allocator": "{name}", "run.duration_s"')
    for name in ("slab", "slob", "sheaves")
}
BY_MODULE = (
    """
import json
from collections import Counter
import fastalloc.compiler.jit
from numba.core import event

recorder = event.RecordingListener()
event.register("numba:compile", recorder)
"""
    + FIRST_TICK.replace("print", "str")
    + """
seconds, stack = Counter(), []
for when, found in recorder.buffer:
    if found.is_start:
        stack.append([when, 0.0])
    elif stack:
        begun, inner = stack.pop()
        seconds[found.data["dispatcher"].py_func.__module__.partition(".")[2]] += when - begun - inner
        if stack:
            stack[-1][1] += when - begun
print(json.dumps(seconds))
"""
)
LONGEST = 12  # modules shown


def python(code: str, **environment: str) -> str:
    """What a new interpreter prints, which finds bytecode as that of an installed package does."""
    command = [sys.executable, "-c", code]
    surroundings = os.environ | environment
    surroundings.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run(command, check=True, env=surroundings, capture_output=True, text=True).stdout


def run(quick: bool) -> Iterator[Row]:
    """Seconds, of processes of their own; compiled cold and warm the first tick is the same."""
    repeats = 2 if quick else 7
    with tempfile.TemporaryDirectory() as cold, tempfile.TemporaryDirectory() as again:
        first = python(FIRST_TICK, NUMBA_CACHE_DIR=cold)
        if python(FIRST_TICK, NUMBA_CACHE_DIR=cold) != first:
            raise SystemExit("kernels loaded from the cache and kernels compiled now disagree")
        folders = [again] if quick else [again, *(tempfile.mkdtemp(dir=again) for _ in range(2))]
        waits = [seconds_of(lambda folder=folder: python(FIRST_TICK, NUMBA_CACHE_DIR=folder)) for folder in folders]
        yield figure("interpreter start to first tick", "compiling", waits, "s")
        for name, code in [] if quick else SECOND.items():
            wait = seconds_of(lambda code=code: python(code, NUMBA_CACHE_DIR=again))
            yield figure("interpreter start to first tick", f"compiling {name} as well", [wait], "s")
        warm = [seconds_of(lambda: python(FIRST_TICK, NUMBA_CACHE_DIR=cold)) for _ in range(repeats)]
        yield figure("interpreter start to first tick", "compiled", warm, "s")
    help_ = [sys.executable, "-m", "fastalloc.cli.main", "--help"]
    waits = [seconds_of(lambda: subprocess.run(help_, check=True, stdout=subprocess.DEVNULL)) for _ in range(repeats)]
    yield figure("fastalloc --help", "whole process", waits, "s")
    with tempfile.TemporaryDirectory() as folder:
        seconds = json.loads(python(BY_MODULE, NUMBA_CACHE_DIR=folder))
    for module, spent in sorted(seconds.items(), key=lambda item: -item[1])[:LONGEST]:
        yield figure("compiling, without callees", module, [spent], "s")
