"""Calls that no tracepoint shows and probes recorded: prefilled sheaves, the grace periods of kfree_rcu, bulk frees.

A table of probes has a row a call: ts_ns, cpu, event, cache, sheaf (address), n (objects in it) and want (asked for),
and pid where it was recorded. Of its events ``prefill``, ``return_sheaf`` and ``rcu_sheaf_cb`` become events of the
trace. A sheaf between prefill and return is its task's: what the task allocates of that cache comes out of it, as all
nodes of a store do [lib/maple_tree.c]. Where no pid was recorded it is taken to be its CPU's.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fastalloc.foreign import MOST_CPUS, parquet_kinds, parquet_table, refuse
from fastalloc.kernels.replay.sheaf_events import TRY
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.contents import LAST_NS
from fastalloc.trace.compact.refills import LONGEST, Layout, Refills
from fastalloc.trace.compact.tasks import tasks_of
from fastalloc.trace.compact.weave import ADDED, woven

KFREE_RCU = "__kfree_rcu_sheaf"  # source of the rows that a probe of kfree_rcu left
FREE_BULK = "kmem_cache_free_bulk"
KFREE_BULK = "kfree_bulk"  # of no cache: past sheaves [mm/slub.c, kmem_cache_free_bulk]
GRACE_PERIOD, PREFILL, RETURN = "rcu_sheaf_cb", "prefill", "return_sheaf"
_OPS = {GRACE_PERIOD: co.OP_GRACE_PERIOD, PREFILL: co.OP_PREFILL, RETURN: co.OP_RETURN_SHEAF}
AMOUNT = 1 << 20  # objects of a sheaf are fewer
MOST_WANTED = (1 << 12) - 1  # for which a sheaf is prefilled: a store of a maple tree wants some dozens
AMOUNTS = (GRACE_PERIOD, PREFILL, *(co.OPS[op] for op in range(co.OP_BEGIN_REFILL, co.OP_INSTALL + 1)))


def read_sheaf_calls(path: Path) -> pl.DataFrame:
    """The rows of a table of probes that a replay takes: ts_ns, cpu, event, cache, sheaf, amount; by time.

    Raises InputError for a file that is no such table, a CPU that no kernel has, more objects than a sheaf holds.
    """
    numbers = dict.fromkeys(("ts_ns", "cpu", "n", "want"), pa.int64()) | {"sheaf": pa.uint64()}
    pid = {"pid": pa.int64()} if "pid" in parquet_kinds(path) else {}
    table = parquet_table(path, numbers | pid | dict.fromkeys(("event", "cache"), pa.large_string()))
    return sheaf_calls_of(table, path)


def sheaf_calls_of(table: pl.DataFrame, path: object) -> pl.DataFrame:
    """The rows of a table of probes that a replay takes, see ``read_sheaf_calls``; ``path`` is named in errors."""
    pid = {"pid"} & set(table.columns)
    table = table.filter(pl.col("event").is_in(list(_OPS))).with_columns(pl.col("n", "want").fill_null(0))
    for name, most in (("cpu", MOST_CPUS - 1), ("n", AMOUNT), ("want", MOST_WANTED), ("ts_ns", LAST_NS)):
        refuse(path, ~table[name].is_between(0, most), name, f"is not in 0 .. {most:,}", "call")
    for name in ("cache", "sheaf", *pid):
        refuse(path, table[name].is_null(), name, "is empty", "call")
    amount = pl.when(pl.col("event") == PREFILL).then("want").otherwise("n").clip(0, AMOUNT)
    failed = (pl.col("event") == PREFILL) & (pl.col("n") == 0) & (pl.col("want") > 0)
    columns = table.select("ts_ns", "cpu", "event", "cache", "sheaf", "n", *pid, amount=amount, failed=failed)
    return columns.sort("ts_ns", maintain_order=True)


def with_sheaf_calls(
    trace: co.CompactTrace, calls: pl.DataFrame | None, layouts: dict[str, Layout] | None = None
) -> tuple[co.CompactTrace, dict[str, int]]:
    """``trace`` with ``calls`` woven in, rows of kfree_rcu and bulk frees as such, and the refills of the caches of
    ``layouts`` in their steps (see ``refills``); what was done, with counts.

    Without ``calls`` nobody knows when grace periods end: the sheaves that kfree_rcu filled wait for ever.
    """
    e = trace.events
    source = trace.kinds["src"]
    op = e["op"].copy()
    for name, other in ((KFREE_RCU, co.OP_KFREE_RCU), (FREE_BULK, co.OP_FREE_MANY), (KFREE_BULK, co.OP_FREE_LOCKED)):
        op[(op == co.OP_BULK_FREE) & (source == name).to_numpy()[e["kind"]]] = other
    counts = {"objects of kfree_rcu": int((op == co.OP_KFREE_RCU).sum())}
    task, ptrs, added = tasks(trace), trace.ptrs, pl.DataFrame(schema=ADDED)
    if calls is not None and len(e):
        added, sheaves = _Calls(trace, calls, task, op).added()
        ptrs = np.concatenate([ptrs, sheaves])
        counts["objects out of prefilled sheaves"] = int((op == co.OP_SHEAF_ALLOC).sum())
        counts["grace periods"] = int((added["op"] == co.OP_GRACE_PERIOD).sum())
    if layouts and len(e):
        refills = Refills(trace, op, task, layouts)
        steps, sheaves = refills.added(len(ptrs))
        op[refills.memory] = co.OP_SHEAF_MEMORY
        added, ptrs = pl.concat([added, steps]), np.concatenate([ptrs, sheaves])
        counts |= refills.counts
    return woven(trace, op, added, ptrs), {name: n for name, n in counts.items() if n}


def as_plain_calls(trace: co.CompactTrace) -> co.CompactTrace:
    """``trace`` for an allocator that knows no sheaves: what probes recorded of them is plain allocations and frees."""
    plain = np.arange(len(co.OPS), dtype=np.uint8)
    plain[[co.OP_SHEAF_ALLOC, co.OP_SHEAF_MEMORY]] = co.OP_ALLOC
    plain[[co.OP_KFREE_RCU, co.OP_FREE_MANY, co.OP_FREE_LOCKED]] = co.OP_FREE
    events = trace.events.copy()
    events["op"] = plain[events["op"]]
    return dataclasses.replace(trace, events=events)


def tasks(trace: co.CompactTrace) -> np.ndarray:
    """int64[n], the pid of each event, and of each CPU's idle task one of its own; the CPU where no task is known."""
    cpu = trace.events["cpu"].astype(np.int64)
    if "tasks" not in trace.meta:
        return -1 - cpu
    pids, which = tasks_of(trace)
    pid = pids[which] if len(pids) else cpu
    return np.where(pid == 0, -1 - cpu, pid)


