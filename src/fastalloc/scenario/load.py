"""Scenarios and machines from TOML: presets by name, files by path."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fastalloc.errors import InputError, meant, noted, reader, together
from fastalloc.scenario.chosen import chosen_settings, default_policy, policy_of_machine, policy_table
from fastalloc.scenario.files import find, read_toml
from fastalloc.scenario.fitted import read_workload
from fastalloc.scenario.kept_texts import NO_TEXTS, KeptTexts
from fastalloc.scenario.machines import PRESETS, load_machine, machine_named, machine_names
from fastalloc.scenario.models import Scenario
from fastalloc.scenario.trust import refuse_code
from fastalloc.scenario.varied import input_error

STAND_IN = "linux-2.6.25-rc8-512m"
SCHEMAS = Path(__file__).parent / "schemas"  # made by docs/schemas.py


def preset_names() -> list[str]:
    """Names that ``load_scenario`` knows, sorted."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


@reader()
def load_scenario(name_or_path: str | Path, texts: KeptTexts = NO_TEXTS) -> Scenario:
    """A preset by its name, or a TOML file by its path, with every variant checked.

    In the file ``machine`` is the name of a machine preset or a path (relative to the file), or a table; a table may
    name what it starts from as ``from`` and set other fields of the machine itself. ``workload.background`` is the path
    of a fitted workload (relative to the file); what it says becomes part of the scenario. ``policy`` may name a file
    of one's own (relative to the file); ``texts``: as of ``load_policy``.

    Raises:
        InputError: no such preset or file, broken TOML, an unknown key, a value out of range, code that it carries
            (see ``trust``); names file and field.
    """
    path = find(name_or_path, PRESETS, "scenario", preset_names(), machine_names())
    data = read_toml(path)
    faults: list[InputError] = []
    if "machine" in data:
        with noted(faults):
            data["machine"] = _machine_data(data["machine"], path)
    with noted(faults):
        _read_backgrounds(data, path)
    with noted(faults), of_file(path, "policy"):
        _choose_policy(data, path, texts)
    scenario = _checked(data, path, texts, faults)
    for variant in scenario.variants:
        try:
            scenario.variant(variant.name)
        except InputError as error:
            for fault in error.each():
                where = f"{fault.path}: {fault.where}" if fault.path != scenario.name else fault.where
                faults.append(InputError(path, where, fault.message))
    if faults:
        raise together(faults)
    refuse_code(scenario, path)
    return scenario


def load_schema(name: str) -> str:
    """The JSON Schema of a kind of file, as text: ``machine``, ``scenario`` or ``sweep``.

    Raises:
        InputError: there is no such kind.
    """
    path = SCHEMAS / f"{name}.json"
    if not path.is_file():
        known = sorted(file.stem for file in SCHEMAS.glob("*.json"))
        raise InputError("schema", name, f"is none of {', '.join(known)}{meant(name, known)}")
    return path.read_text(encoding="utf-8")


def _checked(data: dict[str, Any], path: Path, texts: KeptTexts, faults: list[InputError]) -> Scenario:
    """The scenario that a file is, its variants' policies chosen; those of the file are added to ``faults``. Where
    there are some, it is one of what has none, so that the variants can be looked at as well.

    Raises:
        InputError: the faults, where nothing is left to look at.
    """
    sound = data
    if faults:  # of what names another file; one that is right stands in for a machine
        sound = {key: value for key, value in data.items() if key != "policy"}
        if isinstance(data.get("workload"), dict):
            sound["workload"] = {key: value for key, value in data["workload"].items() if key != "background"}
        if not isinstance(data.get("machine"), dict) or "from" in data["machine"]:
            sound["machine"] = load_machine(STAND_IN).model_dump()
    for _ in range(2):
        try:
            return _with_chosen_variants(Scenario.model_validate(sound), path, texts, faults)
        except ValidationError as error:
            told = input_error(error, path, "", Scenario, sound)
            faults += [each for each in told.each() if each.where or not faults]
            sound = _without(sound, [fault["loc"] for fault in error.errors(include_url=False)])
            sound = {"name": "sound", "machine": load_machine(STAND_IN).model_dump()} | sound
    raise together(faults)


