"""Readings as a user has them, from recordings whose exact lists are known: the lists are withheld."""

import polars as pl

from fastalloc.trace.compact.recording_name import run_of
from fastalloc.trace.lanes.caches import caches_of_state
from fastalloc.trace.lanes.state_table import read_state
from fastalloc.trace.replay.recording import beside

SYSFS = ("slabs", "objects", "total_objects", "partial", "cpu_slabs", "slabs_cpu_partial")


def _by_node(counts):
    """cache, text of a sysfs file with nodes, from cache, node, count."""
    totals = counts.sort("node").group_by("cache", maintain_order=True)
    return totals.agg(
        text=pl.format("{} {}", pl.col("count").sum(), pl.format("N{}={}", "node", "count").str.join(" "))
    )


def write_readings(path, into):
    """``RUN.slabs.csv`` in folder ``into`` for the recording at ``path``: what its program read from /sys/kernel/slab
    just before, and by node (its snapshots kept sums) what sysfs would have said; the layouts of the boot."""
    run = run_of(path)
    dump = pl.read_parquet(beside(path, "slabstate"))
    state = dump.filter(pl.col("snap") == dump["snap"].min())
    file = beside(path, "snapshots")
    shots = pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_csv(file, infer_schema_length=None)
    shots = shots.filter(pl.col("label") == "pre")
    table = shots.select("cache", *(pl.col(name).cast(pl.String) for name in SYSFS))
    nodes = state.filter(pl.col("rec") == "node")
    if nodes["node"].n_unique() > 1:
        listed = state.filter(pl.col("rec") == "node_partial")
        free = listed.group_by("cache", "node").agg(free=(pl.col("objects") - pl.col("inuse")).sum())
        nodes = nodes.join(free, on=["cache", "node"], how="left").with_columns(pl.col("free").fill_null(0))
        for column, count in (
            ("slabs", pl.col("nr_slabs")), ("partial", pl.col("nr_partial")),
            ("total_objects", pl.col("total_objects")),
            ("objects", pl.col("total_objects") - pl.col("free")),
        ):  # fmt: skip
            texts = _by_node(nodes.select("cache", "node", count=count))
            table = table.join(texts, on="cache", how="left").with_columns(pl.coalesce("text", column).alias(column))
            table = table.drop("text")
    layout = pl.DataFrame(
        [
            (cache.name, cache.size, cache.object_size, cache.order, cache.objects, cache.min_partial)
            for cache in caches_of_state(state)
        ],
        schema=["cache", "slab_size", "object_size", "order", "objs_per_slab", "min_partial"],
        orient="row",
    )
    partial = state.filter(pl.col("rec") == "cache").select("cache", "cpu_partial").unique()
    table = layout.join(partial, on="cache").join(table, on="cache", how="left")
    target = into / f"{run}.slabs.csv"
    table.write_csv(target)
    return target


def first_pfn(path):
    """The first page frame of each node, as /proc/zoneinfo says, from the recording's lists."""
    lists = read_state(beside(path, "slabstate")).filter(pl.col("rec") == "node_partial")
    pfns = lists.group_by("node").agg(pl.col("pfn").min()).sort("node")["pfn"].to_list()
    return (0, *pfns[1:])
