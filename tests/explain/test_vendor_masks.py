"""Masks with flags that the kernel of that version does not have: vendors', and those of later code taken over.

Android common kernels have __GFP_CMA where CONFIG_CMA is set [include/linux/gfp.h of them], and give ALLOC_CMA to a
movable request with it alone [mm/page_alloc.c: current_alloc_flags of 5.10, gfp_to_alloc_flags_cma later].
"""

import pytest

import fastalloc
from fastalloc.linux.gfp_masks import made_by
from tests.explain.small import failure, free_list, reserve, zone

ANDROID = "5.10.107-android12-9-00001-g5d8a"
# 1300 pages, 1200 of them CMA; min 1100, of which GFP_ATOMIC may take 5/8.
LINES = (
    zone("Normal", 1300, (1100, 1375, 1650), free_cma=1200),
    reserve(0, 0, 0),
    free_list("Normal", (100, "U"), (600, "C")),
)


@pytest.mark.parametrize(
    ("mode", "flags", "unusable"),
    [
        ("0x1000a20(GFP_ATOMIC|__GFP_CMA)", {"__GFP_HIGH", "__GFP_ATOMIC", "__GFP_CMA"}, {"cma": 1200}),
        ("0x1100cca(GFP_HIGHUSER_MOVABLE|__GFP_CMA)", {"__GFP_MOVABLE", "__GFP_HIGHMEM", "__GFP_CMA"}, {}),
        ("0x8100cc8(GFP_USER|__GFP_MOVABLE|__GFP_CMA)", {"__GFP_MOVABLE", "__GFP_CMA"}, {}),
        ("0x100cca(GFP_HIGHUSER_MOVABLE)", {"__GFP_MOVABLE", "__GFP_HIGHMEM"}, {"cma": 1200}),
    ],
)
def test_cma_pages_go_to_movable_requests_with_the_flag(mode, flags, unusable):
    answer = failure(ANDROID, 0, mode, *LINES)
    caller, (normal,) = answer.decision.caller, answer.decision.zones
    assert flags <= set(caller.flags)
    assert caller.names == mode.split("(")[1].removesuffix(")")
    assert {kind: pages for kind, pages in normal.unusable.items() if pages} == unusable
    assert not any("have no name" in said or "by configuration" in said for said in answer.missing)


@pytest.mark.parametrize(
    ("release", "takes"),
    [("5.10.168-gki-gade08d90ed8c-dirty", False), ("6.6.30-android15-8-g1", False), ("5.4.147-qgki-g1", True)],
)
def test_androids_kernels_are_told_by_their_names(release, takes):
    """Before 5.10 who may take CMA pages is not told by the name."""
    assert failure(release, 0, "0x100cca(GFP_HIGHUSER_MOVABLE)", *LINES).decision.caller.cma_ok == takes


def test_other_kernels_give_cma_pages_to_all_movable_requests():
    """[mm/page_alloc.c: current_alloc_flags]"""
    assert failure("5.10.107", 0, "0x100cca(GFP_HIGHUSER_MOVABLE)", *LINES).decision.caller.cma_ok


def test_the_names_count_where_the_bits_are_those_of_another_flag():
    """In 5.15 0x1000000 is __GFP_SKIP_KASAN_POISON; Android's 5.15 has code of 5.18, which splits it in three."""
    names = "GFP_USER|__GFP_CMA|__GFP_SKIP_KASAN_UNPOISON"
    (answer,) = [failure("5.15.94-android13-8", 0, f"0xb100cc0({names})", *LINES)]
    assert {"__GFP_CMA", "__GFP_SKIP_KASAN_UNPOISON"} <= set(answer.decision.caller.flags)
    assert "__GFP_SKIP_KASAN_POISON" not in answer.decision.caller.flags
    assert any(said.startswith("5.15 has no __GFP_CMA, __GFP_SKIP_KASAN_UNPOISON") for said in answer.missing)


def test_a_name_that_a_cut_left_is_no_flag():
    answer = failure("5.10.107", 0, "0x1cc0(GFP_KERNEL|__GFP_WRI)", *LINES)
    assert "__GFP_WRITE" in answer.decision.caller.flags
    assert not any("vendor" in said for said in answer.missing)


def test_the_bit_of_a_vendor_does_not_tell_the_version():
    """0x1000000 beside GFP_ATOMIC of 5.1 to 6.2 is what the vendor's name stands for."""
    assert made_by("GFP_ATOMIC|__GFP_CMA", 0x1000A20, (5, 4, 0))
    assert not made_by("GFP_ATOMIC|__GFP_CMA", 0x1000A20, (6, 3, 0))
    assert not made_by("GFP_ATOMIC|__GFP_CMA", 0xA20, (5, 4, 0))
    assert not made_by("GFP_ATOMIC", 0x1000A20, (5, 4, 0))
    text = (
        "X: page allocation failure: order:0, mode:0x1000a20(GFP_ATOMIC|__GFP_CMA), nodemask=(null)\nMem-Info:\n"
        "active_anon:1 inactive_anon:2 isolated_anon:0\n" + "".join(LINES)
    )
    (answer,) = fastalloc.explain(text)
    assert answer.kernel.within.first < (5, 14, 0)
