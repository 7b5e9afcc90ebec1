"""Tables and charts of the sweeps that ship, from their datasets: ``make sweeps`` runs them and then this.

Reads out/NAME and writes NAME.csv beside the sweep files; for the band also stealing-band.svg.
"""

import sys
from pathlib import Path

import altair as alt
import polars as pl

import fastalloc
from fastalloc.report.statistics import wilson_interval
from fastalloc.report.sweep import is_of_traces, point_table, replay_table

HERE = Path(__file__).parent


def band(pages_min: pl.Expr) -> pl.Expr:
    """Pages between 3/4 of min, where a bio's first try ends, and 3/8 of min, where a sense buffer's does.

    As ``zone_watermark_ok`` of 2.6.25 halves and quarters: integers, rounded up. __GFP_HIGH takes off half, and
    ALLOC_HARDER (no __GFP_WAIT) a quarter of what is left.
    """
    half = pages_min - pages_min // 2
    return (pages_min - pages_min // 4) - (half - half // 4)


def stealing_band(dataset: fastalloc.Dataset) -> pl.DataFrame:
    """A row a value of min_free_kbytes with a livelock: stuck pages, and slots in the slabs of the band."""
    slots = pl.col("at_deep_slots")
    found = (
        dataset.runs.filter(livelock_5s=1)
        .with_columns(law=31 * (band(pl.col("machine.zones.DMA.min")) + band(pl.col("machine.zones.DMA32.min"))))
        .group_by("machine.min_free_kbytes")
        .agg(
            (pl.first("machine.zones.DMA.min") + pl.first("machine.zones.DMA32.min")).alias("pages_min"),
            pl.len().alias("livelocked"),
            pl.median("at_writeback").alias("stuck_pages"),
            slots.quantile(0.25, "nearest").alias("slots_q1"),
            slots.median().alias("slots"),
            slots.quantile(0.75, "nearest").alias("slots_q3"),
            slots.max().alias("slots_max"),
            pl.first("law"),
        )
        .sort("machine.min_free_kbytes")
    )
    return found.collect()


def combinations(dataset: fastalloc.Dataset) -> pl.DataFrame:
    """A row a policy and allocator, over all machines: lanes, livelocked ones with the 95 % Wilson
    interval, sense failures a lane, median of pages swapped out beside the same machine's rc8 under SLUB of 2.6.25."""
    machine = ["host.queue_depth", "machine.zones.DMA32.present", "machine.cpus", "lane"]
    allocator = pl.when("policy.min_partial_on_free").then(pl.lit("slub, min_partial")).otherwise("policy.allocator")
    runs = dataset.runs.with_columns(allocator=allocator).collect()
    base = runs.filter(variant="rc8", allocator="slub").select(*machine, base="pages_swapped_out")
    table = (
        runs.join(base, on=machine, how="left")
        .group_by("variant", "allocator")
        .agg(
            lanes=pl.len(),
            livelocked=pl.sum("livelock_5s"),
            sense_fail=pl.mean("sense_fail"),
            swapped_out=(pl.col("pages_swapped_out") / pl.col("base")).median(),
            slab_pages=pl.median("max_slab_pages"),
        )
        .sort("variant", "allocator")
    )
    intervals = [wilson_interval(row["livelocked"], row["lanes"]) for row in table.iter_rows(named=True)]
    low, high = ([interval[end] for interval in intervals] for end in (0, 1))
    return table.insert_column(4, pl.Series("low", low)).insert_column(5, pl.Series("high", high))


def draw_band(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Measured slots with their quartiles, the closed form as steps, and all stuck pages above."""
    x = alt.X("pages_min:Q", title="pages_min (both zones)", scale=alt.Scale(zero=False))
    base = alt.Chart(alt.Data(values=table.to_dicts())).encode(x=x)
    law = base.mark_line(interpolate="step", color="#c23434").encode(y="law:Q")
    bars = base.mark_rule(color="#2b7bba").encode(
        y=alt.Y("slots_q1:Q", title="slots in slabs of the band"), y2="slots_q3:Q"
    )
    dots = base.mark_point(filled=True, size=70, color="#2b7bba").encode(y="slots:Q")
    last = table.tail(1).to_dicts()
    named = (
        alt.Chart(alt.Data(values=last))
        .mark_text(align="right", dy=-8, color="#c23434")
        .encode(x="pages_min:Q", y="law:Q", text=alt.value("31 × ((m − m/4) − (h − h/4)),  h = m − m/2"))
    )
    stuck = base.mark_point(filled=True, size=70, color="#555").encode(
        y=alt.Y("stuck_pages:Q", title="pages stuck", scale=alt.Scale(zero=True))
    )
    return alt.vconcat(
        stuck.properties(width=620, height=130, title="Pages stuck in writeback 5 s into the livelock (median)"),
        alt.layer(law, bars, dots, named).properties(
            width=620,
            height=240,
            title="Of them in slabs that a bio could not have allocated: median, quartiles, closed form",
        ),
    )


def main(out: Path) -> None:
    """Writes what is there."""
    for sweep in sorted(HERE.glob("*.toml")):
        if not (out / sweep.stem / "manifest.json").exists():
            print(f"{sweep.stem}: no dataset in {out}", file=sys.stderr)
            continue
        dataset = fastalloc.open_dataset(out / sweep.stem)
        if sweep.stem == "stealing-band":
            table = stealing_band(dataset)
            draw_band(table).save(HERE / "stealing-band.svg")
        elif sweep.stem == "policy-combinations":
            table = combinations(dataset)
        else:
            record = dataset.manifest["sweep"]
            table = replay_table(dataset) if is_of_traces(dataset) else point_table(dataset)
            table = table.drop("point", *(name for name in record["varied"] if name not in record["axes"]))
        table.write_csv(HERE / f"{sweep.stem}.csv", float_precision=4)
        print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out"))
