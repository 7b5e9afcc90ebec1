"""Free memory that a request may not take: closed nodes, HighMem, CMA, highatomic."""

import pytest

from tests.explain.small import failure, free_list, oom, reserve, zone

KERNEL = "0xcc0(GFP_KERNEL)"
MOVABLE = "0x100cca(GFP_HIGHUSER_MOVABLE)"
COUNTERS = "active_anon:9000 inactive_anon:0 isolated_anon:0\n slab_reclaimable:5000 slab_unreclaimable:100\n free:{}\n"
LOW = zone("Normal", 875, (932, 1165, 1398)) + reserve(0, 0, 0, 0)


def test_an_oom_with_highmem_free_is_low_memory():
    high = zone("HighMem", 20_000, (128, 1000, 2000))
    answer = oom("5.7.1", 0, KERNEL, COUNTERS.format(20_875), LOW, high)
    assert answer.advice.cause == "mask"
    assert "20000 pages are free in HighMem" in answer.advice.sentence
    assert "who holds low memory (reclaimable slab 5000 pages" in answer.advice.first[1]
    assert answer.advice.useless[0].startswith("more memory: it would be HighMem")
    short = zone("HighMem", 1999, (128, 1000, 2000))  # not above its own high: the last try would fail there as well
    assert oom("5.7.1", 0, KERNEL, COUNTERS.format(2874), LOW, short).advice.cause == "gone"


def test_highmem_that_a_report_leaves_out_is_in_the_counters():
    tail = "90000 pages RAM\n{} pages HighMem/MovableOnly\n"
    answer = oom("6.1.1", 0, KERNEL, COUNTERS.format(20_875), LOW, tail.format(50_000))
    assert "20000 pages are free in HighMem" in answer.advice.sentence
    # A kernel without HighMem says 0 there.
    assert oom("6.1.1", 0, KERNEL, COUNTERS.format(20_875), LOW, tail.format(0)).advice.cause == "gone"


@pytest.mark.parametrize(("cma", "cause"), [(600, "mask"), (100, "gone")])
def test_an_oom_with_enough_free_cma_is_barred(cma, cause):
    # 932 + 466 is high: 1398 + 1 - 875 = 524 short, so 600 CMA pages more would have passed, 100 not.
    line = zone("Normal", 875 + cma, (932, 1165, 1398), free_cma=cma) + reserve(0, 0, 0, 0)
    answer = oom("5.7.1", 0, KERNEL, COUNTERS.format(875 + cma), line)
    assert answer.advice.cause == cause
    assert ("a smaller cma= area" in answer.advice.first[0]) == (cause == "mask")


def test_a_movable_request_is_refused_by_the_last_try_alone():
    # min passes with CMA by 543; at high 1398 + 1 - 875 = 524 are short, since the last try leaves CMA out.
    line = zone("Normal", 1475, (932, 1165, 1398), free_cma=600) + reserve(0, 0, 0, 0)
    answer = oom("5.7.1", 0, MOVABLE, COUNTERS.format(1475), line)
    assert "600 free pages of Normal are CMA, which the last try before a kill does not count" in answer.advice.sentence


def constrained(words: str, mode: str = MOVABLE, free: int = 90_000):
    line = zone("Normal", 875, (932, 1165, 1398), node=1) + reserve(0, 0, 0, 0)
    return oom("5.15.60", 0, mode, COUNTERS.format(free), line, f"oom-kill:constraint={words},task=X,pid=1,uid=0\n")


def test_a_cpuset_that_closes_free_nodes_comes_first():
    answer = constrained("CONSTRAINT_CPUSET,nodemask=(null),cpuset=job,mems_allowed=1,global_oom")
    assert answer.advice.cause == "nodes"
    assert answer.advice.first[0].startswith("cpuset.mems")
    # 90000 in the counters, 875 of them in the zone that is shown.
    assert "89125 pages are free on nodes that its cpuset (mems_allowed=1) closes" in answer.advice.sentence


