"""Command allocation: the decision table of rc8 and of the fix, sg tables, refusals [iopath.md, sections 9 and 10]."""

import math

import pytest

from fastalloc.batch.lane import POOL_ROLES
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.state import DEPTH, MEMCTL, SLUB_SLAB
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.policy import POLICY
from fastalloc.kernels.lane.state import COMMAND, IO, POOL, REQUEST, ROLE
from fastalloc.linux import gfp as g
from tests.closed_loop import driver as d
from tests.closed_loop.census import in_use

COUNTERS = ("cmd_fail", "sense_fail", "free_list_used", "free_list_empty")
FROM_SLAB, FROM_FREE_LIST, REFUSED = "slab", "free_list", "refused"

# rule, command object to be had, sense buffer to be had, free_list full: outcome and what is counted
TABLE = [
    ("rc8", True, True, True, FROM_SLAB, ()),
    ("rc8", True, True, False, FROM_SLAB, ()),
    ("rc8", True, False, True, REFUSED, ("sense_fail",)),  # the bug: the free_list is not looked at
    ("rc8", True, False, False, REFUSED, ("sense_fail",)),
    ("rc8", False, True, True, FROM_FREE_LIST, ("cmd_fail", "free_list_used")),
    ("rc8", False, True, False, REFUSED, ("cmd_fail", "free_list_empty")),
    ("rc8", False, False, True, FROM_FREE_LIST, ("cmd_fail", "free_list_used")),
    ("rc8", False, False, False, REFUSED, ("cmd_fail", "free_list_empty")),
    ("fix", True, True, True, FROM_SLAB, ()),
    ("fix", True, True, False, FROM_SLAB, ()),
    ("fix", True, False, True, FROM_FREE_LIST, ("sense_fail", "free_list_used")),
    ("fix", True, False, False, REFUSED, ("sense_fail", "free_list_empty")),
    ("fix", False, True, True, FROM_FREE_LIST, ("cmd_fail", "free_list_used")),
    ("fix", False, True, False, REFUSED, ("cmd_fail", "free_list_empty")),
    ("fix", False, False, True, FROM_FREE_LIST, ("cmd_fail", "free_list_used")),
    ("fix", False, False, False, REFUSED, ("cmd_fail", "free_list_empty")),
]


def prepared(rule, command, sense, full):
    """A machine on which just these allocations succeed on CPU 0; what it had on the free_list."""
    machine = d.Machine("rc8", policy__command_rule=rule, host__queue_depth=4, host__can_queue=4)
    held = None
    if not full:
        machine.io.ctl[IO.free_list] = 0
    else:
        held = tuple(machine.io.free_list[0].tolist())
    machine.starve()
    for role, wanted in ((ROLE.command, command), (ROLE.sense, sense)):
        if not wanted:
            assert machine.exhaust(role) > 0
    return machine, held


@pytest.mark.parametrize("runner", [d.RUN_KBLOCKD, d.RUN_SOFTIRQ])
@pytest.mark.parametrize(("rule", "command", "sense", "full", "outcome", "counted"), TABLE)
def test_the_decision_table(rule, command, sense, full, outcome, counted, runner):
    machine, held = prepared(rule, command, sense, full)
    before = in_use(machine.lane)
    result = machine.call(d.get_command, 0, runner)
    assert {name: machine.metric(name) for name in COUNTERS} == {name: int(name in counted) for name in COUNTERS}
    taken = int((in_use(machine.lane) - before).sum())
    if outcome == REFUSED:
        assert result < 0
        assert taken == 0  # a command without a sense buffer is freed again
        assert machine.io.ctl[IO.free_list] == full
        return
    record = machine.io.command[result]
    assert record[COMMAND.source] == (outcome == FROM_FREE_LIST)
    assert record[COMMAND.command] >= 0
    assert record[COMMAND.sense] >= 0
    if outcome == FROM_FREE_LIST:
        assert taken == 0
        assert (record[COMMAND.command], record[COMMAND.sense]) == held
        assert machine.io.ctl[IO.free_list] == 0
    else:
        assert taken == 2
        assert machine.io.ctl[IO.free_list] == full


@pytest.mark.parametrize("rule", ["rc8", "fix"])
def test_a_reclaimer_that_runs_the_queue_has_the_last_page(rule):
    """PF_MEMALLOC in process context: no watermark. Softirq and kblockd stop at 3/8 min."""
    machine, _ = prepared(rule, True, False, True)
    for runner in (d.RUN_KBLOCKD, d.RUN_SOFTIRQ):
        machine.io.ctl[IO.free_list] = 0
        assert machine.call(d.get_command, 0, runner) < 0
    assert machine.io.command[machine.call(d.get_command, 0, d.RUN_RECLAIMER), COMMAND.source] == 0
    assert machine.mem.ctl[MEMCTL.depth] == DEPTH.none


def test_kblockd_in_pf_memalloc_has_it_too():
    machine, _ = prepared("rc8", True, False, True)
    machine.io.ctl[POLICY.kblockd_memalloc] = 1
    assert machine.call(d.get_command, 0, d.RUN_SOFTIRQ) < 0
    assert machine.call(d.get_command, 0, d.RUN_KBLOCKD) >= 0


