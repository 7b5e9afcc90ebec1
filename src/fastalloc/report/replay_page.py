"""The HTML page of a replay: configurations side by side, memory by cache, the prediction against real slabs."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import polars as pl
from altair.utils.schemapi import debug_mode

from fastalloc.bounded import text_of
from fastalloc.errors import InputError
from fastalloc.report.charts import plain
from fastalloc.report.filled import filled
from fastalloc.report.flame import flame
from fastalloc.store.location import write_file

PALETTE = ("#2b7bba", "#d64545", "#2f9e6e", "#e0a030", "#7c5cc4", "#6c8ead", "#b7791f", "#d6609c", "#5a9e2f", "#8a94a3")
DRAWN = len(PALETTE)  # configurations drawn; the tables hold all
TOP_CACHES = 15
WORST = 10
WORST_DRAWN = 6
MIB = 1 << 20
REAL = "#d64545"


class Chart(NamedTuple):
    """A figure of the page."""

    title: str
    note: str
    legend: list[tuple[str, str]]  # colour, words
    spec: dict[str, Any]


def write_replay_page(folder: Path) -> Path:
    """Write ``report.html`` from the tables in ``folder`` and return its path.

    Raises:
        InputError: the folder holds no replay, or the file cannot be written.
    """
    try:
        manifest = json.loads(text_of(folder / "manifest.json"))
        caches = pl.read_parquet(folder / "caches.parquet")
        series = pl.read_parquet(folder / "series.parquet")
        real = pl.read_parquet(folder / "real.parquet") if (folder / "real.parquet").exists() else None
        held = pl.read_parquet(folder / "holders.parquet") if (folder / "holders.parquet").exists() else None
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(folder, "", f"holds no replay: {str(error).splitlines()[0]}") from error
    names = [row["config"] for row in manifest["configs"]]
    colours = dict(zip(names, PALETTE, strict=False))
    first = int(manifest["trace"]["first_ns"])
    series = series.with_columns(seconds=(pl.col("ts_ns") - first) / 1e9)
    check = manifest.get("check")
    with debug_mode(False):
        over_time = _over_time(series, colours)
        against = _against(series, real, names[0], check, first) if check and real is not None else []
    page = filled(
        "replay.html",
        manifest=manifest,
        headline=_headline(manifest),
        rows=_comparison(manifest["configs"]),
        charts=over_time,
        left_out=max(0, len(names) - DRAWN),
        peak=_at_peak(series, names),
        names=names,
        flame=flame(held) if held is not None else None,
        held_at=f" at {(manifest.get('held_at_ns', first) - first) / 1e9:.2f} s",
        check=check,
        against=against,
        worst=[row for row in check["caches"] if row["off_pages"]][:WORST] if check else [],
        caches=len(caches.filter(pl.col("config") == names[0])),
    )
    path = folder / "report.html"
    write_file(path, page.encode())
    return path


def _headline(manifest: dict[str, Any]) -> str:
    base, *others = manifest["configs"]
    peak = base["peak_pages"]["median"]
    rules = f"the rules of Linux {manifest['kernel']['version']} hold" if "kernel" in manifest else "its rules hold"
    words = f"At its peak {rules} {peak * 4096 / MIB:,.1f} MB in slabs"
    if not others or not peak:
        return f"{words}."
    best = min(others, key=lambda row: row["peak_pages"]["median"])
    change = best["peak_pages"]["median"] / peak - 1
    if change >= 0:
        return f"{words}; no what-if holds less."
    slow = (best["alloc_slow"] + best["free_slow"]) / max(base["alloc_slow"] + base["free_slow"], 1)
    return f"{words}; {best['config']} holds {-change:.1%} less, with {slow:.2f} times the slow paths."


def _comparison(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the table A versus B: each figure with its change against the first configuration."""
    base = configs[0]
    rows = []
    for config in configs:
        cells = []
        for name in ("new_pages", "peak_pages", "end_pages"):
            figure, against = config[name], base[name]["median"]
            spread = "" if figure["low"] == figure["high"] else f"{figure['low']:,.0f}–{figure['high']:,.0f}"
            cells.append((f"{figure['median']:,.0f}", _change(figure["median"], against, config is base), spread))
        waste, base_waste = config["peak_waste_bytes"] or 0, base["peak_waste_bytes"] or 0
        cells.append((f"{waste / MIB:,.1f} MB", _change(waste, base_waste, config is base), ""))
        for name in ("alloc_slow", "free_slow", "node_list", "list_lock", "cross_cpu_frees"):
            cells.append((f"{config[name]:,}", _change(config[name], base[name], config is base), ""))
        rows.append({"config": config["config"], "cells": cells})
    return rows


def _change(value: float, against: float, same: bool) -> str:
    if same or value == against:
        return ""
    return f"{value / against - 1:+.1%}" if against else "new"


