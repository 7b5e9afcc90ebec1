"""The operations of one cache as the search takes them, some thousand at a time."""

import numpy as np

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact import row_passes
from fastalloc.trace.compact.infer import DIRECT_MAP
from fastalloc.trace.lanes import lane as ln
from fastalloc.trace.lanes.start import Laid
from fastalloc.trace.order import model as om
from fastalloc.trace.order import passes
from fastalloc.trace.order.model import ORDER_EVENT
from fastalloc.trace.order.passes import OWN_AT

WINDOW = 1 << 14  # operations of a cache that are held at a time


def _freed_slabs(trace: co.CompactTrace, cache: np.ndarray, orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the page frees that gave a slab back, and the cache of each: the last object there was of the cache, and
    the pages were not handed out since. ``cache``: int32[kinds]; ``orders`` of the caches."""
    op = trace.events["op"]
    most = int((op == co.OP_PAGE_FREE).sum())
    keys = len(trace.ptrs) + int((op == co.OP_PAGE_ALLOC).sum())
    row, of = np.empty(most, np.int64), np.empty(most, np.int64)
    columns, seen = row_passes.columns_of(trace.events), np.full((3, keys), -1, np.int32)
    count = row_passes.freed_slabs(columns, cache, orders, trace.ptrs, row_passes.table_of(keys), seen, row, of)
    return row[:count], of[:count]


class Operations:
    """Where the operations of each cache of a trace are, and the ``runs`` of its tasks. ``named``: bool[caches], which
    have an operation with an object."""

    def __init__(self, trace: co.CompactTrace, config: ln.Config, nodes: int) -> None:
        self.trace = trace
        e = trace.events
        cache = ln.cache_of_kind(trace, config)
        self.orders = np.array([cache.order for cache in config.caches], np.int64)
        self.freed, self.freed_of = _freed_slabs(trace, cache, self.orders)
        node = trace.kinds["node"].to_numpy()
        self.node = np.where(node < nodes, node, -1)
        count, self.named = np.zeros(len(config.caches), np.int64), np.zeros(len(config.caches), np.bool_)
        passes.count_caches(e["op"], e["kind"], cache, count, self.named)
        self.own_edges = np.append(0, np.cumsum(count))
        self.own = np.empty(self.own_edges[-1], np.int32)
        passes.rows_of_caches(e["op"], e["kind"], cache, self.own_edges[:-1].copy(), self.own)
        count = np.zeros(int(e["cpu"].max(initial=0)) + 1, np.int64)
        passes.count_cpus(e["cpu"], count)
        rows, task = np.empty(len(e), np.int32), np.empty(len(e), np.int32)
        since, until = np.zeros(len(e), np.uint8), np.zeros(len(e), np.uint8)
        self.runs = passes.Runs(np.append(0, np.cumsum(count)), rows, since, until, task)
        passes.rows_of_cpus(e["cpu"], e["ago"], self.runs.edges, np.zeros_like(count), rows, since, until, task)

    def of(self, c: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the operations of cache ``c``, and of the page frees that ended its slabs."""
        return self.own[self.own_edges[c] : self.own_edges[c + 1]], self.freed[self.freed_of == c]


class Window:
    """The operations of cache ``c``, WINDOW of them at a time: ``events`` (int32[., ORDER_EVENT.width]) in the
    ``order`` found. Objects and blocks of pages are numbered: ``blocks``, those there are; ``here``, the objects of
    these operations among all that the cache had, whose handles are in ``handle``. ``most``: slabs that the cache had
    allocated and not given back at once. ``entitled``: uint8[kinds], as in ``model``; ``cpus``: of them, int64."""

    def __init__(self, operations: Operations, c: int, laid: Laid, handle: np.ndarray) -> None:
        self.operations = operations
        self.own, self.gone = operations.of(c)
        trace, order = operations.trace, operations.orders[c]
        e = trace.events
        self.cpus = np.unique(e["cpu"][np.concatenate([self.own, self.gone])]).astype(np.int64)
        held = np.zeros(len(trace.ptrs), np.bool_)
        columns = (e["op"], e["object"], e["cpu"], e["time"])
        self.most = int(passes.objects_of(*columns, self.own, self.gone, held))
        objects = np.flatnonzero(held)
        self.handle = handle[objects]
        self.place_of = (np.cumsum(held) - 1).astype(np.int32)
        pages = ((trace.ptrs[objects] - np.uint64(DIRECT_MAP)) >> np.uint64(12)).astype(np.int64) >> order
        gone = e["object"][self.gone].astype(np.int64) >> order
        known = laid.first_page[laid.first_page >= 0] >> order
        self.blocks = np.unique(np.concatenate([pages, gone, known]))
        self.block_of, self.gone_block = (np.searchsorted(self.blocks, own).astype(np.int32) for own in (pages, gone))
        self.state = np.zeros(OWN_AT.width, np.int64)
        self.all = np.zeros((WINDOW, ORDER_EVENT.width), np.int32)
        self.events = self.all[:0]
        self.here = np.zeros(0, np.int32)
        cannot = trace.kinds["gfp_flags"].to_numpy() & (ln.GFP_DIRECT_RECLAIM | ln.GFP_NOMEMALLOC) != 0
        self.entitled = np.where(cannot, om.IS_NOT, om.MAY_BE).astype(np.uint8)

    @property
    def last(self) -> bool:
        """Whether no operation follows."""
        return bool((self.state == (len(self.own), len(self.gone))).all())

    @property
    def objects(self) -> int:
        """How many objects there may be in a window."""
        return min(WINDOW, len(self.handle))

    def fill(self, model: om.Model, ring: om.Model) -> None:
        """Read on behind the operations there are, and give ``model`` and those saved the handles of their objects.

        An object that no operation kept is about has in every model the handle that it had in the last.
        """
        operations, kept = self.operations, len(self.events)
        have = passes.gather(
            row_passes.columns_of(operations.trace.events), operations.runs, operations.node,
            passes.Own(self.own, self.place_of, self.block_of, self.gone, self.gone_block), self.state, self.all, kept,
            self.entitled,
        )  # fmt: skip
        self.events = self.all[:have]
        self.order = np.arange(have, dtype=np.int32)
        known = len(self.here)
        self.handle[self.here] = model.handle[:known]
        number = self.events[:, ORDER_EVENT.object]
        number[:kept] = self.here[number[:kept]]
        here = np.unique(number)
        number[:] = np.searchsorted(here, number)
        stay = np.isin(here, self.here, assume_unique=True)
        before = np.searchsorted(self.here, here[stay])
        for handle in (model.handle, *ring.handle):
            values = handle[before]
            handle[: len(here)] = self.handle[here]
            handle[np.flatnonzero(stay)] = values
        self.here = here

    def give(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Let go of the first ``count`` operations in the order found: op and row of each, whether it allocated a slab
        from below all watermarks, and the row that follows."""
        found = self.events[self.order]
        op, row = (found[:count, field].astype(np.int64) for field in (ORDER_EVENT.op, ORDER_EVENT.row))
        reserve = found[:count, ORDER_EVENT.reserve] != 0
        following = int(found[count, ORDER_EVENT.row]) if count < len(found) else -1
        self.events = self.all[: len(found) - count]
        self.events[:] = found[count:]
        return op, row, reserve, following


__all__ = ["WINDOW", "Operations", "Window"]
