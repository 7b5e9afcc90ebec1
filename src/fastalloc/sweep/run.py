"""Runs a sweep: tasks to workers, results to shards, and on from where a run that was stopped got to."""

import json
import os
import shlex
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fastalloc.compiler.cache_dir import announce_compiling
from fastalloc.errors import InputError, LaneError
from fastalloc.scenario.files import read_toml
from fastalloc.store import Dataset, open_dataset
from fastalloc.store.location import Location, location
from fastalloc.store.provenance import provenance
from fastalloc.store.shards import Fault, scan_shards, store_shard
from fastalloc.sweep.expand import Plan, plan_sweep
from fastalloc.sweep.folder import Folder, locked, stored_texts
from fastalloc.sweep.kinds import Job, warm_up
from fastalloc.sweep.plan import BatchSize, Planner
from fastalloc.sweep.task import TaskResult, job_of, run_task
from fastalloc.threads import threads_of

TOLD_EVERY_S = 0.2


class SweepProgress(NamedTuple):
    """Where a sweep stands."""

    lanes_done: int
    lanes: int  # at most; a stopping rule lowers it
    lanes_before: int  # done when this run began
    livelocks: int
    batch: int  # lanes a task, now
    wall_s: float
    compiling: bool


def plan_into(
    file: str | Path, out: str | Location | None = None, changes: Mapping[str, Any] | None = None
) -> tuple[Plan, Location, list[str]]:
    """The plan of a sweep file, and the folder of its dataset, by default ``out/NAME``; ``changes`` as of
    ``load_sweep``. What is in the folder goes on with the texts of files of one's own that it was begun with: a
    line for each that holds another one now comes last.

    Raises:
        InputError: as ``plan_sweep``.
    """
    folder = location(out if out is not None else f"out/{read_toml(Path(file)).get('name')}")
    texts = stored_texts(folder)
    return plan_sweep(file, changes, texts), folder, texts.told(folder)


def run_sweep(
    sweep: Plan | str | Path,
    out: str | Location,
    *,
    threads: int = 0,
    batch: int = 0,
    shard: tuple[int, int] = (1, 1),
    executor: Executor | None = None,
    workers: int = 0,
    command: str | None = None,
    progress: Callable[[SweepProgress], None] | None = None,
    fault: Callable[[Fault], None] | None = None,
    cancel: threading.Event | None = None,
) -> Dataset | None:
    """Runs what is missing of a sweep into a dataset.

    Args:
        sweep: a sweep file, or the plan made from it.
        out: the dataset's folder, or ``s3://BUCKET/PREFIX``; if it holds the same sweep, what is done is verified
            and kept.
        threads: how many; 0 is one a CPU.
        batch: lanes a task; 0 tunes it to about a second a task. Like ``threads``, ``shard`` and ``executor`` it
            changes no row.
        shard: (i, n): run the i-th of n slices only, counted from 1.
        executor: where tasks run instead of in threads of this process.
        workers: how many tasks the executor runs at once; by default one a CPU of this machine.
        command: what to note as the command that makes the dataset.
        progress: called as tasks finish.
        fault: called for each file that was found damaged and is made again.
        cancel: set it to stop; what is finished is kept.

    More than nine arguments: those behind the folder are options, each with a default.

    Returns:
        The dataset; None where no lane is finished.

    Raises:
        InputError: the sweep is impossible, or the folder cannot be used.
    """
    plan, out = (sweep, location(out)) if isinstance(sweep, Plan) else plan_into(sweep, out)[:2]
    if executor is None:  # the memory of other machines is not known here
        plan.refuse_too_large(threads_of(threads))
    stop = cancel or threading.Event()
    job = job_of(plan, {**provenance(plan.base, plan.sweep.seed), "sweep": plan.identity})
    command = command or shlex.join(["fastalloc", "sweep", str(plan.path), "--out", str(out)])
    folder = Folder(out, plan, command, list(job.tables), shard)
    with locked(out, shard):
        scan = folder.scan()
        for found in scan.faults:
            if fault is not None:
                fault(found)
        planner = Planner(plan, (part for done in scan.sound for part in done.segments), shard)
        del scan
        begun, timing = time.monotonic(), {"task_s": 0.0, "encoding_s": 0.0, "writing_s": 0.0}
        tell = _teller(progress, planner, begun)
        count = workers or threads_of(threads)
        status = "interrupted"
        try:
            if planner.lanes_done < planner.lanes and executor is None:
                announce_compiling()
                tell(0, True)
                warm_up(plan.heaps())
                tell = _teller(progress, planner, time.monotonic())  # rate and time left are of the work alone
            work = _Work(planner, job, folder, BatchSize(batch), stop, tell, timing)
            if executor is not None:
                work.drive(executor, count, None)
            else:
                with ThreadPoolExecutor(count) as pool:
                    work.drive(pool, count, stop)
            if not stop.is_set():
                status = "complete" if shard[1] == 1 or _all_done(plan, folder) else "running"
        except LaneError as error:
            status = "failed"
            error.again = _again(plan, error)
            folder.manifest["failed"] = str(error)
            raise
        finally:
            wall_s = time.monotonic() - begun
            folder.manifest |= {
                "status": status,
                "timing": {"wall_s": round(wall_s, 3), "threads": count, "cpus": os.cpu_count()}
                | {name: round(seconds, 3) for name, seconds in timing.items()},
            }
            folder.write_manifest()
    return open_dataset(out) if planner.lanes_done else None


