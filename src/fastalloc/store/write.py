"""Writes a dataset: each shard whole or not at all."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from fastalloc.errors import InputError
from fastalloc.forked import refuse_forked
from fastalloc.kernels.alloc.state import DEPTH_NAMES
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.scenario import Scenario, Varied
from fastalloc.scenario.rules import rules_line, simplified
from fastalloc.store.location import Location, location, make_folder, write_file
from fastalloc.store.provenance import footer, provenance
from fastalloc.store.schema import TABLES, flat_parameters
from fastalloc.store.tables import StoredLane, events_table, ledger_table, runs_table, series_table

MANIFEST = "manifest.json"
SHARD_LANES = 64  # a shard holds the lanes 64 n .. 64 n + 63 of a variant, however they were computed


def own_file(scenario: Varied) -> dict[str, Any]:
    """Name and digest of the file of one's own that a variant runs, for a manifest; its text is in the scenario."""
    text, file, parameters = scenario.own
    if not text:
        return {}
    return {"own_policy": {"file": file, "sha256": text_digest(text), "parameters": dict(parameters)}}


def text_digest(text: str) -> str:
    """SHA-256 of the text of a file of one's own, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def altered_texts(manifest: Mapping[str, Any]) -> list[str]:
    """Files of one's own whose digest in a manifest is that of no text in it: somebody changed one of them."""
    try:
        scenario = manifest["scenario"]
        texts = [
            scenario["policy"].get("questions"),
            *(each["set"].get("policy.questions") for each in scenario["variants"]),
        ]
        told = [each["own_policy"] for each in manifest["variants"] if "own_policy" in each]
        known = {text_digest(text) for text in texts if isinstance(text, str)}
        return [str(each["file"]) for each in told if each["sha256"] not in known]
    except (AttributeError, LookupError, TypeError):  # damaged, which its readers tell
        return []


def refuse_others(path: Location, but: Sequence[str] = ()) -> None:
    """Raise InputError for a folder on a disk with files of somebody else, which a dataset could overwrite."""
    if isinstance(path, Path) and path.is_dir():
        known = {*TABLES, *but}
        others = sorted(each.name for each in path.iterdir() if each.name not in known and each.name[0] != ".")
        if others:
            more = ", ..." if len(others) > 1 else ""
            raise InputError(path, "", f"holds other files ({others[0]}{more}); name another folder, or an empty one")


def _refuse_taken(path: Location) -> None:
    """Raise InputError for a folder that holds lanes, or files of somebody else that a dataset could overwrite."""
    if (path / MANIFEST).exists():
        try:
            manifest = json.loads((path / MANIFEST).read_bytes())
            status, lanes = manifest["status"], bool(manifest["files"])
        except (OSError, ValueError, LookupError, TypeError):  # damaged, which its readers tell
            status, lanes = "complete", True
        if status == "interrupted" and not lanes:
            return
        left = "" if status == "complete" else f" ({status}: a run does not go on with it)"
        raise InputError(path, "", f"holds a dataset already{left}; name another folder")
    refuse_others(path)


class DatasetWriter:
    """Collects finished lanes and writes them in shards.

    Args:
        path: the dataset's folder, on a disk or in a store; made if missing.
        scenario: as asked, with its lanes and seed.
        variants: names of the variants that will be run.
        command: what makes the dataset again.

    Raises:
        InputError: the folder holds a dataset or other files already, or cannot be written.
    """

    def __init__(self, path: str | Location, scenario: Scenario, variants: Sequence[str], command: str) -> None:
        refuse_forked(str(path))
        self.path = location(path)
        self.scenario = scenario
        _refuse_taken(self.path)
        for table in TABLES:
            make_folder(self.path, table)
        self._pending: list[tuple[int, Any]] = []
        self._variant = ""
        self._variants = list(variants)
        self._parameters: dict[str, Any] = {}
        for name in variants:
            self._parameters |= flat_parameters(scenario.variant(name))
        self.manifest = provenance(scenario, scenario.run.seed) | {
            "command": command,
            "variants": [
                {
                    "name": name,
                    "title": variant.title,
                    "lanes": 0,
                    "rules": rules_line(scenario.variant(name)),
                    **own_file(scenario.variant(name)),
                }
                for name in variants
                for variant in scenario.variants
                if variant.name == name
            ],
            "simplified": simplified([scenario.variant(name).machine for name in variants]),
            "lanes": scenario.run.lanes,
            "files": {},  # 16 hexadecimal digits of the SHA-256 of each shard
            "status": "running",
            "depths": list(DEPTH_NAMES),
            "who": list(WHO.names),
        }
        scenario_data = scenario.model_dump(exclude_none=True)
        write_file(self.path / "scenario.toml", tomli_w.dumps(scenario_data).encode())
        self._write_manifest()

    def start_variant(self, name: str) -> None:
        """The lanes added from now on belong to this variant."""
        self.flush()
        self._variant = name
        self._lane_scenario = self.scenario.variant(name)

    def add(self, result: Any) -> None:
        """Takes a finished lane (a ``LaneResult``) of the present variant, in lane order."""
        if self._pending and result.lane // SHARD_LANES != self._pending[0][1].lane // SHARD_LANES:
            self.flush()
        lane_id = self._variants.index(self._variant) * self.scenario.run.lanes + result.lane
        self._pending.append((lane_id, result))

    def add_broken(self, lane: Any, lane_id: int) -> None:
        """Takes note of a lane that broke (a ``batch.Broken``), which has no row."""
        again = shlex.join(["fastalloc", "rerun", str(self.path), str(lane_id), "--debug"])
        record = {"id": lane_id, "state": "broken"} | asdict(lane) | {"told": str(lane), "again": again}
        self.manifest.setdefault("broken", []).append(record)
        self._write_manifest()

    def flush(self) -> None:
        """Writes the lanes not yet written."""
        if not self._pending:
            return
        record = footer(provenance(self._lane_scenario, self.scenario.run.seed))
        name = f"{self._variant}-{self._pending[0][1].lane // SHARD_LANES:06d}.parquet"
        parameters = flat_parameters(self._lane_scenario)
        columns = {**self._parameters, **parameters}  # a parameter of one variant's own policy is a column of all
        lanes = [
            StoredLane(lane_id, self._variant, self.scenario.run.seed, parameters, result)
            for lane_id, result in self._pending
        ]
        tables = {
            "series": series_table(lanes),
            "events": events_table(lanes),
            "ledger": ledger_table(lanes),
            "runs": runs_table(lanes, columns),  # last: a lane with a row here has its other rows too
        }
        for table, rows in tables.items():
            content = parquet_bytes(rows.replace_schema_metadata(record))
            write_file(self.path / table / name, content)
            self.manifest["files"][f"{table}/{name}"] = hashlib.sha256(content).hexdigest()[:16]
        for entry in self.manifest["variants"]:
            if entry["name"] == self._variant:
                entry["lanes"] += len(self._pending)
        self._pending = []
        self._write_manifest()

    def close(self, status: str, timing: dict[str, Any]) -> None:
        """Writes what is left and the final manifest; ``status`` is ``complete`` or ``interrupted``."""
        self.flush()
        self.manifest |= {"status": status, "timing": timing}
        self._write_manifest()

    def _write_manifest(self) -> None:
        write_file(self.path / MANIFEST, json.dumps(self.manifest, indent=1).encode() + b"\n")


def write_parquet(path: Location, table: pa.Table) -> None:
    """Writes a shard, whole or not at all."""
    write_file(path, parquet_bytes(table))


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """A table as a Parquet file in memory."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()
