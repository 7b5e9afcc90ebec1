"""Reads a dataset, lazily."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fastalloc.bounded import json_of
from fastalloc.errors import InputError, reader, shown
from fastalloc.forked import refuse_forked
from fastalloc.store.location import Location, each, location, open_input, scan_parquet, whole_file
from fastalloc.store.provenance import FOOTER_KEY, SCHEMA_VERSION
from fastalloc.store.schema import EVENTS_SCHEMA, LEDGER_SCHEMA, SERIES_SCHEMA, TABLES
from fastalloc.store.segments import overlapping, segments_of
from fastalloc.store.write import MANIFEST

_OF_RUNS: dict[str, type] = {"scenario": dict, "variants": list, "lanes": int, "status": str}
_OF_SWEEPS: dict[str, type] = {"sweep": dict, "variants": list, "lanes": int, "status": str}


@dataclass(frozen=True, repr=False)
class Dataset:
    """What a run left: the manifest and four lazy tables (see ``store.schema``)."""

    path: Location
    manifest: dict[str, Any]
    runs: pl.LazyFrame
    series: pl.LazyFrame
    events: pl.LazyFrame
    ledger: pl.LazyFrame

    @property
    def verdicts(self) -> pl.DataFrame:
        """A row a variant: how many lanes livelocked, with intervals, stalls, rates, and a sentence."""
        frame: pl.DataFrame = self._view("verdict_frame")
        return frame

    @property
    def board(self) -> pl.DataFrame:
        """A row a variant or policy, each against the first on the same lanes."""
        frame: pl.DataFrame = self._view("board_frame")
        return frame

    @property
    def points(self) -> pl.DataFrame:
        """A row a point of a sweep."""
        frame: pl.DataFrame = self._view("point_frame")
        return frame

    def _view(self, name: str) -> Any:
        """What a room above makes of a dataset; found when it is asked for, so that nothing here imports upwards."""
        return getattr(import_module("fastalloc.notebook"), name)(self)

    def __repr__(self) -> str:
        return str(self._view("dataset_words"))

    def _repr_html_(self) -> str:
        return str(self._view("dataset_html"))


@reader("is no dataset")
def open_dataset(path: str | Location) -> Dataset:
    """Opens the dataset in a folder or below ``s3://BUCKET/PREFIX``; its tables are read when they are collected.

    Raises:
        InputError: no manifest, a broken one, one of another schema, no finished lane, or a shard that is not
            Parquet or not fastalloc's; names the file.
    """
    refuse_forked(str(path))
    path = location(path)
    manifest = open_manifest(path)
    kept = manifest.get("tables", TABLES)
    frames = {table: _scan(path, table) if table in kept else _nothing(table) for table in TABLES}
    return Dataset(path, manifest, **frames)


def open_manifest(path: Location) -> dict[str, Any]:
    """The manifest of a dataset.

    Raises:
        InputError: there is none, it is broken, or of another schema.
    """
    file = path / MANIFEST
    try:
        manifest = json_of(file, whole_file(file))
    except FileNotFoundError:
        if path.is_dir():
            raise InputError(file, "", "no such file, so the folder is no dataset") from None
        raise InputError(path, "", "no such dataset") from None
    except NotADirectoryError:
        raise InputError(path, "", "is a file; a dataset is a folder") from None
    except OSError as error:
        raise InputError(file, "", error.strerror or str(error)) from None
    found = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if found != SCHEMA_VERSION:
        raise InputError(file, "schema_version", f"{shown(found)}, this version reads {SCHEMA_VERSION}")
    _check_manifest(file, manifest)
    return dict(manifest)


def _check_manifest(file: Location, manifest: dict[str, Any]) -> None:
    """Every field that readers take for granted is there and of its kind."""
    sweep = manifest.get("kind") == "sweep"
    for name, kind in (_OF_SWEEPS if sweep else _OF_RUNS).items():
        if not isinstance(manifest.get(name), kind) or isinstance(manifest[name], bool):
            raise InputError(file, name, f"must be a {kind.__name__}, not {shown(manifest.get(name))}")
    if manifest["lanes"] < 1:
        raise InputError(file, "lanes", f"must be at least 1, not {manifest['lanes']}")
    for i, variant in enumerate(manifest["variants"]):
        wanted = {"name": str, "title": str} | ({} if sweep else {"lanes": int})
        if not isinstance(variant, dict) or not all(isinstance(variant.get(name), wanted[name]) for name in wanted):
            raise InputError(file, f"variants.{i}", f"needs {', '.join(wanted)}")
    for i, lane in enumerate(manifest.get("broken", [])):
        wanted = {"id": int, "variant": str, "lane": int, "told": str, "again": str}
        if not isinstance(lane, dict) or not all(isinstance(lane.get(name), wanted[name]) for name in wanted):
            raise InputError(file, f"broken.{i}", f"needs {', '.join(wanted)}")
    for name in ("tables", "depths", "who"):
        if not all(isinstance(each_, str) for each_ in manifest.get(name, [])):
            raise InputError(file, name, "must hold texts")
    if not set(manifest.get("tables", [])) <= set(TABLES):
        raise InputError(file, "tables", f"must be of {', '.join(TABLES)}")


def _scan(path: Location, table: str) -> pl.LazyFrame:
    shards = shard_paths(path / table)
    if not shards:
        raise InputError(path / table, "", "no shard: the run ended before its first lane did")
    records = each(read_footer, shards)
    if "task" in records[0]:
        for shard, other in overlapping(zip(shards, map(segments_of, shards, records), strict=True)).items():
            raise InputError(shard, "", f"holds lanes that {other.name} holds too: two sweeps wrote here at once")
    return scan_parquet(shards)


def shard_paths(folder: Location) -> list[Location]:
    """The files of a table, in order."""
    return sorted(folder.glob("*.parquet"))


def _nothing(table: str) -> pl.LazyFrame:
    """A table that a sweep did not ask for."""
    schemas = {"series": SERIES_SCHEMA, "events": EVENTS_SCHEMA, "ledger": LEDGER_SCHEMA}
    frame = pl.from_arrow(schemas[table].empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.lazy()


def read_footer(shard: Location) -> dict[str, Any]:
    """The provenance in a shard's footer.

    Raises:
        InputError: the shard is unreadable, not Parquet, or carries no provenance.
    """
    try:
        with open_input(shard) as file:
            metadata = pq.read_metadata(file).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise InputError(shard, "", f"unreadable Parquet: {error}") from None
    if FOOTER_KEY not in metadata:
        raise InputError(shard, "footer", "not written by fastalloc: it carries no provenance")
    record = json_of(shard, metadata[FOOTER_KEY], "footer")
    if not isinstance(record, dict):
        raise InputError(shard, "footer", "carries no record")
    return record
