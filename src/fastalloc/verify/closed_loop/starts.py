"""When the tasks of a clean run started: an input of its load that ``runs.csv`` does not hold, read from its series.

While memory lasts, the tasks share one CPU and nothing else, and what each does with its time is known: a copier writes
a tree and removes it, a writer touches its pages and unmaps them, again and again. So the files and pages written and
removed in a sample tell how many tasks there were: a sole writer among ten has a tenth of the CPU. Start times are
drawn as the run drew them, the CPU is shared by CFS's rules, and those draws are kept that have spent its time by the
end of each sample as the run had (a particle filter). What the end of a sample cuts off comes with the next one, so
that does not add up; an error of the costs does. Only that is looked at: not free memory, and nothing from the first
reclaim on. A task that had not started by then has a start drawn.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.foreign import csv_rows, refuse
from fastalloc.kernels.lane.cfs import GRANULARITY_NS, LATENCY_NS, NR_LATENCY, WAKEUP_GRANULARITY_NS
from fastalloc.scenario.models import Scenario

PARTICLES = 4000
# Where a sample's ends cut slices is not known: apart by a slice of so many ticks is near. A choice, for which
# docs/closed-loop-starts.md tells what others give.
NEAR_TICKS = 2.0
NS_PER_MS = 1e6
COUNTERS = ("files", "rm", "pgfault", "act")  # files written and removed, pages touched, pages on the active list
FORK_MS = LATENCY_NS / NS_PER_MS / 2  # by which a task stands behind the one forked before [wake_up_new_task]
RECLAIM = ("kwakes", "allocstall")
COLUMNS = ("t_ns", *COUNTERS, *RECLAIM)
# What a task does with its CPU; two phases a kind of task
WRITES, REMOVES, TOUCHES, UNMAPS = range(4)


class Starts(NamedTuple):
    """What a run's series tells of its start times."""

    until_s: float  # how far it was read
    started: float  # tasks until then, as the samples tell
    drawn: float  # tasks until then, as starts spread evenly have on average
    start_ms: np.ndarray  # int64[lanes, tasks], copiers first
    log_likelihood: float  # of the samples, by the draws: of a draw that spends its time as the run did it is 0


class Sharing(NamedTuple):
    """Tasks that share a CPU, a row a particle; ms."""

    start: np.ndarray  # float[particles, tasks]
    vruntime: np.ndarray  # of those on the queue, inf before
    phase: np.ndarray  # int: 0 or 1
    left: np.ndarray  # CPU time left in the phase
    running: np.ndarray  # int[particles]: the task, -1 none
    slice_left: np.ndarray  # float[particles]
    min_vruntime: np.ndarray  # float[particles]

    def taken(self, rows: np.ndarray) -> "Sharing":
        """The particles ``rows``, which may repeat."""
        return Sharing(*(field[rows] for field in self))


def series_of(table: Path, row: Mapping[str, Any]) -> pl.DataFrame | None:
    """The samples of a run, ``ts/RUN.csv.gz`` beside its table; None where the folder has none.

    Raises
    ------
    InputError
        It is no CSV table, or lacks a column.
    """
    path = table.parent / "ts" / f"{row['run']}.csv.gz"
    if Path(str(row["run"])).name != row["run"] or not path.is_file():
        return None
    frame = csv_rows(path, typed=True, whole=True)
    for name in COLUMNS:
        if name not in frame.columns or not frame[name].dtype.is_integer():
            raise InputError(path, name, "expected a column of whole numbers")
        refuse(path, frame[name].is_null(), name, "is empty", "line", 2)
    back = (frame["t_ns"].diff() <= 0).fill_null(False)
    refuse(path, back, "t_ns", "time does not rise from the line before", "line", 2)
    return frame.select(COLUMNS)


def unit_ms(scenario: Scenario) -> np.ndarray:
    """CPU time, ms, of a file written, a file removed, a page touched and a page unmapped, by the scenario's costs.

    RCU frees a struct file, a dentry and, of a file of more than one page, a radix node.
    """
    costs, pages = scenario.costs, scenario.workload.mean_file_pages
    written = costs.create_file + pages * costs.copy_page + costs.rcu_callback
    removed = (1 + pages) * costs.remove_page + (2 - 1 / pages) * costs.rcu_callback
    return np.array([written, removed, costs.fault_page, costs.unmap_page]) / NS_PER_MS


