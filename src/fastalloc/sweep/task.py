"""What a worker does: the lanes of one task to the Parquet files of its shard."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastalloc.batch import LIVELOCK, LaneResult, run_serial
from fastalloc.scenario import Scenario
from fastalloc.store.schema import flat_parameters
from fastalloc.store.segments import Segment
from fastalloc.store.shards import encode_shard
from fastalloc.store.tables import StoredLane, events_table, ledger_table, runs_table, series_table
from fastalloc.sweep.expand import Plan, scenario_at
from fastalloc.sweep.plan import Task

_OTHERS = {"series": series_table, "events": events_table, "ledger": ledger_table}
_NOTHING = np.empty(0, np.int64)


class Job(NamedTuple):
    """What the tasks of a sweep share; travels with each to its worker."""

    base: Scenario
    seed: int
    lanes: int  # of a point, at most: a lane's id is its point times this, plus its number
    tables: Sequence[str]
    columns: Mapping[str, Any]
    origin: Mapping[str, Any]  # provenance


class TaskResult(NamedTuple):
    """What a task gave."""

    task: Task
    segments: list[Segment]  # with their livelocks; empty when it was cancelled
    files: dict[str, bytes]  # Parquet, by table
    seconds: float
    encoding_s: float  # of it, for tables and files


def job_of(plan: Plan, origin: Mapping[str, Any]) -> Job:
    """The job of a sweep."""
    tables = ["runs", *(name for name in plan.sweep.tables if name != "runs")]
    return Job(plan.base, plan.sweep.seed, plan.sweep.lanes, tables, plan.columns, origin)


def run_task(job: Job, task: Task, cancel: threading.Event | None = None) -> TaskResult:
    """Runs the lanes of a task, one after the other, in the calling thread."""
    begun = time.perf_counter()
    rows: list[StoredLane] = []
    segments: list[Segment] = []
    for segment in task.segments:
        scenario = scenario_at(job.base, segment.variant, segment.settings)
        parameters = flat_parameters(scenario)
        results = run_serial(scenario, range(segment.begin, segment.end), seed=job.seed, cancel=cancel)
        if not results:
            return TaskResult(task, [], {}, time.perf_counter() - begun, 0.0)
        first = segment.point * job.lanes
        rows += [
            StoredLane(first + result.lane, segment.variant, job.seed, parameters, _slim(result, job), segment.point)
            for result in results
        ]
        livelocks = sum(int(result.metrics[LIVELOCK]) for result in results)
        segments.append(segment._replace(livelocks=livelocks))
    ran = time.perf_counter()
    tables = {"runs": runs_table(rows, job.columns)}
    tables |= {name: make(rows) for name, make in _OTHERS.items() if name in job.tables}
    files = encode_shard(task.id, segments, tables, job.origin)
    ended = time.perf_counter()
    return TaskResult(task, segments, files, ended - begun, ended - ran)


def _slim(result: LaneResult, job: Job) -> LaneResult:
    """The result without what is not stored, so that a task of many lanes stays small."""
    unwanted: dict[str, Any] = {name: _NOTHING for name in _OTHERS if name not in job.tables}
    return result._replace(**unwanted)
