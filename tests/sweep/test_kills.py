"""Killed processes: a sweep killed at random moments and a worker killed in the middle of its task cost no row."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from fastalloc.store.maintain import check_dataset
from fastalloc.sweep import plan_sweep, run_sweep
from fastalloc.sweep.cluster import dask_executor
from tests.sweep.conftest import ALL_TABLES, TABLES, files, rows

distributed = pytest.importorskip("distributed")

KILLED = """
import sys
from fastalloc.sweep import run_sweep
run_sweep(sys.argv[1], sys.argv[2], threads=2, batch=3)
"""


def start(sweep, out):
    """Starts the sweep as a process group of its own."""
    return subprocess.Popen([sys.executable, "-c", KILLED, sweep, out], start_new_session=True)


def kill_group(process):
    """SIGKILL to all of it; tells whether it was still at work."""
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def expect_whole(path, out, expected):
    """Gone on with once more, the dataset is the undisturbed one and nothing lies about."""
    dataset = run_sweep(path, out, threads=2)
    assert dataset.manifest["status"] == "complete"
    assert {table: rows(dataset, table) for table in TABLES} == expected
    assert not [file for file in out.rglob(".*") if not file.name.startswith(".lock")]
    assert check_dataset(out).faults == []


def test_killed_soon_after_a_shard_it_ends_with_the_same_rows(sweep_file, tmp_path, undisturbed):
    path, out = sweep_file(ALL_TABLES), tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    for seconds in (0.0, 0.051):
        process, before, limit = start(path, out), len(files(out)), time.monotonic() + 60
        while len(files(out)) == before and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.002)
        time.sleep(seconds)
        kill_group(process)
    expect_whole(path, out, undisturbed)


@pytest.mark.slow
def test_killed_at_a_hundred_random_moments_it_ends_with_the_same_rows(sweep_file, tmp_path):
    """Moments are uniform from the start of the process to twice the time that its first shard took."""
    path = sweep_file(ALL_TABLES.replace("lanes = 8", "lanes = 1000"))
    whole = run_sweep(path, tmp_path / "whole", threads=1)
    expected = {table: rows(whole, table) for table in TABLES}
    out, draw, cut_short, at_work = tmp_path / "out", random.Random(2008), 0, 0
    (out / "runs").mkdir(parents=True)
    begun, process = time.monotonic(), start(path, out)
    while not files(out):
        time.sleep(0.002)
    first_shard_s = time.monotonic() - begun
    kill_group(process)
    for _ in range(100):
        process, before = start(path, out), len(files(out))
        time.sleep(draw.uniform(0, 2 * first_shard_s))
        cut_short += kill_group(process)
        at_work += len(files(out)) > before
    print(f"{cut_short} of 100 killed before their end, {at_work} after a shard; {len(files(out))} shards")
    assert cut_short == 100
    assert at_work >= 20
    expect_whole(path, out, expected)


def test_dask_workers_give_the_same_rows_though_one_is_killed_at_its_task(sweep_file, tmp_path, undisturbed):
    plan, killed = plan_sweep(sweep_file(ALL_TABLES)), threading.Event()
    with (
        distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        dask_executor(cluster.scheduler_address, plan.heaps()) as (executor, workers),
    ):
        assert workers == 2
        pids = [nanny.pid for nanny in cluster.workers.values()]

        def kill_one(now):
            if now.lanes_done > 16 and not killed.is_set():
                killed.set()
                os.kill(pids[0], signal.SIGKILL)

        dataset = run_sweep(plan, tmp_path / "out", batch=7, executor=executor, workers=workers, progress=kill_one)
        assert killed.is_set()
        assert cluster.workers[0].pid != pids[0]  # the nanny put another in its place, so one did die
    assert {table: rows(dataset, table) for table in TABLES} == undisturbed


@pytest.mark.slow  # where one of them is killed, the rows are the same too
def test_two_undisturbed_dask_workers_give_the_same_rows(sweep_file, tmp_path, undisturbed):
    plan = plan_sweep(sweep_file(ALL_TABLES))
    with (
        distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        dask_executor(cluster.scheduler_address, plan.heaps()) as (executor, workers),
    ):
        dataset = run_sweep(plan, tmp_path / "out", executor=executor, workers=workers)
    assert {table: rows(dataset, table) for table in TABLES} == undisturbed
