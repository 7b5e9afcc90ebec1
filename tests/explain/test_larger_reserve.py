"""What is said of a larger reserve, and of a boost that the report does not print."""

import pytest

from tests.explain.small import failure, reserve, zone

ATOMIC = "0xa20(GFP_ATOMIC)"


def one_zone(release: str, free: int, marks: tuple[int, int, int], mode: str = ATOMIC):
    return failure(release, 0, mode, zone("Normal", free, marks, managed=30_000), reserve(0, 0, 0))


def test_a_burst_below_the_mark_has_its_figure():
    # Mark 3/8 of 1000 = 375; from low, 1250, to 370 the burst took 881. 881 / (1.25 - 0.375) = 1007.
    first = one_zone("5.4.1", 370, (1000, 1250, 1500)).advice.first
    assert first[0].startswith("vm.min_free_kbytes from 4000 to about 4028: the way from low (1250)")


def test_an_unprinted_boost_shows_in_the_marks_and_is_what_refused():
    # low - min = 86 is a quarter of min without boost: 1368 - 344 = 1024. Its mark would be 129, and 453 pass.
    answer = one_zone("5.8.1", 453, (1368, 1454, 1540))
    assert answer.advice.cause == "boost"
    assert "boost of about 1024 pages" in answer.advice.first[0]
    assert not any("min_free_kbytes" in said for said in answer.advice.first)
    assert answer.decision.zones[0].short_by == 61  # the mark as printed: 684, 513


@pytest.mark.parametrize(
    ("release", "free", "marks"),
    [
        ("4.19.1", 453, (1368, 1454, 1540)),  # no boost in 4.19
        ("5.8.1", 453, (1368, 1710, 2052)),  # a quarter of min: no boost
        ("5.8.1", 120, (1368, 1454, 1540)),  # short without it as well: 120 <= 129
    ],
)
def test_no_boost_is_blamed_that_is_not_there_or_did_not_refuse(release, free, marks):
    answer = one_zone(release, free, marks)
    assert answer.advice.cause == "reserve"
    assert not any("boost" in said for said in answer.advice.first)


def test_a_boost_that_the_kernel_itself_left_out_did_not_refuse():
    """From 5.9 an order-0 GFP_ATOMIC is tried again without it [get_page_from_freelist: zone_watermark_fast]: 453 pass
    the mark of 129 when the report is printed."""
    answer = one_zone("5.10.1", 453, (1368, 1454, 1540))
    assert (answer.verdict, answer.decision.zones[0].mark) == ("passes-now", 129)
    assert one_zone("5.10.1", 129, (1368, 1454, 1540)).verdict == "below-mark"


@pytest.mark.parametrize("least", range(1200, 1400, 7))
def test_no_smaller_reserve_is_advised(least):
    for said in one_zone("5.8.1", 100, (least, least + 86, least + 172)).advice.first:
        if "min_free_kbytes from" in said:
            now, there = (int(word) for word in said.split(":")[0].split() if word.isdigit())
            assert there > now


def test_a_drained_zone_gives_a_lower_bound():
    drained = one_zone("5.4.1", 0, (1000, 1250, 1500)).advice.first[0]
    assert "from 4000 to at least" in drained
    assert "at least 1251 deep" in drained
    # Without a mark nothing holds the burst up: no figure at all.
    without = one_zone("5.4.1", 0, (1000, 1250, 1500), "0x20cc0(GFP_KERNEL|__GFP_MEMALLOC)").advice
    assert without.first[0].startswith("vm.min_free_kbytes larger than 4000: Normal was drained from low (1250) to 0")


def test_where_a_report_hides_zones_the_reserve_is_a_factor():
    line = zone("DMA32", 370, (1000, 1250, 1500))
    shown = failure("5.15.1", 0, "0xa24(GFP_ATOMIC|GFP_DMA32)", line, reserve(0, 0, 0, 0)).advice.first[0]
    hidden = failure("6.2.1", 0, "0xa24(GFP_ATOMIC|GFP_DMA32)", line, reserve(0, 0, 0, 0)).advice.first[0]
    assert shown.startswith("vm.min_free_kbytes from 4000 to about 4028")
    assert hidden.startswith("vm.min_free_kbytes to about 1.01 times what it is")
