"""``fastalloc frontier``: where along one parameter the livelock becomes rare."""

import re
import sys
from typing import Annotated

import typer

from fastalloc.cli.options import Trust
from fastalloc.errors import InputError


def frontier(
    scenario: Annotated[str, typer.Argument(help="A preset (see `fastalloc scenarios`) or a TOML file.")],
    of: Annotated[str, typer.Option(metavar="KEY", help="The integer field to search along, or pages_min.")],
    where: Annotated[str, typer.Option(metavar="livelock<P", help="What must hold beyond the frontier.")],
    low: Annotated[
        int | None, typer.Option("--from", help="A value with the livelock  [default: searched for]")
    ] = None,
    high: Annotated[int | None, typer.Option("--to", help="A value without  [default: searched for]")] = None,
    variant: Annotated[str | None, typer.Option(help="Variant of the scenario  [default: the first]")] = None,
    lanes: Annotated[int, typer.Option(min=1, help="Lanes at first at each value.")] = 256,
    most_lanes: Annotated[
        int | None, typer.Option(min=1, help="Lanes at most at each value  [default: as the limit needs]")
    ] = None,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="That all verdicts hold at once.")] = 0.95,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 is one a CPU. Changes no result.")] = 0,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a field.")] = None,
    trust: Trust = False,
) -> None:
    """Search for the value from which on the livelock is rarer than asked, and state the confidence."""
    from fastalloc.cli.options import loaded_with, parse_settings
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.sweep.frontier import Tried
    from fastalloc.sweep.frontier import frontier as search

    told = re.fullmatch(r"\s*livelock\s*<\s*([0-9.eE+-]+)\s*", where)
    try:
        limit = float(told[1]) if told else None
    except ValueError:
        limit = None
    if limit is None:
        raise InputError("--where", where, "must be livelock<P, such as livelock<1e-2")
    loaded = loaded_with(scenario, parse_settings(settings or []))
    own = loaded.variant(variant or loaded.variants[0].name)
    announce_compiling()

    def tell(step: Tried) -> None:
        share = f"{step.livelocks:,} of {step.lanes:,} lanes livelocked, {step.low:.2g} to {step.high:.2g}"
        print(f"{of} = {step.value}: {share}: {step.verdict}", file=sys.stderr, flush=True)

    found = search(
        own, of, low, high, limit, lanes=lanes, most_lanes=most_lanes, confidence=confidence, threads=threads, tell=tell
    )
    sure = f"at {100 * confidence:g} % confidence"
    if found.above is None or found.below is None:
        last = "above" if found.above is None else "below"
        values = [step.value for step in found.tried]
        print(f"{of}: no frontier in {min(values)} to {max(values)}: no value is shown to be {last} {limit:g} {sure}")
        raise typer.Exit(1)
    print(f"{of}: livelock > {limit:g} at {found.above}, < {limit:g} at {found.below}, {sure}")
