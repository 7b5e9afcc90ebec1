"""Every preset on small machines: nothing is lost, nothing depends on how a lane is run, and the thread's claims hold.

The small machine of tests/closed_loop/small.py with cores of its own, 24 lanes of 15 s, seed 1: the same random events
under every policy.
"""

from functools import cache

import pytest

from fastalloc.batch import run_lanes
from fastalloc.batch.caches import build_caches
from fastalloc.batch.lane import build_lane
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MEMPOOL, mempool_alloc
from fastalloc.kernels.alloc.state import DEPTH, MEMCTL, SLUB_CTL, SLUB_SLAB, ZONE
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.kernels.lane.state import POOL
from fastalloc.linux import gfp as g
from fastalloc.scenario import load_policy, policy_names, with_policies
from tests.closed_loop.small import OWN_CORES, advance, happened, image, metric, run, small

LANES = range(24)
# The gate of 3.6 counts free pages of all zones; those of ZONE_DMA, which lowmem_reserve protects, keep it open here.
NEVER_MET = {"reclaim-gate"}
PRESENT = 512 + 8192  # pages of the small machine
# Presets that the small machine cannot tell apart: said twice, or different only in what it never meets. Those that
# size objects differently, and no more, are told apart by the memory that no object uses.
ALIKE = [
    ["rc8", "emergency-free-page", "emergency-v1", "reclaim-gate"],
    ["consolidated", "fix", "nothing-more"],
    ["ctor", "nomerge-sense"],
    ["mempool-keep-wait", "mempool-no-harder", "watermarks-6.3"],
]
BASE = small("rc8", OWN_CORES | {"run.duration_s": 15.0, "run.series_ms": 5000})
POLICIES = [name for name in policy_names() if load_policy(name).section != "kernel"]
KERNELS = [name for name in policy_names() if load_policy(name).section == "kernel"]


def scenario(policies):
    return with_policies(BASE, [policies]).variant(policies)


@cache
def result_of(policies, lane):
    return run(scenario(policies), lane)


def results(policies):
    return [result_of(policies, lane) for lane in LANES]


def total(policies, name):
    return sum(metric(result, name) for result in results(policies))


def taken(policies, who, depth):
    """Objects that ``who`` took from slabs allocated at ``depth``."""
    return sum(result.ledger[:, depth, WHO.names.index(who)].sum() for result in results(policies))


@pytest.mark.parametrize("name", POLICIES + KERNELS)
def test_nothing_is_lost(name):
    """The debug mode looks at every page, slot, request, bio and command after each tick."""
    run(scenario(name).with_settings({"run.duration_s": 4.0}), 7, debug=True)


@pytest.mark.parametrize("name", POLICIES)
def test_skipping_changes_nothing(name):
    short = scenario(name).with_settings({"run.duration_s": 4.0})
    assert image(run(short, 3)) == image(run(short, 3, skip=False))


@pytest.mark.parametrize("name", KERNELS)
def test_one_release_candidate_livelocks_and_no_release(name):
    assert (total(name, "livelock_5s") > 0) == (name == "2.6.25-rc8")
    if load_policy(name).set.get("policy.command_rule") == "prealloc":
        assert total(name, "sense_fail") == total(name, "cmd_fail") == 0


def test_the_baseline_livelocks():
    assert total("rc8", "livelock_5s") > 0


@pytest.mark.parametrize("name", ["mempool-no-harder", "mempool-polite", "mempool-keep-wait", "watermarks-6.3"])
def test_a_mempool_without_the_discount_stops_at_min(name):
    """Christoph's complaint: the stripped first try goes to 3/4 of min [D2; H13: since 6.3 it no longer does]."""
    assert taken("rc8", "bio", DEPTH.harder) > 0 or taken("rc8", "request", DEPTH.harder) > 0
    allocated = sum(result.ledger[WHO.bio, DEPTH.harder].sum() for result in results(name))
    assert allocated == 0


