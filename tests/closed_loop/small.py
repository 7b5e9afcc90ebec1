"""Small machines for the closed loop: 34 MB that reach the livelock within seconds, and how to read their results."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from fastalloc.batch import LaneResult, check_sound, result_of
from fastalloc.batch.lane import Lane, build_lane
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import EVENT, METRIC, SERIES
from fastalloc.kernels.machine.run import run_lane
from fastalloc.scenario import load_scenario
from fastalloc.scenario.models import Scenario

ZONES = [
    {
        "name": "DMA",
        "present": 512,
        "min": 0,
        "low": 0,
        "high": 0,
        "protection": [0, 31],
        "pcp_high": 0,
        "pcp_batch": 1,
    },
    {
        "name": "DMA32",
        "present": 8192,
        "min": 0,
        "low": 0,
        "high": 0,
        "protection": [0, 0],
        "pcp_high": 6,
        "pcp_batch": 1,
    },
]
# The disk is the preset's, the memory a fifteenth: what takes a minute there takes four seconds here.
SHRUNK = {
    "machine.zones": ZONES,
    "machine.free_pages": {},
    "machine.min_free_kbytes": 24,
    "machine.swap_pages": 1 << 16,
    "workload.copiers": 10,
    "workload.tree_files": 1200,
    "workload.writers": 2,
    "workload.writer_pages": 8000,
    "workload.start_spread_ms": 200,
    "run.duration_s": 20.0,
}
# A core for each CPU: a sixth of the lanes livelock.
OWN_CORES = {"machine.shared_core": False}


def preset(variant: str = "rc8", settings: Mapping[str, Any] | None = None, name: str = "swap-livelock") -> Scenario:
    """A variant of a preset with some fields set otherwise."""
    return load_scenario(name).variant(variant).with_settings(settings or {})


def small(variant: str = "rc8", settings: Mapping[str, Any] | None = None, name: str = "swap-livelock") -> Scenario:
    """A variant of a preset on 34 MB with a dozen tasks."""
    return preset(variant, SHRUNK | dict(settings or {}), name)


def advance(lane: int, arrays: Lane, milliseconds: float) -> Lane:
    """Run a lane to a simulated time; raises if its state is not to be trusted."""
    run_lane(*arrays, round(milliseconds * ms.NS_PER_MS))
    check_sound(lane, arrays)
    return arrays


def run(scenario: Scenario, lane: int = 0, seed: int = 1, **options: bool) -> LaneResult:
    """One lane from boot to end."""
    arrays = build_lane(scenario, lane, seed, **options)
    return result_of(lane, advance(lane, arrays, scenario.run.duration_s * 1000))


@lru_cache
def livelocked_lane(longest_onset_ms: int = 10_000) -> int:
    """The first lane of the small rc8 machine with cores of its own that livelocks early on (seed 1)."""
    for lane in range(200):
        result = run(small("rc8", OWN_CORES), lane)
        if metric(result, "livelock_5s") and metric(result, "livelock_onset_ms") < longest_onset_ms:
            return lane
    raise AssertionError("no lane of 200 livelocks")


def metric(result: LaneResult, name: str) -> int:
    """One metric of a lane by its name."""
    return int(result.metrics[METRIC.names.index(name)])


def gauge(result: LaneResult, name: str) -> np.ndarray:
    """One column of a lane's series by its name."""
    return result.series[:, SERIES.names.index(name)]


def events(result: LaneResult, kind: str) -> np.ndarray:
    """The rows of a lane's event log of one kind."""
    return result.events[result.events[:, 1] == EVENT.names.index(kind)]


def image(result: LaneResult) -> tuple[bytes, ...]:
    """Everything that a lane reports, as bytes."""
    return tuple(part.tobytes() for part in (result.metrics, result.series, result.events, result.ledger))


def happened(result: LaneResult) -> tuple[bytes, ...]:
    """Everything that happened in a lane, as bytes: its image without what a policy asked in vain."""
    metrics = result.metrics.copy()
    metrics[[METRIC.policy_tests, METRIC.policy_locks]] = 0
    return metrics.tobytes(), *image(result)[1:]
