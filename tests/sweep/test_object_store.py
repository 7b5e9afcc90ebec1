"""A sweep in an object store is the sweep on a disk; a real S3 API answers on the loopback."""

import json
import shutil
import subprocess
import sys
import threading

import pytest
from pyarrow import fs

from fastalloc import open_dataset, rerun
from fastalloc.errors import InputError
from fastalloc.report.sweep import point_table
from fastalloc.store import location as places
from fastalloc.store.check import check_dataset
from fastalloc.store.location import StorePath, location
from fastalloc.store.maintain import merge_datasets
from fastalloc.store.shards import DAMAGED
from fastalloc.sweep import run_sweep
from tests.store.test_store import fill, small
from tests.sweep.conftest import ALL_TABLES, SWEEP, TABLES, rows

SMALL = ALL_TABLES.replace("lanes = 8", "lanes = 3")
MOTO = "needs moto[server]"


@pytest.fixture(scope="module")
def endpoint():
    """An S3 API on a free port of the loopback."""
    server = pytest.importorskip("moto.server", reason=MOTO).ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """An empty bucket, told of as users tell of theirs."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "user",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    real = places._store
    real.cache_clear()
    maker = fs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True, allow_bucket_deletion=True)
    maker.create_dir("lab")
    yield "s3://lab"
    maker.delete_dir("lab")
    real.cache_clear()


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory, scenario_toml):
    """The sweep on a disk, and two slices of it."""
    path = tmp_path_factory.mktemp("disk")
    (path / "scenario.toml").write_text(scenario_toml)
    (path / "sweep.toml").write_text(SMALL)
    dataset = run_sweep(path / "sweep.toml", path / "out", batch=5)
    for i in (1, 2):
        run_sweep(path / "sweep.toml", path / f"slice{i}", batch=5, shard=(i, 2))
    return dataset


def every(dataset):
    return {table: rows(dataset, table) for table in TABLES}


def test_a_sweep_in_a_store_is_stopped_damaged_and_gone_on_with(sweep_file, bucket, on_disk):
    out, cancel = location(f"{bucket}/sweeps/tiny"), threading.Event()

    def stop_soon(now):
        if now.lanes_done > 8:
            cancel.set()

    stopped = run_sweep(sweep_file(SMALL), str(out), batch=6, threads=1, progress=stop_soon, cancel=cancel)
    assert stopped.manifest["status"] == "interrupted"
    assert stopped.path == out
    kept = sorted((out / "runs").glob("*.parquet"))
    assert 1 < len(kept) < 4
    content = bytearray(kept[1].read_bytes())
    content[len(content) // 2] ^= 1
    places.write_file(kept[1], bytes(content))
    assert check_dataset(out).faults[0].path == kept[1]
    faults = []
    dataset = run_sweep(sweep_file(SMALL), str(out), batch=6, fault=faults.append)
    assert [fault.path for fault in faults] == [kept[1]]
    assert (out / DAMAGED / "runs" / kept[1].name).exists()
    assert dataset.manifest["status"] == "complete"
    assert every(dataset) == every(on_disk)
    assert point_table(open_dataset(str(out))).equals(point_table(on_disk))
    assert check_dataset(out).faults == []
    assert rerun(dataset, 17).differing == ()


def test_slices_on_a_disk_merge_into_a_store_and_a_store_compacts_onto_a_disk(bucket, on_disk, tmp_path):
    slices = [on_disk.path.parent / f"slice{i}" for i in (1, 2)]
    found = merge_datasets(slices, f"{bucket}/merged")
    assert (found.lanes, found.faults) == (24, [])
    merged = open_dataset(f"{bucket}/merged")
    assert every(merged) == every(on_disk)
    assert merged.manifest["status"] == "complete"
    with pytest.raises(InputError, match="is not empty"):
        merge_datasets(slices, f"{bucket}/merged")
    merge_datasets([f"{bucket}/merged"], tmp_path / "back")
    assert every(open_dataset(tmp_path / "back")) == every(on_disk)


def test_a_store_that_goes_away_stops_the_sweep_and_loses_nothing(sweep_file, bucket, on_disk, monkeypatch):
    servers = [pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False) for _ in "ab"]
    out, path = f"{bucket}/sweep", sweep_file(SMALL)
    monkeypatch.setattr(places, "ATTEMPTS", 1)

    def use(server):  # both answer for the same buckets, which live in this process
        server.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        places._store.cache_clear()

    def go_away(now):
        if now.lanes_done >= 12:
            servers[0].stop()

    use(servers[0])
    with pytest.raises(InputError, match=f"{out}.*cannot be written"):
        run_sweep(path, out, batch=4, threads=1, progress=go_away)
    use(servers[1])
    kept = sorted((location(out) / "runs").glob("*.parquet"))
    assert len(kept) >= 3
    dataset = run_sweep(path, out, batch=7)
    assert set(kept) <= set((location(out) / "runs").glob("*.parquet"))
    assert every(dataset) == every(on_disk)
    servers[1].stop()


class Mute:
    """A store that lists what it holds and gives nothing of it."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def open_input_file(self, address):
        if address.endswith(".parquet"):
            raise OSError(f"When reading key '{address}': AWS Error SLOW_DOWN during GetObject operation: Reduce rate")
        return self._store.open_input_file(address)