def test_a_second_try_at_once_finds_nothing_more():
    """H3: the full mask reaches min only, where the stripped one has just been refused at 3/4 of it."""
    for retried, plain in zip(results("mempool-retry"), results("rc8"), strict=True):
        assert metric(retried, "sense_fail") == metric(plain, "sense_fail")


def test_without_a_timeout_a_livelock_never_ends():
    """D2e: what is a livelock with the timer is a hang without."""
    for result in results("mempool-no-timeout"):
        assert metric(result, "mempool_timeouts") == 0
        assert metric(result, "livelock_5s") == metric(result, "livelock_open")


def test_fairness_by_rank_keeps_more_of_the_atomic_page_and_as_posted_does_not():
    """E1: bios take most slots that a sense buffer allocated at 3/8 of min under rc8, as posted and E2; the full rule
    keeps more of them, until a bio's own slab opens the cache again. Shares and not counts: what gives no command
    allocates no slab either. 96 machines, for each has a few dozen such slots (of three seeds: 18 to 23 % under rank, 9
    to 17 under the others; its time in livelocks is 0.70 to 0.94 of that of rc8)."""
    kept, locked = {}, {}
    for name in ("rank", "rc8", "rank-posted", "no-watermarks"):
        found = list(run_lanes(scenario(name), range(96), seed=1, threads=1))
        rows = [result.ledger[WHO.sense, DEPTH.atomic] for result in found]
        kept[name] = sum(int(row[WHO.sense]) for row in rows) / sum(int(row.sum()) for row in rows)
        locked[name] = sum(metric(result, "livelock_ms") for result in found)
    assert kept["rank"] > 0.15
    assert all(kept[name] < 0.9 * kept["rank"] for name in kept if name != "rank")
    assert locked["rank"] < locked["rc8"]
    assert taken("rank-posted", "bio", DEPTH.atomic) > 0
    assert total("rank", "unfair_refusals") > 0


@pytest.mark.parametrize(("name", "protected"), [
    ("rc8", False), ("rank-posted", False), ("no-watermarks", False), ("pfmemalloc", False), ("rank", True),
])  # fmt: skip
def test_who_keeps_bios_off_the_page_that_a_sense_buffer_allocated(name, protected):
    """E1 as posted, E2 and H5 do not protect the GFP_ATOMIC page, E1 in full does. On a machine whose free pages lie
    between 3/8 and 3/4 of min a sense buffer allocates a slab, and then a bio in reclaim asks for its first try."""
    arrays = build_lane(scenario(name), 0, 1)
    mem, heap = arrays.mem, arrays.heap
    mem.zone[:, ZONE.min] = 2 * mem.zone[:, ZONE.free]
    mem.zone[:, ZONE.low] = 2 * mem.zone[:, ZONE.min]
    heap.ctl[SLUB_CTL.path] = 0
    while heap.ctl[SLUB_CTL.path] != 4:  # a slab allocated
        sense = mempool_alloc(mem, heap, arrays.pools, POOL.sense, 0, g.GFP_ATOMIC, 0, True)
    assert heap.slab[sense >> st.HANDLE_SHIFT, SLUB_SLAB.depth] == DEPTH.atomic
    bio = mempool_alloc(mem, heap, arrays.pools, POOL.bio, 0, g.GFP_NOIO, g.PF_MEMALLOC, True)
    assert (arrays.pools.pool[POOL.bio, MEMPOOL.from_pool] == 1) == protected
    assert (bio >> st.HANDLE_SHIFT == sense >> st.HANDLE_SHIFT) != protected


def allocated_for(policies, taker, owners, found=results):
    """Objects that ``taker`` took from slabs of those owners, at any depth."""
    rows = [WHO.names.index(owner) for owner in owners]
    return sum(int(result.ledger[rows, :, WHO.names.index(taker)].sum()) for result in found(policies))


# kmalloc-128 as the boot left it, but with no slot free: the 115 that the presets' boot leaves serve all GFP_ATOMIC
# users of a machine without bios there, which then never allocate a slab for anybody.
FULL = {"machine.boot_slabs": [{"cache": "kmalloc-128", "slabs": 5, "in_use": 160}]}


