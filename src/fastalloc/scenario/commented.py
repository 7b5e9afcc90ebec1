"""Presets as TOML in which each field says what it means, for those who start a file of their own."""

import json
import re
from typing import Any

from fastalloc.errors import InputError, meant
from fastalloc.scenario.load import load_schema, preset_names
from fastalloc.scenario.machines import PRESETS

_TABLE = re.compile(r"\[\[?([\w.-]+)\]\]?")
_FIELD = re.compile(r"(\w+) = ")
HEAD = """\
#:schema scenario.schema.json
# `fastalloc schema scenario > scenario.schema.json` lets editors complete keys.

"""


def preset_text(name: str) -> str:
    """The file of a preset; a field that has no comment of its own gets that of the schema.

    Raises:
        InputError: no such preset.
    """
    names = preset_names()
    if name not in names:
        raise InputError(name, "", f"no such scenario{meant(name, names)}; there are {', '.join(names)}")
    meanings = field_meanings()
    table = ""
    lines: list[str] = []
    for line in (PRESETS / f"{name}.toml").read_text(encoding="utf-8").splitlines():
        if found := _TABLE.match(line):
            table = found[1]
            if lines and lines[-1]:
                lines.append("")
        elif (found := _FIELD.match(line)) and "#" not in line:
            meaning = meanings.get(f"{table}.{found[1]}" if table else found[1], "")
            line += f" # {meaning}" if meaning and not line.endswith('"""') else ""
        lines.append(line)
    return HEAD + "\n".join(lines) + "\n"


def field_meanings() -> dict[str, str]:
    """What each field of a scenario means, by its dotted name; a list's items go by the list's name."""
    schema: dict[str, Any] = json.loads(load_schema("scenario"))
    found: dict[str, str] = {}

    def walk(part: dict[str, Any], prefix: str, depth: int) -> None:
        for key, field in part.get("properties", {}).items():
            name = f"{prefix}{key}"
            found.setdefault(name, field.get("description", ""))
            if depth < 4:
                for inner in _inner(field):
                    walk(schema["$defs"][inner], f"{name}.", depth + 1)

    walk(schema, "", 0)
    return found


def _inner(field: dict[str, Any]) -> list[str]:
    """The definitions that a field, or an item of it, refers to."""
    parts = [field, field.get("items", {}), *field.get("anyOf", []), *field.get("allOf", [])]
    return [part["$ref"].rpartition("/")[2] for part in parts if isinstance(part, dict) and "$ref" in part]
