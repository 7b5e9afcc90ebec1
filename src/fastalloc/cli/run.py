"""``fastalloc run``: variants of a scenario, side by side."""

import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from fastalloc.cli.options import parse_settings
from fastalloc.errors import InputError


def run(
    scenario: Annotated[str, typer.Argument(help="A preset (see `fastalloc scenarios`) or a TOML file.")],
    variant: Annotated[list[str] | None, typer.Option(help="Run only this one; may be repeated.")] = None,
    lanes: Annotated[int | None, typer.Option(min=1, help="Simulated machines a variant.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Simulated time of a lane.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all randomness.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 is one a CPU. Changes no result.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the dataset  [default: out/SCENARIO]")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a field.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON, and nothing else, to stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Check conservation after every tick.")] = False,
    no_skip: Annotated[bool, typer.Option("--no-skip", help="Walk every tick. Changes no result.")] = False,
) -> None:
    """Run the variants of a scenario and tell which of them livelock."""
    from fastalloc.scenario import load_scenario

    asked = parse_settings(settings or [])
    named = {"run.lanes": lanes, "run.duration_s": seconds, "run.seed": seed}
    asked |= {key: value for key, value in named.items() if value is not None}
    loaded = load_scenario(scenario).with_settings(asked, "--set")
    folder = out or _free_folder(loaded.name)
    cancel, interrupted = threading.Event(), threading.Event()
    _stop_on_interrupt(cancel, interrupted)

    from fastalloc.cli.progress import RunBar
    from fastalloc.runner import run as run_scenario

    try:
        with RunBar() as bar:
            dataset = run_scenario(
                loaded,
                folder,
                variants=variant,
                threads=threads,
                debug=debug,
                skip=not no_skip,
                command=_command(scenario, variant, asked),
                progress=bar,
                cancel=cancel,
            )
    except InputError:
        if not interrupted.is_set():
            raise
        print("stopped before the first lane was finished", file=sys.stderr)
        raise typer.Exit(130) from None

    from fastalloc.cli.show import show
    from fastalloc.report.html import write_report

    page = write_report(dataset)
    show(dataset, as_json=json)
    print(f"\ndataset {folder}\nreport  {page}", file=sys.stderr)
    if interrupted.is_set():
        print("stopped; what was finished is kept", file=sys.stderr)
        raise typer.Exit(130)


def _stop_on_interrupt(cancel: threading.Event, interrupted: threading.Event) -> None:
    """The first Ctrl-C asks the run to stop, the second stops it."""

    def stop(signum: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise SystemExit(130)
        interrupted.set()
        cancel.set()
        print("\nstopping; once more to stop at once", file=sys.stderr)

    signal.signal(signal.SIGINT, stop)


def _free_folder(name: str) -> Path:
    """``out/NAME``, or the first of ``out/NAME-2``, ``-3``, ... that is not taken."""
    folder, n = Path("out") / name, 1
    while folder.exists():
        n += 1
        folder = Path("out") / f"{name}-{n}"
    return folder


def _command(scenario: str, variants: list[str] | None, settings: dict[str, object]) -> str:
    """The command that makes the same rows again."""
    import json
    import shlex

    short = {"run.lanes": "--lanes", "run.duration_s": "--seconds", "run.seed": "--seed"}
    words = ["fastalloc", "run", scenario]
    for name in variants or []:
        words += ["--variant", name]
    for key, value in settings.items():
        words += (
            [short[key], str(value).removesuffix(".0")] if key in short else ["--set", f"{key}={json.dumps(value)}"]
        )
    return shlex.join(words)