@cache
def results_after_full_boot(policies):
    return [run(scenario(policies).with_settings(FULL), lane) for lane in range(12)]


@pytest.mark.parametrize(("name", "bios_apart", "sense_apart"), [
    ("nomerge-sense", False, True), ("nomerge-bio", True, False), ("nomerge-both", True, True),
])  # fmt: skip
def test_nomerge_on_sense_on_bio_and_on_both_differ_as_predicted(name, bios_apart, sense_apart):
    """B3. On sense: bios go on with slots of kmalloc-128 that other GFP_ATOMIC users allocated. On bio: sense buffers
    go on with those, but the mass consumer is gone. On both: each lives in its own slabs. No sense buffer is refused.
    On a machine whose boot left no slot of kmalloc-128 free: else it serves sense buffers from that stock alone."""
    others = ["atomic noise", "scsi_cmnd", "sg table", "radix node", "inode", "dentry", "request"]
    found = results_after_full_boot
    assert (allocated_for(name, "bio", [*others, "sense"], found) == 0) == bios_apart
    assert (allocated_for(name, "sense", [*others, "bio"], found) == 0) == sense_apart
    assert not any(metric(result, "sense_fail") for result in found(name))
    assert any(metric(result, "sense_fail") for result in found("rc8"))
    assert total(name, "sense_fail") == 0 < total("rc8", "sense_fail")


def test_hughs_constructor_stops_all_failures():
    """B2, and nobody takes a slot of a slab that a sense buffer allocated."""
    assert total("ctor", "sense_fail") == total("ctor", "livelock_5s") == 0
    assert allocated_for("ctor", "bio", ["sense"]) == 0 < allocated_for("rc8", "bio", ["sense"])


def test_a_larger_sense_buffer_shares_with_the_commands():
    """B7: 260 bytes merge with scsi_cmd_cache; with 96 they merge with bio and kmalloc-128."""
    small_one, large = build_caches(BASE), build_caches(scenario("sense-260"))
    assert small_one.index_of("scsi_sense_cache") == small_one.index_of("bio") == small_one.index_of("kmalloc-128")
    assert large.index_of("scsi_sense_cache") == large.index_of("scsi_cmd_cache") != large.index_of("bio")


@pytest.mark.parametrize(
    ("name", "slot", "objects"),
    [("inline-sense", 384, 10), ("tail-64-96", 448, 9), ("tail-64-260", 640, 6), ("tail-128-260", 768, 5)],
)
def test_one_object_for_command_and_sense(name, slot, objects):
    """B5, B6: slot and objects a page of the policies sheet; 128-byte cache lines where the tail is aligned so."""
    line = 128 if name.startswith("tail-128") else 64
    built = build_caches(scenario(name).with_settings({"machine.cache_line": line}))
    geometry = built.caches[built.index_of("scsi_cmd_cache")]
    assert (geometry.size, geometry.objects) == (slot, objects)
    assert built.index_of("scsi_cmd_cache") not in (built.index_of("bio"), built.index_of("kmalloc-512"))


def test_the_tail_of_96_bytes_on_long_lines_merges_by_accident():
    """B6: 384 + 96 = 480 bytes are a kmalloc-512."""
    built = build_caches(scenario("tail-128-96").with_settings({"machine.cache_line": 128}))
    assert built.index_of("scsi_cmd_cache") == built.index_of("kmalloc-512")


def test_a_bio_with_its_vectors_inside_leaves_the_class_of_the_sense_buffer():
    """G5: since 2.6.29 the two no longer share a cache."""
    built = build_caches(scenario("bio-inline-vecs"))
    assert built.index_of("bio") != built.index_of("scsi_sense_cache")
    assert total("bio-inline-vecs", "sense_fail") == 0


