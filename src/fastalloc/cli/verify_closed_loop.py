"""How ``fastalloc verify`` tells predictions of clean runs: a row a run and figure, then what they come to."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from fastalloc.errors import InputError, noted, printable
from fastalloc.report.statistics import wilson_interval
from fastalloc.terminal import Table, console
from fastalloc.verify.closed_loop.predict import DRAWN, PARALLEL, RunResult, predict_runs
from fastalloc.verify.closed_loop.summary import summarise

WITHIN = {True: "within", False: "not within", None: ""}
NOTES = {
    DRAWN: "when tasks start is read from each run's series above; what other draws give, held against nothing",
    PARALLEL: "CPUs that are truly parallel have no clean reference: what the rules give there, held against nothing",
}


def predict(
    tables: Sequence[Path], lanes: int, threads: int, left_out: list[InputError], unread: list[InputError]
) -> list[RunResult]:
    """Predictions for every reference row of ``tables``; ``left_out`` gets why others have none, ``unread`` what is
    wrong with tables that have none at all, and with series."""
    found = []
    for path in tables:
        with noted(unread):
            found += predict_runs(path, lanes=lanes, threads=threads, left_out=left_out, unread=unread)
    return found


def record(results: Sequence[RunResult], left_out: Sequence[InputError] = ()) -> dict[str, Any]:
    """The same as JSON: runs with their figures, and a summary a view; null for what is no number."""
    runs = []
    for result in results:
        run: dict[str, Any] = result._asdict() | {"ok": result.ok}
        run["figures"] = [figure._asdict() for figure in result.figures]
        run["started"] = result.started and result.started._asdict()
        runs.append(run)
    views = []
    for summary in summarise(results):
        view: dict[str, Any] = summary._asdict()
        view["kernel_interval"] = wilson_interval(summary.kernel_livelocked, summary.runs)
        view["spreads"] = [{name: _or_null(value) for name, value in s._asdict().items()} for s in summary.spreads]
        views.append(view)
    reasons = [{"where": error.where, "reason": error.message} for error in left_out]
    return {"runs": runs, "views": views, "left_out": reasons}


def _or_null(value: Any) -> Any:
    numbers = value if isinstance(value, tuple) else (value,)
    return value if all(isinstance(each, str) or isfinite(each) for each in numbers) else None


def show(results: Sequence[RunResult], left_out: Sequence[InputError] = ()) -> None:
    """A table of all figures, one of their spreads, the lanes that locked up, and the runs left out."""
    out = console()
    table = Table()
    for column, rank in (("run", 0), ("view", 3), ("figure", 0)):
        table.add_column(column, no_wrap=True, rank=rank)
    for column, rank in (("real", 0), ("predicted", 0), ("least", 2), ("most", 2), ("predicted/real", 1)):
        table.add_column(column, justify="right", no_wrap=True, rank=rank)
    table.add_column("", no_wrap=True)
    for result in results:
        for figure in result.figures:
            ratio = f"{figure.median / figure.real:.2f}" if figure.real else ""
            values = (f"{value:,.6g}" for value in (figure.real, figure.median, figure.low, figure.high))
            table.add_row(result.run, result.view, figure.name, *values, ratio, WITHIN[figure.within])
        counts = (
            ("lanes livelocked", int(result.real_livelock), result.livelocked),
            ("never swap", int(result.real_never_swapped), result.never_swapped),
            ("out of memory", int(result.real_out_of_memory), result.out_of_memory),
        )
        for name, real, lanes in counts:
            table.add_row(result.run, result.view, name, f"{real}", f"{lanes} of {result.lanes}", "", "", "", "")
        if result.not_modelled:
            table.add_row(result.run, result.view, printable(result.not_modelled), "", "", "", "", "", "")
    table.put(out)
    for summary in summarise(results):
        low, high = wilson_interval(summary.kernel_livelocked, summary.runs)
        own = f"its own: {summary.kernel_livelocked} of {summary.runs} runs, 95 % {low:.0%} to {high:.0%}"
        out.print(
            f"{summary.view}: {summary.runs} runs, {summary.lanes} lanes; {summary.livelocked} of"
            f" {summary.lanes_without} lanes lock up where the kernel ran through ({own});"
            f" {summary.never_swapped} never swap; {summary.out_of_memory} run out of memory where the kernel did not"
        )
        if summary.view in NOTES:
            out.print(NOTES[summary.view])
        spreads = Table()
        spreads.add_column("figure", no_wrap=True)
        for column in ("runs", "10 %", "median", "90 %", "by chance", "within"):
            spreads.add_column(column, justify="right", no_wrap=True)
        for spread in summary.spreads:
            within = f"{spread.within} of {spread.judged}" if spread.judged else ""
            low, high = spread.chance_median
            spreads.add_row(
                spread.figure,
                f"{spread.runs}",
                f"{spread.q10:.2f}",
                f"{spread.median:.2f}",
                f"{spread.q90:.2f}",
                f"{low:.2f} to {high:.2f}" if isfinite(low) else "",
                within,
            )
        spreads.put(out)
        out.print("by chance: the median where one lane of each run stands for the run, least and most")
    for error in left_out:
        out.print(f"not predicted: {printable(error.where)}: {printable(error.message)}")
