"""The zones of a machine as ``runs/`` and ``series/`` have them: columns go by the zones' names."""

import re
from collections.abc import Mapping
from typing import Any

ZONES = ("DMA", "DMA32", "Normal", "HighMem", "Movable")  # lowest first
FREE = {f"free_{name.lower()}": name for name in ZONES}  # column of ``series/`` -> zone
_KEY = re.compile(r"machine\.zones\.(?:node\d+-)?(\w+)\.(\w+)")


def zone_names(row: Mapping[str, Any]) -> list[str]:
    """Names of the zones of a row of ``runs/``, lowest first."""
    found = {match[1] for key, value in row.items() if value is not None and (match := _KEY.fullmatch(key))}
    return [name for name in ZONES if name in found]


def kernel_zone(row: Mapping[str, Any]) -> str:
    """The highest zone that serves the kernel's own requests."""
    return [name for name in zone_names(row) if name not in ("HighMem", "Movable")][-1]


def zone_mark(row: Mapping[str, Any], zone: str, field: str) -> int:
    """A field of a zone such as ``min``, over all nodes."""
    keys = (key for key in row if (match := _KEY.fullmatch(key)) and match.groups() == (zone, field))
    return sum(int(row[key]) for key in keys if row[key] is not None)
