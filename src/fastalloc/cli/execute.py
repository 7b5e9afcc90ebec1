"""Runs a scenario for a command: progress, Ctrl-C, report, table."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fastalloc.cli import interrupt
from fastalloc.errors import InputError, printable
from fastalloc.plural import plural
from fastalloc.width import say

LANE_FAILED = 3  # exit code

if TYPE_CHECKING:
    from fastalloc.scenario import Scenario
    from fastalloc.store import Dataset


def run_and_show(
    scenario: "Scenario",
    folder: str,
    *,
    command: str,
    as_json: bool,
    named: str = "",
    board: bool = False,
    **options: Any,
) -> None:
    """Runs into a dataset, writes its report, prints its table or the board.

    ``named``: how the command names the scenario, where it was no comparison; ``options`` as for ``runner.run``.
    """
    cancel = interrupt.cancellation()

    from fastalloc.progress import RunBar
    from fastalloc.runner import run

    try:
        with RunBar(_what(scenario, options.get("variants"))) as bar:
            dataset = run(scenario, folder, command=command, progress=bar, cancel=cancel, **options)
    except InputError:
        if not interrupt.interrupted():
            raise
        say("stopped before the first lane was finished; nothing is kept, the same command begins again", err=True)
        raise typer.Exit(interrupt.exit_code()) from None

    from fastalloc.cli.show import show, show_board, tell_doubts
    from fastalloc.report.html import write_report
    from fastalloc.store.doubts import missing

    doubtful = [] if interrupt.interrupted() else missing(dataset.manifest)
    tell_doubts(doubtful, as_json)
    page = write_report(dataset, doubtful=doubtful)
    (show_board if board else show)(dataset, as_json=as_json, doubtful=doubtful)
    say(err=True)
    if scenario.kernel_policy:
        say(f"policy  {printable(scenario.kernel_policy)}", err=True)
    if scenario.machine.doubt:
        say(f"machine {scenario.machine.doubt}", err=True)
    say(f"dataset {folder}\nreport  {page}", err=True)
    _tell_next(dataset, folder, named)
    if interrupt.interrupted():
        say(_kept(dataset, folder), err=True)
        raise typer.Exit(interrupt.exit_code())
    if dataset.manifest.get("broken"):
        raise typer.Exit(LANE_FAILED)


def _kept(dataset: "Dataset", folder: str) -> str:
    """What an interrupted run leaves, and how to get the rest."""
    rows, manifest = dataset.runs.select("id").collect().height, dataset.manifest
    asked = plural(manifest["lanes"] * len(manifest["variants"]), "lane")
    return (
        f"stopped; what was finished is kept: {rows:,} of {asked}, in {folder}. A run does not go on with them: give "
        "the same command again with another folder (--out), which takes all lanes anew. Only `fastalloc sweep` and "
        "`fastalloc rare --out` go on."
    )


def _what(scenario: "Scenario", variants: Sequence[str] | None) -> list[str]:
    """What is run, to be told while it is compiled; at length where that takes long."""
    from fastalloc.compiler.cache_dir import is_cold

    names = variants or [variant.name for variant in scenario.variants if variant.default]
    run, titles = scenario.run, {variant.name: variant.title for variant in scenario.variants}
    under = f"each of {len(names)} variants" if len(names) > 1 else names[0]
    lines = [f"{scenario.name}: {plural(run.lanes, 'machine')} of {run.duration_s:g} s under {under}"]
    if is_cold():
        lines += [" ".join(scenario.description.split())]
        lines += [f"  {name:<12} {titles.get(name, '')}" for name in names]
    return lines


def _tell_next(dataset: "Dataset", folder: str, named: str) -> None:
    """What to look at next."""
    by = dataset.runs.sort("livelock_ms", "stall_ms", "id", descending=[True, True, False])
    of = by.select("id", "variant", "lane", "livelock_onset_ms")
    number, variant, lane, onset_ms = of.first().collect().row(0)
    since = " --since 100ms-before-livelock" if onset_ms >= 100 else ""
    print("\nnext    open the report in a browser: it needs no network", file=sys.stderr)
    print(f"        fastalloc rerun {folder} {number}{since}   # {variant}, lane {lane}", file=sys.stderr)
    if named:
        asked = shlex.quote(named)
        print(f"        fastalloc compare {asked} --policies fix,nomerge-bio,slab", file=sys.stderr)


def free_folder(name: str) -> str:
    """``out/NAME``, or the first of ``out/NAME-2``, ``-3``, ... that is not taken."""
    folder, n = Path("out") / name, 1
    while folder.exists():
        n += 1
        folder = Path("out") / f"{name}-{n}"
    return str(folder)
