"""``fastalloc sweep``: the points of a sweep file into a dataset, and on from where it stopped."""

import json as json_text
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.cli import interrupt
from fastalloc.cli.options import (
    Json,
    Lanes,
    Memory,
    Policies,
    Seconds,
    Seed,
    Threads,
    Trust,
    Wide,
    allow_memory,
    names_of,
)
from fastalloc.errors import InputError, printable
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.sweep import Plan


# More than nine arguments: each is an option of the command.
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The sweep file (TOML).")],
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of the dataset, or s3://BUCKET/PREFIX  [default: out/NAME]"),
    ] = None,
    policies: Policies = None,
    lanes: Lanes = None,
    seconds: Seconds = None,
    seed: Seed = None,
    threads: Threads = 0,
    batch: Annotated[
        int, typer.Option(metavar="N", min=0, help="Lanes a task; 0 tunes to a second. Changes no result.")
    ] = 0,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Run the I-th of N slices only.")] = "1/1",
    dask: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Run on the workers of a Dask scheduler.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print points, lanes, estimated time and bytes.")] = False,
    memory: Memory = None,
    trust: Trust = False,
    json: Json = False,
    wide: Wide = False,
) -> None:
    """Run what is missing of a sweep; a folder that holds a part of it is gone on with."""
    allow_memory(memory)
    slice_ = _slice(shard)
    from fastalloc.sweep import plan_into

    with _of_policies(policies):
        plan, folder, others = plan_into(file, out, _changes(policies, lanes, seconds, seed))
    for line in others:
        say(printable(line), err=True)
    if dry_run:
        _print_estimate(plan, threads, json)
        return
    cancel = interrupt.cancellation()
    from fastalloc.progress import SweepBar
    from fastalloc.sweep import run_sweep

    with ExitStack() as stack:
        where: dict[str, Any] = {"threads": threads}
        if dask is not None:
            from fastalloc.sweep.cluster import dask_executor

            executor, workers = stack.enter_context(dask_executor(dask, plan.heaps()))
            where = {"executor": executor, "workers": workers}
        dataset = run_sweep(
            plan,
            folder,
            batch=batch,
            shard=slice_,
            progress=stack.enter_context(SweepBar()),
            fault=lambda fault: say(printable(f"{fault.path}: {fault.message}; it is run again"), err=True),
            cancel=cancel,
            **where,
        )
    if dataset is not None:
        from fastalloc.cli.show import show_sweep

        show_sweep(dataset, as_json=json)
        status = dataset.manifest["status"]
        if status == "running" and slice_[1] > 1:
            status = f"slice {shard} is done; `fastalloc dataset merge` puts the slices together"
        say(f"\ndataset {folder} ({status})", err=True)
    if interrupt.interrupted():
        say("stopped; what was finished is kept, the same command goes on with it", err=True)
        raise typer.Exit(interrupt.exit_code())


@contextmanager
def _of_policies(given: str | None) -> Iterator[None]:
    """A fault of the policies is one of ``--policies`` where that was given, and not of the file."""
    try:
        yield
    except InputError as error:
        where, _, name = error.where.partition(": ")
        if given is None or where != "policies" or error.more:
            raise
        raise InputError("--policies", name, error.message) from None


def _slice(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and 1 <= int(i) <= int(n)):
        raise InputError("--shard", text, "must be I/N with 1 <= I <= N, such as 2/8")
    return int(i), int(n)


def _changes(policies: str | None, lanes: int | None, seconds: float | None, seed: int | None) -> dict[str, Any]:
    """What options put in place of the file's own keys."""
    told: dict[str, Any] = {"lanes": lanes, "seed": seed}
    if policies is not None:
        told |= {"policies": names_of(policies)}
    found = {key: value for key, value in told.items() if value is not None}
    if policies is not None:
        found["variants"] = None
    return found if seconds is None else found | {"set": {"run.duration_s": seconds}}


def _print_estimate(plan: "Plan", threads: int, as_json: bool) -> None:
    from fastalloc.progress import duration
    from fastalloc.sweep.estimate import estimate

    found = estimate(plan, threads)
    if as_json:
        told = found._asdict() | {"excluded": plan.excluded, "repeated": plan.repeated}
        print(json_text.dumps(told, indent=1))
        return
    most = "at most " if plan.sweep.stop else ""
    say(f"points  {found.points:,} ({plan.excluded:,} left out by constraints, {plan.repeated:,} repeated)")
    say(f"lanes   {most}{found.lanes:,} ({plan.sweep.lanes:,} a point)")
    say(f"time    {most}about {duration(found.seconds)} on {found.threads} threads")
    say(f"bytes   {most}about {found.bytes:,}")
    say(f"time and bytes are extrapolated from {found.probes} lanes", err=True)
