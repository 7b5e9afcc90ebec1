"""Which cache an event belongs to, where the trace does not say. Every step is counted.

The steps, each only for events that no earlier one settled:

1. ``named by the tracepoint``: kmem_cache_free names its cache, and kmem_cache_alloc on kernels that do.
2. ``resolved before``: the column ``cache_resolved`` of a decoded trace.
3. ``size class``: kmalloc and its type of cache follow from bytes_alloc and the mask.
4. ``from its free`` / ``from its allocation``: the next or last event at the same address.
5. ``same slab page``: another object of the page has a name, between two hand-outs of that page.
6. ``call site``: all named allocations of the call site and the two sizes went to one cache.
7. ``sizes``: of all caches of the kernel (where a table of them is given), one has these two sizes.
8. ``called by its sizes``: nobody knows; caches of the same sizes share a made-up name such as ``192/192``.
"""

import numpy as np
import polars as pl

from fastalloc.trace import compact as co
from fastalloc.trace.columns import MARKER

DIRECT_MAP = 0xFFFF888000000000  # where x86-64 maps all memory without address randomisation
KMALLOC_MAX = 8192  # larger requests go to the page allocator
LARGE = "kmalloc-large"

_GFP_DMA = 0x1
_GFP_RECLAIMABLE = 0x10
_GFP_ACCOUNT = 0x400000
# How the first attempt at a slab differs from its caller's mask: __GFP_NOWARN and __GFP_NORETRY.
_SLAB_GFP = 0x12000