def test_preallocated_commands_never_ask_a_slab():
    for result in results("prealloc"):
        assert metric(result, "sense_fail") == metric(result, "cmd_fail") == 0
        assert metric(result, "free_list_used") == metric(result, "commands")


@pytest.mark.parametrize("ppm", [0, 1_000_000])
def test_lazy_sense_buffers_are_taken_for_failed_commands_only(ppm):
    """B8: with every command failing each asks for one; refused, the host's spare one serves."""
    result = run(scenario("lazy-sense").with_settings({"policy.sense_error_ppm": ppm}), 0)
    asked = result.ledger[:, :, WHO.sense].sum() + metric(result, "sense_spare")
    if ppm == 0:
        assert asked == 0
    else:
        assert metric(result, "commands") - asked in (0, 1)  # the last may still be at the disk


def test_the_rank_of_a_cache_is_not_held_when_somebody_shallower_feeds_it():
    """E1 does not prevent every failure: a rank is the cache's, so the next slab allocated by a bio opens it again."""
    assert 0 < total("rank", "sense_fail") < total("rc8", "sense_fail")


def test_the_reserve_serves_sense_buffers_below_every_mark():
    """E3: no failure, and the slabs that serve were allocated with no watermark where rc8 had failed."""
    assert total("emergency-reserve", "sense_fail") == 0
    allocated = sum(result.ledger[WHO.sense, DEPTH.none].sum() for result in results("emergency-reserve"))
    assert allocated > 0


def test_spare_pages_are_taken_when_nothing_else_is_left():
    """F5: the slabs they allocate help, until bios have eaten them."""
    assert total("spare-pages", "spare_used") > 0
    assert total("spare-pages", "sense_fail") < total("rc8", "sense_fail")


def test_a_limit_on_swap_bios_holds():
    limited = run(scenario("swap-throttle").with_settings({"policy.swap_bio_limit": 64}), 0)
    # one more for each reclaimer that had passed the test
    tasks = 1 + BASE.workload.copiers + BASE.workload.writers
    assert metric(limited, "max_writeback") < 64 + tasks
    assert metric(run(scenario("rc8"), 0), "max_writeback") > 64 + tasks


@pytest.mark.parametrize(("least", "begun"), [(2 * PRESENT, False), (PRESENT, True)])
def test_the_reclaim_gate_shuts_at_half_of_min(least, begun):
    """H12: with marks that nobody meets no direct reclaim begins below half of the sum of min, above it does."""
    arrays = build_lane(scenario("reclaim-gate"), 0, 1)
    arrays.mem.zone[1, [ZONE.min, ZONE.low]] = least
    advance(0, arrays, 2000)
    assert (arrays.out.metric[METRIC.allocstall] > 0) == begun


def test_policies_that_are_off_change_nothing():
    """A preset that sets a field to what it is anyway is the baseline, byte for byte."""
    spelled = {"policy.entitlement": "anyone", "policy.mempool_rule": "2.6.25", "policy.short_eighths": 1}
    plain, off = run(BASE, 3), run(BASE.with_settings(spelled), 3)
    assert image(plain) == image(off)


def test_lanes_of_policies_differ_where_they_should():
    """Lane by lane: what differs from all others in one runs no further."""
    groups = [POLICIES]
    for lane in LANES:
        groups = [part for group in groups for part in groups_in(group, lane) if len(part) > 1]
    assert sorted(groups) == sorted(ALIKE)


def groups_in(names, lane):
    """``names`` by what happened in the lane."""
    seen = {}
    for name in names:
        seen.setdefault(happened(result_of(name, lane))[0], []).append(name)
    return seen.values()


def test_more_spare_pages_than_there_is_memory_are_as_many_as_there_are():
    arrays = build_lane(scenario("spare-pages").with_settings({"policy.spare_pages": 1 << 16}), 0, 1)
    low = arrays.mem.zone[1, ZONE.low]
    assert 0 < arrays.mem.ctl[MEMCTL.nr_spare] < PRESENT
    assert arrays.mem.zone[1, ZONE.free] <= low
