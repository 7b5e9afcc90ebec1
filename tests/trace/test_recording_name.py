"""What a recording is called, dots in its name or none, and what lies beside its trace."""

from pathlib import Path

import pytest

from fastalloc.cli.trace import trace_app
from fastalloc.trace.compact.recording_name import beside, run_of
from fastalloc.trace.lanes.readings import first_pages
from fastalloc.trace.replay.folder import recorded
from tests.trace.sheaf_trace import Trace
from tests.trace.test_replay import run_command


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("run.events.parquet", "run"),
        ("a.b.events.parquet", "a.b"),
        ("w1-6.12.events.parquet", "w1-6.12"),
        ("w1-6.12.fatrace", "w1-6.12"),
        ("6.12", "6.12"),
        ("run.txt", "run"),
        ("a.b.txt.gz", "a.b"),
        ("run.ftrace.txt.gz", "run"),
        ("run.trace.dat.zst", "run"),
        ("trace.dat", "trace"),
        ("trace.slabs.csv", "trace"),
        ("a.b.slabs.csv.gz", "a.b"),
        ("a.b.slabinfo", "a.b"),
        ("slabinfo", "slabinfo"),
        ("run.fitted.fatrace", "run"),
        ("run.workload.json", "run"),
        (".hidden", ".hidden"),
    ],
)
def test_a_name_is_what_stands_before_its_known_endings(name, run):
    assert run_of(Path("some.where") / name) == run


def test_recordings_that_differ_behind_a_dot_do_not_share_what_lies_beside(tmp_path):
    for run, version in (("a.1", "6.1"), ("a.2", "6.12")):
        (tmp_path / f"{run}.events.parquet").touch()
        (tmp_path / f"{run}.meta.json").write_text(f'{{"uname": "Linux h {version}.0 #1"}}')
        (tmp_path / f"{run}.zoneinfo").write_text("Node 1, zone Normal\n  start_pfn: 8\n" if run == "a.2" else "")
    (tmp_path / "a.2.slabstate.parquet").touch()
    (tmp_path / "a.summary.csv").touch()  # of a recording called a
    first, second = (tmp_path / f"a.{number}.events.parquet" for number in (1, 2))
    assert [recorded(path).kernel for path in (first, second)] == ["6.1", "6.12"]
    assert [beside(path, "slabstate") for path in (first, second)] == [None, tmp_path / "a.2.slabstate.parquet"]
    assert beside(first, "summary") is None
    assert first_pages(tmp_path / "a.2.slabs.csv") == (0, 8)
    assert first_pages(tmp_path / "a.1.slabs.csv") == (0,)


def test_conversions_of_recordings_that_differ_behind_a_dot_do_not_overwrite_each_other(tmp_path, monkeypatch):
    trace = Trace()
    trace.alloc(1, "other", 5)
    source = trace.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    for run in ("a.1", "a.2"):
        source.with_name(f"{run}.events.parquet").write_bytes(source.read_bytes())
        assert run_command(trace_app, "convert", f"{run}.events.parquet").exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("*.fatrace")) == ["a.1.fatrace", "a.2.fatrace"]


def test_a_folder_is_called_as_it_is(tmp_path, monkeypatch):
    folder = tmp_path / "web.2026.events"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert run_of(folder) == run_of(Path()) == "web.2026.events"
