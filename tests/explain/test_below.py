"""Below the mark: one mark for all zones, blocks besides pages, and marks that cannot be."""

from tests.explain.small import failure, free_list, oom, reserve, zone

KERNEL = "0xcc0(GFP_KERNEL)"
COMP = "0x40cc0(GFP_KERNEL|__GFP_COMP)"
ATOMIC = "0xa20(GFP_ATOMIC)"


def two_zones(dma32: int):
    return (
        zone("DMA", 1009, (15, 18, 22)), reserve(0, 994, 994, 994),
        zone("DMA32", dma32, (1000, 1250, 1500)), reserve(0, 0, 0, 0),
    )  # fmt: skip


def test_where_the_last_try_decided_all_zones_are_held_against_high():
    answer = oom("5.10.1", 0, KERNEL, *two_zones(1457))
    # DMA 1009 <= 15 + 994 by 1; at high 22 + 994 + 1 - 1009 = 8. DMA32 passes min by 457, at high 44 are short.
    assert "DMA came nearest at high, the mark of the last try before a kill" in answer.advice.sentence
    assert "more than 22 + reserve 994 must be, short by 8; 8 pages more" in answer.advice.sentence
    assert answer.decision.why.startswith("DMA short by 8 at high, the last try before a kill (usable 1009")
    assert [each.short_by for each in answer.decision.zones] == [1, 0]  # against the mark, as before


def test_where_min_refused_all_zones_min_is_what_is_said():
    answer = oom("5.10.1", 0, KERNEL, *two_zones(990))
    assert "DMA came nearest: 1009 pages usable where more than 15 + reserve 994" in answer.advice.sentence
    assert "at high" not in answer.advice.sentence + answer.decision.why


def below(order: int, *blocks: tuple[int, str], free: int = 2001, release: str = "5.15.60", mode: str = COMP):
    """Normal with min 2000, so that a single page passes where 2001 are free, and these blocks."""
    lists = free_list("Normal", *blocks)
    return failure(release, order, mode, zone("Normal", free, (2000, 2500, 3000)), reserve(0, 0, 0, 0), lists)


def test_above_order_0_a_block_is_needed_as_well():
    answer = below(4, (1601, "U"), (200, "U"))
    assert answer.verdict == "below-mark"
    # 2001 - 15 <= 2000: short by 15, what the order itself takes.
    assert "15 pages more free in Normal and a block of order 4 would have let it pass" in answer.advice.sentence
    assert answer.advice.cause == "fragmentation"
    assert answer.advice.first[0].startswith("smaller requests")
    gone = below(4, (1600, "U"), (200, "U"), free=2000)  # not even a single page
    assert "16 pages more free in Normal and a block of order 4" in gone.advice.sentence
    assert gone.advice.cause == "gone"


def test_where_a_block_is_there_pages_alone_are_asked():
    answer = below(4, (401, "U"), (0, ""), (0, ""), (0, ""), (100, "U"))
    assert "15 pages more free in Normal would have let it pass" in answer.advice.sentence
    assert answer.advice.cause == "gone"


def test_single_pages_do_not_pass_the_order_loop():
    # 4.3, order 2: f = 2001 - 3, short by 3. After order 0 f = 197 <= 1000, after order 1 197 <= 500: 804 are missing.
    answer = below(2, (1801, "UE"), (0, ""), (50, "U"), release="4.3.1", mode="0xd0")
    assert "804 pages more in Normal in blocks of order 2 would have let it pass" in answer.advice.sentence
    # Without pages of order 0 the loop lets it go on with the blocks that are there.
    answer = below(2, (1, "U"), (0, ""), (500, "U"), release="4.3.1", mode="0xd0")
    assert "3 pages more free in Normal would have let it pass" in answer.advice.sentence


def boosted(blocks: tuple[tuple[int, str], ...], order: int):
    line = zone("Normal", 1500, (2500, 2750, 3000), boost=1500)
    return failure("6.1.1", order, COMP, line, reserve(0, 0, 0, 0), free_list("Normal", *blocks))


def test_a_boost_is_blamed_only_where_a_block_is_there():
    free = boosted(((200, "U"), (650, "U")), 1)
    assert free.advice.cause == "boost"
    assert "passes without its boost of 1500 pages" in free.advice.first[0]
    lacking = boosted(((200, "U"), (650, "U")), 4)
    assert lacking.advice.cause != "boost"
    assert not any("boost" in said for said in lacking.advice.first)