@dataclass(frozen=True)
class _Work:
    """A sweep that is being run."""

    planner: Planner
    job: Job
    folder: Folder
    size: BatchSize
    stop: threading.Event
    tell: Callable[[int, bool], None]
    timing: dict[str, float]

    def drive(self, executor: Executor, workers: int, cancel: threading.Event | None) -> None:
        """Keeps the workers busy until nothing is left; one task waits for each that runs.

        Args:
            cancel: what tasks look at while they run; only threads can share it.
        """
        running: set[Future[TaskResult]] = set()
        extra = () if cancel is None else (cancel,)
        try:
            while True:
                while len(running) < 2 * workers and not self.stop.is_set():
                    task = self.planner.next_task(self.size.lanes)
                    if task is None:
                        break
                    running.add(executor.submit(run_task, self.job, task, *extra))
                if not running:
                    return
                if self.stop.is_set():
                    running = {future for future in running if not future.cancel()}
                done, running = wait(running, TOLD_EVERY_S, FIRST_COMPLETED)
                for future in done:
                    self._finish(future.result())
                self.tell(self.size.lanes, False)
        except BaseException:
            if cancel is not None:
                cancel.set()  # the pool waits for its threads
            for future in running:
                future.cancel()
            raise

    def _finish(self, result: TaskResult) -> None:
        """Stores what a task made."""
        if not result.segments:
            return
        begun = time.perf_counter()
        store_shard(self.folder.path, result.task.id, result.files)
        self.timing["writing_s"] += time.perf_counter() - begun
        self.timing["task_s"] += result.seconds
        self.timing["encoding_s"] += result.encoding_s
        self.planner.finished(result.segments)
        self.size.learn(result.task.lanes, result.seconds)


def _again(plan: Plan, error: LaneError) -> str:
    """The command that runs a lane of a point again, each tick checked."""
    if error.point < 0 or plan.sweep.scenario is None:
        return ""
    point = plan.points[error.point]
    by_policy = point.variant in (plan.sweep.policies or [])
    words = ["fastalloc", "compare" if by_policy else "run", _scenario_words(plan), "--debug"]
    words += ["--policies" if by_policy else "--variant", point.variant]
    for key, value in (plan.sweep.set | point.settings).items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return shlex.join([*words, "--seed", str(plan.sweep.seed), "--lanes", str(error.lane + 1)])


def _scenario_words(plan: Plan) -> str:
    """The scenario of a sweep: a preset by its name, or the file."""
    named = str(plan.sweep.scenario)
    beside = plan.path.parent / named
    return str(beside) if beside.exists() else named


def _teller(
    progress: Callable[[SweepProgress], None] | None, planner: Planner, begun: float
) -> Callable[[int, bool], None]:
    before = planner.lanes_done

    def tell(batch: int, compiling: bool) -> None:
        if progress is not None:
            wall_s = time.monotonic() - begun
            progress(
                SweepProgress(planner.lanes_done, planner.lanes, before, planner.livelocks, batch, wall_s, compiling)
            )

    return tell


def _all_done(plan: Plan, folder: Folder) -> bool:
    """Whether the slices together are complete."""
    try:
        scan = scan_shards(folder.path, ["runs"])
    except InputError:
        return False
    return Planner(plan, (part for done in scan.sound for part in done.segments)).next_task(1) is None
