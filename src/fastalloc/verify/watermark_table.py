"""Checks a table of zone marks read from running kernels (``watermarks.csv``): the rows after a sysctl write.

Rows of ``set_idx`` 0 show what the boot computed from page counts that the kernel no longer reports, so they are
not compared. Since 6.7 ``pcp_high`` tunes itself between two bounds at run time and is state, not a setting; the bounds
are settings (``pcp_high_min``, ``pcp_high_max``).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from fastalloc.foreign import csv_rows
from fastalloc.linux import watermarks as wm
from fastalloc.linux.versions import kernel_of
from fastalloc.verify.tables import TableResult, require

COLUMNS = ("min", "low", "high", "promo", "protection", "pcp_batch", "pcp_high", "pcp_high_min", "pcp_high_max")
_HIGHS = ("pcp_high", "pcp_high_min", "pcp_high_max")
_MACHINE = ("kernel", "boot", "set_idx")
_TOLD = ("zone", "node", "managed", "boost", "smp", "min_free_kbytes", "watermark_scale_factor", "lowmem_reserve_ratio")
_ZONES = ("DMA", "DMA32", "Normal", "Movable", "Device")


def kernels_of(table: pl.DataFrame) -> str:
    """The kernels whose rules a table's rows are held against: ``6.1, 6.12``."""
    found = {kernel_of(text).line("layout", "version").removeprefix("Linux ") for text in table["kernel"].unique()}
    return ", ".join(sorted(found))


def zone_rows(rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(expected, computed) columns of each row of one machine at one setting."""
    kernel = kernel_of(rows[0]["kernel"])
    era, rules = kernel.version, kernel.marks
    shares = [not (rules.movable_fixed and row["zone"] == "Movable") for row in rows]
    marks = wm.zone_watermarks(
        rows[0]["min_free_kbytes"], [row["managed"] for row in rows], era, rows[0]["watermark_scale_factor"], shares
    )
    nodes = {row["node"] for row in rows}
    cpus = max(1, int(rows[0]["smp"]) // len(nodes))
    ratios = [int(ratio) for ratio in rows[0]["lowmem_reserve_ratio"].split()]
    for i, row in enumerate(rows):
        sizes = [0] * len(_ZONES)
        for other in rows:
            if other["node"] == row["node"]:
                sizes[_ZONES.index(other["zone"])] = other["managed"]
        mark = marks[i]
        got: dict[str, Any] = {name: getattr(mark, name) + row["boost"] for name in ("min", "low", "high", "promo")}
        reserve = wm.lowmem_reserve(sizes, ratios, era)[_ZONES.index(row["zone"])]
        got["protection"] = " ".join(str(pages) for pages in reserve)
        got["pcp_batch"] = max(1, wm.zone_batchsize(row["managed"], era)) if row["managed"] else None
        if rules.pcp_high and row["managed"]:
            fraction = row["percpu_pagelist_high_fraction"]
            bounds = wm.pcp_high_bounds(row["managed"], mark.low, cpus, era, fraction)
            if rules.pcp_tunes:
                got["pcp_high_min"], got["pcp_high_max"] = bounds
            else:
                got["pcp_high"] = bounds[0]
        # 6.1 prints no promo mark, an empty zone no per-CPU lists; a high that tunes itself is state.
        shown = [name for name in COLUMNS if row.get(name) is not None and not (name in _HIGHS and name not in got)]
        yield {name: row[name] for name in shown}, got


def check_watermarks(path: Path) -> TableResult:
    """All rows of ``set_idx`` >= 1, columns ``COLUMNS``. Raises ValueError when the table cannot be read so."""
    try:
        frame = csv_rows(path, typed=True).with_row_index("row")
        require(path, frame, *_MACHINE, *_TOLD)
        result = TableResult(path.name, kernels=kernels_of(frame))
        machines: dict[tuple[Any, ...], list[dict[str, Any]]] = {}  # whatever the order of the rows
        for row in frame.filter(pl.col("set_idx").cast(pl.Int64) >= 1).iter_rows(named=True):
            machines.setdefault(tuple(row[name] for name in _MACHINE), []).append(row)
        for machine in machines.values():
            for row, (expected, got) in zip(machine, zone_rows(machine), strict=True):
                result.compare(row["row"], expected, got)
    except (KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    return result
