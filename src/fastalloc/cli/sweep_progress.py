"""The progress bar of a sweep, on stderr."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fastalloc.terminal import console

if TYPE_CHECKING:
    from fastalloc.sweep import SweepProgress

LINE_EVERY_S = 10.0


class SweepBar:
    """Shows lanes, rate, time left and livelocks; without a terminal, a line every ten seconds."""

    def __init__(self) -> None:
        self._console = console(stderr=True)
        self._progress = Progress(
            BarColumn(), TextColumn("{task.description}"), console=self._console, transient=True,
            disable=not self._console.is_terminal,
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
        if not self._console.is_terminal:
            if now.wall_s - self._told >= LINE_EVERY_S or now.lanes_done == now.lanes:
                print(line, file=sys.stderr, flush=True)
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
