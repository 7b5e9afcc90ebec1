"""Copiers make their directories in one, under its i_mutex [fs/namei.c: sys_mkdirat, lookup_create; kernel/mutex.c]."""

from fastalloc.compiler.jit import kernel
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import ATTEMPT, CPU, PROGRAM, RECLAIM, TASK, TASK_STATE, WAITQ
from fastalloc.kernels.workload.copiers import mkdir_step
from tests.closed_loop import driver as d
from tests.closed_loop.small import metric, run, small


@kernel
def mkdir(mem, heap, vm, out, t, cpu, jiffies):
    """A step of mkdir() by task ``t``, which runs on ``cpu``."""
    return mkdir_step(mem, heap, vm, out, t, cpu, jiffies)


def waiting(machine):
    """Who waits for the mutex, first come first."""
    found, t = [], machine.vm.waitq[TASK_STATE.i_mutex, WAITQ.head]
    while t >= 0:
        found.append(int(t))
        t = machine.vm.task[t, TASK.next]
    return found


def state(machine, t):
    return TASK_STATE.names[machine.vm.task[t, TASK.state]]


def program(machine, t):
    return PROGRAM.names[machine.vm.task[t, TASK.program]]


def on_cpu(machine, t, cpu):
    """Task ``t`` alone on ``cpu``: its next step is its own."""
    if machine.vm.task[t, TASK.state] != TASK_STATE.runnable:
        machine.call(d.run_on, t, cpu, 0)
    assert machine.vm.cpu[cpu, CPU.head] == t


def test_it_is_done_at_once_where_memory_is_left():
    machine = d.Machine()
    on_cpu(machine, 1, 0)
    assert program(machine, 1) == "directory"
    assert machine.call(mkdir, 1, 0, 0) == machine.scenario.costs.create_file
    assert program(machine, 1) == "file"
    assert machine.vm.ctl[VM.i_mutex] == 0
    assert machine.vm.task[1, TASK.path] == -1


def test_who_reclaims_inside_keeps_all_others_that_begin():
    """The others wait in turn; each that is woken takes the mutex, or keeps its turn where another was faster."""
    machine = d.Machine(machine__cpus=4)
    on_cpu(machine, 1, 0)
    machine.vm.task[1, TASK.program] = PROGRAM.parent  # it has its path
    machine.vm.task[1, TASK.path] = machine.call(d.take, d.ROLE.path, 0, d.g.GFP_KERNEL, 0, d.WHO.path)
    others = {t: machine.call(d.take, d.ROLE.path, 0, d.g.GFP_KERNEL, 0, d.WHO.path) for t in (2, 3, 4)}
    machine.exhaust_slots(d.ROLE.dentry)
    marks = machine.mem.zone[:, d.ZONE.min : d.ZONE.high + 1].copy()
    machine.starve()
    machine.call(mkdir, 1, 0, 0)
    assert (program(machine, 1), machine.vm.ctl[VM.i_mutex]) == ("directory_dentry", 1)
    assert machine.vm.task[1, TASK.reclaim] == RECLAIM.priority  # direct reclaim, the mutex held
    for t, path in others.items():
        machine.vm.task[t, TASK.path] = path
        machine.vm.task[t, TASK.program] = PROGRAM.parent
        on_cpu(machine, t, 1)
        assert machine.call(mkdir, t, 1, 0) == machine.scenario.costs.wake
        assert state(machine, t) == "i_mutex"
    assert waiting(machine) == [2, 3, 4]
    assert machine.metric("i_mutex_waits") == 3

    machine.mem.zone[:, d.ZONE.min : d.ZONE.high + 1] = marks
    machine.vm.task[1, [TASK.reclaim, TASK.attempt]] = RECLAIM.out, ATTEMPT.fresh
    assert machine.call(mkdir, 1, 0, 0) == machine.scenario.costs.create_file
    assert machine.vm.ctl[VM.i_mutex] == 0
    assert (state(machine, 2), waiting(machine)) == ("runnable", [3, 4])  # one is woken, in turn

    machine.vm.task[1, TASK.program] = PROGRAM.directory_inode  # one that did not wait takes it and lets it go ...
    machine.vm.task[1, TASK.path] = machine.call(d.take, d.ROLE.path, 0, d.g.GFP_KERNEL, 0, d.WHO.path)
    machine.call(mkdir, 1, 0, 0)
    assert waiting(machine) == [3, 4]  # ... and the first is awake already
    machine.vm.ctl[VM.i_mutex] = 1  # one that did not wait was faster
    assert machine.call(mkdir, 2, 1, 0) == machine.scenario.costs.wake
    assert waiting(machine) == [2, 3, 4]  # and it keeps its turn
    machine.vm.ctl[VM.i_mutex] = 0
    for t in (2, 3, 4):
        on_cpu(machine, t, 1)
        assert machine.call(mkdir, t, 1, 0) == machine.scenario.costs.create_file
        assert program(machine, t) == "file"
        machine.call(d.nap, 1, -1, 0)
    assert waiting(machine) == []


def test_copiers_that_start_late_wait_for_it_and_writers_never():
    pressed = {"machine.min_free_kbytes": 8, "workload.start_spread_ms": 4000, "run.duration_s": 12.0}
    late = [run(small("fix", pressed), lane) for lane in range(12)]
    assert sum(metric(result, "i_mutex_waits") for result in late) > 0
    alone = small("fix", pressed | {"workload.copiers": 0, "workload.writers": 8})
    assert metric(run(alone), "pages_swapped_out") > 0
    assert metric(run(alone), "i_mutex_waits") == 0
