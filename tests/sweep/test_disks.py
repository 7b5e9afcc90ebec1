"""Disks that refuse: a full one and a read-only one stop a sweep with one line; nothing written is lost."""

import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest

from fastalloc.errors import InputError
from fastalloc.store.maintain import check_dataset
from fastalloc.sweep import run_sweep
from tests.sweep.conftest import ALL_TABLES, TABLES, files, rows

WITH_MOUNTS = pytest.mark.skipif(os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="needs to mount")


@contextmanager
def mounted(path, *options):
    """A tmpfs on a folder."""
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", path], capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.fixture
def swept(fastalloc):
    """Runs the command; gives the exit code and the last line of stderr."""

    def run(path, out):
        done = fastalloc("sweep", path, "--out", out, "--threads", 2, "--batch", 5)
        assert "Traceback" not in done.err
        return done.code, done.err.strip().splitlines()[-1]

    return run


@WITH_MOUNTS
def test_a_full_disk_loses_nothing_and_the_sweep_goes_on_when_there_is_room(sweep_file, tmp_path, undisturbed, swept):
    path = sweep_file(ALL_TABLES)
    with mounted(tmp_path / "disk", "size=700k") as disk:
        out = disk / "out"
        code, line = swept(path, out)
        assert code == 2
        assert line.startswith(str(out))
        assert "No space left on device" in line
        kept = {file: file.stat().st_mtime_ns for file in files(out)}
        assert kept
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        dataset = run_sweep(path, out, threads=2)
        assert {table: rows(dataset, table) for table in TABLES} == undisturbed
        assert all(file.stat().st_mtime_ns == then for file, then in kept.items())
        assert check_dataset(out).faults == []
        assert not [file for file in out.rglob(".*") if not file.name.startswith(".lock")]


@WITH_MOUNTS
def test_a_read_only_disk_gives_one_line_and_keeps_what_is_there(sweep_file, tmp_path, undisturbed, swept):
    path = sweep_file(ALL_TABLES)
    with mounted(tmp_path / "disk", "size=64m") as disk:
        out = disk / "out"
        run_sweep(path, out, threads=2, batch=5)
        victim = files(out)[2]
        victim.unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for folder in (out, disk / "new"):
            code, line = swept(path, folder)
            assert code == 2
            assert line.startswith(str(folder))
            assert "Read-only file system" in line
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        dataset = run_sweep(path, out, threads=2, batch=5)
        assert {table: rows(dataset, table) for table in TABLES} == undisturbed


def test_a_file_in_place_of_the_folder_gives_one_line(sweep_file, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written") as caught:
        run_sweep(sweep_file(ALL_TABLES), tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_a_limit_on_file_size_is_told_in_one_line(sweep_file, tmp_path, undisturbed, swept):
    """The limit is that of this process: kernels were compiled and kept before, by the undisturbed sweep."""
    path, out = sweep_file(ALL_TABLES), tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        code, line = swept(path, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    assert str(out) in line
    assert "cannot be written: File too large" in line
