"""Machines as TOML: presets by name, files by path."""

import re
from pathlib import Path

import tomli_w
from pydantic import ValidationError

from fastalloc.errors import InputError, meant, reader
from fastalloc.scenario.files import find, read_toml
from fastalloc.scenario.machine import Machine
from fastalloc.scenario.varied import input_error

PRESETS = Path(__file__).parent / "presets"


def machine_names() -> list[str]:
    """Names that ``load_machine`` knows, sorted."""
    return sorted(path.stem for path in (PRESETS / "machines").glob("*.toml"))


@reader()
def load_machine(name_or_path: str | Path) -> Machine:
    """A machine preset by its name, or the TOML file that ``fastalloc machine import`` wrote.

    Raises:
        InputError: as ``load_scenario``.
    """
    path = find(name_or_path, PRESETS / "machines", "machine", machine_names())
    data = read_toml(path)
    try:
        return Machine.model_validate(data)
    except ValidationError as error:
        raise input_error(error, path, "", Machine, data) from None


def is_machine(name_or_path: str | Path) -> bool:
    """Whether a name or path is that of a machine alone: a preset, or a TOML file whose zones are at the top."""
    if str(name_or_path) in machine_names():
        return True
    path = Path(name_or_path)
    return path.is_file() and path.suffix == ".toml" and "zones" in read_toml(path)


def assumed(machine: Machine) -> list[str]:
    """What the import of a machine had to assume, a sentence each."""
    return [part for part in machine.source.split("; ") if "assumed" in part]


def machine_named(name: str, path: Path) -> Machine:
    """The machine that a scenario file names: a file beside it or in the working folder, or a preset.

    Raises:
        InputError: there is none of the name; names ``path``.
    """
    for file in (path.parent / name, Path(name)):
        if file.is_file():
            return load_machine(file)
    if name not in machine_names():
        near = meant(name, machine_names())
        told = f"{name!r} is neither a file nor one of {', '.join(machine_names())}{near}"
        raise InputError(path, "machine", told)
    return load_machine(name)


def machine_toml(machine: Machine) -> str:
    """The machine as TOML that ``load_machine`` reads back to an equal one."""
    data = machine.model_dump(exclude_none=True)
    for field in ("bits", "shared_core", "sched_clock", "huge_pages"):
        if data[field] == Machine.model_fields[field].default:
            del data[field]
    data["zones"] = [zone.model_dump(exclude_defaults=True) for zone in machine.zones]
    data["slab_caches"] = [cache.model_dump(exclude_defaults=True) for cache in machine.slab_caches]
    text = tomli_w.dumps(data)
    return re.sub(r"\[\n([^\[\]{}]*?),\n\]", lambda match: f"[{' '.join(match[1].split())}]", text)  # short arrays
