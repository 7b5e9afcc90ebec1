"""Reads a dataset whole and names what is damaged, missing, there twice, or does not belong."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fastalloc.errors import InputError, reader, reading
from fastalloc.foreign import opened
from fastalloc.store.location import (
    Location,
    StoreError,
    each,
    file_digest,
    file_size,
    left_behind,
    location,
    open_input,
    scan_parquet,
)
from fastalloc.store.read import open_manifest, read_shard, shard_paths
from fastalloc.store.schema import TABLES, refuse_columns, refuse_values
from fastalloc.store.segments import Segment, segments_of
from fastalloc.store.shards import Fault, scan_shards
from fastalloc.store.write import MANIFEST, SHARD_LANES, altered_texts

READ_AT_ONCE = 4  # files held in memory
_SAME = ("software", "schema_version", "model_digest", "seed")  # in every footer as in the manifest


class Check(NamedTuple):
    """What a check found."""

    shards: int  # of runs/
    lanes: int
    bytes: int  # of all tables
    faults: list[Fault]


class _File(NamedTuple):
    """What a file of a table holds."""

    path: Location
    record: dict[str, Any]  # of its footer
    ids: np.ndarray  # int64[rows], of ``id``
    places: dict[str, np.ndarray]  # the same of ``lane``, and of ``point`` where there is one


@reader("cannot be checked")
def check_dataset(path: str | Location) -> Check:
    """Reads every file of a dataset whole, every page against its checksum.

    Files of a sweep are compared with the digests in their names, the tables of a task with each other, rows with the
    lanes in their footer, footers with the manifest, all lanes with those the manifest tells of. Temporary files that
    writers left, and files that are no shards, are named too.

    Raises:
        InputError: the folder holds no dataset.
    """
    path = location(path)
    manifest = open_manifest(path)
    sweep, tables = manifest.get("kind") == "sweep", manifest.get("tables", TABLES)
    faults = list(_foreign(path))
    if sweep:
        scan = scan_shards(path, tables)
        faults += scan.faults
        told = {fault.path for fault in scan.faults}
        faults += [Fault(stray, "its task is not finished") for stray in scan.strays if stray not in told]
        groups = [shard.files for shard in scan.sound]
    else:
        groups, missing = _run_groups(path, manifest["status"] == "complete")
        faults += missing
    files = dict.fromkeys(file for group in groups for file in group.values())
    read = dict(zip(files, each(_read, files, READ_AT_ONCE), strict=True))
    for group in groups:
        faults += _group_faults({table: read[file] for table, file in group.items()}, manifest)
    runs = [found for group in groups if isinstance(found := read[group["runs"]], _File)]
    ids = np.concatenate([file.ids for file in runs]) if runs else np.empty(0, np.int64)
    lanes, counts = np.unique(ids, return_counts=True)
    twice = set(lanes[counts > 1].tolist())
    if twice:
        for file in runs:
            both = sorted(twice.intersection(file.ids.tolist()))
            if both:
                faults.append(
                    Fault(file.path, f"{len(both):,} of its lanes are there twice, the first with id {both[0]}")
                )
    faults += _sweep_gaps(path, manifest, runs) if sweep else _run_gaps(path, manifest, lanes)
    faults += _altered(path, manifest, files, {fault.path for fault in faults})
    for name in altered_texts(manifest):
        faults.append(Fault(path / MANIFEST, f"tells another SHA-256 of {name} than its text has"))
    return Check(len(runs), len(lanes), sum(each(file_size, files)), faults)


def _altered(
    path: Location, manifest: Mapping[str, Any], files: Mapping[Location, None], told: set[Location]
) -> Iterator[Fault]:
    """Shards of a run that are not as it wrote them, by the digests of its manifest; datasets of before have none."""
    if "files" not in manifest:
        return
    digests = manifest["files"]
    others = [file for file in files if file not in told]
    for file, digest in zip(others, each(file_digest, others, READ_AT_ONCE), strict=True):
        known = digests.get(f"{file.parent.name}/{file.name}")
        if known is None and manifest["status"] != "running":  # it writes its manifest after its shards
            yield Fault(file, "the manifest does not tell of it")
        elif known not in (None, digest[:16]):
            yield Fault(file, "is not as its run wrote it")


def _foreign(path: Location) -> Iterator[Fault]:
    """What does not belong into the folder or its tables."""
    for folder in (path, *(path / table for table in TABLES)):
        for file in left_behind(folder):
            yield Fault(file, "a temporary file that its writer left")
        if folder != path:
            others: list[Location] = sorted(folder.iterdir()) if folder.is_dir() else []
            for other in others:
                if not other.name.endswith(".parquet") and not other.name.startswith("."):
                    yield Fault(other, "is no shard")


def _run_groups(path: Location, whole: bool) -> tuple[list[dict[str, Location]], list[Fault]]:
    """The shards of a run by name, and tables that lack one; of a run that is not ``whole`` the last shard may lack its
    file of runs/, which is written behind the others and holds its lanes."""
    names: dict[str, dict[str, Location]] = {}
    for table in TABLES:
        for file in shard_paths(path / table):
            names.setdefault(file.name, {})[table] = file
    faults = []
    for name, group in names.items():
        for table in TABLES if whole or "runs" in group else ():
            if table not in group:
                faults.append(Fault(path / table / name, "is missing; other tables have this shard"))
    return [group for group in names.values() if "runs" in group], faults


def _read(file: Location) -> _File | Fault:
    """Every row group of a file, all columns, checksums compared; its schema as the report reads it too."""
    try:
        record, schema = read_shard(file)
        with reading(file):
            scan_parquet([file]).collect_schema()
        found: dict[str, list[np.ndarray]] = {name: [] for name in ("id", "lane", "point") if name in schema.names}
        table = file.parent.name
        refuse_columns(file, table, schema)
        with open_input(file) as source, opened(file, source, nested=True) as parquet:
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group)
                refuse_values(file, table, rows)
                for name, parts in found.items():
                    parts.append(rows[name].to_numpy())
        values = {name: np.concatenate(parts) if parts else np.empty(0, np.int64) for name, parts in found.items()}
        return _File(file, record, values.pop("id"), values)
    except StoreError:
        raise
    except InputError as error:
        return Fault(file, ": ".join(filter(None, (error.where, error.message))))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        return Fault(file, str(error).splitlines()[0])


def _group_faults(group: Mapping[str, _File | Fault], manifest: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with the files of one task, or of one shard of a run."""
    yield from (file for file in group.values() if isinstance(file, Fault))
    files = {table: file for table, file in group.items() if isinstance(file, _File)}
    if "runs" not in files:
        return
    own = files["runs"]
    for file in files.values():
        for key in _SAME:
            if file.record.get(key) != manifest.get(key):
                yield Fault(file.path, f"its footer tells of another {key} than the manifest")
        if file.record != own.record:
            yield Fault(file.path, f"its footer is not that of {own.path.name} in runs/")
        point, lane = np.divmod(file.ids, manifest["lanes"])
        if any((values != {"lane": lane, "point": point}[name]).any() for name, values in file.places.items()):
            yield Fault(file.path, "a row's lane or point is not that of its id")
        if not np.isin(file.ids, own.ids).all():
            yield Fault(file.path, "holds rows of lanes that its shard of runs/ does not hold")
    if manifest.get("kind") != "sweep":
        return
    record = own.record
    if record.get("sweep") != manifest["sweep"]["id"]:
        yield Fault(own.path, "its footer tells of another sweep than the manifest")
    if own.path.name.split(".")[0] != record["task"]["id"][:32]:
        yield Fault(own.path, "its name is not that of the task in its footer")
    segments = segments_of(own.path, record)
    told = sum(part.end - part.begin for part in segments)
    if told != len(own.ids) or not np.array_equal(np.sort(own.ids), np.sort(_ids(segments, manifest))):
        yield Fault(own.path, f"its {len(own.ids):,} rows are not the {told:,} lanes of its footer")


