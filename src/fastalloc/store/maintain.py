"""Checks the dataset of a sweep, and puts several, or many small shards, together."""

import hashlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fastalloc.errors import InputError
from fastalloc.store.read import open_dataset, read_footer
from fastalloc.store.schema import TABLES
from fastalloc.store.shards import Fault, Segment, Shard, encode_shard, scan_shards, store_shard
from fastalloc.store.write import MANIFEST, write_file

COMPACT_LANES = 65_536  # a shard


class Check(NamedTuple):
    """What a check found."""

    shards: int
    lanes: int
    bytes: int
    faults: list[Fault]


def check_dataset(path: str | Path) -> Check:
    """Reads every file of a dataset whole.

    A sweep's files are compared with the digests in their names, tasks with the tables they must have, and lanes must
    be there once. The files of a run carry no digest; they must be readable, and lanes must be there once.

    Raises:
        InputError: the folder holds no dataset.
    """
    path = Path(path)
    manifest = _manifest(path)
    faults: list[Fault] = []
    if manifest.get("kind") == "sweep":
        scan = scan_shards(path, manifest["tables"])
        shards, faults = [shard.files["runs"] for shard in scan.sound], list(scan.faults)
        told = {fault.path for fault in faults}
        faults += [Fault(stray, "its task is not finished") for stray in scan.strays if stray not in told]
    else:
        shards = sorted((path / "runs").glob("*.parquet"))
    seen: Counter[int] = Counter()
    size = 0
    for shard in shards:
        try:
            read_footer(shard)
            seen.update(pq.read_table(shard)["id"].to_pylist())
            size += shard.stat().st_size
        except (OSError, KeyError, pa.ArrowException, InputError) as error:
            faults.append(Fault(shard, str(error).splitlines()[0]))
    twice = sum(count > 1 for count in seen.values())
    if twice:
        faults.append(Fault(path / "runs", f"{twice:,} lanes are there more than once"))
    return Check(len(shards), len(seen), size, faults)


def merge_datasets(sources: Sequence[str | Path], out: str | Path) -> Check:
    """Writes the tasks of datasets of one sweep into a new dataset of few large shards; a task held twice goes once.

    The sources stay as they are: what is killed half way leaves them whole and ``out`` without a manifest.

    Raises:
        InputError: a source is no sweep, is damaged, or is of another sweep; or ``out`` is there already.
    """
    folders, out = [Path(source) for source in sources], Path(out)
    manifests = [_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        if manifest.get("kind") != "sweep":
            raise InputError(folder, "", "is not the dataset of a sweep")
        if manifest["sweep"]["id"] != manifests[0]["sweep"]["id"]:
            raise InputError(folder, "", f"holds another sweep than {folders[0]}")
    if out.exists() and any(out.iterdir()):
        raise InputError(out, "", "is not empty; name another folder")
    shards: dict[str, Shard] = {}
    for folder, manifest in zip(folders, manifests, strict=True):
        scan = scan_shards(folder, manifest["tables"])
        if scan.faults:
            raise InputError(scan.faults[0].path, "", f"{scan.faults[0].message}; run the sweep again to mend it")
        shards |= {shard.task: shard for shard in scan.sound}
    ordered = sorted(shards.values(), key=lambda shard: (shard.segments[0].point, shard.segments[0].begin))
    _refuse_overlap(ordered, out)
    tables = manifests[0]["tables"]
    try:
        for name in tables:
            (out / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folders[0] / "sweep.toml", out / "sweep.toml")
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


def _manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.exists():
        open_dataset(path)  # says what is missing
    manifest: dict[str, Any] = json.loads(file.read_bytes())
    return manifest


def _refuse_overlap(shards: Sequence[Shard], out: Path) -> None:
    spans = sorted((part.point, part.begin, part.end) for shard in shards for part in shard.segments)
    for (point, _, end), (other, begin, _) in itertools.pairwise(spans):
        if point == other and begin < end:
            raise InputError(out, "", f"lanes of point {point} are in two different tasks of the sources")


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


def _write_group(group: Sequence[Shard], out: Path) -> None:
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
            parts = [pq.read_table(shard.files[name]).replace_schema_metadata(None) for shard in group]
            tables[name] = pa.concat_tables(parts).sort_by("id") if name == "runs" else pa.concat_tables(parts)
    store_shard(out, task, encode_shard(task, segments, tables, record))
