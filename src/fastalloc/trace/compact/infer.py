"""Which cache an event belongs to, where the trace does not say. Every step is counted.

The steps, each only for events that no earlier one resolved:

1. ``named by the tracepoint``: kmem_cache_free names its cache, and kmem_cache_alloc on kernels that do.
2. ``resolved before``: the column ``cache_resolved`` of a decoded trace.
3. ``size class``: kmalloc and its type of cache follow from bytes_alloc and the mask.
4. ``from its free`` / ``from its allocation``: the next or last event at the same address.
5. ``same slab page``: another object of the page has a name, between two hand-outs of that page.
6. ``call site``: all named allocations of the call site and the two sizes went to one cache.
7. ``function``: it is known to allocate from one cache (see ``call_sites``), which has these sizes as far as is known.
8. ``sizes``: of all caches of the kernel (where a table of them is given), one has these two sizes.
9. ``called by its sizes``: nobody knows; caches of the same sizes share a made-up name such as ``192/192``.
"""

import numpy as np
import polars as pl

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import row_passes
from fastalloc.trace.compact.call_sites import SITES, function_of
from fastalloc.trace.compact.row_passes import DIRECT_MAP
from fastalloc.trace.compact.rows import NO_NAME, Rows

KMALLOC_MAX = 8192  # larger requests go to the page allocator
LARGE = "kmalloc-large"

_GFP_DMA = 0x1
_GFP_RECLAIMABLE = 0x10
_GFP_ACCOUNT = 0x400000
_ASKED = (co.OP_ALLOC, co.OP_ALLOC_FAILED)  # single allocations, those that failed included
_OBJECTS = range(co.OP_BULK_FREE + 1)


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


class _Inference:
    """Fills ``rows.name`` step by step; ``counts``: objects resolved by each step."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.counts: dict[str, int] = {}
        self.open = int((rows.op <= co.OP_BULK_FREE).sum())

    def _resolved(self, step: str, objects: int) -> None:
        if objects:
            self.counts[step] = self.counts.get(step, 0) + objects
        self.open -= objects

    def by_kind(self, step: str, names: pl.Series, ops: range | tuple[int, ...]) -> None:
        """Events of ``ops`` take the name that ``names`` has for their kind, null none."""
        rows = self.rows
        numbers = {text: rows.name_of(text) for text in names.drop_nulls().unique(maintain_order=True)}
        table = names.replace_strict(numbers, default=NO_NAME, return_dtype=pl.Int32).fill_null(NO_NAME).to_numpy()
        spans = [(ops[0], ops[-1])] if isinstance(ops, range) else [(op, op) for op in ops]
        self._resolved(step, sum(row_passes.named_by(rows.op, rows.kind, rows.name, table, *span) for span in spans))

    def neighbours(self) -> None:
        """Allocation and free of one object share a cache."""
        rows = self.rows
        for step, frees in (("from its free", False), ("from its allocation", True)):
            none = np.full(len(rows.ptrs), -1, np.int32)
            self._resolved(step, row_passes.from_neighbour(rows.op, rows.object, rows.name, none, frees))

    def pages(self) -> None:
        """Objects of one slab share a cache: a page, between two times it was handed out."""
        rows = self.rows
        blocks = max(int((rows.op == co.OP_PAGE_ALLOC).sum()), 1)
        groups = np.full(blocks + len(rows.ptrs), -1, np.int32)
        found = 0
        for fill in (0, 1):
            found = row_passes.pages(
                row_passes.columns_of(rows.events), rows.name, rows.ptrs, rows.kinds["order"].to_numpy(),
                rows.name_of(LARGE), row_passes.table_of(blocks), row_passes.table_of(len(rows.ptrs)), groups, fill,
            )  # fmt: skip
        self._resolved("same slab page", found)

    def functions(self, aliases: dict[str, str], sizes: pl.DataFrame | None) -> None:
        """Allocations by functions that have one cache."""
        kinds = self.rows.kinds
        known = None if sizes is None else set(sizes.iter_rows())

        def cache(src: str, call_site: str, asked: int, given: int) -> str | None:
            site = SITES.get(function_of(call_site)) if src.startswith("kmem_cache_alloc") and given else None
            for name in site.caches if site else ():
                shown = aliases.get(name, name)
                if known is None or (shown, asked, given) in known:
                    return shown
            return None

        names = [cache(*row) for row in kinds.select("src", "call_site", "bytes_req", "bytes_alloc").iter_rows()]
        self.by_kind("function", pl.Series(names, dtype=pl.String), _ASKED)

    def agreed(self, step: str, by: list[str], known: pl.DataFrame | None = None) -> None:
        """Allocations that agree in ``by`` go where all named ones, or those of the table ``known``, go."""
        rows = self.rows
        kinds = rows.kinds
        if known is None:
            pairs = rows.pairs()
            row_passes.used(rows.op, rows.kind, rows.name, pairs, True)
            pairs[(kinds["src"] == "kmalloc").to_numpy()] = False
            kind, name = np.nonzero(pairs[:, :-1])
            known = kinds.select(by)[kind].with_columns(name=pl.Series(rows.names, dtype=pl.String).gather(name))
        table = known.group_by(by).agg(pl.col("name").n_unique().alias("names"), pl.col("name").first())
        table = table.filter(pl.col("names") == 1).select(*by, "name")
        joined = kinds.join(table, on=by, how="left", maintain_order="left")
        self.by_kind(step, joined.select(pl.when(pl.col("bytes_alloc") > 0).then("name")).to_series(), _ASKED)


def infer_caches(
    rows: Rows, aliases: dict[str, str] | None = None, sizes: pl.DataFrame | None = None
) -> dict[str, int]:
    """Fill ``rows.name``; how many objects each step resolved.

    ``aliases``: name of a merged cache to the name the kernel shows for it; ``sizes``: name, bytes_req, bytes_alloc
    of all caches of the kernel, where they are known.
    """
    steps = _Inference(rows)
    kinds = rows.kinds
    given = {name: kinds.select(pl.when(pl.col(name) != "").then(name)).to_series() for name in ("cache", "resolved")}
    steps.by_kind("named by the tracepoint", given["cache"], _OBJECTS)
    steps.by_kind("resolved before", given["resolved"], range(len(co.OPS)))
    if steps.open:
        named = kmalloc_names().replace(aliases) if aliases else kmalloc_names()
        of_kmalloc = pl.col("src").is_in(["kmalloc", "kmalloc_node"])
        steps.by_kind("size class", kinds.select(pl.when(of_kmalloc).then(named)).to_series(), _ASKED)
    if steps.open:
        steps.neighbours()
    if steps.open:
        steps.pages()
        steps.neighbours()
    if steps.open:
        steps.agreed("call site", ["call_site", "bytes_req", "bytes_alloc"])
        steps.functions(aliases or {}, sizes)
        if sizes is not None:
            steps.agreed("sizes", ["bytes_req", "bytes_alloc"], sizes)
        steps.neighbours()
    if steps.open:
        made_up = pl.when(pl.col("bytes_alloc") > 0).then(pl.format("{}/{}", "bytes_req", "bytes_alloc"))
        steps.by_kind("called by its sizes", kinds.select(made_up).to_series(), (co.OP_ALLOC,))
        steps.neighbours()
        steps.pages()
    return steps.counts


__all__ = ["DIRECT_MAP", "LARGE", "infer_caches"]
