"""The lanes shown, instant by instant: what the slider of the page reads."""

from typing import Any

from fastalloc.report.charts import COLOURS
from fastalloc.report.selection import Lane
from fastalloc.report.zones import FREE, kernel_zone, zone_mark, zone_names

FULL = 5  # times the high mark, where the bar of a marked zone is full


def series_columns(lane: Lane) -> dict[str, list[float]]:
    """The series of a lane by column, as its charts and the slider read it."""
    return {name: lane.series[name].to_list() for name in lane.series.columns if name not in ("id", "variant", "lane")}


def instant_groups(lanes: list[Lane]) -> list[dict[str, Any]]:
    """Groups of bars: ``title``, and rows of ``label``, ``column``, ``colour``, and ``marks`` by lane."""
    zones = []
    for zone in reversed(zone_names(lanes[0].row)):
        column = next(name for name, known in FREE.items() if known == zone)
        marked = zone == kernel_zone(lanes[0].row)
        marks = [[zone_mark(lane.row, zone, name) for name in ("min", "low", "high")] for lane in lanes]
        full = FULL * max(max(each) for each in marks)
        zones.append(_row(zone, column, column) | ({"marks": marks, "full": full} if marked else {}))
    return [
        {"title": f"Free pages (lines: min, low, high; full at {FULL} times high)", "root": True, "rows": zones},
        {
            "title": "Who holds what",
            "root": True,
            "rows": [
                _row("pages under writeback", "writeback", "writeback"),
                _row("bios outstanding", "bios", "writeback"),
                _row("free slots in the slabs that hold bios", "bio_free_slots", "calm"),
                _row("bios left in the mempool", "bio_pool", "calm"),
                _row("commands left on the free_list", "free_list", "calm"),
                _row("commands in flight", "commands", "commands"),
            ],
        },
        {
            "title": "Who waits for what",
            "root": False,
            "rows": [
                _row("for a bio", "bio_waiters", "bio_waiters"),
                _row("for a request", "request_waiters", "request_waiters"),
                _row("napping in reclaim", "congestion_waiters", "congestion_waiters"),
                _row("for a directory", "i_mutex_waiters", "i_mutex_waiters"),
                _row("running", "running", "running"),
            ],
        },
    ]


def _row(label: str, column: str, colour: str) -> dict[str, Any]:
    return {"label": label, "column": column, "colour": COLOURS[colour]}