def test_a_file_that_cannot_be_had_is_not_taken_for_a_damaged_one(sweep_file, bucket, on_disk, monkeypatch):
    merge_datasets([on_disk.path], f"{bucket}/a")
    store = places._store("lab")
    monkeypatch.setattr(places, "_store", lambda bucket: Mute(store))
    for ask in (check_dataset, open_dataset, lambda out: run_sweep(sweep_file(SMALL), out)):
        with pytest.raises(InputError, match="SLOW_DOWN: Reduce rate"):
            ask(f"{bucket}/a")
    monkeypatch.setattr(places, "_store", lambda bucket: store)
    assert check_dataset(f"{bucket}/a").faults == []
    assert not (location(bucket) / "a" / DAMAGED).is_dir()


def test_a_run_in_a_store_is_the_run_on_a_disk(bucket, tmp_path):
    here, there = (open_dataset(fill(location(place), small())) for place in (str(tmp_path / "run"), f"{bucket}/run"))
    assert every(here) == every(there)
    assert check_dataset(f"{bucket}/run").faults == []
    assert b"swap-livelock" in (there.path / "scenario.toml").read_bytes()
    with pytest.raises(InputError, match="holds a dataset already"):
        fill(there.path, small())


def test_the_commands_take_a_store(bucket, on_disk, fastalloc):
    merge_datasets([on_disk.path], f"{bucket}/a")
    command = [sys.executable, "-m", "fastalloc.cli.main", "dataset", "check", f"{bucket}/a"]
    checked = subprocess.run(command, capture_output=True, text=True)  # which ends with the store in use
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith(", 0 faults\n")
    done = fastalloc("report", f"{bucket}/a", "--json")
    assert (done.code, "Traceback" in done.err) == (0, False)
    assert [row["lanes"] for row in json.loads(done.out)] == [3] * 8
    assert b"Where the livelock lives" in (location(bucket) / "a" / "report.html").read_bytes()


def test_a_store_that_refuses_gives_one_line(bucket, sweep_file, tmp_path, monkeypatch, fastalloc):
    path = sweep_file(SWEEP.replace("lanes = 8", "lanes = 1"))
    refused = fastalloc("sweep", path, "--out", "s3://nowhere/x")
    said = refused.err
    assert (refused.code, "Traceback" in said) == (2, False)
    assert said.splitlines()[-1].startswith("s3://nowhere/x/sweep.toml: cannot be written: NO_SUCH_BUCKET")
    assert said.splitlines()[-1].endswith("The specified bucket does not exist")
    for place, reason in (
        (f"{bucket}/none", "no such dataset"),
        ("s3:///x?endpoint=1", "must be s3://BUCKET/PREFIX"),
        ("gs://lab/x", "neither a path on a disk nor s3://"),
    ):
        with pytest.raises(InputError, match=reason):
            open_dataset(place)
    monkeypatch.setattr(places, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    places._store.cache_clear()
    with pytest.raises(InputError, match="NETWORK_CONNECTION") as caught:
        open_dataset(f"{bucket}/none")
    assert str(caught.value).startswith(f"{bucket}/none")
    assert "\n" not in str(caught.value)


def test_credentials_that_the_store_does_not_know(bucket, endpoint, on_disk, fastalloc):
    import requests

    merge_datasets([on_disk.path], f"{bucket}/a")
    requests.post(f"{endpoint}/moto-api/reset-auth", data="0", timeout=10)
    try:
        refused = fastalloc("report", f"{bucket}/a")
    finally:
        requests.post(f"{endpoint}/moto-api/reset-auth", data="inf", timeout=10)
    said = refused.err
    assert refused.code == 2
    assert said.startswith(f"{bucket}/a")
    assert "AWS Error" not in said
    assert "not JSON" not in said
    assert "credentials are taken from the AWS_ environment variables" in said
    assert len(said.splitlines()) == 1


def test_lanes_that_two_processes_ran_are_told_and_mended(sweep_file, tmp_path, on_disk):
    """A store has no locks, so two processes can fill one prefix."""
    path = sweep_file(SMALL)
    first = shutil.copytree(on_disk.path, tmp_path / "a")
    second = run_sweep(path, tmp_path / "b", batch=7).path
    for table in TABLES:
        file = sorted((second / table).iterdir())[0]
        (first / table / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="two sweeps wrote here at once"):
        open_dataset(first)
    assert any("holds too" in fault.message for fault in check_dataset(first).faults)
    faults = []
    mended = run_sweep(path, first, fault=faults.append)
    assert faults
    assert every(mended) == every(on_disk)
    assert check_dataset(first).faults == []


def test_a_place_in_a_store_answers_as_a_path_does():
    place = location("s3://lab/a/b/")
    assert place == StorePath("lab", "a/b")
    assert str(place / "c.x") == "s3://lab/a/b/c.x"
    assert ((place / "c.x").name, (place / "c.x").parent, place.parent.parent) == ("c.x", place, StorePath("lab"))
    assert str(StorePath("lab")) == "s3://lab"
