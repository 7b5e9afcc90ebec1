"""Public reports of kernels 2.6.10 to 3.10 as they were posted, each sum done by hand."""

from pathlib import Path

import pytest

import fastalloc

HERE = Path(__file__).parents[1] / "data" / "memory_reports" / "gathered"
# (zone, mark, usable, short by) and the verdict of the first report of each file, pages of 4 kB.
CASES = {
    # free 15 and 46 against min 15 and 47, no reserve.
    "2.6.10-host-only": ("below-mark", [("DMA", 15, 15, 1), ("Normal", 47, 46, 2)]),
    # DMA 518 <= 22 + 496; Normal 796 > 701 and <= high 1051, which the last try asks.
    "2.6.17-dma32-i386": ("below-mark", [("DMA", 22, 518, 1), ("Normal", 701, 796, 0)]),
    # min 16 -> 8 -> 6, 871 <= 6 + 865; min 932 -> 466 -> 350, 8273 passes, less 8122 of order 0: 151 <= 175.
    "2.6.29-32bit-wrapped": ("fragmentation", [("DMA", 6, 871, 1), ("Normal", 350, 8273, 0)]),
    # 1009 - 1 <= 15 + 994; 1458 - 1 > 1000 and <= high 1500.
    "2.6.31-padded": ("below-mark", [("DMA", 15, 1008, 2), ("DMA32", 1000, 1457, 0)]),
    # 3.0 takes off 2^4 + 1: 3970 - 17 <= 64 + 4010; the order loop refuses the others.
    "3.0-split-columns": (
        "fragmentation",
        [("DMA", 64, 3953, 122), ("DMA32", 12592, 32743, 0), ("Normal", 4239, 5443, 0)],
    ),
    # 3.2 takes off 2^1 + 1: 1065 - 3 <= 196 + 867; 10947 - 3 <= 11028.
    "3.2-pae-prose": ("below-mark", [("DMA", 196, 1062, 2), ("Normal", 11028, 10944, 85)]),
    # min 2 -> 1 -> 1; 181 -> 91 -> 69; 16711 -> 8356 -> 6267.
    "3.10-head-last": (
        "passes-now",
        [("DMA", 1, 3975, 124382), ("DMA32", 69, 127182, 0), ("Normal", 6267, 64669, 0)],
    ),
    # min 834 -> 417 -> 313; 35948 - 35784 of CMA = 164.
    "3.10-cma-14-orders": ("below-mark", [("DMA", 313, 164, 150)]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_posted_report_is_summed_as_by_hand(name):
    answer = fastalloc.explain(HERE / f"{name}.txt")[0]
    verdict, zones = CASES[name]
    judged = [zone for zone in answer.decision.zones if zone.mark is not None]
    assert [(zone.zone, zone.mark, zone.available, zone.short_by) for zone in judged] == zones
    assert answer.verdict == verdict


def test_heads_without_a_block_after_one_without_a_head():
    answers = fastalloc.explain(HERE / "3.10-head-last.txt")
    assert [(one.report.order, one.verdict) for one in answers] == [
        (1, "passes-now"),
        (1, "no-mem-info"),
        (1, "no-mem-info"),
    ]
    assert {one.report.release.name for one in answers} == {"3.10"}
