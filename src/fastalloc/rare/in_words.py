"""The state of a lane in words: who holds which slots, and who waits for what."""

from typing import NamedTuple

from fastalloc.batch.lane import POOL_ROLES, Lane
from fastalloc.kernels.alloc.kmem_inspect import free_objects
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.slub.state import SlubEras
from fastalloc.kernels.alloc.state import MEMCTL, SLUB_CTL, SLUB_SLAB, ZONE, Slub
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import ZONES
from fastalloc.kernels.lane.state import IO, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU, RECLAIM, TASK, TASK_KIND, TASK_STATE
from fastalloc.kernels.workload.atomic_noise import OBJECTS
from fastalloc.plural import plural

WAITS = {
    TASK_STATE.bio_pool: "for a bio of the mempool",
    TASK_STATE.biovec_pool: "for a biovec of the mempool",
    TASK_STATE.request_pool: "for a request of the mempool",
    TASK_STATE.request: "for a free request of the queue",
    TASK_STATE.congestion: "in congestion_wait",
    TASK_STATE.bio_end: "for their own bio to end",
    TASK_STATE.i_mutex: "for the i_mutex of a directory",
}


class Slots(NamedTuple):
    """Slots of one cache."""

    cache: str  # the names of what comes from it
    slabs: int
    slots: int
    free: int
    holders: tuple[tuple[str, int], ...]  # the most first


def holders(arrays: Lane) -> list[Slots]:
    """Who holds the slots of the caches that bios, commands and sense buffers come from.

    What no list of the swap path accounts for is "others": files, radix nodes, background load. Empty under SLAB and
    SLOB, whose slabs are not told apart here.
    """
    heap, pools, io, vm = arrays.heap, arrays.pools, arrays.io, arrays.vm
    if not isinstance(heap, Slub | SlubEras):
        return []
    shared: dict[int, list[str]] = {}
    for role in (ROLE.bio, ROLE.command, ROLE.sense):
        shared.setdefault(int(vm.roles[role]), []).append(ROLE.names[role])
    held: dict[int, dict[str, int]] = {cache: {} for cache in shared}

    def hold(role: int, holder: str, objects: int) -> None:
        if objects > 0 and int(vm.roles[role]) in held:
            held[int(vm.roles[role])][holder] = int(objects)

    hold(ROLE.bio, "bios", io.ctl[IO.bios])
    hold(ROLE.command, "commands at the disk", io.ctl[IO.device_busy])
    hold(ROLE.sense, "sense buffers at the disk", io.ctl[IO.device_busy])
    hold(ROLE.command, "commands of the free_list", io.ctl[IO.free_list])
    hold(ROLE.sense, "sense buffers of the free_list", io.ctl[IO.free_list])
    hold(ROLE.noise, "atomic noise", vm.ctl[VM.noise_count[OBJECTS]])
    for p, role in enumerate(POOL_ROLES):
        hold(role, f"{ROLE.names[role]} mempool", pools.pool[p, MEMPOOL.curr])
    slab = heap.slab[: heap.ctl[SLUB_CTL.slab_top]]
    slab = slab[slab[:, SLUB_SLAB.pfn] >= 0]
    found = []
    for cache, names in shared.items():
        rows = slab[slab[:, SLUB_SLAB.cache] == cache]
        slots = int(rows[:, SLUB_SLAB.objects].sum())
        free = int(free_objects(heap, cache))
        others = slots - free - sum(held[cache].values())
        told = held[cache] | ({"others": others} if others > 0 else {})
        by_count = tuple(sorted(told.items(), key=lambda each: -each[1]))
        found.append(Slots(" + ".join(names), len(rows), slots, free, by_count))
    return found


def waiting(arrays: Lane) -> dict[str, int]:
    """How many tasks wait for what; the empty waits left out."""
    task = arrays.vm.task[: arrays.vm.ctl[VM.nr_tasks]]
    counts = {words: int((task[:, TASK.state] == state).sum()) for state, words in WAITS.items()}
    return {words: count for words, count in counts.items() if count}


def running(arrays: Lane) -> list[str]:
    """What each CPU does, in words."""
    vm = arrays.vm
    told = []
    for cpu in range(int(vm.ctl[VM.nr_cpus])):
        row = vm.cpu[cpu]
        if row[CPU.request_fn]:
            what = "in the request function"
        elif row[CPU.softirq]:
            what = "completes a command"
        elif row[CPU.idle_current]:
            what = f"idle, {int(row[CPU.running])} woken"
        elif row[CPU.running]:
            t = int(row[CPU.head])
            kind = TASK_KIND.names[vm.task[t, TASK.kind]]
            what = f"runs {kind if kind == 'kswapd' else f'{kind} {t}'}"
            what += ", in reclaim" if vm.task[t, TASK.reclaim] != RECLAIM.out else ""
            what += f", {int(row[CPU.running]) - 1} more runnable" if row[CPU.running] > 1 else ""
        else:
            what = "idle"
        told.append(f"cpu{cpu}: {what}")
    return told


def state_lines(arrays: Lane) -> list[str]:
    """The state of a lane, a line each: time, free pages against the marks, queue, slots, waits, CPUs."""
    mem, io, vm = arrays.mem, arrays.io, arrays.vm
    lines = [f"{int(vm.ctl[VM.now]) / ms.NS_PER_S:.6f} s"]
    for z in range(int(mem.ctl[MEMCTL.nr_zones]) - 1, -1, -1):
        row = mem.zone[z]
        lag = row[ZONE.vm_stat_lag]
        late = f", {max(0, row[ZONE.free] - lag):,} as marks are compared" if lag else ""
        lines.append(
            f"{ZONES[row[ZONE.zone_name]]}: {row[ZONE.free]:,} pages free{late}; min {row[ZONE.min]:,}, "
            f"low {row[ZONE.low]:,}, high {row[ZONE.high]:,}"
        )
    lines.append(
        f"queue: {io.ctl[IO.count]:,} requests, {io.ctl[IO.device_busy]:,} commands in flight, "
        f"{io.ctl[IO.bios]:,} bios, {vm.ctl[VM.writeback]:,} pages under writeback"
        + (", plugged" if io.ctl[IO.plugged] else "")
    )
    if vm.ctl[VM.livelock_since] != ms.NEVER:
        pause = (vm.ctl[VM.now] - vm.ctl[VM.livelock_since]) / ms.NS_PER_MS
        lines.append(f"no command in flight and the queue refused for {pause:,.1f} ms")
    for slots in holders(arrays):
        told = ", ".join(f"{count:,} {name}" for name, count in slots.holders)
        size = f"{plural(slots.slabs, 'slab')}, {plural(slots.slots, 'slot')}"
        lines.append(f"{slots.cache}: {size}, {slots.free:,} free; held: {told}")
    waits = waiting(arrays)
    lines.append("tasks wait " + (", ".join(f"{count} {what}" for what, count in waits.items()) or "for nothing"))
    return lines + running(arrays)
