"""A machine under steady pressure, where nothing but the machine, or the machine and its bursts, is told."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fastalloc.batch.zones import lane_zones
from fastalloc.errors import InputError
from fastalloc.scenario import Machine, Scenario, load_machine
from fastalloc.scenario.chosen import default_policy, policy_of_machine
from fastalloc.scenario.machines import assumed
from fastalloc.scenario.models import Burst, Costs
from fastalloc.scenario.varied import input_error

MOST_PAGES = 1 << 20  # of a zone that take part; fewer would slow kswapd down, which scans a share of them
MARKS_IN_PLAY = 4  # but at least so many times its high mark
FAST_DISK = {"iops": 200_000, "bytes_per_second": 2_000_000_000}
WRITERS = 2
COPIERS = 4  # of a machine alone, whose trees together are
TREE_SHARE = 0.1  # of memory
LANES = 8


def machine_alone(name_or_path: str | Path) -> tuple[Scenario, list[str]]:
    """A machine by itself (a preset or a file), under steady pressure, and what was assumed, a sentence each.

    Raises:
        InputError: as ``load_machine``.
    """
    machine = load_machine(name_or_path)
    scenario, said = pressed(machine, name=_name(Path(name_or_path).name.removesuffix(".toml")))
    said += assumed(machine)
    words = f"{machine.name} by itself, its memory kept full. Assumed: {'; '.join(said)}."
    return scenario.model_copy(update={"description": words}), said


def pressed(
    machine: Machine, bursts: Sequence[Burst] = (), in_play: int = MOST_PAGES, name: str = "reserve"
) -> tuple[Scenario, list[str]]:
    """A scenario that keeps a machine's memory full, and what it assumes, a sentence each.

    Two tasks fill more anonymous memory than there is, and reclaim writes it to a fast disk. Of each zone at most
    ``in_play`` pages take part, or four times its high mark, and the rest is held for good, so that a large machine
    fills up soon; marks and reserves stay those of the whole machine. Bursts begin when memory is full. Without bursts
    tasks copy trees of files into tmpfs too, and GFP_ATOMIC objects and pages come and go.

    Raises:
        InputError: a machine that no scenario can have.
    """
    said = []
    frames = {zone.name: min(zone.frames, max(in_play, MARKS_IN_PLAY * zone.high)) for zone in lane_zones(machine)}
    total = sum(frames.values())
    whole = sum(zone.frames for zone in lane_zones(machine))
    if total == 0:
        raise InputError(machine.name, "machine.zones", "all pages are CMA or highatomic ones, which are left out")
    if total < whole:
        said.append(f"{whole - total:,} of {whole:,} pages are held for good, and {total:,} are filled and reclaimed")
    swap = max(machine.swap_pages, 2 * total // 256 * 256)
    if machine.swap_pages < swap:
        said.append(f"swap of {swap:,} pages (it has {machine.swap_pages:,})")
    said.append("a disk that writes 2 GB/s, 32 commands in flight")
    full_s = total * Costs().fault_page / 1e9 / min(WRITERS, machine.cpus) * 1.2
    policy = default_policy(machine.model_dump())
    said.append(f"policy {policy}, the kernel of the machine")
    allocator = machine.allocator
    if machine.page_kb != 4 and allocator in ("slab", "slob"):
        said.append(f"SLUB for its {allocator.upper()}, which is modelled for pages of 4 kB")
        allocator = None
    said.append(f"two tasks fill {1.2 * total:,.0f} pages of anonymous memory again and again")
    load: dict[str, Any] = {"copiers": 0, "atomic_objects_per_s": 0, "atomic_pages_per_s": 0}
    run: dict[str, Any] = {"duration_s": full_s + 10.0, "max_events": 0}
    if not bursts:
        load = {
            "copiers": COPIERS,
            "tree_files": max(1, int(TREE_SHARE * total) // (3 * COPIERS)),
            "mean_file_pages": 3,
        }
        run = {"duration_s": max(60.0, round(full_s + 20.0)), "lanes": LANES}
        said.append(
            f"{COPIERS} tasks copy trees of {load['tree_files']:,} files into tmpfs, 200 GFP_ATOMIC objects and 50 "
            "pages a second come and go, each step takes the CPU time of [costs]"
        )
    scenario = _valid(
        {
            "name": name,
            "machine": machine.model_dump() | {"free_pages": frames, "swap_pages": swap},
            "kernel_policy": f"{policy}, the kernel of the machine",
            "policy": policy_of_machine(machine.model_dump(), allocator),
            "disk": FAST_DISK,
            "host": {"queue_depth": 32, "can_queue": 32},
            "workload": {
                "writers": WRITERS,
                "writer_pages": round(0.6 * total),
                "start_spread_ms": 10,
                "bursts": [burst.model_dump() | {"start_ms": 1000 * full_s} for burst in bursts],
            }
            | load,
            "run": run,
        }
    )
    return scenario, said


def _valid(data: dict[str, Any]) -> Scenario:
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise input_error(error, data["machine"]["name"], "", Scenario, data) from None


def _name(text: str) -> str:
    """A name that a scenario may have."""
    return re.sub(r"^[^A-Za-z0-9]+", "", re.sub(r"[^A-Za-z0-9_.+-]+", "-", text)) or "machine"
