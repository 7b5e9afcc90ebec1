"""Finished lanes to Arrow tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fastalloc.kernels.alloc.state import DEPTH_NAMES
from fastalloc.kernels.lane.metrics import EVENT, EVENT_ROW, METRIC, SERIES, WHO
from fastalloc.store.schema import EVENTS_SCHEMA, LEDGER_SCHEMA, SERIES_SCHEMA, runs_schema


class StoredLane(NamedTuple):
    """A finished lane and what its rows say about it."""

    id: int
    variant: str
    seed: int
    parameters: Mapping[str, Any]  # dotted name -> value
    result: Any  # a ``LaneResult``
    point: int | None = None  # of a sweep


def runs_table(
    lanes: Sequence[StoredLane], columns: Mapping[str, Any], metrics: Sequence[str] = METRIC.names
) -> pa.Table:
    """A row a lane.

    Args:
        columns: the parameters to store with a value of each, from which its type is told; a lane that lacks one
            holds null.
        metrics: names of what each lane's result measured, in its order.
    """
    values = np.array([lane.result.metrics for lane in lanes], np.int64)
    data: dict[str, Any] = _lane_columns(lanes, [1] * len(lanes))
    pointed = lanes[0].point is not None
    if pointed:
        data["point"] = np.array([lane.point for lane in lanes], np.int64)
    data["seed"] = np.array([lane.seed for lane in lanes], np.int64)
    data |= {name: [lane.parameters.get(name) for lane in lanes] for name in columns}
    data |= {name: values[:, i] for i, name in enumerate(metrics)}
    return pa.table(data, schema=runs_schema(columns, pointed, metrics))


def series_table(lanes: Sequence[StoredLane]) -> pa.Table:
    """Gauges over time, a row a sample."""
    rows = [lane.result.series for lane in lanes]
    values = np.concatenate(rows)
    columns = _lane_columns(lanes, [len(part) for part in rows])
    return pa.table(columns | {name: values[:, i] for i, name in enumerate(SERIES.names)}, schema=SERIES_SCHEMA)


def events_table(lanes: Sequence[StoredLane]) -> pa.Table:
    """A row an event."""
    rows = [lane.result.events for lane in lanes]
    columns = _lane_columns(lanes, [len(part) for part in rows])
    return pa.table(columns | event_columns(np.concatenate(rows)), schema=EVENTS_SCHEMA)


def ledger_table(lanes: Sequence[StoredLane]) -> pa.Table:
    """A row an owner, depth and taker that met."""
    found = [np.argwhere(lane.result.ledger) for lane in lanes]
    where = np.concatenate(found)
    objects = [lane.result.ledger[tuple(at.T)] for at, lane in zip(found, lanes, strict=True)]
    columns = _lane_columns(lanes, [len(part) for part in found]) | {
        "owner": np.array(WHO.names)[where[:, 0]],
        "depth": np.array(DEPTH_NAMES)[where[:, 1]],
        "taker": np.array(WHO.names)[where[:, 2]],
        "objects": np.concatenate(objects).astype(np.int64),
    }
    return pa.table(columns, schema=LEDGER_SCHEMA)


def event_columns(events: np.ndarray) -> dict[str, np.ndarray]:
    """Event rows, int64[n, EVENT_ROW.width], as columns with the kind by name."""
    columns = {name: events[:, i] for i, name in enumerate(EVENT_ROW.names)}
    return columns | {"kind": np.array(EVENT.names)[events[:, EVENT_ROW.kind]]}


def _lane_columns(lanes: Sequence[StoredLane], counts: Sequence[int]) -> dict[str, Any]:
    ids = np.repeat(np.array([lane.id for lane in lanes], np.int64), counts)
    numbers = np.repeat(np.array([lane.result.lane for lane in lanes], np.int64), counts)
    variants = np.repeat(np.array([lane.variant for lane in lanes], object), counts)
    return {"id": ids, "variant": variants, "lane": numbers}