def test_a_memory_policy_that_closes_free_nodes_comes_first():
    answer = constrained("CONSTRAINT_MEMORY_POLICY,nodemask=1,cpuset=/,mems_allowed=0-1,global_oom")
    assert (answer.advice.cause, answer.verdict) == ("nodes", "below-mark")
    assert answer.advice.first[0].startswith("the memory policy")


@pytest.mark.parametrize(
    ("words", "free"),
    [
        ("CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0-1,global_oom", 90_000),  # a text that lost a zone
        ("CONSTRAINT_CPUSET,nodemask=(null),cpuset=job,mems_allowed=1,global_oom", 900),  # nothing free elsewhere
    ],
)
def test_no_node_is_blamed_that_is_open_or_empty(words, free):
    assert constrained(words, free=free).advice.cause == "gone"


def test_a_cpuset_without_a_zone_for_the_mask():
    line = zone("Movable", 40_000, (900, 1100, 1300), node=4) + reserve(0, 0, 0, 0, 0)
    words = (
        "oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=(null),cpuset=c,mems_allowed=4,global_oom,task=X,pid=1,uid=0\n"
    )
    answer = oom("5.8.2", 0, "0x100cc2(GFP_HIGHUSER)", COUNTERS.format(90_000), line, words)
    assert (answer.verdict, answer.advice.cause) == ("zone-not-allowed", "nodes")
    assert "50000 pages are free on the nodes that are closed" in answer.advice.sentence
    assert answer.advice.first[0].startswith("cpuset.mems")
    open_ = oom("5.8.2", 0, "0x100cc2(GFP_HIGHUSER)", COUNTERS.format(40_000), line)
    assert open_.advice.cause == "mask"


def highatomic(order: int, letters: str):
    line = zone("Normal", 1400, (1000, 1250, 1500), reserved_highatomic=512) + reserve(0, 0, 0)
    lists = free_list(
        "Normal", (1144, "U"), (0, ""), (0, ""), (0, ""), (0, ""), (0, ""), (0, ""), (0, ""), (1, letters)
    )
    return failure("5.15.60", order, "0x40cc0(GFP_KERNEL|__GFP_COMP)", line, lists)


def test_pages_set_aside_for_high_orders_are_not_said_to_be_free():
    answer = highatomic(0, "H")
    assert "512 pages of Normal are set aside in highatomic blocks, used or free" in answer.advice.sentence
    assert answer.advice.cause == "mask"


def test_barred_blocks_count_only_where_the_order_is_among_them():
    assert highatomic(5, "H").advice.cause == "mask"
    none = highatomic(9, "H")
    assert "highatomic" not in none.advice.sentence
    assert "and a block of order 9" in none.advice.sentence


def test_larger_blocks_of_a_type_that_is_barred_are_named():
    """[mm/page_alloc.c: __zone_watermark_ok, show_migration_types]"""
    lines = zone("Normal", 5000, (500, 625, 750), free_cma=1024), reserve(0, 0)
    lists = free_list("Normal", (2928, "UM"), (0, ""), (4, "HC"), (0, ""), (64, "C"), (1, "HI"))
    sentence = failure("5.10.1", 4, "0x40cc0(GFP_KERNEL|__GFP_COMP)", *lines, lists).advice.sentence
    assert "is of order 0 (those of order 4 and above are CMA or highatomic or isolated)" in sentence
    none = failure("5.10.1", 6, "0x40cc0(GFP_KERNEL|__GFP_COMP)", *lines, lists).advice.sentence
    assert "those of order" not in none


def test_who_may_wait_is_not_sent_to_a_larger_reserve():
    """min_free_kbytes raises the mark that such a request must pass, whatever bars other memory."""
    line = zone("Normal", 1100, (1000, 1250, 1500), free_cma=600)
    answer = failure("5.10.1", 0, "0xcc0(GFP_KERNEL)", line, reserve(0, 0, 0))
    assert answer.advice.first[0].startswith("fewer CMA")
    assert "a larger min_free_kbytes would not" in answer.advice.sentence
    assert not any("min_free_kbytes" in said for said in answer.advice.first)
