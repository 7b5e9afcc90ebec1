"""Recorded tables: a thinned set travels with the tests, the whole is checked where it is at hand."""

import gzip
import shutil

import polars as pl
import pytest

from fastalloc.verify.geometry_tables import check_geometry_folder
from fastalloc.verify.kernel_folder import check_kernel_folder
from fastalloc.verify.kernel_geometry import count_cpus, present_cpus
from fastalloc.verify.tables import TableResult
from fastalloc.verify.watermark_table import check_watermarks
from tests.geometry.shared import DATA, shared


def assert_exact(results, least):
    results = list(results)
    assert len(results) >= least
    for result in results:
        assert result.rows > 0, result.name
        assert result.first is None, result
        assert result.ok, result
    return {result.name: result for result in results}


def test_golden_layouts_that_travel():
    assert_exact(check_geometry_folder(DATA / "golden_geometry"), 19)


def test_golden_layouts():
    results = assert_exact(check_geometry_folder(shared("golden", "geometry")), 19)
    assert results["geom_slub64.parquet"].rows == 22034


def test_recorded_kernels_that_travel():
    results = assert_exact(check_kernel_folder(DATA / "kernel_tables"), 5)
    alone = results["geometry.csv.gz: alias, one boot alone"]
    assert all("SLAB_ACCOUNT" in row.reason for row in alone.underivable)


def test_recorded_kernels():
    results = assert_exact(check_kernel_folder(shared("kernel")), 5)
    assert results["geometry.csv.gz: primary"].rows == 16592
    aliases = results["geometry.csv.gz: alias, with the other boots"]
    assert (aliases.rows, aliases.underivable) == (2886, [])
    assert results["watermarks.csv"].rows == 1750


def test_recorded_kernels_with_sheaves():
    results = assert_exact(check_kernel_folder(shared("kernel-7.x")), 5)
    assert results["geometry.csv.gz: primary"].rows == 5304
    slots = results["geometry.csv.gz: slot size"]
    assert {row.name for row in slots.underivable} == {"TCP", "TCPv6", "vm_area_struct"}
    assert all("use_freeptr_offset" in row.reason for row in slots.underivable)
    assert results["geometry.csv.gz: alias, with the other boots"].rows == 750
    assert results["watermarks.csv"].rows == 350
    assert {result.kernels for result in results.values()} == {"7.2, 7.3"}


def test_a_table_without_rows_is_no_fault_of_its_folder(tmp_path):
    """A boot without merging has no aliases, and one that no sysctl was written on no marks to compare."""
    with gzip.open(DATA / "kernel_tables" / "geometry.csv.gz", "rt") as file:
        head, *lines = file
    alone = [line for line in lines if line.split(",")[9] == "1"]
    (tmp_path / "geometry.csv").write_text("".join([head, *alone]))
    shutil.copy(DATA / "kernel_tables" / "geometry_boots.csv", tmp_path)
    head = (DATA / "kernel_tables" / "watermarks.csv").read_text().splitlines(keepends=True)[0]
    (tmp_path / "watermarks.csv").write_text(head)
    results = {result.name: result for result in check_kernel_folder(tmp_path)}
    assert all(result.ok for result in results.values())
    assert results["geometry.csv: alias, one boot alone"].rows == 0
    assert results["watermarks.csv"].rows == 0


@pytest.mark.parametrize(
    ("smp", "possible", "online", "present"),
    [
        ("4", "0-3", "0-3", 4),
        (4, "0-3", "0-1", 4),  # maxcpus=2
        ("4", "0-1", "0-1", 2),  # nr_cpus=2
        ("2,maxcpus=16", "0-15", "0-1", 2),
        ("1,maxcpus=16", "0-15", "0", 1),
        ("cpus=2,cores=2", "0-1", "0-1", 2),
        (None, "0-7", "0-5", 6),
    ],
)
def test_cpus_that_are_present(smp, possible, online, present):
    assert present_cpus({"smp": smp, "cpus_possible": possible, "cpus_online": online}) == present


def test_rows_of_marks_may_come_in_any_order(tmp_path):
    frame = pl.read_csv(DATA / "kernel_tables" / "watermarks.csv", infer_schema_length=None)
    frame.sample(fraction=1.0, shuffle=True, seed=1).write_csv(tmp_path / "watermarks.csv")
    result = check_watermarks(tmp_path / "watermarks.csv")
    assert result.ok
    assert result.rows == check_watermarks(DATA / "kernel_tables" / "watermarks.csv").rows > 0


