"""What a sweep will cost, from a few lanes of it."""

import time
from typing import NamedTuple

from fastalloc.compiler.cache_dir import announce_compiling
from fastalloc.store.provenance import provenance
from fastalloc.store.segments import Segment
from fastalloc.sweep.expand import Plan
from fastalloc.sweep.identity import task_identity
from fastalloc.sweep.kinds import Job, warm_up
from fastalloc.sweep.plan import Task
from fastalloc.sweep.task import job_of, run_task
from fastalloc.threads import threads_of

PROBES = 8


class Estimate(NamedTuple):
    """What a sweep comes to; seconds and bytes are extrapolated from ``probes`` lanes of as many points."""

    points: int
    lanes: int  # at most
    probes: int
    seconds: float  # on ``threads``
    threads: int
    bytes: int


def estimate(plan: Plan, threads: int = 0) -> Estimate:
    """Runs a lane of a few points, spread over the sweep, and stores nothing."""
    plan.refuse_too_large(threads_of(threads))
    announce_compiling()
    warm_up(plan.heaps())
    job = job_of(plan, provenance(plan.base, plan.sweep.seed))
    count = min(PROBES, len(plan.points))
    chosen = [i * (len(plan.points) - 1) // max(1, count - 1) for i in range(count)]
    segments = []
    for number in chosen:
        point = plan.points[number]
        segments.append(Segment(number, point.identity, point.variant, point.settings, 0, 1, 0))
    begun = time.perf_counter()
    alone = _run(job, segments[:1])
    seconds = time.perf_counter() - begun
    every = alone
    if count > 1:
        begun = time.perf_counter()
        every = _run(job, segments)
        seconds = time.perf_counter() - begun
    workers = threads_of(threads)
    # what a shard holds apart from its lanes (schema, provenance) is told from the difference of the two
    a_lane = max(1, (every - alone) // max(1, count - 1))
    shards = max(1, round(plan.most_lanes * seconds / count))
    size = a_lane * plan.most_lanes + max(0, alone - a_lane) * shards
    return Estimate(
        len(plan.points), plan.most_lanes, count, seconds / count * plan.most_lanes / workers, workers, size
    )


def _run(job: Job, segments: list[Segment]) -> int:
    """Bytes of a shard of these lanes."""
    task = Task(task_identity([(part.identity, part.begin, part.end) for part in segments]), segments)
    return sum(map(len, run_task(job, task).files.values()))
