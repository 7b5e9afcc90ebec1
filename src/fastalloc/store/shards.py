"""The shards of a sweep: named by their task and by what they hold, so that damage shows.

``runs/TASK.DIGEST.parquet``: the first 32 hexadecimal digits of the task's identity and 16 of the SHA-256 of the file.
Other tables of the task carry its name too, and are written before ``runs/``: a task is done when its rows are there.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from fastalloc.errors import InputError
from fastalloc.store.provenance import footer
from fastalloc.store.read import read_footer
from fastalloc.store.schema import TABLES
from fastalloc.store.write import parquet_bytes, write_file

DAMAGED = "damaged"  # where files that cannot be trusted are moved


class Segment(NamedTuple):
    """Lanes ``begin`` to ``end - 1`` of a point."""

    point: int
    identity: str
    variant: str
    settings: dict[str, Any]  # on top of the variant
    begin: int
    end: int
    livelocks: int  # lanes livelocked for more than 5 s


class Shard(NamedTuple):
    """A finished task on disk."""

    task: str
    segments: list[Segment]
    files: dict[str, Path]  # by table


class Fault(NamedTuple):
    """A file that cannot be trusted, or is missing."""

    path: Path
    message: str


class Scan(NamedTuple):
    """What a dataset's folder holds."""

    sound: list[Shard]
    faults: list[Fault]
    strays: list[Path]  # files of tasks that are not done, or are faulty


def encode_shard(
    task: str, segments: Sequence[Segment], tables: Mapping[str, pa.Table], origin: Mapping[str, Any]
) -> dict[str, bytes]:
    """The tables of a task as Parquet files in memory; ``origin`` is the provenance for their footers."""
    record = footer({**origin, "task": {"id": task, "segments": [list(segment) for segment in segments]}})
    return {name: parquet_bytes(table.replace_schema_metadata(record)).to_pybytes() for name, table in tables.items()}


def store_shard(folder: Path, task: str, files: Mapping[str, bytes]) -> None:
    """Writes the files of a task, ``runs`` last.

    Raises:
        InputError: a file cannot be written.
    """
    for name in reversed(TABLES):
        if name in files:
            digest = hashlib.sha256(files[name]).hexdigest()
            write_file(folder / name / f"{task[:32]}.{digest[:16]}.parquet", files[name])


def damage(path: Path) -> str:
    """What is wrong with a file, as its name tells; empty when nothing is."""
    parts = path.name.split(".")
    if len(parts) != 3:
        return "its name is not that of a task"
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return error.strerror or str(error)
    return "" if digest.startswith(parts[1]) else "damaged: its content is not what its name says"


def scan_shards(folder: Path, tables: Sequence[str]) -> Scan:
    """Reads and verifies every file of a sweep's dataset; ``tables`` are those that a task must have."""
    files: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for name in TABLES:
        for path in sorted((folder / name).glob("*.parquet")):
            files[path.name.split(".")[0]][name].append(path)
    sound, faults, strays = [], [], []
    for _, by_table in sorted(files.items()):
        every = [path for paths in by_table.values() for path in paths]
        found = [Fault(path, fault) for path in every if (fault := damage(path))]
        found += [Fault(paths[1], "a second file of its task") for paths in by_table.values() if len(paths) > 1]
        if "runs" in by_table:
            missing = [name for name in tables if name not in by_table]
            found += [Fault(by_table["runs"][0], f"its task has no shard in {name}/") for name in missing]
        faults += found
        if found or "runs" not in by_table:
            strays += every
            continue
        try:
            sound.append(_shard({name: paths[0] for name, paths in by_table.items()}))
        except InputError as error:
            faults.append(Fault(by_table["runs"][0], error.message))
            strays += every
    return Scan(sound, faults, strays)


def shard_segments(path: Path) -> list[Segment]:
    """The lanes that a file holds, as its footer tells.

    Raises:
        InputError: unreadable, or not of a sweep.
    """
    record = read_footer(path)
    if "task" not in record:
        raise InputError(path, "footer", "not a shard of a sweep")
    return [Segment(*segment) for segment in record["task"]["segments"]]


def set_aside(folder: Path, paths: Sequence[Path], mine: Callable[[Segment], bool] | None = None) -> None:
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
        target = folder / DAMAGED / path.parent.name / path.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
        except OSError as error:
            raise InputError(path, "", f"cannot be moved: {error.strerror or error}") from None


def clear_temporary(folder: Path) -> None:
    """Removes what writers that were killed left behind; files of living processes stay."""
    for path in [*folder.glob(".*.*"), *(file for name in TABLES for file in (folder / name).glob(".*.*"))]:
        pid = path.suffix[1:]
        if pid.isdigit() and not _alive(int(pid)):
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _shard(files: dict[str, Path]) -> Shard:
    record = read_footer(files["runs"])
    return Shard(record.get("task", {}).get("id", ""), shard_segments(files["runs"]), files)
