"""``fastalloc run``: variants of a scenario, side by side."""

from typing import Annotated

import typer

from fastalloc.cli.execute import free_folder, run_and_show
from fastalloc.cli.options import (
    Json,
    Lanes,
    Memory,
    Policies,
    PolicyName,
    ScenarioName,
    Seconds,
    Seed,
    Settings,
    Threads,
    Trust,
    Wide,
    allow_memory,
    asked_for,
    loaded_with,
    words_of,
)


# More than nine arguments: each is an option of the command.
def run(
    scenario: ScenarioName,
    policy: PolicyName = None,
    policies: Policies = None,
    variant: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run only this one; may be repeated.")
    ] = None,
    lanes: Lanes = None,
    seconds: Seconds = None,
    seed: Seed = None,
    threads: Threads = 0,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of the dataset, or s3://BUCKET/PREFIX  [default: out/SCENARIO]"),
    ] = None,
    settings: Settings = None,
    memory: Memory = None,
    trust: Trust = False,
    json: Json = False,
    wide: Wide = False,
    debug: Annotated[bool, typer.Option("--debug", help="Check conservation after every tick.")] = False,
    no_skip: Annotated[bool, typer.Option("--no-skip", help="Walk every tick. Changes no result.")] = False,
) -> None:
    """Run the variants of a scenario and tell which of them livelock."""
    allow_memory(memory)
    asked = asked_for(settings, policy, lanes, seconds, seed)
    loaded = loaded_with(scenario, asked, policies)
    run_and_show(
        loaded,
        out or free_folder(loaded.name),
        command=_command(scenario, policies, variant, asked),
        as_json=json,
        named=scenario,
        variants=variant,
        threads=threads,
        debug=debug,
        skip=not no_skip,
    )


def _command(scenario: str, policies: str | None, variants: list[str] | None, settings: dict[str, object]) -> str:
    """The command that makes the same rows again."""
    import shlex

    words = ["fastalloc", "run", scenario, *([] if policies is None else ["--policies", policies])]
    for name in variants or []:
        words += ["--variant", name]
    return shlex.join([*words, *words_of(settings)])