class _Calls:
    """``calls`` as events of ``trace``; ``task`` of each event as of ``tasks``."""

    def __init__(self, trace: co.CompactTrace, calls: pl.DataFrame, task: np.ndarray, op: np.ndarray) -> None:
        self.trace, self.task, self.op = trace, task, op
        e = trace.events
        unit, first = trace.meta["time_unit_ns"], trace.meta["first_ns"]
        time = (calls["ts_ns"].to_numpy() - first) // unit
        within = (time >= 0) & (time <= int(e["time"][-1]))
        self.calls, time = calls.filter(within), time[within]
        # A prefill is written before what comes out of it, a return behind.
        early = (self.calls["event"] == PREFILL).to_numpy()
        self.place = np.where(
            early, np.searchsorted(e["time"], time, "left"), np.searchsorted(e["time"], time, "right")
        )
        # A sheaf is known by an address at which no object begins.
        self.sheaves, self.sheaf = np.unique(calls["sheaf"].to_numpy() | np.uint64(1), return_inverse=True)
        self.sheaf = self.sheaf[within]

    def added(self) -> tuple[pl.DataFrame, np.ndarray]:
        """The calls as events to be woven in, and the addresses of their sheaves; what comes out of prefilled ones is
        marked in ``op``."""
        by_task = "pid" in self.calls.columns and "tasks" in self.trace.meta
        pid = self.calls["pid"].to_numpy() if by_task else -1 - self.calls["cpu"].to_numpy()
        first = len(self.trace.ptrs)
        columns = ("event", "cache", "amount", "failed", "cpu")
        calls = zip(self.place.tolist(), self.sheaf.tolist(), self.calls.select(columns).iter_rows(), strict=True)
        rows: list[tuple[Any, ...]] = []
        number: dict[int, int] = {}  # of each sheaf the prefill that it is out by
        for i, (place, sheaf, (event, cache, amount, failed, cpu)) in enumerate(calls):
            if event == PREFILL:
                number[sheaf] = first + i
            op = co.OP_PREFILL_FAILED if failed else _OPS[event]
            rows.append((place, op, cache, event, amount, number.get(sheaf, first + i), cpu))
        told = self._taken(rows, pid.tolist(), by_task)
        tries = self._tries(rows, pid) if by_task else []
        table = pl.DataFrame(rows + told + tries, schema=ADDED, orient="row").sort("place", maintain_order=True)
        return table, self.sheaves[self.sheaf]

    def _tries(self, rows: list[tuple[Any, ...]], pid: np.ndarray) -> list[tuple[Any, ...]]:
        """Where each prefill may have been if others were at that cache's sheaves of its CPU between the task's event
        before and its own, which comes last: behind each of these. There it was if the sheaf that it would have had
        then holds as many objects as the one that it got [kmem_cache_prefill_sheaf]."""
        e = self.trace.events
        names, of_kind = self.trace.cache_names
        index = {name: c for c, name in enumerate(names)}
        cache, cpu = of_kind[e["kind"]], e["cpu"]
        order = np.lexsort((np.arange(len(self.task)), self.task))
        task = self.task[order]
        begin, end = np.searchsorted(task, pid, "left"), np.searchsorted(task, pid, "right")
        at: dict[tuple[str, int], np.ndarray] = {}
        since: dict[int, int] = {}  # place of each task's last call
        tries = []
        for i, (place, op, name, _, amount, sheaf, on) in enumerate(rows):
            own = order[begin[i] : end[i]]
            before = int(np.searchsorted(own, place)) - 1
            low = max(int(own[before]) + 1 if before >= 0 else 0, since.get(int(pid[i]), 0))
            since[int(pid[i])] = place
            if op != co.OP_PREFILL or low >= place:
                continue
            if (name, on) not in at:
                there = np.flatnonzero((cache == index.get(name, -1)) & (cpu == on) & (self.op <= co.OP_KFREE_RCU)) + 1
                calls = [row[0] for row in rows if row[2] == name and row[6] == on]
                at[name, on] = np.unique(np.concatenate([there, np.array(calls, np.int64)]))
            first, last = np.searchsorted(at[name, on], (low, place), "right").tolist()
            if last <= first:
                continue
            held = min(int(self.calls["n"][i]), (1 << 11) - 1)
            packed = TRY | held << 12 | min(amount, (1 << 12) - 1)
            for where in (low, *at[name, on][max(first, last - LONGEST) : last].tolist()):
                tries.append((where, co.OP_PREFILL, name, PREFILL, packed, sheaf, on))
        return tries

    def _taken(self, rows: list[tuple[Any, ...]], pid: list[int], by_task: bool) -> list[tuple[Any, ...]]:
        """Mark what comes out of prefilled sheaves, and tell the sheaf where it is not the last one of its CPU."""
        e = self.trace.events
        names, of_kind = self.trace.cache_names
        prefilled = self.calls.filter(event=PREFILL)["cache"].unique()
        wanted = np.isin(np.array(names, dtype=str), prefilled.to_numpy().astype(str))[of_kind][e["kind"]]
        allocs = np.flatnonzero(wanted & (self.op == co.OP_ALLOC))
        who = (self.task if by_task else -1 - e["cpu"].astype(np.int64))[allocs].tolist()
        cache, on = of_kind[e["kind"][allocs]], e["cpu"][allocs].tolist()
        turns = [(row[0], 0, i) for i, row in enumerate(rows)] + [(row, 1, i) for i, row in enumerate(allocs.tolist())]
        in_use: dict[tuple[str, int], list[int]] = {}
        last: dict[tuple[str, int], list[int]] = {}  # of each CPU, the latest sheaf last
        told = []
        for place, is_alloc, i in sorted(turns):
            if is_alloc:
                name, cpu = names[cache[i]], on[i]
                own = in_use.get((name, who[i]))
                if not own:
                    continue
                self.op[place] = co.OP_SHEAF_ALLOC
                if last.setdefault((name, cpu), [-1])[-1] != own[-1]:
                    told.append((place, co.OP_NEXT_SHEAF, name, co.OPS[co.OP_NEXT_SHEAF], 0, own[-1], cpu))
                    _forget(last, name, own[-1])
                    last[name, cpu].append(own[-1])
                continue
            _, op, name, _, _, sheaf, cpu = rows[i]
            own = in_use.setdefault((name, pid[i]), [])
            if op == co.OP_PREFILL:
                own.append(sheaf)
                last.setdefault((name, cpu), [-1]).append(sheaf)
            elif op == co.OP_RETURN_SHEAF:
                _forget(in_use, name, sheaf)
                _forget(last, name, sheaf)
        return told


def _forget(lists: dict[tuple[str, int], list[int]], name: str, sheaf: int) -> None:
    for (cache, _), held in lists.items():
        if cache == name and sheaf in held:
            held.remove(sheaf)


__all__ = ["AMOUNTS", "as_plain_calls", "read_sheaf_calls", "sheaf_calls_of", "tasks", "with_sheaf_calls"]
