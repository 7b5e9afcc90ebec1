"""``fastalloc record``: kmem events and slab counts of this machine, by the script that others run by themselves."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

SCRIPT = Path(__file__).parents[1] / "record" / "record.sh"


def record(
    command: Annotated[list[str] | None, typer.Argument(help="What to run meanwhile, behind --.")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to make.")] = Path("run"),
    seconds: Annotated[
        int | None, typer.Option("-s", "--seconds", min=1, help="How long  [default: to Ctrl-C]")
    ] = None,
    buffer: Annotated[int | None, typer.Option("-b", min=64, help="Trace buffer of each CPU, kB.")] = None,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Shrink every slab cache first; a replay is then nearly exact.")
    ] = False,
    script: Annotated[bool, typer.Option("--script", help="Print the script, for a machine without Python.")] = False,
) -> None:
    """Record this machine: its kmem events, and what its slab caches hold before and after. Needs root."""
    if script:
        sys.stdout.write(SCRIPT.read_text(encoding="utf-8"))
        return
    words = ["sh", str(SCRIPT), "-o", str(out)]
    words += ["-s", str(seconds)] if seconds else []
    words += ["-b", str(buffer)] if buffer else []
    words += ["--shrink"] if shrink else []
    words += ["--", *command] if command else []
    sys.stdout.flush()
    os.execvp("sh", words)
