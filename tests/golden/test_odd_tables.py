"""Folders of tables as users have them: what says nothing is no success, what is wrong is told by file and column."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from fastalloc.verify.jobs import find_jobs, run_jobs

DATA = Path(__file__).parents[1] / "data"
TABLES = DATA / "kernel_tables"


def faults(folder: Path) -> list[str]:
    return [str(result.fault) for result in run_jobs(find_jobs(folder), 1) if result.fault is not None]


def test_tables_whose_machines_nobody_names_are_no_success(tmp_path: Path) -> None:
    shutil.copy(TABLES / "geometry.csv.gz", tmp_path)
    assert faults(tmp_path) == [
        f"{tmp_path / 'geometry_boots.csv'}: is missing: it names the machines of geometry.csv.gz"
    ]


def test_a_folder_whose_tables_have_unknown_names_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "geom_mine.parquet").write_bytes(b"PAR1")
    (fault,) = faults(tmp_path)
    assert "holds no table of a name that is known" in fault


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("watermarks.csv", "run,zone\r\nx,DMA\r\n", "watermarks.csv: kernel: column is missing"),
        ("watermarks.csv", "", "watermarks.csv: is not readable as CSV"),
        ("watermarks.csv", "a,b\n1,2,3\n", "watermarks.csv: line 2: 3 fields"),
        ("geometry_boots.csv", "boot\nx\n", "geometry_boots.csv: kernel: column is missing"),
    ],
)
def test_what_a_table_lacks_is_told(tmp_path: Path, name: str, text: str, words: str) -> None:
    if name == "geometry_boots.csv":
        shutil.copy(TABLES / "geometry.csv.gz", tmp_path)
    (tmp_path / name).write_text(text)
    (fault,) = faults(tmp_path)
    assert fault.startswith(str(tmp_path))
    assert words in fault


def test_a_table_that_cannot_be_read_leaves_the_others_of_its_folder(tmp_path: Path) -> None:
    for path in TABLES.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "watermarks.csv").write_text("run\n")
    results = run_jobs(find_jobs(tmp_path), 1)
    assert [result.fault is None for result in results] == [True] * (len(results) - 1) + [False]
    assert len(results) > 1


@pytest.mark.parametrize(
    ("value", "words"), [(float("nan"), "holds Float64, not integers"), ("x", "holds String, not integers")]
)
def test_results_that_are_no_whole_numbers_are_refused(tmp_path: Path, value: object, words: str) -> None:
    shutil.copytree(DATA / "golden" / "hand50", tmp_path / "case")
    path = tmp_path / "case" / "slub64" / "ops.parquet"
    table = pl.read_parquet(path)
    table.with_columns(idx=pl.lit(value)).write_parquet(path)
    assert faults(tmp_path) == [f"{path}: column idx: {words}"]
    table.with_columns(note=pl.lit("x")).write_parquet(path)
    assert faults(tmp_path) == []
