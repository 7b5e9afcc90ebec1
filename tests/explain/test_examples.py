"""The worked examples, row by row: a zone, a mask, the version, and what the kernel's rule makes of them."""

import csv
import re
from pathlib import Path

import pytest

from fastalloc.explain.caller import caller_of
from fastalloc.explain.mem_info import MemInfo, ZoneInfo, read_list
from fastalloc.explain.reports import Report
from fastalloc.explain.version import Kernel
from fastalloc.explain.watermark import Request, ZoneSum, check_zone, lower_mark
from fastalloc.linux.gfp_masks import from_names
from fastalloc.linux.mem_info import ZONES
from fastalloc.linux.release import BASES, Release, Span, parse_release
from fastalloc.linux.watermark_rules import rules_of

TABLE = Path(__file__).parents[1] / "data" / "watermark_examples.csv"
ROWS = list(csv.DictReader(TABLE.read_text().splitlines()))


def releases(text: str) -> list[Release]:
    """The releases that a row names: single ones, spans, ``6.12.54+``."""
    found = []
    for part in re.split(r" and |, | (?=\d)", text.replace(" 32-bit", "")):
        part = part.strip()
        first, _, last = part.partition("-")
        if part.endswith("+"):
            release = parse_release(part.rstrip("+"))
            found += (
                [release, release._replace(stable=release.stable + 40)]
                if release.stable
                else [Release("x", base) for base in BASES if base >= release.base]
            )
            continue
        begin, end = parse_release(first), parse_release(last or first)
        if begin.base == end.base:
            found += [begin, end]
        else:
            found += [Release("x", base) for base in BASES if begin.base <= base <= end.base]
    return found


def lists_of(extra: str):
    blocks: dict[int, tuple[int, str]] = {}
    for count, size, letter in re.findall(r"(\d+)\*(\d+)kB(?: \((\w+)\))?", extra):
        blocks[(int(size) // 4).bit_length() - 1] = (int(count), letter)
    if not blocks:
        return None
    last = max(max(blocks), 10)
    items = [blocks.get(order, (0, "")) for order in range(last + 1)]
    letters = any(letter for _, letter in blocks.values())
    text = " ".join(
        f"{count}*{4 << order}kB" + (f" ({letter or 'M'})" if count and letters else "")
        for order, (count, letter) in enumerate(items)
    )
    return read_list(text + " = 1kB")


def judged(row: dict[str, str], release: Release) -> ZoneSum:
    order, extra = int(row["order"]), row["extra"]
    if "same lists" in extra:
        extra += ROWS[ROWS.index(row) - 1]["extra"]
    mode = row["mask"].split(" ")[0]
    if mode.startswith("0x"):
        mask = int(mode, 16)
        named = re.search(r"\((GFP_\w+)\)", row["mask"])
        if named:
            mask = from_names(named[1], release.base)[0]
    else:
        mask = from_names(mode.replace("by", ""), release.base)[0]
    report = Report("failure", 1, 0, 0, order=order, mode=mask)
    rules = rules_of(release)
    caller = caller_of(report, Kernel(release, True, Span(release.base, release.base), ""), rules, ZONES)
    pages = {"free": int(row["zone_free_pages"]), "min": int(row["mark_pages"])}
    for name, field in (
        ("free_cma", "free_cma"),
        ("boost", "boost"),
        (r"(?:nr_)?reserved_highatomic", "reserved_highatomic"),
    ):
        found = re.search(rf"\b{name}=(\d+)", extra)
        if found:
            pages[field] = int(found[1])
    info = ZoneInfo(0, "Normal", {name: value * 4 for name, value in pages.items()}, {}, True)
    info.lists = lists_of(extra)
    block = MemInfo([info])
    zone = ZoneSum(0, "Normal", pages["free"], True, min=pages["min"], boost=pages.get("boost", 0))
    zone.lowmem_reserve = int(row["reserve_pages"])
    if "ALLOC_OOM" in extra:  # a victim's flags replace the others: half of the mark
        assert rules.victim == "half"
        zone.min = zone.min - zone.min // 2
    check_zone(zone, info, block, Request(order, caller, rules, release, False))
    return zone


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_worked_example(row):
    said = releases(row["versions"])
    assert said
    for release in said:
        zone = judged(row, release)
        verdict, short = row["verdict"], row["short_by_pages"]
        if verdict.startswith("pass"):
            assert zone.verdict == "passes-now", release
            above = re.search(r"\((\d+) above\)", verdict)
            if above and zone.need_more_than is not None:
                assert zone.available - zone.need_more_than == int(above[1]), release
        elif verdict.startswith(("order loop", "free list", "check passes", "mark passes")):
            assert zone.verdict == "fragmentation", release
            assert not zone.short_by
            if short:
                assert zone.halving["short_by"] == int(short)
                after = re.search(r"subtracting order (\d+)", verdict)
                assert zone.halving["order"] == int(after[1]) + 1
            by = re.search(r"passes by (\d+)", verdict)
            if by:
                assert zone.available - zone.need_more_than == int(by[1])
        elif "retry" in verdict:
            above = re.search(r"\((\d+) above\)", verdict)
            assert zone.available - zone.need_more_than == int(above[1])
            first = lower_mark(zone.min, 0, _request(row, release))[0]
            assert first + 1 - zone.available == int(short)
        else:
            assert zone.verdict == "below-mark", release
            assert zone.short_by == int(short), release


def _request(row, release):
    rules = rules_of(release)
    report = Report("failure", 1, 0, 0, order=int(row["order"]), mode=int(row["mask"], 16))
    caller = caller_of(report, Kernel(release, True, Span(release.base, release.base), ""), rules, ZONES)
    return Request(int(row["order"]), caller, rules, release, False)
