"""``fastalloc frontier``: where along one parameter the livelock becomes rare."""

import json as json_text
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.cli.options import (
    Json,
    Memory,
    Policies,
    ScenarioName,
    Seconds,
    Seed,
    Settings,
    Threads,
    Trust,
    Variant,
    allow_memory,
    asked_for,
    loaded_with,
)
from fastalloc.errors import InputError
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.sweep.frontier import Frontier


FREELY = 4096  # lanes that need no word before


# More than nine arguments: each is an option of the command.
def frontier(
    scenario: ScenarioName,
    of: Annotated[str, typer.Option(metavar="KEY", help="The integer field to search along, or pages_min.")],
    where: Annotated[
        str, typer.Option(metavar="livelock<P", help="What must hold beyond the frontier.")
    ] = "livelock<0.05",
    low: Annotated[
        int | None, typer.Option("--from", metavar="N", help="A value with the livelock  [default: searched for]")
    ] = None,
    high: Annotated[
        int | None, typer.Option("--to", metavar="N", help="A value without  [default: searched for]")
    ] = None,
    variant: Variant = None,
    policies: Policies = None,
    lanes: Annotated[int, typer.Option(metavar="N", min=1, help="Lanes at first at each value.")] = 256,
    most_lanes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Lanes at most at each value  [default: as the limit needs]")
    ] = None,
    confidence: Annotated[
        float, typer.Option(metavar="P", min=0.5, max=0.9999, help="That all verdicts hold at once.")
    ] = 0.95,
    seconds: Seconds = None,
    seed: Seed = None,
    threads: Threads = 0,
    settings: Settings = None,
    memory: Memory = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Search for the value from which on the livelock is rarer than asked, and state the confidence."""
    allow_memory(memory)
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.scenario.policy_presets import policy_variant
    from fastalloc.scenario.rules import rules_line
    from fastalloc.sweep.frontier import Tried, fewest_lanes, own_value
    from fastalloc.sweep.frontier import frontier as search

    told = re.fullmatch(r"\s*livelock\s*<\s*([0-9.eE+-]+)\s*", where)
    try:
        limit = float(told[1]) if told else None
    except ValueError:
        limit = None
    if limit is None:
        raise InputError("--where", where, "must be livelock<P, such as livelock<1e-2")
    loaded = loaded_with(scenario, asked_for(settings, None, None, seconds, seed), policies)
    if policies is not None:
        if variant is not None:
            raise InputError("--variant", variant, "and --policies: give one of them")
        asked = policies.split(",")
        every = "all" in asked
        names = [each.name for each in loaded.variants] if every else [policy_variant(each).name for each in asked]
    else:
        names = [variant or loaded.variants[0].name]
    owns = [loaded.variant(name) for name in names]
    for own in owns:
        own_value(own, of)  # refused before anything is compiled
    announce_compiling()
    needed = fewest_lanes(limit, confidence) if 0 < limit < 1 else 0
    if needed > FREELY:
        days = needed * owns[0].run.duration_s / 86400
        say(
            f"to show a value to be below {limit:g} takes {needed:,} lanes without a livelock at least: {days:,.1f} "
            "machine-days",
            err=True,
        )

    def tell(step: Tried) -> None:
        share = f"{step.livelocks:,} of {step.lanes:,} lanes livelocked, {step.low:.2g} to {step.high:.2g}"
        days = f"machine-days to a livelock: {step.machine_days}"
        say(f"{of} = {step.value}: {share}: {step.verdict}; {days}", err=True)

    found: list[Frontier] = []
    for name, own in zip(names, owns, strict=True):
        if len(names) > 1:
            say(f"{name}:", err=True)
        result = search(
            own, of, low, high, limit, lanes=lanes, most_lanes=most_lanes, confidence=confidence, threads=threads,
            tell=tell,
        )  # fmt: skip
        found.append(result)
        if not json:
            say((f"{name}: " if len(names) > 1 else "") + _words(result))
            say(f"rules: {rules_line(own)}")
    if json:
        told_of = [{"variant": name, "rules": rules_line(own)} for name, own in zip(names, owns, strict=True)]
        print(json_text.dumps([each | _record(f) for each, f in zip(told_of, found, strict=True)], indent=1))
    if any(each.above is None or each.below is None for each in found):
        raise typer.Exit(1)


def _record(found: "Frontier") -> dict[str, Any]:
    tried = [step._asdict() | {"machine_days": step.machine_days._asdict()} for step in found.tried]
    return found._asdict() | {"tried": tried}


def _words(found: "Frontier") -> str:
    sure = f"at {100 * found.confidence:g} % confidence"
    if found.above is None or found.below is None:
        last = "above" if found.above is None else "below"
        values = [step.value for step in found.tried]
        between = f"{min(values)} to {max(values)}"
        return f"{found.key}: no frontier in {between}: no value is shown to be {last} {found.limit:g} {sure}"
    days = {step.value: step.machine_days for step in found.tried}
    return (
        f"{found.key}: livelock > {found.limit:g} at {found.above}, < {found.limit:g} at {found.below}, {sure}; "
        f"machine-days to a livelock: {days[found.above]} at {found.above}, {days[found.below]} at {found.below}"
    )