def slice_ms(running: np.ndarray, tick: float) -> np.ndarray:
    """How long a task runs beside so many, ms: its slice, to the first tick that is not before its end. The clock that
    it is measured by stands between ticks, and a tick moves it by TICK_NSEC, a little more than a jiffy at 250 Hz
    [check_preempt_tick]."""
    period = np.where(running > NR_LATENCY, running * GRANULARITY_NS, LATENCY_NS) / NS_PER_MS
    ticks = np.ceil(period / np.maximum(running, 1) / tick)
    return np.where(running > 1, ticks, 1) * tick


def queued(tasks: Sharing) -> np.ndarray:
    """The vruntime of those that wait for the CPU, inf for all others."""
    waiting = tasks.vruntime.copy()
    runs = np.flatnonzero(tasks.running >= 0)
    waiting[runs, tasks.running[runs]] = np.inf
    return waiting


def raise_min(tasks: Sharing, rows: np.ndarray, vruntime: np.ndarray) -> None:
    """min_vruntime follows the leftmost of the tree and never falls."""
    tasks.min_vruntime[rows] = np.maximum(tasks.min_vruntime[rows], vruntime)


def wake(tasks: Sharing, now: np.ndarray) -> None:
    """Those whose start has come join the queue, and may preempt [place_entity, check_preempt_wakeup of rc8]."""
    came = (tasks.start <= now[:, None]) & np.isinf(tasks.vruntime)
    rows = np.flatnonzero(came.any(1))
    if not len(rows):
        return
    count = np.isfinite(tasks.vruntime[rows]).sum(1)
    least = queued(tasks)[rows].min(1)
    placed = np.minimum(tasks.min_vruntime[rows], least) - LATENCY_NS / NS_PER_MS / np.maximum(count, 1)
    row, task = np.nonzero(came[rows])
    own = FORK_MS * task
    vruntime = np.where(count[row] > 0, np.maximum(own, placed[row]), own)  # on an idle CPU its own
    tasks.vruntime[rows[row], task] = vruntime
    first = np.full(len(rows), np.inf)
    np.minimum.at(first, row, vruntime)
    raise_min(tasks, rows, np.where(first < least, first, 0.0))
    running = tasks.running[rows]
    lead = np.where(running >= 0, tasks.vruntime[rows, running] - first, 0.0)
    tasks.slice_left[rows[lead > WAKEUP_GRANULARITY_NS / NS_PER_MS]] = 0.0


def pick(tasks: Sharing, writers: np.ndarray, tick: float) -> None:
    """Where a slice is over or nobody runs, the task of least vruntime runs next [put_prev_entity, pick_next_entity].

    Beside a copier ksoftirqd, which frees what ticks alone do not, has run by then, and as it was picked min_vruntime
    has come up to the least of all.
    """
    count = np.isfinite(tasks.vruntime).sum(1)
    rows = np.flatnonzero(((tasks.slice_left <= 0) | (tasks.running < 0)) & (count > 0))
    if not len(rows):
        return
    runs = rows[tasks.running[rows] >= 0]
    own, least = tasks.vruntime[runs, tasks.running[runs]], tasks.vruntime[runs].min(1)
    given_way = (count[runs] > 1) & (own == least)  # a sole task stays where it is
    raise_min(tasks, runs, np.where(given_way | (writers[tasks.running[runs]] == 0), least, 0.0))
    tasks.running[rows] = tasks.vruntime[rows].argmin(1)
    following = queued(tasks)[rows].min(1)
    raise_min(tasks, rows, np.where(np.isfinite(following), following, 0.0))
    tasks.slice_left[rows] = slice_ms(count[rows], tick)


