"""Datasets: the same bytes for the same seed, whole shards or none, and where each came from."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from fastalloc.errors import InputError
from fastalloc.kernels.lane.metrics import EVENT_ROW, METRIC, SERIES
from fastalloc.model_digest import model_digest
from fastalloc.scenario import load_scenario
from fastalloc.store import DatasetWriter, open_dataset, read_footer
from fastalloc.store import write as store_write
from fastalloc.store.location import write_file
from tests.fake_batch import fake_lane


def small(lanes=3, seed=1):
    return load_scenario("swap-livelock").with_settings({"run.lanes": lanes, "run.seed": seed, "run.duration_s": 40})


def fill(path: Path, scenario, variants=("rc8", "fix")) -> Path:
    writer = DatasetWriter(path, scenario, variants, "fastalloc run")
    for name in variants:
        writer.start_variant(name)
        for lane in range(scenario.run.lanes):
            writer.add(fake_lane(scenario.variant(name), lane, scenario.run.seed))
    writer.close("complete", {"wall_s": 1.0})
    return path


def shards(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(fill(tmp_path_factory.mktemp("store") / "dataset", small()))


def test_runs_hold_every_parameter_and_metric(dataset):
    runs = dataset.runs.collect()
    assert sorted(runs["id"]) == [0, 1, 2, 3, 4, 5]
    assert set(METRIC.names) <= set(runs.columns)
    row = runs.filter((pl.col("variant") == "fix") & (pl.col("lane") == 1)).row(0, named=True)
    assert row["id"] == 4
    assert row["seed"] == 1
    assert row["policy.command_rule"] == "fix"
    assert row["machine.zones.DMA32.min"] == 15
    assert row["machine.min_free_kbytes"] == 64
    assert row["workload.copiers"] == 48
    metrics = fake_lane(small().variant("fix"), 1, 1).metrics
    assert [row[name] for name in METRIC.names] == metrics.tolist()


def test_series_events_and_ledger(dataset):
    lane = fake_lane(small().variant("rc8"), 2, 1)
    series = dataset.series.filter(pl.col("id") == 2).select(SERIES.names).collect()
    assert np.array_equal(series.to_numpy(), lane.series)
    events = dataset.events.filter(pl.col("id") == 2).collect()
    assert events.columns == ["id", "variant", "lane", *EVENT_ROW.names]
    assert len(events) == len(lane.events)
    ledger = dataset.ledger.filter(pl.col("id") == 2).collect()
    assert ledger["objects"].sum() == lane.ledger.sum()
    taken = ledger.row(
        by_predicate=(pl.col("owner") == "sense") & (pl.col("depth") == "3/8 min") & (pl.col("taker") == "bio")
    )
    assert taken[-1] == 1240


def test_same_seed_same_bytes_and_other_seeds_differ(tmp_path):
    first = shards(fill(tmp_path / "a", small()))
    assert first == shards(fill(tmp_path / "b", small()))
    other = shards(fill(tmp_path / "c", small(seed=2)))
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.startswith("series"))


def test_footers_carry_the_origin_and_no_time(dataset):
    for table in ("runs", "series", "events", "ledger"):
        for shard in (dataset.path / table).iterdir():
            record = read_footer(shard)
            assert record["software"] == "fastalloc"
            assert record["model_digest"] == model_digest()
            assert record["seed"] == 1
            assert record["scenario"]["variants"][0]["name"] == shard.name.split("-")[0]
            assert "numba" in record["environment"]["libraries"]
            assert not {"timing", "wall_s", "command"} & record.keys()
    assert dataset.manifest["timing"] == {"wall_s": 1.0}
    assert dataset.manifest["status"] == "complete"
    assert [v["lanes"] for v in dataset.manifest["variants"]] == [3, 3]


def test_the_stored_scenario_runs_again(dataset):
    assert load_scenario(dataset.path / "scenario.toml") == small()


def test_shards_begin_at_fixed_lanes(tmp_path, monkeypatch):
    monkeypatch.setattr(store_write, "SHARD_LANES", 2)
    path = fill(tmp_path / "dataset", small(lanes=5), ["rc8"])
    assert sorted(os.listdir(path / "runs")) == [f"rc8-00000{n}.parquet" for n in range(3)]
    assert open_dataset(path).runs.collect()["lane"].to_list() == [0, 1, 2, 3, 4]


def test_a_dataset_is_not_overwritten(dataset):
    before = shards(dataset.path)
    with pytest.raises(InputError, match="holds a dataset already"):
        DatasetWriter(dataset.path, small(), ["rc8"], "fastalloc run")
    assert shards(dataset.path) == before


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_file(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written: No space left on device"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_is_killed_leaves_no_half_shard(tmp_path, monkeypatch):
    path = fill(tmp_path / "dataset", small(lanes=1), ["rc8"])
    before = shards(path)

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store_write.write_parquet(path / "runs" / "rc8-000001.parquet", pq.read_table(next((path / "runs").iterdir())))
    assert shards(path) == before
    open_dataset(path)


def refused(path) -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unreadable_datasets_name_the_file(tmp_path):
    assert refused(tmp_path / "none") == f"{tmp_path / 'none'}: no such dataset"
    assert "manifest.json: no such file" in refused(tmp_path)
    path = fill(tmp_path / "dataset", small(lanes=1), ["rc8"])
    shard = path / "series" / "rc8-000000.parquet"
    whole = shard.read_bytes()

    shard.write_bytes(whole[:-20])
    assert refused(path).startswith(f"{shard}: unreadable Parquet")
    shard.write_bytes(b"")
    assert refused(path).startswith(f"{shard}: unreadable Parquet")
    pl.DataFrame({"a": [1]}).write_parquet(shard)
    assert refused(path) == f"{shard}: footer: not written by fastalloc: it carries no provenance"
    shard.unlink()
    assert refused(path).startswith(f"{path / 'series'}: no shard")
    shard.write_bytes(whole)

    manifest = path / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[:100])
    assert refused(path).startswith(f"{manifest}: not JSON")
    manifest.write_text(json.dumps({"schema_version": 99}))
    assert refused(path) == f"{manifest}: schema_version: 99, this version reads 1"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        DatasetWriter(tmp_path / "file", small(), ["rc8"], "fastalloc run")


def test_lists_of_users_are_one_type_of_column_whatever_they_hold(tmp_path):
    few = small(1).with_settings({"policy.memalloc": ["sense", "scsi_cmnd"]})
    for folder, scenario, stored in ((tmp_path / "few", few, "sense,scsi_cmnd"), (tmp_path / "none", small(1), "")):
        runs = open_dataset(fill(folder, scenario, ("rc8",))).runs.collect()
        assert runs["policy.memalloc"].to_list() == [stored]
