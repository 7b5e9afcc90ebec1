"""Further SCSI hosts: commands that others issue there, with command and sense caches of their driver's pool.

The hosts share memory and caches with the one that swaps, and nothing else: neither queue nor disk. A command arrives
as a Poisson process, in no interrupt and with GFP_ATOMIC as from a request function, holds its command and its sense
buffer for a fixed time and is over. What cannot be had is not tried again: refused commands are counted instead.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.lane import metrics, rng
from fastalloc.kernels.lane import state as ms
from fastalloc.linux import gfp as g

HOST_COMMANDS = metrics.METRICS.index("host_commands")
HOST_SENSE_FAIL = metrics.METRICS.index("host_sense_fail")
HOST_REFUSED = metrics.METRICS.index("host_refused")

STREAM_HOST_START = 13
STREAM_HOST_ARRIVAL = 14
STREAM_HOST_CPU = 15

# command[h, i, .]: a ring of those in flight, then the one set aside
X_COMMAND = 0
X_SENSE = 1
X_UNTIL = 2
X_CPU = 3
X_SET_ASIDE = 4  # 1: came from the free_list


@folded
def note_hosts(vm):
    """Bring V_NEXT_HOST up to date: the next arrival or end at any host."""
    due = ms.NEVER
    for h in range(vm.host.shape[0]):
        host = vm.host[h]
        due = min(due, host[ms.F_NEXT])
        if host[ms.F_COUNT] > 0:
            due = min(due, vm.host_command[h, host[ms.F_HEAD], X_UNTIL])
    vm.ctl[ms.V_NEXT_HOST] = due


@internal
def boot_hosts(mem, heap, io, vm, out):
    """A command set aside for each host, and its first arrival."""
    aside = vm.host_command.shape[1] - 1
    for h in range(vm.host.shape[0]):
        host = vm.host[h]
        c = vm.roles[ms.ROLE_COMMAND]
        vm.host_command[h, aside, X_COMMAND] = slab_take(mem, heap, out, c, 0, g.GFP_KERNEL, 0, metrics.W_BOOT)
        vm.host_command[h, aside, X_SENSE] = st.NO_OBJECT
        if io.ctl[ms.H_SENSE] == ms.SENSE_SEPARATE:
            sense = slab_take(mem, heap, out, host[ms.F_SENSE], 0, g.GFP_KERNEL, 0, metrics.W_BOOT)
            vm.host_command[h, aside, X_SENSE] = sense
        host[ms.F_ASIDE] = 1
        u = rng.draw(vm.ctl[ms.V_SEED], STREAM_HOST_START, vm.ctl[ms.V_LANE], h, 0)
        host[ms.F_NEXT] = rng.exponential_ns(u, host[ms.F_MEAN_NS])
    note_hosts(vm)


@internal
def host_command_starts(mem, heap, io, vm, out, h, cpu, slot):
    """Command and sense buffer by the machine's command rule, into ``slot`` of the ring; whether they were had."""
    host = vm.host[h]
    record = vm.host_command[h, slot]
    command = slab_take(mem, heap, out, vm.roles[ms.ROLE_COMMAND], cpu, g.GFP_ATOMIC, 0, metrics.W_COMMAND)
    sense = st.NO_OBJECT
    if command >= 0 and io.ctl[ms.H_SENSE] == ms.SENSE_SEPARATE:
        sense = slab_take(mem, heap, out, host[ms.F_SENSE], cpu, g.GFP_ATOMIC, 0, metrics.W_SENSE)
        if sense < 0:
            out.metric[HOST_SENSE_FAIL] += 1
            slab_give(mem, heap, vm.roles[ms.ROLE_COMMAND], cpu, command)
            command = st.NO_OBJECT
            if io.ctl[ms.H_RULE] == ms.RULE_RC8:
                return False
    record[X_SET_ASIDE] = 0
    if command < 0:
        if host[ms.F_ASIDE] == 0:
            return False
        host[ms.F_ASIDE] = 0
        aside = vm.host_command.shape[1] - 1
        command = vm.host_command[h, aside, X_COMMAND]
        sense = vm.host_command[h, aside, X_SENSE]
        record[X_SET_ASIDE] = 1
    record[X_COMMAND] = command
    record[X_SENSE] = sense
    return True


@folded
def host_command_arrives(mem, heap, io, vm, out, h):
    """One arrival at host ``h``, and the next one drawn; a host that is full drops it."""
    host = vm.host[h]
    when = host[ms.F_NEXT]
    seed, lane = vm.ctl[ms.V_SEED], vm.ctl[ms.V_LANE]
    cpu = rng.below(rng.draw(seed, STREAM_HOST_CPU, lane, when, h), vm.ctl[ms.V_NR_CPUS])
    gap = rng.exponential_ns(rng.draw(seed, STREAM_HOST_ARRIVAL, lane, when, h), host[ms.F_MEAN_NS])
    host[ms.F_NEXT] = when + max(1, gap)
    depth = vm.host_command.shape[1] - 1
    if host[ms.F_COUNT] == depth:
        return
    out.metric[HOST_COMMANDS] += 1
    if io.ctl[ms.H_RULE] == ms.RULE_PREALLOC:
        return
    slot = (host[ms.F_HEAD] + host[ms.F_COUNT]) % depth
    if not host_command_starts(mem, heap, io, vm, out, h, cpu, slot):
        out.metric[HOST_REFUSED] += 1
        return
    vm.host_command[h, slot, X_UNTIL] = when + host[ms.F_LIFE_NS]
    vm.host_command[h, slot, X_CPU] = cpu
    host[ms.F_COUNT] += 1


@folded
def host_command_ends(mem, heap, vm, h):
    """The oldest command of host ``h`` is over: the free_list first, else the slabs [__scsi_put_command]."""
    host = vm.host[h]
    depth = vm.host_command.shape[1] - 1
    record = vm.host_command[h, host[ms.F_HEAD]]
    host[ms.F_HEAD] = (host[ms.F_HEAD] + 1) % depth
    host[ms.F_COUNT] -= 1
    if host[ms.F_ASIDE] == 0:
        vm.host_command[h, depth, X_COMMAND] = record[X_COMMAND]
        vm.host_command[h, depth, X_SENSE] = record[X_SENSE]
        host[ms.F_ASIDE] = 1
        return
    if record[X_SENSE] >= 0:
        slab_give(mem, heap, host[ms.F_SENSE], record[X_CPU], record[X_SENSE])
    slab_give(mem, heap, vm.roles[ms.ROLE_COMMAND], record[X_CPU], record[X_COMMAND])


@internal
def host_event(mem, heap, io, vm, out, now):
    """Whatever is due at the hosts now, one event of each; an end goes before an arrival."""
    for h in range(vm.host.shape[0]):
        host = vm.host[h]
        if host[ms.F_COUNT] > 0 and vm.host_command[h, host[ms.F_HEAD], X_UNTIL] <= now:
            host_command_ends(mem, heap, vm, h)
        elif host[ms.F_NEXT] <= now:
            host_command_arrives(mem, heap, io, vm, out, h)
    note_hosts(vm)
