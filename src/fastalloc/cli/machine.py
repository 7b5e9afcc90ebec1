"""``fastalloc machine``: machines read from real kernels."""

from pathlib import Path
from typing import Annotated

import typer

machine_app = typer.Typer(help="Machines read from real kernels.", no_args_is_help=True)


@machine_app.command("import")
def import_(
    path: Annotated[
        Path, typer.Argument(help="A folder with proc/ and sys/kernel/slab (such as /), or a dump as .txt or .txt.gz.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="TOML file to write  [default: stdout]")] = None,
) -> None:
    """Read zones, watermarks and slab caches of a kernel and write them as a machine for scenarios."""
    from fastalloc.scenario import import_machine, machine_toml
    from fastalloc.store.location import write_file

    machine = import_machine(path, out.stem if out else None)
    text = machine_toml(machine)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_file(out, text.encode())
        typer.echo(
            f"{out}: {len(machine.zones)} zones, {len(machine.slab_caches)} slab caches; {machine.source}", err=True
        )


@machine_app.callback()
def _machine() -> None:
    pass  # keeps `import` a subcommand while it is the only one
