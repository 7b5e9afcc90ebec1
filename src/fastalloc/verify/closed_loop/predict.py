"""Predicted against real: each clean run on some lanes, a row a run and figure."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from fastalloc.batch import LaneResult, run_machines
from fastalloc.errors import InputError
from fastalloc.kernels.lane.metrics import METRIC, SERIES
from fastalloc.scenario import Scenario, load_scenario
from fastalloc.verify.closed_loop.clean_runs import TOLD, is_reference, not_modelled, read_runs, scenario_of
from fastalloc.verify.closed_loop.starts import Starts, read_starts, series_of

LANES = 16
SEED = 1


class LaneFigures(NamedTuple):
    """What a lane gave, in the terms of ``runs.csv``."""

    livelocked: bool
    never_swapped: bool
    out_of_memory: bool  # reclaim came to nothing: there the kernel kills a task, here the lane stands still
    figures: dict[str, float]


class Figure(NamedTuple):
    """A figure that is compared: its column in ``runs.csv`` and how far the median may be off, as a share."""

    column: str
    tolerance: float


FIGURES = (
    Figure("pswpout", 0.10),
    Figure("dispw", 0.15),
    Figure("pages_per_cmd", 0.10),
    Figure("wb_max", 0.15),
    Figure("wb_mean", 0.15),
    Figure("bio_slabs_max", 0.15),
    Figure("allocstall", 0.15),
    Figure("scan_per_out", 0.15),
    Figure("first_swap_s", 0.10),
)
# what the machine of a run is taken for
ONE_CPU = "one CPU"
TURNS = "turns"  # as the emulator had them
DRAWN = "one CPU, starts drawn"  # where the run's own are known, what other draws give: told, not judged
PARALLEL = "parallel"  # of which no clean run is known: told, not judged
VIEWS = (ONE_CPU, TURNS, DRAWN, PARALLEL)


class FigureResult(NamedTuple):
    """One figure of one run: real, and what the lanes gave."""

    name: str
    real: float
    median: float
    low: float
    high: float
    within: bool | None  # None: told, not judged
    lanes: list[float]  # what each gave, in their order


class Started(NamedTuple):
    """What a run's series tells of its start times."""

    until_s: float  # how far it was read
    tasks: float  # started by then
    drawn: float  # started by then where starts are spread evenly


class RunResult(NamedTuple):
    """One run: whether it is a reference, its lanes, and its figures."""

    run: str
    cpus: int
    view: str  # one of VIEWS
    reference: bool
    lanes: int
    real_livelock: bool
    real_out_of_memory: bool
    livelocked: int
    never_swapped: int
    out_of_memory: int
    figures: list[FigureResult]
    started: Started | None = None  # None: its lanes have starts drawn
    not_modelled: str = ""  # what of its machine has no model, and what ran in its place

    @property
    def real_never_swapped(self) -> bool:
        """The kernel had memory for all."""
        return any(figure.name == "pswpout" and not figure.real for figure in self.figures)

    @property
    def ok(self) -> bool:
        """Every judged figure is within its tolerance; no lane locked up, never swapped or ran out of memory unless the
        kernel did."""
        if not self.reference:
            return True
        swapped = self.real_never_swapped or self.never_swapped == 0
        sound = self.real_livelock or (self.livelocked == 0 and swapped)
        sound = sound and (self.real_out_of_memory or self.out_of_memory == 0)
        return sound and all(figure.within is not False for figure in self.figures)


def lane_figures(result: LaneResult) -> LaneFigures:
    """The figures of ``runs.csv`` from a lane: maxima and means are of its samples, as they are of the run's."""
    metric = dict(zip(METRIC.names, result.metrics.tolist(), strict=True))
    series = {name: result.series[:, i] for i, name in enumerate(SERIES.names)}
    swapping = np.flatnonzero(series["swapped_out"] > 0)
    first = int(swapping[0]) if len(swapping) else len(series["t_ms"]) - 1
    out = metric["pages_swapped_out"]
    commands = metric["commands"]
    return LaneFigures(
        bool(metric["livelock_5s"]),
        out == 0,
        metric["oom"] > 0,
        {
            "pswpout": out,
            "dispw": commands,
            "pages_per_cmd": (out - float(series["writeback"][-1])) / max(1, commands),  # of those that went out
            "wb_max": float(series["writeback"].max()),
            "wb_mean": float(series["writeback"][first:].mean()),
            "bio_slabs_max": float(series["bio_slabs"].max()),
            "allocstall": metric["allocstall"],
            "scan_per_out": metric["pages_scanned"] / max(1, out),
            "first_swap_s": float(series["t_ms"][first]) / 1000,
            "kwakes": metric["kswapd_wakes"],
            "rqwaits": metric["request_waits"],
            "bwaits": metric["bio_waits"],
            "tpages": metric["pages_copied"],
            "sensef": metric["sense_fail"],
        },
    )


