"""A malformed case is refused with the file, the row or field, and the reason, in one line."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from fastalloc.cli.main import main
from fastalloc.errors import InputError
from fastalloc.kernels.replay import operations as rp
from fastalloc.verify.golden import run_case, verify_build
from fastalloc.verify.golden_case import read_case

SOURCE = Path(__file__).parents[1] / "data" / "golden" / "hand50"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "hand50"
    shutil.copytree(SOURCE, folder)
    return folder


def change(folder: Path, edit: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Rewrite the trace of a case."""
    path = folder / "trace.parquet"
    edit(pl.read_parquet(path)).write_parquet(path)


def put(column: str, row: int, value: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """An edit that sets one value of a trace."""

    def edit(table: pl.DataFrame) -> pl.DataFrame:
        values = table[column].cast(pl.Int64).to_list()
        values[row] = value
        return table.with_columns(pl.Series(column, values, dtype=pl.Int64))

    return edit


def rows_of(folder: Path, op: int) -> list[int]:
    """Rows of a trace with operation ``op``."""
    return [row for row, value in enumerate(pl.read_parquet(folder / "trace.parquet")["op"]) if value == op]


def refused(folder: Path) -> InputError:
    """The error that reading the case raises."""
    with pytest.raises(InputError) as caught:
        read_case(folder)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("column", ["op", "cpu", "cache", "obj_id", "gfp", "ctx_flags", "arg"])
def test_missing_column(case: Path, column: str) -> None:
    change(case, lambda table: table.drop(column))
    error = refused(case)
    assert error.path.endswith("trace.parquet")
    assert error.where == f"column {column}"
    assert error.message == "is missing"


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("op", 17, "there is no operation 17"),
        ("cpu", 8, "there is no CPU 8"),
        ("ctx_flags", 4, "4 has unknown bits"),
        ("gfp", 1 << 21, "2097152 has unknown bits"),
        ("cache", 1, "the manifest has no cache 1"),
        ("arg", 1 << 31, "2147483648 is not within -1 .. 2147483647"),
    ],
)
def test_value_out_of_range(case: Path, column: str, value: int, reason: str) -> None:
    change(case, put(column, 3, value))
    error = refused(case)
    assert error.where == f"row 3, {column}"
    assert error.message == reason


@pytest.mark.parametrize("op", [rp.OP_HOLD, rp.OP_SETMIN])
def test_a_node_that_the_build_has_not(case: Path, op: int) -> None:
    """Hundreds of pages held nowhere would show only in a checkpoint's counts."""
    (last, *_) = reversed(rows_of(case, rp.OP_CKPT))
    for column, value in {"op": op, "cache": 1, "arg": 300}.items():
        change(case, put(column, last, value))
    with pytest.raises(InputError, match=f"row {last}, cache: no such node among 1"):
        run_case(read_case(case), "slub64")


def test_freed_twice(case: Path) -> None:
    first, second = rows_of(case, 1)[:2]
    freed = pl.read_parquet(case / "trace.parquet")["obj_id"][first]
    change(case, put("obj_id", second, freed))
    error = refused(case)
    assert error.where == f"row {second}, obj_id"
    assert error.message == f"object {freed} is freed twice"


def test_never_allocated(case: Path) -> None:
    row = rows_of(case, 1)[0]
    change(case, put("obj_id", row, 4711))
    error = refused(case)
    assert error.where == f"row {row}, obj_id"
    assert error.message == "object 4711 was never allocated"


def test_freed_before_it_is_allocated(case: Path) -> None:
    last = pl.read_parquet(case / "trace.parquet")["obj_id"][rows_of(case, 0)[-1]]
    row = rows_of(case, 1)[0]
    change(case, put("obj_id", row, last))
    assert refused(case).message == f"object {last} is freed before it is allocated"


def test_allocated_twice(case: Path) -> None:
    row = rows_of(case, 0)[1]
    change(case, put("obj_id", row, 0))
    assert refused(case).message == "object 0 is allocated a second time"


def test_freed_by_another_operation(case: Path) -> None:
    row = rows_of(case, 1)[0]
    change(case, put("op", row, 3))
    assert refused(case).message == "operation 3 does not free such an object"