# A 7.3 of 8 GB, one CPU: after min_free_kbytes=1024, and after percpu_pagelist_high_fraction=8
# [zone_set_pageset_high_and_batch: the low mark, and an eighth of the zone; by hand, that for both].
@pytest.mark.parametrize(("fraction", "least", "most"), [(0, 1000, 25_000), (8, 25_000, 25_000)])
def test_bounds_of_a_high_mark_that_tunes_itself(tmp_path, fraction, least, most):
    row = {
        "kernel": "v7.3", "boot": "made-up", "smp": 1, "set_idx": 1, "min_free_kbytes": 3200,
        "watermark_scale_factor": 10, "lowmem_reserve_ratio": "256 256 32 0 0", "node": 0, "zone": "DMA32", "boost": 0,
        "percpu_pagelist_high_fraction": fraction, "min": 800, "low": 1000, "high": 1200, "promo": 1400,
        "managed": 200_000, "protection": "0 0 0 0 0", "pcp_high": 5000, "pcp_batch": 63,
        "pcp_high_min": least, "pcp_high_max": most,
    }  # fmt: skip
    for change in ({}, {"pcp_high_min": least + 1}, {"pcp_high_max": most - 1}):
        pl.DataFrame([row | change]).write_csv(tmp_path / "watermarks.csv")
        result = check_watermarks(tmp_path / "watermarks.csv")
        assert result.rows == 1
        assert [result.first and result.first.column] == [next(iter(change), None)]
    pl.DataFrame([row]).drop("pcp_high_min", "pcp_high_max", "promo").write_csv(tmp_path / "watermarks.csv")
    assert check_watermarks(tmp_path / "watermarks.csv").ok


@pytest.mark.parametrize("build", ["slub64", "slab64"])
def test_a_creation_that_is_refused_has_no_layout(tmp_path, build):
    """FORMAT of the golden cases, section 9: nulls. An object of 16 MB is larger than any block of pages."""
    path = tmp_path / f"geom_{build}.parquet"
    table = pl.read_parquet(DATA / "golden_geometry" / path.name).head(3)
    refused = table.head(1).with_columns(
        pl.lit(None, kind).alias(name) for name, kind in table.schema.items() if name not in ("align", "flags", "ctor")
    )
    refused = refused.with_columns(size=pl.lit(1 << 24, table.schema["size"]))
    pl.concat([table, refused]).write_parquet(path)
    (result,) = check_geometry_folder(tmp_path)
    assert (result.rows, result.exact) == (4, 4)
    pl.concat([table, refused.with_columns(table.head(1)[table.columns[4]])]).write_parquet(path)
    (result,) = check_geometry_folder(tmp_path)
    assert result.first is not None
    assert result.first.column == table.columns[4]


def test_a_wrong_row_is_named(tmp_path):
    for path in (DATA / "golden_geometry").iterdir():
        if "slub64." in path.name:
            shutil.copy(path, tmp_path)
    path = tmp_path / "geom_slub64.parquet"
    frame = pl.read_parquet(path)
    frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 7)
        .then(pl.col("slub_order") + 1)
        .otherwise(pl.col("slub_order"))
        .alias("slub_order")
    ).write_parquet(path)
    (result,) = [result for result in check_geometry_folder(tmp_path) if not result.ok]
    assert (result.rows - result.exact, result.first.row, result.first.column) == (1, 7, "slub_order")
    assert result.first.expected == result.first.got + 1


def test_a_wrong_alias_is_named(tmp_path):
    for path in (DATA / "kernel_tables").iterdir():
        shutil.copy(path, tmp_path)
    path = tmp_path / "geometry.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    head, *lines = text.splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if line.split(",")[7] == "aio_kiocb" and line.split(",")[9] == "0")
    cells = lines[at].split(",")
    cells[8] = "somebody"
    lines[at] = ",".join(cells)
    path.write_bytes(gzip.compress("".join([head, *lines]).encode()))
    wrong = {result.name: result for result in check_kernel_folder(tmp_path) if not result.ok}
    assert "geometry.csv.gz: alias, with the other boots" in wrong
    first = wrong["geometry.csv.gz: alias, with the other boots"].first
    assert (first.row, first.column, first.expected) == (at, "alias_of", "somebody")


def test_a_table_without_its_columns_is_refused(tmp_path):
    (tmp_path / "watermarks.csv").write_text("kernel,boot,set_idx\nv6.1,x,1\n")
    with pytest.raises(ValueError, match=r"watermarks\.csv"):
        check_watermarks(tmp_path / "watermarks.csv")
    folder = tmp_path / "geometry"
    folder.mkdir()
    (folder / "kmalloc_slub64.csv").write_text("cache\nkmalloc-8\n")
    with pytest.raises(ValueError, match=r"kmalloc_slub64\.csv"):
        list(check_geometry_folder(folder))


def test_a_missing_boot_cache_is_a_difference(tmp_path):
    for name in ("base_slub64.csv", "misc_slub64.csv"):
        shutil.copy(DATA / "golden_geometry" / name, tmp_path)
    lines = (tmp_path / "base_slub64.csv").read_text().splitlines(keepends=True)
    (tmp_path / "base_slub64.csv").write_text("".join(lines[:-1]))
    (result,) = check_geometry_folder(tmp_path)
    assert not result.ok
    assert (result.first.row, result.first.column) == (11, "name")


def test_count_cpus():
    assert [count_cpus(text) for text in ("0", "0-3", "0-1,4", "0-15")] == [1, 4, 3, 16]


def test_result_counts():
    result = TableResult("x")
    result.compare(0, {"a": 1}, {"a": 1, "b": 2})
    result.compare(1, {"a": 1}, {"a": 2})
    assert (result.rows, result.exact, result.ok, result.first.got) == (2, 1, False, 2)
