"""What merging would change, predicted from a kernel without it, against a kernel that merges.

No two of the recorded runs have one load and differ by merging alone; nearest come two of the same program, forking
four and two processes at a time. Their caches that share slabs in the second hold about as much in both.
"""

import polars as pl
import pytest

from fastalloc.trace.replay.check import read_summary
from fastalloc.trace.replay.recording import beside, open_recording
from tests.geometry.shared import shared

APART, MERGED = "d_w3_k61_smp2_nomerge", "d_pure_w3_k61_smp2"


def merged_groups(folder, table):
    """End pages of each group of caches that the second kernel merges: both kernels, and both predictions.

    ``folder`` has traces/ and the layouts of their boots; ``table``: where the layouts of the second are written.
    """
    boots = pl.read_csv(folder / "trace_geometry.csv.gz", infer_schema_length=None)
    boots.filter(pl.col("run") == MERGED).drop("run").write_csv(table)
    path = folder / "traces" / f"{APART}.events.parquet"
    recording = open_recording(path, beside(path, "slabstate"), table, "6.1", "")
    lanes = [item.result.caches for item in recording.run(["merge"])]
    real = [
        read_summary(folder / "traces" / f"{run}.summary.csv").rename({"end_slabs": "end"}) for run in (APART, MERGED)
    ]
    stands_for = pl.col("cache").replace(recording.aliases).alias("group")
    pages = (pl.col("end").cast(pl.Int64) * pl.lit(2, pl.Int64).pow(pl.col("order"))).sum().alias("pages")
    ends = [part.group_by(stands_for).agg(pages, caches=(pl.col("end") > 0).sum()) for part in (*real, *lanes)]
    joined = ends[0].filter(pl.col("caches") > 1, pl.col("group").is_in(list(recording.aliases.values())))
    for part, name in zip(ends[1:], ("real_merged", "apart", "merged"), strict=True):
        joined = joined.join(part.select("group", pl.col("pages").alias(name)), on="group")
    return joined.sort("pages", "group", descending=[True, False])


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    return merged_groups(shared("kernel"), tmp_path_factory.mktemp("geometry") / "merging.csv")


def test_each_group_shrinks_where_the_real_one_does(groups):
    real, predicted = groups["real_merged"] - groups["pages"], groups["merged"] - groups["apart"]
    assert len(groups) >= 8
    assert (real <= 0).all()
    assert (predicted <= 0).all()
    assert ((real < 0) == (predicted < 0)).sum() >= len(groups) - 1


def test_merging_saves_about_what_it_saves_in_the_kernel(groups):
    real = groups["pages"].sum() - groups["real_merged"].sum()
    predicted = groups["apart"].sum() - groups["merged"].sum()
    assert 0.5 < predicted / real < 2
