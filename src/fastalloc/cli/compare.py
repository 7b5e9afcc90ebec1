"""``fastalloc compare``: policies on the same lanes of a scenario."""

import json as json_text
import shlex
from typing import Annotated

import typer

from fastalloc.cli.execute import free_folder, run_and_show
from fastalloc.cli.options import Memory, Trust, allow_memory, loaded_with, parse_settings


def compare(
    scenario: Annotated[str, typer.Argument(help="A preset (see `fastalloc scenarios`) or a TOML file.")],
    policies: Annotated[str, typer.Option(help="Names joined by commas (A,B+C), or all.")] = "all",
    lanes: Annotated[int | None, typer.Option(min=1, help="Simulated machines a policy.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Simulated time of a lane.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all randomness.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 is one a CPU. Changes no result.")] = 0,
    out: Annotated[
        str | None, typer.Option(help="Folder of the dataset, or s3://BUCKET/PREFIX  [default: out/SCENARIO-policies]")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a field.")] = None,
    memory: Memory = None,
    trust: Trust = False,
    json: Annotated[bool, typer.Option("--json", help="Print the board as JSON, and nothing else, to stdout.")] = False,
) -> None:
    """Run policies on the same lanes and print the board that compares them."""
    from fastalloc.scenario import with_policies

    allow_memory(memory)
    asked = parse_settings(settings or [])
    named = {"run.lanes": lanes, "run.duration_s": seconds, "run.seed": seed}
    asked |= {key: value for key, value in named.items() if value is not None}
    loaded = with_policies(loaded_with(scenario, asked), policies.split(","))
    words = ["fastalloc", "compare", scenario, "--policies", policies]
    for key, value in asked.items():
        words += ["--set", f"{key}={json_text.dumps(value)}"]
    folder = out or free_folder(f"{loaded.name}-policies")
    run_and_show(loaded, folder, command=shlex.join(words), as_json=json, board=True, threads=threads)