def test_a_boost_is_no_cause_where_memory_is_nearly_all_used():
    """Without its boost of 1500 min is 1000, low 1250, high 1500 [__zone_watermark_ok; wmark_pages, 5.0 and later]:
    1200 pages pass min alone, after reclaim that found nothing more [should_reclaim_retry]."""
    marks = (2500, 2750, 3000)
    used = [zone("Normal", 1200, marks, boost=1500), reserve(0, 0, 0, 0)]
    for answer in (oom("6.1.1", 0, KERNEL, *used), failure("6.1.1", 0, "0x10cc0(GFP_KERNEL|__GFP_NORETRY)", *used)):
        assert answer.advice.cause == "gone"
        assert not answer.advice.first[0].startswith("vm.watermark_boost_factor")
        assert answer.advice.first[-1].startswith("vm.watermark_boost_factor=0 puts it off by a few pages: Normal")
    # The last try asks high: 1501 pass it without the boost, 1500 do not.
    kills = [oom("6.1.1", 0, KERNEL, zone("Normal", free, marks, boost=1500), reserve(0, 0)) for free in (1500, 1501)]
    assert [answer.advice.cause for answer in kills] == ["gone", "boost"]
    # Who may not wait has its mark alone: half of 1000 with __GFP_HIGH, 500.
    atomic = zone("Normal", 700, marks, boost=1500), reserve(0, 0)
    assert failure("6.1.1", 1, "0x40820(__GFP_HIGH|__GFP_KSWAPD_RECLAIM|__GFP_COMP)", *atomic).advice.cause == "boost"
    # A page fault calls the killer without a try at any mark [pagefault_out_of_memory].
    fault = oom("5.10.1", 0, "0x0()", zone("Normal", 1200, (2500, 2750, 3000)), reserve(0, 0)).advice
    assert fault.cause == "gone"
    assert not any("boost" in said for said in fault.first)


def test_the_allocator_before_it_has_pages():
    answer = failure("6.3.1", 0, "0x100(__GFP_ZERO)", zone("Normal", 0, (0, 0, 0)), reserve(0, 0, 0))
    assert (answer.verdict, answer.advice.cause) == ("below-mark", "boot")
    assert "memblock" in answer.advice.first[0]
    drained = failure("6.3.1", 0, "0x100(__GFP_ZERO)", zone("Normal", 0, (10, 12, 15)), reserve(0, 0, 0))
    assert drained.advice.cause == "reserve"


def test_no_figure_follows_from_marks_above_all_memory():
    least = 24_848_885_473_806
    for known in ("", "managed:193600kB mlocked:0kB free_cma:0kB"):  # with its size cut off, and with it
        line = f"Normal free:193448kB min:{least * 4}kB low:{least * 5}kB high:{least * 6}kB {known}\n"
        answer = failure("5.7.0", 0, "0x800(GFP_NOWAIT)", line)
        assert answer.advice.cause == "marks"
        said = [answer.advice.sentence, *answer.advice.first]
        assert not any("min_free_kbytes from" in each or "pages more" in each for each in said)
    high_but_whole = failure("5.7.0", 0, "0x800(GFP_NOWAIT)", zone("Normal", 400, (500, 625, 750), managed=600))
    assert high_but_whole.advice.cause == "reserve"


def test_a_zone_is_named_with_its_node_where_there_are_several():
    lines = [zone("Normal", 900 + 10 * node, (1000, 1250, 1500), node=node) + reserve(0, 0, 0) for node in (0, 1)]
    assert "node 1 Normal came nearest" in failure("5.15.60", 0, "0x800(GFP_NOWAIT)", *lines).advice.sentence
    assert ": Normal came nearest" in failure("5.15.60", 0, "0x800(GFP_NOWAIT)", lines[0]).advice.sentence


def test_a_zone_whose_reserve_is_lost_is_not_said_to_pass():
    """A zone is checked with the reserve of its own line [__zone_watermark_ok: lowmem_reserve]: 1009 pages pass min,
    15, and what DMA keeps from Normal is cut off."""
    dma, normal = zone("DMA", 1009, (15, 18, 22)), zone("Normal", 990, (1000, 1250, 1500))
    answer = failure("5.10.1", 0, KERNEL, dma, normal, reserve(0, 0, 0))
    assert (answer.verdict, [one.verdict for one in answer.decision.zones]) == ("below-mark", ["unknown", "below-mark"])
    assert "Normal came nearest" in answer.advice.sentence
    assert any("without it the zone passes, with it it may not" in said for said in answer.missing)
    passing = zone("Normal", 1001, (1000, 1250, 1500))
    assert failure("5.10.1", 0, KERNEL, dma, passing, reserve(0, 0, 0)).verdict == "passes-now"


def test_no_compaction_is_advised_before_there_is_one():
    """[mm/compaction.c came with 2.6.35, proactive compaction with 5.9; Red Hat's 2.6.32 has the first]"""
    lines = zone("Normal", 5000, (500, 625, 750)), reserve(0, 0), free_list("Normal", (5000, ""))
    kernels = ("2.6.32.27", "2.6.32-431.el6.x86_64", "3.2.1", "5.10.1")
    first = [failure(kernel, 1, "0x20", *lines).advice.first[0] for kernel in kernels]
    assert first[0].startswith("smaller requests")
    assert first[1] == first[2] == "compaction ahead of need: echo 1 > /proc/sys/vm/compact_memory"
    assert "vm.compaction_proactiveness" in first[3]
