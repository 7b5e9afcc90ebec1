"""The two kinds of sweeps: of simulated machines, and of recorded traces; what differs between them stands here."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fastalloc.batch import run_serial, warm
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.scenario import Scenario, Varied
from fastalloc.store.schema import flat_parameters
from fastalloc.store.tables import StoredLane, events_table, ledger_table, runs_table, series_table
from fastalloc.sweep import replays

OTHERS = {"series": series_table, "events": events_table, "ledger": ledger_table}
_NOTHING = np.empty(0, np.int64)


class Job(NamedTuple):
    """What the tasks of a sweep share; travels with each to its worker."""

    base: Varied
    root: Path  # of the sweep file
    seed: int
    lanes: int  # of a point, at most: a lane's id is its point times this, plus its number
    tables: Sequence[str]
    columns: Mapping[str, Any]
    origin: Mapping[str, Any]  # provenance


def parameters_of(base: Varied) -> dict[str, Any]:
    """The parameters of one variant under their dotted names, as ``runs/`` has them."""
    if isinstance(base, replays.Replay):
        return replays.parameters(base)
    assert isinstance(base, Scenario)
    return flat_parameters(base)


def warm_up(bases: Sequence[Varied]) -> None:
    """Compiles what the lanes of these points need; a replay compiles at its first lane."""
    warm(*(base for base in bases if isinstance(base, Scenario)))


def run_point(base: Varied, lanes: range, job: Job, cancel: threading.Event | None) -> tuple[list[Any], int]:
    """The lanes of a point, one after the other, and how many livelocked for more than 5 s; none when cancelled."""
    if isinstance(base, replays.Replay):
        return replays.run_draws(base, lanes, job.root, cancel), 0
    assert isinstance(base, Scenario)
    # what is not stored is dropped at once, so that a task of many lanes stays small
    unwanted: dict[str, Any] = {name: _NOTHING for name in OTHERS if name not in job.tables}
    results = [result._replace(**unwanted) for result in run_serial(base, lanes, seed=job.seed, cancel=cancel)]
    return results, sum(int(result.metrics[METRIC.livelock_5s]) for result in results)


def tables_of(job: Job, rows: Sequence[StoredLane]) -> dict[str, pa.Table]:
    """The tables of a task."""
    metrics = replays.METRICS if isinstance(job.base, replays.Replay) else METRIC.names
    made = {"runs": runs_table(rows, job.columns, metrics)}
    return made | {name: make(rows) for name, make in OTHERS.items() if name in job.tables}
