"""The board: a row a policy, each measured against the first on the same lanes."""

from typing import Any, NamedTuple

import polars as pl

from fastalloc.report.hazard import MachineDays, machine_days
from fastalloc.report.statistics import LEAST, told_difference, told_share, with_reason
from fastalloc.store import Dataset

# Means of a lane, by the metric; one that the dataset does not have makes no column. The mean of the lanes' peaks has a
# name of its own: max_slab_pages of a verdict is the largest of them.
MEANS = {
    "sense_fail": "sense_fail",
    "reports": "reports",
    "slab_peak_pages": "max_slab_pages",
    "slab_waste_kb": "slab_waste_kb",
    "unfair_refusals": "unfair_refusals",
    "probes": "probes",
}
# Of objects taken and given, a thousand.
RATES = {
    "slow_per_1000": "slab_slow",
    "locks_per_1000": "slab_locks",
    "extra_tests_per_1000": "policy_tests",
    "extra_locks_per_1000": "policy_locks",
}
KILOBYTES = {"reserve_idle_kb": "reserve_idle", "reserve_idle_end_kb": "reserve_idle_end"}  # of bytes
WEAKENED = 0.1  # of what the baseline shows of a link

# Depths that a bio cannot allocate at in 2.6.25: its first try stops at 3/4 of min.
BELOW_BIOS = ("1/2 min", "3/8 min", "short-lived", "no watermark")


class Row(NamedTuple):
    """A policy on the board. Probabilities are of a livelock longer than 5 s; intervals are 95 %."""

    policy: str
    title: str
    lanes: int
    livelocked: int
    interval: tuple[float, float] | None  # Wilson; None of a single lane
    difference: float  # of the probability, to the baseline, over lanes that both finished
    difference_interval: tuple[float, float] | None  # paired; None of a single pair
    sense_failing: int  # lanes with a sense failure
    longest_stall_s: float
    broken_by: int | None  # id of the lane with the longest livelock; None: every lane made progress
    throughput: float | None  # pages swapped out against the baseline, median of the pairs of lanes
    throughput_quartiles: tuple[float, float] | None
    links: list[int]  # of the causal chain, that no lane shows although the baseline does
    weakened: list[int]  # those of which the lanes show a tenth at most
    means: dict[str, float]
    machine_days: MachineDays  # to a livelock
    page_kb: int = 4


def board(dataset: Dataset) -> list[Row]:
    """A row for each variant with a finished lane, in the order they were run; the first is the baseline."""
    runs = dataset.runs.collect()
    ledger = dataset.ledger.collect()
    titles = {variant["name"]: variant["title"] for variant in dataset.manifest["variants"]}
    names = [name for name in titles if not runs.filter(variant=name).is_empty()]
    lanes = {name: (runs.filter(variant=name), ledger.filter(variant=name)) for name in names}
    return [_row(name, titles[name], *lanes[name], *lanes[names[0]]) for name in names]


def by_outcome(found: list[Row]) -> list[tuple[str, list[Row]]]:
    """The rows after the baseline under a heading each: never livelocked, less often, as often; by letter, then name.

    Less often: the 95 % interval of the paired difference lies below 0.
    """
    headings = ("Never livelocked", f"Less often than {found[0].policy}", f"No better than {found[0].policy}")
    groups: tuple[list[Row], ...] = ([], [], [])
    for row in sorted(found[1:], key=lambda row: (letter(row)[0], row.policy)):
        groups[0 if row.livelocked == 0 else 1 if (row.difference_interval or (0, 0))[1] < 0 else 2].append(row)
    return [(heading, rows) for heading, rows in zip(headings, groups, strict=True) if rows]


def letter(row: Row) -> tuple[str, str]:
    """The letter of a preset, as the guide has it, and the rest of its title; without one ``""`` and all of it."""
    first, colon, rest = row.title.partition(": ")
    return (first, rest) if colon and len(first) <= len("kernel") else ("", row.title)


def board_rows(found: list[Row]) -> list[dict[str, Any]]:
    """The board as plain data for JSON."""
    return [with_reason(row._asdict() | {"machine_days": row.machine_days._asdict()}, row.lanes) for row in found]


def pareto_front(points: list[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other is at least as low as in both coordinates and lower in one."""
    return [i for i, (x, y) in enumerate(points) if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)]


def no_front(points: list[tuple[float, float]], lanes: int) -> str:
    """Why there is no front among points whose policies ran on at least so many lanes; empty where there is one."""
    if lanes < LEAST:
        return "one lane a policy does not rank them"
    if len(set(points)) < 2:
        return "fewer than two of them go on" if len(points) < 2 else "all policies are equal in both"
    return ""


def chain_shown(runs: pl.DataFrame, ledger: pl.DataFrame) -> list[float]:
    """How much of each link of the chain that leads to the livelock the lanes show, links 1 to 6, a lane.

    1: GFP_ATOMIC requests of the background noise that were refused, so that free memory was below 3/8 of min.
    2: objects that bios took of slabs allocated deeper than a bio can allocate one.
    3: pages under writeback beyond one for each request that the queue admits: bios pile up inside requests.
    4: sleeps in a mempool that left no reclaimer awake.
    5: sense failures.
    6: attempts that got no command while none was in flight, so that no completion will ever run the queue.
    """
    taken = pl.col("taker").eq("bio") & pl.col("depth").is_in(BELOW_BIOS)
    piled = (runs["max_writeback"] - runs["queue.nr_requests"]).clip(lower_bound=0)
    sums: list[Any] = [
        runs["noise_failures"].sum(),
        ledger.filter(taken)["objects"].sum(),
        piled.sum(),
        runs["reclaimers_stuck"].sum(),
        runs["sense_fail"].sum(),
        runs["idle_refused"].sum(),
    ]
    return [total / len(runs) for total in sums]


def _row(
    name: str, title: str, rows: pl.DataFrame, ledger: pl.DataFrame, baseline: pl.DataFrame, allocated: pl.DataFrame
) -> Row:
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
    shown = list(enumerate(zip(chain_shown(rows, ledger), chain_shown(baseline, allocated), strict=True), 1))
    return Row(
        policy=name,
        title=title,
        lanes=len(rows),
        livelocked=livelocked,
        interval=told_share(livelocked, len(rows)),
        difference=(only_ours - only_theirs) / len(pairs) if len(pairs) else 0.0,
        difference_interval=told_difference(only_ours, only_theirs, len(pairs)),
        sense_failing=int((rows["sense_fail"] > 0).sum()),
        longest_stall_s=longest / 1000,
        broken_by=worst["id"] if livelocked else None,
        throughput=median,
        throughput_quartiles=(low, high) if low is not None and high is not None and len(moved) >= LEAST else None,
        links=[link for link, (own, base) in shown if own == 0 < base],
        weakened=[link for link, (own, base) in shown if 0 < own <= WEAKENED * base],
        means=_means(rows),
        machine_days=machine_days(rows),
        page_kb=int(worst.get("machine.page_kb") or 4),
    )


def _means(rows: pl.DataFrame) -> dict[str, float]:
    means = {key: float(rows[source].sum()) / len(rows) for key, source in MEANS.items() if source in rows.columns}
    if {"slab_fast", *RATES.values()} <= set(rows.columns):
        objects = float(rows["slab_fast"].sum()) + float(rows["slab_slow"].sum())
        means |= {key: 1000 * float(rows[source].sum()) / max(1.0, objects) for key, source in RATES.items()}
    return means | {
        key: float(rows[source].sum()) / 1024 / len(rows) for key, source in KILOBYTES.items() if source in rows.columns
    }
