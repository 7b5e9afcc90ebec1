"""When the tasks of a clean run started, read from its series: worked examples, and a load whose starts are known."""

import gzip
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from fastalloc.batch.lane import build_lane
from fastalloc.errors import InputError
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import TASK
from fastalloc.scenario import load_scenario
from fastalloc.verify.closed_loop import starts
from fastalloc.verify.closed_loop.clean_runs import scenario_of
from tests.closed_loop.test_clean_runs import ROW

ONE_CPU = ROW | {"smp": 1, "shift": 1, "copiers": 2, "writers": 1, "spread": 2000}
SAMPLE_MS = 248.0


def sharing(start: list[float], lengths: np.ndarray, writers: np.ndarray) -> starts.Sharing:
    shape = (1, len(start))
    never = np.full(shape, np.inf)
    left = lengths[writers, 0].reshape(shape).copy()
    phase, running = np.zeros(shape, np.int64), np.full(1, -1)
    return starts.Sharing(
        np.array([start]), never, phase, left, running, np.zeros(1), np.full(1, starts.FORK_MS * len(start))
    )


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    return scenario_of(ONE_CPU, load_scenario("swap-livelock"), tmp_path_factory.mktemp("clean"))


def counted(start: list[float], scenario, samples: int) -> pl.DataFrame:
    """The series of a load with these starts, as the kernel would have counted it."""
    work, unit = scenario.workload, starts.unit_ms(scenario)
    writers = np.repeat([0, 1], [work.copiers, work.writers])
    lengths = (unit * [work.tree_files, work.tree_files, work.writer_pages, work.writer_pages]).reshape(2, 2)
    tasks = sharing(start, lengths, writers)
    ends = SAMPLE_MS * np.arange(samples + 1)
    done = [starts.share(tasks, lengths, writers, a, b, 4.0)[0] / unit for a, b in pairwise(ends)]
    files, removed, touched, unmapped = np.round(np.cumsum([np.zeros(4), *done], 0)).astype(np.int64).T
    columns = {"t_ns": (ends * 1e6).astype(np.int64), "files": files, "rm": removed, "pgfault": touched}
    quiet = np.zeros(samples + 1, np.int64)
    return pl.DataFrame(columns | {"act": touched - unmapped, "kwakes": quiet, "allocstall": quiet})


@pytest.mark.parametrize(
    ("running", "ms"),
    # one CPU, 4 ms ticks: 2 tasks 10 ms, 3 ticks; 3: 6.66, 2; 4: 5, 2; 5 to 96: 4, 1, since a tick moves the clock that
    # a slice is measured by from 0 to TICK_NSEC, 4.00025 ms
    [(1, 4), (2, 12), (3, 8), (4, 8), (5, 4), (48, 4)],
)
def test_a_slice_ends_at_the_tick_after_it(running, ms):
    assert starts.slice_ms(np.array([running]), 4.0).tolist() == [ms]


def test_a_sole_task_has_the_cpu_and_two_have_half_of_it():
    lengths, writers = np.array([[100.0, 30.0], [140.0, 50.0]]), np.array([0, 1])
    tasks = sharing([10.0, 500.0], lengths, writers)
    # 90 ms to 100: the copier writes; then it has 20 of the 30 that it removes in
    assert starts.share(tasks, lengths, writers, 0.0, 130.0, 4.0).tolist() == [[100.0, 20.0, 0.0, 0.0]]
    starts.share(tasks, lengths, writers, 130.0, 500.0, 4.0)
    written, removed, touched, unmapped = starts.share(tasks, lengths, writers, 500.0, 740.0, 4.0)[0]
    assert written + removed + touched + unmapped == pytest.approx(240)
    assert touched == pytest.approx(120, abs=12)  # its slice cut
    assert unmapped == 0


def test_who_was_forked_later_waits_until_the_others_have_had_as_much():
    """Both start at once, the second half a latency behind: the first has 10 ms ahead, cut by ticks of 4 ms."""
    lengths, writers = np.full((2, 2), 10_000.0), np.array([0, 0])
    tasks = sharing([0.0, 0.0], lengths, writers)
    starts.share(tasks, lengths, writers, 0.0, 8.0, 4.0)
    assert tasks.vruntime[0].tolist() == [8.0, 10.0]
    starts.share(tasks, lengths, writers, 8.0, 200.0, 4.0)
    first, second = tasks.vruntime[0]
    assert first + second == 210.0
    assert abs(first - second) <= 12.0


