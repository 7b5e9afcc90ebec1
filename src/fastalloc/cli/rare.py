"""``fastalloc rare``: how often an event comes, on the machine as it is."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.cli.options import (
    Memory,
    Policies,
    Seconds,
    Seed,
    Threads,
    Trust,
    allow_memory,
    loaded_with,
    names_of,
    of_option,
    parse_settings,
)
from fastalloc.errors import InputError, meant, printable
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.rare.events import Event
    from fastalloc.rare.rare import Rare, RareProgress
    from fastalloc.scenario import Scenario
    from fastalloc.scenario.kept_texts import KeptTexts


STARTUP_S = 15.0  # report.hazard.STARTUP_S, which --help would wait for; a test compares the two


# More than nine arguments: each is an option of the command.
def rare(
    scenario: Annotated[str, typer.Argument(help="A preset (see `fastalloc scenarios`) or a TOML file; or a machine.")],
    event: Annotated[
        str, typer.Option(help="livelock, stall>SECONDS, refused (a GFP_ATOMIC request), reserve<PAGES.")
    ] = "livelock",
    per: Annotated[str, typer.Option(help="lane-minute, machine-hour or machine-day.")] = "machine-day",
    variant: Annotated[str | None, typer.Option(help="Variant of the scenario  [default: the first]")] = None,
    policy: Annotated[str | None, typer.Option(help="Policy, such as 6.18 or fix  [default: the variant's]")] = None,
    policies: Policies = None,
    lanes: Annotated[int, typer.Option(min=1, help="Lanes at most.")] = 16384,
    budget: Annotated[float | None, typer.Option(min=0, help="Minutes of wall time at most.")] = None,
    width: Annotated[
        float, typer.Option(min=1.01, help="Stop when the upper end of the interval is so many times the lower one.")
    ] = 4.0,
    startup: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0,
            help=f"Seconds after boot that are kept apart  [default: {STARTUP_S:g}, or the whole lane]",
        ),
    ] = None,
    seconds: Seconds = None,
    seed: Seed = None,
    stress: Annotated[
        str | None,
        typer.Option(
            metavar="KEY[=V,V,V...]",
            help="A ladder of settings at which the event is common, and its line; a pilot chooses those not named.",
        ),
    ] = None,
    splitting: Annotated[
        bool, typer.Option("--splitting", help="Also test whether splitting could pay: how much is decided beforehand.")
    ] = False,
    threads: Threads = 0,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run lanes on the workers of a Dask scheduler.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Keep lanes in this folder; the same command goes on there.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a field.")] = None,
    memory: Memory = None,
    trust: Trust = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the answer as JSON, and nothing else, to stdout.")
    ] = False,
) -> None:
    """Say how often a livelock, a stall or a refusal comes: events in so many machine-days, or a bound."""
    from fastalloc.cli.rare_words import PER_S, record, show
    from fastalloc.rare.events import parse_event

    allow_memory(memory)
    if per not in PER_S:
        raise InputError("--per", per, f"expected one of {', '.join(PER_S)}{meant(per, PER_S)}")
    wanted = parse_event(event)
    named = {"run.duration_s": seconds, "run.seed": seed}
    asked = parse_settings(settings or []) | {key: value for key, value in named.items() if value is not None}
    names = _names(policies, policy, variant)
    key, values = _rungs(stress) if stress else ("", [])
    folders = {name: f"{out}/{name}" if out and name else out for name in names}
    plain = {name: f"{folder}/as-asked" if folder and key else folder for name, folder in folders.items()}
    with of_option("--policy" if policies is None else "--policies"):
        owns = {name: _chosen(scenario, variant, name or policy, asked, len(names) > 1, plain[name]) for name in names}
    _refuse_unknown(owns, asked)
    for own in owns.values():
        _refuse_all_startup(startup, own.run.duration_s, seconds is not None)
    if key:
        for own in owns.values():
            _field(own, key)  # refused before anything is run
    answers = []
    for name, own in owns.items():
        folder = folders[name]
        with ExitStack() as stack:
            search = _Search(
                wanted, lanes, budget, width, STARTUP_S if startup is None else startup, {"threads": threads}
            )
            if dask is not None:
                from fastalloc.sweep.cluster import dask_executor

                executor, workers = stack.enter_context(dask_executor(dask, [own]))
                search.where = {"executor": executor, "workers": workers}
            found = search.run(own, plain[name])
            answer = ({"policy": name} if name else {}) | record(found, per)
            if key:
                steps = []
                for value in values or search.pilot(own, key):
                    step_out = f"{folder}/{key}={value:g}" if folder else None
                    steps.append((value, search.run(_set(own, {key: _number(value)}), step_out)))
                answer["ladder"] = _ladder(own, key, found, steps)
        if splitting and found.stopped != "interrupted":
            answer["splitting"] = _splitting(own, wanted, threads)
        answers.append(answer)
        if not json:
            if name:
                say(f"policy: {name}")
            show(found, answer, per)
        if found.stopped == "interrupted":
            break
    if json:
        import json as json_text

        print(json_text.dumps(answers[0] if policies is None else answers, indent=1))
    if found.stopped == "interrupted":
        raise typer.Exit(130)


def _refuse_all_startup(startup: float | None, seconds: float, given: bool) -> None:
    """Raise InputError for a start-up that somebody asked for and that no lane is as long as."""
    if startup is not None and startup > seconds:
        what = f"--seconds ({seconds:g})" if given else f"a lane, {seconds:g} s; give a larger --seconds"
        raise InputError("--startup", f"{startup:g}", f"must not be larger than {what}")


def _names(policies: str | None, policy: str | None, variant: str | None) -> list[str]:
    """The policies asked for; one without a name where ``--policies`` is not given."""
    if policies is None:
        return [""]
    if policy is not None or variant is not None:
        raise InputError("--policies", policies, f"and --{'policy' if policy else 'variant'}: give one of them")
    return names_of(policies)


@dataclass
class _Search:
    """How lanes are looked for, at whatever setting."""

    event: "Event"
    lanes: int
    budget: float | None
    width: float
    startup: float
    where: dict[str, Any]

    def run(self, own: "Scenario", out: str | None) -> "Rare":
        """Lanes of one setting."""
        from fastalloc.cli.interrupt import cancellation
        from fastalloc.compiler.cache_dir import announce_compiling
        from fastalloc.rare.rare import Budget
        from fastalloc.rare.rare import rare as search

        announce_compiling()
        last = [0.0]

        def tell(progress: "RareProgress") -> None:
            if progress.wall_s - last[0] >= 5:
                last[0] = progress.wall_s
                say(f"{progress.lanes:,} lanes, {progress.events:,} events", err=True)

        return search(
            own,
            self.event,
            startup_s=self.startup,
            budget=Budget(self.lanes, float("inf") if self.budget is None else 60 * self.budget, self.width),
            out=out,
            progress=tell,
            cancel=cancellation(),
            **self.where,
        )

    def pilot(self, own: "Scenario", key: str) -> list[float]:
        """The settings of a ladder, by lanes of their own."""
        from fastalloc.cli.interrupt import cancellation
        from fastalloc.rare.pilot import PILOT_FROM, choose_rungs
        from fastalloc.rare.until import lanes_until

        asked, cancel = _field(own, key), cancellation()

        def share(setting: float, lanes: int) -> tuple[int, int]:
            stressed = _set(own, {key: _number(float(round(setting)) if whole else setting)})
            tried = range(PILOT_FROM, PILOT_FROM + lanes)
            seen = list(lanes_until(stressed, tried, self.event, own.run.seed, cancel=cancel, **self.where))
            if cancel.is_set():
                raise typer.Exit(130)
            say(f"pilot: {key} = {setting:g}: {sum(each.event for each in seen)} of {lanes}", err=True)
            return sum(each.event for each in seen), len(seen)

        whole = isinstance(_value(own, key), int)
        return choose_rungs(share, asked, whole)


def _refuse_unknown(owns: "dict[str, Scenario]", asked: dict[str, Any]) -> None:
    """Raise InputError for a parameter that none of several policies has."""
    from fastalloc.scenario.own_parameters import own_settings, parameter_of, with_parameters

    parameters = own_settings(asked)[1]
    unknown = {key for key in parameters if all(parameter_of(own, key) is None for own in owns.values())}
    with_parameters(next(iter(owns.values())), {key: parameters[key] for key in unknown})


def _chosen(
    scenario: str, variant: str | None, policy: str | None, asked: dict[str, Any], several: bool, out: str | None
) -> "Scenario":
    """The one variant that is asked for, with a policy on top, whose parameters may be among the settings; ``several``:
    those of others too. What is kept in ``out`` goes on with the text of a file of one's own that it was begun with."""
    from fastalloc.rare.rare import MANIFEST, stored_texts
    from fastalloc.scenario.kept_texts import NO_TEXTS
    from fastalloc.scenario.own_parameters import own_settings, parameter_of, with_parameters
    from fastalloc.scenario.trust import refuse_code
    from fastalloc.store.location import location

    fields, parameters = own_settings(asked)
    texts = stored_texts(out) if out else NO_TEXTS
    loaded = loaded_with(scenario, asked if policy is None else fields, texts=texts)
    own = loaded.variant(variant or loaded.variants[0].name)
    if policy is not None:
        own = _set(own, {"policy": policy}, texts)
    if several:
        parameters = {key: value for key, value in parameters.items() if parameter_of(own, key) is not None}
    if parameters:
        own = with_parameters(own, parameters)
        own = own.variant(own.variants[0].name)
    if out and own.own[0] and (others := texts.told(out)):
        refuse_code(own, location(out) / MANIFEST)  # it runs what the folder carries
        for line in others:
            say(printable(line), err=True)
    return own


