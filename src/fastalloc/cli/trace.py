"""``fastalloc trace``: recorded traces, converted and described."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from fastalloc.cli.options import Json, Wide
from fastalloc.errors import meant, printable
from fastalloc.width import say

trace_app = typer.Typer(help="Recorded kmem traces.", no_args_is_help=True)


@trace_app.command()
def convert(
    path: Annotated[Path, typer.Argument(help="A folder of `fastalloc record`; or a trace: Parquet, trace.dat, text.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File to write  [default: RUN.fatrace]")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a trace that needs any inference.")] = False,
) -> None:
    """Decode a trace once, into 16 bytes an event; what had to be inferred is counted."""
    from fastalloc.trace.compact.compact import SUFFIX, write_trace
    from fastalloc.trace.compact.recording_name import run_of
    from fastalloc.trace.replay.folder import recorded
    from fastalloc.trace.replay.recording import read_trace

    target = out or Path(run_of(path) + SUFFIX)
    found = recorded(path)
    trace = read_trace(found.trace, strict, opened=found.opened)
    write_trace(target, trace)
    for step, count in trace.meta["inferred"].items():
        print(f"{count:>12,}  {printable(step)}", file=sys.stderr)
    say(f"{target}: {len(trace.events):,} events, {target.stat().st_size:,} bytes", err=True)


@trace_app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A trace of any format.")],
    json: Json = False,
    wide: Wide = False,
    top: Annotated[int, typer.Option(min=1, help="How many caches are shown, or holders with --by.")] = 20,
    by: Annotated[
        str | None, typer.Option(help="Who holds the memory, by call-site, cache or task; leak suspects, pinned slabs.")
    ] = None,
) -> None:
    """What is in a trace: caches, CPUs, rates, lifetimes, cross-CPU frees, what was inferred."""
    from fastalloc.errors import InputError
    from fastalloc.trace.compact.describe import describe
    from fastalloc.trace.compact.holders import BY, holders
    from fastalloc.trace.replay.folder import recorded
    from fastalloc.trace.replay.recording import read_trace

    if by is not None and by not in BY:
        raise InputError("--by", by, f"must be one of {', '.join(BY)}{meant(by, BY)}")
    found = recorded(path)
    trace = read_trace(found.trace, opened=found.opened)
    described = describe(trace)
    held = None if by is None else holders(trace, by)
    if held is not None:
        described["by"] = {"by": by, **held.record()}
    if json:
        print(json_module.dumps(described, indent=1))
        return
    from fastalloc.terminal import Table, console

    out = console()
    if held is not None:
        from fastalloc.cli.trace_holders import print_holders

        print_holders(held, str(by), top)
        return
    for name, value in described["totals"].items():
        out.print(f"{name:<44}{value:>18,}")
    for step, count in described["inferred"].items():
        out.print(f"{count:>12,}  {printable(step)}")
    table = Table()
    names = {
        "cache": 0, "allocs": 0, "frees": 2, "bytes requested": 3, "bytes allocated": 0, "cross-CPU frees": 4,
        "median life": 1,
    }  # fmt: skip
    for name, rank in names.items():
        table.add_column(name, justify="left" if name == "cache" else "right", no_wrap=True, rank=rank)
    for row in described["caches"][:top]:
        life = "" if row["median_life_ns"] is None else f"{row['median_life_ns'] / 1000:,.0f} us"
        table.add_row(
            row["cache"], f"{row['allocs']:,}", f"{row['frees']:,}", f"{row['bytes_requested']:,}",
            f"{row['bytes_allocated']:,}", f"{row['cross_cpu_frees']:,}", life,
        )  # fmt: skip
    table.put(out)
    if len(described["caches"]) > top:
        out.print(f"... and {len(described['caches']) - top} more; --json lists all")


@trace_app.command()
def fit(
    path: Annotated[Path, typer.Argument(help="A trace of any format.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File to write  [default: RUN.workload.json]")] = None,
) -> None:
    """Fit a workload: rates, burstiness, lifetimes and CPUs of each cache, from which `generate` draws new traces."""
    from fastalloc.store.location import write_file
    from fastalloc.trace import workload
    from fastalloc.trace.compact.recording_name import run_of
    from fastalloc.trace.replay.folder import recorded
    from fastalloc.trace.replay.recording import read_trace

    target = out or Path(run_of(path) + ".workload.json")
    found = recorded(path)
    load = workload.fit(read_trace(found.trace, opened=found.opened))
    write_file(target, (json_module.dumps(load, indent=1) + "\n").encode())
    say(f"{target}: {len(load['caches'])} caches, {load['allocations_left_out']} allocations left out", err=True)


@trace_app.command()
def generate(
    path: Annotated[Path, typer.Argument(help="A workload that `fit` wrote.")],
    seconds: Annotated[float, typer.Option(min=0.001, help="How long the trace lasts.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all randomness.")] = 1,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File to write  [default: RUN.fitted.fatrace]")
    ] = None,
) -> None:
    """Draw a trace from a fitted workload; `replay` takes it as any other."""
    from fastalloc.scenario.fitted import read_workload
    from fastalloc.trace import workload
    from fastalloc.trace.compact.compact import SUFFIX, write_trace
    from fastalloc.trace.compact.recording_name import run_of

    target = out or Path(run_of(path) + ".fitted" + SUFFIX)
    trace = workload.generate(read_workload(path), seconds, seed)
    write_trace(target, trace)
    say(f"{target}: {len(trace.events):,} events", err=True)