def _ids(segments: list[Segment], manifest: Mapping[str, Any]) -> np.ndarray:
    """The ids of the lanes of some segments."""
    starts = [part.point * manifest["lanes"] for part in segments]
    return np.concatenate(
        [np.arange(start + part.begin, start + part.end) for start, part in zip(starts, segments, strict=True)]
    )


def _sweep_gaps(path: Location, manifest: Mapping[str, Any], runs: list[_File]) -> Iterator[Fault]:
    """Lanes that a complete sweep lacks, by point."""
    if manifest["status"] != "complete":
        return
    done: Counter[int] = Counter()
    last: Counter[int] = Counter()
    for file in runs:
        for part in segments_of(file.path, file.record):
            done[part.point] += part.end - part.begin
            last[part.point] = max(last[part.point], part.end)
    stops = manifest["sweep"]["file"].get("stop") is not None  # a point may end early, but has its first lanes
    wanted = {point: last[point] if stops else manifest["lanes"] for point in range(manifest["sweep"]["points"])}
    short = {point: wanted[point] - done[point] for point in wanted if done[point] < max(1, wanted[point])}
    if short:
        told = ", ".join(map(str, list(short)[:10])) + (", ..." if len(short) > 10 else "")
        yield Fault(path / "runs", f"{sum(max(1, n) for n in short.values()):,} lanes are missing, of points {told}")


def _run_gaps(path: Location, manifest: Mapping[str, Any], lanes: np.ndarray) -> Iterator[Fault]:
    """Shards of a run that the manifest tells of and that are not there."""
    for number, variant in enumerate(manifest["variants"]):
        first = number * manifest["lanes"]
        broken = [lane["id"] for lane in manifest.get("broken", []) if lane["variant"] == variant["name"]]
        wanted = np.arange(first, first + variant["lanes"] + len(broken))
        wanted = wanted[~np.isin(wanted, broken)]
        for shard in np.unique((wanted[~np.isin(wanted, lanes)] - first) // SHARD_LANES).tolist():
            yield Fault(path / "runs" / f"{variant['name']}-{shard:06d}.parquet", "lanes of it are missing")
