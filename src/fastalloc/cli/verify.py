"""``fastalloc verify``: golden cases, layout tables and clean runs against the kernels that everything else uses."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.cli.options import Json, Threads, Wide
from fastalloc.errors import InputError, printable, together
from fastalloc.threads import threads_of

if TYPE_CHECKING:
    from fastalloc.verify.golden import CaseResult

REASONS_SHOWN = 10


def _first(result: "CaseResult") -> str:
    if result.fault is not None:
        return f"not read: {result.fault}"
    for table in result.tables:
        if table.first is not None:
            first = table.first
            return f"{table.name} row {first.row} {first.column}: expected {first.expected}, got {first.got}"
    return ""


def _record(result: "CaseResult") -> dict[str, Any]:
    tables = []
    for table in result.tables:
        first = table.first
        difference = None
        if first is not None:
            difference = {"row": first.row, "column": first.column, "expected": first.expected, "got": first.got}
        left_out = [{"row": item.row, "name": item.name, "reason": item.reason} for item in table.underivable]
        tables.append(
            {
                "table": table.name,
                "rows": table.rows,
                "exact": table.exact,
                "first_difference": difference,
                "underivable": left_out,
            }
        )
    record = {"case": result.case, "build": result.build, "rows": result.rows, "exact": result.exact, "tables": tables}
    fault = result.fault
    if fault is not None:
        record["not_read"] = {"path": fault.path, "where": fault.where, "reason": fault.message}
    return record


def _print(results: "list[CaseResult]") -> None:
    from fastalloc.terminal import Table, console

    out = console()
    table = Table()
    for column in ("case", "build"):
        table.add_column(column, no_wrap=True)
    for column in ("rows", "exact"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("first difference", overflow="fold")
    for result in results:
        counts = ("", "") if result.fault is not None else (f"{result.rows:,}", f"{result.exact:,}")
        table.add_row(result.case, result.build, *counts, printable(_first(result)))
    table.put(out)
    for result in results:
        left_out = [item for table in result.tables for item in table.underivable]
        if left_out:
            out.print(f"{printable(result.case)}: {len(left_out)} rows do not follow from what the table holds")
            for item in left_out[:REASONS_SHOWN]:
                out.print(f"  row {item.row} {printable(item.name)}: {printable(item.reason)}")
            if len(left_out) > REASONS_SHOWN:
                out.print(f"  ... and {len(left_out) - REASONS_SHOWN} more; --json lists all")


def verify(
    paths: Annotated[
        list[Path], typer.Argument(help="Folders with golden cases, geometry or watermark tables, clean runs.")
    ],
    json: Json = False,
    threads: Threads = 0,
    lanes: Annotated[int, typer.Option(min=1, help="Lanes of each clean run.")] = 16,
    wide: Wide = False,
) -> None:
    """Run every golden case and check every geometry and watermark table below PATHS, row by row.

    Clean runs of a real kernel (a runs.csv of them) are predicted: a row a run and figure, within its tolerance or not.

    What cannot be read is a row too, with the reason, and the rest is run.

    Exit code 0 when all is exact and within, 1 when not, 2 where input could not be read.
    """
    from fastalloc.cli import verify_closed_loop
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.verify.closed_loop.clean_runs import find_runs
    from fastalloc.verify.jobs import find_jobs, run_jobs

    jobs = [job for path in paths for job in find_jobs(path)]
    tables = [table for path in paths for table in find_runs(path)]
    if not jobs and not tables:
        raise InputError(paths[0], "", "holds no golden case, geometry table, watermark table or clean run")
    announce_compiling()
    cpus = threads_of(threads)
    results = run_jobs(jobs, cpus)
    left_out: list[InputError] = []
    unread = [result.fault for result in results if result.fault is not None]
    predicted = verify_closed_loop.predict(tables, lanes, cpus, left_out, unread)
    if unread and not predicted and not left_out and all(result.fault is not None for result in results):
        raise together(unread)  # there is nothing else to tell
    exact = sum(result.ok for result in results)
    if json:
        record: dict[str, Any] = {
            "cases": [_record(result) for result in results],
            "exact": exact,
            "total": len(results),
            "rows": sum(result.rows for result in results),
            "rows_exact": sum(result.exact for result in results),
        }
        if predicted or left_out:
            record["closed_loop"] = verify_closed_loop.record(predicted, left_out)
        print(json_module.dumps(record, indent=1, default=str, allow_nan=False))
    else:
        if results:
            _print(results)
            not_read = sum(result.fault is not None for result in results)
            print(f"{exact} of {len(results)} cases exact" + (f", {not_read} not read" if not_read else ""))
        if predicted or left_out:
            verify_closed_loop.show(predicted, left_out)
    if unread:
        raise together(unread)
    raise typer.Exit(0 if exact == len(results) and all(result.ok for result in predicted) else 1)


if __name__ == "__main__":
    typer.run(verify)
