"""When an allocation that bought a slab decided to buy it.

The event of an allocation comes last: after the page allocator gave the pages of a new slab, and after whatever
interrupted it on its CPU. What the allocation found on its CPU and node it found before it asked for pages. So the
first object out of a block of pages, allocated on the CPU that was given the block, belongs before the event of that
block, and the objects that the same bulk call took before it do too.

Where the page allocator had refused a larger block just before, the event of the refusal becomes a *shortage*: the
order of the block that was given instead, standing before the allocation that lives with it.
"""

import polars as pl

from fastalloc.trace import compact as co
from fastalloc.trace.infer import DIRECT_MAP

_NO_PFN = 2**52  # larger: an attempt that failed


def before_purchase(events: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """``events`` with such allocations moved and timed as the event of their block, and how many there were."""
    events = events.with_row_index("row")
    given = pl.col("op") == co.OP_PAGE_ALLOC
    blocks = (
        events.filter(given)
        .with_columns(
            refused=pl.when(
                (pl.col("pfn").shift(1).over("cpu") >= _NO_PFN)
                & (pl.col("order").shift(1).over("cpu") > pl.col("order"))
            ).then(pl.col("row").shift(1).over("cpu"))
        )
        .filter(pl.col("pfn") < _NO_PFN)
    )
    allocs = events.filter(pl.col("op").is_in([co.OP_ALLOC, co.OP_BULK_ALLOC]) & (pl.col("ptr") >= DIRECT_MAP))
    pages = (
        blocks.select(
            "row", block="row", block_cpu="cpu", block_ns="ts_ns", refused="refused", given="order",
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
        .select("row", "block", "block_ns", "refused", "given")
    )
    if not len(first):
        return events.drop("row"), 0
    same_call = (
        (pl.col("op") == co.OP_BULK_ALLOC)
        & (pl.col("op").shift(1) == co.OP_BULK_ALLOC)
        & (pl.col("cpu") == pl.col("cpu").shift(1))
        & (pl.col("ts_ns") == pl.col("ts_ns").shift(1))
    )
    events = _shortages(events, first.drop_nulls("refused"))
    first = first.select("row", "block", "block_ns")
    moved = (
        events.join(first, on="row", how="left", maintain_order="left")
        .with_columns(call=(~same_call).fill_null(True).cum_sum())
        .with_columns(pl.col("block", "block_ns").fill_null(strategy="backward").over("call"))
        # Before the block's row, which keeps its place, and behind a shortage.
        .with_columns(at=3 * pl.coalesce("block", "row").cast(pl.Int64) - pl.col("block").is_not_null().cast(pl.Int64))
        .with_columns(at=pl.coalesce("at_shortage", "at"))
        .with_columns(ts_ns=pl.coalesce("block_ns", "ts_ns"))
        .sort("at", maintain_order=True)
    )
    return moved.drop("row", "call", "block", "block_ns", "at", "at_shortage"), len(first)


def _shortages(events: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """``events`` with the refusals of ``found`` as shortages: ``pfn`` the order given, ``at_shortage`` their place."""
    found = found.select(
        row="refused", given=pl.col("given").cast(pl.UInt64), at_shortage=3 * pl.col("block").cast(pl.Int64) - 2,
        shortage_ns="block_ns",
    )  # fmt: skip
    short = pl.col("given").is_not_null()
    return (
        events.join(found, on="row", how="left", maintain_order="left")
        .with_columns(
            op=pl.when(short).then(pl.lit(co.OP_SHORTAGE, pl.UInt8)).otherwise("op"),
            pfn=pl.coalesce("given", "pfn"),
            ts_ns=pl.coalesce("shortage_ns", "ts_ns"),
        )
        .drop("given", "shortage_ns")
    )


__all__ = ["before_purchase"]
