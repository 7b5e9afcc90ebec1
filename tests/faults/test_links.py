"""Links in a folder to write into: none leads a file out of it."""

import os

import pytest

from fastalloc.errors import InputError
from fastalloc.store.location import make_folder, write_file
from fastalloc.store.write import DatasetWriter
from fastalloc.sweep.folder import locked
from fastalloc.written import write_text, write_whole
from tests.closed_loop.small import small
from tests.faults.test_files import FAULTS

SWEEP = "name = 'w'\nscenario = 'swap-livelock-34m'\nlanes = 1\n[axes]\n'host.queue_depth' = [1]\n"


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "theirs").write_text("untouched")
    yield folder
    assert [file.name for file in folder.iterdir()] == ["theirs"]
    assert (folder / "theirs").read_text() == "untouched"


@pytest.mark.parametrize("name", ["runs", "series", "events", "ledger"])
def test_a_link_in_the_place_of_a_folder_is_refused(tmp_path, outside, name):
    dataset = tmp_path / "d"
    dataset.mkdir()
    (dataset / name).symlink_to(outside)
    with pytest.raises(InputError, match=f"d/{name}: is a link; nothing is written through it"):
        DatasetWriter(dataset, small(), ["rc8"], "")
    with pytest.raises(InputError, match="is a link"):
        make_folder(dataset, name, "further")


def test_a_sweep_writes_and_moves_nothing_through_a_link(fastalloc, tmp_path, outside):
    (tmp_path / "w.toml").write_text(SWEEP)
    dataset = tmp_path / "d"
    dataset.mkdir()
    (dataset / "runs").symlink_to(outside)
    done = fastalloc("sweep", "w.toml", "--out", "d")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "d/runs: is a link; nothing is written through it" in done.err
    (dataset / ".lock-0-1").symlink_to(outside / "lock")
    with pytest.raises(OSError, match="symbolic links"), locked(dataset, (0, 1)):
        pass


def test_a_link_in_the_place_of_a_file_is_replaced(tmp_path, outside):
    for write in (lambda path: write_file(path, b"ours"), lambda path: write_text(path, "ours")):
        link = tmp_path / "manifest.json"
        link.unlink(missing_ok=True)
        link.symlink_to(outside / "theirs")
        (tmp_path / f".manifest.json.{os.getpid()}").symlink_to(outside / "theirs")
        write(link)
        assert not link.is_symlink()
        assert link.read_text() == "ours"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "outside"]


def test_results_of_a_replay_replace_links(fastalloc, tmp_path, outside):
    (tmp_path / "r").mkdir()
    for name in ("caches.parquet", "series.parquet", "holders.parquet", "manifest.json"):
        (tmp_path / "r" / name).symlink_to(outside / "theirs")
    assert fastalloc("replay", FAULTS / "a.parquet", "--no-exact", "--out", "r").code == 0
    assert not any(file.is_symlink() for file in (tmp_path / "r").iterdir())


def test_events_of_a_lane_are_not_written_through_a_link(fastalloc, tmp_path, outside):
    assert fastalloc("run", "swap-livelock-34m", "--lanes", 1, "--seconds", 1, "--out", "d").code == 0
    (tmp_path / "d" / "rerun").symlink_to(outside)
    done = fastalloc("rerun", "d", 0)
    assert (done.code, "d/rerun: is a link" in done.err) == (2, True)


def test_a_pipe_is_written_to_as_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, [b"a", b"b"])
    assert os.read(reader, 10) == b"ab"
    os.close(reader)
    assert pipe.is_fifo()
