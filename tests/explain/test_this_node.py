"""__GFP_THISNODE leaves one node [include/linux/gfp.h: gfp_zonelist], which SLUB's line names."""

import pytest

import fastalloc

MARKS = "min:8000kB low:10000kB high:12000kB present:1000004kB managed:980004kB\nlowmem_reserve[]: 0 0 0 0\n"
TEXT = (
    "k: page allocation failure: order:0, mode:0x10c4020(GFP_ATOMIC|__GFP_COMP|__GFP_THISNODE), nodemask=(null)\n"
    "CPU: 40 PID: 10 Comm: k Not tainted 4.12.5 #1\nMem-Info:\n"
    f"Node 0 Normal free:7000000kB {MARKS}Node 1 Normal free:2000kB {MARKS}"
)
SLUB = "SLUB: Unable to allocate memory on {0}, gfp=0x10c0020(GFP_ATOMIC|__GFP_THISNODE)\n"


@pytest.mark.parametrize("where", ["node 1", "CPU 40 (of node 1) on node -1"])
def test_the_node_of_slubs_line_is_the_only_one(where):
    (answer,) = fastalloc.explain(TEXT + SLUB.format(where))
    # 2000 -> 1000 -> 750; 500 must be above it. Node 0 has 1750000 and is not asked.
    assert [(zone.node, zone.allowed, zone.short_by) for zone in answer.decision.zones] == [
        (0, False, None),
        (1, True, 251),
    ]
    assert answer.verdict == "below-mark"
    assert not any("THISNODE" in said for said in answer.missing)


@pytest.mark.parametrize("where", ["", "node -1", "node 2"])
def test_a_node_that_is_not_named_or_not_printed_is_said_to_be_unknown(where):
    (answer,) = fastalloc.explain(TEXT + (SLUB.format(where) if where else ""))
    assert [zone.allowed for zone in answer.decision.zones] == [True, True]
    assert any("node 0 passes and node 1 does not, so whether the shortage was over" in said for said in answer.missing)
    assert "the report does not say which: node 0 Normal passes by 1749250 pages, node 1 does not" in (
        answer.advice.sentence
    )
    assert answer.advice.cause == "unknown"


def test_without_the_flag_any_node_serves():
    (answer,) = fastalloc.explain(
        (TEXT + SLUB.format("node 1")).replace("0x10c", "0x108").replace("|__GFP_THISNODE", "")
    )
    assert answer.verdict == "passes-now"
    assert not any("THISNODE" in said for said in answer.missing)
