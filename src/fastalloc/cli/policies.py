"""``fastalloc policies``: what can be compared by name."""

from typing import Annotated

import typer


def policies(name: Annotated[str | None, typer.Argument(help="Explain this one.")] = None) -> None:
    """List the policies, or explain one."""
    from fastalloc.errors import printable
    from fastalloc.scenario import load_policy, policy_names
    from fastalloc.terminal import Table, console

    out = console()
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
    for heading, rank in (("policy", 0), ("section", 1), ("title", 0), ("prevents", 2), ("guarantees", 2)):
        table.add_column(heading, rank=rank, min_width=34 if heading == "title" else None)
    for known in policy_names():
        preset, row = load_policy(known), load_policy(known).verdict
        verdict = (row.prevents, row.guarantees) if row else ("", "")
        table.add_row(preset.name, preset.section, preset.title, *verdict)
    table.put(out)
    out.print(
        "\nsection: letter of the remedy in docs/policies.md. prevents: sense failures (no sense buffer could be "
        "allocated). guarantees: commands in flight whatever memory others ask for. `fastalloc policies NAME` explains "
        "one."
    )
