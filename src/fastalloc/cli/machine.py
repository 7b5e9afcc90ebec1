"""``fastalloc machine``: machines read from real kernels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastalloc.errors import InputError, printable
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.scenario import Machine

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
    from fastalloc.scenario.imports.assemble import OF_A_REPORT
    from fastalloc.store.location import write_file

    name = out.stem if out else None
    try:
        machine = import_machine(path, name, kernel=kernel, at_boot=at_boot)
    except InputError as error:
        if at_boot or not any(words in error.message for words in ("tells of no machine", "lines; give the part")):
            raise
        explained = _as_explained(path, out, kernel) if path.is_file() else None
        if explained is None:
            raise
        machine = explained
    else:
        if path.is_file() and OF_A_REPORT in machine.source:
            machine = _as_explained(path, out, kernel) or machine
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


def _as_explained(path: Path, out: Path | None, kernel: str | None) -> "Machine | None":
    """The machine of the first report with zones in a log that a mail or a web page mangled, as `fastalloc explain`
    reads it; None where there is none."""
    from fastalloc.explain import explain
    from fastalloc.explain.machine import machine_of

    try:
        answers = explain(path)
    except InputError:
        return None
    return machine_of(out or path, answers, path, kernel) if any(one.decision.zones for one in answers) else None


@machine_app.callback()
def _machine() -> None:
    pass  # keeps `import` a subcommand while it is the only one
