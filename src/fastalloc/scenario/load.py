"""Scenarios and machines from TOML: presets by name, files by path."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from fastalloc.errors import InputError, reader
from fastalloc.foreign import content_of
from fastalloc.scenario.fitted import read_workload
from fastalloc.scenario.machine import Machine
from fastalloc.scenario.models import Scenario
from fastalloc.scenario.varied import input_error

MOST_BYTES = 1 << 26  # of a TOML file
PRESETS = Path(__file__).parent / "presets"
SCHEMAS = Path(__file__).parent / "schemas"  # made by docs/schemas.py


def preset_names() -> list[str]:
    """Names that ``load_scenario`` knows, sorted."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def machine_names() -> list[str]:
    """Names that ``load_machine`` knows, sorted."""
    return sorted(path.stem for path in (PRESETS / "machines").glob("*.toml"))


@reader()
def load_scenario(name_or_path: str | Path) -> Scenario:
    """A preset by its name, or a TOML file by its path, with every variant checked.

    In the file ``machine`` is the name of a machine preset or a path (relative to the file), or a table; a table may
    name what it starts from as ``from`` and set other fields of the machine itself. ``workload.background`` is the path
    of a fitted workload (relative to the file); what it says becomes part of the scenario.

    Raises:
        InputError: no such preset or file, broken TOML, an unknown key, a value out of range; names file and field.
    """
    path = _find(name_or_path, PRESETS, "scenario", preset_names())
    data = read_toml(path)
    if "machine" in data:
        data["machine"] = _machine_data(data["machine"], path)
    _read_backgrounds(data, path)
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        raise input_error(error, path) from None
    for variant in scenario.variants:
        try:
            scenario.variant(variant.name)
        except InputError as error:
            where = f"{error.path}: {error.where}" if error.path != scenario.name else error.where
            more = [InputError(path, other.where, other.message) for other in error.more]
            raise InputError(path, where, error.message, more) from None
    return scenario


@reader()
def load_machine(name_or_path: str | Path) -> Machine:
    """A machine preset by its name, or the TOML file that ``fastalloc machine import`` wrote.

    Raises:
        InputError: as ``load_scenario``.
    """
    path = _find(name_or_path, PRESETS / "machines", "machine", machine_names())
    try:
        return Machine.model_validate(read_toml(path))
    except ValidationError as error:
        raise input_error(error, path) from None


def load_schema(name: str) -> str:
    """The JSON Schema of a kind of file, as text: ``machine``, ``scenario`` or ``sweep``.

    Raises:
        InputError: there is no such kind.
    """
    path = SCHEMAS / f"{name}.json"
    if not path.is_file():
        raise InputError(
            "schema", name, f"is none of {', '.join(sorted(file.stem for file in SCHEMAS.glob('*.json')))}"
        )
    return path.read_text(encoding="utf-8")


def machine_toml(machine: Machine) -> str:
    """The machine as TOML that ``load_machine`` reads back to an equal one."""
    data = machine.model_dump(exclude_none=True)
    data["slab_caches"] = [cache.model_dump(exclude_defaults=True) for cache in machine.slab_caches]
    text = tomli_w.dumps(data)
    return re.sub(r"\[\n([^\[\]{}]*?),\n\]", lambda match: f"[{' '.join(match[1].split())}]", text)  # short arrays


def _machine_data(value: Any, path: Path) -> Any:
    """The machine of a scenario file, as the table that it stands for."""
    if isinstance(value, str):
        return _load_from(value, path).model_dump()
    if isinstance(value, dict) and "from" in value:
        own = {key: field for key, field in value.items() if key != "from"}
        if not isinstance(value["from"], str):
            raise InputError(path, "machine.from", "must be the name of a machine or a path")
        return _load_from(value["from"], path).model_dump() | own
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


def _load_from(name: str, path: Path) -> Machine:
    for file in (path.parent / name, Path(name)):
        if file.is_file():
            return load_machine(file)
    if name not in machine_names():
        raise InputError(path, "machine", f"{name!r} is neither a file nor one of {', '.join(machine_names())}")
    return load_machine(name)


def _find(name_or_path: str | Path, folder: Path, what: str, names: list[str]) -> Path:
    text = str(name_or_path)
    if text in names:
        return folder / f"{text}.toml"
    path = Path(name_or_path)
    if path.is_dir():
        raise InputError(path, "", f"is a folder, not a {what} file")
    if not path.exists():
        raise InputError(path, "", f"no such {what}: neither a file nor one of {', '.join(names)}")
    return path


@reader("not TOML")
def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as plain data.

    Raises:
        InputError: unreadable, not UTF-8, not TOML.
    """
    try:
        return tomllib.loads(content_of(path, MOST_BYTES).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(path, "", f"not TOML: {error}") from None
