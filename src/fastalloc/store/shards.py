"""The shards of a sweep: named by their task and by what they hold, so that damage shows.

``runs/TASK.DIGEST.parquet``: the first 32 hexadecimal digits of the task's identity and 16 of the SHA-256 of the file.
Other tables of the task carry its name too, and are written before ``runs/``: a task is done when its rows are there.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from fastalloc.errors import InputError
from fastalloc.store.location import (
    Location,
    StoreError,
    each,
    file_digest,
    left_behind,
    make_folder,
    move,
    write_file,
)
from fastalloc.store.provenance import footer
from fastalloc.store.read import read_footer, read_shard, shard_paths
from fastalloc.store.schema import TABLES, refuse_columns
from fastalloc.store.segments import Segment, overlapping, segments_of
from fastalloc.store.write import parquet_bytes

DAMAGED = "damaged"  # where files that cannot be trusted are moved


class Shard(NamedTuple):
    """A finished task on disk."""

    task: str
    segments: list[Segment]
    files: dict[str, Location]  # by table


class Fault(NamedTuple):
    """A file that cannot be trusted, or is missing."""

    path: Location
    message: str


class Scan(NamedTuple):
    """What a dataset's folder holds."""

    sound: list[Shard]
    faults: list[Fault]
    strays: list[Location]  # files of tasks that are not done, or are faulty


def encode_shard(
    task: str, segments: Sequence[Segment], tables: Mapping[str, pa.Table], origin: Mapping[str, Any]
) -> dict[str, bytes]:
    """The tables of a task as Parquet files in memory; ``origin`` is the provenance for their footers."""
    record = footer({**origin, "task": {"id": task, "segments": [list(segment) for segment in segments]}})
    return {name: parquet_bytes(table.replace_schema_metadata(record)).to_pybytes() for name, table in tables.items()}


def store_shard(folder: Location, task: str, files: Mapping[str, bytes]) -> None:
    """Writes the files of a task, ``runs`` last.

    Raises:
        InputError: a file cannot be written.
    """
    for name in reversed(TABLES):
        if name in files:
            digest = hashlib.sha256(files[name]).hexdigest()
            write_file(folder / name / f"{task[:32]}.{digest[:16]}.parquet", files[name])


def damage(path: Location) -> str:
    """What is wrong with a file, as its name tells; empty when nothing is.

    Raises:
        StoreError: its store does not let it be read.
    """
    parts = path.name.split(".")
    if len(parts) != 3:
        return "its name is not that of a task"
    try:
        digest = file_digest(path)
    except OSError as error:
        return error.strerror or str(error)
    return "" if digest.startswith(parts[1]) else "damaged: its content is not what its name says"


def scan_shards(folder: Location, tables: Sequence[str]) -> Scan:
    """Reads and verifies every file of a sweep's dataset; ``tables`` are those that a task must have."""
    files: dict[str, dict[str, list[Location]]] = defaultdict(lambda: defaultdict(list))
    for name in TABLES:
        for path in shard_paths(folder / name):
            files[path.name.split(".")[0]][name].append(path)
    every = [path for by_table in files.values() for paths in by_table.values() for path in paths]
    damages = dict(zip(every, each(damage, every), strict=True))
    found, faults, strays = [], [], []
    for _, by_table in sorted(files.items()):
        own = [path for paths in by_table.values() for path in paths]
        wrong = [Fault(path, damages[path]) for path in own if damages[path]]
        wrong += [Fault(paths[1], "a second file of its task") for paths in by_table.values() if len(paths) > 1]
        if "runs" in by_table:
            missing = [name for name in tables if name not in by_table]
            wrong += [Fault(by_table["runs"][0], f"its task has no shard in {name}/") for name in missing]
        faults += wrong
        if wrong or "runs" not in by_table:
            strays += own
        else:
            found.append({name: paths[0] for name, paths in by_table.items()})
    sound = []
    for by_name, shard in zip(found, each(_shard, found), strict=True):
        if isinstance(shard, Fault):
            faults.append(shard)
            strays += by_name.values()
        else:
            sound.append(shard)
    twice = overlapping((shard.files["runs"], shard.segments) for shard in sound)
    faults += [Fault(path, f"holds lanes that {other.name} holds too") for path, other in twice.items()]
    strays += [path for shard in sound if shard.files["runs"] in twice for path in shard.files.values()]
    return Scan([shard for shard in sound if shard.files["runs"] not in twice], faults, strays)


def shard_segments(path: Location) -> list[Segment]:
    """The lanes that a file holds, as its footer tells.

    Raises:
        InputError: unreadable, or not of a sweep.
    """
    return segments_of(path, read_footer(path))


def set_aside(folder: Location, paths: Sequence[Location], mine: Callable[[Segment], bool] | None = None) -> None:
    """Moves files out of the tables, where no reader takes them for data.

    Args:
        mine: where several processes fill the folder, tells the lanes of this one; a sound file of others is left,
            since they may be about to complete its task.

    Raises:
        InputError: a file cannot be moved.
    """
    for path in paths:
        if mine is not None and not damage(path) and not all(map(mine, shard_segments(path))):
            continue
        move(path, make_folder(folder, DAMAGED, path.parent.name) / path.name)


def clear_temporary(folder: Location) -> None:
    """Removes what writers that were killed left behind; files of living processes stay."""
    for path in [*left_behind(folder), *(file for name in TABLES for file in left_behind(folder / name))]:
        path.unlink(missing_ok=True)


def _shard(files: dict[str, Location]) -> Shard | Fault:
    path = files["runs"]
    try:
        record = read_footer(path)
        segments = segments_of(path, record)
        for table, file in files.items():
            refuse_columns(file, table, read_shard(file)[1])
        return Shard(record["task"]["id"], segments, files)
    except StoreError:
        raise
    except InputError as error:
        return Fault(path, ": ".join(filter(None, (error.where, error.message))))
