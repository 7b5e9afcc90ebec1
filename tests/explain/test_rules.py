"""The tables of rules: complete, without a gap or an overlap, each row with its source."""

import pytest

import fastalloc
from fastalloc.linux.gfp_masks import bits, candidates, combinations, decode, eras, from_names, names
from fastalloc.linux.mem_info import SIGNS
from fastalloc.linux.release import BASES, EVER, Release, base_name, parse_release
from fastalloc.linux.watermark_rules import ROWS, Rules, rows_of, rules_of
from tests.explain.small import free_list, oom, reserve, zone


@pytest.mark.parametrize("base", BASES, ids=base_name)
def test_every_version_has_one_rule_for_each_step(base):
    plain = [row for row in ROWS if row.stable is None and base in row.versions]
    assert sorted(row.step for row in plain) == sorted(Rules._fields)
    assert all(row.source.startswith("mm/page_alloc.c: ") for row in rows_of(Release("x", base)).values())


def test_stable_updates_bring_rules_to_older_versions():
    before, after = rules_of(parse_release("6.1.115")), rules_of(parse_release("6.1.116"))
    assert (before.harder, after.harder) == ("ATOMIC, no NOMEMALLOC", "NON_BLOCK")
    assert after.boost_retry == "ATOMIC"  # 6.1.y still tests the old flag there
    assert rules_of(parse_release("4.9.56")).letters == "any for HARDER"
    assert rules_of(parse_release("4.9.80")).letters == "H for HARDER"


@pytest.mark.parametrize("base", BASES, ids=base_name)
def test_masks_of_a_version_are_read_as_they_are_written(base):
    for name, value in combinations(base):
        mask, flags, lost = from_names(name, base)
        assert not lost
        read = decode(mask, base)
        assert read.flags == flags
        assert not read.unknown
        assert decode(value, base).unknown == 0
        assert name in decode(value, base).names or any(dict(combinations(base))[said] == value for said in read.names)
    for bit, flags in bits(base).items():
        assert bit.bit_count() == 1
        assert flags


def test_a_bit_with_several_names_says_so():
    assert decode(0x1000CC0, (6, 12, 0)).either == {
        0x1000000: ("__GFP_NO_OBJ_EXT", "__GFP_NOLOCKDEP", "__GFP_SKIP_ZERO")
    }
    assert decode(0x1100CCA, (5, 15, 0)).names == ("GFP_HIGHUSER_MOVABLE",)  # SKIP_KASAN_POISON on every kernel


@pytest.mark.parametrize(
    ("mask", "span"),
    [
        (0x20, "2.6.9 to 4.3"),
        (0x4020, "2.6.9 to 4.3"),
        (0x24200CA, "4.4 to 4.9"),
        (0x14200CA, "4.10 to 4.17"),
        (0x6000C0, "4.18 to 5.0"),
        (0xA20, "5.1 to 6.2"),
        (0x820, "6.3 and later"),
        (0x1100CCA, "5.14 to 5.17"),
    ],
)
def test_a_mask_without_a_version_has_its_candidates(mask, span):
    assert [str(one) for one in candidates(mask, EVER)] == [span]


def test_every_row_has_a_source():
    assert all(name.source for name in names())
    assert all(sign.source for sign in SIGNS)
    assert sum(base in era for era in eras() for base in BASES) == len(BASES)


@pytest.mark.parametrize(
    ("text", "line", "base", "stable"),
    [
        ("2.6.32-28-generic", "", (2, 6, 32), None),
        ("2.6.32.67", "", (2, 6, 32), 67),
        ("3.10.0-1160.45.1.el7.x86_64", "", (3, 10, 0), None),
        ("5.4.30", "", (5, 4, 0), 30),
        ("5.13.x", "", (5, 13, 0), None),
        ("4.6-master+", "", (4, 6, 0), None),
        ("6.1.0-18-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)", (6, 1, 0), 76),
        ("5.10.168-gki-gade08d90ed8c-dirty", "", (5, 10, 0), 168),
        ("6.19.0-rc5-00027-g40fd0acc45d0", "", (6, 19, 0), 0),
    ],
)
def test_releases_are_read(text, line, base, stable):
    release = parse_release(text, line)
    assert (release.base, release.stable) == (base, stable)


@pytest.mark.parametrize(
    ("text", "distribution", "commits"),
    [
        ("5.8.0-00013-g192f2fd7b678", False, 13),  # scripts/setlocalversion
        ("6.2.0-syzkaller-12017-g1ec35eadc3b4", False, 12017),
        ("6.17.0-rc2-00053-gb19a97d57c15", False, 0),  # after a release candidate: of its own version
        ("5.8.0-rc4-next-20200710", False, 0),
        ("4.4.141-14418-g1c98dd0c2d5e", False, 0),  # a vendor's tree on a stable update
        ("6.1.0-18-amd64", True, 0),
        ("5.15.0-10132-generic", True, 0),
    ],
)
def test_commits_after_a_version_are_no_distributions_number(text, distribution, commits):
    release = parse_release(text)
    assert (release.distribution, release.commits) == (distribution, commits)


