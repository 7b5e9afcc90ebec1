"""The progress bar of a run, on stderr."""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from fastalloc.terminal import console

if TYPE_CHECKING:
    from fastalloc.runner import RunProgress


class RunBar:
    """Shows simulated time, rate, time left and livelocks; without a terminal, a line a variant."""

    def __init__(self, before: Sequence[str] = ()) -> None:
        """``before``: lines to print once the run has begun."""
        self._before = [*before]
        self._console = console(stderr=True)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[simulated]} simulated"),
            TextColumn("{task.fields[rate]} x real time"),
            TextColumn("ETA"),
            TimeRemainingColumn(compact=True),
            TextColumn("livelocks {task.fields[livelocks]}"),
            console=self._console,
            disable=not self._console.is_terminal,
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
            self._console.print(Text(self._before.pop(0)))
        if not self._console.is_terminal:
            if now.variant != self._variant:
                print(f"{now.variant}: {now.lanes} lanes", file=sys.stderr, flush=True)
            self._variant = now.variant
            return
        batch = now.batch
        fields: dict[str, Any] = {
            "simulated": _duration(batch.simulated_ms / 1000),
            "rate": f"{batch.simulated_ms / 1000 / batch.wall_s:,.0f}" if batch.wall_s > 0 else "-",
            "livelocks": str(batch.livelocks),
        }
        description = "compiling" if batch.compiling else now.variant
        if self._task is None:
            self._task = self._progress.add_task(description, total=batch.total_ms, **fields)
        self._progress.update(self._task, description=description, completed=batch.simulated_ms, **fields)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
