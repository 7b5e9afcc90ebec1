"""Progress bars of runs and sweeps, on stderr or in a notebook."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from fastalloc.errors import printable
from fastalloc.plural import plural
from fastalloc.terminal import console
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.runner import RunProgress
    from fastalloc.sweep import SweepProgress

LINE_EVERY_S = 10.0


@contextmanager
def shown(options: dict[str, Any], bar: Callable[[], Any]) -> Iterator[None]:
    """A bar as ``progress`` of a library call, where there is somebody to see it and no other was given."""
    if options.get("progress") is not None or not (in_notebook() or sys.stderr.isatty()):
        yield
        return
    with bar() as options["progress"]:
        yield


def in_notebook() -> bool:
    """Whether a notebook shows what is printed."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _live(out: Console) -> bool:
    return out.is_terminal or out.is_jupyter


def _console() -> Console:
    """Where a bar is drawn: rich finds a notebook by itself."""
    return Console(markup=False, highlight=False) if in_notebook() else console(stderr=True)


class RunBar:
    """Shows simulated time, rate, time left and livelocks; without a terminal, a line a variant."""

    def __init__(self, before: Sequence[str] = ()) -> None:
        """``before``: lines to print once the run has begun."""
        self._before = [*before]
        self._console = _console()
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[simulated]} simulated"),
            TextColumn("{task.fields[rate]} x real time"),
            TextColumn("ETA"),
            TimeRemainingColumn(compact=True),
            TextColumn("livelocks {task.fields[livelocks]}"),
            console=self._console,
            disable=not _live(self._console),
            transient=True,
        )
        self._task: TaskID | None = None
        self._variant = ""

    def __enter__(self) -> "RunBar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, now: "RunProgress") -> None:
        """Shows where the run stands."""
        while self._before:
            self._console.print(Text(printable(self._before.pop(0))))
        if not _live(self._console):
            if now.variant != self._variant:
                print(f"{now.variant}: {plural(now.lanes, 'lane')}", file=sys.stderr, flush=True)
            self._variant = now.variant
            return
        batch = now.batch
        fields: dict[str, Any] = {
            "simulated": duration(batch.simulated_ms / 1000),
            "rate": f"{batch.simulated_ms / 1000 / batch.wall_s:,.0f}" if batch.wall_s > 0 else "-",
            "livelocks": str(batch.livelocks),
        }
        description = "compiling" if batch.compiling else now.variant
        if self._task is None:
            self._task = self._progress.add_task(description, total=batch.total_ms, **fields)
        self._progress.update(self._task, description=description, completed=batch.simulated_ms, **fields)


class SweepBar:
    """Shows lanes, rate, time left and livelocks; without a terminal, a line every ten seconds."""

    def __init__(self) -> None:
        self._console = _console()
        self._progress = Progress(
            BarColumn(), TextColumn("{task.description}"), console=self._console, transient=True,
            disable=not _live(self._console),
        )  # fmt: skip
        self._task: TaskID | None = None
        self._told = 0.0

    def __enter__(self) -> "SweepBar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, now: "SweepProgress") -> None:
        """Shows where the sweep stands."""
        line = progress_line(now)
        if not _live(self._console):
            if now.wall_s - self._told >= LINE_EVERY_S or now.lanes_done == now.lanes:
                say(line, err=True)
                self._told = now.wall_s
            return
        if self._task is None:
            self._task = self._progress.add_task(line)
        self._progress.update(self._task, description=line, completed=now.lanes_done, total=now.lanes)


def progress_line(now: "SweepProgress") -> str:
    """Where a sweep stands, in a line."""
    fresh = now.lanes_done - now.lanes_before
    rate = fresh / now.wall_s if now.wall_s > 0 else 0.0
    left = duration((now.lanes - now.lanes_done) / rate) if rate else "-"
    kept = f" ({now.lanes_before:,} from before)" if now.lanes_before else ""
    state = "compiling" if now.compiling else f"{rate:,.1f} lanes/s, ETA {left}"
    return f"{now.lanes_done:,} of {now.lanes:,} lanes{kept}, {state}, {now.livelocks:,} livelocked"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