def compare(
    row: Mapping[str, Any], lanes: Sequence[LaneFigures], view: str, started: Started | None = None
) -> RunResult:
    """One run against its lanes; nothing is judged of a row that is no reference, of other starts than the run's where
    those are known, nor of parallel CPUs."""
    reference = is_reference(row) and view not in (DRAWN, PARALLEL)
    figures = []
    judged: list[tuple[str, float | None]] = [*FIGURES, *((name, None) for name in TOLD)]
    for name, tolerance in judged:
        real = row.get(name)
        if real is None:
            continue
        values = [lane.figures[name] for lane in lanes]
        middle = median(values)
        within = None
        if tolerance is not None and reference:
            within = abs(middle - real) <= tolerance * abs(real)
        figures.append(FigureResult(name, real, middle, min(values), max(values), within, values))
    return RunResult(
        row["run"],
        row["smp"],
        view,
        reference,
        len(lanes),
        bool(row["livelock"]),
        bool(row.get("oom", 0)),
        sum(lane.livelocked for lane in lanes),
        sum(lane.never_swapped for lane in lanes),
        sum(lane.out_of_memory for lane in lanes),
        figures,
        started,
        not_modelled(row),
    )


def run_started(
    scenarios: Sequence[Scenario], starts: Sequence[Starts | None], lanes: int, threads: int
) -> list[list[LaneFigures]]:
    """The lanes of each scenario, each lane with start times of its own where they are known."""
    found: list[list[LaneFigures]] = [[] for _ in scenarios]
    drawn = [i for i, known in enumerate(starts) if known is None]
    for i, result in run_machines([scenarios[i] for i in drawn], range(lanes), seed=SEED, threads=threads):
        found[drawn[i]].append(lane_figures(result))
    told = [(i, known) for i, known in enumerate(starts) if known is not None]
    for lane in range(lanes):
        machines = [scenarios[i].with_settings({"workload.start_ms": k.start_ms[lane].tolist()}) for i, k in told]
        for i, result in run_machines(machines, [lane], seed=SEED, threads=threads):
            found[told[i][0]].append(lane_figures(result))
    return found


def predict_runs(
    path: Path,
    *,
    lanes: int = LANES,
    threads: int = 0,
    only: Callable[[Mapping[str, Any]], bool] = is_reference,
    settings: Mapping[str, Any] | None = None,
    read: bool = True,
    left_out: list[InputError] | None = None,
    unread: list[InputError] | None = None,
) -> list[RunResult]:
    """Run what ``runs.csv`` describes and compare; runs of two CPUs in turns, and once more with a core for each CPU.

    A run on one CPU whose series is there has its start times from it, and is run once more with starts drawn.

    Args:
        path: the table.
        lanes: of each run.
        threads: 0 is one a CPU.
        only: which rows; by default those that are a reference.
        settings: set in every scenario on top, by dotted names.
        read: False: starts are drawn for all, whether their series are there or not.
        left_out: why a run is not predicted, where others of the table are: added to it, not raised.
        unread: what is wrong with a series that cannot be read: added to it, its run left out, not raised.

    Raises:
        InputError: table or series cannot be read, or a run describes no machine that is known.
    """
    rows = []
    for row in read_runs(path):
        if only(row):
            rows.append(row)
        elif left_out is not None:
            left_out.append(InputError(path, row["run"], "shows no kernel that runs alone and to its end"))
    base = load_scenario("swap-livelock")
    wanted: list[tuple[Mapping[str, Any], str, Scenario, Starts | None]] = []
    others = list(wanted)
    refused = []
    for row in rows:
        try:
            scenario = scenario_of(row, base, path).with_settings(dict(settings or {}))
        except InputError as error:
            if left_out is None:
                raise
            refused.append(error)
            continue
        if row["smp"] > 1:
            wanted.append((row, TURNS, scenario, None))
            others.append((row, PARALLEL, scenario.with_settings({"machine.shared_core": False}), None))
            continue
        try:
            series = series_of(path, row) if read else None
        except InputError as error:
            if unread is None:
                raise
            unread.append(error)
            continue
        starts = None if series is None else read_starts(row, scenario_of(row, base, path), series, lanes, SEED)
        wanted.append((row, ONE_CPU, scenario, starts))
        if starts is not None:
            others.append((row, DRAWN, scenario, None))
    if refused and not wanted:
        raise refused[0]
    if left_out is not None:
        left_out += refused
    wanted += sorted(others, key=lambda each: VIEWS.index(each[1]))
    found = run_started([each[2] for each in wanted], [each[3] for each in wanted], lanes, threads)
    results = []
    for (run, view, _, starts), of_run in zip(wanted, found, strict=True):
        started = None if starts is None else Started(starts.until_s, starts.started, starts.drawn)
        results.append(compare(run, of_run, view, started))
    return results
