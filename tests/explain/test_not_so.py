"""What looks like a cause and is none: marks, nodes, boot and cgroups; and lines of another task in between."""

import fastalloc
from tests.explain.small import failure, free_list, oom, reserve, zone
from tests.explain.test_apart import head, lists
from tests.explain.test_apart import zone as stamped_zone

KERNEL = "0xcc0(GFP_KERNEL)"


def test_a_small_zone_may_have_a_boost_above_its_pages():
    """To 5.6 a boost is a pageblock at least, in a zone of any size [boost_watermark]: 8237 - 4 * 11 = 8193."""
    answer = oom("5.4.20", 0, KERNEL, zone("DMA32", 1000, (8237, 8248, 8259), managed=4096), reserve(0, 0))
    assert answer.advice.cause == "boost"
    assert "boost of about 8192 pages" in answer.advice.first[0]
    broken = oom("5.4.20", 0, KERNEL, zone("DMA32", 1000, (90_000, 90_011, 90_022), managed=4096), reserve(0, 0))
    assert broken.advice.cause == "marks"


def test_high_memory_has_32_pages_for_min_however_small_it_is():
    lines = zone("Normal", 500, (2000, 2500, 3000)), reserve(0, 0), zone("HighMem", 10, (32, 40, 48), managed=16)
    answer = failure("5.10.1", 0, "0xdc2(GFP_KERNEL|__GFP_HIGHMEM)", *lines, reserve(0, 0))
    assert answer.advice.cause == "gone"
    assert answer.advice.sentence.count("broken") == 0


def test_marks_of_zero_are_no_boot_where_zones_keep_reserves():
    lines = zone("DMA", 0, (0, 0, 0)), reserve(0, 900), zone("Normal", 0, (0, 0, 0)), reserve(0, 0)
    assert failure("3.10.105", 0, "0x20(GFP_ATOMIC)", *lines).advice.cause == "reserve"
    lines = zone("DMA", 0, (0, 0, 0)), reserve(0, 0), zone("Normal", 0, (0, 0, 0)), reserve(0, 0)
    assert failure("3.10.105", 0, "0x20(GFP_ATOMIC)", *lines).advice.cause == "boot"


def test_an_oom_that_nothing_confined_lacks_no_node():
    """CONSTRAINT_NONE: all nodes with memory were open, also beside a nodemask [constrained_alloc, 5.15]."""
    text = (
        "x invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, nodemask=0-1, oom_score_adj=0\n"
        "CPU: 0 PID: 1 Comm: x Not tainted 5.15.60 #1\nMem-Info:\nactive_anon:1 inactive_anon:0 isolated_anon:0\n"
        " free:9640 free_pcp:0 free_cma:0\n"
        + "".join(zone("Normal", 800, (1000, 1250, 1500), node=n) + reserve(0, 0) for n in (0, 1))
        + "oom-kill:constraint={},nodemask=0-1,cpuset=/,mems_allowed=0-1,global_oom,task=x,pid=1\n"
    )
    told = {said: fastalloc.explain(text.format(said)) for said in ("CONSTRAINT_NONE", "CONSTRAINT_MEMORY_POLICY")}
    assert [answer.advice.cause for (answer,) in told.values()] == ["gone", "nodes"]


def test_kernel_memory_has_no_place_in_zone_movable():
    lines = zone("Normal", 500, (2000, 2500, 3000)), reserve(0, 0), zone("Movable", 90_000, (32, 40, 48)), reserve(0, 0)
    answer = failure("5.10.1", 0, KERNEL, *lines)
    assert answer.advice.first[0].startswith("a smaller ZONE_MOVABLE")


def test_an_oom_with_a_mem_info_is_no_cgroup_s():
    """Since 3.9 dump_header() shows a cgroup's counters in its place."""
    text = (
        "x invoked oom-killer: gfp_mask=0x24000c0(GFP_KERNEL), order=0, oom_score_adj=0\n"
        "CPU: 0 PID: 1 Comm: x Not tainted 4.9.30 #1\nMem-Info:\n"
        + zone("Normal", 500, (2000, 2500, 3000)) + reserve(0, 0) + free_list("Normal", (500, "U"))
        + "Memory cgroup out of memory: Kill process 5 (y) score 1 or sacrifice child\n"
    )  # fmt: skip
    assert [answer.verdict for answer in fastalloc.explain(text)] == ["below-mark", "memcg-limit"]


def test_a_list_is_of_the_block_whose_free_it_comes_to():
    """``a`` prints its zones, ``b`` its head and a zone of its own, then ``a`` goes on with its lists."""
    keeps = "[500.000050] lowmem_reserve[]: 0 0 0 0\n"
    text = (
        head("a", 500) + stamped_zone("DMA", 100, 20) + keeps + stamped_zone("Normal", 300, 2000) + keeps
        + head("b", 500) + stamped_zone("DMA", 110, 20) + keeps + lists("DMA", 100) + lists("Normal", 300)
        + stamped_zone("Normal", 310, 2000) + keeps + lists("DMA", 110) + lists("Normal", 310)
    )  # fmt: skip
    told = [(answer.report.comm, [zone.free for zone in answer.decision.zones]) for answer in fastalloc.explain(text)]
    assert told == [("a", [100, 300]), ("b", [110, 310])]


def test_memory_that_was_asked_for_is_not_that_of_a_head_before():
    text = (
        "[100.0] x: page allocation failure: order:0, mode:0x2080020(GFP_ATOMIC)\n"
        "[100.0] CPU: 0 PID: 1 Comm: x Not tainted 4.9.30 #1\n[500.0] sysrq: SysRq : Show Memory\n[500.0] Mem-Info:\n"
        + zone("Normal", 300, (2000, 2500, 3000)) + reserve(0, 0)
    )  # fmt: skip
    assert [answer.verdict for answer in fastalloc.explain(text)] == ["no-mem-info", "other"]
