"""``fastalloc scenarios``: what can be run by name."""

from typing import Annotated

import typer

from fastalloc.width import say

scenarios_app = typer.Typer(help="List the presets and their variants, or show one as TOML.")


@scenarios_app.callback(invoke_without_command=True)
def scenarios(context: typer.Context) -> None:
    """List the presets and their variants, or show one as TOML."""
    if context.invoked_subcommand is not None:
        return
    from rich.text import Text

    from fastalloc.scenario import load_scenario, preset_names
    from fastalloc.terminal import Table, console

    out = console()
    for name in preset_names():
        scenario = load_scenario(name)
        out.print(Text(name, style="bold"))
        out.print(Text(" ".join(scenario.description.split())))
        table = Table(show_header=False)
        table.add_column(no_wrap=True, min_width=18)
        table.add_column()
        for variant in scenario.variants:
            extra = "" if variant.default else " (only when asked for)"
            table.add_row(f"  {variant.name}", f"{variant.title}{extra}")
        table.put(out)
        out.print()
    say("fastalloc scenarios show NAME > mine.toml   writes one to start from")


@scenarios_app.command()
def show(name: Annotated[str, typer.Argument(help="Of a preset.")]) -> None:
    """Print a preset as TOML, each field with what it means: a file of your own to start from."""
    from fastalloc.scenario.commented import preset_text

    print(preset_text(name), end="")
