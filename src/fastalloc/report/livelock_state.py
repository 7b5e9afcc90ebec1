"""What the livelocked lanes look like from inside, five seconds after the onset."""

from typing import NamedTuple

import polars as pl

from fastalloc.report.zones import FREE
from fastalloc.store import Dataset

STATE = (
    ("commands in flight", pl.col("at_commands")),
    ("bios outstanding", pl.col("at_bios")),
    ("pages under writeback", pl.col("at_writeback")),
    ("slabs of the cache that holds bios", pl.col("at_bio_slabs")),
    ("free slots in them", pl.col("at_bio_free_slots")),
    ("slots in slabs that only an atomic caller could allocate", pl.col("at_deep_slots")),
    ("bios in the mempool", pl.col("at_bio_pool")),
    ("tasks waiting for a bio", pl.col("at_bio_waiters")),
    ("tasks waiting for a request", pl.col("at_request_waiters")),
    ("tasks running", pl.col("at_running")),
    *((f"free pages, {zone}", pl.col(f"at_{column}")) for column, zone in reversed(FREE.items())),
    ("sense failures a second", pl.col("at_sense_fail_5s") / 5),
)


class StateRow(NamedTuple):
    """One quantity over the livelocked lanes of a variant."""

    name: str
    median: float
    low: float
    high: float


def livelock_state(dataset: Dataset, variant: str) -> list[StateRow]:
    """The state of the livelocked lanes of a variant, 5 s into their first livelock; empty where none livelocked."""
    lanes = dataset.runs.filter((pl.col("variant") == variant) & (pl.col("at_ms") >= 0))
    columns = [
        value.alias(f"{name}:{statistic}")
        for name, column in STATE
        for statistic, value in (("median", column.median()), ("low", column.min()), ("high", column.max()))
    ]
    found = lanes.select(pl.len().alias("lanes"), *columns).collect().row(0, named=True)
    if found["lanes"] == 0:
        return []
    rows = [
        StateRow(name, *(found[f"{name}:{statistic}"] for statistic in ("median", "low", "high"))) for name, _ in STATE
    ]
    return [row for row in rows if row.high >= 0]  # -1: the machine has no zone of the name
