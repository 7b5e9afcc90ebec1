"""``fastalloc reserve``: how large a reserve must be."""

import json as json_text
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.cli.options import (
    Json,
    Memory,
    Policies,
    PolicyName,
    Seconds,
    Seed,
    Settings,
    Threads,
    Variant,
    allow_memory,
    asked_for,
    loaded_with,
    names_of,
    of_option,
)
from fastalloc.errors import InputError, meant, printable
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.scenario import Scenario
    from fastalloc.sweep.reserve import Refused, Reserve


# More than nine arguments: each is an option of the command.
def reserve(
    scenario: Annotated[
        str,
        typer.Argument(metavar="SCENARIO", help="A scenario with [[workload.bursts]], or a machine (preset or file)."),
    ],
    of: Annotated[
        str,
        typer.Option(metavar="RESERVE", help="min_free_kbytes, watermark_scale_factor, bio_pool or free_list."),
    ] = "min_free_kbytes",
    below: Annotated[
        float,
        typer.Option(metavar="P", min=1e-7, max=0.999, help="The share of requests that may be refused."),
    ] = 1e-3,
    burst: Annotated[
        list[str] | None,
        typer.Option(metavar="pages=N,every_ms=T,...", help="A burst of GFP_ATOMIC requests; may be repeated."),
    ] = None,
    variant: Variant = None,
    policy: PolicyName = None,
    policies: Policies = None,
    lanes: Annotated[int, typer.Option(metavar="N", min=2, help="Simulated machines at first at each value.")] = 16,
    most_lanes: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="Simulated machines at most at each value [256; a pool: by P]."),
    ] = None,
    seconds: Seconds = None,
    seed: Seed = None,
    threads: Threads = 0,
    settings: Settings = None,
    memory: Memory = None,
    json: Json = False,
) -> None:
    """Say how large min_free_kbytes (or another reserve) must be for few GFP_ATOMIC requests to be refused."""
    allow_memory(memory)
    from fastalloc.compiler.cache_dir import announce_compiling
    from fastalloc.scenario.own_parameters import own_settings
    from fastalloc.scenario.policy_presets import policy_variant
    from fastalloc.sweep.reserve import BURSTS, FIELDS
    from fastalloc.sweep.reserve import reserve as search

    if of not in FIELDS:
        raise InputError("--of", of, f"is none of {', '.join(FIELDS)}{meant(of, FIELDS)}")
    asked, parameters = asked_for(settings, policy, None, seconds, seed), dict[str, Any]()
    if policies is not None:
        asked, parameters = own_settings(asked)
        with of_option("--policies"):
            for name in names_of(policies):
                policy_variant(name)  # refused before anything is told
    own = _scenario(scenario, of, variant, asked, [_burst(text) for text in burst or []])
    if of in BURSTS and not own.workload.bursts:
        raise InputError(scenario, "workload.bursts", "none; tell them in the scenario or with --burst")
    owns = {"": own} if policies is None else _under(own, policies, parameters)
    announce_compiling()
    answers = []
    for name, each in owns.items():
        if name:
            say(f"{name}:", err=True)
        closed = _closed_forms(each, of, below)
        # of 1 the steps of the other sysctl hold the burst, and the closed form says nothing of this one
        start = closed[0] if closed[0] != 1 else None
        found = search(
            each, of, below, lanes=lanes, most_lanes=most_lanes, start=start, threads=threads, tell=_tell(of)
        )
        answers.append(({"policy": name} if name else {}) | _answer(each, found, closed))
        if not json:
            _print(name, each, found, answers[-1])
    if json:
        print(json_text.dumps(answers if policies is not None else answers[0], indent=1))
    if any(answer["enough"] is None for answer in answers):
        raise typer.Exit(1)


def _under(own: "Scenario", policies: str, parameters: dict[str, Any]) -> "dict[str, Scenario]":
    """The scenario under each policy asked for, ``parameters`` set in those whose file declares them."""
    from fastalloc.scenario import with_policies
    from fastalloc.scenario.own_parameters import with_parameters
    from fastalloc.scenario.policy_presets import policy_variant

    asked = policies.split(",")
    chosen = with_parameters(with_policies(own, asked), parameters)
    every = "all" in asked
    names = [each.name for each in chosen.variants] if every else [policy_variant(each).name for each in asked]
    return {name: chosen.variant(name) for name in names}


def _closed_forms(own: "Scenario", of: str, below: float) -> tuple[int | None, int | None]:
    """What arithmetic says, and where kswapd falls behind; None where there is no closed form."""
    from fastalloc.sweep.reserve import BURSTS, closed_form

    if of not in BURSTS:
        return None, None
    behind = closed_form(own, of, below, kswapd_behind=True) if of == "min_free_kbytes" else None
    return closed_form(own, of, below), behind


