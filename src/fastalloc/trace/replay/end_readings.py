"""A prediction held against what the machine's slab counts were when the recording ended."""

from typing import Any, NamedTuple

import polars as pl

from fastalloc.trace.lanes.readings import Readings
from fastalloc.trace.replay.prediction import Prediction


class AtEnd(NamedTuple):
    """Pages of the caches that trace and readings both know; ``within_one``: share of those whose count changed or was
    predicted to change that are within one slab. ``worst``: cache, slabs predicted and real, most pages off first."""

    real_pages: int
    pages: int
    caches: int
    within_one: float
    worst: list[tuple[str, int, int]]

    @property
    def error(self) -> float:
        """Share by which the prediction is above the real pages."""
        return self.pages / self.real_pages - 1 if self.real_pages else 0.0

    def words(self) -> str:
        """One line."""
        return (
            f"at the end the kernel had {self.real_pages:,} pages in these caches, predicted {self.pages:,} "
            f"({100 * self.error:+.2f} %); {100 * self.within_one:.0f} % of {self.caches} caches that moved "
            "are within one slab"
        )

    def record(self) -> dict[str, Any]:
        """The same as plain data."""
        return {**self._asdict(), "error": self.error}


def against(prediction: Prediction, before: Readings, after: Readings) -> AtEnd:
    """``prediction`` of a trace that began with ``before`` against ``after``."""
    rows = []
    for name, order, end, begun in prediction.table().select("cache", "order", "end", "start_slabs").iter_rows():
        if name in after.caches and name in before.caches:
            real, was = sum(after.caches[name].slabs), sum(before.caches[name].slabs)
            rows.append((name, end, real, (real << order), (end << order), real != was or end != begun))
    columns = {"cache": pl.String, "end": pl.Int64, "real": pl.Int64, "real_pages": pl.Int64, "pages": pl.Int64,
               "moved": pl.Boolean}  # fmt: skip
    table = pl.DataFrame(rows, schema=columns, orient="row")
    moved = table.filter("moved")
    near = (moved["end"] - moved["real"]).abs() <= 1
    distance = (pl.col("pages") - pl.col("real_pages")).abs()
    off = table.filter(distance > 0).sort(distance, descending=True)
    worst = off.select("cache", "end", "real").head(10).rows()
    share = float(near.mean() or 0.0) if len(moved) else 1.0  # type: ignore[arg-type]
    return AtEnd(int(table["real_pages"].sum()), int(table["pages"].sum()), len(moved), share, worst)


__all__ = ["AtEnd", "against"]
