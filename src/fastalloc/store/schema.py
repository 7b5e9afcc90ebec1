"""The tables of a dataset and the Arrow schemas of their shards."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from fastalloc.kernels.lane.metrics import EVENT_COLUMNS, METRIC, SERIES
from fastalloc.scenario import Scenario

TABLES = ("runs", "series", "events", "ledger")

# Every table begins with the lane: ``id`` counts through the dataset, ``lane`` through the variant.
LANE_FIELDS = [pa.field("id", pa.int64()), pa.field("variant", pa.string()), pa.field("lane", pa.int64())]

SERIES_SCHEMA = pa.schema([*LANE_FIELDS, *(pa.field(name, pa.int64()) for name in SERIES.names)])
EVENTS_SCHEMA = pa.schema(
    [*LANE_FIELDS, *(pa.field(name, pa.string() if name == "kind" else pa.int64()) for name in EVENT_COLUMNS)]
)
LEDGER_SCHEMA = pa.schema(
    [
        *LANE_FIELDS,
        pa.field("owner", pa.string()),  # who asked when the slab was allocated
        pa.field("depth", pa.string()),  # how deep into the reserve the page was
        pa.field("taker", pa.string()),  # who took slots of it
        pa.field("objects", pa.int64()),
    ]
)


def runs_schema(
    parameters: Mapping[str, Any], pointed: bool = False, metrics: Sequence[str] = METRIC.names
) -> pa.Schema:
    """A row a lane: lane, its point where it is one of a sweep, seed, every parameter by dotted name, every metric."""
    return pa.schema(
        [
            *LANE_FIELDS,
            *([pa.field("point", pa.int64())] if pointed else []),
            pa.field("seed", pa.int64()),
            *(pa.field(name, _type(value)) for name, value in parameters.items()),
            *(pa.field(name, pa.int64()) for name in metrics),
        ]
    )


def flat_parameters(scenario: Scenario) -> dict[str, Any]:
    """Every parameter of a scenario under its dotted name; zones by their own names, lists joined by commas.

    Left to the footer are ``variants``, ``run.lanes`` and ``run.seed`` (told by the row), and lists of tables: imported
    slab caches, slabs at boot, bursts.
    """
    data = scenario.model_dump(
        exclude={
            "variants": True,
            "run": {"lanes", "seed"},
            "machine": {"slab_caches", "boot_slabs"},
            "workload": {"bursts"},
        }
    )
    zones = data["machine"].pop("zones")
    for key, value in data["policy"].items():
        if isinstance(value, list):  # of users or sizes, often empty: one type of column whatever it holds
            data["policy"][key] = ",".join(map(str, value))
    data["policy"] |= data["policy"].pop("parameters")
    flat = dict(_flatten("", data))
    for zone, label in zip(zones, scenario.machine.zone_labels, strict=True):
        del zone["name"]
        flat.update(_flatten(f"machine.zones.{label}.", zone))
    return flat


def _flatten(prefix: str, data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, dict):
            rows += _flatten(f"{prefix}{key}.", value)
        else:
            rows.append((prefix + key, value))
    return rows


def _type(value: Any) -> pa.DataType:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, list):
        return pa.list_(pa.int64())
    return pa.int64()  # and what is not given
