"""When an allocation that bought a slab decided to buy it.

The event of an allocation comes last: after the page allocator gave the pages of a new slab, and after whatever
interrupted it on its CPU. What the allocation found on its CPU and node it found before it asked for pages. So the
first object out of a block of pages, allocated on the CPU that was given the block, belongs before the event of that
block, and the objects that the same bulk call took before it do too.
"""

import polars as pl

from fastalloc.trace import compact as co
from fastalloc.trace.infer import DIRECT_MAP


def before_purchase(events: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """``events`` with such allocations moved and timed as the event of their block, and how many there were."""
    events = events.with_row_index("row")
    blocks = events.filter((pl.col("op") == co.OP_PAGE_ALLOC) & (pl.col("pfn") < 2**52))
    allocs = events.filter(pl.col("op").is_in([co.OP_ALLOC, co.OP_BULK_ALLOC]) & (pl.col("ptr") >= DIRECT_MAP))
    pages = (
        blocks.select(
            "row", block="row", block_cpu="cpu", block_ns="ts_ns",
            page=pl.int_ranges(
                pl.col("pfn").cast(pl.Int64), pl.col("pfn").cast(pl.Int64) + pl.lit(2, pl.Int64).pow(pl.col("order"))
            ),
        )
        .explode("page")
        .sort("row")
    )  # fmt: skip
    inside = allocs.select("row", "cpu", page=((pl.col("ptr") - DIRECT_MAP) // 4096).cast(pl.Int64)).join_asof(
        pages, on="row", by="page", check_sortedness=False
    )
    first = (
        inside.drop_nulls("block")
        .unique("block", keep="first", maintain_order=True)
        .filter(pl.col("cpu") == pl.col("block_cpu"))
        .select("row", "block", "block_ns")
    )
    if not len(first):
        return events.drop("row"), 0
    same_call = (
        (pl.col("op") == co.OP_BULK_ALLOC)
        & (pl.col("op").shift(1) == co.OP_BULK_ALLOC)
        & (pl.col("cpu") == pl.col("cpu").shift(1))
        & (pl.col("ts_ns") == pl.col("ts_ns").shift(1))
    )
    moved = (
        events.join(first, on="row", how="left", maintain_order="left")
        .with_columns(call=(~same_call).fill_null(True).cum_sum())
        .with_columns(pl.col("block", "block_ns").fill_null(strategy="backward").over("call"))
        # Before the block's row, which keeps its place.
        .with_columns(at=2 * pl.coalesce("block", "row").cast(pl.Int64) - pl.col("block").is_not_null().cast(pl.Int64))
        .with_columns(ts_ns=pl.coalesce("block_ns", "ts_ns"))
        .sort("at", maintain_order=True)
    )
    return moved.drop("row", "call", "block", "block_ns", "at"), len(first)


__all__ = ["before_purchase"]
