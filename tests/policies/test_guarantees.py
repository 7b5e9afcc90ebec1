"""What each policy guarantees: an adversary takes every slot and page it can get before each attempt at a command.

With __GFP_HIGH and an interrupt's rights ("atomic") or with PF_MEMALLOC ("reclaim"); it gives nothing back. Progress
that survives rests on what the policy keeps for the swap path alone.
"""

from functools import cache

import pytest

from fastalloc.scenario import load_policy, policy_names, with_policies
from tests.closed_loop.small import OWN_CORES, metric, run, small

LANES = range(4)
BASE = small("rc8", OWN_CORES | {"run.duration_s": 9.0, "run.series_ms": 9000})
ON_SLUB = [
    name
    for name in policy_names()
    if load_policy(name).section != "kernel" and load_policy(name).set.get("policy.allocator", "slub") == "slub"
]
# The free_list's sense buffer, made at boot, keeps a slab of a cache that no one else can reach: 31 slots for ever.
PRIVATE_STOCK = ["ctor", "nomerge-both", "nomerge-sense", "sense-260", "slub_nomerge"]
# The reserve buys a slab of the shared kmalloc-128, whose other slots are anybody's.
LEAKING = ["emergency-reserve", "reserve-tree"]


def squeezed(policies, strength):
    return with_policies(BASE, [policies]).variant(policies).with_settings({"workload.squeeze": strength})


@cache
def stuck(policies, strength):
    """Lanes whose commands stop for good."""
    found = []
    for lane in LANES:
        result = run(squeezed(policies, strength), lane)
        if metric(result, "livelock_5s") and metric(result, "livelock_open"):
            found.append(lane)
    return found


@pytest.mark.parametrize("name", [name for name in ON_SLUB if load_policy(name).verdict is not None])
def test_the_decision_table_says_what_is_guaranteed(name):
    """policies.md, section I: commands go on in every lane where progress is said to be guaranteed, and end in some
    where it is not. Where the table is wrong stands above, with the reason."""
    guaranteed = load_policy(name).verdict.guarantees != "no"
    if name in PRIVATE_STOCK:
        assert not guaranteed
        assert stuck(name, "reclaim") == []
    elif name in LEAKING:
        assert guaranteed
        assert stuck(name, "atomic") == list(LANES)
    elif guaranteed:
        assert stuck(name, "atomic") == stuck(name, "reclaim") == []
    else:
        assert stuck(name, "atomic")


@pytest.mark.parametrize("reserve", LEAKING)
def test_a_reserve_holds_when_the_slabs_that_it_buys_are_kept_for_it(reserve):
    """E3 needs H5 or E1 (who may take a slot of a slab) or B3 (a cache of its own); that is what the thread was about.
    Against PF_MEMALLOC, which may take those slots too, only a cache of its own helps."""
    for guard in ("pfmemalloc", "rank"):
        assert stuck(f"{reserve}+{guard}", "atomic") == []
        assert stuck(f"{reserve}+{guard}", "reclaim") == list(LANES)
    assert stuck(f"{reserve}+nomerge-sense", "reclaim") == []
    assert stuck("pfmemalloc", "atomic")
    assert stuck("rank", "atomic")


def test_kblockd_with_memalloc_guarantees_nothing():
    """G4: pages without a watermark last until the adversary finds the rest of their slabs."""
    assert stuck("kblockd-memalloc", "atomic") == list(LANES)
    assert stuck("kblockd-memalloc+nomerge-sense", "reclaim") == []


@pytest.mark.parametrize(("name", "strength"), [("rc8", "atomic"), ("fix", "reclaim"), ("pfmemalloc", "atomic")])
def test_a_squeeze_loses_no_page_and_skips_as_others_do(name, strength):
    short = squeezed(name, strength).with_settings({"run.duration_s": 4.0})
    run(short, 1, debug=True)
    assert run(short, 1).metrics.tolist() == run(short, 1, skip=False).metrics.tolist()
