"""Which CPU runs next: each on a core of its own, or all in turns on one core of a host.

CPUs that share a core have one clock between them. A turn ends at the next timer of any of them (its tick, the disk's
completion), when its CPU has nothing to do, and when it spins on a lock [measured under QEMU's instruction counter:
turns of 50.02, 100.02 and 2000.02 us with timers of 50, 100 and 2000 us]. Then the next CPU that has something to do
goes on where it was. That QEMU 7.2 can leave the second CPU standing still is not modelled, see docs/machine.md.
"""

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import CPU


@folded
def earlier(vm, cpu, other):
    """Whichever of two CPUs is due first; of equals, the lower."""
    if vm.cpu[other, CPU.due] < vm.cpu[cpu, CPU.due]:
        return other
    if vm.cpu[other, CPU.due] == vm.cpu[cpu, CPU.due] and other < cpu:
        return other
    return cpu


@internal
def play(vm, cpu):
    """The tournament of :func:`set_due`, after a change to ``cpu``."""
    out_of_line()
    cpus = vm.ctl[VM.nr_cpus]
    node = (cpus + cpu) >> 1
    while node > 0:
        left = 2 * node
        right = left + 1
        first = left - cpus if left >= cpus else vm.cpu[left, CPU.first]
        second = right - cpus if right >= cpus else vm.cpu[right, CPU.first]
        vm.cpu[node, CPU.first] = earlier(vm, first, second)
        node >>= 1


@folded
def set_due(vm, cpu, due):
    """Enter when ``cpu`` is due. More than two CPUs hold a tournament: node ``i`` has the children ``2 * i`` and
    ``2 * i + 1``, the CPUs are the nodes from VM.nr_cpus on, and the winner of the root, node 1, is the CPU that is due
    first. So an event costs no more with many CPUs than the height of that tree."""
    if due != vm.cpu[cpu, CPU.due]:
        vm.cpu[cpu, CPU.due] = due
        if vm.ctl[VM.nr_cpus] > 2:
            play(vm, cpu)


@folded
def note_due(vm, cpu, irq):
    """Bring the time at which ``cpu`` is due up to date, after any change to its work or its clock.

    ``irq``: a completed command waits for its softirq.
    """
    c = vm.cpu[cpu]
    busy = c[CPU.running] > 0 or c[CPU.softirq] != 0 or c[CPU.request_fn] != 0 or irq
    c[CPU.busy] = busy
    due = ms.NEVER
    if busy and (vm.ctl[VM.shared_core] == 0 or vm.ctl[VM.turn] == cpu):
        due = c[CPU.clock]
    set_due(vm, cpu, due)


@folded
def first_due(vm):
    """The CPU whose next step comes first."""
    cpus = vm.ctl[VM.nr_cpus]
    if cpus > 2:
        return vm.cpu[1, CPU.first]
    last = cpus - 1
    return last if vm.cpu[last, CPU.due] < vm.cpu[0, CPU.due] else 0


@internal
def next_tick(vm, cpu, now):
    """The first tick of ``cpu`` after ``now``: the ticks of the CPUs stand apart by half a jiffy shared among them
    [tick_setup_sched_timer]."""
    jiffy = vm.ctl[VM.jiffy_ns]
    known = vm.cpu[cpu, CPU.next_tick]
    if known > 0 and known - jiffy <= now < known + jiffy:  # most often, and without a division
        return known if now < known else known + jiffy
    skew = cpu * vm.ctl[VM.tick_skew]
    return ((now - skew) // jiffy + 1) * jiffy + skew


@folded
def next_tick_in(vm, cpu, jiffy, now):
    """:func:`next_tick` of a ``now`` within the jiffy that began at ``jiffy`` ns, without its division."""
    tick = jiffy + cpu * vm.ctl[VM.tick_skew]
    return tick if tick > now else tick + vm.ctl[VM.jiffy_ns]


@internal
def pass_turn(vm, now):
    """The next CPU with something to do has the shared core, else the same one."""
    cpus = vm.ctl[VM.nr_cpus]
    turn = vm.ctl[VM.turn]
    for k in range(1, cpus):
        cpu = (turn + k) % cpus
        if vm.cpu[cpu, CPU.busy] != 0:
            vm.ctl[VM.turn] = cpu
            if vm.cpu[cpu, CPU.clock] < now:
                vm.cpu[cpu, CPU.clock] = now
            set_due(vm, turn, ms.NEVER)
            set_due(vm, cpu, vm.cpu[cpu, CPU.clock])
            return


@internal
def end_turn(vm, now):
    """A timer ends the turn on the shared core; the next one ends at the next tick of any CPU, if not before."""
    turn_end = ms.NEVER
    for cpu in range(vm.ctl[VM.nr_cpus]):
        turn_end = min(turn_end, next_tick(vm, cpu, now))
    vm.ctl[VM.turn_end] = turn_end
    pass_turn(vm, now)