def _over_time(series: pl.DataFrame, colours: dict[str, str]) -> list[Chart]:
    shown = series.filter(pl.col("config").is_in(list(colours)))
    totals = shown.group_by("config", "seconds", maintain_order=True).agg(
        mib=pl.col("pages").sum() * 4096 / MIB, waste=pl.col("waste_bytes").sum() / MIB,
        slow=(pl.col("alloc_slow") + pl.col("free_slow")).sum(), locks=pl.col("node_list").sum(),
    )  # fmt: skip
    legend = [(colour, name) for name, colour in colours.items()]
    return [
        Chart("Memory in slabs, MB", "All caches together.", legend, _lines(totals, "mib", colours, zero=False)),
        Chart("Waste, MB", "Slabs less the slots of living objects.", legend, _lines(totals, "waste", colours)),
        Chart(
            "Slow paths so far", "Allocations and frees past the fast path.", legend, _lines(totals, "slow", colours)
        ),
        Chart("Moves on the nodes' lists so far", "Each under list_lock.", legend, _lines(totals, "locks", colours)),
    ]


def _lines(
    frame: pl.DataFrame, column: str, colours: dict[str, str], zero: bool = True, height: int = 170
) -> dict[str, Any]:
    """A line for each ``config`` of ``frame`` over ``seconds``."""
    order = list(colours)
    scale = alt.Scale(domain=order, range=[colours[name] for name in order])
    rows = frame.select("config", "seconds", pl.col(column).round(3)).to_dicts()
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.4, interpolate="step-after")
        .encode(
            x=alt.X("seconds:Q", title="s", scale=alt.Scale(nice=False)),
            y=alt.Y(f"{column}:Q", title=None, scale=alt.Scale(zero=zero), axis=alt.Axis(format="~s", tickCount=4)),
            color=alt.Color("config:N", scale=scale, legend=None),
            tooltip=[
                alt.Tooltip("config:N"),
                alt.Tooltip("seconds:Q", format=".2f"),
                alt.Tooltip(f"{column}:Q", format=","),
            ],
        )
        .properties(width="container", height=height)
    )
    return plain(chart)


def _at_peak(series: pl.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    """The largest caches of the first configuration at its peak; each with its MB in every one, at that one's peak."""
    parts = []
    for name in names:
        own = series.filter(pl.col("config") == name)
        totals = own.group_by("ts_ns").agg(pl.col("pages").sum()).sort("pages", "ts_ns", descending=[True, False])
        if len(totals):
            at = totals["ts_ns"][0]
            parts.append(own.filter(pl.col("ts_ns") == at).select("cache", pl.col("pages").alias(name)))
    if not parts:
        return []
    table = parts[0]
    for part in parts[1:]:
        table = table.join(part, on="cache", how="full", coalesce=True)
    table = table.fill_null(0).sort(names[0], "cache", descending=[True, False])
    rest = table.slice(TOP_CACHES)
    rows = table.head(TOP_CACHES).to_dicts()
    if len(rest):
        rows.append(
            {"cache": f"{len(rest)} more", **{name: int(rest[name].sum()) for name in names if name in rest.columns}}
        )
    top = max(row[name] for row in rows for name in names if name in row)
    return [
        {
            "cache": row["cache"],
            "cells": [(row.get(name, 0) * 4096 / MIB, row.get(name, 0) / top if top else 0) for name in names],
        }
        for row in rows
    ]


def _against(series: pl.DataFrame, real: pl.DataFrame, config: str, check: dict[str, Any], first: int) -> list[Chart]:
    """Predicted and real slabs over time: all caches that the kernel's tables hold, then the worst ones."""
    order = (
        series.filter(pl.col("config") == config).select("cache", weight=pl.col("pages") // pl.col("slabs")).unique()
    )
    mine = series.filter(pl.col("config") == config).join(real.select("cache").unique(), on="cache", how="semi")
    truth = real.with_columns(seconds=(pl.col("ts_ns") - first) / 1e9).join(order, on="cache")
    colours = {"predicted": PALETTE[0], "real": REAL}
    legend = [(colour, name) for name, colour in colours.items()]

    def both(predicted: pl.DataFrame, actual: pl.DataFrame) -> pl.DataFrame:
        frames = [
            frame.group_by("seconds", maintain_order=True).agg(pl.col("pages").sum()).with_columns(config=pl.lit(name))
            for name, frame in (("predicted", predicted), ("real", actual))
        ]
        return pl.concat([frame.select("config", "seconds", pl.col("pages").cast(pl.Int64)) for frame in frames])

    truth = truth.with_columns(pages=pl.col("slabs") * pl.col("weight"))
    charts = [
        Chart(
            "Pages in slabs, predicted and real", "Caches that the kernel's own tables hold.", legend,
            _lines(both(mine, truth), "pages", colours, zero=False),
        )
    ]  # fmt: skip
    for row in check["caches"][:WORST_DRAWN]:
        name = row["cache"]
        own = both(mine.filter(pl.col("cache") == name), truth.filter(pl.col("cache") == name))
        charts.append(Chart(name, "pages", legend, _lines(own, "pages", colours, height=110)))
    return charts
