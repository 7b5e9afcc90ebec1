"""``fastalloc run``: variants of a scenario, side by side."""

from typing import Annotated

import typer

from fastalloc.cli.execute import free_folder, run_and_show
from fastalloc.cli.options import Memory, Trust, allow_memory, loaded_with, parse_settings


def run(
    scenario: Annotated[str, typer.Argument(help="A preset (see `fastalloc scenarios`) or a TOML file.")],
    policy: Annotated[
        str | None, typer.Option(help="Policy of all variants, such as 6.18  [default: the machine's kernel]")
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Run only this one; may be repeated.")] = None,
    lanes: Annotated[int | None, typer.Option(min=1, help="Simulated machines a variant.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Simulated time of a lane.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all randomness.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 is one a CPU. Changes no result.")] = 0,
    out: Annotated[
        str | None, typer.Option(help="Folder of the dataset, or s3://BUCKET/PREFIX  [default: out/SCENARIO]")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a field.")] = None,
    memory: Memory = None,
    trust: Trust = False,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON, and nothing else, to stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Check conservation after every tick.")] = False,
    no_skip: Annotated[bool, typer.Option("--no-skip", help="Walk every tick. Changes no result.")] = False,
) -> None:
    """Run the variants of a scenario and tell which of them livelock."""
    allow_memory(memory)
    asked = parse_settings(settings or [])
    if policy is not None:
        asked = {"policy": policy} | asked
    named = {"run.lanes": lanes, "run.duration_s": seconds, "run.seed": seed}
    asked |= {key: value for key, value in named.items() if value is not None}
    loaded = loaded_with(scenario, asked)
    run_and_show(
        loaded,
        out or free_folder(loaded.name),
        command=_command(scenario, variant, asked),
        as_json=json,
        variants=variant,
        threads=threads,
        debug=debug,
        skip=not no_skip,
    )


def _command(scenario: str, variants: list[str] | None, settings: dict[str, object]) -> str:
    """The command that makes the same rows again."""
    import json
    import shlex

    short = {"run.lanes": "--lanes", "run.duration_s": "--seconds", "run.seed": "--seed"}
    words = ["fastalloc", "run", scenario]
    for name in variants or []:
        words += ["--variant", name]
    for key, value in settings.items():
        words += (
            [short[key], str(value).removesuffix(".0")] if key in short else ["--set", f"{key}={json.dumps(value)}"]
        )
    return shlex.join(words)
