"""Which lanes the shards of a sweep hold, as their footers tell."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from fastalloc.errors import InputError
from fastalloc.store.location import Location

_MOST = 1 << 24  # points, and lanes of a point


class Segment(NamedTuple):
    """Lanes ``begin`` to ``end - 1`` of a point."""

    point: int
    identity: str
    variant: str
    settings: dict[str, Any]  # on top of the variant
    begin: int
    end: int
    livelocks: int  # lanes livelocked for more than 5 s


def segments_of(path: Location, record: dict[str, Any]) -> list[Segment]:
    """The lanes that a file holds, from the record in its footer.

    Raises:
        InputError: it is no file of a sweep.
    """
    if "task" not in record:
        raise InputError(path, "footer", "not a shard of a sweep")
    task = record["task"]
    parts = task.get("segments") if isinstance(task, dict) and isinstance(task.get("id"), str) else None
    if not isinstance(parts, list) or not parts or not all(map(_is_segment, parts)):
        raise InputError(path, "footer", "tells no lanes of a sweep")
    return [Segment(*part) for part in parts]


def _is_segment(part: Any) -> bool:
    """Whether JSON has every field of a segment in its type, and lanes that there can be."""
    if not isinstance(part, list) or [type(value) for value in part] != [int, str, str, dict, int, int, int]:
        return False
    point, _, _, _, begin, end, livelocks = part
    return bool(0 <= point <= _MOST and 0 <= begin < end <= _MOST and 0 <= livelocks <= end - begin)


def overlapping(files: Iterable[tuple[Location, list[Segment]]]) -> dict[Location, Location]:
    """Files that hold a lane of another, and that other; of two the one with fewer lanes is told.

    One process never writes such files. Two can, where a store has no locks: both ran the same sweep, cut into other
    tasks.
    """
    files = list(files)
    lanes = {path: sum(part.end - part.begin for part in parts) for path, parts in files}
    spans = sorted((part.point, part.begin, part.end, path) for path, parts in files for part in parts)
    found: dict[Location, Location] = {}
    last = None
    for span in spans:
        if span[3] in found:
            continue
        if last is not None and last[3] not in found and span[0] == last[0] and span[1] < last[2]:
            keep, drop = sorted((last, span), key=lambda it: -lanes[it[3]])
            found[drop[3]] = keep[3]
            last = keep
            continue
        last = span
    return found
