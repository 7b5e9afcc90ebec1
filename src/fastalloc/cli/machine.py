"""``fastalloc machine``: machines read from real kernels."""

from pathlib import Path
from typing import Annotated

import typer

from fastalloc.errors import InputError, printable
from fastalloc.width import say

machine_app = typer.Typer(help="Machines read from real kernels.", no_args_is_help=True)


@machine_app.command("import")
def import_(
    path: Annotated[
        Path,
        typer.Argument(
            help="A folder with proc/ and sys/kernel/slab (such as /), or a text, plain or gzip: a dump, pasted lines "
            "of zoneinfo, slabinfo or meminfo, a report of a failed allocation."
        ),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="TOML file to write  [default: stdout]")] = None,
    kernel: Annotated[str | None, typer.Option(help="Release of the kernel, where the input does not tell it.")] = None,
    at_boot: Annotated[
        bool, typer.Option("--at-boot", help="Nothing but the kernel had run: what is not free stays taken for good.")
    ] = False,
) -> None:
    """Read zones, watermarks and slab caches of a kernel and write them as a machine for scenarios."""
    from fastalloc.scenario import import_machine, machine_toml
    from fastalloc.store.location import write_file

    try:
        machine = import_machine(path, out.stem if out else None, kernel=kernel, at_boot=at_boot)
    except InputError as error:
        # a report that a log, a mail or a web page has mangled is read as `fastalloc explain` reads it
        if at_boot or "tells of no machine" not in error.message or not path.is_file():
            raise
        from fastalloc.explain import explain
        from fastalloc.explain.machine import machine_of

        answers = explain(path)
        if not any(answer.decision.zones for answer in answers):
            raise
        machine = machine_of(out or path, answers)
    text = machine_toml(machine)
    where, *said = machine.source.split("; ")
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_file(out, text.encode())
        where = str(out)
    say(f"{where}: {len(machine.zones)} zones, {len(machine.slab_caches)} slab caches", err=True)
    for line in said:
        say(f"  {printable(line)}", err=True)


@machine_app.callback()
def _machine() -> None:
    pass  # keeps `import` a subcommand while it is the only one
