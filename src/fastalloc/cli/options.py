"""What several commands share: their options, settings given as text."""

import os
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastalloc.errors import InputError, printable, together, told
from fastalloc.threads import threads_asked
from fastalloc.width import say

if TYPE_CHECKING:
    from fastalloc.scenario import Scenario
    from fastalloc.scenario.kept_texts import KeptTexts


def _scenarios(begun: str) -> list[str]:
    from fastalloc.scenario import preset_names

    return [name for name in preset_names() if name.startswith(begun)]


def _policies(begun: str) -> list[str]:
    from fastalloc.scenario import policy_names

    *before, last = begun.replace("+", ",").split(",")
    given = begun.removesuffix(last) if before else ""
    return [given + name for name in policy_names() if name.startswith(last)]


def _trust(given: bool) -> bool:
    if given:
        from fastalloc.scenario.trust import trust_carried_code

        trust_carried_code()
    return given


def _seconds(given: float | None) -> float | None:
    if given is not None and not 0 < given <= MOST_SECONDS:
        raise InputError("--seconds", f"{given:g}", f"must be above 0 and at most {MOST_SECONDS:,}")
    return given


def _wide(given: bool) -> bool:
    from fastalloc.terminal import show_all_columns

    show_all_columns(given)
    return given


MOST_SECONDS = 86_400  # of a lane

ScenarioName = Annotated[
    str,
    typer.Argument(
        metavar="SCENARIO",
        autocompletion=_scenarios,
        help="A preset (see `fastalloc scenarios`) or a TOML file; or a machine alone, under a load that is told.",
    ),
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=_policies,
        help="Policy of all variants, such as 6.18  [default: the machine's kernel]",
    ),
]
Policies = Annotated[
    str | None,
    typer.Option(
        metavar="A,B+C",
        autocompletion=_policies,
        help="Run these in place of the variants: names joined by commas, + composes, all.",
    ),
]
Variant = Annotated[str | None, typer.Option(metavar="NAME", help="Variant of the scenario  [default: the first]")]
Lanes = Annotated[int | None, typer.Option(metavar="N", min=1, help="Simulated machines a variant.")]
Seconds = Annotated[float | None, typer.Option(metavar="S", callback=_seconds, help="Simulated time of a lane.")]
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, max=(1 << 63) - 1, help="Seed of all randomness.")]
Threads = Annotated[
    int, typer.Option(metavar="N", callback=threads_asked, help="Threads; 0 is one a CPU. Changes no result.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a field, such as workload.copiers=24; may repeat."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to stdout.")]
Wide = Annotated[
    bool,
    typer.Option("--wide", "-w", callback=_wide, help="Show every column; where they do not fit, a block a row."),
]
Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Most memory that may be taken, such as 4G  [default: half of the spare]"),
]
Trust = Annotated[
    bool, typer.Option("--trust", callback=_trust, help="Run Python that the scenario, sweep or dataset carries.")
]
SHORT = {"run.lanes": "--lanes", "run.duration_s": "--seconds", "run.seed": "--seed"}


def allow_memory(size: str | None) -> None:
    """What ``--memory`` says, for this process and its workers."""
    if size is not None:
        from fastalloc.memory import MEMORY, parse_bytes

        os.environ[MEMORY] = str(parse_bytes(size, "--memory"))


def names_of(policies: str) -> list[str]:
    """The names that ``--policies`` asks for, each once; ``all`` stands for every preset."""
    from fastalloc.scenario import policy_names

    asked = [name for given in policies.split(",") for name in (policy_names() if given == "all" else [given])]
    return list(dict.fromkeys(asked))


@contextmanager
def of_option(option: str) -> Iterator[None]:
    """A policy by a name that there is not is one of the option that gave the name."""
    try:
        yield
    except InputError as error:
        faults = [(option if each.path == "policies" else each.path, each.where, each.message) for each in error.each()]
        raise together([InputError(*fault) for fault in faults]) from None


def asked_for(
    settings: Sequence[str] | None,
    policy: str | None = None,
    lanes: int | None = None,
    seconds: float | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """What ``--policy``, ``--set``, ``--lanes``, ``--seconds`` and ``--seed`` set, by dotted name."""
    asked = ({} if policy is None else {"policy": policy}) | parse_settings(settings or [])
    if policy is not None:
        from fastalloc.scenario.policy_presets import policy_variant

        with of_option("--policy"):
            policy_variant(policy)  # refused before anything is told
    named = {"run.lanes": lanes, "run.duration_s": seconds, "run.seed": seed}
    return asked | {key: value for key, value in named.items() if value is not None}


def words_of(asked: dict[str, Any]) -> list[str]:
    """Settings as words of a command line."""
    import json

    words: list[str] = []
    for key, value in asked.items():
        if key in SHORT:
            words += [SHORT[key], str(value).removesuffix(".0")]
        else:
            words += ["--set", f"{key}={json.dumps(value)}"]
    return words


VERSIONS = ("policy", "machine.kernel")  # fields that are the version of a kernel


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """``["policy.command_rule=fix"]`` as ``{"policy.command_rule": "fix"}``; values are TOML, or else plain text."""
    settings = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals):
            raise InputError("--set", text, "must be key=value, such as policy.command_rule=fix")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
            if key in VERSIONS and isinstance(settings[key], float):
                settings[key] = value  # 6.10 is no 6.1
        except tomllib.TOMLDecodeError:
            settings[key] = value
        except (ValueError, RecursionError) as error:
            raise InputError("--set", text, told(error)) from None
    return settings


def loaded_with(
    scenario: str, settings: dict[str, Any], policies: str | None = None, texts: "KeptTexts | None" = None
) -> "Scenario":
    """A scenario by its name or path with settings, in which ``machine`` may be a file and ``policy`` a name; or a
    machine alone under a load that is told. What is assumed of a user's machine goes to stderr. ``policies``, joined
    by commas, stand in place of its variants; ``texts`` run in place of files of one's own.

    Raises:
        InputError: as ``load_scenario``, ``load_machine`` and ``with_chosen``; a policy of ``policies`` by its option.
    """
    from fastalloc.scenario import load_scenario
    from fastalloc.scenario.chosen import with_chosen
    from fastalloc.scenario.kept_texts import NO_TEXTS
    from fastalloc.scenario.machines import assumed, is_machine

    texts = texts or NO_TEXTS
    if is_machine(scenario):
        from fastalloc.batch.pressed import machine_alone

        loaded, said = machine_alone(scenario)
    else:
        loaded, said = load_scenario(scenario, texts), []
    asked = None if policies is None else policies.split(",")
    with of_option("--policies"):
        found = with_chosen(loaded, settings, Path(), policies=asked, texts=texts)
    if isinstance(settings.get("machine"), str):
        said = [f"policy {found.kernel_policy}", *assumed(found.machine)]
    for line in said:
        say(f"assumed: {printable(line)}", err=True)
    return found
