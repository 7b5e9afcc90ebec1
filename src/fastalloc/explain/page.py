"""The answers as one HTML page: a picture of every zone against its marks, no network needed."""

from pathlib import Path
from typing import NamedTuple

from fastalloc.explain.answer import CAUSES, KINDS, Answer, caller_line, headline, zone_rows
from fastalloc.explain.mem_info import ZoneInfo
from fastalloc.explain.watermark import Request as _Request
from fastalloc.explain.watermark import ZoneSum, usable_letters
from fastalloc.linux.watermark_rules import rows_of
from fastalloc.written import write_text

WIDTH = 640  # of a picture, in its own units
BAR, TOP = 22, 44  # height of the bar, room above it for the labels


class Part(NamedTuple):
    """A stretch of a bar."""

    x: float
    width: float
    kind: str  # usable, order, highatomic, cma, other
    pages: int


class Mark(NamedTuple):
    """A line across a bar. ``level``: the row of its label."""

    x: float
    pages: int
    label: str
    kind: str
    level: int
    anchor: str


class Order(NamedTuple):
    """The blocks of one order: how many, and whether the caller may take them."""

    order: int
    blocks: int
    letters: str
    usable: bool
    height: float
    asked: bool


class Picture(NamedTuple):
    """A zone: its free pages as a bar, its marks across it, its free lists below."""

    title: str
    verdict: str
    note: str
    parts: list[Part]
    marks: list[Mark]
    orders: list[Order]
    most: int


def write_page(path: Path, answers: list[Answer]) -> None:
    """Writes the page.

    Raises:
        InputError: the file cannot be written.
    """
    write_text(path, render(answers))


def render(answers: list[Answer]) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    shown = [
        {
            "answer": answer,
            "headline": headline(answer),
            "caller": caller_line(answer),
            "kind": KINDS[answer.report.kind],
            "cause": CAUSES.get(answer.advice.cause, answer.advice.cause),
            "rows": zone_rows(answer),
            "pictures": pictures(answer),
            "rules": rows_of(answer.decision.release) if answer.decision.zones else {},
        }
        for answer in answers
    ]
    return environment.get_template("page.html").render(reports=shown, width=WIDTH, bar=BAR, top=TOP)


def pictures(answer: Answer) -> list[Picture]:
    """A picture for each zone that has pages."""
    several = len({zone.node for zone in answer.decision.zones}) > 1
    drawn = []
    for zone in answer.decision.zones:
        info = answer.report.mem_info.find(zone.node, zone.zone) if answer.report.mem_info else None
        if info is not None and zone.min is not None and zone.verdict != "empty-zone":
            drawn.append(_picture(answer, zone, info, several))
    return drawn


def _picture(answer: Answer, zone: ZoneSum, info: ZoneInfo, several: bool) -> Picture:
    top = max(zone.free, zone.high or 0, zone.need_more_than or 0, 1) * 1.08
    scale = WIDTH / top
    parts, place = [], 0.0
    taken = [(kind, pages) for kind, pages in zone.unusable.items() if pages > 0]
    left = zone.free
    if not zone.allowed:
        parts.append(Part(0, left * scale, "other", left))
    else:
        usable = max(left - sum(pages for _, pages in taken), 0)
        for kind, pages in [("usable", usable), *taken]:
            shown = min(pages, left)
            if shown > 0:
                parts.append(Part(place, max(shown * scale, 1), kind, pages))
                place += shown * scale
                left -= shown
    lines = [(pages, name) for name in ("min", "low", "high") if (pages := getattr(zone, name))]
    marks = [(pages, name, "kernel") for pages, name in lines]
    if zone.need_more_than is not None:
        label = "needs more than" if not zone.lowmem_reserve else "mark + reserve"
        marks.append((zone.need_more_than, label, "asked"))
    return Picture(
        (f"Node {zone.node} " if several else "") + zone.zone,
        zone.verdict,
        _note(zone),
        parts,
        _placed(marks, scale),
        _orders(answer, info),
        max((count for count, _ in info.lists.blocks), default=0) if info.lists else 0,
    )


def _placed(marks: list[tuple[int, str, str]], scale: float) -> list[Mark]:
    placed: list[Mark] = []
    ends = [-1.0, -1.0, -1.0, -1.0]
    for pages, label, kind in sorted(marks):
        x = pages * scale
        text = 7 * len(f"{label} {pages}")
        anchor = "start" if x + text < WIDTH else "end"
        begin = x if anchor == "start" else x - text
        level = next((row for row, end in enumerate(ends) if begin > end), 3)
        ends[level] = begin + text + 4
        placed.append(Mark(x, pages, label, kind, level, anchor))
    return placed


def _note(zone: ZoneSum) -> str:
    if not zone.allowed:
        return "the mask may not use this zone"
    if zone.short_by:
        return f"short by {zone.short_by} pages"
    if zone.halving is not None:
        return f"the order loop refuses at order {zone.halving['order']}, short by {zone.halving['short_by']}"
    if zone.verdict == "fragmentation":
        return "no block of this order that the caller may take"
    if zone.at != "min" and zone.last_try_high:
        return f"short by {zone.last_try_high['short_by']} at high, the last try before a kill"
    return ""


def _orders(answer: Answer, info: ZoneInfo) -> list[Order]:
    if info.lists is None:
        return []
    decision, asked = answer.decision, answer.report.order or 0
    request = _Request(asked, decision.caller, decision.rules, decision.release, False)
    letters = usable_letters(request)[1]
    most = max((count << order for order, (count, _) in enumerate(info.lists.blocks)), default=0) or 1
    return [
        Order(
            order,
            count,
            kinds or "",
            bool(count) and order >= asked and (kinds is None or any(kind in letters for kind in kinds)),
            34 * (count << order) / most,
            order == asked,
        )
        for order, (count, kinds) in enumerate(info.lists.blocks)
    ]