def _without(data: dict[str, Any], places: Sequence[tuple[str | int, ...]]) -> dict[str, Any]:
    """The tables of a file that have no fault; of its variants those."""
    kept = {key: value for key, value in data.items() if all(place[:1] != (key,) for place in places)}
    if isinstance(data.get("variants"), list):
        wrong = {place[1] for place in places if place[:1] == ("variants",) and len(place) > 1}
        kept["variants"] = [each for number, each in enumerate(data["variants"]) if number not in wrong]
    return {key: value for key, value in kept.items() if value != []}


def _machine_data(value: Any, path: Path) -> Any:
    """The machine of a scenario file, as the table that it stands for."""
    if isinstance(value, str):
        return machine_named(value, path).model_dump()
    if isinstance(value, dict) and "from" in value:
        own = {key: field for key, field in value.items() if key != "from"}
        if not isinstance(value["from"], str):
            raise InputError(path, "machine.from", "must be the name of a machine or a path")
        return machine_named(value["from"], path).model_dump() | own
    return value


def _read_backgrounds(data: dict[str, Any], path: Path) -> None:
    """Put the fitted workloads that a scenario file names in the place of their paths."""
    variants = data.get("variants")
    tables = [(data.get("workload"), "background")]
    tables += [
        (variant.get("set"), "workload.background")
        for variant in (variants if isinstance(variants, list) else [])
        if isinstance(variant, dict)
    ]
    for table, key in tables:
        if not isinstance(table, dict):
            continue
        name = table.get(key)
        if isinstance(name, str) and name and not name.lstrip().startswith("{"):
            table[key] = json.dumps(read_workload(path.parent / name), separators=(",", ":"))


def _choose_policy(data: dict[str, Any], path: Path, texts: KeptTexts) -> None:
    """Put the policies that a scenario file names in the place of their names.

    ``policy`` is a name, or a table that may say ``from`` what it starts; without either it starts from the kernel of
    the machine.
    """
    for variant in data["variants"] if isinstance(data.get("variants"), list) else []:
        if isinstance(variant, dict) and "policy" in variant and isinstance(variant.get("set", {}), dict):
            variant["set"] = {"policy": variant.pop("policy")} | variant.get("set", {})
    machine = data.get("machine")
    own = data.get("policy", {})
    if isinstance(own, str):
        own = {"from": own}
    if not isinstance(own, dict) or not isinstance(machine, dict):
        return  # refused by the validation that follows
    base = own.pop("from", None)
    if base is not None and not isinstance(base, str):
        raise InputError(path, "policy.from", "must be the name of a policy")
    name = base if base is not None else default_policy(machine)
    fields = (
        policy_table(name, None, path.parent, texts)
        if base is not None
        else policy_of_machine(machine, machine.get("allocator"))
    )
    data["policy"] = fields | own
    data.setdefault("kernel_policy", f"{name}" if base is not None else f"{name}, the kernel of the machine")


def _with_chosen_variants(scenario: Scenario, path: Path, texts: KeptTexts, faults: list[InputError]) -> Scenario:
    variants = []
    for variant in scenario.variants:
        with noted(faults), of_file(path, f"variant {variant.name}: policy"):
            chosen = chosen_settings(scenario, variant.set, path.parent, texts)
            variants.append(variant.model_copy(update={"set": chosen}))
    return scenario.model_copy(update={"variants": variants})


@contextmanager
def of_file(path: Path, where: str) -> Iterator[None]:
    """A policy by a name that cannot be used is one of ``path``, unless it names a file of its own."""
    try:
        yield
    except InputError as error:
        if error.path != "policies":
            raise
        raise InputError(path, f"{where}: {error.where}", error.message) from None
