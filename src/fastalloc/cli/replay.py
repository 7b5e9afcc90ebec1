"""``fastalloc replay``: a recorded trace through its own kernel's rules, and through others."""

import json as json_module
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.cli.options import Json, Memory, Wide, allow_memory
from fastalloc.errors import InputError, printable
from fastalloc.threads import threads_asked, threads_of
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.trace.replay.check import Check
    from fastalloc.trace.replay.prediction import Prediction
    from fastalloc.trace.replay.recording import Recording

WORST = 10
DRAWS = 15


# More than nine arguments: each is an option of the command.
def replay(
    path: Annotated[
        Path, typer.Argument(help="A folder of `fastalloc record`; or a trace: compact, Parquet, trace.dat, text.")
    ],
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Another configuration, such as nomerge, order=0, era=sheaves, allocator=slab; commas join settings; "
            "may repeat."
        ),
    ] = None,
    grid: Annotated[
        list[str] | None, typer.Option(help="An axis of a grid of what-ifs, such as cpu_partial=0,2,6; may repeat.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Exact lists of slabs before the trace  [default: RUN.slabstate.parquet]")
    ] = None,
    slabs: Annotated[
        Path | None,
        typer.Option(help="Readings of /sys/kernel/slab or /proc/slabinfo before the trace  [default: RUN.slabs.csv]"),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact/--no-exact", help="Whether to use exact lists that lie beside the trace.")
    ] = True,
    starts: Annotated[int, typer.Option(min=1, max=100, help="Starts to replay where lists are not known.")] = 3,
    geometry: Annotated[Path | None, typer.Option(help="Table of /sys/kernel/slab, CSV.")] = None,
    kernel: Annotated[
        str | None, typer.Option(help="Version whose rules run, and lay out what no table tells  [default: 6.1]")
    ] = None,
    boot: Annotated[str, typer.Option(help="The kernel's command line, for slub_max_order and the like.")] = "",
    check: Annotated[bool, typer.Option("--check", help="Compare with RUN.summary.csv; exit code 1 if off.")] = False,
    draws: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Orders of operations to try  [default: 15 with --check, else 1]"),
    ] = None,
    threads: Annotated[
        int,
        typer.Option(metavar="N", callback=threads_asked, help="Configurations replayed at once; 0 is one a CPU."),
    ] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a trace that needs any inference.")] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for tables and HTML report.")] = None,
    memory: Memory = None,
    json: Json = False,
    wide: Wide = False,
) -> None:
    """Replay a trace under the rules of the kernel that was traced, side by side with each what-if."""
    import numpy as np

    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.report.replay_page import write_replay_page
    from fastalloc.trace.replay import check as checking
    from fastalloc.trace.replay import whatif
    from fastalloc.trace.replay.folder import kernel_told, recorded
    from fastalloc.trace.replay.recording import beside, open_recording, side_inputs
    from fastalloc.trace.replay.results import check_record, summaries, write_results

    allow_memory(memory)
    what_ifs = whatif.with_grid(what_if or [], grid or [])
    found = recorded(path)
    path, kernel, boot = found.trace, kernel_told(found, kernel), boot or found.boot or ""
    lists, readings = side_inputs(path, state, slabs, exact)
    summary = beside(path, "summary") if check else None
    if check and summary is None and path.exists():  # told before a start is fitted for seconds
        raise InputError(path, "--check", "needs RUN.summary.csv beside the trace")
    announce_compiling()
    recording = open_recording(path, lists, geometry, kernel, boot, strict, readings, starts, found)
    truth = snapshots = sample_ns = real = None
    if summary is not None:
        truth = checking.read_summary(summary)
        shots = beside(path, "snapshots")
        if shots is not None:
            snapshots = checking.read_snapshots(shots)
            last = recording.trace.time_ns()[-1]
            even = np.linspace(recording.trace.meta["first_ns"], last, 241)[1:].astype(np.int64)
            sample_ns = np.union1d(even, snapshots["ts_ns"].to_numpy())
            real = checking.real_slabs(beside(path, "slabtruth"), shots, sample_ns)
    predictions = recording.run(
        what_ifs,
        draws or (DRAWS if check else 1),
        sample_ns,
        threads_of(threads),
    )
    checked = checking.check(predictions[0], truth, snapshots) if truth is not None else None
    if out is not None:
        write_results(out, recording, predictions, shlex.join(["fastalloc", *sys.argv[1:]]), checked, real)
        page = write_replay_page(out)
    if json:
        record: dict[str, Any] = {
            "kernel": recording.kernel_record(),
            "start": recording.known.record(),
            "steps": recording.steps,
            "frees_without_event": recording.not_explained(predictions[0]),
            "configs": summaries(recording, predictions),
        }
        if checked is not None:
            record["check"] = check_record(checked)
        print(json_module.dumps(record, indent=1, default=str))
    else:
        _print(recording, predictions, checked)
        if out is not None:
            say(f"report: {page}")
    raise typer.Exit(0 if checked is None or checked.ok else 1)


