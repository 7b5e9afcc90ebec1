"""Lanes of the closed loop, set up and run by hand so that only what is asked for is timed."""

from typing import Any

from benchmarks.measure import seconds_of
from fastalloc.batch import LaneResult, check_sound, result_of
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.machine.run import run_lane
from fastalloc.scenario import Scenario, load_scenario

FAST_DISK = {"disk.bytes_per_second": 50_000_000, "disk.iops": 500}
# one writer that starts in the second half of a month
IDLE = {
    "workload.copiers": 0,
    "workload.writers": 1,
    "workload.start_spread_ms": 1 << 31,
    "workload.atomic_objects_per_s": 0,
    "workload.atomic_pages_per_s": 0,
}
LOCK_SEARCH = 64  # lanes looked at for one that livelocks early and to the end


def scenario(variant: str = "fix", settings: dict[str, Any] | None = None) -> Scenario:
    """The swap livelock's machine on cores of its own, with settings."""
    base = load_scenario("swap-livelock").variant(variant)
    return base.with_settings({"machine.shared_core": False} | (settings or {}))


def of_memory(wanted: Scenario, mebibytes: int) -> Scenario:
    """The same machine with as much memory, in its largest zone."""
    zones = [zone.model_dump() for zone in wanted.machine.zones]
    pages = mebibytes << 8
    last = zones[-1]
    free = dict(wanted.machine.free_pages)
    share = free[last["name"]] / last["present"]
    last["present"] = pages - sum(zone["present"] for zone in zones[:-1])
    free[last["name"]] = int(last["present"] * share)
    machine = wanted.machine.model_dump() | {"zones": zones, "free_pages": free}
    return type(wanted).model_validate(wanted.model_dump() | {"machine": machine})


def timed(wanted: Scenario, lane: int, seconds: float, skip: bool = True) -> tuple[float, dict[str, int]]:
    """Wall-clock seconds inside the kernel for a lane's first ``seconds``, and its metrics."""
    arrays = build_lane(wanted, lane, 1, skip=skip)
    wall = seconds_of(lambda: run_lane(*arrays, round(seconds * ms.NS_PER_S)))
    check_sound(lane, arrays)
    return wall, metrics_of(result_of(lane, arrays))


def metrics_of(result: LaneResult) -> dict[str, int]:
    """By name."""
    return dict(zip(METRIC.names, result.metrics.tolist(), strict=True))


def locked_lane(wanted: Scenario, seconds: float) -> int | None:
    """The first lane that livelocks before ``seconds`` and to the end."""
    for lane in range(LOCK_SEARCH):
        found = timed(wanted, lane, seconds)[1]
        if found["livelock_open"] and found["livelock_ms"] > 1000 * seconds / 4:
            return lane
    return None


def locked_rates(wanted: Scenario, seconds: float, more: float, repeats: int) -> tuple[list[float], dict[str, int]]:
    """Simulated over wall-clock time inside a livelock: a lane's time from ``seconds`` on; none if no lane locks."""
    lane = locked_lane(wanted, seconds)
    if lane is None:
        return [], {}
    rates = []
    metrics: dict[str, int] = {}
    for _ in range(repeats):
        arrays = build_lane(wanted.with_settings({"run.duration_s": seconds + more}), lane, 1)
        run_lane(*arrays, round(seconds * ms.NS_PER_S))
        rates.append(more / seconds_of(lambda arrays=arrays: run_lane(*arrays, round((seconds + more) * ms.NS_PER_S))))
        metrics = metrics_of(result_of(lane, arrays))
    return (rates, metrics) if metrics["livelock_open"] else ([], {})
