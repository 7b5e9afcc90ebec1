"""The commands of ``fastalloc``, each imported when it is asked for."""

from importlib import import_module
from typing import Annotated

import typer

# A command is a module of fastalloc.cli with a function of its name, a group one with ``<name>_app``. Only the module
# of the command that was asked for is imported.
COMMANDS = (
    "run",
    "compare",
    "caches",
    "explain",
    "policies",
    "rerun",
    "record",
    "replay",
    "sweep",
    "frontier",
    "reserve",
    "sensitivity",
    "report",
    "scenarios",
    "schema",
    "verify",
    "bench",
)
GROUPS = ("dataset", "machine", "trace")


def build_app(*wanted: str) -> typer.Typer:
    """The command line with some of the commands; with all of them where none is named or one does not exist."""
    known = set(wanted) and set(wanted) <= {*COMMANDS, *GROUPS}
    app = typer.Typer(
        help="A wind tunnel for kernel memory allocation under pressure.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name in COMMANDS:
        if not known or name in wanted:
            if name == "explain":
                app.command(name, context_settings=_RAW)(explain)
            else:
                app.command(name)(getattr(import_module(f"fastalloc.cli.{name}"), name))
    for name in GROUPS:
        if not known or name in wanted:
            app.add_typer(getattr(import_module(f"fastalloc.cli.{name}"), f"{name}_app"), name=name)
    app.callback()(_options)
    return app


# `main` runs this command without typer, which takes longer to start than the answer: its options are argparse's.
_RAW = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def explain(context: typer.Context) -> None:
    """Explain page allocation failures, OOM, SLUB and vmalloc reports of Linux 2.6.9 to 7.x."""
    from fastalloc.cli.explain import run

    run(context.args)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fastalloc {version('fastalloc')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
