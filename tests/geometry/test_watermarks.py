"""Watermarks: the worked tables, and the formulas of later kernels at their edges."""

import ast

import pytest

from fastalloc.kernels.alloc.state import AREA, MIGRATE, ZONE
from fastalloc.kernels.alloc.watermarks import zone_watermark, zone_watermark_ok
from fastalloc.linux import watermarks as wm
from tests.geometry.shared import rows
from tests.kernels.build import make_mem, zone


@pytest.mark.parametrize("row", rows("watermarks_one_zone"), ids=lambda row: row["ram_mb"])
def test_one_zone(row):
    want = {name: int(value) for name, value in row.items()}
    kbytes = wm.min_free_kbytes(4 * want["pages"])
    assert kbytes == want["min_free_kbytes"]
    (mark,) = wm.zone_watermarks(kbytes, [want["pages"]])
    assert (mark.min, mark.low, mark.high) == (want["min"], want["low"], want["high"])
    levels = [zone_watermark(mark.min, high, harder) for high, harder in ((1, 0), (0, 1), (1, 1))]
    assert levels == [want["half"], want["three_quarters"], want["three_eighths"]]
    assert wm.pcp_lists(want["pages"], 0, 1, (2, 6, 25)) == (want["pcp_batch"], want["pcp_high"])


@pytest.mark.parametrize("row", rows("watermarks_x86_64"), ids=lambda row: row["ram_mb"])
def test_x86_64_zones(row):
    present = [int(pages) for pages in row["present"].split("/")]
    kbytes = wm.min_free_kbytes(4 * sum(present))
    assert kbytes == int(row["min_free_kbytes"])
    marks = wm.zone_watermarks(kbytes, present)
    for mark, name in zip(marks, ("dma", "dma32", "normal"), strict=True):
        if row[name] != "-":
            assert f"{mark.min}/{mark.low}/{mark.high}" == row[name]
    reserve = wm.lowmem_reserve([*present, 0])
    assert reserve[0] == ast.literal_eval(row["reserve_dma"])
    assert reserve[1] == ast.literal_eval(row["reserve_dma32"])


@pytest.mark.parametrize("row", rows("zone_watermark_ok"), ids=str)
def test_zone_watermark_ok(row):
    mem = make_mem([zone(1024)])
    mem.zone[0, ZONE.free] = int(row["free"])
    mem.zone[0, ZONE.reserve[0]] = int(row["reserve"])
    mem.area[0, :, :, AREA.nr] = 0
    for order, count in enumerate(ast.literal_eval(row["nr_free"])):
        mem.area[0, MIGRATE.unmovable, order, AREA.nr] = count
    got = zone_watermark_ok(mem, 0, int(row["order"]), int(row["mark"]), 0, row["high"] == "1", row["harder"] == "1")
    assert ("ok" if got else "fail") == row["result"]


def test_min_free_kbytes_is_clamped():
    assert wm.min_free_kbytes(1) == 128
    assert wm.min_free_kbytes(1 << 40) == 65536
    assert wm.min_free_kbytes(1 << 40, "6.1") == 262144


def test_the_scale_factor_widens_the_gap_only_where_it_exceeds_a_quarter():
    small, large = (wm.zone_watermarks(1024, [100_000], "6.1", factor)[0] for factor in (6, 10))
    assert (small.min, small.low, small.high, small.promo) == (256, 320, 384, 448)
    assert (large.min, large.low, large.high, large.promo) == (256, 356, 456, 556)


def test_a_zone_outside_lowmem_has_a_small_mark_of_its_own():
    marks = wm.zone_watermarks(1024, [10_000, 0, 1 << 20], "6.12", lowmem=[True, False, False])
    assert [mark.min for mark in marks] == [256, 32, 128]


def test_lowmem_reserve_ratio_0_keeps_nothing():
    assert wm.lowmem_reserve([100, 2560, 0], [0, 1, 1], "6.1") == [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert wm.lowmem_reserve([100, 2560, 64], [256, 32, 1], "6.1") == [[0, 10, 10], [0, 0, 2], [0, 0, 0]]


def test_per_cpu_lists():
    assert wm.pcp_lists(8191, 0, 1, (2, 6, 25)) == (1, 0)
    assert wm.pcp_lists(8192, 0, 1, (2, 6, 25)) == (1, 6)
    assert wm.pcp_lists(262144, 4000, 4, (5, 13, 0)) == (63, 378)
    assert wm.pcp_lists(262144, 4000, 4, (5, 14, 0)) == (63, 1000)
    assert wm.zone_highsize(262144, 1000, 4, "6.1") == 252
    assert wm.zone_highsize(262144, 4000, 4, "6.1") == 1000
    assert wm.zone_highsize(262144, 4000, 4, "6.1", fraction=8) == 8192
    with pytest.raises(ValueError, match=r"2\.6\.25"):
        wm.zone_highsize(1, 1, 1, "2.6.25")


def test_khugepaged_asks_for_eleven_pageblocks_a_zone():
    assert wm.khugepaged_min_free_kbytes(2, 1 << 20) == 45056
    assert wm.khugepaged_min_free_kbytes(3, 1 << 22) == 67584


def test_an_unknown_era_is_refused():
    for call in (wm.min_free_kbytes, wm.zone_batchsize):
        with pytest.raises(ValueError, match=r"2\.4"):
            call(1, "2.4")
