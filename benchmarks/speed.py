"""Measures how fast fastalloc is and writes ``results/benchmarks/speed.md``.

Usage: python benchmarks/speed.py [--quick]

Each row is the median of several runs on one thread, but for the last, which uses all CPUs. Times are wall-clock; a
real-time factor is simulated over wall-clock time.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from fastalloc.batch import run_lanes
from fastalloc.kernels.names import METRICS
from fastalloc.scenario import Scenario, load_scenario
from fastalloc.store.provenance import model_digest
from fastalloc.store.write import write_file

OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "speed.md"
FIRST_TICK = """
import fastalloc
from fastalloc.batch import run_lanes
scenario = fastalloc.load_scenario("swap-livelock").variant("rc8").with_settings({"run.duration_s": 0.01})
list(run_lanes(scenario, [0], seed=1, threads=1))
"""
LOCK_SEARCH = 64  # lanes looked at for one that livelocks early and to the end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one run of each instead of five, shorter lanes")
    quick = parser.parse_args().quick
    repeat = 1 if quick else 5
    rows = [
        ("`fastalloc --help`", seconds(_median(lambda: _command("-m", "fastalloc.cli.main", "--help"), repeat))),
        ("first call: interpreter start to first tick, compiling", seconds(_cold())),
        ("second start: interpreter start to first tick", seconds(_median(lambda: _command("-c", FIRST_TICK), repeat))),
    ]
    scenario = load_scenario("swap-livelock")
    loaded = scenario.variant("fix").with_settings({"run.duration_s": 60 if quick else 600})
    rows += _lane_rows("full disk load (fix), one thread", loaded, 0, repeat)
    # one writer that starts in the second half of a month
    idle = scenario.variant("fix").with_settings(
        {"run.duration_s": 3600, "workload.copiers": 0, "workload.writers": 1, "workload.start_spread_ms": 1 << 31}
        | {"workload.atomic_objects_per_s": 0, "workload.atomic_pages_per_s": 0}
    )
    rows += _lane_rows("idle, one thread", idle, 0, repeat)
    lane = _locked_lane(scenario)
    if lane is not None:
        rows += _locked_rows(scenario, lane, repeat)
    rows += _all_threads(scenario, quick)
    _show(rows, quick)


def _lane_rows(what: str, scenario: Scenario, lane: int, repeat: int) -> list[tuple[str, str]]:
    wall, metrics = _lane(scenario, lane, repeat)
    return [
        (f"{what}: real-time factor", f"{metrics['sim_ms'] / 1000 / wall:,.0f} x"),
        (f"{what}: CPU-ticks a second", f"{metrics['cpu_ticks'] / wall:,.0f}"),
        (f"{what}: pages copied or swapped a second", f"{_pages(metrics) / wall:,.0f}"),
    ]


def _locked_rows(scenario: Scenario, lane: int, repeat: int) -> list[tuple[str, str]]:
    """The rate inside the livelock: a long run less the run up to the end of the search."""
    rc8 = scenario.variant("rc8")
    short, first = _lane(rc8, lane, repeat)
    long, second = _lane(rc8.with_settings({"run.duration_s": rc8.run.duration_s + 3600}), lane, repeat)
    if not second["livelock_open"]:
        return []
    factor = (second["sim_ms"] - first["sim_ms"]) / 1000 / max(long - short, 1e-9)
    return [("livelocked (rc8), one thread: real-time factor", f"{factor:,.0f} x")]


def _all_threads(scenario: Scenario, quick: bool) -> list[tuple[str, str]]:
    own = scenario.variant("fix").with_settings({"run.duration_s": 60})
    lanes = range(8 if quick else 32)
    begun = time.perf_counter()
    results = list(run_lanes(own, lanes, seed=1))
    wall = time.perf_counter() - begun
    simulated = sum(int(result.metrics[METRICS.index("sim_ms")]) for result in results) / 1000
    return [(f"full disk load (fix), {len(lanes)} lanes, all CPUs: real-time factor", f"{simulated / wall:,.0f} x")]


def _locked_lane(scenario: Scenario) -> int | None:
    rc8 = scenario.variant("rc8")
    for result in run_lanes(rc8, range(LOCK_SEARCH), seed=1):
        metrics = dict(zip(METRICS, result.metrics.tolist(), strict=True))
        if metrics["livelock_open"] and metrics["livelock_ms"] > 20_000:
            return result.lane
    return None


def _lane(scenario: Scenario, lane: int, repeat: int) -> tuple[float, dict[str, int]]:
    """Median wall-clock seconds of a lane on one thread, and its metrics."""
    metrics: dict[str, int] = {}

    def once() -> None:
        (result,) = run_lanes(scenario, [lane], seed=1, threads=1)
        metrics.update(zip(METRICS, result.metrics.tolist(), strict=True))

    once()  # compiled and in the caches
    return _median(once, repeat), metrics


def _pages(metrics: dict[str, int]) -> int:
    return metrics["pages_copied"] + metrics["pages_swapped_out"]


def _cold() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return _median(lambda: _command("-c", FIRST_TICK, NUMBA_CACHE_DIR=folder), 1)


def _command(*arguments: str, **environment: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, env=os.environ | environment, stdout=subprocess.DEVNULL)


def _median(call: Callable[[], None], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def _show(rows: list[tuple[str, str]], quick: bool) -> None:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    text = f"Made by `make bench{' ARGS=--quick' if quick else ''}` on {os.cpu_count()} CPUs ({cpu}), "
    text += f"Python {platform.python_version()}, model `{model_digest()[:12]}`.\n\n| what | figure |\n|---|---:|\n"
    text += "".join(f"| {what} | {figure} |\n" for what, figure in rows)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    write_file(OUT, text.encode())
    Console(highlight=False).print(text, markup=False, soft_wrap=True)
    print(OUT)


if __name__ == "__main__":
    main()
