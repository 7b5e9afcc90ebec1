"""The closed loop at every load: how much faster than the simulated machine, by CPUs and by memory?"""

from collections.abc import Iterator

from benchmarks.lanes import FAST_DISK, IDLE, locked_rates, of_memory, scenario, timed
from benchmarks.measure import Row, figure
from fastalloc.scenario import Scenario, load_scenario

QUESTION = (
    "How much faster than the simulated machine is one core, at which cost a CPU-tick and a swapped page: "
    "idle, half and full disk load, livelocked?"
)
LOADS = {
    "idle": IDLE,
    "half load, 50 MB/s": FAST_DISK | {"workload.writers": 1, "workload.copiers": 36},
    "full load, 8 MB/s": {},
    "full load, 50 MB/s": FAST_DISK,
}
IDLE_SECONDS = 36_000
BY_CPUS = ("idle", "half load, 50 MB/s", "full load, 8 MB/s")
CPUS = (1, 2, 4, 16, 64)
MEBIBYTES = (256, 512, 2048, 8192, 65536)
MOST_BYTES = 220  # of arrays a page of simulated memory, about
REPORTED_HOURS = 17


def check(wanted: Scenario) -> None:
    """Jumping over idle ticks changes no metric. Raises SystemExit if it does."""
    if timed(wanted, 0, 10)[1] != timed(wanted, 0, 10, skip=False)[1]:
        raise SystemExit("skipping idle ticks changed a result")


def rows(work: str, wanted: Scenario, seconds: float, repeats: int) -> Iterator[Row]:
    """Real-time factor, cost a CPU-tick, cost a swapped page."""
    runs = [timed(wanted, 0, seconds) for _ in range(repeats + 1)][1:]
    metrics = runs[0][1]
    busy = f"disk busy {100 * metrics['busy_ms'] // metrics['sim_ms']} %"
    yield figure(work, busy, [metrics["sim_ms"] / 1000 / wall for wall, _ in runs], "x real time")
    yield figure(work, busy, [1e9 * wall / metrics["cpu_ticks"] for wall, _ in runs], "ns/CPU-tick")
    if metrics["pages_swapped_out"]:
        yield figure(work, busy, [1e9 * wall / metrics["pages_swapped_out"] for wall, _ in runs], "ns/swapped page")
        pages = metrics["pages_swapped_out"] + metrics["pages_copied"]
        yield figure(work, busy, [1e9 * wall / pages for wall, _ in runs], "ns/page copied or swapped")


def run(quick: bool) -> Iterator[Row]:
    """Loads, loads by CPUs, memory, and the reporter's 17 hours."""
    repeats = 1 if quick else 5
    seconds = 20 if quick else 120
    for load, settings in LOADS.items():
        check(scenario("fix", settings))
        length = IDLE_SECONDS if load == "idle" else seconds
        for cpus in CPUS if load in BY_CPUS else (2,):
            wanted = scenario("fix", settings | {"machine.cpus": cpus, "run.duration_s": length})
            yield from rows(f"{load}, {cpus} CPUs, 512 MB", wanted, length, repeats)
    preset = load_scenario("swap-livelock").variant("rc8")  # on CPUs that take turns lanes lock within seconds
    for cpus in CPUS:
        wanted = preset.with_settings({"machine.cpus": cpus})
        locked, metrics = locked_rates(wanted, 90, 60 if quick else 3600, repeats)
        if locked:
            told = f"{metrics['sense_fail']:,} sense failures"
            yield figure(f"livelocked, {cpus} CPUs, 512 MB", told, locked, "x real time")
    for mebibytes in MEBIBYTES[:2] if quick else MEBIBYTES:
        if not _fits(mebibytes):
            continue
        wanted = of_memory(scenario("fix", {"run.duration_s": seconds}), mebibytes)
        yield from rows(
            f"same workload, 8 MB/s, 2 CPUs, {mebibytes} MB", wanted, seconds, 1 if mebibytes > 8192 else repeats
        )
    if not quick:
        yield from reported()


def reported() -> Iterator[Row]:
    """The reporter's run: 17 hours on 2 CPUs, a disk of 50 MB/s, one lane; ends in no livelock under the fix."""
    seconds = REPORTED_HOURS * 3600
    settings = FAST_DISK | {"run.duration_s": seconds, "run.series_ms": 60_000}
    wall, metrics = timed(scenario("fix", settings), 0, seconds)
    work = f"{REPORTED_HOURS} hours, 2 CPUs, 50 MB/s"
    yield figure(work, f"{metrics['pages_swapped_out']:,} pages swapped", [wall], "s")
    yield figure(work, f"{metrics['pages_swapped_out']:,} pages swapped", [seconds / wall], "x real time")


def _fits(mebibytes: int) -> bool:
    """Whether this machine has the memory for a lane of so much."""
    with open("/proc/meminfo") as file:
        available = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    return (mebibytes << 8) * MOST_BYTES < available * 1024 * 0.8
