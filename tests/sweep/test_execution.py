"""However a sweep is run, stopped, damaged and gone on with, its rows are the same."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from fastalloc import open_dataset
from fastalloc.errors import InputError
from fastalloc.store.maintain import check_dataset, merge_datasets
from fastalloc.sweep import plan_sweep, run_sweep
from fastalloc.sweep.plan import BatchSize, Planner
from tests.sweep.conftest import ALL_TABLES, SWEEP, TABLES, files, rows

STOPPING = """
name = "tiny"
scenario = "scenario.toml"
variants = ["rc8", "fix"]
lanes = 20
stop = { interval_width = 0.4, check_every = 4 }
[axes]
"host.queue_depth" = [1, 4]
"""


A_FILE_A_LANE = pytest.param(1, 1, marks=pytest.mark.slow)  # and the stopping rule has it too


@pytest.mark.parametrize(("threads", "batch"), [A_FILE_A_LANE, (1, 7), (2, 7), (2, 0), (1, 1000)])
def test_threads_and_batches_change_no_byte(sweep_file, tmp_path, undisturbed, threads, batch):
    dataset = run_sweep(sweep_file(ALL_TABLES), tmp_path / "out", threads=threads, batch=batch)
    assert {table: rows(dataset, table) for table in TABLES} == undisturbed
    if batch == 7:
        assert len(files(dataset.path)) == -(-64 // 7)


def test_slices_change_no_byte_in_one_folder_or_merged(sweep_file, tmp_path, undisturbed):
    path = sweep_file(ALL_TABLES)
    for i in (1, 2):
        assert len(files(tmp_path / "one")) == 0 if i == 1 else True
        together = run_sweep(path, tmp_path / "one", threads=1, batch=9, shard=(i, 2))
        run_sweep(path, tmp_path / f"slice{i}", threads=1, shard=(i, 2))
        assert together.manifest["status"] == ("complete" if i == 2 else "running")
    merge_datasets([tmp_path / f"slice{i}" for i in (1, 2)], tmp_path / "merged")
    merge_datasets([tmp_path / "one"], tmp_path / "compacted")
    assert len(files(tmp_path / "compacted")) == 1
    for name in ("one", "merged", "compacted"):
        dataset = open_dataset(tmp_path / name)
        assert {table: rows(dataset, table) for table in TABLES} == undisturbed
        assert dataset.manifest["status"] == "complete"
        assert check_dataset(tmp_path / name).faults == []


def test_any_executor_gives_the_same_rows(sweep_file, tmp_path, undisturbed):
    with ThreadPoolExecutor(2) as pool:
        dataset = run_sweep(sweep_file(), tmp_path / "out", executor=pool, workers=2)
    assert rows(dataset) == undisturbed["runs"]


def test_a_stopped_sweep_goes_on(sweep_file, tmp_path, undisturbed):
    path, cancel = sweep_file(ALL_TABLES), threading.Event()

    def stop_soon(now):
        if now.lanes_done > 15:
            cancel.set()

    stopped = run_sweep(path, tmp_path / "out", threads=2, batch=3, progress=stop_soon, cancel=cancel)
    assert stopped.manifest["status"] == "interrupted"
    kept = {file: file.stat().st_mtime_ns for file in files(stopped.path)}
    assert 15 < stopped.runs.collect().height < 64
    told = []
    dataset = run_sweep(path, tmp_path / "out", threads=2, batch=50, progress=told.append)
    assert told[0].lanes_before == 3 * len(kept)
    assert {table: rows(dataset, table) for table in TABLES} == undisturbed
    assert all(file.stat().st_mtime_ns == then for file, then in kept.items())


def test_damaged_and_missing_files_are_named_and_made_again(sweep_file, tmp_path, undisturbed):
    path = sweep_file(ALL_TABLES)
    dataset = run_sweep(path, tmp_path / "out", threads=2, batch=5)
    whole = files(dataset.path)
    content = bytearray(whole[3].read_bytes())
    content[len(content) // 2] ^= 1
    whole[3].write_bytes(content)
    whole[5].write_bytes(whole[5].read_bytes()[:-9])
    lost = next((dataset.path / "series").glob(f"{whole[7].name.split('.')[0]}.*"))
    lost.unlink()
    whole[9].unlink()
    assert len(check_dataset(dataset.path).faults) > 3
    faults = []
    again = run_sweep(path, tmp_path / "out", threads=2, fault=faults.append)
    assert {fault.path for fault in faults} == {whole[3], whole[5], whole[7]}
    assert {table: rows(again, table) for table in TABLES} == undisturbed
    assert check_dataset(again.path).faults == []
    assert len(list((again.path / "damaged" / "runs").iterdir())) == 3


def test_the_stopping_rule_depends_on_the_lanes_alone(sweep_file, tmp_path):
    path = sweep_file(STOPPING)
    first = run_sweep(path, tmp_path / "a", threads=1, batch=1)
    table = first.runs.group_by("point").agg(pl.len(), pl.max("lane"))
    lanes = table.collect()["len"].to_list()
    assert max(lanes) < 20
    assert all(count % 4 == 0 for count in lanes)
    assert (table.collect()["lane"] + 1).to_list() == lanes
    assert rows(run_sweep(path, tmp_path / "b", threads=2)) == rows(first)
    for i in (1, 2):
        sliced = run_sweep(path, tmp_path / "c", threads=2, batch=3, shard=(i, 2))
    assert sliced.manifest["status"] == "complete"
    assert rows(sliced) == rows(first)
    for file in files(first.path)[::2]:
        file.unlink()
    assert rows(run_sweep(path, tmp_path / "a", threads=2, batch=2)) == rows(run_sweep(path, tmp_path / "b"))


def test_slices_share_the_lanes_evenly(sweep_file):
    plan = plan_sweep(sweep_file(SWEEP.replace("lanes = 8", "lanes = 200")))
    for n in (1, 2, 3, 7):
        planners = [Planner(plan, slice_=(i, n)) for i in range(1, n + 1)]
        seen = []
        for planner in planners:
            while task := planner.next_task(50):
                assert task.lanes <= 50
                seen += [(part.point, lane) for part in task.segments for lane in range(part.begin, part.end)]
        assert len(seen) == len(set(seen)) == plan.most_lanes == sum(planner.lanes for planner in planners)
        assert max(planner.lanes for planner in planners) - min(planner.lanes for planner in planners) <= 64 * 2


def test_the_batch_grows_to_a_second():
    size = BatchSize()
    for _ in range(20):
        size.learn(size.lanes, size.lanes * 0.01)
    assert 80 <= size.lanes <= 100
    size.learn(size.lanes, 100.0)
    assert size.lanes < 80


def test_a_folder_takes_one_sweep_and_one_process(sweep_file, tmp_path):
    path = sweep_file(SWEEP.replace("lanes = 8", "lanes = 1"))
    run_sweep(path, tmp_path / "out")
    with pytest.raises(InputError, match="holds another sweep"):
        run_sweep(sweep_file(name="other.toml"), tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest | {"model_digest": "0"}))
    with pytest.raises(InputError, match="another version of the model"):
        run_sweep(path, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    from fastalloc.sweep.folder import locked

    with locked(tmp_path / "out", (1, 1)), pytest.raises(InputError, match="being filled by another process"):
        run_sweep(path, tmp_path / "out")


def test_duckdb_reads_the_dataset_as_it_lies(sweep_file, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    dataset = run_sweep(sweep_file(), tmp_path / "out", batch=11)
    found = duckdb.sql(
        f"select variant, count(*), count(distinct id) from '{dataset.path}/runs/*.parquet' group by all order by 1"
    ).fetchall()
    assert found == [("fix", 32, 32), ("rc8", 32, 32)]


def test_pandas_reads_the_dataset_as_it_lies(sweep_file, tmp_path):
    pandas = pytest.importorskip("pandas")
    dataset = run_sweep(sweep_file(), tmp_path / "out", batch=11)
    frame = pandas.read_parquet(dataset.path / "runs")
    assert len(frame) == frame["id"].nunique() == 64
    assert set(frame["host.queue_depth"]) == {1, 4}
