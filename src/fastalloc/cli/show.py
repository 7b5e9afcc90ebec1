"""Prints the verdict of a dataset to stdout."""

import sys

from fastalloc.store import Dataset


def show(dataset: Dataset, as_json: bool) -> None:
    """As a table with a sentence a variant, or as JSON and nothing else."""
    from fastalloc.report.verdict import verdict_rows, verdicts

    found = verdicts(dataset)
    if as_json:
        import json

        print(json.dumps(verdict_rows(found), indent=1))
        return
    from rich.console import Console

    from fastalloc.report.terminal import verdict_table

    console = Console()
    if not sys.stdout.isatty():
        console = Console(width=160)
    console.print(verdict_table(found))
