"""The sweep commands from the shell: dry run, interrupt, report, maintenance."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from fastalloc import rerun
from fastalloc.report.statistics import paired_interval
from fastalloc.report.sweep import paired_table, point_table
from fastalloc.report.sweep_page import heat_maps
from fastalloc.sweep import run_sweep
from tests.sweep.conftest import SWEEP

COMMAND = [sys.executable, "-m", "fastalloc.cli.main"]


def test_a_sweep_from_the_shell(sweep_file, tmp_path, fastalloc):
    path, out = sweep_file(SWEEP.replace("lanes = 8", "lanes = 3")), tmp_path / "out"
    dry = fastalloc("sweep", path, "--dry-run").out
    assert re.search(r"points  8 .*\nlanes   24 .*\ntime    about \d+ s.*\nbytes   about [\d,]+", dry)
    assert not out.exists()
    done = fastalloc("sweep", path, "--out", out, "--json")
    assert (done.code, "Traceback" in done.err) == (0, False)
    points = json.loads(done.out)
    assert [row["lanes"] for row in points] == [3] * 8
    assert fastalloc("report", out).code == 0
    page = (out / "report.html").read_text()
    assert "Where the livelock lives" in page
    assert "machine.min_free_kbytes" in page
    assert fastalloc("dataset", "check", out).out.endswith(", 0 faults\n")
    assert fastalloc("dataset", "compact", out, "-o", tmp_path / "compact").code == 0
    shard = next((out / "runs").iterdir())
    shard.write_bytes(b"x")
    checked = fastalloc("dataset", "check", out)
    assert (checked.code, str(shard) in checked.err) == (1, True)
    again = fastalloc("sweep", path, "--out", out)
    assert (again.code, str(shard) in again.err) == (0, True)
    refused = fastalloc("sweep", path, "--shard", "3/2")
    assert (refused.code, "must be I/N" in refused.err) == (2, True)


def test_a_folder_with_other_files_is_left_alone(sweep_file, tmp_path, fastalloc):
    path, mine = sweep_file(SWEEP), tmp_path / "mine"
    mine.mkdir()
    (mine / "sweep.toml").write_text("of another sweep")
    done = fastalloc("sweep", path, "--out", mine)
    assert (done.code, done.err) == (
        2, f"{mine}: holds other files (sweep.toml); name another folder, or an empty one\n",
    )  # fmt: skip
    assert [(file.name, file.read_text()) for file in mine.iterdir()] == [("sweep.toml", "of another sweep")]
    one = sweep_file(SWEEP.replace("lanes = 8", "lanes = 1"))
    assert fastalloc("sweep", one, "--out", tmp_path / "one").code == 0
    done = fastalloc("dataset", "compact", tmp_path / "one", "-o", path)
    assert (done.code, done.err) == (2, f"{path}: is a file; name a folder\n")


def test_a_slice_says_that_it_is_one(sweep_file, tmp_path, fastalloc):
    path, part = sweep_file(SWEEP.replace("lanes = 8", "lanes = 1")), tmp_path / "part"
    done = fastalloc("sweep", path, "--shard", "1/2", "--out", part)
    assert done.code == 0
    assert "slice 1/2 is done; `fastalloc dataset merge` puts" in " ".join(done.err.split())
    assert "or is one slice of a sweep" in " ".join(fastalloc("report", part).out.split())
    merged = fastalloc("dataset", "merge", part, "-o", tmp_path / "all")
    assert (merged.code, " of 8 lanes: a slice is missing" in merged.err) == (0, True)


def test_an_interrupt_keeps_what_is_done(sweep_file, tmp_path):
    path, out = sweep_file(SWEEP.replace("lanes = 8", "lanes = 2000")), tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, "sweep", path, "--out", out, "--batch", "5"], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    limit = time.monotonic() + 300
    while not list((out / "runs").glob("*.parquet")) and time.monotonic() < limit:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"what was finished is kept" in err
    assert b"Traceback" not in err
    assert json.loads((out / "manifest.json").read_text())["status"] == "interrupted"


def test_points_pairs_and_maps(sweep_file, tmp_path):
    dataset = run_sweep(sweep_file(SWEEP.replace("lanes = 8", "lanes = 3")), tmp_path / "out")
    points = point_table(dataset)
    assert points["lanes"].to_list() == [3] * 8
    assert (points["low"] <= points["share"]).all()
    pairs = paired_table(dataset)
    assert pairs["pairs"].to_list() == [3] * 4
    assert set(pairs["against"]) == {"rc8"}
    panels, left_out = heat_maps(dataset, points)
    assert [panel.title for panel in panels] == ["rc8", "fix"]
    assert left_out == 0
    for lane_id in (0, 4, 23):
        again = rerun(dataset, lane_id)
        assert again.differing == ()
    assert again.scenario.host.queue_depth == 4


def test_paired_intervals():
    assert paired_interval(0, 0, 0) == (-1.0, 1.0)
    low, high = paired_interval(20, 0, 40)
    assert 0.3 < low < 0.5 < high < 0.7
    assert paired_interval(0, 20, 40) == pytest.approx((-high, -low))
    low, high = paired_interval(0, 0, 100)
    assert low < 0 < high < 0.05