@pytest.mark.parametrize("free_list", [1, 3])
def test_a_command_goes_back_to_the_free_list_first(free_list):
    """Whatever it came from; only with the free_list full do sense and command go to their slabs."""
    machine = d.Machine("fix", host__queue_depth=8, host__can_queue=8, host__free_list=free_list)
    taken = [machine.call(d.get_command, 0, d.RUN_KBLOCKD) for _ in range(2)]
    machine.starve()
    machine.exhaust(ROLE.sense)
    taken += [machine.call(d.get_command, 0, d.RUN_KBLOCKD) for _ in range(free_list)]
    assert machine.io.ctl[IO.free_list] == 0
    before = in_use(machine.lane).sum()
    for n, record in enumerate(taken):
        machine.call(d.put_command, 0, record)
        assert machine.io.ctl[IO.free_list] == min(free_list, n + 1)
        assert before - in_use(machine.lane).sum() == 2 * max(0, n + 1 - free_list)


def test_the_sg_pool_follows_the_segments():
    """Pool 0 for 8 segments or fewer, else ceil(log2 n) - 3."""
    for segments in range(1, 129):
        expected = 0 if segments <= 8 else math.ceil(math.log2(segments)) - 3
        assert d.pool_of(segments) == POOL.sg[expected]


@pytest.mark.parametrize("pages", [1, 8, 9, 16, 17, 32, 33, 64, 65, 128])
def test_a_command_has_the_sg_table_of_its_segments(pages):
    machine = d.Machine()
    machine.submit(pages)
    before = in_use(machine.lane)
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 0)
    record = machine.io.command[machine.io.ctl[IO.disk_head]]
    pool = d.pool_of(pages)
    assert record[COMMAND.sg_pool] == pool
    cache = machine.heap.slab[record[COMMAND.sg] >> st.HANDLE_SHIFT, SLUB_SLAB.cache]
    assert cache == machine.vm.roles[POOL_ROLES[pool]]
    assert (in_use(machine.lane) - before).sum() == 3  # command, sense buffer, sg table


def test_without_an_sg_table_the_command_goes_back():
    """The pool of 2 first; then DEFER, the command back on the free_list or in its slabs."""
    machine = d.Machine(host__queue_depth=4, host__can_queue=4)
    for _ in range(4):
        machine.submit(pages=100)
    machine.starve()
    # without sg slabs; commands and senses are still to be had
    machine.exhaust(ROLE.sg128)
    printed = int(machine.mem.ctl[MEMCTL.reports] + machine.mem.ctl[MEMCTL.suppressed])
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 0)
    assert machine.io.ctl[IO.device_busy] == 2
    assert machine.pools.pool[POOL.sg[4], MEMPOOL.curr] == 0
    assert machine.metric("sg_fail") == 1
    assert machine.io.ctl[IO.free_list] == 1
    head = machine.io.request[machine.io.ctl[IO.dispatch_head]]
    assert head[REQUEST.started] == 1
    assert head[REQUEST.command] == -1
    assert machine.io.ctl[IO.plugged] == 0  # two in flight: their completion tries again
    # mempool adds NOWARN: an sg failure is silent
    assert machine.mem.ctl[MEMCTL.reports] + machine.mem.ctl[MEMCTL.suppressed] == printed


def refused(machine, role=ROLE.sense):
    machine.starve()
    machine.exhaust(role)
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 10)


def test_a_refusal_with_nothing_in_flight_plugs_the_queue():
    machine = d.Machine(machine__hz=1000)
    machine.submit()
    refused(machine)
    assert machine.metric("sense_fail") == 1
    assert machine.io.ctl[IO.plugged] == 1
    assert machine.io.ctl[IO.unplug_jiffy] == 13


def test_a_refusal_with_a_command_in_flight_arms_nothing():
    machine = d.Machine(host__queue_depth=4, host__can_queue=4)
    machine.submit()
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 0)
    assert machine.io.ctl[IO.device_busy] == 1
    machine.submit()
    refused(machine)
    assert machine.metric("sense_fail") == 1
    assert machine.io.ctl[IO.plugged] == 0
    assert machine.io.ctl[IO.unplug_jiffy] == ms.NEVER


def test_a_full_device_prepares_the_next_and_stops():
    """The next request is prepared while the one before is in flight, and keeps its command."""
    machine = d.Machine()
    for _ in range(3):
        machine.submit()
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 0)
    assert machine.io.ctl[IO.device_busy] == 1
    head = machine.io.request[machine.io.ctl[IO.dispatch_head]]
    command = int(head[REQUEST.command])
    assert command >= 0
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 1)
    assert head[REQUEST.command] == command
    assert machine.metric("commands") == 1


def test_failures_of_sense_and_command_are_reported():
    """GFP_ATOMIC without NOWARN: each failure is printed or counted as suppressed."""
    machine = d.Machine()
    machine.starve()
    for role in (ROLE.sense, ROLE.command):
        machine.exhaust(role)
        before = int(machine.mem.ctl[MEMCTL.reports] + machine.mem.ctl[MEMCTL.suppressed])
        machine.call(d.take, role, 0, g.GFP_ATOMIC, 0, WHO.sense)
        assert machine.mem.ctl[MEMCTL.reports] + machine.mem.ctl[MEMCTL.suppressed] == before + 1
