"""Arrays are estimated before they are taken: what a lane and a replay take is known, and too much is refused."""

import resource

import pytest

from fastalloc.batch import CapacityError, run_lanes
from fastalloc.batch.lane import build_lane
from fastalloc.batch.size import lane_bytes
from fastalloc.batch.snapshot import named_arrays
from fastalloc.errors import InputError
from fastalloc.memory import memory_limit
from fastalloc.trace.replay.recording import beside, open_recording
from tests.closed_loop.small import image, small
from tests.faults.test_files import FAULTS, quick, refused

RUN = FAULTS.parent / "traces" / "d_stack_k612.events.parquet"
SHEAVES = {"policy.allocator": "7.3", "policy.slub_layout": "7.3"}
FOUND = [{"name": f"c{i}", "object_size": 1000 + 40 * i, "ctor": True} for i in range(200)]
BURST = {"objects": 1_000_000, "object_bytes": 64, "every_ms": 10.0, "life_ms": 1000.0}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"policy.allocator": "slab"},
        {"policy.allocator": "slab", "machine.cpus": 512},
        {"policy.allocator": "slob"},
        {"policy.allocator": "sheaves"},
        SHEAVES,
        SHEAVES | {"machine.cpus": 512},
        SHEAVES | {"policy.max_full_sheaves": 200, "policy.sheaf_capacity": 500},
        {"machine.slab_caches": FOUND},
        SHEAVES | {"machine.slab_caches": FOUND, "machine.cpus": 16},
        {"machine.page_kb": 64},
        {"machine.swap_pages": 1 << 22},
        {"queue.nr_requests": 1 << 16},
        {"host.queue_depth": 1024, "host.can_queue": 1024},
        {"workload.bursts": [BURST]},
        {"workload.atomic_objects_per_s": 1_000_000, "workload.atomic_object_ms": 5000},
        {"workload.writers": 1000, "workload.copiers": 1000, "workload.tree_files": 50, "workload.writer_pages": 900},
        {"run.duration_s": 2000.0, "run.series_ms": 10},
        {"run.max_events": 1 << 20},
    ],
)
def test_what_a_lane_takes_is_known_before(settings):
    """The estimate is no less than 98 % of the arrays, and at most a quarter above them."""
    scenario = small("rc8", settings)
    taken = sum(array.nbytes for _, array in named_arrays(build_lane(scenario, 0, 1)))
    assert 0.98 * taken <= lane_bytes(scenario) <= 1.25 * taken


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (("workload.atomic_objects_per_s=10000000", "workload.atomic_object_ms=2000000000"), "atomic_objects_per_s"),
        (("machine.cpus=1024", "policy.allocator='7.3'"), "machine.cpus"),
        (
            ("policy.allocator='7.3'", "policy.max_full_sheaves=1000", "policy.sheaf_capacity=500"),
            "policy.sheaf_capacity",
        ),
    ],
)
def test_arrays_that_others_than_memory_make_large_are_refused(fastalloc, monkeypatch, settings, field):
    monkeypatch.setenv("FASTALLOC_MEMORY", "100M")
    words = [word for setting in settings for word in ("--set", setting)]
    refused(quick(fastalloc, "run", "swap-livelock-34m", "--lanes", 1, *words), field, "100 MiB may be taken")


@pytest.mark.parametrize(
    ("room", "settings"),
    [
        (("slab_room", 40), {}),
        (("slab_room", 40), {"policy.allocator": "slab"}),
        (("most_sheaves", 1), {"policy.allocator": "sheaves"}),
        (("most_sheaves", 1), SHEAVES),
    ],
)
def test_a_lane_outgrows_its_arrays_and_gets_larger_ones_or_is_named(monkeypatch, room, settings):
    """Slabs, or sheaves of barns, beyond their room: larger arrays change nothing; none large enough end the lane."""
    scenario = small("fix", settings | {"run.duration_s": 1.0})
    (plenty,) = run_lanes(scenario, [0], seed=1)
    monkeypatch.setattr(f"fastalloc.batch.heap.{room[0]}", lambda _: room[1])
    (grown,) = run_lanes(scenario, [0], seed=1)
    assert image(grown) == image(plenty)
    for module in ("fastalloc.batch", "fastalloc.batch.lane"):
        monkeypatch.setattr(f"{module}.MOST_ROOM", 1)
    with pytest.raises(CapacityError, match=r"lane 0 of fix at 0.*more slabs or objects than its arrays hold"):
        list(run_lanes(scenario, [0], seed=1))


def test_the_command_names_a_lane_that_no_room_is_enough_for(fastalloc, monkeypatch):
    monkeypatch.setattr("fastalloc.batch.heap.slab_room", lambda _: 40)
    for module in ("fastalloc.batch", "fastalloc.batch.lane"):
        monkeypatch.setattr(f"{module}.MOST_ROOM", 1)
    done = fastalloc("run", "swap-livelock-34m", "--variant", "fix", "--lanes", 1, "--seconds", 1)
    assert (done.code, done.out) == (3, "")
    assert "lane 0 of fix at 0" in done.err.splitlines()[-1]
    assert "more slabs or objects than its arrays hold" in done.err.splitlines()[-1]


def test_a_replay_that_no_room_is_enough_for_is_named(monkeypatch):
    """Barns of 7.3 with room for one sheaf."""
    events = FAULTS.parent / "traces" / "d_w4_k73_smp4.events.parquet"
    recording = open_recording(events, beside(events, "slabstate"), None, "7.3", "")
    monkeypatch.setattr("fastalloc.trace.lanes.slub_lane.most_sheaves", lambda *_: (1, 60))
    with pytest.raises(InputError, match="needs more slabs or sheaves at once than there is room for"):
        recording.run([])


def test_a_grid_is_counted_before_it_is_made(fastalloc):
    axes = [f"{key}={','.join(map(str, range(20)))}" for key in ("cpu_partial", "order", "min_order", "min_partial")]
    words = [word for axis in axes for word in ("--grid", axis)]
    refused(quick(fastalloc, "replay", FAULTS / "a.parquet", *words), "160,000 configurations", "10,000")


def test_a_sweep_of_traces_is_estimated_before_it_runs(fastalloc, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTALLOC_MEMORY", "10K")
    (tmp_path / "a.parquet").write_bytes(RUN.read_bytes())
    (tmp_path / "w.toml").write_text("name = 'w'\ntraces = ['a.parquet']\n[axes]\n'replay.cpu_partial' = [0, 2]\n")
    refused(quick(fastalloc, "sweep", "w.toml", "--out", "d"), "a.parquet", "traces", "at once take", "--memory")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("memory", "words", "told"),
    [
        ("2K", (), "while they are decoded"),
        ("600K", ("--what-if", "nomerge"), "slabs before the trace"),
        (
            "1500K",
            ("--grid", f"cpu_partial={','.join(map(str, range(100)))}", "--threads", 1),
            "see --what-if and --grid",
        ),
    ],
)
def test_a_replay_is_estimated_before_it_runs(fastalloc, monkeypatch, memory, words, told):
    monkeypatch.setenv("FASTALLOC_MEMORY", "1T")
    done = quick(fastalloc, "replay", FAULTS / "a.parquet", *words, "--memory", memory)
    refused(done, "a.parquet", told, "may be taken", "--memory")


def test_a_limit_of_data_counts_as_one_of_addresses_does(monkeypatch):
    monkeypatch.delenv("FASTALLOC_MEMORY", raising=False)
    limits = {resource.RLIMIT_DATA: (1 << 30, 1 << 30)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits.get(which, (resource.RLIM_INFINITY,) * 2))
    assert memory_limit() == 1 << 29
