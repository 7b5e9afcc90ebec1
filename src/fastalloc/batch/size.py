"""How much memory lanes take, known before any is taken."""

import math
from collections.abc import Sequence

from fastalloc.batch.bursts import burst_room
from fastalloc.batch.caches import PATH_CACHES
from fastalloc.batch.heap import ASKED_CAPACITY, HEAPS, OBJECTS_A_PAGE, most_sheaves, own_pages, own_tasks, slab_room
from fastalloc.batch.lane import noise_room
from fastalloc.batch.zones import lane_zones
from fastalloc.errors import InputError
from fastalloc.kernels.alloc.own.state import GRANULES, OWN_PAGE
from fastalloc.kernels.alloc.slab.state import SLAB_ARRAY, SLAB_SLAB, Slab
from fastalloc.kernels.alloc.slob.ring import SLOB_PAGE, SLOB_STRETCH
from fastalloc.kernels.alloc.slob.slob import PAGE_UNITS
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE, KMEM_CACHE_CPU, KMEM_CACHE_NODE, PAGE, SLUB_SLAB
from fastalloc.kernels.lane.metrics import EVENT_ROW, SERIES
from fastalloc.kernels.lane.state import BIO, COMMAND, FILE, MAPPING, RCU_RING, REQUEST
from fastalloc.kernels.lane.tasks import TASK
from fastalloc.kernels.workload.atomic_noise import NOISE
from fastalloc.kernels.workload.bursts import HELD
from fastalloc.memory import memory_limit, size_in_words
from fastalloc.own.allocator import own_allocator
from fastalloc.own.allocator_text import read_own
from fastalloc.scenario.machine import SlabCache
from fastalloc.scenario.models import Scenario

MOST_CACHES = 52  # of the path and kmalloc's, beside those of hosts; SLAB has MOST_OF_SLAB
COUNTED = 24  # of a machine's own, that are among these
OF_THE_PATH = frozenset(request.name for request in PATH_CACHES)
MOST_OF_SLAB = 24
CAPACITY = {"sheaves": ASKED_CAPACITY, "7.3": 60}  # of the largest sheaf where no policy says
UNMERGED = frozenset(("destroy_by_rcu", "poison", "red_zone", "store_user", "trace"))  # flags of caches
MOST_ENTRIES = 150  # of a CPU's array of a cache of SLAB, shared ones with it


def lane_parts(scenario: Scenario) -> dict[str, int]:
    """Bytes of the arrays of a lane, by the field that makes them large; what is small in any lane is left out."""
    machine, work, run, policy = scenario.machine, scenario.workload, scenario.run, scenario.policy
    frames = sum(zone.frames for zone in lane_zones(machine))
    hosts = len(policy.host_sense_bytes)
    caches = MOST_CACHES + len(work.bursts) + hosts
    cpus = RCU_RING * 8 + 2 * TASK.width * 8
    links = OBJECTS_A_PAGE * 2 * machine.page_kb // 4
    sheaves, found, arrays = 0, 0, list[tuple[int, int]]()
    if HEAPS[policy.allocator] is Slab:
        slabs = SLAB_SLAB.width * 8 + links
        cpus += (MOST_OF_SLAB + hosts) * (SLAB_ARRAY.width + MOST_ENTRIES) * 8
    elif policy.allocator == "own":
        pages = own_pages(frames)
        slabs = pages * (3 * 8 + GRANULES * 2 + OWN_PAGE.width * 4) // slab_room(frames)
        arrays = own_allocator(*policy.own).shapes(caches, machine.cpus, own_tasks(scenario), pages)
    elif policy.allocator == "slob":
        slabs = (SLOB_PAGE.width + SLOB_STRETCH.width) * 4 + PAGE_UNITS * 2
    else:
        slabs = SLUB_SLAB.width * 4 + links
        cpus += caches * KMEM_CACHE_CPU.width * 8
        each = (KMEM_CACHE.width + KMEM_CACHE_NODE.width + machine.cpus * KMEM_CACHE_CPU.width) * 8
        if policy.allocator in ("sheaves", "7.3"):
            capacity = policy.sheaf_capacity or CAPACITY[policy.allocator]
            of_cache = most_sheaves(scenario) * (SHEAF.width + capacity + 8) * 8
            sheaves, each = caches * of_cache, each + of_cache
        found = max(0, _unlike(machine.slab_caches, policy.slub_nomerge) - COUNTED) * each
    words = read_own(policy.questions, policy.own[1]).state if policy.questions else {}
    counts = {"lane": 1, "cpu": machine.cpus, "cache": caches, "slab": slab_room(frames)}
    tree = work.tree_files * work.mean_file_pages * 5 // 4 + 128
    return {
        "machine.zones": frames * PAGE.width * 4 + slab_room(frames) * slabs,
        "machine.cpus": machine.cpus * cpus,
        "machine.swap_pages": machine.swap_pages * 13 // 10 + min(frames, machine.swap_pages) * BIO.width * 8,
        "queue.nr_requests": scenario.queue.nr_requests * 3 // 2 * REQUEST.width * 8,
        "host.queue_depth": scenario.host.queue_depth * COMMAND.width * 8,
        "machine.slab_caches": found,
        "policy.sheaf_capacity": sheaves,
        "policy.questions": 8
        * (sum(counts[name] * len(words.get(name, ())) for name in counts) + sum(math.prod(shape) for shape in arrays)),
        "workload.tree_files": work.copiers * (tree * 4 + work.tree_files * (FILE.width * 8 + MAPPING.width)),
        "workload.writer_pages": work.writers * work.writer_pages * 4 + (work.copiers + work.writers) * TASK.width * 8,
        "workload.bursts": len(work.bursts) * burst_room(scenario, frames) * HELD.width * 8,
        "workload.atomic_objects_per_s": 2 * noise_room(scenario) * NOISE.width * 8,
        "run.series_ms": round(run.duration_s * 1000) // run.series_ms * SERIES.width * 8,
        "run.max_events": run.max_events * EVENT_ROW.width * 8,
    }


def _unlike(found: Sequence[SlabCache], alone: bool) -> int:
    """How many of a machine's caches beside the path's stay by themselves at most: what is alike merges, where nothing
    forbids it."""
    found = [cache for cache in found if cache.name not in OF_THE_PATH and not cache.name.startswith("kmalloc-")]
    if alone:
        return len(found)
    apart = ((cache.ctor or not UNMERGED.isdisjoint(cache.flags)) and cache.name for cache in found)
    return len(
        {(-(-each.object_size // 8), each.align, *each.flags, name) for each, name in zip(found, apart, strict=True)}
    )


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
                f"{at_once} lanes at once take {size_in_words(whole * at_once)}, {size_in_words(parts[field])} each "
                f"for this; {size_in_words(limit)} may be taken: lower it, run fewer --threads, or allow more with "
                "--memory",
            )
