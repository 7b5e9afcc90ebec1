"""How large should sheaves be? Capacity, full and empty sheaves of a barn, over recorded traces of 7.x.

    python results/sheaf-tuning/study.py TRACES     # a folder with RUN.events.parquet and the tables beside each

Writes sheaf-tuning.csv (a row a run, setting and class of slot), sheaf-tuning.svg.
"""

import itertools
import sys
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl

from fastalloc.kernels.replay.kmem_events import CACHE_SERIES
from fastalloc.trace.replay.recording import beside, open_recording

HERE = Path(__file__).parent
CAPACITIES = (None, 4, 8, 16, 32, 60, 120)
FULL = (2, 10, 40)
EMPTY = (2, 10)
AS_BUILT = (None, 10, 10)
WAYS = ("alloc_fast", "alloc_slow", "free_fast", "free_slow")
CLASSES = (("< 256 B", 256), ("< 1 KiB", 1024), ("< 4 KiB", 4096), (">= 4 KiB", 1 << 31))


def class_of(size: int) -> str:
    """The class by which the kernel chooses a sheaf's capacity [mm/slub.c of 7.3, calculate_sheaf_capacity]."""
    return next(name for name, bound in CLASSES if size < bound)


def setting(capacity: int | None, full: int, empty: int) -> str:
    words = [f"sheaf_capacity={capacity}"] if capacity else []
    return ",".join([*words, f"max_full_sheaves={full}", f"max_empty_sheaves={empty}"])


def rows_of(path: Path) -> list[dict]:
    """What each setting comes to in one run, by class of slot and in all."""
    run = path.name.split(".")[0]
    boot = "slab_nomerge slab_max_order=0" if "maxorder0" in run else "slab_nomerge" if "nomerge" in run else ""
    boot = "slab_nomerge" if "numa2" in run else boot
    recording = open_recording(path, beside(path, "slabstate"), None, "7.2" if "k72" in run else "7.3", boot)
    settings = list(itertools.product(CAPACITIES, FULL, EMPTY))
    found = []
    for (capacity, full, empty), prediction in zip(
        settings, recording.run([setting(*each) for each in settings], threads=2)[1:], strict=True
    ):
        caches, series = prediction.result.caches, prediction.result.series
        pages = series[:, :, CACHE_SERIES.slabs].astype(np.int64) << caches["order"].to_numpy()
        classes = np.array([class_of(size) for size in caches["size"]])
        for name in ("all", *(name for name, _ in CLASSES)):
            inside = classes == name if name != "all" else np.ones(len(classes), bool)
            part = caches.filter(pl.Series(inside))
            found.append(
                {
                    "run": run, "capacity": capacity or 0, "full": full, "empty": empty, "class": name,
                    "peak_pages": int(pages[:, inside].sum(axis=1).max(initial=0)),
                    "operations": int(sum(part[way].sum() for way in WAYS)),
                    "list_locks": int((part["list_lock"] - part["barn_lock"]).sum()),
                    "barn_locks": int(part["barn_lock"].sum()),
                }
            )  # fmt: skip
    return found


def relative(table: pl.DataFrame) -> pl.DataFrame:
    """Medians over the runs: pages beside the kernel as built, in percent, and locks a thousand operations."""
    key = [pl.col("capacity") == (AS_BUILT[0] or 0), pl.col("full") == AS_BUILT[1], pl.col("empty") == AS_BUILT[2]]
    built = table.filter(*key).select("run", "class", built="peak_pages")
    each = table.join(built, on=["run", "class"]).filter(pl.col("operations") > 0, pl.col("built") > 0)
    each = each.with_columns(
        memory=(pl.col("peak_pages") / pl.col("built") - 1) * 100,
        lists=pl.col("list_locks") * 1000 / pl.col("operations"),
        barns=pl.col("barn_locks") * 1000 / pl.col("operations"),
    )
    medians = each.group_by("class", "capacity", "full", "empty").agg(pl.col("memory", "lists", "barns").median())
    medians = medians.with_columns(locks=pl.col("lists") + pl.col("barns")).sort("class", "memory", "locks")
    return medians.with_columns(front=on_the_front())


def on_the_front() -> pl.Expr:
    """Fewer locks than every row of its class with less memory; the rows ascend by memory."""
    return pl.col("locks") < pl.col("locks").cum_min().shift(1, fill_value=float("inf")).over("class")


def chart(medians: pl.DataFrame) -> alt.Chart:
    """Memory against locks, a panel a class, the front joined."""
    named = medians.with_columns(
        capacity=pl.when(pl.col("capacity") == 0)
        .then(pl.lit("as built"))
        .otherwise(pl.col("capacity").cast(pl.String)),
        built=(pl.col("capacity") == 0) & (pl.col("full") == 10) & (pl.col("empty") == 10),
    )
    order = ["as built", *map(str, CAPACITIES[1:])]
    x = alt.X("memory:Q", title="peak pages beside the kernel as built, %")
    y = alt.Y("locks:Q", title="list and barn locks / 1000 operations").scale(type="symlog")
    color = alt.Color("capacity:N", sort=order, title="objects a sheaf")
    base = alt.Chart(named)
    points = base.mark_point(filled=True, size=45).encode(x, y, color, alt.Shape("full:N", title="full sheaves"))
    ring = base.transform_filter("datum.built").mark_point(size=220, color="black").encode(x, y)
    front = base.transform_filter("datum.front").mark_line(color="#888", strokeDash=[4, 3]).encode(x, y)
    panel = alt.layer(front, points, ring).properties(width=250, height=190)
    return panel.facet(
        alt.Facet("class:N", title=None, sort=["all", *(name for name, _ in CLASSES)]), columns=3
    ).resolve_scale(x="independent", y="independent")


def tables(table: pl.DataFrame) -> str:
    """The tables of the docs, barns of up to 10 empty sheaves: all classes together; each with 10 full ones."""
    whole = relative(table).filter(pl.col("class") == "all", pl.col("empty") == 10)
    whole = whole.with_columns(front=on_the_front()).sort("capacity", "full")
    lines = ["| objects a sheaf | full sheaves | peak pages | list locks | barn locks | on the front |"]
    lines.append("|---|---:|---:|---:|---:|---|")
    for row in whole.iter_rows(named=True):
        size = row["capacity"] or "as built"
        lines.append(
            f"| {size} | {row['full']} | {row['memory']:+.1f} % | {row['lists']:.1f} | {row['barns']:.1f} | "
            f"{'yes' if row['front'] else ''} |"
        )
    names = [name for name, _ in CLASSES]
    lines += ["", f"| objects a sheaf | {' | '.join(f'slots {name}: pages, locks' for name in names)} |"]
    lines.append("|---|" + "---:|" * len(names))
    rows = relative(table).filter(pl.col("full") == AS_BUILT[1], pl.col("empty") == AS_BUILT[2])
    found = {(row["class"], row["capacity"]): row for row in rows.iter_rows(named=True)}
    for capacity in CAPACITIES:
        chosen = (found[name, capacity or 0] for name in names)
        cells = (f"{row['memory']:+.1f} %, {row['locks']:.1f}" for row in chosen)
        lines.append(f"| {capacity or 'as built'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Run all, write table and chart."""
    paths = [path for path in sorted(folder.glob("*.events.parquet")) if beside(path, "sheaftruth")]
    paths = [path for path in paths if not any(word in path.name for word in ("_pure_", "_perf_"))]
    table = pl.DataFrame([row for path in paths for row in rows_of(path)])
    table.write_csv(HERE / "sheaf-tuning.csv")
    medians = relative(table)
    chart(medians).save(HERE / "sheaf-tuning.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