def kmalloc_names() -> pl.Expr:
    """Name of the kmalloc cache of a row: size class by ``bytes_alloc``, type by ``gfp_flags``."""
    size = pl.col("bytes_alloc")
    gfp = pl.col("gfp_flags")
    kind = (
        pl.when(gfp & _GFP_DMA != 0)
        .then(pl.lit("dma-kmalloc-"))
        .when(gfp & _GFP_RECLAIMABLE != 0)
        .then(pl.lit("kmalloc-rcl-"))
        .when(gfp & _GFP_ACCOUNT != 0)
        .then(pl.lit("kmalloc-cg-"))
        .otherwise(pl.lit("kmalloc-"))
    )
    digits = pl.when(size >= 1024).then((size // 1024).cast(pl.String) + "k").otherwise(size.cast(pl.String))
    return pl.when(size > KMALLOC_MAX).then(pl.lit(LARGE)).otherwise(kind + digits)


def _objects() -> pl.Expr:
    return pl.col("op") <= co.OP_BULK_FREE


def _asked() -> pl.Expr:
    """Single allocations, those that failed included."""
    return pl.col("op").is_in([co.OP_ALLOC, co.OP_ALLOC_FAILED])


class Inference:
    """Fills the column ``name`` of a table of events, step by step; ``counts``: events settled by each step."""

    def __init__(self, events: pl.DataFrame, aliases: dict[str, str], sizes: pl.DataFrame | None) -> None:
        self.aliases = aliases
        self.sizes = sizes
        self.counts: dict[str, int] = {}
        self.at_address: tuple[np.ndarray, np.ndarray] | None = None
        names = {name: pl.col(name).cast(pl.String) for name in ("cache", "resolved")}
        self.events = events.with_columns(name=pl.lit(None, dtype=pl.String))
        self._fill("named by the tracepoint", pl.when(_objects() & (names["cache"] != "")).then(names["cache"]))
        self._fill("resolved before", pl.when(names["resolved"] != "").then(names["resolved"]), _objects())

    def _fill(self, step: str, value: pl.Expr, counted: pl.Expr | None = None) -> None:
        before = self._open()
        self.events = self.events.with_columns(name=pl.coalesce("name", value))
        settled = before - self._open()
        if settled:
            self.counts[step] = settled

    def _open(self) -> int:
        return int(self.events.select((_objects() & pl.col("name").is_null()).sum()).item())

    def run(self) -> pl.DataFrame:
        """The events with ``name``, null where no step knew."""
        if self._open():
            kmalloc = (pl.col("src") == "kmalloc") | (pl.col("src") == "kmalloc_node")
            named = kmalloc_names().replace(self.aliases) if self.aliases else kmalloc_names()
            self._fill("size class", pl.when(kmalloc & _asked()).then(named))
        if self._open():
            self._neighbours()
        if self._open():
            self._pages()
            self._neighbours()
        if self._open():
            self._agreed("call site", ["call_site", "bytes_req", "bytes_alloc"])
            if self.sizes is not None:
                self._agreed("sizes", ["bytes_req", "bytes_alloc"], self.sizes)
            self._neighbours()
        if self._open():
            sizes = pl.format("{}/{}", "bytes_req", "bytes_alloc")
            self._fill(
                "called by its sizes", pl.when((pl.col("op") == co.OP_ALLOC) & (pl.col("bytes_alloc") > 0)).then(sizes)
            )
            self._neighbours()
            self._pages()
        return self.events

    def _rows_at_address(self) -> tuple[np.ndarray, np.ndarray]:
        """uint32[n] each: the row of the next and of the last object event at a row's address, else the row itself."""
        op = self.events["op"].to_numpy()
        rows = np.flatnonzero(op <= co.OP_BULK_FREE)
        ptr = self.events["ptr"].to_numpy()[rows]
        order = np.argsort(ptr, kind="stable")
        rows, ptr = rows[order], ptr[order]
        same = ptr[1:] == ptr[:-1]
        following = np.arange(len(op), dtype=np.uint32)
        last = following.copy()
        following[rows[:-1][same]] = rows[1:][same]
        last[rows[1:][same]] = rows[:-1][same]
        return following, last

    def _neighbours(self) -> None:
        """Allocation and free of one object share a cache."""
        if self.at_address is None:
            self.at_address = self._rows_at_address()
        following, last = self.at_address
        alloc = np.isin(self.events["op"].to_numpy(), [co.OP_ALLOC, co.OP_BULK_ALLOC])
        of_object = _objects()
        for step, rows, wanted in (
            ("from its free", following, alloc & ~alloc[following]),
            ("from its allocation", last, ~alloc & alloc[last]),
        ):
            name = self.events["name"].gather(rows).alias("neighbour")
            self.events = self.events.with_columns(name, pl.Series("wanted", wanted))
            self._fill(step, pl.when(of_object & pl.col("wanted")).then(pl.col("neighbour")))
            self.events = self.events.drop("neighbour", "wanted")

    def _pages(self) -> None:
        """Objects of one slab share a cache: a page, between two times it was handed out."""
        pages = self.events.filter((pl.col("op") == co.OP_PAGE_ALLOC) & (pl.col("pfn") < 2**52)).select(
            "ts_ns", "pfn", "order"
        )
        rows = self.events.with_row_index("row").filter(_objects() & (pl.col("ptr") >= DIRECT_MAP))
        rows = rows.select("row", "ts_ns", "name", page=(pl.col("ptr") - DIRECT_MAP) // 4096)
        handed = (
            pages.with_row_index("block")
            .with_columns(first=pl.col("pfn").cast(pl.Int64), pages=pl.lit(2, pl.Int64).pow(pl.col("order")))
            .with_columns(page=pl.int_ranges("first", pl.col("first") + pl.col("pages")))
            .explode("page")
            .select("ts_ns", "block", page=pl.col("page").cast(pl.UInt64))
        )
        rows = rows.join_asof(handed.sort("ts_ns"), on="ts_ns", by="page", check_sortedness=False)
        # A page handed out before the trace began stands for itself: the block of pages it is in is not known.
        group = pl.coalesce(pl.col("block").cast(pl.Int64), -1 - pl.col("page").cast(pl.Int64))
        rows = rows.with_columns(group=group)
        known = rows.filter(pl.col("name").is_not_null() & (pl.col("name") != LARGE))
        known = known.group_by("group").agg(
            pl.col("name").n_unique().alias("names"), pl.col("name").last().alias("page_name")
        )
        found = rows.filter(pl.col("name").is_null()).join(known.filter(pl.col("names") == 1), on="group")
        named = (
            self.events.with_row_index("row")
            .select("row")
            .join(found.select("row", "page_name"), on="row", how="left", maintain_order="left")
        )
        self.events = self.events.with_columns(page_name=named["page_name"])
        self._fill("same slab page", pl.col("page_name"))
        self.events = self.events.drop("page_name")

    def _agreed(self, step: str, by: list[str], known: pl.DataFrame | None = None) -> None:
        named = self.events.filter(
            (pl.col("op") == co.OP_ALLOC) & pl.col("name").is_not_null() & (pl.col("src") != "kmalloc")
        )
        named = named.select(*by, "name") if known is None else known.select(*by, "name")
        table = named.group_by(by).agg(pl.col("name").n_unique().alias("names"), pl.col("name").first().alias("agreed"))
        table = table.filter(pl.col("names") == 1).select(*by, "agreed")
        self.events = self.events.join(table, on=by, how="left", maintain_order="left")
        unnamed = _asked() & (pl.col("bytes_alloc") > 0)
        self._fill(step, pl.when(unnamed).then(pl.col("agreed")))
        self.events = self.events.drop("agreed")


def infer_caches(
    events: pl.DataFrame, aliases: dict[str, str] | None = None, sizes: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """``events`` (see ``columns``) with the column ``name``, and how many events each step settled.

    ``aliases``: name of a merged cache to the name the kernel shows for it; ``sizes``: name, bytes_req, bytes_alloc
    of all caches of the kernel, where they are known.
    """
    inference = Inference(events, aliases or {}, sizes)
    done = inference.run()
    return done, inference.counts


def slab_pages() -> pl.Expr:
    """Whether a page allocation looks like the first attempt at a slab, by its mask."""
    return (pl.col("op") == co.OP_PAGE_ALLOC) & (pl.col("gfp_flags") & _SLAB_GFP == _SLAB_GFP)


__all__ = ["DIRECT_MAP", "LARGE", "MARKER", "infer_caches", "slab_pages"]
