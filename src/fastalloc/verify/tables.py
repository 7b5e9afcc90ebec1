"""What a table check reports, shared by all of them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from fastalloc.errors import InputError


@dataclass(frozen=True)
class Difference:
    """The first row that came out otherwise; ``row`` counts from 0 among the rows of the table."""

    row: int
    column: str
    expected: Any
    got: Any


@dataclass(frozen=True)
class Underivable:
    """A row whose answer does not follow from what the tables hold, and why."""

    row: int
    name: str
    reason: str


@dataclass
class TableResult:
    """One table: ``rows`` compared, ``exact`` of them, the first difference, and the rows left out with reasons."""

    name: str
    rows: int = 0
    exact: int = 0
    first: Difference | None = None
    underivable: list[Underivable] = field(default_factory=list)
    kernels: str = ""  # whose rules ran, as the table of kernels names them

    @property
    def ok(self) -> bool:
        """Every compared row is exact."""
        return self.rows == self.exact

    def compare(self, row: int, expected: Mapping[str, Any], got: Mapping[str, Any]) -> None:
        """Count one row; all columns of ``expected`` must agree."""
        self.rows += 1
        for column, value in expected.items():
            if got.get(column) != value:
                if self.first is None:
                    self.first = Difference(row, column, value, got.get(column))
                return
        self.exact += 1


def require(path: Path, table: pl.DataFrame, *names: str) -> None:
    """Raise InputError for the first of the columns ``names`` that a table lacks."""
    for name in names:
        if name not in table.columns:
            raise InputError(path, name, "column is missing")


def compare_rows(
    name: str,
    rows: Iterable[Mapping[str, Any]],
    keys: tuple[str, ...],
    answer: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> TableResult:
    """Check each row's other columns against ``answer(row)``; ``keys`` are the columns that are asked, not checked."""
    result = TableResult(name)
    for i, row in enumerate(rows):
        result.compare(i, {column: value for column, value in row.items() if column not in keys}, answer(row))
    return result