def test_cache_created_twice(case: Path) -> None:
    row = rows_of(case, 14)[0]
    change(case, lambda table: put("cache", row, 0)(put("op", row, 12)(table)))
    error = refused(case)
    assert error.where == f"row {row}, cache"
    assert error.message == "cache 0 exists"


def test_missing_trace(case: Path) -> None:
    (case / "trace.parquet").unlink()
    assert refused(case).message == "no such file"


def test_trace_is_no_table(case: Path) -> None:
    (case / "trace.parquet").write_text("nonsense")
    assert refused(case).path.endswith("trace.parquet")


def test_manifest_is_no_json(case: Path) -> None:
    (case / "manifest.json").write_text('{"caches": [')
    assert refused(case).where == "line 1"


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [("caches", None, "caches"), ("memory", {"mode": "some"}, "memory.mode"), ("pools", [{}], "pools[0].kind")],
)
def test_manifest_fields(case: Path, field: str, value: object, where: str) -> None:
    manifest = json.loads((case / "manifest.json").read_text())
    manifest[field] = value
    (case / "manifest.json").write_text(json.dumps(manifest))
    assert refused(case).where == where


def test_result_of_another_length(case: Path) -> None:
    path = case / "slub64" / "ops.parquet"
    pl.read_parquet(path).head(10).write_parquet(path)
    with pytest.raises(InputError, match="10 rows for a trace of 49"):
        verify_build(read_case(case), "slub64")


def test_start_state_without_a_cache(case: Path) -> None:
    path = case / "slab64" / "init.json"
    state = json.loads(path.read_text())
    del state["chain"][0]
    path.write_text(json.dumps(state))
    with pytest.raises(InputError, match=r"init\.json: chain: cache h800 is missing"):
        verify_build(read_case(case), "slab64")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["fastalloc", "verify", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_command_exact(case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, str(case), "--threads", "1") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 of 3 cases exact"


def test_a_case_that_cannot_be_read_is_a_row_and_the_others_are_run(
    tmp_path: Path, case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, cut = tmp_path / "a-broken", tmp_path / "b-cut"
    for folder in (broken, cut):
        shutil.copytree(SOURCE, folder)
    (broken / "manifest.json").write_text('{"caches": [')
    ops = cut / "slub64" / "ops.parquet"
    ops.write_bytes(ops.read_bytes()[:-20])
    assert run(monkeypatch, str(tmp_path), "--threads", "1", "--wide") == 2
    told = capsys.readouterr()
    rows = [line for line in told.out.splitlines() if "not read: " in line]
    assert [row.split()[0] for row in rows] == ["a-broken", "b-cut"]
    assert told.out.splitlines()[-1] == "5 of 7 cases exact, 2 not read"
    errors = told.err.splitlines()
    assert len(errors) == 2
    assert f"{broken / 'manifest.json'}: line 1: not JSON" in errors[0]
    assert str(ops) in errors[1]
    assert run(monkeypatch, str(tmp_path), "--threads", "1", "--json") == 2
    cases = json.loads(capsys.readouterr().out)["cases"]
    assert [found["not_read"]["path"] for found in cases if "not_read" in found] == [
        str(broken / "manifest.json"),
        str(ops),
    ]


def test_command_shows_the_first_difference(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = case / "slub64" / "ops.parquet"
    pl.read_parquet(path).with_columns(
        idx=pl.when(pl.int_range(pl.len()) == 7).then(99).otherwise("idx").cast(pl.Int32)
    ).write_parquet(path)
    assert run(monkeypatch, str(case), "--json", "--threads", "1") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["exact"], report["total"]) == (2, 3)
    ops = next(item for item in report["cases"] if item["build"] == "slub64")["tables"][0]
    assert ops["rows"] - ops["exact"] == 1
    assert ops["first_difference"]["row"] == 7
    assert ops["first_difference"]["column"] == "idx"
    assert ops["first_difference"]["expected"] == 99


def test_command_refuses_bad_input(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(case, put("op", 3, 99))
    assert run(monkeypatch, str(case)) == 2
    captured = capsys.readouterr()
    assert captured.err.strip().endswith("trace.parquet: row 3, op: there is no operation 99")
    assert "Traceback" not in captured.err


def test_command_refuses_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(tmp_path)) == 2
    assert "holds no golden case" in capsys.readouterr().err
