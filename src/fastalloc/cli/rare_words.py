"""What ``fastalloc rare`` says: as plain data for JSON, and as text."""

from typing import TYPE_CHECKING, Any

from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.rare.rare import Rare

PER_S = {"lane-minute": 60.0, "machine-hour": 3600.0, "machine-day": 86400.0}


def record(found: "Rare", per: str) -> dict[str, Any]:
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


def show(found: "Rare", answer: dict[str, Any], per: str) -> None:
    from fastalloc.terminal import Table, console

    hazard = found.hazard
    say(f"rules: {answer['rules']}")
    say(
        f"{answer['scenario']}, {answer['variant']}: {found.event.words}, {hazard.lanes:,} lanes of "
        f"{hazard.length_s:g} s (stopped by {found.stopped})"
    )
    if hazard.startup_s:
        share, low, high = hazard.startup_share
        say(
            f"start-up (first {hazard.startup_s:g} s): {hazard.startup_events:,} of {hazard.lanes:,} lanes, "
            f"{100 * share:.3g} % ({100 * low:.2g} to {100 * high:.2g})"
        )
    say(f"steady state: {_steady_words(found, per)}")
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
    if hazard.bins:
        console().print(table)
    if "ladder" in answer:
        for line in ladder_lines(answer["ladder"]):
            say(line)
    if "splitting" in answer:
        say(answer["splitting"]["words"])


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
        f"against a parabola {told['curvature_p']:.2g}, the last decade from those before {told['decade_p']:.2g}"
    )
    lanes, events = told["plain"]
    model = "by the MODEL of a straight line, not measured" if told["is_model"] else "by the line"
    lines.append(
        f"  at {told['at']:g}: {told['share_of_lanes']:.2g} of lanes ({told['low']:.2g} to {told['high']:.2g}) "
        f"{model}; plain lanes: {events:,} of {lanes:,}"
    )
    return lines
