"""What a replay leaves: tables of every configuration and cache, over time, and a manifest."""

import hashlib
import io
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.kernels.replay.kmem_events import CACHE_SERIES
from fastalloc.model_digest import model_digest
from fastalloc.trace.lanes.lane import TRAFFIC, Config
from fastalloc.trace.replay.check import Check
from fastalloc.trace.replay.held import held_at_peak
from fastalloc.trace.replay.prediction import Prediction
from fastalloc.trace.replay.recording import Recording
from fastalloc.written import write_text, write_whole


def write_results(
    folder: Path,
    recording: Recording,
    predictions: list[Prediction],
    command: str,
    checked: Check | None = None,
    real: pl.DataFrame | None = None,
) -> None:
    """``caches.parquet`` (a row a configuration and cache), ``series.parquet`` (and time), ``manifest.json``,
    ``holders.parquet`` (who holds what of the first configuration at its peak, see ``held_at_peak``); and
    ``real.parquet`` (ts_ns, cache, slabs of the traced kernel) where that is known."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tables(folder, predictions)
        held, held_ns = held_at_peak(recording.trace, predictions[0].result)
        _write(folder / "holders.parquet", held)
        if real is not None:
            _write(folder / "real.parquet", real)
        manifest = {
            "command": command,
            "version": version("fastalloc"),
            "model_digest": model_digest(),
            "draws": len(predictions[0].draws),
            "trace": {key: value for key, value in recording.trace.meta.items() if key != "tasks"},
            "kernel": recording.kernel_record(),
            "start": recording.known.record(),
            "steps": recording.steps,
            "frees_without_event": recording.not_explained(predictions[0]),
            "held_at_ns": held_ns,
            "configs": summaries(recording, predictions),
        }
        own = {
            each.result.config.name: own_file(each.result.config) for each in predictions if each.result.config.policy
        }
        if own:
            manifest["own"] = own
        if checked is not None:
            manifest["check"] = check_record(checked)
        write_text(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    except OSError as error:
        raise InputError(folder, "", f"cannot be written: {error.strerror or error}") from None


def own_file(config: Config) -> dict[str, Any]:
    """The file of one's own that a configuration runs: its text, name, digest and parameters."""
    assert config.policy is not None
    text, file, parameters = config.policy
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
    return {"file": file, "sha256": digest, "text": text, "parameters": parameters}


def _tables(folder: Path, predictions: list[Prediction]) -> None:
    tables, series = [], []
    for prediction in predictions:
        result = prediction.result
        config = pl.lit(result.config.name).alias("config")
        tables.append(prediction.table().select(config, pl.all()))
        samples, rows, _ = result.series.shape
        if not samples:
            continue
        flat = result.series.reshape(samples * rows, CACHE_SERIES.width)
        frame = pl.DataFrame(
            {
                "ts_ns": np.repeat(result.sample_ns, rows),
                "cache": pl.Series(np.tile(np.arange(rows, dtype=np.uint32), samples)),
                **{name: flat[:, i] for i, name in enumerate(CACHE_SERIES.names)},
            }
        )
        layout = result.caches.with_row_index("row").select("row", pl.col("cache").alias("name"), "order", "size")
        frame = frame.join(layout, left_on="cache", right_on="row", how="left").filter(pl.col("slabs") > 0)
        pages = pl.col("slabs") * pl.lit(2, pl.Int64).pow(pl.col("order"))
        series.append(
            frame.select(
                config, "ts_ns", pl.col("name").alias("cache"), *CACHE_SERIES.names,
                pages.alias("pages"), (pages * 4096 - pl.col("objects") * pl.col("size")).alias("waste_bytes"),
            )
        )  # fmt: skip
    _write(folder / "caches.parquet", pl.concat(tables, how="diagonal_relaxed"))
    if series:
        _write(folder / "series.parquet", pl.concat(series))


def _write(path: Path, table: pl.DataFrame) -> None:
    """Whole or not at all."""
    content = io.BytesIO()
    table.write_parquet(content)
    write_whole(path, [content.getbuffer()])


def summaries(recording: Recording, predictions: list[Prediction]) -> list[dict[str, Any]]:
    """``summary`` of each, and for what-ifs ``peak_change`` (share of the first one's) and whether the start is known
    well enough to tell it: ``resolved``."""
    rows = [summary(prediction) for prediction in predictions]
    base = rows[0]["peak_pages"]["median"]
    for row in rows[1:]:
        row["peak_change"] = row["peak_pages"]["median"] / base - 1 if base else 0.0
        row["resolved"] = recording.known.exact or abs(row["peak_change"]) >= recording.known.resolution
    return rows


def summary(prediction: Prediction) -> dict[str, Any]:
    """A configuration in a dozen figures: pages (median, least, most), slow paths, lists, speed.

    ``peak_pages`` is the most that all caches held at one moment, ``own_peaks_pages`` the sum of what each held at its
    own, which need not be one moment.
    """
    pages = prediction.pages()
    result = prediction.result
    order = result.caches["order"].to_numpy()
    series = result.series[:, :, CACHE_SERIES.slabs]
    at_once = (series.astype(np.int64) << order[None, :]).sum(axis=1)
    objects = result.series[:, :, CACHE_SERIES.objects] * result.caches["size"].to_numpy()[None, :]
    where = int(at_once.argmax()) if len(at_once) else 0
    columns = [*pages.T, prediction.at_once]
    sums = result.caches.sum().row(0, named=True)
    return {
        "config": result.config.name,
        **{
            f"{name}_pages": {"median": float(np.median(column)), "low": int(column.min()), "high": int(column.max())}
            for name, column in zip(("new", "freed", "own_peaks", "end", "peak"), columns, strict=True)
        },
        "peak_waste_bytes": int(at_once[where] * 4096 - objects[where].sum()) if len(at_once) else None,
        "end_bytes": end_bytes(result.caches),
        **{name: sums[name] for name in (*TRAFFIC, "cross_cpu_frees")},
        "counts": result.counts,
        "events": result.events,
        "events_per_second": round(result.events / result.seconds) if result.seconds else None,
    }


def end_bytes(caches: pl.DataFrame) -> dict[str, int]:
    """What the bytes of all caches hold after the last event: ``objects`` (``rounding`` of them is what slots have
    more than was asked for), ``tails`` of slabs, free slots in ``partial`` slabs, and those with ``cpus`` and barns."""
    sums = caches.select(
        objects=(pl.col("objects") * pl.col("size")).sum(),
        rounding=pl.col("rounding_bytes").sum(),
        tails=pl.col("tail_bytes").sum(),
        partial=pl.col("partial_bytes").sum(),
        cpus=pl.col("cpu_bytes").sum(),
    )
    return {name: int(value) for name, value in sums.row(0, named=True).items()}


def check_record(checked: Check) -> dict[str, Any]:
    """A check as plain data, all caches included."""
    limits = pl.col("figure").replace_strict(checked.limits, return_dtype=pl.Float64)
    figures = ("slab_allocs", "new", "peak_slabs", "peak", "end_slabs", "end", "off_pages")
    return {
        "ok": checked.ok,
        "totals": checked.totals.with_columns(limit=limits).to_dicts(),
        "exact_at_peak": checked.exact_at_peak,
        "caches": checked.caches.select("cache", *figures).to_dicts(),
        "snapshots": checked.snapshots.to_dicts(),
    }


__all__ = ["check_record", "summaries", "summary", "write_results"]
