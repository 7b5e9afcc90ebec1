"""A fitted workload as background load in a scenario: what it keeps of its trace, and that nothing else changes."""

import json

import numpy as np
import pytest

from fastalloc.batch.background import background_caches
from fastalloc.batch.heap import build_layout
from fastalloc.batch.lane import build_lane
from fastalloc.errors import InputError
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import ROLE, VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.kernels.workload import background as bg
from fastalloc.kernels.workload.background import DUE
from fastalloc.scenario.load import load_scenario
from fastalloc.trace.replay.recording import read_trace
from fastalloc.trace.workload import fit
from tests.trace.test_workload import RUN

SECOND = 1_000_000_000
ALLOCATORS = ("slub", "cpu-partial", "sheaves", "7.3", "slab", "slob")


@pytest.fixture(scope="module")
def load():
    return fit(read_trace(RUN))


@pytest.fixture(scope="module")
def scenario(load):
    """The machine of the thread with nothing to do but the load, and room for it."""
    idle = {"workload.copiers": 1, "workload.writers": 0, "workload.start_spread_ms": 1 << 30}
    quiet = {"workload.atomic_objects_per_s": 0, "workload.atomic_pages_per_s": 0}
    settings = {"workload.background": json.dumps(load)} | idle | quiet
    return load_scenario("swap-livelock").with_settings(settings)


def run(scenario, seconds, seed=1, allocator="slub"):
    lane = build_lane(scenario.with_settings({"policy.allocator": allocator}), 0, seed, debug=True)
    run_lane(*lane, round(seconds * SECOND))
    assert lane.vm.ctl[VM.error] == 0
    return lane


def alive(lane):
    """Objects out, by cache of the load."""
    due = lane.vm.background_due[: lane.vm.ctl[VM.background_count]]
    return np.bincount(due[due[:, DUE.handle] >= 0, DUE.load], minlength=len(lane.vm.background))


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_rates_are_those_of_the_trace_whatever_allocates(scenario, allocator):
    lane = run(scenario, 3, allocator=allocator)
    caches = background_caches(scenario)
    wanted = 3 * sum(item.entry["rate"] for item in caches)
    assert lane.out.metric[METRIC.noise_allocations] == pytest.approx(wanted, rel=0.1)
    assert lane.out.metric[METRIC.noise_failures] == 0
    assert (alive(lane) == alive(run(scenario, 3))).all()  # the same draws whatever allocates


def test_objects_live_as_long_as_they_did_and_on_the_cpus_they_did(scenario, load):
    span = load["span_ns"] / SECOND
    lanes = [run(scenario, 4 * span, seed) for seed in range(4)]
    counts = np.mean([alive(lane) for lane in lanes], axis=0)
    draws = lanes[0].vm.background_draws
    for b, item in enumerate(background_caches(scenario)):
        entry = item.entry
        lives = draws[b, bg.AT_LIVES : bg.AT_LIVES + bg.QUANTILES]
        mean = (lives[1:] + lives[:-1]).mean() / 2 / SECOND
        wanted = entry["rate"] * ((1 - entry["kept"]) * mean + entry["kept"] * span)
        if wanted > 200:
            assert counts[b] == pytest.approx(wanted, rel=0.25)
    shares = np.diff(draws[:, bg.AT_CPUS :], axis=1, prepend=0) / bg.WHOLE
    for row, item in zip(shares, background_caches(scenario), strict=True):
        assert row[: len(item.entry["cpus"])] == pytest.approx(item.entry["cpus"], abs=1e-6)


def test_the_same_seed_gives_the_same_lane_and_time_can_be_cut(scenario):
    one, other, third = run(scenario, 1), build_lane(scenario, 0, 1, debug=True), run(scenario, 1, seed=2)
    for until in (SECOND // 7, SECOND // 2, SECOND):
        run_lane(*other, until)
    count = one.vm.ctl[VM.background_count]
    assert np.array_equal(one.vm.background_due[:count], other.vm.background_due[:count])
    assert np.array_equal(one.out.metric, other.out.metric)
    assert not np.array_equal(one.vm.background_due[:count], third.vm.background_due[:count])


def test_other_draws_are_those_without_a_load(load):
    """A load of next to nothing leaves the rest of the lane as it was, draw for draw."""
    base = load_scenario("swap-livelock")
    tiny = {**load["caches"][0], "rate": 1e-6, "gap_ns": [10**15], "cache": "nobody else's", "src": "kmem_cache_alloc"}
    text = json.dumps({**load, "caches": [tiny]})
    lanes = []
    for background in ("", text):
        lane = build_lane(base.with_settings({"workload.background": background}), 0, 1)
        run_lane(*lane, SECOND)
        lanes.append(lane)
    assert np.array_equal(lanes[0].out.metric, lanes[1].out.metric)
    assert np.array_equal(lanes[0].out.series, lanes[1].out.series)
    assert np.array_equal(lanes[0].mem.page, lanes[1].mem.page)


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_caches_of_one_name_are_one(scenario, allocator):
    layout = build_layout(scenario.with_settings({"policy.allocator": allocator}))
    names = [item.name for item in background_caches(scenario)]
    assert layout.background[names.index("dentry")] == layout.roles[ROLE.names.index("dentry")]
    assert min(layout.background) >= 0


def test_a_scenario_file_names_its_load(tmp_path, load):
    (tmp_path / "load.json").write_text(json.dumps(load))
    text = 'name = "x"\nmachine = "swap-livelock"\n[workload]\nbackground = "{}"\n'
    machine = load_scenario("swap-livelock").machine
    from fastalloc.scenario import machine_toml

    (tmp_path / "m.toml").write_text(machine_toml(machine))
    path = tmp_path / "s.toml"
    path.write_text(text.replace("swap-livelock", "m.toml").format("load.json"))
    assert json.loads(load_scenario(path).workload.background) == load
    for name, reason in (("none.json", "none.json"), ("m.toml", "JSON")):
        path.write_text(text.replace("swap-livelock", "m.toml").format(name))
        with pytest.raises(InputError, match=reason):
            load_scenario(path)
    with pytest.raises(InputError, match=r"workload\.background"):
        load_scenario("swap-livelock").with_settings({"workload.background": "{}"})
