"""A lane that breaks has a record and no row; the others go on, and the report tells of it."""

import pytest

from fastalloc import batch
from fastalloc.batch import ConservationError
from fastalloc.errors import LaneError
from fastalloc.kernels.lane.state import IO
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


def test_the_command_says_so_above_the_table(fastalloc, tmp_path, spoil):
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


def test_a_guard_breaks_a_lane_without_debug_too(tmp_path, monkeypatch):
    """The reserves of lane 2 hold handles from nowhere: the first that is given back ends it, with its cache named."""
    real = batch.build_lane

    def spoilt(scenario, lane, *arguments, **options):
        arrays = real(scenario, lane, *arguments, **options)
        if lane == 2:
            arrays.pools.element[:, 0] = 7 << 50
        return arrays

    monkeypatch.setattr(batch, "build_lane", spoilt)
    scenario = small("rc8", SHORT | {"run.duration_s": 6.0})
    dataset = run(scenario, tmp_path / "d", variants=["rc8"], threads=1)
    (record,) = dataset.manifest["broken"]
    assert (record["lane"], record["cache"] != "") == (2, True)
    assert "an object was given back" in record["told"]
    with pytest.raises(ConservationError, match="an object was given back"):
        rerun(dataset, 2)
