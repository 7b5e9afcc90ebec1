"""The HTML report: one file that needs no network."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import polars as pl
from altair.utils.schemapi import debug_mode

from fastalloc.report import chance_chart, charts
from fastalloc.report.board import Row, board, by_outcome, letter
from fastalloc.report.filled import filled
from fastalloc.report.instants import instant_groups, series_columns
from fastalloc.report.livelock_state import livelock_state
from fastalloc.report.pareto import pareto_charts
from fastalloc.report.selection import AT_ONCE, Lane, choose_lanes, livelock_spans
from fastalloc.report.slab_ledger import Ledger, slab_ledger
from fastalloc.report.terminal import count, megabytes
from fastalloc.report.verdict import Verdict, shows_60s, verdicts
from fastalloc.report.zones import FREE, kernel_zone, zone_mark, zone_names
from fastalloc.store import Dataset
from fastalloc.store.location import Location, location, write_file

STRIP_LANES = 48  # lanes drawn for a variant


class Figure(NamedTuple):
    """A row of the page: the same chart for each lane shown."""

    title: str
    note: str
    legend: list[tuple[str, str]]  # colour, words
    specs: list[dict[str, Any]]


class Strip(NamedTuple):
    """All lanes of one variant over time."""

    verdict: Verdict
    shown: int
    spec: dict[str, Any]


MOST_NAMED = 6  # variants that the headline tells one by one


def write_report(dataset: Dataset, path: str | Location | None = None, doubtful: Sequence[str] = ()) -> Location:
    """Writes the report of a dataset and returns its path, by default ``report.html`` in the dataset's folder.

    ``doubtful``: sentences on what it lacks, see ``store.doubts``.

    Raises:
        InputError: a shard is unreadable, or the file cannot be written.
    """
    path = location(path) if path else dataset.path / "report.html"
    write_file(path, render(dataset, doubtful).encode())
    return path


def render(dataset: Dataset, doubtful: Sequence[str] = ()) -> str:
    """The page as text; ``doubtful``: see ``store.doubts``."""
    found = verdicts(dataset)
    lanes = choose_lanes(dataset, found)
    curves = chance_chart.kept(dataset)
    with debug_mode(False):  # to check each specification against the schema takes longer than all the rest
        strips, figures = _strips(dataset, found), _figures(lanes)
        rows = board(dataset) if len(found) > 1 else []
        pareto = pareto_charts(rows)
        chances = [(chance_chart.title(each), chance_chart.legend(each), chance_chart.spec(each)) for each in curves]
    worst = next(v for v in found if v.variant == lanes[0].row["variant"])
    return filled(
        "page.html",
        manifest=dataset.manifest,
        doubtful=list(doubtful),
        scenario=dataset.manifest["scenario"],
        machine=[
            *_machine_words(dataset.manifest["scenario"]),
            *_rules_words(dataset.manifest["variants"]),
            *(("simplified", sentence) for sentence in dataset.manifest.get("simplified", [])),
        ],
        verdicts=found,
        headline=_headline(found),
        board=rows,
        outcomes=by_outcome(rows) if rows else [],
        letter=letter,
        work=_work,
        shows_days=any(row.machine_days.looked_at for row in rows),
        most_throughput=max([row.throughput or 0 for row in rows], default=0) or 1,
        most_named=MOST_NAMED,
        pareto=pareto,
        strips=strips,
        lanes=lanes,
        figures=figures,
        series=[series_columns(lane) for lane in lanes],
        groups=instant_groups(lanes),
        megabytes=megabytes,
        shows_60s=shows_60s(found),
        state=livelock_state(dataset, worst.variant),
        chances=chances,
        ledgers=_ledgers(dataset, lanes),
        worst=worst,
        colours=charts.COLOURS,
        dataset_path=dataset.path,
    )


def _headline(found: list[Verdict]) -> str:
    locked = [v for v in found if v.livelocked_5s]
    free = [v for v in found if not v.livelocked_5s]
    if not locked:
        return "No variant livelocked."
    if len(locked) > MOST_NAMED:
        return f"{len(locked)} of {len(found)} variants livelocked; {len(free)} kept going on every machine."
    if len(found) > MOST_NAMED:
        counts = _and([f"{v.variant} ({v.livelocked_5s} of {v.lanes} machines)" for v in locked])
        return f"{len(locked)} of {len(found)} variants livelocked: {counts}."
    words = ", ".join(f"{v.livelocked_5s} of {v.lanes} machines livelocked under {v.variant}" for v in locked)
    if free:
        words += f"; none under {_and([v.variant for v in free])}"
    return f"{words}."


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _work(row: Row) -> str:
    """What a policy adds to a thousand objects, in words."""
    amounts = [(row.means["extra_tests_per_1000"], "tests"), (row.means["extra_locks_per_1000"], "locks")]
    return ", ".join(f"{count(round(amount, 1))} {what}" for amount, what in amounts if round(amount, 1)) or "0"


def _rules_words(variants: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The kernel rules that ran, each with the variants under them."""
    by_rules: dict[str, list[str]] = {}
    for variant in variants:
        if variant.get("rules"):
            by_rules.setdefault(variant["rules"], []).append(variant["name"])
    return [("kernel rules", f"{rules}: {', '.join(names)}") for rules, names in by_rules.items()]


