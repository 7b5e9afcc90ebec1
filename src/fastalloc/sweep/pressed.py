"""A machine under steady pressure, where only the machine and its bursts are told."""

from fastalloc.batch.zones import lane_zones
from fastalloc.errors import InputError
from fastalloc.scenario import Machine, Scenario
from fastalloc.scenario.chosen import default_policy, policy_table
from fastalloc.scenario.models import Burst, Costs

MOST_PAGES = 1 << 20  # of a zone that take part; fewer would slow kswapd down, which scans a share of them
FAST_DISK = {"iops": 200_000, "bytes_per_second": 2_000_000_000}


def pressed(machine: Machine, bursts: list[Burst], in_play: int = MOST_PAGES) -> tuple[Scenario, list[str]]:
    """A scenario that keeps a machine's memory full, and what it assumes, a sentence each.

    Two tasks fill more anonymous memory than there is, and reclaim writes it to a fast disk. Of each zone at most
    ``in_play`` pages take part, and the rest is held for good, so that a large machine fills up soon; marks and
    reserves stay those of the whole machine. Bursts begin when memory is full.

    Raises:
        InputError: no bursts.
    """
    if not bursts:
        raise InputError(machine.name, "--burst", "a machine alone asks for nothing; tell its bursts, pages=N at least")
    said = []
    frames = {zone.name: min(zone.frames, in_play) for zone in lane_zones(machine)}
    total = sum(frames.values())
    whole = sum(zone.frames for zone in lane_zones(machine))
    if total < whole:
        said.append(f"{whole - total:,} of {whole:,} pages are held for good, and {total:,} are filled and reclaimed")
    swap = max(machine.swap_pages, 2 * total // 256 * 256)
    if machine.swap_pages < swap:
        said.append(f"swap of {swap:,} pages, on a disk that writes 2 GB/s")
    tasks = min(2, machine.cpus)
    full_s = total * Costs().fault_page / 1e9 / tasks * 1.2
    policy = default_policy(machine.model_dump())
    said.append(f"policy {policy}, the kernel of the machine")
    said.append(f"two tasks fill {1.2 * total:,.0f} pages of anonymous memory again and again")
    return Scenario.model_validate(
        {
            "name": "reserve",
            "machine": machine.model_dump() | {"free_pages": frames, "swap_pages": swap},
            "kernel_policy": policy,
            "policy": policy_table(policy, machine.allocator),
            "disk": FAST_DISK,
            "host": {"queue_depth": 32, "can_queue": 32},
            "workload": {
                "copiers": 0,
                "writers": 2,
                "writer_pages": round(0.6 * total),
                "start_spread_ms": 10,
                "atomic_objects_per_s": 0,
                "atomic_pages_per_s": 0,
                "bursts": [burst.model_dump() | {"start_ms": 1000 * full_s} for burst in bursts],
            },
            "run": {"duration_s": full_s + 10.0, "max_events": 0},
        }
    ), said
