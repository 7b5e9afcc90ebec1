"""Whose objects lie in slabs that kswapd bought: the trace of a rule that no event shows.

    python benchmarks/reserve_slabs.py FOLDER CACHE RUN [RUN ...]

From 3.6 on a slab bought below all watermarks is passed over by callers without that right [pfmemalloc_match]. kswapd
has it, but whether a purchase of its went that deep is in no event. The addresses show it afterwards: of the first
objects of a slab, either about half go to other tasks, or none do. FOLDER holds RUN.events.parquet, .slabtruth.parquet
and .summary.csv; printed is, for each buyer, how many slabs served the other tasks and how many served nobody else.
"""

import sys
from pathlib import Path

import polars as pl

from fastalloc.trace.infer import DIRECT_MAP

FIRST = 14  # objects of a slab that are looked at


def slabs(folder: Path, run: str, cache: str) -> pl.DataFrame:
    """A row a slab: buyer, and how many of its first objects kswapd and others took."""
    order = pl.read_csv(folder / f"{run}.summary.csv").filter(pl.col("cache") == cache)["order"][0]
    page = ((pl.col("ptr") - DIRECT_MAP) // 4096 // 2**order * 2**order).cast(pl.Int64)
    allocs = pl.scan_parquet(folder / f"{run}.events.parquet").filter(
        (pl.col("cache_resolved").cast(pl.String) == cache)
        & pl.col("event").cast(pl.String).is_in(["alloc", "bulk_alloc"])
        & (pl.col("ptr") > 0)
    )
    allocs = allocs.select("ts_ns", pl.col("comm").cast(pl.String), pfn=page).collect().sort("ts_ns")
    bought = pl.read_parquet(folder / f"{run}.slabtruth.parquet").filter(
        (pl.col("cache") == cache) & (pl.col("event") == "slab_new")
    )
    bought = bought.select(
        "ts_ns", pl.col("pfn").cast(pl.Int64), buyer=pl.col("comm").cast(pl.String), slab=pl.int_range(pl.len())
    ).sort("ts_ns")
    inside = allocs.join_asof(bought, on="ts_ns", by="pfn", check_sortedness=False).drop_nulls("slab")
    first = inside.group_by("slab", maintain_order=True).head(FIRST)
    return first.group_by("slab").agg(
        pl.col("buyer").first(), kswapd=(pl.col("comm") == "kswapd0").sum(), others=(pl.col("comm") != "kswapd0").sum()
    )


def main() -> None:
    """Count and print."""
    folder, cache = Path(sys.argv[1]), sys.argv[2]
    print(f"{'run':<26}{'bought by':<12}{'slabs':>6}{'shared':>8}{'to the buyer alone':>20}")
    for run in sys.argv[3:]:
        table = slabs(folder, run, cache).with_columns(by_kswapd=pl.col("buyer") == "kswapd0")
        for of_kswapd, name in ((True, "kswapd0"), (False, "others")):
            own = table.filter(pl.col("by_kswapd") == of_kswapd)
            strangers = own["others" if of_kswapd else "kswapd"]
            alone = int((strangers <= 1).sum())
            print(f"{run:<26}{name:<12}{len(own):>6}{len(own) - alone:>8}{alone:>20}")


if __name__ == "__main__":
    main()
