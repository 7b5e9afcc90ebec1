"""How much memory lanes take, known before any is taken."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from fastalloc.batch.heap import HEAPS, OBJECTS_A_PAGE, slab_room
from fastalloc.batch.zones import lane_zones
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.slab.state import SLAB_SLAB, Slab
from fastalloc.kernels.alloc.slob.slob import PAGE_UNITS
from fastalloc.kernels.alloc.state import PAGE, SLUB_SLAB
from fastalloc.kernels.lane.metrics import EVENT_COLUMNS, SERIES
from fastalloc.kernels.lane.state import BIO, FILE
from fastalloc.scenario.models import Scenario

SHARE = 0.5  # of what the machine has to spare
MEMORY = "FASTALLOC_MEMORY"  # bytes, or with a K, M, G or T
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_bytes(text: str, what: str) -> int:
    """``512M`` or ``4G`` in bytes.

    Raises:
        InputError: it is no size.
    """
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kKmMgGtT]?)(?:i?[bB])?\s*", text)
    size = round(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if size <= 0:
        raise InputError(what, text, "must be a size such as 512M or 4G")
    return size


def memory_limit() -> int:
    """Bytes that lanes may take: FASTALLOC_MEMORY, else SHARE of what this machine has to spare."""
    told = os.environ.get(MEMORY)
    return parse_bytes(told, MEMORY) if told else round(SHARE * _spare_bytes())


def _spare_bytes() -> int:
    import resource

    known = [resource.getrlimit(resource.RLIMIT_AS)[0]]
    known = [limit for limit in known if limit != resource.RLIM_INFINITY]
    for file, pattern in (
        ("/proc/meminfo", r"MemAvailable:\s+(\d+) kB"),
        ("/sys/fs/cgroup/memory.max", r"^(\d+)$"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", r"^(\d+)$"),
    ):
        try:
            found = re.search(pattern, Path(file).read_text(encoding="ascii"))
        except OSError:
            continue
        if found:
            known.append(int(found[1]) << (10 if "kB" in pattern else 0))
    return min(known, default=1 << 33)


def lane_parts(scenario: Scenario) -> dict[str, int]:
    """Bytes of the large arrays of a lane, by the field that makes them large."""
    machine, work, run = scenario.machine, scenario.workload, scenario.run
    frames = sum(zone.frames for zone in lane_zones(machine))
    heap = HEAPS[scenario.policy.allocator]
    if heap is Slab:
        slabs = SLAB_SLAB.width * 8 + OBJECTS_A_PAGE * 2
    elif scenario.policy.allocator == "slob":
        slabs = PAGE_UNITS * 2
    else:
        slabs = SLUB_SLAB.width * 4 + OBJECTS_A_PAGE * 2
    tree = work.tree_files * work.mean_file_pages * 5 // 4
    return {
        "machine.zones": frames * PAGE.width * 4 + slab_room(frames) * slabs,
        "machine.swap_pages": machine.swap_pages * 2 + min(frames, machine.swap_pages) * BIO.width * 8,
        "workload.tree_files": work.copiers * (tree * 4 + work.tree_files * FILE.width * 8),
        "workload.writer_pages": work.writers * work.writer_pages * 4,
        "run.series_ms": round(run.duration_s * 1000) // run.series_ms * SERIES.width * 8,
        "run.max_events": run.max_events * len(EVENT_COLUMNS) * 8,
    }


def lane_bytes(scenario: Scenario) -> int:
    """Bytes of the large arrays of a lane."""
    return sum(lane_parts(scenario).values())


def refuse_too_large(scenarios: Sequence[Scenario], at_once: int, where: str = "") -> None:
    """Raise InputError where ``at_once`` lanes of a scenario take more memory than they may; names the largest part.

    ``where``: which of many scenarios it is.
    """
    limit = memory_limit()
    for scenario in scenarios:
        parts = lane_parts(scenario)
        whole = sum(parts.values())
        if whole * at_once > limit:
            field = max(parts, key=lambda name: parts[name])
            raise InputError(
                scenario.name,
                where + field,
                f"{at_once} lanes at once take {_told(whole * at_once)}, {_told(parts[field])} each for this; "
                f"{_told(limit)} may be taken: lower it, run fewer --threads, or allow more with --memory",
            )


def _told(size: int) -> str:
    return f"{size / (1 << 30):,.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):,.0f} MiB"
