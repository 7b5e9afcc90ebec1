"""``dataset check`` of a sweep: what digests in names cannot tell."""

import hashlib
import shutil

import pyarrow.parquet as pq
import pytest

from fastalloc.store.check import check_dataset
from fastalloc.store.write import parquet_bytes
from fastalloc.sweep import run_sweep
from tests.sweep.conftest import SWEEP


@pytest.fixture(scope="module")
def whole(tmp_path_factory, scenario_toml):
    path = tmp_path_factory.mktemp("check")
    (path / "scenario.toml").write_text(scenario_toml)
    (path / "sweep.toml").write_text(SWEEP.replace("lanes = 8", 'lanes = 4\ntables = ["runs", "events"]'))
    return run_sweep(path / "sweep.toml", path / "out", batch=4).path


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def shards(path, table="runs"):
    return sorted((path / table).iterdir())


def faults(path):
    return {fault.path: fault.message for fault in check_dataset(path).faults}


def test_lanes_that_a_complete_sweep_lacks_are_told_by_point(copy):
    assert faults(copy) == {}
    first, second = shards(copy)[:2]
    points = set(pq.read_table(first)["point"].to_pylist()) | set(pq.read_table(second)["point"].to_pylist())
    for file in (first, second):
        file.unlink()
        next((copy / "events").glob(f"{file.name.split('.')[0]}.*")).unlink()
    told = ", ".join(map(str, sorted(points)))
    assert faults(copy) == {copy / "runs": f"8 lanes are missing, of points {told}"}


def test_a_shard_that_is_not_what_its_footer_tells_is_named(copy):
    """As a writer with a fault would leave it: the digest in the name is that of the content."""
    file = shards(copy)[0]
    content = parquet_bytes(pq.read_table(file).slice(1)).to_pybytes()
    file.unlink()
    digest = hashlib.sha256(content).hexdigest()[:16]
    target = file.with_name(f"{file.name.split('.')[0]}.{digest}.parquet")
    target.write_bytes(content)
    assert faults(copy)[target] == "its 3 rows are not the 4 lanes of its footer"


def test_a_shard_under_the_name_of_another_task_is_named(copy):
    file = shards(copy)[0]
    target = file.with_name(f"{'0' * 32}.{file.name.split('.')[1]}.parquet")
    file.rename(target)
    events = next((copy / "events").glob(f"{file.name.split('.')[0]}.*"))
    events.rename(events.with_name(f"{'0' * 32}.{events.name.split('.')[1]}.parquet"))
    assert faults(copy)[target] == "its name is not that of the task in its footer"
