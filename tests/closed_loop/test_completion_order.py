"""What a completion frees, and in which order [iopath.md, section 11]."""

import pytest

from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.mempool import MP_CURR
from fastalloc.kernels.lane import state as ms
from tests.closed_loop import driver as d
from tests.closed_loop.census import in_use


def watch(machine):
    """What a completion changes, as it stands."""
    used = in_use(machine.lane)
    roles = machine.vm.roles
    return {
        "busy": int(machine.io.ctl[ms.H_BUSY]),
        "sg": int(used[roles[ms.ROLE_SG16]]),
        "bios": int(machine.io.ctl[ms.H_BIOS]),
        "writeback": int(machine.vm.ctl[ms.V_WRITEBACK]),
        "biovecs": int(used[roles[ms.ROLE_BIOVEC]]),
        "requests": int(machine.io.ctl[ms.Q_COUNT]),
        "request objects": int(used[roles[ms.ROLE_REQUEST]]),
        "commands": int(used[roles[ms.ROLE_COMMAND]]),
        "runs queue": int(machine.vm.cpu[0, ms.CPU_REQUEST_FN]),
    }


def changes(before, after):
    return {name: after[name] - before[name] for name in before if after[name] != before[name]}


def completed(pages, **settings):
    """A lane whose command of some pages has just been finished by the disk, seen step by step."""
    machine = d.Machine("nomerge", **settings)
    machine.submit(pages)
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 0)
    machine.call(d.finish_disk)
    return machine


def steps(machine, count):
    before = watch(machine)
    seen = []
    for _ in range(count):
        machine.call(d.softirq, 0)
        after = watch(machine)
        seen.append(changes(before, after))
        before = after
    return seen


@pytest.mark.parametrize("pages", [9, 12, 16])
def test_the_order(pages):
    """Device free and sg table; each bio with its biovec and its page's writeback; request; command; queue run."""
    machine = completed(pages)
    seen = steps(machine, pages + 4)
    assert seen[0] == {"busy": -1, "sg": -1}
    for step in seen[1 : 1 + pages]:
        assert step == {"bios": -1, "writeback": -1, "biovecs": -1}
    assert seen[1 + pages] == {"requests": -1, "request objects": -1}
    assert seen[2 + pages] == {"commands": -1}
    assert seen[3 + pages] == {"runs queue": 1 + d.RUN_SOFTIRQ}


def test_every_reserve_is_refilled_before_its_slab():
    machine = completed(12)
    for pool in (ms.POOL_BIO, ms.POOL_BIOVEC, ms.POOL_REQUEST, ms.POOL_SG + 1):
        machine.pools.pool[pool, MP_CURR] = 0
    machine.io.ctl[ms.H_FREE_LIST] = 0
    seen = steps(machine, 12 + 4)
    assert "sg" not in seen[0]
    assert ["biovecs" in step for step in seen[1:13]] == [False] * 2 + [True] * 10
    assert "request objects" not in seen[13]
    assert seen[14] == {}  # the command went to the free_list
    assert machine.io.ctl[ms.H_FREE_LIST] == 1
    levels = [
        int(machine.pools.pool[p, MP_CURR]) for p in (ms.POOL_BIO, ms.POOL_BIOVEC, ms.POOL_REQUEST, ms.POOL_SG + 1)
    ]
    assert levels == [2, 2, 1, 1]


def test_bios_end_in_the_order_of_their_slots():
    machine = completed(10)
    slots = []
    machine.call(d.softirq, 0)
    for _ in range(10):
        slots.append(int(machine.io.bio[machine.vm.cpu[0, ms.CPU_SOFTIRQ_BIO], ms.B_SLOT]))
        machine.call(d.softirq, 0)
    assert slots == list(range(slots[0], slots[0] + 10))


def test_a_completion_frees_no_page_frame():
    """Frames appear when a reclaimer looks at the page again: the completion only clears its writeback."""
    machine = completed(5)
    free, slab_pages = machine.mem.zone[:, st.Z_FREE].sum(), machine.heap.ctl[st.U_PAGES]
    steps(machine, 9)
    assert machine.mem.zone[:, st.Z_FREE].sum() - free <= slab_pages - machine.heap.ctl[st.U_PAGES]


def test_a_completion_clears_the_plug_and_runs_the_queue():
    machine = completed(3)
    machine.submit()
    assert machine.io.ctl[ms.Q_PLUGGED] == 1
    steps(machine, 3 + 4)
    assert machine.io.ctl[ms.Q_PLUGGED] == 0
    assert machine.io.ctl[ms.Q_UNPLUG_JIFFY] == ms.NEVER
    machine.call(d.run_queue, 0, d.RUN_SOFTIRQ, 0)
    assert machine.io.ctl[ms.H_BUSY] == 1


def test_the_freed_sense_buffer_is_the_next_command_s():
    """The CPU that completed has first use of what it just freed; so a merged cache without a slot still goes on."""
    machine = d.Machine()
    machine.submit(pages=3)
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 0)
    machine.submit(pages=3)
    machine.starve()
    machine.exhaust(ms.ROLE_SENSE)
    machine.pools.pool[ms.POOL_BIO, MP_CURR] = 2
    machine.call(d.finish_disk)
    steps(machine, 3 + 4)
    machine.call(d.run_queue, 0, d.RUN_SOFTIRQ, 0)
    assert machine.metric("sense_fail") == 0
    assert machine.io.ctl[ms.H_BUSY] == 1
