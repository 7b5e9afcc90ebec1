"""swap_lock where CPUs take turns on one core: a turn that ends inside it [include/asm-x86/spinlock.h of 2.6.25].

The lock hands out tickets, first come, first served. A CPU whose turn ends inside it has it still; another that asks
spins, which gives its own turn up. The first gives it back, goes on, and stands behind the second when it asks again:
so both go on by turns, one lock a turn, until a turn ends outside.
"""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import CPU


@folded
def spin_unlock(vm):
    """It goes to whoever has waited longest, whether he runs or not."""
    first = -1
    for cpu in range(vm.ctl[VM.nr_cpus]):
        ticket = vm.cpu[cpu, CPU.ticket]
        if ticket != 0 and (first < 0 or ticket < vm.cpu[first, CPU.ticket]):
            first = cpu
    vm.ctl[VM.swap_lock] = 1 + first


@folded
def spin_lock(vm, cpu):
    """Ask for it; False: another CPU has it, and ``cpu`` spins."""
    holder = vm.ctl[VM.swap_lock]
    if holder == 0 or holder == 1 + cpu:
        vm.cpu[cpu, CPU.ticket] = 0
        return True
    if vm.cpu[cpu, CPU.ticket] == 0:
        vm.ctl[VM.tickets] += 1
        vm.cpu[cpu, CPU.ticket] = vm.ctl[VM.tickets]
    return False


@folded
def spins(vm, cpu):
    """Whether ``cpu`` waits for it."""
    return vm.cpu[cpu, CPU.ticket] != 0 and vm.ctl[VM.swap_lock] != 1 + cpu


@folded
def held_at_turn_end(vm, cpu, taken, held, turn_end):
    """``cpu`` took it at ``taken`` for ``held`` ns: whether its turn ended before it gave it back, so that it has it
    still; else it goes to the next."""
    if taken <= turn_end < taken + held:
        vm.ctl[VM.swap_lock] = 1 + cpu
        return True
    if vm.ctl[VM.swap_lock] == 1 + cpu:
        spin_unlock(vm)
    return False
