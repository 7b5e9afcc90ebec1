"""What a zone that passes when the report is printed leaves of the failure."""

import pytest

import fastalloc
from tests.explain.small import failure, free_list, oom, reserve, zone

PLENTY = (zone("Normal", 213_033, (2152, 3688, 5224)), reserve(0, 0))


def test_a_page_fault_calls_the_killer_without_a_request():
    """A mask of 0 may not reclaim, so no request with it comes to the killer [mm/oom_kill.c: pagefault_out_of_memory,
    2.6.29 to 5.15]."""
    answer = oom("5.3.0", 0, "0x0()", *PLENTY)
    assert answer.report.page_fault
    assert (answer.verdict, answer.advice.cause) == ("passes-now", "unknown")
    assert "called from the fault, not by a request" in answer.advice.sentence
    assert "reclaim made no progress" not in answer.reason
    # A try at high comes before the kill of a request only [__alloc_pages_may_oom].
    between = (zone("Normal", 3000, (2152, 3688, 5224)), reserve(0, 0))
    assert [one.last_try_high for one in oom("5.3.0", 0, "0x0()", *between).decision.zones] == [None]
    assert oom("5.3.0", 0, "0x6000c0(GFP_KERNEL)", *between).verdict == "below-mark"
    short = oom("5.3.0", 0, "0x0()", zone("Normal", 1000, (2152, 3688, 5224)), reserve(0, 0))
    assert (short.verdict, short.advice.cause) == ("below-mark", "gone")
    assert "had a page fault fail for want of memory" in short.advice.sentence
    assert "without a try at any mark" in short.advice.sentence
    assert "would have let it pass" not in short.advice.sentence
    assert answer.advice.first[0] in short.advice.first
    assert not any("mark that refused" in said for said in short.advice.useless)
    alone = oom("5.3.0", 0, "0x0()")
    assert (alone.verdict, alone.advice.first) == ("no-mem-info", answer.advice.first)


def test_a_cgroups_kill_with_a_mask_of_0_is_the_cgroups():
    text = (
        "X invoked oom-killer: gfp_mask=0x0(), order=0, oom_score_adj=0\n"
        "CPU: 1 UID: 0 PID: 74 Comm: X Not tainted 6.16.0 #1\nmemory: usage 42240kB, limit 42240kB, failcnt 0\n"
    )
    (answer,) = fastalloc.explain(text)
    assert (answer.verdict, answer.report.page_fault) == ("memcg-limit", False)


def test_a_report_without_its_head_does_not_tell_who_may_wait():
    """The mark of GFP_ATOMIC is the lowest that a request is held to [__zone_watermark_ok]; 3/8 of 6400 is 2400."""
    lines = zone("Normal", 2301, (6400, 8000, 9600)), reserve(0, 0, 0)
    (answer,) = fastalloc.explain(f"Mem-Info:\n{''.join(lines)}")
    assert (answer.verdict, answer.advice.cause) == ("below-mark", "unknown")
    assert "even GFP_ATOMIC must leave 2400 + reserve 0, short by 100" in answer.advice.sentence
    assert not any("min_free_kbytes" in said for said in answer.advice.first)


def test_a_report_without_its_head_does_not_tell_that_a_shortage_is_over():
    (answer,) = fastalloc.explain(f"Mem-Info:\n{''.join(PLENTY)}")
    assert (answer.verdict, answer.advice.cause) == ("passes-now", "unknown")
    assert "a larger block may have been asked for, or nothing at all" in answer.advice.sentence
    assert "full mark" not in answer.advice.sentence
    lines = (zone("DMA32", 2000, (1900, 2375, 2850)), reserve(0, 3925), zone("Normal", 6650, (6807, 7811, 8815)))
    (low,) = fastalloc.explain(f"Mem-Info:\n{''.join(lines)}{reserve(0, 0)}")
    assert "at the full mark, that of GFP_KERNEL, every zone is short, the nearest by 158" in low.advice.sentence


def vmalloc(release: str, said: str, mode: str, blocks: str = ""):
    text = (
        f"X: {said}, mode:{mode}, nodemask=(null)\nCPU: 0 PID: 1 Comm: X Not tainted {release} #1\nMem-Info:\n"
        + "".join((*PLENTY, blocks))
    )
    (answer,) = fastalloc.explain(text)
    return answer


@pytest.mark.parametrize(
    ("release", "said", "mode", "killed"),
    [
        ("5.15.60", "vmalloc error: size 8192, page order 0, failed to allocate pages", "0xcc0(GFP_KERNEL)", True),
        ("6.6.60", "vmalloc error: size 8192, failed to allocate pages", "0xcc0(GFP_KERNEL)", False),
        ("4.11.5", "vmalloc: allocation failure, allocated 4096 of 8192 bytes", "0x14000c0(GFP_KERNEL)", True),
        ("4.19.60", "vmalloc: allocation failure, allocated 4096 of 8192 bytes", "0x6000c0(GFP_KERNEL)", False),
    ],
)
def test_zones_that_pass_are_not_said_to_have_refused_vmalloc(release, said, mode, killed):
    """4.11 to 4.13 and 5.15 to 6.3 stop at a fatal signal and warn of the pages they did not ask for [mm/vmalloc.c:
    __vmalloc_area_node, vm_area_alloc_pages]."""
    answer = vmalloc(release, said, mode)
    assert (answer.verdict, answer.advice.cause) == ("passes-now", "transient")
    assert "pages were freed since, so these zones do not show what refused" in answer.advice.sentence
    assert ("once its task is to be killed" in answer.advice.sentence) == killed
    assert answer.if_task == []


