"""What several commands share: settings given as text, a lane of a dataset."""

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.errors import InputError, told

if TYPE_CHECKING:
    from fastalloc.scenario import Scenario


Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Most memory that lanes take, such as 4G  [default: half of the spare]"),
]


def _trust(given: bool) -> bool:
    if given:
        from fastalloc.scenario.trust import trust_carried_code

        trust_carried_code()
    return given


Trust = Annotated[
    bool, typer.Option("--trust", callback=_trust, help="Run Python that the scenario, sweep or dataset carries.")
]


def allow_memory(size: str | None) -> None:
    """What ``--memory`` says, for this process and its workers."""
    if size is not None:
        from fastalloc.batch.size import MEMORY, parse_bytes

        os.environ[MEMORY] = str(parse_bytes(size, "--memory"))


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """``["policy.command_rule=fix"]`` as ``{"policy.command_rule": "fix"}``; values are TOML, or else plain text."""
    settings = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals):
            raise InputError("--set", text, "must be key=value, such as policy.command_rule=fix")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
        except (ValueError, RecursionError) as error:
            raise InputError("--set", text, told(error)) from None
    return settings


def loaded_with(scenario: str, settings: dict[str, Any]) -> "Scenario":
    """A scenario by its name or path with settings, in which ``machine`` may be a file and ``policy`` a name.

    Raises:
        InputError: as ``load_scenario`` and ``Scenario.with_settings``.
    """
    from fastalloc.scenario import load_scenario
    from fastalloc.scenario.chosen import chosen_settings

    loaded = load_scenario(scenario)
    return loaded.with_settings(chosen_settings(loaded, settings, Path()), "--set")
