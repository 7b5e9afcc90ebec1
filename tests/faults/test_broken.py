"""A lane that breaks has a record and no row; the others go on, and the report tells of it."""

import json

import pytest
import tomli_w

from fastalloc import batch
from fastalloc.batch import ConservationError
from fastalloc.errors import LaneError
from fastalloc.kernels.lane.state import IO, NS_PER_MS, VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.report.verdict import verdicts
from fastalloc.runner import rerun, run
from fastalloc.store import open_dataset
from fastalloc.store.check import check_dataset
from tests.closed_loop.small import small

SHORT = {"run.lanes": 4, "run.duration_s": 0.5}


@pytest.fixture
def spoil(monkeypatch):
    """From now on these lanes lose a bio right after boot; ``debug`` finds that at the first tick."""
    real = batch.build_lane

    def spoil(*lanes):
        def spoilt(scenario, lane, *arguments, **options):
            arrays = real(scenario, lane, *arguments, **options)
            arrays.io.ctl[IO.bios] += lane in lanes
            return arrays

        monkeypatch.setattr(batch, "build_lane", spoilt)

    return spoil


def test_a_broken_lane_has_a_record_and_no_row(tmp_path, spoil):
    spoil(2)
    dataset = run(small("rc8", SHORT), tmp_path / "d", variants=["rc8"], threads=1, debug=True)
    assert dataset.manifest["status"] == "complete"
    (record,) = dataset.manifest["broken"]
    assert (record["id"], record["variant"], record["lane"], record["state"]) == (2, "rc8", 2, "broken")
    assert record["tick"] >= 0
    assert record["again"] == f"fastalloc rerun {tmp_path / 'd'} 2 --debug"
    assert sorted(dataset.runs.collect()["lane"]) == [0, 1, 3]
    assert check_dataset(tmp_path / "d").faults == []
    assert verdicts(dataset)[0].broken == 1
    with pytest.raises(ConservationError, match=r"lane 2 of rc8 at .* broke in tick .*bios outstanding"):
        rerun(dataset, 2, debug=True)
    spoil()
    assert rerun(dataset, 2, debug=True).differing == ("state",)


def test_where_every_lane_breaks_the_run_fails(tmp_path, spoil):
    spoil(0, 1, 2, 3)
    with pytest.raises(LaneError, match=r"lane 0 of rc8.*broke.*again with: fastalloc run .*--debug"):
        run(small("rc8", SHORT), tmp_path / "d", variants=["rc8"], threads=1, debug=True)


def test_the_command_says_so_above_the_table(fastalloc, monkeypatch, tmp_path, spoil):
    monkeypatch.setenv("COLUMNS", "400")  # the sentence fits the terminal
    spoil(1)
    words = ("--variant", "rc8", "--lanes", 2, "--seconds", 0.5, "--debug", "--out", "d")
    done = fastalloc("run", "swap-livelock-34m", *words)
    assert done.code == 3, done.err
    line = done.out.splitlines()[0]
    assert "lane 1 of rc8" in line
    assert "again with: fastalloc rerun d 1 --debug" in line
    assert "+ 1 broken" in done.out
    told = fastalloc("report", "d")
    assert told.code == 1
    assert told.out.splitlines()[0] == line
    assert "broken" in (tmp_path / "d" / "report.html").read_text()
    assert fastalloc("rerun", "d", 1, "--debug").code == 3
    assert open_dataset("d").manifest["broken"][0]["lane"] == 1


def test_a_step_takes_a_nanosecond_whatever_it_costs():
    """No scenario may cost nothing; a lane that does moves its clock all the same, one step after the other."""
    scenario = small("rc8", {"workload.start_spread_ms": 0})
    arrays = batch.build_lane(scenario, 0, 1)
    arrays.vm.costs[:] = 0
    for end in range(NS_PER_MS, 50 * NS_PER_MS, NS_PER_MS):
        run_lane(*arrays, end)
        assert (arrays.vm.ctl[VM.error], arrays.vm.ctl[VM.now]) == (0, end)
        if arrays.vm.ctl[VM.jitter]:  # tasks have begun
            break
    assert 0 < arrays.vm.ctl[VM.jitter] <= 2 * (NS_PER_MS + 1)  # steps of two CPUs


@pytest.fixture
def handles_from_nowhere(monkeypatch):
    """The reserves of lane 2 hold them: the first that is given back ends it, with its cache named."""
    real = batch.build_lane

    def spoilt(scenario, lane, *arguments, **options):
        arrays = real(scenario, lane, *arguments, **options)
        if lane == 2:
            arrays.pools.element[:, 0] = 7 << 50
        return arrays

    monkeypatch.setattr(batch, "build_lane", spoilt)
    return lambda: monkeypatch.setattr(batch, "build_lane", real)


def test_a_sweep_ends_at_a_lane_that_breaks_and_goes_on_when_it_is_whole(
    fastalloc, monkeypatch, tmp_path, handles_from_nowhere
):
    monkeypatch.setenv("COLUMNS", "4000")  # the sentence fits the terminal
    scenario = small("rc8", SHORT | {"run.duration_s": 6.0}).model_dump(exclude_none=True)
    (tmp_path / "s.toml").write_text(tomli_w.dumps(scenario | {"name": "s"}))
    axis = "variants = ['rc8']\n[axes]\n'host.queue_depth' = [1]\n"
    (tmp_path / "w.toml").write_text(f"name = 'w'\nscenario = 's.toml'\nlanes = 4\n{axis}")
    words = ("sweep", "w.toml", "--out", "d", "--threads", 1, "--batch", 1)
    done = fastalloc(*words)
    assert done.code == 3
    assert done.out == ""
    line = done.err.splitlines()[-1]
    assert "lane 2 of rc8 at " in line
    assert "an object was given back" in line
    assert "again with: fastalloc run s.toml --debug --variant rc8 --set host.queue_depth=1 --seed 1 --lanes 3" in line
    manifest = open_dataset("d").manifest
    assert (manifest["status"], manifest["failed"]) == ("failed", line)
    assert set(open_dataset("d").runs.collect()["lane"]) <= {0, 1, 3}
    told = fastalloc("report", "d")
    assert told.code == 1
    assert told.out.splitlines()[0] == f"rests on less than was asked: a lane failed: {line}"
    assert "lane 2 of rc8" in (tmp_path / "d" / "report.html").read_text()
    (row,) = json.loads(fastalloc("report", "d", "--json").out)
    assert row["doubts"] == [f"a lane failed: {line}"]
    handles_from_nowhere()
    assert fastalloc(*words).code == 0
    manifest = open_dataset("d").manifest
    assert (manifest["status"], "failed" in manifest) == ("complete", False)
    assert sorted(open_dataset("d").runs.collect()["lane"]) == [0, 1, 2, 3]
    assert fastalloc("report", "d").code == 0


def test_a_guard_breaks_a_lane_without_debug_too(tmp_path, handles_from_nowhere):
    scenario = small("rc8", SHORT | {"run.duration_s": 6.0})
    dataset = run(scenario, tmp_path / "d", variants=["rc8"], threads=1)
    (record,) = dataset.manifest["broken"]
    assert (record["lane"], record["cache"] != "") == (2, True)
    assert "an object was given back" in record["told"]
    with pytest.raises(ConservationError, match="an object was given back"):
        rerun(dataset, 2)
