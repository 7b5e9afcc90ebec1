"""``fastalloc schema``: JSON Schemas of the files a user writes, for editors."""

from typing import Annotated

import typer


def schema(name: Annotated[str, typer.Argument(help="machine, scenario or sweep.")]) -> None:
    """Print the JSON Schema of a kind of file."""
    from fastalloc.scenario.load import load_schema

    print(load_schema(name), end="")
