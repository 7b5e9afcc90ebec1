"""What a sweep says: livelocks at each point with intervals, and variants against each other lane by lane."""

from typing import Any

import polars as pl

from fastalloc.report.statistics import told_difference, told_share, with_reason
from fastalloc.store import Dataset

OUTCOME = "livelock_5s"  # a livelock of more than 5 s


def is_sweep(dataset: Dataset) -> bool:
    """Whether a dataset was made by a sweep."""
    return dataset.manifest.get("kind") == "sweep"


def is_of_traces(dataset: Dataset) -> bool:
    """Whether a sweep replayed traces; otherwise it ran machines."""
    return bool(dataset.manifest["sweep"]["of"] == "traces")


def varying_axes(dataset: Dataset, points: pl.DataFrame) -> list[str]:
    """The axes that differ between the points, in the order of the sweep file."""
    return [axis for axis in dataset.manifest["sweep"]["axes"] if points[axis].n_unique() > 1]


def setting_named(axis: str, value: Any) -> str:
    """A setting of a point; none is that of the traced kernel, or a parameter of another file than the variant's."""
    if value is None:
        return "as traced" if axis.startswith("replay.") else "-"
    return str(value)


def longest(axes: list[str], points: pl.DataFrame) -> list[str]:
    """The two axes with the most values, in the order of ``axes``."""
    shown = sorted(axes, key=lambda axis: -points[axis].n_unique())[:2]
    return sorted(shown, key=axes.index)


def point_table(dataset: Dataset) -> pl.DataFrame:
    """A row a point that has a lane, in the order of the sweep.

    Columns: ``point``, ``variant``, every varied parameter, ``lanes``, ``livelocks``, ``share``, ``low``, ``high``
    (95 % Wilson interval of the share; null where it is of a single lane).
    """
    varied = dataset.manifest["sweep"]["varied"]
    found = (
        plain_runs(dataset)
        .group_by("point")
        .agg(
            pl.first("variant", *varied),
            pl.len().cast(pl.Int64).alias("lanes"),
            pl.sum(OUTCOME).alias("livelocks"),
        )
        .sort("point")
        .collect()
    )
    counts = found.select("livelocks", "lanes")
    intervals = [told_share(hits, lanes) or (None, None) for hits, lanes in counts.iter_rows()]
    return found.with_columns(
        (pl.col("livelocks") / pl.col("lanes")).alias("share"),
        pl.Series("low", [low for low, _ in intervals], pl.Float64),
        pl.Series("high", [high for _, high in intervals], pl.Float64),
    )


def paired_table(dataset: Dataset) -> pl.DataFrame:
    """Each variant against the first, over lanes that both ran: same settings, same lane, same random events.

    Columns: ``variant``, ``against``, every varied parameter, ``pairs``, ``only_against`` and ``only_variant`` (lanes
    that livelocked in one of the two), ``difference`` (share of ``against`` less that of ``variant``), ``low``,
    ``high`` (95 % Bonett-Price interval; null where it is of a single pair).
    """
    varied = dataset.manifest["sweep"]["varied"]
    names = [variant["name"] for variant in dataset.manifest["variants"]]
    rows = plain_runs(dataset).select("variant", "lane", *varied, OUTCOME)
    first = rows.filter(pl.col("variant") == names[0]).drop("variant")
    both = rows.filter(pl.col("variant") != names[0]).join(
        first, on=[*varied, "lane"], suffix="_first", nulls_equal=True
    )
    ours, theirs = pl.col(OUTCOME), pl.col(f"{OUTCOME}_first")
    found = (
        both.group_by("variant", *varied, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("pairs"),
            ((theirs == 1) & (ours == 0)).sum().cast(pl.Int64).alias("only_against"),
            ((theirs == 0) & (ours == 1)).sum().cast(pl.Int64).alias("only_variant"),
        )
        .sort("variant", *varied)
        .collect()
    )
    counts = found.select("only_against", "only_variant", "pairs")
    intervals = [told_difference(*row) or (None, None) for row in counts.iter_rows()]
    return found.with_columns(
        pl.lit(names[0]).alias("against"),
        ((pl.col("only_against") - pl.col("only_variant")) / pl.col("pairs")).alias("difference"),
        pl.Series("low", [low for low, _ in intervals], pl.Float64),
        pl.Series("high", [high for _, high in intervals], pl.Float64),
    ).select("variant", "against", *varied, "pairs", "only_against", "only_variant", "difference", "low", "high")


def plain_runs(dataset: Dataset) -> pl.LazyFrame:
    """The runs, with lists that differ between points as text."""
    varied = dataset.manifest["sweep"]["varied"]
    schema = dataset.runs.collect_schema()
    lists = [pl.col(name).cast(pl.List(pl.String)).list.join(",") for name in varied if schema[name] == pl.List]
    return dataset.runs.with_columns(lists)


def replay_table(dataset: Dataset) -> pl.DataFrame:
    """A row a point of a sweep over traces, in the order of the sweep.

    Columns: ``point``, ``variant``, every varied parameter, ``orders`` (lanes), then over these orders of operations
    the median of pages allocated, most at once and at the end, bytes wasted at the peak, the share of allocations that
    took the slow path, and how often a node's list was locked.
    """
    varied = dataset.manifest["sweep"]["varied"]
    allocations = pl.col("alloc_fast") + pl.col("alloc_slow")
    return (
        plain_runs(dataset)
        .group_by("point")
        .agg(
            pl.first("variant", *varied),
            pl.len().cast(pl.Int64).alias("orders"),
            pl.median("new_pages", "peak_pages", "end_pages", "peak_waste_bytes"),
            (pl.col("alloc_slow") / allocations).median().alias("slow_share"),
            pl.median("list_lock"),
        )
        .sort("point")
        .collect()
    )


def point_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """The table of points as plain data for JSON."""
    if is_of_traces(dataset):
        return replay_table(dataset).to_dicts()
    return [with_reason(row, row["lanes"]) for row in point_table(dataset).to_dicts()]
