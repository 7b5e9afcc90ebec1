"""Ten livelocked lanes: each curve ends at 1 and begins at the base rate; the same bytes wherever it is run."""

import json
import subprocess
import sys

import pytest

from fastalloc.rare.decided import decided
from fastalloc.rare.events import Event
from fastalloc.rare.rare import Budget, rare
from fastalloc.rare.rewind import Rewound
from fastalloc.rare.until import lanes_until
from fastalloc.report.statistics import wilson_interval
from fastalloc.scenario import load_scenario

LIVELOCK, SEED = Event("livelock"), 1
AGAIN = """
import sys
from fastalloc.rare.decided import decided
from fastalloc.rare.events import Event
from fastalloc.rare.rewind import Rewound
from fastalloc.scenario import load_scenario
own = load_scenario("swap-livelock-34m").variant("rc8").with_settings({"run.duration_s": 15.0})
found = decided(Rewound(own, int(sys.argv[1]), 1), Event("livelock"), before_ms=(1000, 0), branches=20, threads=2)
print(found)
"""


@pytest.mark.slow
def test_ten_curves_end_at_one_and_begin_at_the_base_rate():
    own = load_scenario("swap-livelock-34m").variant("rc8").with_settings({"run.duration_s": 15.0})
    found = lanes_until(own.with_settings({"run.duration_s": 10.0}), range(600), LIVELOCK, SEED)
    locked = [each.lane for each in found if each.event and each.at_ns > 2_000_000_000][:10]
    assert len(locked) == 10
    base = rare(own, LIVELOCK, seed=4711, startup_s=0.0, budget=Budget(1024, width=1.01))
    share = sum(each.event for each in base.seen) / len(base.seen)
    begun = 0
    inside = 0
    for lane in locked:
        curve = decided(Rewound(own, lane, SEED), LIVELOCK, branches=60)
        boot, *_, end = curve.chances
        assert (boot.before_ms, end.before_ms) == (-1, 0)
        assert end.events == end.branches
        begun += boot.events
        inside += boot.low <= share <= boot.high
        shares = [chance.share for chance in curve.chances]
        assert shares[-1] == max(shares)
    assert inside >= 8  # of ten intervals of 95 %; two outside are an accident of 9 %, three of 1 %
    low, high = wilson_interval(begun, 600, 3.3)
    assert low <= share + 0.05
    assert high >= share - 0.05


@pytest.mark.slow
def test_another_process_and_other_threads_give_the_same_curve():
    own = load_scenario("swap-livelock-34m").variant("rc8").with_settings({"run.duration_s": 15.0})
    early = own.with_settings({"run.duration_s": 9.0})  # told of 5 s later, before the run ends
    locked = next(each.lane for each in lanes_until(early, range(400), LIVELOCK, SEED) if each.event)
    here = decided(Rewound(own, locked, SEED), LIVELOCK, before_ms=(1000, 0), branches=20, threads=1)
    told = {
        subprocess.run([sys.executable, "-c", AGAIN, str(locked)], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert told == {f"{here}\n"}


@pytest.mark.slow
def test_dask_workers_give_the_same_lanes(tmp_path):
    distributed = pytest.importorskip("distributed")
    from fastalloc.sweep.cluster import dask_executor

    own = load_scenario("swap-livelock-34m").variant("rc8").with_settings({"run.duration_s": 4.0})
    own = own.with_settings(
        {"policy.questions": "def depth(who, zone):\n    return 1 if who == 5 and zone.free > 2 else 0\n"}
    )
    asked = {"startup_s": 0.0, "budget": Budget(136, width=1.01)}
    here = rare(own, LIVELOCK, out=str(tmp_path / "here"), **asked)
    with (
        distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        dask_executor(cluster.scheduler_address, [own]) as (executor, workers),
    ):
        there = rare(own, LIVELOCK, out=str(tmp_path / "there"), executor=executor, workers=workers, **asked)
    assert there.seen == here.seen
    assert (tmp_path / "there" / "lanes.parquet").read_bytes() == (tmp_path / "here" / "lanes.parquet").read_bytes()
    assert json.loads((tmp_path / "there" / "rare.json").read_text())["seed"] == own.run.seed
