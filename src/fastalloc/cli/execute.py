"""Runs a scenario for a command: progress, Ctrl-C, report, table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fastalloc.cli import interrupt
from fastalloc.errors import InputError

if TYPE_CHECKING:
    from fastalloc.scenario import Scenario


def run_and_show(
    scenario: "Scenario", folder: str, *, command: str, as_json: bool, board: bool = False, **options: Any
) -> None:
    """Runs into a dataset, writes its report, prints its table or the board; ``options`` as for ``runner.run``."""
    cancel = interrupt.cancellation()

    from fastalloc.batch.zones import simplified
    from fastalloc.cli.progress import RunBar
    from fastalloc.runner import run

    try:
        with RunBar() as bar:
            dataset = run(scenario, folder, command=command, progress=bar, cancel=cancel, **options)
    except InputError:
        if not interrupt.interrupted():
            raise
        print("stopped before the first lane was finished", file=sys.stderr)
        raise typer.Exit(interrupt.exit_code()) from None

    from fastalloc.cli.show import show, show_board
    from fastalloc.report.html import write_report

    page = write_report(dataset)
    (show_board if board else show)(dataset, as_json=as_json)
    print("", file=sys.stderr)
    if scenario.kernel_policy:
        print(f"policy  {scenario.kernel_policy}", file=sys.stderr)
    for line in simplified(scenario.machine):
        print(f"machine {line}", file=sys.stderr)
    print(f"dataset {folder}\nreport  {page}", file=sys.stderr)
    if interrupt.interrupted():
        print("stopped; what was finished is kept", file=sys.stderr)
        raise typer.Exit(interrupt.exit_code())


def free_folder(name: str) -> str:
    """``out/NAME``, or the first of ``out/NAME-2``, ``-3``, ... that is not taken."""
    folder, n = Path("out") / name, 1
    while folder.exists():
        n += 1
        folder = Path("out") / f"{name}-{n}"
    return str(folder)
