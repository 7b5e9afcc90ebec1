"""``fastalloc policy``: a patch of one's own: written, checked, timed."""

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastalloc.cli.options import Json
from fastalloc.errors import InputError, printable
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.verify.own.check import Checked

policy_app = typer.Typer(help="A policy of one's own: start one, look for its faults, tell what it costs.")
SHOWN = 40  # operations at the begin of a sequence, and at its end
File = Annotated[Path, typer.Argument(help="A Python file.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter of the file; may repeat.")
]


@policy_app.command()
def new(
    file: Annotated[Path, typer.Argument(help="The Python file to write, such as mine.py.")],
    allocator: Annotated[bool, typer.Option("--allocator", help="An allocator, not a policy.")] = False,
) -> None:
    """Write a policy that runs as it is and leaves all to the kernel, every question commented; or an allocator."""
    from fastalloc.verify.own.template import allocator_template, template

    if file.suffix != ".py" or not file.stem.isidentifier():
        raise InputError(file, "", "a policy is a file such as my_patch.py")
    try:
        with open(file, "x", encoding="utf-8") as out:
            out.write((allocator_template if allocator else template)(file.stem))
    except FileExistsError:
        raise InputError(file, "", "is there already") from None
    except OSError as error:
        raise InputError(file, "", f"cannot be written: {error.strerror or error}") from None
    print(f"{file}: run it with: fastalloc compare swap-livelock --policies {file}")


@policy_app.command()
def check(
    file: File,
    settings: Settings = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to look.")] = 8.0,
    json: Json = False,
) -> None:
    """Run a policy interpreted and compiled on generated operations; exit code 1 where a fault was found."""
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.own.allocator_text import is_allocator, own_source, read_own
    from fastalloc.own.text import refuse_parameters
    from fastalloc.verify.own.check import check as look

    source, given = own_source(file), _parameters(settings)
    refuse_parameters(read_own(source, str(file)), given)
    announce_compiling()
    if is_allocator(source):
        from fastalloc.verify.own.allocator_check import check_allocator

        found = check_allocator(source, str(file), given, seconds)
    else:
        found = look(source, str(file), given, seconds)
    if json:
        faults = [fault.lines() for fault in found.faults]
        told = {"file": str(file), "faults": faults, "operations": found.operations, "asked": dict(found.asked)}
        print(json_text.dumps(told | {"allocators": list(found.allocators)}, indent=1))
    else:
        _tell_faults(file, found)
    if found.faults:
        raise typer.Exit(1)


def _tell_faults(file: Path, found: "Checked") -> None:
    """What was found, or that nothing was."""
    for fault in found.faults:
        for line in fault.lines(SHOWN):
            say(printable(line))
    if found.faults:
        return
    asked = ", ".join(f"{name} {count:,} times" for name, count in found.asked.items())
    where = ", ".join(found.allocators) or "no SLUB"
    say(f"{file}: no fault in {found.operations:,} operations, allocator {where}{asked and f'; asked {asked}'}")


@policy_app.command()
def time(file: File, settings: Settings = None, json: Json = False) -> None:
    """What a policy costs an operation, beside the kernel without it; or an allocator, beside SLUB's."""
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.own.allocator_text import is_allocator, own_source, read_own
    from fastalloc.own.text import refuse_parameters
    from fastalloc.terminal import Table, console
    from fastalloc.verify.own.cost import allocator_costs, costs, share

    source, given = own_source(file), _parameters(settings)
    refuse_parameters(read_own(source, str(file)), given)
    announce_compiling()
    table = Table()
    if json:
        if is_allocator(source):
            rows = [{"allocator": name, "plain_ns": each} for name, each in allocator_costs(source, str(file), given)]
        else:
            rows = [cost._asdict() for cost in costs(source, str(file), given)]
        print(json_text.dumps(rows, indent=1))
        return
    if is_allocator(source):
        table.add_column("allocator")
        table.add_column("ns an operation", justify="right")
        for name, each in allocator_costs(source, str(file), given):
            table.add_row(name, f"{each:.0f}")
        console().print(table)
        return
    for name in ("allocator", "ns an operation", "with it", "more", "questions an operation"):
        table.add_column(name, justify="left" if name == "allocator" else "right")
    for cost in costs(source, str(file), given):
        table.add_row(
            cost.allocator, f"{cost.plain_ns:.0f}", f"{cost.own_ns:.0f}", f"{100 * share(cost):+.1f} %",
            f"{cost.asked:.2f}",
        )  # fmt: skip
    console().print(table)


def _parameters(settings: list[str] | None) -> dict[str, int]:
    from fastalloc.cli.options import parse_settings

    given = parse_settings(settings or [])
    for name, value in given.items():
        if not isinstance(value, int):
            raise InputError("--set", name, "a parameter is a whole number")
    return {name.removeprefix("policy."): value for name, value in given.items()}
