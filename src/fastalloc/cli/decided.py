"""``fastalloc decided``: when a lane's fate was sealed, and what would still have changed it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.cli.options import Threads, Trust, of_option, parse_settings
from fastalloc.errors import InputError
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.rare.decided import Chance, Decided
    from fastalloc.rare.events import Event
    from fastalloc.rare.given_back import Given, GivenBack
    from fastalloc.rare.rewind import Rewound
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
    event: Annotated[str, typer.Option(help="livelock, stall>SECONDS, refused or reserve<PAGES.")] = "livelock",
    branches: Annotated[int, typer.Option(min=2, max=65535, help="Branches at each time.")] = 60,
    threads: Threads = 0,
    chart: Annotated[str | None, typer.Option(help="Draw the curves into this file: .svg, .png or .html.")] = None,
    give: Annotated[
        str | None,
        typer.Option(
            "--give-back",
            metavar="TIME",
            help="Also search how many pages given back then would free it: 0s-before-livelock, 2s-after-livelock.",
        ),
    ] = None,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Keep the curves in the dataset, and draw them in its page.")
    ] = True,
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
    from fastalloc.scenario.chosen import of_settings
    from fastalloc.scenario.rules import rules_line

    wanted = parse_event(event)
    if chart is not None:
        from fastalloc.report.chance_chart import refuse_kind

        refuse_kind(chart)  # before anything is run
    own, row = stored_lane(dataset, lane)
    changes: list[tuple[str, Scenario | None]] = [("", None)]
    with of_option("--policy"):
        changes += [(name, _changed(own, {"policy": name})) for name in policy or []]
    if settings:
        with of_settings("--set"):
            changes.append((", ".join(settings), _changed(own, parse_settings(settings))))
    announce_compiling()
    cancel = cancellation()
    opened = Rewound(own, row["lane"], row["seed"])
    opened.find(wanted)
    for _, changed in changes:  # refused before anything is run
        if changed is not None:
            apply(opened.snapshot(), own, changed)

    def tell(chance: "Chance") -> None:
        say(_words(chance), err=True)

    curves = []
    for applied, changed in changes:
        if applied:
            say(f"with {applied} applied at that time:", err=True)
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
            say("stopped; no curve is kept", err=True)
            raise typer.Exit(130)
    rules = rules_line(own)
    given = None if give is None else _given(opened, wanted, give, branches, threads)
    told = [{"rules": rules} | _told(each) for each in curves]
    if page:
        _keep(dataset, lane, told)
    if chart is not None:
        from fastalloc.report.chance_chart import draw

        draw(told, chart)
    if json:
        import json as json_text

        print(json_text.dumps(told if given is None else [*told, _pages(given)], indent=1))
    else:
        say(f"rules: {rules}")
        _table(curves)
        if given is not None:
            say(given_words(given))


def _keep(dataset: str, lane_id: int, told: list[dict[str, Any]]) -> None:
    """Keep the curves of a lane in its dataset and draw its page again, where it has one and can be written."""
    from fastalloc.model_digest import model_digest
    from fastalloc.report.chance_chart import keep
    from fastalloc.report.html import write_report
    from fastalloc.store import open_dataset
    from fastalloc.store.doubts import doubts

    opened = open_dataset(dataset)
    if opened.manifest.get("kind") == "sweep":
        return
    try:
        if opened.manifest["model_digest"] != model_digest():
            raise InputError(dataset, "model_digest", "another version of the model wrote it")
        keep(opened.path, lane_id, told)
        say(f"page    {write_report(opened, doubtful=doubts(opened))}", err=True)
    except InputError as error:
        say(f"the curves are not kept: {error}", err=True)


def _given(opened: "Rewound", event: "Event", when: str, branches: int, threads: int) -> "GivenBack":
    from fastalloc.cli.interrupt import cancellation
    from fastalloc.rare.given_back import pages_to_free
    from fastalloc.rare.rewind import parse_time

    at = parse_time(when, opened.find(event) if "-" in when else None, opened.end_ns)

    def tell(tried: "Given") -> None:
        say(f"{tried.pages:,} pages given back: {tried.lost} of {tried.branches}", err=True)

    found = pages_to_free(opened, event, at, branches=branches, threads=threads, progress=tell, cancel=cancellation())
    if found is None:
        raise typer.Exit(130)
    return found


def _pages(found: "GivenBack") -> dict[str, Any]:
    return found._asdict() | {"event": str(found.event), "tried": [each._asdict() for each in found.tried]}


def given_words(found: "GivenBack") -> str:
    """One sentence of how many pages it takes."""
    when = f"given back at {found.at_ns / 1e9:.3f} s"
    by_pages = {each.pages: each for each in found.tried}
    if found.enough is None:
        most = by_pages[max(by_pages)]
        return (
            f"pages {when} do not free it: with {most.pages:,} still {most.lost} of {most.branches} branches are lost"
        )
    sure = by_pages[found.enough]
    words = (
        f"{found.enough:,} pages {when} free it: none of {sure.branches} branches is lost "
        f"(below {100 * sure.high:.0f} %)"
    )
    return words if found.too_few < 0 else f"{words}; with {found.too_few:,} all are"


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
    say(
        f"lane {first.lane}: {first.event} at {first.event_ns / 1e9:.3f} s. Branches from earlier times, with other "
        f"random draws, that come to it by {first.until_ns / 1e9:g} s (95 % interval):"
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
    console().print(table)
    for curve in curves:
        say(verdict(curve))


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
