"""What a worker does: the lanes of one task to the Parquet files of its shard."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from fastalloc.errors import InputError, LaneError
from fastalloc.store.segments import Segment
from fastalloc.store.shards import encode_shard
from fastalloc.store.tables import StoredLane
from fastalloc.sweep.expand import Plan, base_at
from fastalloc.sweep.kinds import Job, parameters_of, run_point, tables_of
from fastalloc.sweep.plan import Task


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
    return Job(plan.base, plan.path.absolute().parent, plan.sweep.seed, plan.sweep.lanes, tables, plan.columns, origin)


@contextmanager
def _of_point(segment: Segment) -> Iterator[None]:
    """What goes wrong with a lane names its point and settings."""
    try:
        yield
    except InputError as error:
        told = ", ".join(f"{key}={value}" for key, value in segment.settings.items())
        where = f"point {segment.point} ({segment.variant}{told and ', '}{told}): {error.where}"
        raise InputError(error.path, where, error.message, error.more) from None
    except LaneError as error:
        error.point = segment.point
        raise


def run_task(job: Job, task: Task, cancel: threading.Event | None = None) -> TaskResult:
    """Runs the lanes of a task, one after the other, in the calling thread."""
    begun = time.perf_counter()
    rows: list[StoredLane] = []
    segments: list[Segment] = []
    for segment in task.segments:
        own = base_at(job.base, segment.variant, segment.settings)
        parameters = parameters_of(own)
        with _of_point(segment):
            results, livelocks = run_point(own, range(segment.begin, segment.end), job, cancel)
        if not results:
            return TaskResult(task, [], {}, time.perf_counter() - begun, 0.0)
        first = segment.point * job.lanes
        rows += [
            StoredLane(first + result.lane, segment.variant, job.seed, parameters, result, segment.point)
            for result in results
        ]
        segments.append(segment._replace(livelocks=livelocks))
    ran = time.perf_counter()
    tables = tables_of(job, rows)
    files = encode_shard(task.id, segments, tables, job.origin)
    ended = time.perf_counter()
    return TaskResult(task, segments, files, ended - begun, ended - ran)
