"""Reads a dataset, lazily."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fastalloc.errors import InputError
from fastalloc.store.provenance import FOOTER_KEY, SCHEMA_VERSION
from fastalloc.store.schema import EVENTS_SCHEMA, LEDGER_SCHEMA, SERIES_SCHEMA, TABLES
from fastalloc.store.write import MANIFEST


@dataclass(frozen=True)
class Dataset:
    """What a run left: the manifest and four lazy tables (see ``store.schema``)."""

    path: Path
    manifest: dict[str, Any]
    runs: pl.LazyFrame
    series: pl.LazyFrame
    events: pl.LazyFrame
    ledger: pl.LazyFrame


def open_dataset(path: str | Path) -> Dataset:
    """Opens the dataset in a folder; its tables are read when they are collected.

    Raises:
        InputError: no manifest, a broken one, one of another schema, no finished lane, or a shard that is not
            Parquet or not fastalloc's; names the file.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    kept = manifest.get("tables", TABLES)
    frames = {table: _scan(path, table) if table in kept else _nothing(table) for table in TABLES}
    return Dataset(path, manifest, **frames)


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_bytes())
    except FileNotFoundError:
        message = "no such file, so the folder is no dataset" if path.is_dir() else "no such dataset"
        raise InputError(file if path.is_dir() else path, "", message) from None
    except NotADirectoryError:
        raise InputError(path, "", "is a file; a dataset is a folder") from None
    except OSError as error:
        raise InputError(file, "", error.strerror or str(error)) from None
    except ValueError as error:
        raise InputError(file, "", f"not JSON: {error}") from None
    found = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if found != SCHEMA_VERSION:
        raise InputError(file, "schema_version", f"{found!r}, this version reads {SCHEMA_VERSION}")
    return manifest


def _scan(path: Path, table: str) -> pl.LazyFrame:
    shards = sorted((path / table).glob("*.parquet"))
    if not shards:
        raise InputError(path / table, "", "no shard: the run ended before its first lane did")
    for shard in shards:
        read_footer(shard)
    return pl.scan_parquet(shards, missing_columns="insert", extra_columns="ignore")


def _nothing(table: str) -> pl.LazyFrame:
    """A table that a sweep did not ask for."""
    schemas = {"series": SERIES_SCHEMA, "events": EVENTS_SCHEMA, "ledger": LEDGER_SCHEMA}
    frame = pl.from_arrow(schemas[table].empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.lazy()


def read_footer(shard: Path) -> dict[str, Any]:
    """The provenance in a shard's footer.

    Raises:
        InputError: the shard is unreadable, not Parquet, or carries no provenance.
    """
    try:
        metadata = pq.read_metadata(shard).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise InputError(shard, "", f"unreadable Parquet: {error}") from None
    if FOOTER_KEY not in metadata:
        raise InputError(shard, "footer", "not written by fastalloc: it carries no provenance")
    record: dict[str, Any] = json.loads(metadata[FOOTER_KEY])
    return record
