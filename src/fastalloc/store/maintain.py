"""Puts the datasets of one sweep, or the many small shards of one, together."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fastalloc.errors import InputError, reader
from fastalloc.store.check import Check, check_dataset
from fastalloc.store.location import Location, location, make_folder, open_input, whole_file, write_file
from fastalloc.store.read import open_manifest, read_footer
from fastalloc.store.schema import TABLES
from fastalloc.store.segments import Segment, overlapping
from fastalloc.store.shards import Shard, encode_shard, scan_shards, store_shard
from fastalloc.store.write import MANIFEST

COMPACT_LANES = 65_536  # a shard


@reader("cannot be merged")
def merge_datasets(sources: Sequence[str | Location], out: str | Location) -> Check:
    """Writes the tasks of datasets of one sweep into a new dataset of few large shards; a task held twice goes once.

    The sources stay as they are: what is killed half way leaves them whole and ``out`` without a manifest.

    Raises:
        InputError: a source is no sweep, is damaged, or is of another sweep; or ``out`` is there already.
    """
    folders, out = [location(source) for source in sources], location(out)
    manifests = [open_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        if manifest.get("kind") != "sweep":
            raise InputError(folder, "", "is not the dataset of a sweep")
        if manifest["sweep"]["id"] != manifests[0]["sweep"]["id"]:
            raise InputError(folder, "", f"holds another sweep than {folders[0]}")
    if isinstance(out, Path) and out.is_file():
        raise InputError(out, "", "is a file; name a folder")
    if out.exists() and any(out.iterdir()):
        raise InputError(out, "", "is not empty; name another folder")
    shards: dict[str, Shard] = {}
    for folder, manifest in zip(folders, manifests, strict=True):
        scan = scan_shards(folder, manifest["tables"])
        if scan.faults:
            raise InputError(scan.faults[0].path, "", f"{scan.faults[0].message}; run the sweep again to mend it")
        shards |= {shard.task: shard for shard in scan.sound}
    ordered = sorted(shards.values(), key=lambda shard: (shard.segments[0].point, shard.segments[0].begin))
    for path, other in overlapping((shard.files["runs"], shard.segments) for shard in ordered).items():
        raise InputError(path, "", f"holds lanes that {other} holds too, cut into other tasks")
    tables = manifests[0]["tables"]
    for name in tables:
        make_folder(out, name)
    try:
        write_file(out / "sweep.toml", whole_file(folders[0] / "sweep.toml"))
    except OSError as error:
        raise InputError(out, "", f"cannot be written: {error.strerror or error}") from None
    for group in _groups(ordered):
        _write_group(group, out)
    # a stopping rule is judged by the sweep itself, which finds nothing left to run
    done = sum(part.end - part.begin for shard in ordered for part in shard.segments)
    whole = done == manifests[0]["sweep"]["points"] * manifests[0]["lanes"]
    status = "complete" if whole or all(found["status"] == "complete" for found in manifests) else "running"
    manifest = {key: value for key, value in manifests[0].items() if key != "timing"} | {"status": status}
    write_file(out / MANIFEST, json.dumps(manifest, indent=1).encode() + b"\n")
    return check_dataset(out)


def _groups(shards: Sequence[Shard]) -> list[list[Shard]]:
    groups: list[list[Shard]] = [[]]
    lanes = 0
    for shard in shards:
        own = sum(part.end - part.begin for part in shard.segments)
        if groups[-1] and lanes + own > COMPACT_LANES:
            groups.append([])
            lanes = 0
        groups[-1].append(shard)
        lanes += own
    return [group for group in groups if group]


def _write_group(group: Sequence[Shard], out: Location) -> None:
    segments: list[Segment] = sorted(
        (part for shard in group for part in shard.segments), key=lambda part: (part.point, part.begin)
    )
    text = json.dumps([[part.identity, part.begin, part.end] for part in segments])
    task = hashlib.sha256(text.encode()).hexdigest()
    record = read_footer(group[0].files["runs"])
    record.pop("task")
    tables = {}
    for name in TABLES:
        if name in group[0].files:
            parts = [_table(shard.files[name]).replace_schema_metadata(None) for shard in group]
            tables[name] = pa.concat_tables(parts).sort_by("id") if name == "runs" else pa.concat_tables(parts)
    store_shard(out, task, encode_shard(task, segments, tables, record))


def _table(path: Location) -> pa.Table:
    with open_input(path) as file:
        return pq.read_table(file)
