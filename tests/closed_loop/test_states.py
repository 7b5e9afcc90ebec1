"""Livelocked, exhausted, slow and healthy machines are told apart, whatever their sizes."""

import polars as pl
import pytest

from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.report.verdict import STATE
from tests.closed_loop.small import OWN_CORES, run, small

SHORT = OWN_CORES | {"run.duration_s": 12.0, "policy.mempool_timeout_s": 5}
SLOW = {"disk.iops": 4, "disk.bytes_per_second": 60_000}
FAST = {"disk.iops": 5000, "disk.bytes_per_second": 200_000_000}
FEW = {"workload.copiers": 1, "workload.writers": 1, "workload.writer_pages": 1500, "workload.tree_files": 300}

# rc8, and somebody who takes every slot and page that GFP_ATOMIC gets before each attempt at a command
STARVED = {"workload.adversary": "atomic"}

KINDS = {
    "exhausted": lambda n: SHORT | {"machine.swap_pages": 256 * (n % 5), "workload.writers": 1 + n % 4},
    "slow": lambda n: SHORT | SLOW | {"workload.copiers": 6 + n % 6, "disk.iops": 1 + n % 4},
    "livelocked": lambda n: (
        SHORT | STARVED | {"workload.copiers": 8 + n % 8, "machine.min_free_kbytes": 24 + 8 * (n % 5)}
    ),
    "healthy": lambda n: SHORT | (FEW | {"machine.swap_pages": 512 * (n % 3)} if n % 2 else FAST),
}


def state(result) -> str:
    row = dict(zip(METRIC.names, result.metrics.tolist(), strict=True))
    return pl.DataFrame([row]).select(STATE.alias("state")).item()


def told(kind: str, count: int) -> list[str]:
    """The states of ``count`` machines that were made to be of a kind."""
    variant = "rc8" if kind == "livelocked" else "fix"
    return [state(run(small(variant, KINDS[kind](n)), n, seed=n)) for n in range(count)]


@pytest.mark.parametrize("kind", list(KINDS))
def test_kinds_are_told_apart(kind):
    assert told(kind, 6) == [kind] * 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_hundred_of_each_are_told_apart(kind):
    assert told(kind, 100) == [kind] * 100


def test_livelocked_lanes_are_not_exhausted(small_lanes):
    lanes = small_lanes()
    locked = [result for result in lanes.values() if result.metrics[METRIC.livelock_5s]]
    assert locked
    assert {state(result) for result in locked} == {"livelocked"}
    assert not any(result.metrics[METRIC.oom] for result in lanes.values())
