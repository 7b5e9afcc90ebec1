"""Runs golden cases and compares every row of every table with what the real code did."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.verify.golden_case import LATER_BUILD, GoldenCase, read_table
from fastalloc.verify.lane import Lane, OverflowedError, Row
from fastalloc.verify.later_lane import LaterLane
from fastalloc.verify.slab_lane import SlabLane
from fastalloc.verify.slob_lane import SlobLane
from fastalloc.verify.slub_lane import SlubLane
from fastalloc.verify.tables import Difference, TableResult

BUILD = re.compile(r"(slub|slab|slob)(\d+)(_nodebug)?(_numa2)?")
KEYS = ("ckpt", "op_index")


@dataclass
class CaseResult:
    """One case on one build: a result for each table. ``fault``: why there is none, of input that cannot be read."""

    case: str
    build: str
    tables: list[TableResult] = field(default_factory=list)
    fault: InputError | None = None

    @property
    def rows(self) -> int:
        """Rows compared."""
        return sum(table.rows for table in self.tables)

    @property
    def exact(self) -> int:
        """Rows that agree in every column."""
        return sum(table.exact for table in self.tables)

    @property
    def ok(self) -> bool:
        """It was read, and every row is exact."""
        return self.fault is None and all(table.ok for table in self.tables)


def lane_of(case: GoldenCase, build: str) -> Callable[[int], Lane]:
    """The machine of a build, as a function of how much room its arrays have."""
    later = LATER_BUILD.fullmatch(build)
    if later:
        rules, version, numa = later[1], f"{later[2]}.{later[3]}", 2 if later[4] else 1
        return lambda room: LaterLane(case, build, rules, version, numa, room)
    match = BUILD.fullmatch(build)
    if match is None:
        raise InputError(case.path / build, "", "an unknown build")
    line, nodes, debug = int(match[2]), 2 if match[4] else 1, not match[3]
    if match[1] == "slub":
        return lambda room: SlubLane(case, nodes, line, debug, room)
    if match[1] == "slab":
        return lambda room: SlabLane(case, build, nodes, line, room)
    return lambda room: SlobLane(case, line, room)


MOST_ROOM = 1 << 24  # slabs


def run_case(case: GoldenCase, build: str) -> Lane:
    """Run a case on a build; the lane holds what was recorded."""
    make = lane_of(case, build)
    room = 4096
    while True:
        try:
            lane = make(room)
            lane.run()
        except OverflowedError:
            room *= 4
            if room > MOST_ROOM:
                raise InputError(case.path, build, f"needs more than {MOST_ROOM:,} slabs") from None
        except InputError:
            raise
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(case.path, build, f"cannot be set up: {type(error).__name__}: {error}") from error
        else:
            return lane


def compare_ops(path: Path, lane: Lane) -> TableResult:
    """The per-operation table; columns that the recording lacks are not compared."""
    table = read_table(path, ("res", "path"))
    if table.height != lane.case.rows:
        raise InputError(path, "", f"{table.height} rows for a trace of {lane.case.rows}")
    for column in ("res", "path", "slab", "idx"):
        if column in table.columns and not table[column].dtype.is_integer():
            raise InputError(path, f"column {column}", f"holds {table[column].dtype}, not integers")
    result = TableResult("ops", table.height)
    wrong = np.zeros(table.height, dtype=bool)
    for column in ("res", "path", "slab", "idx"):
        if column in table.columns:
            wrong |= table[column].to_numpy() != getattr(lane.play, column)
    result.exact = table.height - int(wrong.sum())
    if wrong.any():
        row = int(np.argmax(wrong))
        for column in ("res", "path", "slab", "idx"):
            if column in table.columns and table[column][row] != getattr(lane.play, column)[row]:
                result.first = Difference(row, column, table[column][row], int(getattr(lane.play, column)[row]))
                break
    return result


def compare_state(path: Path, name: str, got: list[Row]) -> TableResult:
    """A checkpoint table: the same rows in the same order, every column of the recording."""
    expected = read_table(path, () if name == "geometry" else KEYS)
    result = TableResult(name)
    result.rows = max(expected.height, len(got))
    columns = expected.columns
    if got:
        absent = [column for column in columns if column not in got[0]]
        if absent:
            raise InputError(path, f"column {absent[0]}", "belongs to no table of this kind")
    both = min(expected.height, len(got))
    equal = np.ones(both, dtype=bool)
    for column in columns:
        mine = pl.Series(column, [row[column] for row in got[:both]]).cast(pl.String)
        equal &= expected[column][:both].cast(pl.String).eq_missing(mine).to_numpy()
    result.exact = int(equal.sum())
    if not equal.all():
        row = int(np.argmin(equal))
        for column in columns:
            value = expected[column][row]
            if (None if value is None else str(value)) != (None if got[row][column] is None else str(got[row][column])):
                result.first = Difference(row, column, value, got[row][column])
                break
    elif result.rows > both:
        result.first = Difference(both, "row", both < expected.height, both < len(got))
    return result


def verify_build(case: GoldenCase, build: str) -> CaseResult:
    """Run one case on one build and compare all its tables."""
    lane = run_case(case, build)
    folder = case.path / build
    result = CaseResult(case.name, build, [compare_ops(folder / "ops.parquet", lane)])
    if "init" in lane.tables:
        start = TableResult("init")
        for row, entry in enumerate(lane.tables["init"]):
            start.compare(row, entry["expected"], entry["got"])
        result.tables.append(start)
    for name in sorted(path.stem for path in folder.glob("*.parquet") if path.stem != "ops"):
        if name not in lane.tables:
            raise InputError(folder / f"{name}.parquet", "", "no table of this build")
        result.tables.append(compare_state(folder / f"{name}.parquet", name, lane.tables[name]))
    return result
