"""``fastalloc report``: the table and the HTML page of a dataset."""

from typing import TYPE_CHECKING, Annotated

import typer

from fastalloc.cli.options import Json, Wide
from fastalloc.errors import InputError, reading
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.report.sensitivity import Sensitivity
    from fastalloc.store import Dataset


def report(
    dataset: Annotated[str, typer.Argument(help="Folder of the dataset, or s3://BUCKET/PREFIX.")],
    out: Annotated[str | None, typer.Option("-o", "--out", help="HTML file  [default: DATASET/report.html]")] = None,
    json: Json = False,
    wide: Wide = False,
) -> None:
    """Print the verdict of a dataset and write its HTML report.

    Exit code 1 where files or lanes of it are missing, failed or not as they were written.
    """
    with reading(dataset, "", "cannot be reported"):
        doubtful = _report(dataset, out, json)
    raise typer.Exit(1 if doubtful else 0)


def _report(dataset: str, out: str | None, json: bool) -> list[str]:
    """Prints and writes the report; what it lacks."""
    from fastalloc.cli.show import show, tell_doubts
    from fastalloc.report.html import write_report
    from fastalloc.store import open_dataset
    from fastalloc.store.doubts import doubts

    opened = open_dataset(dataset)
    doubtful = doubts(opened)
    tell_doubts(doubtful, json)
    if opened.manifest.get("kind") == "sweep":
        from fastalloc.cli.show import show_sweep
        from fastalloc.report.sweep import is_of_traces

        if is_of_traces(opened):
            from fastalloc.report.replays_page import write_replays_report

            page = write_replays_report(opened, out, doubtful)
        else:
            from fastalloc.report.sweep_page import write_sweep_report

            page = write_sweep_report(opened, out, _influences(opened), doubtful)
        show_sweep(opened, as_json=json, doubtful=doubtful)
        say(f"\nreport  {page}", err=True)
        return doubtful
    page = write_report(opened, out, doubtful)
    show(opened, as_json=json, doubtful=doubtful)
    say(f"\nreport  {page}", err=True)
    return doubtful


def _influences(dataset: "Dataset") -> list["Sensitivity"]:
    """What matters in a sweep, where its points can tell; why not is said."""
    from fastalloc.sweep.sensitivity import sensitivity

    try:
        return sensitivity(dataset)
    except InputError as error:
        say(f"no sensitivity indices: {error}", err=True)
        return []
