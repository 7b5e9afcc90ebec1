"""Which lanes the report shows side by side, and their series."""

from typing import Any, NamedTuple

import polars as pl

from fastalloc.report.verdict import Verdict
from fastalloc.report.zones import FREE
from fastalloc.store import Dataset

MOST_POINTS = 600  # of a chart; longer series are drawn in bins

# how a bin of a long series is drawn: what matters in it
LOWEST = (*FREE, "bio_pool", "bio_free_slots", "free_list")
# read at one instant, so that they add up to the tasks there are
AT_ONCE = ("bio_waiters", "request_waiters", "congestion_waiters", "i_mutex_waiters", "running")
TOTALS = (
    "sense_fail",
    "free_list_used",
    "commands_total",
    "swapped_out",
    "pages_copied",
    "reports",
    "reports_suppressed",
)


class Lane(NamedTuple):
    """One lane to be shown. Times in seconds."""

    row: dict[str, Any]  # of ``runs/``
    series: pl.DataFrame  # ``time_s``, the gauges of SERIES, and of the totals their growth a second
    livelocks: list[tuple[float, float]]
    reports: pl.DataFrame  # time_s, suppressed
    livelocked: bool

    @property
    def label(self) -> str:
        return f"{self.row['variant']}, lane {self.row['lane']}"


def choose_lanes(dataset: Dataset, verdicts: list[Verdict]) -> list[Lane]:
    """The lane that livelocked longest and the lane of the same number in a variant that never did.

    Where nothing livelocked: the lane that stalled longest, and the same lane under the other. One lane where there is
    but one variant.
    """
    runs = dataset.runs.collect()
    worst = max(verdicts, key=lambda v: (v.livelocked_5s > 0, v.longest_livelock_s, v.longest_stall_s))
    first = (
        runs.filter(pl.col("variant") == worst.variant)
        .sort(["livelock_open", "livelock_ms", "stall_ms", "lane"], descending=[True, True, True, False])
        .row(0, named=True)
    )
    lanes = [first]
    for other in sorted(verdicts, key=lambda v: v.livelocked_5s):  # stable: in the order they were run
        same = runs.filter((pl.col("variant") == other.variant) & (pl.col("lane") == first["lane"]))
        if other.variant != worst.variant and not same.is_empty():
            lanes.append(same.row(0, named=True))
            break
    return [_lane(dataset, row) for row in lanes]


def livelock_spans(dataset: Dataset, lanes: int) -> pl.DataFrame:
    """All livelocks longer than 5 s of the first ``lanes`` lanes: variant, lane, begin_s, end_s.

    From the event log, and for lanes whose log was full from the metrics, which know the longest.
    """
    kinds = ("livelock_begin", "livelock_end")
    events = dataset.events.filter(pl.col("kind").is_in(kinds) & (pl.col("lane") < lanes)).collect()
    runs = dataset.runs.filter(pl.col("lane") < lanes).collect()
    rows = []
    for run in runs.iter_rows(named=True):
        of_lane = events.filter(pl.col("id") == run["id"]).sort("t_ns")
        spans = _spans(of_lane, run["sim_ms"] / 1000)
        if run["livelock_5s"] and not spans:
            begin = run["livelock_onset_ms"] / 1000
            spans = [(begin, begin + run["livelock_ms"] / 1000)]
        rows += [(run["variant"], run["lane"], begin, end) for begin, end in spans]
    return pl.DataFrame(rows, schema=["variant", "lane", "begin_s", "end_s"], orient="row")


def _spans(events: pl.DataFrame, end_s: float) -> list[tuple[float, float]]:
    spans: list[tuple[float, float]] = []
    begin: float | None = None
    for event in events.iter_rows(named=True):
        time_s = event["t_ns"] / 1e9
        if event["kind"] == "livelock_begin":
            begin = time_s
        elif event["kind"] == "livelock_end" and begin is not None:
            spans.append((begin, time_s))
            begin = None
    if begin is not None:
        spans.append((begin, end_s))
    return [span for span in spans if span[1] - span[0] > 5]


def _lane(dataset: Dataset, row: dict[str, Any]) -> Lane:
    events = dataset.events.filter(pl.col("id") == row["id"]).sort("t_ns").collect()
    reports = events.filter(pl.col("kind") == "report").select(
        time_s=pl.col("t_ns") / 1e9, suppressed=pl.col("c").clip(lower_bound=0)
    )
    livelocks = _spans(events, row["sim_ms"] / 1000)
    if row["livelock_5s"] and not livelocks:
        begin = row["livelock_onset_ms"] / 1000
        livelocks = [(begin, begin + row["livelock_ms"] / 1000)]
    series = _per_second(dataset.series.filter(pl.col("id") == row["id"]).sort("t_ms").collect())
    return Lane(row, series, livelocks, reports, bool(row["livelock_5s"]))


def _per_second(series: pl.DataFrame) -> pl.DataFrame:
    """Bins a long series and turns totals into growth a second."""
    width = -(-len(series) // MOST_POINTS)
    if width > 1:
        own = (*LOWEST, *TOTALS, *AT_ONCE, "t_ms", "id", "variant", "lane")
        gauges = [name for name in series.columns if name not in own]
        series = (
            series.with_row_index("bin")
            .group_by(pl.col("bin") // width, maintain_order=True)
            .agg(pl.col("t_ms", *TOTALS, *AT_ONCE).last(), pl.col(LOWEST).min(), pl.col(gauges).max())
        )
    seconds = pl.col("t_ms").diff() / 1000
    return series.with_columns(
        time_s=pl.col("t_ms") / 1000, **{name: (pl.col(name).diff() / seconds).fill_null(0).round(2) for name in TOTALS}
    )