def _set(own: "Scenario", asked: dict[str, Any], texts: "KeptTexts | None" = None) -> "Scenario":
    from fastalloc.scenario.chosen import chosen_settings
    from fastalloc.scenario.kept_texts import NO_TEXTS

    return own.with_settings(chosen_settings(own, asked, Path(), texts or NO_TEXTS), "--set")


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _splitting(own: "Scenario", event: "Event", threads: int) -> dict[str, Any]:
    from fastalloc.cli.interrupt import cancellation
    from fastalloc.rare.splitting import splitting_test, words

    say("the test before splitting: a minute or more", err=True)
    told = splitting_test(own, event, threads=threads, cancel=cancellation())
    if told is None:
        raise typer.Exit(130)
    return told._asdict() | {"could_pay": told.could_pay, "words": words(told)}


def _rungs(text: str) -> tuple[str, list[float]]:
    """``KEY=V,V,V`` as a key and numbers; none of a key alone."""
    key, equals, values = text.partition("=")
    if key.strip() and not equals:
        return key.strip(), []
    try:
        numbers = [float(value) for value in values.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) < 3:
        raise InputError(
            "--stress",
            text,
            "expected KEY=V,V,V with three settings or more, such as machine.min_free_kbytes=64,96,128",
        )
    return key.strip(), numbers