@pytest.mark.parametrize("text", ["2.6", "x.y", "", "1.2.13", "2"])
def test_what_is_no_release_is_none(text):
    assert parse_release(text) is None


def test_the_names_beside_a_mask_tell_a_version_too():
    """GFP_NOWAIT is 0x800 from 5.1 and 0x2800 from 6.8 [include/linux/gfp_types.h], which %pGg goes by."""
    (older,) = fastalloc.explain("X: page allocation failure: order:0, mode:0x800(GFP_NOWAIT), nodemask=(null)\n")
    assert str(older.kernel.within) == "5.1 to 6.7"
    (newer,) = fastalloc.explain("X: page allocation failure: order:0, mode:0x2800(GFP_NOWAIT), nodemask=(null)\n")
    assert str(newer.kernel.within) == "6.8 and later"


def test_hardwall_had_another_bit_before_2_6_16():
    """2.6.14 and 2.6.15 have __GFP_NORECLAIM at 0x20000 and __GFP_HARDWALL at 0x40000, the bit of __GFP_THISNODE from
    2.6.19 [include/linux/gfp.h]; an OOM of 2.6.14 on x86-64, whose HighMem has no pages."""
    text = (
        "oom-killer: gfp_mask=0x480d2, order=0\nMem-info:\nDMA per-cpu:\n"
        "cpu 0 hot: low 2, high 6, batch 1 used:4\nHighMem per-cpu: empty\n"
        "Active:240481 inactive:1223 dirty:0 writeback:0 unstable:0 free:2273 slab:7287 mapped:240616 pagetables:1389\n"
        "DMA free:4088kB min:60kB low:72kB high:88kB active:8440kB inactive:0kB present:15996kB pages_scanned:8931 "
        "all_unreclaimable? yes\nlowmem_reserve[]: 0 1007 1007\n"
        "Normal free:5004kB min:4028kB low:5032kB high:6040kB active:953484kB inactive:4892kB present:1031872kB "
        "pages_scanned:66 all_unreclaimable? no\nlowmem_reserve[]: 0 0 0\n"
        "HighMem free:0kB min:128kB low:160kB high:192kB active:0kB inactive:0kB present:0kB pages_scanned:0 "
        "all_unreclaimable? no\nlowmem_reserve[]: 0 0 0\n"
        "DMA: 0*4kB 1*8kB 1*16kB 1*32kB 1*64kB 1*128kB 1*256kB 1*512kB 1*1024kB 1*2048kB 0*4096kB = 4088kB\n"
        "Normal: 123*4kB 44*8kB 8*16kB 2*32kB 0*64kB 1*128kB 1*256kB 1*512kB 1*1024kB 1*2048kB 0*4096kB = 5004kB\n"
        "HighMem: empty\n"
    )
    (answer,) = fastalloc.explain(text)
    assert (str(answer.kernel.within), answer.decision.caller.names) == ("2.6.14 to 2.6.15", "GFP_HIGHUSER|__GFP_ZERO")
    assert not any("THISNODE" in said or "HighMem" in said for said in answer.missing)
    dma, normal, highmem = answer.decision.zones
    assert (answer.verdict, answer.decision.class_zone, highmem.verdict) == ("below-mark", "Normal", "empty-zone")
    # Normal passes at min by 244; before the kill high is tried: DMA 22 + 1007, Normal 1510.
    assert [zone.last_try_high["short_by"] for zone in (dma, normal)] == [8, 260]


def test_the_last_try_before_a_kill_takes_no_cma_block():
    """[mm/page_alloc.c: __alloc_pages_may_oom, whose flags are ALLOC_WMARK_HIGH and ALLOC_CPUSET alone]"""
    line = zone("Normal", 8000, (1000, 1250, 1500), free_cma=3200) + reserve(0, 0)
    cma = oom("5.10.100", 2, "0x140cca", line, free_list("Normal", (2400, "U"), (1200, "M"), (800, "C")))
    (only,) = cma.decision.zones
    assert (cma.verdict, only.largest_usable_order, only.at[:4]) == ("fragmentation", 1, "high")
    assert "in the last try before a kill, which takes no CMA block" in cma.advice.sentence
    mixed = oom("5.10.100", 2, "0x140cca", line, free_list("Normal", (2400, "U"), (1200, "M"), (800, "MC")))
    assert mixed.verdict == "passes-now"
