"""``fastalloc rare``: how often an event comes, on the machine as it is."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.cli.options import Memory, Trust, allow_memory, loaded_with, parse_settings
from fastalloc.errors import InputError

if TYPE_CHECKING:
    from fastalloc.rare.rare import Rare, RareProgress
    from fastalloc.scenario import Scenario

PER_S = {"lane-minute": 60.0, "machine-hour": 3600.0, "machine-day": 86400.0}


# More than nine arguments: each is an option of the command.
def rare(
    scenario: Annotated[str, typer.Argument(help="A preset (see `fastalloc scenarios`) or a TOML file.")],
    event: Annotated[
        str, typer.Option(help="livelock, stall>SECONDS, refused (a GFP_ATOMIC request), reserve<PAGES.")
    ] = "livelock",
    per: Annotated[str, typer.Option(help="lane-minute, machine-hour or machine-day.")] = "machine-day",
    variant: Annotated[str | None, typer.Option(help="Variant of the scenario  [default: the first]")] = None,
    policy: Annotated[str | None, typer.Option(help="Policy, such as 6.18 or fix  [default: the variant's]")] = None,
    lanes: Annotated[int, typer.Option(min=1, help="Lanes at most.")] = 16384,
    budget: Annotated[float | None, typer.Option(min=0, help="Minutes of wall time at most.")] = None,
    width: Annotated[
        float, typer.Option(min=1.01, help="Stop when the upper end of the interval is so many times the lower one.")
    ] = 4.0,
    startup: Annotated[float, typer.Option(min=0, help="Seconds after boot that are kept apart.")] = 15.0,
    seconds: Annotated[float | None, typer.Option(help="Simulated time of a lane.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all randomness.")] = None,
    stress: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=V,V,V[,...]", help="A ladder of settings at which the event is common, and its line."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 is one a CPU. Changes no result.")] = 0,
    out: Annotated[str | None, typer.Option(help="Keep lanes in this folder; the same command goes on there.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a field.")] = None,
    memory: Memory = None,
    trust: Trust = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the answer as JSON, and nothing else, to stdout.")
    ] = False,
) -> None:
    """Say how often a livelock, a stall or a refusal comes: events in so many machine-days, or a bound."""
    from fastalloc.rare.events import parse_event

    allow_memory(memory)
    if per not in PER_S:
        raise InputError("--per", per, f"expected one of {', '.join(PER_S)}")
    wanted = parse_event(event)
    asked = parse_settings(settings or [])
    named = {"run.duration_s": seconds, "run.seed": seed}
    asked |= {key: value for key, value in named.items() if value is not None}
    loaded = loaded_with(scenario, asked)
    own = loaded.variant(variant or loaded.variants[0].name)
    if policy is not None:
        own = _set(own, {"policy": policy})
    rungs = _rungs(stress) if stress else []
    own_out = f"{out}/as-asked" if out and rungs else out
    found = _run(own, wanted, own_out, lanes, budget, width, startup, threads)
    answer = _told(found, per)
    if rungs:
        key, values = rungs[0], rungs[1:]
        steps = []
        for value in values:
            step_out = f"{out}/{key}={value:g}" if out else None
            stressed = _set(own, {key: int(value) if value.is_integer() else value})
            steps.append((value, _run(stressed, wanted, step_out, lanes, budget, width, startup, threads)))
        answer["ladder"] = _ladder(own, key, found, steps)
    if json:
        import json as json_text

        print(json_text.dumps(answer, indent=1))
    else:
        _print(found, answer, per)
    if found.stopped == "interrupted":
        raise typer.Exit(130)


def _run(
    own: "Scenario",
    event: Any,
    out: str | None,
    lanes: int,
    budget: float | None,
    width: float,
    startup: float,
    threads: int,
) -> "Rare":
    from fastalloc.cli.interrupt import cancellation
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.rare.rare import Budget
    from fastalloc.rare.rare import rare as search

    announce_compiling()
    last = [0.0]

    def tell(progress: "RareProgress") -> None:
        if progress.wall_s - last[0] >= 5:
            last[0] = progress.wall_s
            print(f"{progress.lanes:,} lanes, {progress.events:,} events", file=sys.stderr, flush=True)

    wall = float("inf") if budget is None else 60 * budget
    return search(
        own,
        event,
        startup_s=startup,
        budget=Budget(lanes, wall, width),
        out=out,
        threads=threads,
        progress=tell,
        cancel=cancellation(),
    )


def _set(own: "Scenario", asked: dict[str, Any]) -> "Scenario":
    from fastalloc.scenario.chosen import chosen_settings

    return own.with_settings(chosen_settings(own, asked, Path()), "--set")


def _rungs(text: str) -> list[Any]:
    """``KEY=V,V,V`` as a key and numbers."""
    key, equals, values = text.partition("=")
    try:
        numbers = [float(value) for value in values.split(",")]
    except ValueError:
        numbers = []
    if not equals or len(numbers) < 3:
        raise InputError(
            "--stress",
            text,
            "expected KEY=V,V,V with three settings or more, such as machine.min_free_kbytes=64,96,128",
        )
    return [key.strip(), *numbers]


def _told(found: "Rare", per: str) -> dict[str, Any]:
    from fastalloc.scenario.rules import rules_line

    hazard = found.hazard
    steady = hazard.steady
    scale = PER_S[per]
    return {
        "event": str(found.event),
        "scenario": found.scenario.name,
        "variant": found.scenario.variants[0].name,
        "rules": rules_line(found.scenario),
        "lanes": hazard.lanes,
        "lane_seconds": hazard.length_s,
        "stopped_by": found.stopped,
        "startup": {
            "seconds": hazard.startup_s,
            "events": hazard.startup_events,
            "share_of_lanes": hazard.startup_share[0],
            "interval": hazard.startup_share[1:],
        },
        "steady": None
        if steady is None
        else {
            "events": steady.events,
            "exposure_s": steady.exposure,
            "is_steady": hazard.is_steady,
            "p_of_halves": hazard.steady_p,
            "per": per,
            "rate": steady.rate * scale if steady.events and hazard.is_steady else None,
            "low": steady.low * scale if hazard.is_steady else None,
            "high": steady.high * scale if hazard.is_steady else None,
        },
        "hazard": [
            {
                "from_s": each.from_s,
                "to_s": each.to_s,
                "events": each.rate.events,
                "per_s": each.rate.rate,
                "low": each.rate.low,
                "high": each.rate.high,
            }
            for each in hazard.bins
        ],
    }


def _ladder(own: "Scenario", key: str, found: "Rare", steps: list[tuple[float, "Rare"]]) -> dict[str, Any]:
    from fastalloc.rare.ladder import Rung, fit, predict

    rungs = [Rung(value, step.hazard.lanes, sum(each.event for each in step.seen)) for value, step in steps]
    told: dict[str, Any] = {"setting": key, "rungs": [rung._asdict() for rung in rungs]}
    wanted = _field(own, key)
    try:
        line = fit(rungs)
        told |= {"slope": line.b, "fit_p": line.fit_p, "curvature_p": line.curvature_p, "at": wanted}
        guess = predict(line, wanted)
        told |= {"share_of_lanes": guess.share, "low": guess.low, "high": guess.high, "is_model": guess.is_beyond}
    except ValueError as error:
        told["refused"] = str(error)
    told["plain"] = [found.hazard.lanes, sum(each.event for each in found.seen)]
    return told


def _field(own: "Scenario", key: str) -> float:
    value: Any = own
    for part in key.split("."):
        value = getattr(value, part, None)
    if not isinstance(value, int | float):
        raise InputError("--stress", key, "names no number of the scenario")
    return float(value)


def _print(found: "Rare", answer: dict[str, Any], per: str) -> None:
    from fastalloc.terminal import Table, console

    shown = console()
    hazard = found.hazard
    shown.print(f"rules: {answer['rules']}", soft_wrap=True)
    shown.print(
        f"{answer['scenario']}, {answer['variant']}: {found.event.words}, {hazard.lanes:,} lanes of "
        f"{hazard.length_s:g} s (stopped by {found.stopped})",
        soft_wrap=True,
    )
    if hazard.startup_s:
        share, low, high = hazard.startup_share
        shown.print(
            f"start-up (first {hazard.startup_s:g} s): {hazard.startup_events:,} of {hazard.lanes:,} lanes, "
            f"{100 * share:.3g} % ({100 * low:.2g} to {100 * high:.2g})",
            soft_wrap=True,
        )
    shown.print(f"steady state: {_steady_words(found, per)}", soft_wrap=True)
    table = Table()
    for column in ("age, s", "events", "lane-seconds", "a second", "95 %"):
        table.add_column(column, justify="right")
    for each in hazard.bins:
        rate = each.rate
        table.add_row(
            f"{each.from_s:g} to {each.to_s:g}",
            f"{rate.events:,}",
            f"{rate.exposure:,.0f}",
            f"{rate.rate:.2g}" if rate.events else "none seen",
            f"{rate.low:.2g} to {rate.high:.2g}" if rate.events else f"below {rate.high:.2g}",
        )
    shown.print(table)
    if "ladder" in answer:
        for line in ladder_lines(answer["ladder"]):
            shown.print(line, soft_wrap=True)


def _steady_words(found: "Rare", per: str) -> str:
    hazard, steady, scale = found.hazard, found.hazard.steady, PER_S[per]
    if steady is None:
        return f"none was looked at: lanes last {hazard.length_s:g} s, all of it start-up (give --seconds)"
    days = steady.exposure / PER_S["machine-day"]
    if not hazard.is_steady:
        return (
            f"no rate per time: {steady.events:,} events in {days:.3g} machine-days, and the first half of it has "
            f"another rate than the second (p {hazard.steady_p:.1g}); not steady yet (give --seconds or --startup)"
        )
    if steady.events == 0:
        return f"none in {days:.3g} machine-days: below {_number(steady.high * scale)} a {per} (95 %)"
    unit, length = _unit(1 / steady.rate)
    between = [_number(1 / each / length) for each in (steady.rate, steady.high, steady.low)]
    return (
        f"{steady.events:,} in {days:.3g} machine-days: {_number(steady.rate * scale)} a {per} "
        f"({_number(steady.low * scale)} to {_number(steady.high * scale)}), "
        f"one in {between[0]} {unit} ({between[1]} to {between[2]})"
    )


def _unit(seconds: float) -> tuple[str, float]:
    for unit, length in (("machine-days", 86400.0), ("machine-hours", 3600.0), ("machine-minutes", 60.0)):
        if seconds >= length:
            return unit, length
    return "machine-seconds", 1.0


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def ladder_lines(told: dict[str, Any]) -> list[str]:
    """What a ladder says, in sentences."""
    lines = [f"ladder of {told['setting']}:"]
    for rung in told["rungs"]:
        lines.append(f"  {rung['setting']:g}: {rung['events']:,} of {rung['lanes']:,} lanes")
    if "refused" in told:
        return [*lines, f"  no estimate: {told['refused']}"]
    lines.append(
        f"  ln H falls by {-told['slope']:.3g} a unit; the rungs lie on a line with p {told['fit_p']:.2g}, "
        f"against a parabola {told['curvature_p']:.2g}"
    )
    lanes, events = told["plain"]
    model = "by the MODEL of a straight line, not measured" if told["is_model"] else "by the line"
    lines.append(
        f"  at {told['at']:g}: {told['share_of_lanes']:.2g} of lanes ({told['low']:.2g} to {told['high']:.2g}) "
        f"{model}; plain lanes: {events:,} of {lanes:,}"
    )
    return lines
