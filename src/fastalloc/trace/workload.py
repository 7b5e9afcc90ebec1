"""A workload fitted from a trace: what a machine allocates, as distributions, and new traces drawn from them.

Its form is that of :mod:`fastalloc.scenario.fitted`, so that it is also a background load in a scenario.

Drawn are gaps, lives and CPUs, each by itself: rates, burstiness, the number of living objects and the traffic
between CPUs come out as they were; what one cache has to do with another does not.
"""

from typing import Any

import numpy as np
import polars as pl

from fastalloc.errors import InputError
from fastalloc.scenario.fitted import FORMAT, QUANTILES, scaled_gaps
from fastalloc.trace.compact import compact as co

WINDOW_NS = 10_000_000
MOST_EVENTS = 1 << 28


def fit(trace: co.CompactTrace) -> dict[str, Any]:
    """The workload of ``trace``; caches that allocate fewer than two objects are left out and counted."""
    events = trace.events
    rows = np.flatnonzero(events["op"] <= co.OP_BULK_FREE)
    time = trace.time_ns()
    span = int(time[-1] - time[0]) if len(time) else 0
    if not span:
        raise InputError(trace.path, "", "is too short to fit a workload from")
    frame = pl.DataFrame(
        {
            "kind": events["kind"][rows], "object": events["object"][rows], "cpu": events["cpu"][rows],
            "alloc": np.isin(events["op"][rows], (co.OP_ALLOC, co.OP_BULK_ALLOC)), "ts": time[rows],
        }
    ).with_columns(
        paired=pl.col("alloc") & (pl.col("alloc").shift(-1).over("object") == False),  # noqa: E712
        life=pl.col("ts").shift(-1).over("object") - pl.col("ts"),
        away=pl.col("cpu").shift(-1).over("object") != pl.col("cpu"),
    )  # fmt: skip
    kinds = trace.kinds.with_row_index("kind")
    allocs = frame.filter("alloc").join(kinds, on="kind", how="left", maintain_order="left")
    caches, left_out = [], 0
    for (name,), own in sorted(allocs.group_by("cache"), key=lambda item: str(item[0][0])):
        if len(own) < 2:
            left_out += len(own)
            continue
        kind = (
            own.group_by("kind", maintain_order=True).len().sort("len", descending=True, maintain_order=True)["kind"][0]
        )
        event = trace.kinds.row(int(kind), named=True)
        lives = own.filter("paired")
        at = own["ts"].to_numpy()
        counts = np.bincount((at - time[0]) // WINDOW_NS, minlength=span // WINDOW_NS + 1)
        caches.append(
            {
                "cache": name,
                "rate": len(own) * 1e9 / span,
                "gap_ns": _quantiles(np.diff(at)),
                "dispersion": round(float(counts.var() / counts.mean()), 3),
                "life_ns": _quantiles(lives["life"].to_numpy()) if len(lives) else [],
                "kept": 1 - len(lives) / len(own),
                "cpus": (np.bincount(own["cpu"], minlength=trace.meta["cpus"]) / len(own)).tolist(),
                "away": float(lives["away"].mean() or 0) if len(lives) else 0.0,  # type: ignore[arg-type]
                **{key: event[key] for key in ("src", "bytes_req", "bytes_alloc", "gfp_flags", "node")},
            }
        )
    return {
        "format": FORMAT,
        "source": trace.meta["source"],
        "span_ns": span,
        "allocations_left_out": left_out,
        "caches": caches,
    }


def _quantiles(values: np.ndarray) -> list[int]:
    found: list[int] = np.quantile(values, np.linspace(0, 1, QUANTILES)).astype(np.int64).tolist()
    return found


def generate(load: dict[str, Any], seconds: float, seed: int) -> co.CompactTrace:
    """A trace of ``seconds`` drawn from ``load``; the same for the same ``seed``, cache by cache.

    Raises InputError for one of more than MOST_EVENTS events.
    """
    span = int(seconds * 1e9)
    expected = 2 * seconds * sum(cache["rate"] for cache in load["caches"])
    if not 0 < expected <= MOST_EVENTS:
        raise InputError(
            "--seconds", str(seconds), f"gives some {expected:,.0f} events; 1 to {MOST_EVENTS:,} can be made"
        )
    unit = co.time_unit(span)
    parts, first = [], 0
    for number, cache in enumerate(load["caches"]):
        part = _draw(cache, span, np.random.default_rng([seed, number]))
        part["kind"] = number
        part["object"] += first
        first = max(first, int(part["object"].max()) + 1) if len(part) else first
        parts.append(part)
    drawn = np.concatenate(parts)
    drawn = drawn[np.argsort(drawn["ns"], kind="stable")]
    events = np.zeros(len(drawn), co.EVENT)
    events["time"] = drawn["ns"] // unit
    for name in ("object", "kind", "cpu", "op"):
        events[name] = drawn[name]
    events.flags.writeable = False
    kinds = pl.DataFrame(
        {
            "cache": [cache["cache"] for cache in load["caches"]],
            "src": [cache["src"] for cache in load["caches"]],
            "call_site": ["fitted"] * len(load["caches"]),
            "bytes_req": pl.Series([int(cache["bytes_req"]) for cache in load["caches"]], dtype=pl.UInt32),
            "bytes_alloc": pl.Series([int(cache["bytes_alloc"]) for cache in load["caches"]], dtype=pl.UInt32),
            "gfp_flags": pl.Series([int(cache["gfp_flags"]) for cache in load["caches"]], dtype=pl.UInt32),
            "order": pl.Series([0] * len(load["caches"]), dtype=pl.UInt8),
            "node": pl.Series([int(cache["node"]) for cache in load["caches"]], dtype=pl.Int16),
        }
    )
    meta = {
        "source": f"{load.get('source', 'workload')}, fitted, seed {seed}",
        "first_ns": 0,
        "time_unit_ns": unit,
        "rows_read": len(events),
        "cpus": int(events["cpu"].max()) + 1 if len(events) else 0,
        "bulk_rows": True,
        "inferred": {},
    }
    ptrs = np.arange(1, first + 1, dtype="<u8") << np.uint64(6)
    markers = pl.DataFrame(schema={"ts_ns": pl.Int64, "text": pl.String})
    return co.CompactTrace("", events, ptrs, kinds, markers, meta)


_DRAWN = np.dtype([("ns", "i8"), ("object", "u4"), ("kind", "u4"), ("cpu", "u2"), ("op", "u1")])


def _draw(cache: dict[str, Any], span: int, rng: np.random.Generator) -> np.ndarray:
    """Events of one cache, allocations first; objects numbered from 0."""
    gaps = scaled_gaps(cache)
    steps = np.linspace(0, 1, len(gaps))
    times: list[np.ndarray] = []
    now = 0.0
    while now < span:
        drawn = now + np.cumsum(np.interp(rng.random(4096), steps, gaps))
        times.append(drawn)
        now = float(drawn[-1])
    at = np.concatenate(times)
    at = at[at < span].astype(np.int64)
    count = len(at)
    cpus = len(cache["cpus"])
    cpu = np.minimum(np.searchsorted(np.cumsum(cache["cpus"]), rng.random(count), side="right"), cpus - 1)
    moves = (rng.random(count) < cache["away"]) & (cpus > 1)
    free_cpu = np.where(moves, (cpu + rng.integers(1, max(cpus, 2), count)) % cpus, cpu)
    kept = rng.random(count) < cache["kept"]
    lives = cache["life_ns"] or [0]
    end = at + np.interp(rng.random(count), np.linspace(0, 1, len(lives)), lives).astype(np.int64)
    freed = ~kept & (end < span)
    out = np.zeros(count + int(freed.sum()), _DRAWN)
    out["ns"] = np.concatenate([at, end[freed]])
    out["object"] = np.concatenate([np.arange(count), np.flatnonzero(freed)])
    out["cpu"] = np.concatenate([cpu, free_cpu[freed]])
    out["op"] = np.repeat([co.OP_ALLOC, co.OP_FREE], [count, int(freed.sum())])
    return out


__all__ = ["fit", "generate"]
