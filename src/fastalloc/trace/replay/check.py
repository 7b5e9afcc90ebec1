"""A prediction held against what the traced kernel did: totals, cache by cache, and slab counts over time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from fastalloc.foreign import MOST_ORDER, csv_table, parquet_table
from fastalloc.trace.lanes.start import PERCPU_SHEAVES
from fastalloc.trace.replay.prediction import FIGURES, Prediction

_TRUTH = {"slab_allocs": "new", "peak_slabs": "peak", "end_slabs": "end"}
LIMITS = {"new": 0.01, "peak": 0.002, "end": 0.005}
EXACT_AT_PEAK = 0.98
# Under sheaves no event tells when a prefill began, or a free that found its sheaf full.
LIMITS_SHEAVES = {"new": 0.01, "peak": 0.003, "end": 0.005}
EXACT_AT_PEAK_SHEAVES = 0.95


@dataclass(frozen=True)
class Check:
    """``totals``: figure, real, in the order of the events, median, low, high (pages), error, within. ``caches``: a row
    a cache that allocated slabs, worst first. ``snapshots``: label, caches, exact, real and predicted pages."""

    totals: pl.DataFrame
    caches: pl.DataFrame
    snapshots: pl.DataFrame
    exact_at_peak: float
    ok: bool
    limits: dict[str, float]


def read_summary(path: Path) -> pl.DataFrame:
    """The truth table: a row a cache with slab_allocs, peak_slabs and end_slabs."""
    ranges = {"order": (0, MOST_ORDER), **dict.fromkeys(_TRUTH, (0, 1 << 40))}
    return csv_table(path, ranges, ("cache",), empty=0)


def _table(path: Path, numbers: tuple[str, ...], texts: tuple[str, ...]) -> pl.DataFrame:
    """The columns of a CSV or Parquet file; where one is empty, 0."""
    if path.suffix != ".parquet":
        return csv_table(path, dict.fromkeys(numbers, (-(1 << 62), 1 << 62)), texts, empty=0)
    kinds = dict.fromkeys(numbers, pa.int64()) | dict.fromkeys(texts, pa.large_string())
    return parquet_table(path, kinds).with_columns(pl.col(numbers).fill_null(0))


def read_snapshots(path: Path) -> pl.DataFrame:
    """Full snapshots of the kernel's slab counts: label, ts_ns, cache, slabs; CSV or Parquet."""
    table = _table(path, ("ts_begin", "slabs"), ("type", "label", "cache"))
    full = table.filter((pl.col("type") == "full") & ~pl.col("label").is_in(["pre", "start"]))
    return full.select("label", pl.col("ts_begin").alias("ts_ns"), "cache", pl.col("slabs").cast(pl.Int64))


def real_slabs(truth: Path | None, snapshots: Path, sample_ns: np.ndarray) -> pl.DataFrame:
    """Slabs of the traced kernel at ``sample_ns``: ts_ns, cache, slabs.

    ``truth``: a table of every slab made and destroyed (ts_ns, event, cache), counted from the snapshot before the
    trace; without it what each snapshot says, at its own time.
    """
    table = _table(snapshots, ("ts_begin", "si_num_slabs"), ("label", "cache"))
    if truth is None:
        return table.select(pl.col("ts_begin").alias("ts_ns"), "cache", slabs=pl.col("si_num_slabs").cast(pl.Int64))
    before = dict(table.filter(pl.col("label") == "pre").select("cache", "si_num_slabs").iter_rows())
    events = _table(truth, ("ts_ns",), ("event", "cache")).sort("ts_ns")
    parts = []
    for (name,), own in events.group_by("cache", maintain_order=True):
        step = np.where(own["event"].to_numpy() == "slab_new", 1, -1)
        slabs = np.concatenate([[0], np.cumsum(step)]) + int(before.get(name) or 0)
        at = np.searchsorted(own["ts_ns"].to_numpy(), sample_ns, side="right")
        parts.append(pl.DataFrame({"ts_ns": sample_ns, "cache": [name] * len(at), "slabs": slabs[at]}))
    return pl.concat(parts)


def check(prediction: Prediction, summary: pl.DataFrame, snapshots: pl.DataFrame | None) -> Check:
    """Hold ``prediction`` against ``summary``; totals are over the caches that allocated slabs."""
    sheaves = any(cache.era == PERCPU_SHEAVES for cache in prediction.result.config.caches)
    limits, least = (LIMITS_SHEAVES, EXACT_AT_PEAK_SHEAVES) if sheaves else (LIMITS, EXACT_AT_PEAK)
    real = summary.filter(pl.col("slab_allocs") > 0).select("cache", *_TRUTH)
    table = prediction.table()
    joined = real.join(table, on="cache", how="left").with_columns(pl.col("order").fill_null(0))
    for name in FIGURES:
        joined = joined.with_columns(pl.col(name).fill_null(0))
    weight = pl.lit(2, pl.Int64).pow(pl.col("order"))
    pages = prediction.pages(real["cache"].to_list())
    rows = []
    for truth, name in _TRUTH.items():
        figure = pages[:, FIGURES.index(name)]
        wanted = int(joined.select((pl.col(truth) * weight).sum()).item())
        middle = float(np.median(figure))
        error = middle / wanted - 1 if wanted else 0.0
        rows.append((name, wanted, int(figure[0]), middle, int(figure.min()), int(figure.max()), error))
    totals = pl.DataFrame(
        rows, schema=["figure", "real", "events_order", "median", "low", "high", "error"], orient="row"
    ).with_columns(within=pl.col("error").abs() <= pl.col("figure").replace_strict(limits))
    off = sum(((pl.col(name) - pl.col(truth)).abs() for truth, name in _TRUTH.items()), pl.lit(0)) * weight
    caches = joined.with_columns(off_pages=off).sort("off_pages", descending=True)
    exact = float((caches["peak_slabs"] == caches["peak"]).sum() / max(len(caches), 1))
    at = _snapshots(prediction, snapshots)
    return Check(totals, caches, at, exact, bool(totals["within"].all()) and exact >= least, limits)


def _snapshots(prediction: Prediction, snapshots: pl.DataFrame | None) -> pl.DataFrame:
    schema = {"label": pl.String, "caches": pl.Int64, "exact": pl.Int64, "real_pages": pl.Int64, "pages": pl.Int64}
    if snapshots is None:
        return pl.DataFrame(schema=schema)
    result = prediction.result
    orders = dict(result.caches.select("cache", "order").iter_rows())
    index = {name: c for c, name in enumerate(orders)}
    rows = []
    for (label, ts), part in snapshots.group_by("label", "ts_ns", maintain_order=True):
        sample = int(np.searchsorted(result.sample_ns, ts))
        if sample >= len(result.sample_ns) or result.sample_ns[sample] != ts:
            continue
        known = [(name, slabs) for name, slabs in part.select("cache", "slabs").iter_rows() if name in index and slabs]
        mine = [int(result.series[sample, index[name], 0]) for name, _ in known]
        rows.append(
            (
                str(label),
                len(known),
                sum(slabs == own for (_, slabs), own in zip(known, mine, strict=True)),
                sum(slabs << orders[name] for name, slabs in known),
                sum(own << orders[name] for (name, _), own in zip(known, mine, strict=True)),
            )
        )
    return pl.DataFrame(rows, schema=schema, orient="row")
