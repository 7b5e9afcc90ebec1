"""What got slower since the run before: by ratios taken in one run, or by instructions; seconds alone prove nothing."""

from collections.abc import Sequence

import polars as pl

from benchmarks.measure import Row

TOLERANCE = 0.1  # of a ratio, beyond the spread of both runs
FEWER_IS_BETTER = "instructions"


def slower(before: pl.DataFrame | None, rows: Sequence[Row]) -> list[str]:
    """A line for each row whose best ratio is a tenth below the worst of the run before, or which needs a tenth more
    instructions."""
    if before is None:
        return []
    known = {(row["work"], row["contestant"], row["versus"]): row for row in before.iter_rows(named=True)}
    found = []
    for row in rows:
        old = known.get((row.work, row.contestant, row.versus))
        if old is None:
            continue
        if row.ratio_high is not None and old["ratio_low"] is not None:
            if row.ratio_high < (1 - TOLERANCE) * old["ratio_low"]:
                told = f"{row.ratio:.3g} x {row.versus}, was {old['ratio']:.3g} x"
                found.append(f"{row.work}, {row.contestant}: {told}")
        elif row.unit.startswith(FEWER_IS_BETTER) and row.low > (1 + TOLERANCE) * old["high"]:
            found.append(f"{row.work}, {row.contestant}: {row.value:.4g} {row.unit}, was {old['value']:.4g}")
    return found