@pytest.mark.parametrize(("writer", "ahead"), [(1, 400.0), (0, 20.0)])
def test_a_task_is_as_far_behind_as_min_vruntime_is(writer, ahead):
    """Beside a sole writer min_vruntime stands still, and who comes then has the CPU until it has had as much; beside a
    copier ksoftirqd moves it."""
    lengths, writers = np.full((2, 2), 10_000.0), np.array([writer, 1])
    tasks = sharing([0.0, 500.0], lengths, writers)
    starts.share(tasks, lengths, writers, 0.0, 500.0, 4.0)
    assert tasks.vruntime[0].tolist() == [500.0, np.inf]
    starts.share(tasks, lengths, writers, 500.0, 900.0, 4.0)
    first, second = tasks.vruntime[0]
    ran = [first - 500.0, 400.0 - (first - 500.0)]
    assert ran[1] - ran[0] == pytest.approx(ahead, abs=12)  # a slice
    assert abs(first - second) <= 12 or writer


def test_costs_are_those_of_the_scenario(scenario):
    written, removed, touched, unmapped = starts.unit_ms(scenario) * 1e6
    assert written == 5900 + 3 * 7650 + 680
    assert removed == pytest.approx(4 * 2300 + (1 + 2 / 3) * 680)  # a dentry; a radix node but for files of one page
    assert (touched, unmapped) == (2820, 1070)


def test_known_starts_are_found(scenario):
    known = [100.0, 1300.0, 620.0]
    found = starts.read_starts(ONE_CPU, scenario, counted(known, scenario, 10), 40, 1)
    early, late = np.median(np.sort(found.start_ms[:, :2], 1), 0)
    assert early == pytest.approx(100, abs=20)
    assert late == pytest.approx(1300, abs=60)
    assert np.median(found.start_ms[:, 2]) == pytest.approx(620, abs=60)
    assert (found.started, found.drawn) == (3, 3)


def test_what_comes_after_the_first_reclaim_is_not_looked_at(scenario):
    series = counted([100.0, 1300.0, 620.0], scenario, 8)
    until = series.head(4)
    reclaim = series.tail(-4).with_columns(pl.lit(1).alias("allocstall"), (pl.col("files") * 3).alias("files"))
    found = starts.read_starts(ONE_CPU, scenario, pl.concat([until, reclaim], how="vertical_relaxed"), 4, 1)
    same = starts.read_starts(ONE_CPU, scenario, until, 4, 1)
    assert found.until_s == pytest.approx(3 * SAMPLE_MS / 1000)
    assert (found.start_ms == same.start_ms).all()
    assert found.started < 3
    assert starts.read_starts(ONE_CPU, scenario, until.head(1), 4, 1) is None  # memory full at once: nothing is told


def test_all_tasks_of_a_run_without_a_spread_start_at_once(scenario):
    series = counted([0.0, 0.0, 0.0], scenario, 4)
    found = starts.read_starts(ONE_CPU | {"spread": 0}, scenario, series, 4, 1)
    assert (found.start_ms == 0).all()
    assert (found.started, found.drawn) == (3, 3)


def test_a_lane_starts_its_tasks_when_it_is_told(scenario):
    lane = build_lane(scenario.with_settings({"workload.start_ms": [0, 7, 40]}), 0, 1)
    tasks = lane.vm.task[1 : lane.vm.ctl[VM.kthreads]]
    assert tasks[:, TASK.wake_jiffy].tolist() == [1, 1 + 1, 1 + 10]  # 4 ms a jiffy
    with pytest.raises(InputError, match="2 starts of 3 tasks"):
        scenario.with_settings({"workload.start_ms": [0, 7]})


@pytest.mark.parametrize(
    "fault",
    [b"not gzip", gzip.compress(b"t_ns,files\n1,2\n"), gzip.compress(b"\xff\xfe,,\n1")],
    ids=["no gzip", "columns missing", "no text"],  # packed bytes have the time in them: no ids for several workers
)
def test_a_series_that_cannot_be_read_is_refused(tmp_path, fault):
    table = tmp_path / "runs.csv"
    assert starts.series_of(table, ROW) is None  # none there: starts are drawn
    (tmp_path / "ts").mkdir()
    (tmp_path / "ts" / "made-up.csv.gz").write_bytes(fault)
    with pytest.raises(InputError):
        starts.series_of(table, ROW)
    assert starts.series_of(table, ROW | {"run": "../ts/made-up"}) is None