def test_vmalloc_asks_again_for_single_pages_also_where_a_zone_passes_now():
    """[mm/vmalloc.c: __vmalloc_node_range, 5.13 and later]"""
    said, blocks = "vmalloc error: size 0, page order 9, failed to allocate pages", [(1, "U")] * 10
    answer = vmalloc("5.15.60", said, "0xcc0(GFP_KERNEL)", free_list("Normal", *blocks))
    assert answer.verdict == "passes-now"
    assert "asks again for single pages" in answer.advice.sentence
    assert "to be killed" not in answer.advice.sentence


def test_zones_that_pass_are_not_said_to_have_refused_a_page():
    answer = failure("5.15.60", 0, "0xcc0(GFP_KERNEL)", *PLENTY)
    assert "pages were freed since, so these zones do not show what refused" in answer.advice.sentence
    assert "vmalloc" not in answer.advice.sentence
    assert answer.if_task == []


def test_pages_kept_for_high_order_atomic_requests_may_be_what_refused():
    """4.4 to 4.6 take off whole page blocks that no report prints [mm/page_alloc.c: __zone_watermark_ok]."""
    lines = (zone("DMA", 2342, (1230, 12_747, 13_055), managed=421_559, free_cma=98), reserve(0, 0))
    kept = failure("4.4.169", 0, "0x2200000", *lines, free_list("DMA", (2214, "UME"), (64, "UMEH")))
    assert (kept.verdict, kept.advice.cause) == ("passes-now", "unknown")
    assert "more than 1014 pages are kept for high-order atomic requests" in kept.advice.sentence
    assert "its free list shows such blocks (H)" in kept.advice.sentence
    none = failure("4.4.169", 0, "0x2200000", *lines, free_list("DMA", (2342, "UME")))
    assert none.advice.cause == "transient"
    assert "its free list shows none" in none.advice.sentence
    # Who may count them (GFP_ATOMIC), and a version that prints them, leave nothing open.
    for release, mode in (("4.4.169", "0x2080020"), ("5.10.100", "0x800")):
        assert "kept for" not in failure(release, 0, mode, *lines).advice.sentence


def test_a_task_of_another_policy_is_named_where_the_answer_is_another():
    lines = (zone("Normal", 1606, (344, 430, 516)), reserve(0, 0), free_list("Normal", (1590, "UME"), (8, "UME")))
    assert failure("5.8.0", 4, "0x40cc0", *lines).if_task == []


def test_a_zone_at_its_mark_is_not_over_the_shortage():
    """The counter is read before the list [show_free_areas]; 1024 of the pages are highatomic blocks."""
    lines = (zone("Normal", 4213, (2896, 10_485, 18_074), boost=0, reserved_highatomic=1024), reserve(0, 0, 0, 0))
    later = failure("6.1.90", 0, "0x10800", *lines, free_list("Normal", (3908, "UMEH")))
    assert (later.verdict, later.advice.cause) == ("passes-now", "reserve")
    # Up to 125 pages of each CPU are not in the counter yet [mm/vmstat.c: calculate_normal_threshold].
    assert "the counter lacks what CPUs have not added yet" in later.advice.sentence
    assert "the shortage was not over" not in later.advice.sentence
    assert "passed again by 293 pages by its counter, and is short by 13 by its free list" in later.advice.sentence
    same = failure("6.1.90", 0, "0x10800", *lines, free_list("Normal", (4213, "UMEH")))
    assert (same.verdict, same.advice.cause) == ("passes-now", "transient")


def cut_lines(cma: int, mode: str):
    """Two zones that pass by 288 and 188, their lines cut before free_cma; so many free pages are CMA."""
    lines = [
        f"Node 0 {name} free:{free * 4}kB min:3200kB low:4000kB high:4800kB present:400000kB\n"
        f"lowmem_reserve[]: 0 {keeps} 0\n"
        for name, free, keeps in (("DMA32", 688, 100), ("Normal", 488, 0))
    ]
    text = (
        f"X: page allocation failure: order:0, mode:{mode}, nodemask=(null)\n"
        "CPU: 0 PID: 1 Comm: X Not tainted 4.19.60 #1\nMem-Info:\nactive_anon:1 inactive_anon:2 isolated_anon:0\n"
        f" free:1176 free_pcp:0 free_cma:{cma}\n{''.join(lines)}"
    )
    (answer,) = fastalloc.explain(text)
    return answer.advice


def test_pages_of_cut_lines_may_be_cma():
    """A zone's line ends with free_cma [show_free_areas]. 300 is the mark of GFP_ATOMIC: 288 + 188 pages above it."""
    assert cut_lines(0, "0x480020(GFP_ATOMIC)").cause == "transient"
    assert cut_lines(475, "0x480020(GFP_ATOMIC)").cause == "transient"
    told = cut_lines(476, "0x480020(GFP_ATOMIC)")
    assert told.cause == "unknown"
    assert "476 free pages are CMA, which this caller may not take" in told.sentence
    assert cut_lines(1000, "0x480028(GFP_ATOMIC|__GFP_MOVABLE)").cause == "transient"


def test_before_a_kill_a_zone_passes_by_what_the_last_try_counts():
    """It asks high and takes no CMA page, also for a movable request [mm/page_alloc.c: __alloc_pages_may_oom]:
    8750 - 8000 - 602 = 148, and by min and with CMA 8750 - 562 = 8188."""
    line = (
        zone("DMA32", 8750, (80, 100, 120), free_cma=8000) + reserve(0, 482, 482),
        zone("Normal", 1050, (1280, 1600, 1920)),
    )
    answer = oom(
        "4.19.90", 0, "0x6200ca(GFP_HIGHUSER_MOVABLE)", *line, reserve(0, 0, 0), free_list("DMA32", (8750, "UC"))
    )
    assert answer.verdict == "passes-now"
    assert "DMA32 passed again by 148 pages at high, the mark of the last try before a kill" in answer.advice.sentence