def _ladder(own: "Scenario", key: str, found: "Rare", steps: list[tuple[float, "Rare"]]) -> dict[str, Any]:
    from fastalloc.rare.ladder import Rung, fit, predict

    rungs = [Rung(value, step.hazard.lanes, sum(each.event for each in step.seen)) for value, step in steps]
    told: dict[str, Any] = {"setting": key, "rungs": [rung._asdict() for rung in rungs]}
    wanted = _field(own, key)
    try:
        line = fit(rungs)
        told |= {"slope": line.b, "fit_p": line.fit_p, "curvature_p": line.curvature_p}
        told |= {"decade_p": line.decade_p, "at": wanted}
        guess = predict(line, wanted)
        told |= {"share_of_lanes": guess.share, "low": guess.low, "high": guess.high, "is_model": guess.is_beyond}
    except ValueError as error:
        told["refused"] = str(error)
    told["plain"] = [found.hazard.lanes, sum(each.event for each in found.seen)]
    return told


def _field(own: "Scenario", key: str) -> float:
    value = _value(own, key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        from fastalloc.scenario.varied import dotted

        known = [name for name, each in dotted(own.model_dump()).items() if type(each) in (int, float)]
        raise InputError("--stress", key, f"names no number of the scenario{meant(key, known)}")
    return float(value)


def _value(own: "Scenario", key: str) -> Any:
    from fastalloc.scenario.own_parameters import parameter_of

    value: Any = parameter_of(own, key)
    if value is not None:
        return value
    value = own
    for part in key.split("."):
        value = getattr(value, part, None)
    return value