def _answer(own: "Scenario", found: "Reserve", closed: tuple[int | None, int | None]) -> dict[str, Any]:
    """The answer as plain data."""
    from fastalloc.scenario.rules import rules_line
    from fastalloc.sweep.reserve import kept_back, own_value

    of = found.key
    return {
        "of": of,
        "below": found.limit,
        "now": own_value(own, of),
        "closed_form": closed[0],
        "closed_form_kswapd_behind": closed[1],
        "too_little": found.too_little._asdict() if found.too_little else None,
        "enough": found.enough._asdict() if found.enough else None,
        "rules": rules_line(own),
        "kept_back_kb": kept_back(own, of, found.enough.value) if found.enough else None,
    }


def _print(name: str, own: "Scenario", found: "Reserve", answer: dict[str, Any]) -> None:
    from fastalloc.sweep.reserve import BURSTS, gap_pages

    if name:
        say(f"policy:      {name}")
    say(f"rules:       {answer['rules']}")
    say(f"{found.key} is {answer['now']:,} now")
    if answer["closed_form"] is not None:
        say(
            f"closed form: {answer['closed_form']:,}, where a burst meets memory at the low mark and no reclaim on its "
            f"way ({gap_pages(own.machine):,} pages lie between low and the mark of GFP_ATOMIC now)"
        )
    if answer["closed_form_kswapd_behind"] is not None:
        behind = answer["closed_form_kswapd_behind"]
        say(f"             {behind:,}, where kswapd falls behind and memory is at the min mark")
    say(f"simulated:   {_words(found, found.limit)}")
    if answer["kept_back_kb"]:
        kept = answer["kept_back_kb"]
        more = "more" if kept > 0 else "less"
        where = "stay free below the high marks" if found.key in BURSTS else f"lie in {found.key}"
        say(f"cost:        {abs(kept):,.{0 if abs(kept) >= 100 else 2}f} kB {more} than now {where}")


def _tell(of: str) -> "Callable[[Refused], None]":
    from fastalloc.sweep.reserve import stated

    def tell(tried: "Refused") -> None:
        told = stated(tried, of)
        say(
            f"{of} = {told.value}: {told.refused:,} of {told.requests:,} refused on {told.lanes} lanes, "
            f"{told.low:.2g} to {told.high:.2g}",
            err=True,
        )

    return tell


def _words(found: "Reserve", limit: float) -> str:
    from fastalloc.sweep.reserve import BURSTS, stated
    from fastalloc.sweep.share import unseen

    little, enough = found.too_little, found.enough
    if enough is None:
        open_ = [each for each in found.tried if each.low <= limit]
        if not open_:
            return f"no value found with fewer than {limit:g} refused"
        twice = ", which as many other lanes or more did not confirm" if open_[-1].high < limit else ""
        last = stated(open_[-1], found.key)
        more = "more lanes or a longer run tell" if found.key in BURSTS else "more lanes tell"
        return (
            f"no value is shown to be enough: at {last.value:,}, {last.refused:,} of {last.requests:,} were refused, "
            f"{last.low:.2g} to {last.high:.2g}{twice}; {more}"
        )
    words = f"{enough.value:,} is enough: {enough.low:.2g} to {enough.high:.2g} refused (95 %, {enough.lanes} lanes)"
    unlike = ""
    if found.key in BURSTS:
        unlike = (
            f"; of lanes of any kind, of which {unseen(enough.lanes):.2g} may not have been seen: "
            f"{enough.any_low:.2g} to {enough.any_high:.2g}"
        )
    if little is None:
        return f"{words}; no smaller value was shown to be too little{unlike}"
    return f"{words}; {little.value:,} is too little: {little.low:.2g} to {little.high:.2g}{unlike}"


def _burst(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if key in found:
            raise InputError("--burst", part, f"{key} is told twice")
        try:
            found[key] = float(value) if key.endswith("_ms") else int(value)
        except ValueError:
            raise InputError("--burst", part, "must be key=number, such as pages=2000") from None
        if not equals:
            raise InputError("--burst", part, "must be key=number, such as pages=2000")
    return found


def _scenario(
    name: str, of: str, variant: str | None, asked: dict[str, Any], bursts: list[dict[str, Any]]
) -> "Scenario":
    """The scenario to search on; a machine alone is put under pressure."""
    from pydantic import ValidationError

    from fastalloc.batch.pressed import pressed
    from fastalloc.scenario.chosen import chosen_settings, of_settings
    from fastalloc.scenario.machines import is_machine, load_machine
    from fastalloc.scenario.models import Burst
    from fastalloc.scenario.varied import input_error
    from fastalloc.sweep.reserve import in_play

    try:
        told = [Burst.model_validate(burst) for burst in bursts]
    except ValidationError as error:
        raise input_error(error, "--burst", "", Burst) from None
    if is_machine(name) and told:
        machine = load_machine(name)
        own, said = pressed(machine, told, in_play(machine, told, of))
        for line in said:
            say(f"assumed: {printable(line)}", err=True)
        with of_settings("--set"):
            return own.with_settings(chosen_settings(own, asked, Path()), "--set")
    loaded = loaded_with(name, asked)
    own = loaded.variant(variant or loaded.variants[0].name)
    if told:
        own = own.with_settings({"workload.bursts": [burst.model_dump() for burst in told]}, "--burst")
    return own