def share(
    tasks: Sharing, lengths: np.ndarray, writers: np.ndarray, begin: float, end: float, tick: float
) -> np.ndarray:
    """Let each particle's tasks run from ``begin`` to ``end``; CPU time by what was done with it.

    Args:
        tasks: changed in place.
        lengths: float[2, 2], CPU time of a kind's two phases, ms.
        writers: int[tasks], 1 for a writer.
        begin, end, tick: ms.

    Returns:
        float[particles, 4], ms.
    """
    particles = len(tasks.start)
    done = np.zeros((particles, 4))
    now = np.full(particles, begin)
    while (now < end).any():
        wake(tasks, now)
        pick(tasks, writers, tick)
        later = np.where(np.isinf(tasks.vruntime), tasks.start, np.inf).min(1)
        until = np.minimum(end, later)
        idle = (tasks.running < 0) & (now < end)
        now[idle] = until[idle]
        p = np.flatnonzero((tasks.running >= 0) & (now < end))
        task = tasks.running[p]
        kind, phase = writers[task], tasks.phase[p, task]
        turn = tasks.left[p, task] + lengths[kind, 1 - phase]  # of its phase, once at most
        ran = np.minimum(np.minimum(tasks.slice_left[p], until[p] - now[p]), turn)
        now[p] += ran
        tasks.slice_left[p] -= ran
        tasks.vruntime[p, task] += ran
        before = np.minimum(ran, tasks.left[p, task])
        done[p, 2 * kind + phase] += before
        rest = ran - before
        tasks.left[p, task] -= before
        turned = rest > 0
        p, task, kind, rest = p[turned], task[turned], kind[turned], rest[turned]
        phase = 1 - phase[turned]
        done[p, 2 * kind + phase] += rest
        tasks.phase[p, task] = phase
        tasks.left[p, task] = lengths[kind, phase] - rest
    return done


def spent(series: pl.DataFrame, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of a run's samples before its first reclaim, and the CPU time spent in each by what was done with it.

    Of the first sample only what copiers did: pages that tasks touched for themselves as they were made are in its
    faults.
    """
    used = int((series.select(pl.sum_horizontal(RECLAIM)).to_series() == 0).sum())
    files, removed, faults, active = (np.diff(series[name].to_numpy()[:used]) for name in COUNTERS)
    done = np.stack([files, removed, faults, np.maximum(0, faults - active)], 1) * unit
    done[:1, [TOUCHES, UNMAPS]] = np.nan
    return series["t_ns"].to_numpy()[:used] / NS_PER_MS, done


def read_starts(
    row: Mapping[str, Any], scenario: Scenario, series: pl.DataFrame, lanes: int, seed: int
) -> Starts | None:
    """Start times for ``lanes`` lanes of a run; None where its samples tell nothing, memory being full in the first.

    Args:
        row: of ``read_runs``.
        scenario: what ``scenario_of`` made of it.
        series: of ``series_of``.
        lanes: draws that are taken from those kept.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    work, tick = scenario.workload, 1000 / scenario.machine.hz
    unit = unit_ms(scenario)
    ends, observed = spent(series, unit)
    tasks = work.copiers + work.writers
    if len(observed) == 0 or tasks == 0:
        return None
    spread = float(row["spread"])
    writers = np.repeat([0, 1], [work.copiers, work.writers])
    sizes = np.array([work.tree_files, work.tree_files, work.writer_pages, work.writer_pages])
    lengths = (unit * sizes).reshape(2, 2)
    shape = (PARTICLES, tasks)
    left = np.broadcast_to(lengths[writers, 0], shape).copy()
    running, slice_left = np.full(PARTICLES, -1), np.zeros(PARTICLES)
    state = Sharing(
        np.full(shape, np.inf),
        np.full(shape, np.inf),
        np.zeros(shape, np.int64),
        left,
        running,
        slice_left,
        np.full(PARTICLES, FORK_MS * tasks),
    )
    told, apart = 0.0, np.zeros((PARTICLES, 4))
    for begin, end, real in zip(ends[:-1], ends[1:], observed, strict=True):
        later = state.start > begin  # any later time is as likely as the one drawn before
        state.start[later] = rng.uniform(min(begin, spread), spread, int(later.sum()))
        apart += np.nan_to_num(share(state, lengths, writers, begin, end, tick) - real)
        chance = np.exp(-0.5 * np.minimum(((apart / (NEAR_TICKS * tick)) ** 2).sum(1), 1400))
        told += float(np.log(chance.mean()))
        chance /= chance.sum()
        places = (np.arange(PARTICLES) + rng.uniform()) / PARTICLES
        rows = np.minimum(np.searchsorted(np.cumsum(chance), places), PARTICLES - 1)
        state, apart = state.taken(rows), apart[rows]
    chosen = state.start[rng.permutation(PARTICLES)[np.arange(lanes) % PARTICLES]]
    started = float((state.start <= ends[-1]).sum(1).mean())
    drawn = tasks * (min(1.0, ends[-1] / spread) if spread else 1.0)
    return Starts(ends[-1] / 1000, started, drawn, np.ceil(chosen.clip(0)).astype(np.int64), told)
