"""The tables of a dataset and the Arrow schemas of their shards."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fastalloc.errors import InputError
from fastalloc.foreign import refuse_doubled
from fastalloc.kernels.alloc.state import DEPTH_NAMES
from fastalloc.kernels.lane.metrics import EVENT_ROW, METRIC, SERIES
from fastalloc.scenario import Scenario

TABLES = ("runs", "series", "events", "ledger")

# Every table begins with the lane: ``id`` counts through the dataset, ``lane`` through the variant.
LANE_FIELDS = [pa.field("id", pa.int64()), pa.field("variant", pa.string()), pa.field("lane", pa.int64())]

SERIES_SCHEMA = pa.schema([*LANE_FIELDS, *(pa.field(name, pa.int64()) for name in SERIES.names)])
EVENTS_SCHEMA = pa.schema(
    [*LANE_FIELDS, *(pa.field(name, pa.string() if name == "kind" else pa.int64()) for name in EVENT_ROW.names)]
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
_FIELDS = {"series": SERIES_SCHEMA, "events": EVENTS_SCHEMA, "ledger": LEDGER_SCHEMA}
_TEXTS = (pa.string(), pa.large_string())
_WHOLE = frozenset(("point", "seed", *METRIC.names))  # of runs/
_METRICS = frozenset(METRIC.names)
MOST_MEASURED = 1 << 52  # bytes of the largest machine; the longest lane has 2^47 ns
_MOST = {"livelock_5s": 1, "livelock_60s": 1, "livelock_open": 1, "deepest": len(DEPTH_NAMES) - 1}
_OF_PARAMETERS = (*_TEXTS, pa.bool_(), pa.int64(), pa.float64(), pa.list_(pa.int64()))


def refuse_columns(path: object, table: str, schema: pa.Schema) -> None:
    """Raise InputError, naming file and column, where a shard has not the columns of its table in their types.

    A metric that an older version did not measure may be missing; parameters may be of any type that one has.
    """
    names = schema.names
    refuse_doubled(path, names)
    for field in _FIELDS.get(table, [*LANE_FIELDS, pa.field("seed", pa.int64())]):
        if field.name not in names:
            raise InputError(path, field.name, "column is missing")
    kinds = {field.name: field.type for field in (*LANE_FIELDS, *_FIELDS.get(table, ()))}
    for field in schema:
        wanted = kinds.get(field.name) or (pa.int64() if field.name in _WHOLE else None)
        allowed = (wanted,) if wanted is not None else _OF_PARAMETERS
        if field.type not in (_TEXTS if wanted == pa.string() else allowed):
            raise InputError(path, field.name, f"holds {field.type}, not {wanted or 'a parameter'}")


def filled_columns(names: Sequence[str], table: str) -> list[str]:
    """The columns that have a value in every row: all but the parameters, which other variants may have."""
    own = [field.name for field in LANE_FIELDS]
    return [name for name in names if table in _FIELDS or name in own or name in _WHOLE]


def refuse_values(path: object, table: str, rows: pa.Table) -> None:
    """Raise InputError, naming file and column, where a row of a shard is empty or holds what no lane measures."""
    for name in filled_columns(rows.column_names, table):
        if rows[name].null_count:
            raise InputError(path, name, "is empty in a row")
        if table != "runs" or name not in _METRICS or not len(rows):
            continue
        least, most = pc.min_max(rows[name]).as_py().values()
        if least < -1 or most > _MOST.get(name, MOST_MEASURED):
            raise InputError(path, name, f"holds {least if least < -1 else most:,}, which no lane measures")


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

    Left to the footer are ``variants``, ``run.lanes`` and ``run.seed`` (told by the row), and lists: imported slab
    caches, slabs at boot, bursts, when each task starts.
    """
    data = scenario.model_dump(
        exclude={
            "variants": True,
            "run": {"lanes", "seed"},
            "machine": {"slab_caches", "boot_slabs"},
            "workload": {"bursts", "start_ms"},
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
