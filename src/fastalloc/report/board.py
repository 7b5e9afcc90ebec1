"""The board: a row a policy, each measured against the first on the same lanes."""

from typing import Any, NamedTuple

import polars as pl

from fastalloc.report.statistics import paired_interval, wilson_interval
from fastalloc.store import Dataset

# Means of a lane; a metric that the dataset does not have makes no column.
MEANS = ("sense_fail", "reports", "max_slab_pages", "slab_waste_kb", "unfair_refusals", "probes")
RATES = {"slow_per_1000": "slab_slow", "locks_per_1000": "slab_locks"}  # of objects taken and given
RESERVES = ("policy.emergency_pages", "policy.spare_pages")  # held for a shortage alone


# Depths that a bio cannot buy at in 2.6.25: its first try stops at 3/4 of min.
BELOW_BIOS = ("1/2 min", "3/8 min", "short-lived", "no watermark")


class Row(NamedTuple):
    """A policy on the board. Probabilities are of a livelock longer than 5 s; intervals are 95 %."""

    policy: str
    lanes: int
    livelocked: int
    interval: tuple[float, float]  # Wilson
    difference: float  # of the probability, to the baseline, over lanes that both finished
    difference_interval: tuple[float, float]  # paired
    longest_stall_s: float
    broken_by: int | None  # id of the lane with the longest livelock; None: every lane made progress
    throughput: float | None  # pages swapped out against the baseline, median of the pairs of lanes
    throughput_quartiles: tuple[float, float] | None
    links: list[int]  # of the causal chain, that the policy breaks
    means: dict[str, float]


def board(dataset: Dataset) -> list[Row]:
    """A row for each variant with a finished lane, in the order they were run; the first is the baseline."""
    runs = dataset.runs.collect()
    ledger = dataset.ledger.collect()
    names = [variant["name"] for variant in dataset.manifest["variants"]]
    names = [name for name in names if not runs.filter(variant=name).is_empty()]
    baseline = runs.filter(variant=names[0])
    bought = ledger.filter(variant=names[0])
    return [_row(name, runs.filter(variant=name), baseline, ledger.filter(variant=name), bought) for name in names]


def board_rows(found: list[Row]) -> list[dict[str, Any]]:
    """The board as plain data for JSON."""
    return [row._asdict() for row in found]


def pareto_front(points: list[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other is at least as low as in both coordinates and lower in one."""
    return [i for i, (x, y) in enumerate(points) if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)]


def broken_links(
    rows: pl.DataFrame, baseline: pl.DataFrame, ledger: pl.DataFrame, baseline_ledger: pl.DataFrame
) -> list[int]:
    """Links of the chain that leads to the livelock which the lanes show to be broken.

    2: bios took no slot of a slab bought deeper than they may buy one, although they did in the baseline.
    5: no sense allocation failed, although some did in the baseline.
    6: the free_list served more than failed command allocations explain: commands started without new sense buffers.
    """
    links = []
    robbed = pl.col("taker").eq("bio") & pl.col("depth").is_in(BELOW_BIOS)
    if ledger.filter(robbed).is_empty() and not baseline_ledger.filter(robbed).is_empty():
        links.append(2)
    if rows["sense_fail"].sum() == 0 and baseline["sense_fail"].sum() > 0:
        links.append(5)
    if rows["free_list_used"].sum() > rows["cmd_fail"].sum():
        links.append(6)
    return links


def _row(name: str, rows: pl.DataFrame, baseline: pl.DataFrame, ledger: pl.DataFrame, bought: pl.DataFrame) -> Row:
    columns = ["lane", "livelock_5s", "pages_swapped_out"]
    pairs = baseline.select(columns).join(rows.select(columns), on="lane")
    ours, theirs = pairs["livelock_5s_right"], pairs["livelock_5s"]
    only_ours, only_theirs = int((ours > theirs).sum()), int((theirs > ours).sum())
    moved = pairs.filter(pl.col("pages_swapped_out") > 0)
    ratio = moved["pages_swapped_out_right"] / moved["pages_swapped_out"]
    quartiles = [ratio.quantile(q, "linear") for q in (0.25, 0.5, 0.75)]
    livelocked = int(rows["livelock_5s"].sum())
    worst = rows.sort("livelock_ms", descending=True).row(0, named=True)
    low, median, high = quartiles
    longest: Any = rows["stall_ms"].max()
    return Row(
        policy=name,
        lanes=len(rows),
        livelocked=livelocked,
        interval=wilson_interval(livelocked, len(rows)),
        difference=(only_ours - only_theirs) / len(pairs) if len(pairs) else 0.0,
        difference_interval=paired_interval(only_ours, only_theirs, len(pairs)),
        longest_stall_s=longest / 1000,
        broken_by=worst["id"] if livelocked else None,
        throughput=median,
        throughput_quartiles=(low, high) if low is not None and high is not None else None,
        links=broken_links(rows, baseline, ledger, bought),
        means=_means(rows),
    )


def _means(rows: pl.DataFrame) -> dict[str, float]:
    means = {key: float(rows[key].sum()) / len(rows) for key in MEANS if key in rows.columns}
    if {"slab_fast", *RATES.values()} <= set(rows.columns):
        objects = float(rows["slab_fast"].sum()) + float(rows["slab_slow"].sum())
        means |= {key: 1000 * float(rows[source].sum()) / max(1.0, objects) for key, source in RATES.items()}
    reserves = [key for key in RESERVES if key in rows.columns]
    if reserves:
        means["reserve_pages"] = float(rows.select(pl.sum_horizontal(*reserves)).to_series().sum()) / len(rows)
    return means
