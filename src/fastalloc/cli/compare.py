"""``fastalloc compare``: policies on the same lanes of a scenario."""

import shlex
from typing import Annotated

import typer

from fastalloc.cli.execute import free_folder, run_and_show
from fastalloc.cli.options import (
    Json,
    Lanes,
    Memory,
    Policies,
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
def compare(
    scenario: ScenarioName,
    policies: Policies = "all",
    lanes: Lanes = None,
    seconds: Seconds = None,
    seed: Seed = None,
    threads: Threads = 0,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder of the dataset, or s3://BUCKET/PREFIX  [default: out/SCENARIO-policies]"
        ),
    ] = None,
    settings: Settings = None,
    debug: Annotated[bool, typer.Option("--debug", help="Check conservation after every tick.")] = False,
    memory: Memory = None,
    trust: Trust = False,
    json: Json = False,
    wide: Wide = False,
) -> None:
    """Run policies on the same lanes and print the board that compares them."""
    allow_memory(memory)
    asked = asked_for(settings, None, lanes, seconds, seed)
    names = "all" if policies is None else policies
    loaded = loaded_with(scenario, asked, names)
    command = shlex.join(["fastalloc", "compare", scenario, "--policies", names, *words_of(asked)])
    folder = out or free_folder(f"{loaded.name}-policies")
    run_and_show(loaded, folder, command=command, as_json=json, board=True, threads=threads, debug=debug)
