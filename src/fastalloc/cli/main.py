"""The ``fastalloc`` command."""

import sys
from typing import Annotated

import typer

from fastalloc.cli import border, interrupt
from fastalloc.cli.bench import bench
from fastalloc.cli.compare import compare
from fastalloc.cli.dataset import dataset_app
from fastalloc.cli.frontier import frontier
from fastalloc.cli.machine import machine_app
from fastalloc.cli.policies import policies
from fastalloc.cli.replay import replay
from fastalloc.cli.report import report
from fastalloc.cli.rerun import rerun
from fastalloc.cli.run import run
from fastalloc.cli.scenarios import scenarios
from fastalloc.cli.schema import schema
from fastalloc.cli.sensitivity import sensitivity
from fastalloc.cli.sweep import sweep
from fastalloc.cli.trace import trace_app
from fastalloc.cli.verify import verify

app = typer.Typer(
    help="A wind tunnel for kernel memory allocation under pressure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(compare)
app.command()(policies)
app.command()(rerun)
app.command()(replay)
app.command()(sweep)
app.command()(frontier)
app.command()(sensitivity)
app.command()(report)
app.command()(scenarios)
app.command()(schema)
app.command()(verify)
app.command()(bench)
app.add_typer(dataset_app, name="dataset")
app.add_typer(machine_app, name="machine")
app.add_typer(trace_app, name="trace")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fastalloc {version('fastalloc')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: a command in a thread, so that signals are heard; see ``border`` for how it may end."""
    with border.safe_streams():
        code = interrupt.run(lambda: border.ended(app))
    sys.exit(code)


if __name__ == "__main__":
    main()
