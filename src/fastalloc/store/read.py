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
from fastalloc.store.schema import EVENTS_SCHEMA, LEDGER_SCHEMA, SERIES_SCHEMA, TABLES, filled_columns, refuse_columns
from fastalloc.store.segments import overlapping, segments_of
from fastalloc.store.write import MANIFEST

MOST_LANES = 1 << 24
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
    if not 1 <= manifest["lanes"] <= MOST_LANES:
        raise InputError(file, "lanes", f"must be 1 to {MOST_LANES:,}, not {shown(manifest['lanes'])}")
    if sweep:
        _check_sweep(file, manifest["sweep"])
    for i, variant in enumerate(manifest["variants"]):
        wanted = {"name": str, "title": str} | ({} if sweep else {"lanes": int})
        if not isinstance(variant, dict) or not all(isinstance(variant.get(name), wanted[name]) for name in wanted):
            raise InputError(file, f"variants.{i}", f"needs {', '.join(wanted)}")
        if not 0 <= variant.get("lanes", 0) <= manifest["lanes"]:
            raise InputError(file, f"variants.{i}.lanes", f"must be 0 to {manifest['lanes']:,}")
    for i, lane in enumerate(manifest.get("broken", [])):
        wanted = {"id": int, "variant": str, "lane": int, "told": str, "again": str}
        if not isinstance(lane, dict) or not all(isinstance(lane.get(name), wanted[name]) for name in wanted):
            raise InputError(file, f"broken.{i}", f"needs {', '.join(wanted)}")
    for name in ("tables", "depths", "who"):
        if not all(isinstance(each_, str) for each_ in manifest.get(name, [])):
            raise InputError(file, name, "must hold texts")
    if not set(manifest.get("tables", [])) <= set(TABLES):
        raise InputError(file, "tables", f"must be of {', '.join(TABLES)}")
    if not _is_texts(manifest.get("files", {})):
        raise InputError(file, "files", "must tell the digest of each file")


def _check_sweep(file: Location, sweep: dict[str, Any]) -> None:
    """What readers take for granted of a sweep."""
    if not isinstance(sweep.get("id"), str):
        raise InputError(file, "sweep.id", "must be a str")
    points = sweep.get("points")
    if type(points) is not int or not 1 <= points <= MOST_LANES:
        raise InputError(file, "sweep.points", f"must be 1 to {MOST_LANES:,}, not {shown(points)}")
    for name in ("varied", "axes"):
        if not isinstance(sweep.get(name), list) or not all(isinstance(each_, str) for each_ in sweep[name]):
            raise InputError(file, f"sweep.{name}", "must hold texts")


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each_, str) for each_ in value.values())


def _scan(path: Location, table: str) -> pl.LazyFrame:
    shards = shard_paths(path / table)
    if not shards:
        raise InputError(path / table, "", "no shard: the run ended before its first lane did")
    read = each(read_shard, shards)
    records = [record for record, _ in read]
    own = _refuse_kinds(table, shards[0], read[0][1], None)
    for shard, (_, schema) in zip(shards, read, strict=True):
        if not schema.equals(read[0][1]):
            _refuse_kinds(table, shard, schema, own)
    if "task" in records[0]:
        for shard, other in overlapping(zip(shards, map(segments_of, shards, records), strict=True)).items():
            raise InputError(shard, "", f"holds lanes that {other.name} holds too: two sweeps wrote here at once")
    return scan_parquet(shards)


def _refuse_kinds(table: str, shard: Location, schema: pa.Schema, first: set[str] | None) -> set[str]:
    """The columns of a shard that every row fills; they must be those of the ``first`` shard, where there is one."""
    refuse_columns(shard, table, schema)
    own = set(filled_columns(schema.names, table))
    for name in sorted(own ^ (first or own)):
        raise InputError(shard, name, "column is missing here or in another shard")
    return own


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
    return read_shard(shard)[0]


def read_shard(shard: Location) -> tuple[dict[str, Any], pa.Schema]:
    """As ``read_footer``, with the columns of the shard."""
    try:
        with open_input(shard) as file:
            found = pq.read_metadata(file)
            metadata, schema = found.metadata or {}, found.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        raise InputError(shard, "", f"unreadable Parquet: {error}") from None
    if FOOTER_KEY not in metadata:
        raise InputError(shard, "footer", "not written by fastalloc: it carries no provenance")
    record = json_of(shard, metadata[FOOTER_KEY], "footer")
    if not isinstance(record, dict):
        raise InputError(shard, "footer", "carries no record")
    return record, schema
