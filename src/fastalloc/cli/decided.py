"""``fastalloc decided``: when a lane's fate was sealed, and what would still have changed it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.cli.options import Trust, parse_settings
from fastalloc.errors import InputError

if TYPE_CHECKING:
    from fastalloc.rare.decided import Chance, Decided
    from fastalloc.scenario import Scenario


# More than nine arguments: each is an option of the command.
def decided(
    dataset: Annotated[str, typer.Argument(help="Folder of the dataset, or s3://BUCKET/PREFIX.")],
    lane: Annotated[int, typer.Argument(help="The lane's id in runs/.")],
    policy: Annotated[
        list[str] | None, typer.Option(help="Also with this policy applied at each of the times; may be repeated.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Also with this field set at each time.")
    ] = None,
    event: Annotated[str, typer.Option(help="livelock, stall>SECONDS.")] = "livelock",
    branches: Annotated[int, typer.Option(min=2, max=65535, help="Branches at each time.")] = 60,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 is one a CPU. Changes no result.")] = 0,
    chart: Annotated[str | None, typer.Option(help="Draw the curves into this file: .svg, .png or .html.")] = None,
    trust: Trust = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the curves as JSON, and nothing else, to stdout.")
    ] = False,
) -> None:
    """Run a livelocked lane again with new random draws from times before its end: when was it lost?"""
    from fastalloc.cli.interrupt import cancellation
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.rare.decided import apply
    from fastalloc.rare.decided import decided as curve
    from fastalloc.rare.events import parse_event
    from fastalloc.rare.rewind import Rewound
    from fastalloc.runner import stored_lane
    from fastalloc.scenario.rules import rules_line

    wanted = parse_event(event)
    own, row = stored_lane(dataset, lane)
    changes: list[tuple[str, Scenario | None]] = [("", None)]
    changes += [(name, _changed(own, {"policy": name})) for name in policy or []]
    if settings:
        changes.append((", ".join(settings), _changed(own, parse_settings(settings))))
    announce_compiling()
    cancel = cancellation()
    opened = Rewound(own, row["lane"], row["seed"])
    opened.find(wanted)
    for _, changed in changes:  # refused before anything is run
        if changed is not None:
            apply(opened.snapshot(), own, changed)

    def tell(chance: "Chance") -> None:
        print(_words(chance), file=sys.stderr, flush=True)

    curves = []
    for applied, changed in changes:
        if applied:
            print(f"with {applied} applied at that time:", file=sys.stderr)
        curves.append(
            curve(
                opened,
                wanted,
                branches=branches,
                changed=changed,
                applied=applied,
                threads=threads,
                progress=tell,
                cancel=cancel,
            )
        )
        if cancel.is_set():
            raise typer.Exit(130)
    rules = rules_line(own)
    if chart is not None:
        from fastalloc.report.chance_chart import draw

        draw([_told(each) for each in curves], chart)
    if json:
        import json as json_text

        print(json_text.dumps([{"rules": rules} | _told(each) for each in curves], indent=1))
    else:
        print(f"rules: {rules}")
        _table(curves)


def _changed(own: "Scenario", asked: dict[str, Any]) -> "Scenario":
    from fastalloc.scenario.chosen import chosen_settings

    return own.with_settings(chosen_settings(own, asked, Path()), "--set")


def _when(chance: "Chance") -> str:
    return "boot" if chance.before_ms < 0 else f"{chance.before_ms:g} ms before"


def _share(chance: "Chance") -> str:
    return f"{100 * chance.share:.0f} % ({100 * chance.low:.0f} to {100 * chance.high:.0f})"


def _words(chance: "Chance") -> str:
    return f"{_when(chance):>14}: {chance.events} of {chance.branches}"


def _told(curve: "Decided") -> dict[str, Any]:
    chances = [chance._asdict() | {"share": chance.share} for chance in curve.chances]
    return {
        "lane": curve.lane,
        "event": str(curve.event),
        "event_s": curve.event_ns / 1e9,
        "until_s": curve.until_ns / 1e9,
        "applied": curve.applied,
        "chances": chances,
    }


def _table(curves: list["Decided"]) -> None:
    from fastalloc.terminal import Table, console

    first = curves[0]
    shown = console()
    shown.print(
        f"lane {first.lane}: {first.event} at {first.event_ns / 1e9:.3f} s. Branches from earlier times, with other "
        f"random draws, that come to it by {first.until_ns / 1e9:g} s (95 % interval):",
        soft_wrap=True,
    )
    table = Table()
    table.add_column("from")
    for curve in curves:
        table.add_column(f"{curve.applied} applied" if curve.applied else "as it was", justify="right")
    for i, chance in enumerate(first.chances):
        table.add_row(
            _when(chance),
            *(_share(each.chances[i]) for each in curves),
        )
    shown.print(table)
    for curve in curves:
        shown.print(verdict(curve), soft_wrap=True)


def verdict(curve: "Decided") -> str:
    """One sentence of what a curve says."""
    with_ = f"with {curve.applied} applied then, " if curve.applied else ""
    timed = [chance for chance in curve.chances if chance.before_ms >= 0]
    if not timed:
        raise InputError(f"lane {curve.lane}", "", "no time before the event was tried")
    last = timed[-1]
    if curve.applied and last.events == 0:
        return (
            f"{with_}none of {last.branches} branches comes to it even from {_when(last)} it (below "
            f"{100 * last.high:.0f} %): it would still have freed the machine"
        )
    sealed = None
    for chance in reversed(timed):
        if chance.events < chance.branches:
            break
        sealed = chance
    if sealed is None:
        return f"{with_}it was open to the last time that was tried: {last.events} of {last.branches}"
    return f"{with_}it was lost by {_when(sealed)}: every one of {sealed.branches} branches comes to it"
