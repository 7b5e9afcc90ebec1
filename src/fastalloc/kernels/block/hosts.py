"""Further SCSI hosts: commands that others issue there, with command and sense caches of their driver's pool.

The hosts share memory and caches with the one that swaps, and nothing else: neither queue nor disk. A command arrives
as a Poisson process, in no interrupt and with GFP_ATOMIC as from a request function, holds its command and its sense
buffer for a fixed time and is over. What cannot be had is not tried again: refused commands are counted instead.
"""

from fastalloc.compiler.jit import folded, internal
from fastalloc.compiler.records import Record, field
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.slab_owner import slab_give, slab_take
from fastalloc.kernels.lane import rng
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import METRIC, WHO
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.state import HOST, ROLE, VM
from fastalloc.linux import gfp as g

STREAM_HOST_START = 13
STREAM_HOST_ARRIVAL = 14
STREAM_HOST_CPU = 15


# command[h, i, .]: a ring of those in flight, then the one set aside
class HOST_COMMAND(Record):
    """Columns."""

    command = field("handle of the command")
    sense = field("handle of its sense buffer")
    until = field("when it ends", "ns")
    cpu = field("CPU that frees both")
    set_aside = field("1: came from the free_list")


@folded
def note_hosts(vm):
    """Bring VM.next_host up to date: the next arrival or end at any host."""
    due = ms.NEVER
    for h in range(vm.host.shape[0]):
        host = vm.host[h]
        due = min(due, host[HOST.next])
        if host[HOST.count] > 0:
            due = min(due, vm.host_command[h, host[HOST.head], HOST_COMMAND.until])
    vm.ctl[VM.next_host] = due


@internal
def boot_hosts(mem, heap, io, vm, out):
    """A command set aside for each host, and its first arrival."""
    aside = vm.host_command.shape[1] - 1
    for h in range(vm.host.shape[0]):
        host = vm.host[h]
        c = vm.roles[ROLE.command]
        vm.host_command[h, aside, HOST_COMMAND.command] = slab_take(mem, heap, out, c, 0, g.GFP_KERNEL, 0, WHO.boot)
        vm.host_command[h, aside, HOST_COMMAND.sense] = st.NO_OBJECT
        if io.ctl[POLICY.sense] == ms.SENSE_SEPARATE:
            sense = slab_take(mem, heap, out, host[HOST.sense], 0, g.GFP_KERNEL, 0, WHO.boot)
            vm.host_command[h, aside, HOST_COMMAND.sense] = sense
        host[HOST.aside] = 1
        u = rng.draw(vm.ctl[VM.seed], STREAM_HOST_START, vm.ctl[VM.lane], h, 0)
        host[HOST.next] = rng.exponential_ns(u, host[HOST.mean_ns])
    note_hosts(vm)


@internal
def host_command_starts(mem, heap, io, vm, out, h, cpu, slot):
    """Command and sense buffer by the machine's command rule, into ``slot`` of the ring; whether they were had."""
    host = vm.host[h]
    record = vm.host_command[h, slot]
    command = slab_take(mem, heap, out, vm.roles[ROLE.command], cpu, g.GFP_ATOMIC, 0, WHO.command)
    sense = st.NO_OBJECT
    if command >= 0 and io.ctl[POLICY.sense] == ms.SENSE_SEPARATE:
        sense = slab_take(mem, heap, out, host[HOST.sense], cpu, g.GFP_ATOMIC, 0, WHO.sense)
        if sense < 0:
            out.metric[METRIC.host_sense_fail] += 1
            slab_give(mem, heap, vm.roles[ROLE.command], cpu, command)
            command = st.NO_OBJECT
            if io.ctl[POLICY.command_rule] == ms.RULE_RC8:
                return False
    record[HOST_COMMAND.set_aside] = 0
    if command < 0:
        if host[HOST.aside] == 0:
            return False
        host[HOST.aside] = 0
        aside = vm.host_command.shape[1] - 1
        command = vm.host_command[h, aside, HOST_COMMAND.command]
        sense = vm.host_command[h, aside, HOST_COMMAND.sense]
        record[HOST_COMMAND.set_aside] = 1
    record[HOST_COMMAND.command] = command
    record[HOST_COMMAND.sense] = sense
    return True


@folded
def host_command_arrives(mem, heap, io, vm, out, h):
    """One arrival at host ``h``, and the next one drawn; a host that is full drops it."""
    host = vm.host[h]
    when = host[HOST.next]
    seed, lane = vm.ctl[VM.seed], vm.ctl[VM.lane]
    cpu = rng.below(rng.draw(seed, STREAM_HOST_CPU, lane, when, h), vm.ctl[VM.nr_cpus])
    gap = rng.exponential_ns(rng.draw(seed, STREAM_HOST_ARRIVAL, lane, when, h), host[HOST.mean_ns])
    host[HOST.next] = when + max(1, gap)
    depth = vm.host_command.shape[1] - 1
    if host[HOST.count] == depth:
        return
    out.metric[METRIC.host_commands] += 1
    if io.ctl[POLICY.command_rule] == ms.RULE_PREALLOC:
        return
    slot = (host[HOST.head] + host[HOST.count]) % depth
    if not host_command_starts(mem, heap, io, vm, out, h, cpu, slot):
        out.metric[METRIC.host_refused] += 1
        return
    vm.host_command[h, slot, HOST_COMMAND.until] = when + host[HOST.life_ns]
    vm.host_command[h, slot, HOST_COMMAND.cpu] = cpu
    host[HOST.count] += 1


@folded
def host_command_ends(mem, heap, vm, h):
    """The oldest command of host ``h`` is over: the free_list first, else the slabs [__scsi_put_command]."""
    host = vm.host[h]
    depth = vm.host_command.shape[1] - 1
    record = vm.host_command[h, host[HOST.head]]
    host[HOST.head] = (host[HOST.head] + 1) % depth
    host[HOST.count] -= 1
    if host[HOST.aside] == 0:
        vm.host_command[h, depth, HOST_COMMAND.command] = record[HOST_COMMAND.command]
        vm.host_command[h, depth, HOST_COMMAND.sense] = record[HOST_COMMAND.sense]
        host[HOST.aside] = 1
        return
    if record[HOST_COMMAND.sense] >= 0:
        slab_give(mem, heap, host[HOST.sense], record[HOST_COMMAND.cpu], record[HOST_COMMAND.sense])
    slab_give(mem, heap, vm.roles[ROLE.command], record[HOST_COMMAND.cpu], record[HOST_COMMAND.command])


@internal
def host_event(mem, heap, io, vm, out, now):
    """Whatever is due at the hosts now, one event of each; an end goes before an arrival."""
    for h in range(vm.host.shape[0]):
        host = vm.host[h]
        if host[HOST.count] > 0 and vm.host_command[h, host[HOST.head], HOST_COMMAND.until] <= now:
            host_command_ends(mem, heap, vm, h)
        elif host[HOST.next] <= now:
            host_command_arrives(mem, heap, io, vm, out, h)
    note_hosts(vm)
