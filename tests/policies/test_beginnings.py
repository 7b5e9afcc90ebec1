"""Lanes that a policy alone tells apart go on from one beginning, and are what they are by themselves."""

import re
from pathlib import Path

import pytest

from fastalloc.batch import beginnings, run_machines, run_serial
from fastalloc.batch.beginnings import LATER, LATER_GROUPS, Beginnings, begin_alike
from fastalloc.batch.heap import build_layout
from fastalloc.batch.lane import build_lane
from fastalloc.batch.snapshot import named_arrays
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.machine.run import run_lane
from fastalloc.scenario import load_scenario, with_policies
from tests.closed_loop.small import OWN_CORES, SHRUNK, image

SEED = 1
LANES = range(4)
KERNELS = Path(beginnings.__file__).parents[1] / "kernels"


@pytest.fixture(scope="module")
def board():
    """Every preset on the small machine with cores of its own, by name."""
    base = load_scenario("swap-livelock").with_settings(SHRUNK | OWN_CORES | {"run.duration_s": 8.0})
    compared = with_policies(base, ["all"])
    return {variant.name: compared.variant(variant.name) for variant in compared.variants}


@pytest.fixture(scope="module")
def with_rc8(board):
    """Those that begin as rc8 does."""
    names = list(board)
    first = begin_alike(list(board.values()), 0, SEED)
    return [names[i] for i, j in enumerate(first) if names[j] == "rc8"]


def test_what_is_asked_below_pages_low_begins_as_rc8(with_rc8):
    assert {"fix", "short-sense", "mempool-wake-one", "reclaim-gate", "write-gate", "depth-31"} <= set(with_rc8)


def test_what_shapes_caches_or_is_asked_from_boot_does_not(board, with_rc8):
    others = {"nomerge-sense", "ctor", "slab", "slob", "7.3", "rank", "spare-pages", "emergency-v2", "sense-pool"}
    assert others <= set(board)
    assert not others & set(with_rc8)


@pytest.fixture
def states_kept(monkeypatch):
    """Each state that was kept, as kept."""
    found = []
    keep = beginnings.keep
    monkeypatch.setattr(beginnings, "keep", lambda arrays: found.append(keep(arrays)) or found[-1])
    return found


def test_each_is_what_it_is_by_itself(board, with_rc8, states_kept):
    scenarios = [board[name] for name in with_rc8]
    told = list(run_machines(scenarios, LANES, seed=SEED, threads=2))
    assert len(states_kept) == len(LANES)
    for i, name in enumerate(with_rc8):
        alone = [image(result) for result in run_serial(board[name], LANES, seed=SEED)]
        assert [image(result) for j, result in told if j == i] == alone, name


def test_all_arrays_are_those_of_a_lane_by_itself(board):
    """Not what is reported alone: every byte of the lane, where it goes on and when it is over."""
    names = ["rc8", "fix", "mempool-polite"]
    scenarios = [board[name] for name in names]
    shared = Beginnings(scenarios, LANES, SEED)
    for i, scenario in enumerate(scenarios):
        build = {"seed": SEED, "layout": build_layout(scenario)}
        lane = shared.lane(i, scenario, 2, build_lane(scenario, 2, **build), lambda: False)
        alone = build_lane(scenario, 2, **build)
        for until in (int(lane.vm.ctl[VM.now]), 8_000_000_000):
            run_lane(*lane, until)
            run_lane(*alone, until)
            for (name, found), (_, wanted) in zip(named_arrays(lane), named_arrays(alone), strict=True):
                assert (found == wanted).all(), (names[i], name)


def test_it_ends_shortly_before_the_first_request_below_pages_low(board):
    scenarios = [board[name] for name in ("rc8", "fix", "mempool-polite")]
    shared = Beginnings(scenarios, LANES, SEED)
    build = {"seed": SEED, "layout": build_layout(scenarios[0])}
    lane = shared.lane(0, scenarios[0], 0, build_lane(scenarios[0], 0, **build), lambda: False)
    assert lane.vm.ctl[VM.now] > 0
    assert lane.mem.ctl[MEMCTL.below_low] == 0
    run_lane(*lane, int(lane.vm.ctl[VM.now]) + 10 * beginnings.CHUNK_NS)
    assert lane.mem.ctl[MEMCTL.below_low] > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"run.duration_s": 7.996},  # as many rows of the series
        {"workload.start_spread_ms": 204},
        {"machine.min_free_kbytes": 72},
        {"policy.spare_pages": 4, "policy.spare_users": ["sense"]},
        {"policy.entitlement": "rank"},
        {"policy.host_sense_bytes": [96]},
        {"policy.questions": "def depth(who, zone):\n    return -1\n"},
    ],
)
def test_one_field_apart_begins_otherwise(board, settings):
    rc8 = board["rc8"]
    assert begin_alike([rc8, rc8.with_settings(settings), board["fix"]], 0, SEED) == [0, 1, 0]


def test_without_room_each_lane_runs_by_itself(board, states_kept, monkeypatch):
    scenarios = [board[name] for name in ("rc8", "fix", "mempool-polite")]
    told = [image(result) for _, result in run_machines(scenarios, LANES, seed=SEED, threads=1)]
    assert len(states_kept) == len(LANES)
    monkeypatch.setattr(beginnings, "MOST_BYTES", 1)
    assert [image(result) for _, result in run_machines(scenarios, LANES, seed=SEED, threads=1)] == told
    assert len(states_kept) == len(LANES)


def test_a_state_is_let_go_after_its_last_lane(board):
    scenarios = [board[name] for name in ("rc8", "fix", "mempool-polite")]
    shared = Beginnings(scenarios, LANES, SEED)
    build = {"seed": SEED, "layout": build_layout(scenarios[0])}
    held = []
    for i, scenario in enumerate(scenarios):
        shared.lane(i, scenario, 0, build_lane(scenario, 0, **build), lambda: False)
        held.append(shared._bytes)
    assert held[0] == held[1] > held[2] == 0


# Where kernels ask a policy: reclaim and what it sends to the disk, what a request below pages_low comes to, boot; who
# asks for an object of the swap path (slab_owner: others have no bits there).
ASKED_LATER = {
    "block/bio.py", "block/completion.py", "block/refused.py", "block/scsi.py", "block/scsi_command.py",
    "reclaim/writepage.py", "lane/sched.py", "workload/copiers.py", "alloc/page_alloc.py", "machine/boot.py",
    "alloc/slab_owner.py",
}  # fmt: skip
ASKED_BUT_REFUSED = {"alloc/entitlement.py", "alloc/emergency_caches.py", "block/hosts.py"}  # see _asks_later
RECORDS = {"lane/policy.py", "lane/state.py", "alloc/state.py"}
LATER_FIELDS = (
    r"\b(?:POLICY\.(?!width)\w+|MEMCTL\.(?:gfp_add|charge_limit|probe_gfp)"
    r"|VM\.(?:mempool_jiffies|swap_bio_limit|write_gate)|ZONE\.short)\b"
)


def test_kernels_ask_in_no_other_place():
    """Who asks a policy in a new place looks here first: is that before a request is below pages_low?"""
    found = {
        str(path.relative_to(KERNELS))
        for path in KERNELS.rglob("*.py")
        if re.search(LATER_FIELDS, path.read_text(encoding="utf-8"))
    }
    assert found - RECORDS == ASKED_LATER | ASKED_BUT_REFUSED
    assert set(LATER) == {"mem.ctl", "mem.zone", "vm.ctl"}
    assert LATER_GROUPS == ("io.", "pools.")
