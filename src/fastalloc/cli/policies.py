"""``fastalloc policies``: what can be compared by name."""

from typing import Annotated

import typer


def policies(name: Annotated[str | None, typer.Argument(help="Explain this one.")] = None) -> None:
    """List the policies, or explain one."""
    from fastalloc.errors import printable
    from fastalloc.scenario import load_policy, policy_names
    from fastalloc.terminal import Table, console

    out = console(width=80)
    if name is not None:
        preset = load_policy(name)
        out.print(f"{preset.name} ({preset.section}): {preset.title}\n\n{preset.description}\n")
        out.print(f"source  {preset.source}")
        for field, value in preset.set.items():
            out.print(f"sets    {field} = {printable(value)}")
        for parameter in preset.parameters:
            out.print(f"tune    {parameter.field}: {parameter.meaning}; {parameter.range}")
        return
    table = Table()
    for heading in ("policy", "section", "title", "prevents", "guarantees"):
        table.add_column(heading)
    for known in policy_names():
        preset, row = load_policy(known), load_policy(known).verdict
        verdict = (row.prevents, row.guarantees) if row else ("", "")
        table.add_row(preset.name, preset.section, preset.title, *verdict)
    out.print(table)