def _range(figure: dict[str, float]) -> str:
    middle = f"{figure['median']:,.0f}"
    return middle if figure["low"] == figure["high"] else f"{middle} ({figure['low']:,.0f}-{figure['high']:,.0f})"


def _print(recording: "Recording", predictions: "list[Prediction]", checked: "Check | None") -> None:
    from fastalloc.terminal import Table, console
    from fastalloc.trace.replay.results import summaries

    out = console()
    out.print(printable(recording.known.words()), style=None if recording.known.exact else "bold yellow")
    for note in recording.known.notes():
        out.print(f"       {printable(note)}")
    for cache in recording.not_explained(predictions[0]):
        out.print(f"       {printable(cache['line'])}", style="bold yellow")
    out.print(printable(f"kernel: {recording.kernel_line()}"))
    for step, count in recording.steps.items():
        out.print(f"{count:>12,}  {printable(step)}")
    table = Table()
    table.add_column("configuration", overflow="fold", min_width=len("configuration"))
    names = {
        "peak pages": 0, "peak": 2, "new pages": 1, "end pages": 1, "waste at peak": 3, "slow allocs": 4,
        "slow frees": 6, "node list": 7, "list locks": 5,
    }  # fmt: skip
    for name, rank in names.items():
        table.add_column(name, justify="right", no_wrap=True, rank=rank)
    for row in summaries(recording, predictions):
        waste = row["peak_waste_bytes"]
        table.add_row(
            row["config"],
            _range(row["peak_pages"]) + ("" if row.get("resolved", True) else " not resolved"),
            f"{row['peak_pages']['median'] / 256:,.1f} MB",
            _range(row["new_pages"]),
            _range(row["end_pages"]),
            "" if waste is None else f"{waste / 2**20:.1f} MB",
            f"{row['alloc_slow']:,}",
            f"{row['free_slow']:,}",
            f"{row['node_list']:,}",
            f"{row['list_lock']:,}",
        )
    table.put(out)
    held = summaries(recording, predictions)[0]["end_bytes"]
    mib = {name: f"{count / 2**20:,.1f}" for name, count in held.items()}
    out.print(
        f"as traced, at the end, in MB: {mib['objects']} objects ({mib['rounding']} of it more than was asked for), "
        f"{mib['tails']} slab tails, free slots: {mib['partial']} in partial slabs, {mib['cpus']} with CPUs and barns"
    )
    if checked is not None:
        _print_check(out, checked)


def _print_check(out: Any, checked: "Check") -> None:
    from fastalloc.terminal import Table

    out.print()
    table = Table()
    names = {
        "against the kernel, pages": 0,
        "real": 0,
        "in order of events": 3,
        "median": 0,
        "range": 2,
        "error": 0,
        "": 0,
    }
    for name, rank in names.items():
        table.add_column(name, justify="left" if name.startswith("against") else "right", no_wrap=True, rank=rank)
    for figure, real, first, median, low, high, error, within in checked.totals.iter_rows():
        mark = "ok" if within else "OFF"
        table.add_row(
            figure, f"{real:,}", f"{first:,}", f"{median:,.0f}", f"{low:,}-{high:,}", f"{100 * error:+.2f} %", mark
        )
    table.put(out)
    out.print(f"caches exact at the peak: {100 * checked.exact_at_peak:.1f} % of {len(checked.caches)}")
    for label, caches, exact, real, mine in checked.snapshots.iter_rows():
        out.print(f"at {printable(label)}: {exact} of {caches} caches exact, {mine:,} pages for {real:,}")
    worst = checked.caches.filter(checked.caches["off_pages"] > 0).head(WORST)
    if len(worst):
        table = Table()
        names = {
            "worst caches, slabs": 0, "new": 2, "real new": 2, "peak": 0, "real peak": 0, "end": 1, "real end": 1,
        }  # fmt: skip
        for name, rank in names.items():
            table.add_column(name, justify="left" if name.startswith("worst") else "right", no_wrap=True, rank=rank)
        for row in worst.iter_rows(named=True):
            table.add_row(
                row["cache"], f"{row['new']} ({row['new_low']}-{row['new_high']})", str(row["slab_allocs"]),
                f"{row['peak']} ({row['peak_low']}-{row['peak_high']})", str(row["peak_slabs"]),
                f"{row['end']} ({row['end_low']}-{row['end_high']})", str(row["end_slabs"]),
            )  # fmt: skip
        table.put(out)
