"""``fastalloc report``: the table and the HTML page of a dataset."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fastalloc.errors import InputError

if TYPE_CHECKING:
    from fastalloc.report.sensitivity import Sensitivity
    from fastalloc.store import Dataset


def report(
    dataset: Annotated[str, typer.Argument(help="Folder of the dataset, or s3://BUCKET/PREFIX.")],
    out: Annotated[str | None, typer.Option("-o", "--out", help="HTML file  [default: DATASET/report.html]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON, and nothing else, to stdout.")] = False,
) -> None:
    """Print the verdict of a dataset and write its HTML report."""
    from fastalloc.cli.show import show
    from fastalloc.report.html import write_report
    from fastalloc.store import open_dataset

    opened = open_dataset(dataset)
    if opened.manifest.get("kind") == "sweep":
        from fastalloc.cli.show import show_sweep
        from fastalloc.report.sweep import is_of_traces

        if is_of_traces(opened):
            from fastalloc.report.replays_page import write_replays_report

            page = write_replays_report(opened, out)
        else:
            from fastalloc.report.sweep_page import write_sweep_report

            page = write_sweep_report(opened, out, _influences(opened))
        show_sweep(opened, as_json=json)
        print(f"\nreport  {page}", file=sys.stderr)
        return
    page = write_report(opened, out)
    show(opened, as_json=json)
    print(f"\nreport  {page}", file=sys.stderr)


def _influences(dataset: "Dataset") -> list["Sensitivity"]:
    """What matters in a sweep, where its points can tell; why not is said."""
    from fastalloc.sweep.sensitivity import sensitivity

    try:
        return sensitivity(dataset)
    except InputError as error:
        print(f"no sensitivity indices: {error}", file=sys.stderr)
        return []
