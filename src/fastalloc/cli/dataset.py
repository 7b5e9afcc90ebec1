"""``fastalloc dataset``: what can be done with datasets as they lie."""

import sys
from typing import Annotated, Any

import typer

from fastalloc.errors import printable
from fastalloc.plural import plural
from fastalloc.width import columns, fitted, say

dataset_app = typer.Typer(help="Check, compact and merge datasets.", no_args_is_help=True)


@dataset_app.command()
def check(dataset: Annotated[str, typer.Argument(help="Folder of the dataset, or s3://BUCKET/PREFIX.")]) -> None:
    """Read every file of a dataset and name what is damaged, missing or there twice; exit code 1 if anything is."""
    from fastalloc.store.check import check_dataset

    found = check_dataset(dataset)
    for fault in found.faults:
        told = printable(f"{fault.path}: {fault.message}")
        print(fitted(told, columns(sys.stderr)), file=sys.stderr, flush=True)  # a line each, into a pipe
    say(f"{_counted(found)}, {plural(len(found.faults), 'fault')}")
    raise typer.Exit(1 if found.faults else 0)


@dataset_app.command()
def compact(
    dataset: Annotated[str, typer.Argument(help="Folder or s3:// of a sweep's dataset; it stays as it is.")],
    out: Annotated[str, typer.Option("-o", "--out", help="Folder or s3:// of the new dataset.")],
) -> None:
    """Write the same rows into few large shards."""
    _merge([dataset], out)


@dataset_app.command()
def merge(
    datasets: Annotated[
        list[str], typer.Argument(help="Folders or s3:// of the datasets of one sweep; they stay as they are.")
    ],
    out: Annotated[str, typer.Option("-o", "--out", help="Folder or s3:// of the new dataset.")],
) -> None:
    """Put the slices of one sweep together."""
    _merge(datasets, out)


def _counted(found: Any) -> str:
    return f"{plural(found.shards, 'shard')}, {plural(found.lanes, 'lane')}, {plural(found.bytes, 'byte')}"


def _merge(datasets: list[str], out: str) -> None:
    from fastalloc.store.location import location
    from fastalloc.store.maintain import merge_datasets
    from fastalloc.store.read import open_manifest

    found = merge_datasets(datasets, out)
    say(f"{out}: {_counted(found)}")
    manifest = open_manifest(location(out))
    if manifest["status"] != "complete":
        asked = manifest["sweep"]["points"] * manifest["lanes"]
        say(f"{found.lanes:,} of {asked:,} lanes: a slice is missing, or was not run to its end", err=True)
