"""A lane that was stopped, copied, stored and restored goes on as one that never stopped."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastalloc.batch.lane import build_lane
from fastalloc.batch.snapshot import branch, branch_seed, load, named_arrays, restore, save, take
from fastalloc.errors import InputError
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.scenario import load_scenario
from fastalloc.scenario.models import Scenario
from fastalloc.scenario.policy_presets import with_policies

SEED = 11
END_NS = 6_000_000_000
ALLOCATORS = ("slub", "cpu-partial", "sheaves", "7.3", "slab", "slob")


def small(allocator: str = "slub", **more: object) -> Scenario:
    asked = {"policy.allocator": allocator, "run.duration_s": 6.0} | more
    return load_scenario("swap-livelock-34m").variant("rc8").with_settings(asked)


def equal(one, other) -> list[str]:
    """Names of the arrays in which two lanes differ."""
    return [
        name
        for (name, a), (_, b) in zip(named_arrays(one), named_arrays(other), strict=True)
        if not np.array_equal(a, b)
    ]


@pytest.mark.parametrize("times", [30, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_a_lane_restored_at_random_times_is_the_uninterrupted_one(allocator, times):
    scenario = small(allocator)
    whole = build_lane(scenario, 3, SEED)
    run_lane(*whole, END_NS)
    arrays = build_lane(scenario, 3, SEED)
    for at in np.sort(np.random.default_rng(5).integers(0, END_NS, times)).tolist():
        run_lane(*arrays, at)
        snapshot = take(3, arrays)
        for _, array in named_arrays(arrays):
            array.fill(-7)  # what is restored takes nothing from what it was copied from
        arrays = restore(snapshot)
    run_lane(*arrays, END_NS)
    assert equal(whole, arrays) == []


@pytest.mark.slow
def test_an_own_policy_goes_on_in_another_process(tmp_path):
    rule = "def depth(who, zone):\n    return 1 if who == 5 and zone.free > 2 else 0\n"
    scenario = small(**{"policy.questions": rule})
    arrays = build_lane(scenario, 0, SEED)
    run_lane(*arrays, END_NS // 2)
    save(take(0, arrays), scenario, tmp_path / "lane.snapshot")
    run_lane(*arrays, END_NS)
    script = (
        "import hashlib, sys\n"
        "from fastalloc.batch.snapshot import load, named_arrays, restore\n"
        "from fastalloc.kernels.machine.run import run_lane\n"
        "lane = restore(load(sys.argv[1])[0])\n"
        f"run_lane(*lane, {END_NS})\n"
        "print(lane.out.metric.sum(), lane.mem.zone.sum(), lane.heap.link.sum())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "lane.snapshot")],
        capture_output=True,
        text=True,
        check=True,
        env={
            "PYTHONPATH": str(Path(load.__code__.co_filename).parents[2]),
            "FASTALLOC_TRUST": "1",
            "HOME": str(Path.home()),
        },
    )
    assert done.stdout.split() == [str(each.sum()) for each in (arrays.out.metric, arrays.mem.zone, arrays.heap.link)]


def test_a_stored_snapshot_is_the_lane(tmp_path):
    scenario = small()
    arrays = build_lane(scenario, 2, SEED)
    run_lane(*arrays, 2_000_000_000)
    snapshot = branch(take(2, arrays), 4)
    save(snapshot, scenario, tmp_path / "lane.snapshot")
    loaded, told = load(tmp_path / "lane.snapshot")
    assert told == scenario
    assert equal(loaded.arrays, snapshot.arrays) == []
    assert (
        loaded[:4] == snapshot[:4] == (2, 2_000_000_000, branch_seed(SEED, 2, 2_000_000_000, 4), ((2_000_000_000, 4),))
    )
    assert (tmp_path / "lane.snapshot").stat().st_size < snapshot.bytes // 10


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 255))
def test_a_damaged_snapshot_is_refused(tmp_path_factory, at, value):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "whole.snapshot"
    if not path.exists():
        scenario = small()
        save(take(0, build_lane(scenario, 0, SEED)), scenario, path)
    content = bytearray(path.read_bytes())
    at %= len(content)
    if content[at] == value:
        return
    content[at] = value
    damaged = folder / "damaged.snapshot"
    damaged.write_bytes(content)
    refused = loaded = None
    try:
        loaded, _ = load(damaged)
    except InputError as error:
        refused = str(error)
    if loaded is None:
        assert "damaged.snapshot" in refused
    else:  # a byte that says nothing, such as one of the statistics of a column
        assert equal(loaded.arrays, load(path)[0].arrays) == []


def test_another_model_is_refused(tmp_path, monkeypatch):
    scenario = small()
    save(take(0, build_lane(scenario, 0, SEED)), scenario, tmp_path / "lane.snapshot")
    monkeypatch.setattr("fastalloc.batch.snapshot.model_digest", lambda: "0")
    with pytest.raises(InputError, match="another version of the model"):
        load(tmp_path / "lane.snapshot")


def test_branches_part_and_are_their_own_again():
    scenario = small()
    arrays = build_lane(scenario, 1, SEED)
    run_lane(*arrays, 3_000_000_000)
    snapshot = take(1, arrays)
    ends = []
    for number in (1, 2, 1):
        lane = restore(branch(snapshot, number))
        run_lane(*lane, END_NS)
        ends.append(lane)
    assert equal(ends[0], ends[2]) == []
    assert "mem.page" in equal(ends[0], ends[1])
    assert ends[0].vm.ctl[VM.lane] == 1
    assert snapshot.arrays.vm.ctl[VM.seed] == SEED  # a branch writes to no other


def test_policies_of_every_kind_are_restored():
    base = load_scenario("swap-livelock-34m").with_settings({"run.duration_s": 2.0})
    for name in ("fix", "mempool-wake-one", "spare-pages"):
        scenario = with_policies(base, [name]).variant(name)
        whole = build_lane(scenario, 0, SEED)
        run_lane(*whole, 1_000_000_000)
        other = restore(take(0, whole))
        run_lane(*whole, 2_000_000_000)
        run_lane(*other, 2_000_000_000)
        assert equal(whole, other) == []
