"""``fastalloc policies``: what can be compared by name."""

from typing import Annotated

import typer


def policies(name: Annotated[str | None, typer.Argument(help="Explain this one.")] = None) -> None:
    """List the policies, or explain one."""
    from rich.console import Console
    from rich.table import Table

    from fastalloc.scenario import load_policy, policy_names

    console = Console(highlight=False, markup=False)
    if name is not None:
        preset = load_policy(name)
        console.print(f"{preset.name} ({preset.section}): {preset.title}\n\n{preset.description}\n")
        console.print(f"source  {preset.source}")
        for field, value in preset.set.items():
            console.print(f"sets    {field} = {value}")
        for parameter in preset.parameters:
            console.print(f"tune    {parameter.field}: {parameter.meaning}; {parameter.range}")
        return
    table = Table("policy", "section", "title", "prevents", "guarantees", box=None, pad_edge=False)
    for known in policy_names():
        preset, row = load_policy(known), load_policy(known).verdict
        verdict = (row.prevents, row.guarantees) if row else ("", "")
        table.add_row(preset.name, preset.section, preset.title, *verdict)
    console.print(table)
