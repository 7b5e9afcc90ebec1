"""Which CPU runs next: each on a core of its own, or all in turns on one core of a host.

CPUs that share a core have one clock between them, as under QEMU's instruction counter [7.2, rr_cpu_thread_fn in
accel/tcg/tcg-accel-ops-rr.c, icount_prepare_for_run in tcg-accel-ops-icount.c]. A turn ends where its CPU has nothing
to do, spins on a lock, or sets a timer that is the first of all to go off; then the next CPU in order runs. It ends too
where a timer goes off. Then a CPU behind it in order has the next turn only where it has an exit request; else it takes
an interrupt and no more, and the first CPU goes on. A timer that goes off gives an exit request to all but whom runs
next. So two CPUs alternate at their ticks while CPU 1's turns are ended by timers, and CPU 1 stands still from where it
had nothing to do until CPU 0 has not, spins, or sets a timer while CPU 1's own has gone off.
"""

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import COST, VM
from fastalloc.kernels.lane.tasks import CPU

STREAM_SPIN = 26
# Other locks than swap_lock: after one in so many turns that a timer ended the next CPU soon spins on a lock that the
# one before holds, and gives its turn back [traced in 14 runs on two CPUs: 3,318 of 44,460 such turns]. Soon is about
# as long as three pages take to be copied.
SPIN_ONE_IN = 13
SPIN_AFTER_COPIES = 3


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


@folded
def is_armed(vm, cpu, now):
    """Whether a CPU's timer is set: it has gone off, and stays so until the CPU's next turn, or its tick is stopped."""
    c = vm.cpu[cpu]
    return c[CPU.ticking] != 0 and c[CPU.next_tick] > now and c[CPU.rearm] == 0


@folded
def first_timer(vm, now, but, irq_cpu, disk_done):
    """When the first timer of the CPUs but ``but`` goes off: a tick, the end of the disk's command on ``irq_cpu``, the
    end of the sleep before a task's start."""
    first = ms.NEVER
    for cpu in range(vm.ctl[VM.nr_cpus]):
        if cpu != but and is_armed(vm, cpu, now):
            first = min(first, vm.cpu[cpu, CPU.next_tick])
            if cpu == irq_cpu:
                first = min(first, disk_done)
            if cpu == vm.ctl[VM.hrtimer_cpu]:
                first = min(first, vm.ctl[VM.hrtimer])
    return first


@internal
def give_turn(vm, cpu, now):
    """The first CPU from ``cpu`` on that has something to do has the shared core; whom the turn passes has no exit
    request any more. Where none has: nobody."""
    cpus = vm.ctl[VM.nr_cpus]
    for k in range(cpus):
        c = (cpu + k) % cpus
        vm.cpu[c, CPU.exit_request] = 0
        if vm.cpu[c, CPU.busy] != 0:
            turn = vm.ctl[VM.turn]
            vm.ctl[VM.turn] = c
            vm.ctl[VM.spin_at] = ms.NEVER
            if vm.cpu[c, CPU.clock] < now:
                vm.cpu[c, CPU.clock] = now
            set_due(vm, turn, ms.NEVER)
            set_due(vm, c, vm.cpu[c, CPU.clock])
            set_turn_end(vm, now)
            return
    vm.ctl[VM.all_idle] = 1


@folded
def set_turn_end(vm, now):
    """The turn lasts until the next timer, if it is not ended before."""
    vm.ctl[VM.turn_end] = min(vm.ctl[VM.hrtimer], vm.ctl[VM.spin_at], first_timer(vm, now, -1, -1, ms.NEVER))


@folded
def request_exits(vm):
    """cpu_exit of all CPUs [rr_kick_vcpu_thread]."""
    for cpu in range(vm.ctl[VM.nr_cpus]):
        vm.cpu[cpu, CPU.exit_request] = 1


@internal
def pass_turn(vm, now):
    """The CPU whose turn it is has nothing to do, or spins. From where all had nothing to do the first CPU is asked
    first, with exit requests for all: the clock was moved on to a timer."""
    cpu = (vm.ctl[VM.turn] + 1) % vm.ctl[VM.nr_cpus]
    if vm.ctl[VM.all_idle] != 0:
        vm.ctl[VM.all_idle] = 0
        request_exits(vm)
        cpu = 0
    give_turn(vm, cpu, now)


@internal
def end_turn(vm, now):
    """A timer goes off in the turn of a CPU."""
    if vm.ctl[VM.hrtimer] <= now:
        if is_armed(vm, vm.ctl[VM.hrtimer_cpu], now):
            vm.cpu[vm.ctl[VM.hrtimer_cpu], CPU.rearm] = 1
        vm.ctl[VM.hrtimer] = ms.NEVER
    if vm.ctl[VM.all_idle] != 0 or vm.ctl[VM.spin_at] <= now:
        pass_turn(vm, now)
        return
    turn = vm.ctl[VM.turn]
    following = 0
    timers_ran = False
    for cpu in range(vm.ctl[VM.turn] + 1, vm.ctl[VM.nr_cpus]):
        requested = vm.cpu[cpu, CPU.exit_request] != 0
        if not timers_ran:
            request_exits(vm)
            timers_ran = True
        vm.cpu[cpu, CPU.exit_request] = 0
        if requested:
            following = cpu
            break
    if not timers_ran:
        request_exits(vm)
    give_turn(vm, following, now)
    if vm.ctl[VM.turn] != turn and vm.cpu[turn, CPU.busy] != 0:
        vm.ctl[VM.turns_ended] += 1
        u = rng.draw(vm.ctl[VM.seed], STREAM_SPIN, vm.ctl[VM.lane], vm.ctl[VM.turns_ended], 0)
        if rng.below(u, SPIN_ONE_IN) == 0:
            vm.ctl[VM.spin_at] = now + SPIN_AFTER_COPIES * vm.costs[COST.copy_page]
            set_turn_end(vm, now)


@internal
def timer_set(vm, cpu, now, irq_cpu, disk_done):
    """A CPU has set its timer anew: where it is the first of all to go off the turn ends [qemu_timer_notify_cb]."""
    own = vm.cpu[cpu, CPU.next_tick]
    if cpu == irq_cpu:
        own = min(own, disk_done)
    if cpu == vm.ctl[VM.hrtimer_cpu]:
        own = min(own, vm.ctl[VM.hrtimer])
    if own < first_timer(vm, now, cpu, irq_cpu, disk_done):
        request_exits(vm)
        vm.cpu[cpu, CPU.exit_request] = 0
        give_turn(vm, (cpu + 1) % vm.ctl[VM.nr_cpus], now)
    else:
        set_turn_end(vm, now)
