"""A livelocked lane opened before its end: forward and back, branches, and what would still have freed it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest

from fastalloc.batch import check_sound
from fastalloc.batch.lane import build_lane
from fastalloc.batch.snapshot import named_arrays, restore
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.state import MEMCTL, MIGRATE, PAGE, PG_FIRST, PG_SWAPCACHE, ZONE
from fastalloc.kernels.lane.state import IO, MAPPING, NS_PER_MS, NS_PER_S, VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.rare.decided import apply, decided
from fastalloc.rare.events import Event
from fastalloc.rare.given_back import give_back, pages_to_free
from fastalloc.rare.in_words import holders, running, state_lines, waiting
from fastalloc.rare.rare import Budget, rare
from fastalloc.rare.rewind import Rewound, parse_time
from fastalloc.rare.until import lanes_until
from fastalloc.scenario import load_scenario
from fastalloc.scenario.models import Scenario
from fastalloc.scenario.policy_presets import with_policies

SEED = 1
LIVELOCK = Event("livelock")


def machine(variant: str = "rc8", seconds: float = 20.0) -> Scenario:
    return load_scenario("swap-livelock-34m").variant(variant).with_settings({"run.duration_s": seconds})


@cache
def livelocked() -> tuple[int, int]:
    """The first lane that livelocks some seconds after its start and 5 s before its end, and when."""
    for found in lanes_until(machine(seconds=13.0), range(400), LIVELOCK, SEED):
        if found.event and found.at_ns > 2 * NS_PER_S:
            return found.lane, found.at_ns
    raise AssertionError("no lane of 400 livelocks")


def opened() -> Rewound:
    return Rewound(machine(), livelocked()[0], SEED)


def test_back_and_forward_is_the_same_lane():
    one, other = opened(), opened()
    at = livelocked()[1]
    one.go_to(at + 3 * NS_PER_S).go_to(at - 2 * NS_PER_S).step(NS_PER_S).step(-700 * NS_PER_MS)
    other.go_to(one.now_ns)
    for (name, a), (_, b) in zip(named_arrays(one.arrays), named_arrays(other.arrays), strict=True):
        assert np.array_equal(a, b), name
    with pytest.raises(InputError, match="the run lasts 20 s"):
        one.go_to(21 * NS_PER_S)
    assert one.step(-100 * NS_PER_S).now_ns == 0


def test_the_state_in_words_is_the_lane_s():
    lane = opened()
    assert lane.find(LIVELOCK) == livelocked()[1]
    arrays = lane.go_to(livelocked()[1] + 100 * NS_PER_MS).arrays
    for slots in holders(arrays):
        assert slots.free + sum(count for _, count in slots.holders) == slots.slots
    (shared,) = [slots for slots in holders(arrays) if "bio" in slots.cache]
    assert shared.cache == "bio + scsi_sense_cache"
    assert dict(shared.holders)["bios"] == arrays.io.ctl[IO.bios]
    assert shared.free == 0
    assert sum(waiting(arrays).values()) > 0
    assert len(running(arrays)) == arrays.vm.ctl[VM.nr_cpus]
    text = "\n".join(state_lines(arrays))
    assert "no command in flight and the queue refused for 100.0 ms" in text
    assert "0 commands in flight" in text


def test_the_end_of_the_curve_is_certain_and_its_start_is_the_base_rate():
    lane = opened()
    curve = decided(lane, LIVELOCK, before_ms=(1000, 0), branches=24)
    boot, second, end = curve.chances
    assert (boot.before_ms, second.before_ms, end.before_ms) == (-1, 1000, 0)
    assert end.events == end.branches == 24
    base = rare(machine(), LIVELOCK, seed=77, startup_s=0.0, budget=Budget(128, width=1.01))
    share = sum(each.event for each in base.seen) / len(base.seen)
    assert boot.low <= share + 0.08
    assert boot.high >= share - 0.08  # 128 lanes: two deviations are 0.08 or less
    again = decided(opened(), LIVELOCK, before_ms=(1000, 0), branches=24, threads=1)
    assert again.chances == curve.chances


def test_the_fix_applied_at_the_end_frees_it_and_what_must_be_there_at_boot_is_refused():
    lane = opened()
    curve = decided(lane, LIVELOCK, before_ms=(0,), branches=12, changed=machine("fix"), applied="fix")
    assert curve.chances[-1].events == 0
    base = load_scenario("swap-livelock-34m").with_settings({"run.duration_s": 20.0})
    for name in ("slab", "nomerge-both", "free_list-4", "spare-pages", "inline-sense"):
        changed = with_policies(base, [name]).variant(name)
        with pytest.raises(InputError, match="must be there at boot"):
            apply(lane.snapshot(), machine(), changed)


def test_pages_given_back_free_it_from_some_number_on():
    lane = opened()
    at = livelocked()[1]
    found = pages_to_free(lane, LIVELOCK, at + 100 * NS_PER_MS, branches=12)
    assert found.enough is not None
    assert found.too_few < found.enough
    by_pages = {each.pages: each for each in found.tried}
    assert by_pages[0].lost == 12  # none given back: it is in it
    assert by_pages[found.enough].lost == 0
    assert 0 < by_pages[found.enough].high < 0.3
    if found.too_few >= 0:
        assert by_pages[found.too_few].lost == 12
    assert pages_to_free(opened(), LIVELOCK, at + 100 * NS_PER_MS, branches=12, threads=1) == found
    with pytest.raises(InputError, match="has been told of"):
        pages_to_free(lane, LIVELOCK, at + 6 * NS_PER_S, branches=2)


def noted_and_seen(lane):
    """Files whose page 0 is in their mapping: as they note it, and as their pages say."""
    file, flags = lane.mem.page[:, PAGE.file], lane.mem.page[:, PAGE.flags]
    seen = file[(file >= 0) & (flags & (PG_FIRST | PG_SWAPCACHE) == PG_FIRST)]
    return set(np.flatnonzero(lane.vm.mapping[:, MAPPING.first]).tolist()), set(seen.tolist())


def test_pages_given_back_are_lost_to_nobody():
    lane = restore(opened().go_to(livelocked()[1]).snapshot())
    zone = lane.mem.ctl[MEMCTL.nr_zones] - 1
    free = int(lane.mem.zone[zone, ZONE.free])
    assert give_back(lane, 40) == 40
    assert lane.mem.zone[zone, ZONE.free] == free + 40
    noted, seen = noted_and_seen(lane)
    assert noted == seen
    assert noted
    lane.vm.ctl[VM.debug] = 1  # every invariant after every tick
    run_lane(*lane, livelocked()[1] + 3 * NS_PER_S)
    check_sound(0, lane)
    assert lane.vm.ctl[VM.now] == livelocked()[1] + 3 * NS_PER_S
    noted = noted_and_seen(lane)[0]
    assert give_back(lane, 1 << 20) < 1 << 20
    assert len(noted_and_seen(lane)[0]) < len(noted)
    assert noted_and_seen(lane)[0] == noted_and_seen(lane)[1]
    run_lane(*lane, livelocked()[1] + 6 * NS_PER_S)
    check_sound(0, lane)


@pytest.mark.parametrize(
    "setting",
    [
        {"machine.min_free_kbytes": 512},
        {"machine.min_free_kbytes": 4096},
        {"machine.min_free_kbytes": 0},
        {"workload.swappiness": 10},
        {"disk.iops": 400, "disk.bytes_per_second": 50_000_000},
    ],
)
def test_a_setting_that_a_running_machine_can_change_is_applied(setting):
    lane = opened().go_to(livelocked()[1] - NS_PER_S)
    changed = machine().with_settings(setting)
    arrays = restore(apply(lane.snapshot(), machine(), changed))
    fresh = build_lane(changed, 0, SEED)
    assert arrays.mem.zone[:, ZONE.min].tolist() == fresh.mem.zone[:, ZONE.min].tolist()
    reserve = (arrays.mem.block == MIGRATE.reserve).sum(1)
    # the small zone has one pageblock, which reclaimable memory has taken over by then
    assert reserve.tolist() == [0, (fresh.mem.block == MIGRATE.reserve).sum(1)[1]]
    assert arrays.vm.ctl[VM.swappiness] == fresh.vm.ctl[VM.swappiness]
    assert arrays.io.ctl[IO.command_ns] == fresh.io.ctl[IO.command_ns]
    arrays.vm.ctl[VM.debug] = 1
    run_lane(*arrays, livelocked()[1] + NS_PER_S)
    check_sound(0, arrays)


@pytest.mark.parametrize("setting", [{"machine.zones.1.cma": 1000}, {"machine.zones.1.highatomic": 512}])
def test_pages_cannot_leave_a_running_machine(setting):
    lane = opened().go_to(livelocked()[1] - NS_PER_S)
    with pytest.raises(InputError, match="must be there at boot"):
        apply(lane.snapshot(), machine(), machine().with_settings(setting))


def test_a_lane_without_the_event_has_no_curve():
    quiet = Rewound(machine("fix", 2.0), 0, SEED)
    with pytest.raises(InputError, match="did not happen"):
        decided(quiet, LIVELOCK)


def test_times_in_words():
    at, end = 8 * NS_PER_S, 20 * NS_PER_S
    assert parse_time("2s-before-livelock", at, end) == 6 * NS_PER_S
    assert parse_time("500ms-after-livelock", at, end) == 8_500_000_000
    assert parse_time("1.5", at, end) == 1_500_000_000
    assert parse_time("end", None, end) == end
    for text in ("soon", "9s-before-livelock", "21s", "-1s"):
        with pytest.raises(InputError, match="--to"):
            parse_time(text, at, end)
    with pytest.raises(InputError, match="no livelock in this lane"):
        parse_time("1s-before-livelock", None, end)


def test_lanes_are_kept_and_gone_on_with(tmp_path):
    scenario = machine(seconds=3.0)
    first = rare(scenario, LIVELOCK, startup_s=0.0, budget=Budget(64, width=1.01), out=str(tmp_path / "kept"))
    more = rare(
        scenario, LIVELOCK, startup_s=0.0, budget=Budget(128, width=1.01), out=str(tmp_path / "kept"), threads=1
    )
    whole = rare(scenario, LIVELOCK, startup_s=0.0, budget=Budget(128, width=1.01))
    assert more.seen[:64] == first.seen
    assert more.seen == whole.seen
    with pytest.raises(InputError, match="event: not as asked now"):
        rare(scenario, Event("refused"), out=str(tmp_path / "kept"))
    (tmp_path / "kept" / "lanes.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="holds no lanes of rare"):
        rare(scenario, LIVELOCK, out=str(tmp_path / "kept"))


def test_lanes_are_the_same_bytes_for_any_threads_workers_and_restarts(tmp_path):
    scenario, budget = machine(seconds=3.0), Budget(72, width=1.01)
    asked = {"startup_s": 0.0, "budget": budget}
    whole = rare(scenario, LIVELOCK, out=str(tmp_path / "1"), threads=1, **asked)
    with ThreadPoolExecutor(2) as workers:
        rare(scenario, LIVELOCK, out=str(tmp_path / "2"), executor=workers, workers=2, **asked)
    stop = threading.Event()

    def after_twenty(progress):
        if progress.lanes >= 20:
            stop.set()

    cut = rare(scenario, LIVELOCK, out=str(tmp_path / "3"), threads=2, progress=after_twenty, cancel=stop, **asked)
    assert cut.stopped == "interrupted"
    assert 20 <= len(cut.seen) < 72
    rare(scenario, LIVELOCK, out=str(tmp_path / "3"), threads=2, **asked)
    (one,) = {(tmp_path / folder / "lanes.parquet").read_bytes() for folder in "123"}
    assert len(whole.seen) == 72
    assert one


def test_every_kind_of_event_is_seen_where_the_metrics_tell_of_it():
    from fastalloc.batch import run_lanes
    from fastalloc.kernels.lane.metrics import METRIC

    scenario = machine(seconds=12.0)
    results = list(run_lanes(scenario, range(12), seed=SEED))
    for event, column, limit in (
        (Event("livelock"), METRIC.livelock_5s, 1),
        (Event("stall", 2.0), METRIC.stall_ms, 2001),
        (Event("refused"), METRIC.sense_fail, 1),
    ):
        found = {each.lane for each in lanes_until(scenario, range(12), event, SEED) if each.event}
        told = {result.lane for result in results if result.metrics[column] >= limit}
        assert told <= found, event  # what began before the end may be seen after it
        assert found, event
    low = Event("reserve", 4)
    found = {each.lane for each in lanes_until(scenario, range(12), low, SEED) if each.event}
    assert found == {result.lane for result in results if 0 <= result.metrics[METRIC.min_free_dma32] < 4}