def _machine_words(scenario: dict[str, Any]) -> list[tuple[str, str]]:
    machine, disk, host = scenario["machine"], scenario["disk"], scenario["host"]
    workload, queue = scenario["workload"], scenario["queue"]
    zones = " + ".join(f"{zone['name']} {zone['present']:,}" for zone in machine["zones"])
    marks = machine["zones"][-1]
    watermarks = f"{marks['name']} min/low/high {marks['min']:,}/{marks['low']:,}/{marks['high']:,} pages"
    if "min_free_kbytes" in machine:
        watermarks += f" (min_free_kbytes {machine['min_free_kbytes']})"
    disk_words = f"{disk['iops']:,} commands/s, {disk['bytes_per_second'] / 1e6:,.0f} MB/s"
    host_words = f"queue depth {host['queue_depth']}, free_list {host['free_list']}"
    tasks = f"{workload['copiers']} tmpfs copiers, {workload['writers']} anonymous writers"
    return [
        ("machine", f"{_cpus(machine)}, HZ {machine['hz']}, {zones} pages"),
        ("watermarks", watermarks),
        ("swap device", f"{disk_words}, {host_words}, {queue['nr_requests']} requests"),
        ("load", f"{tasks}, swappiness {workload['swappiness']}"),
    ]


def _cpus(machine: dict[str, Any]) -> str:
    """How many, and whether a clean run of the real kernel is known for such CPUs."""
    if machine["cpus"] == 1:
        return "1 CPU"
    if machine.get("shared_core"):
        return f"{machine['cpus']} CPUs in turns on one core"
    return f"{machine['cpus']} CPUs that run at the same time (no run of a real kernel with such CPUs was recorded)"


def _strips(dataset: Dataset, found: list[Verdict]) -> list[Strip]:
    spans = livelock_spans(dataset, STRIP_LANES)
    strips = []
    for verdict in found:
        shown = min(verdict.lanes, STRIP_LANES)
        own = spans.filter(pl.col("variant") == verdict.variant)
        strips.append(Strip(verdict, shown, charts.every_lane(own, shown, verdict.sim_s)))
    return strips


def _ledgers(dataset: Dataset, lanes: list[Lane]) -> list[tuple[str, Ledger]]:
    return [(lane.row["variant"], slab_ledger(dataset, lane.row["variant"])) for lane in lanes]


def _figures(lanes: list[Lane]) -> list[Figure]:
    colours = charts.COLOURS

    def figure(
        draw: Callable[[Lane, float], dict[str, Any]],
        columns: tuple[str, ...],
        title: str,
        note: str,
        legend: dict[str, str],
    ) -> Figure:
        top = max(_top(lane, columns, stacked=draw is charts.waiting) for lane in lanes)
        named = [(colours[key], words) for key, words in legend.items()]
        return Figure(title, note, named, [draw(lane, top) for lane in lanes])

    free = tuple(f"free_{name.lower()}" for name in zone_names(lanes[0].row))
    return [
        figure(
            charts.free_pages,
            free,
            "Free pages",
            "Against the watermarks of the zone that serves these allocations; the scale is logarithmic but for zero. "
            "A lower zone stays at its lowmem reserve, which they may not touch.",
            {column: FREE[column] for column in reversed(free)} | {"mark": f"watermarks: {_marks(lanes)}"},
        ),
        figure(
            charts.writeback,
            ("writeback",),
            "Pages under writeback",
            "Each rides on a bio. A flat line is a queue that does not move.",
            {"writeback": "pages"},
        ),
        figure(
            charts.commands,
            ("commands",),
            "SCSI commands in flight",
            "With none in flight no completion will ever run the queue again: only the unplug timer is left.",
            {"commands": "commands"},
        ),
        figure(
            charts.waiting,
            AT_ONCE,
            "Who waits where",
            "Tasks as they were at each instant, one on the other. Hardly any green: kblockd tries, sleepers look "
            "again, nobody frees memory.",
            {
                "bio_waiters": "for a bio (mempool_alloc)",
                "request_waiters": "for a request (get_request_wait)",
                "congestion_waiters": "congestion_wait, throttle_vm_writeout",
                "i_mutex_waiters": "for a directory (mutex_lock)",
                "running": "running",
            },
        ),
        figure(
            charts.failures,
            ("sense_fail", "free_list_used"),
            "Sense failures a second",
            "kblockd tries again at each unplug timer; printk_ratelimit lets few of the reports through.",
            {"sense_fail": "failed", "free_list_used": "served by the free_list", "mark": "report printed"},
        ),
        figure(
            charts.commands_started,
            ("commands_total",),
            "SCSI commands started a second",
            "As fast as the device takes them, or not at all.",
            {"commands": "commands/s"},
        ),
    ]


def _marks(lanes: list[Lane]) -> str:
    """The watermarks that the chart of free pages draws, of each lane where they differ."""
    words = []
    for lane in lanes:
        zone = kernel_zone(lane.row)
        words.append(", ".join(f"{name} {zone_mark(lane.row, zone, name):,}" for name in ("min", "low", "high")))
    if len(set(words)) == 1:
        return words[0]
    return "; ".join(f"{lane.row['variant']} {text}" for lane, text in zip(lanes, words, strict=True))


def _top(lane: Lane, columns: tuple[str, ...], stacked: bool) -> float:
    """The highest value of any of the columns, or of their sum."""
    combine = pl.sum_horizontal(columns) if stacked else pl.max_horizontal(columns)
    top = lane.series.select(combine.max()).item()
    return max(1.0, float(top or 0))
