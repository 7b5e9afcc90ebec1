"""How much memory a replay takes, known before any configuration runs."""

from collections.abc import Sequence

from fastalloc.errors import InputError
from fastalloc.kernels.alloc.slub.state import SHEAF
from fastalloc.kernels.alloc.state import KMEM_CACHE_CPU, KMEM_CACHE_NODE, SLUB_SLAB
from fastalloc.kernels.replay.kmem_events import CACHE_SERIES, SLAB_MARGIN
from fastalloc.memory import memory_limit, size_in_words
from fastalloc.trace.compact.compact import CompactTrace
from fastalloc.trace.lanes.lane import FIRST_SLABS, SAMPLES, Config
from fastalloc.trace.lanes.slub_lane import most_sheaves
from fastalloc.trace.lanes.start import Start

TABLE_COLUMNS = 72  # of a lane's table of caches, at most
DRAWN = 2.5  # copies of the events while an order is drawn


def replay_parts(
    trace: CompactTrace, configs: Sequence[Config], start: Start, draws: int, samples: int, threads: int
) -> dict[str, int]:
    """Bytes that a replay takes beside the trace, by what makes them many; see ``prediction.predict``."""
    cpus, nodes = start.cpus(trace), start.nodes
    cpu = lists = sheaves = series = table = 0
    for config in configs:
        caches = len(config.caches)
        cpu = max(cpu, caches * cpus * KMEM_CACHE_CPU.width * 8)
        lists = max(lists, caches * nodes * KMEM_CACHE_NODE.width * 8)
        count, capacity = most_sheaves(config.caches, cpus, nodes, 1)
        sheaves = max(sheaves, count * (SHEAF.width + capacity + 8) * 8)
        series += samples * caches * CACHE_SERIES.width * 4
        table += caches * TABLE_COLUMNS * 8
    slab = SLUB_SLAB.width * 4 + 64 * 2
    at_once = min(threads, max(1, len(configs) - 1))
    return {
        "CPUs": at_once * cpu,
        "nodes": at_once * lists,
        "capacity of sheaves": at_once * sheaves,
        "slabs before the trace": at_once * (SLAB_MARGIN + FIRST_SLABS + start.room) * slab,
        "objects": at_once * len(trace.ptrs) * 8,
        "configurations, see --what-if and --grid": series + draws * table,
        "orders of operations, see --draws": round(DRAWN * trace.events.nbytes) if draws > 1 else 0,
    }


def refuse_too_large(
    trace: CompactTrace, configs: Sequence[Config], start: Start, draws: int, samples: int | None, threads: int
) -> None:
    """Raise InputError where a replay takes more memory than it may; names what makes it large. ``samples``: None are
    the usual ones."""
    parts = replay_parts(trace, configs, start, draws, SAMPLES if samples is None else samples, threads)
    limit, whole = memory_limit(), sum(parts.values())
    if whole > limit:
        most = max(parts, key=lambda name: parts[name])
        raise InputError(
            trace.path,
            most,
            f"{len(configs):,} configurations, {threads} at once, take {size_in_words(whole)}, "
            f"{size_in_words(parts[most])} for this; {size_in_words(limit)} may be taken: ask for less, run fewer "
            "--threads, or allow more with --memory",
        )


__all__ = ["refuse_too_large", "replay_parts"]
