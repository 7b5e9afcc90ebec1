"""What a completion frees, and in which order [iopath.md, section 11]."""

import pytest

from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.state import SLUB_CTL, ZONE
from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import BIO, IO, POOL, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU
from tests.closed_loop import driver as d
from tests.closed_loop.census import in_use


def watch(machine):
    """What a completion changes, as it stands."""
    used = in_use(machine.lane)
    roles = machine.vm.roles
    return {
        "busy": int(machine.io.ctl[IO.device_busy]),
        "sg": int(used[roles[ROLE.sg16]]),
        "bios": int(machine.io.ctl[IO.bios]),
        "writeback": int(machine.vm.ctl[VM.writeback]),
        "biovecs": int(used[roles[ROLE.biovec]]),
        "requests": int(machine.io.ctl[IO.count]),
        "request objects": int(used[roles[ROLE.request]]),
        "commands": int(used[roles[ROLE.command]]),
        "runs queue": int(machine.vm.cpu[0, CPU.request_fn]),
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
    for pool in (POOL.bio, POOL.biovec, POOL.request, POOL.sg[1]):
        machine.pools.pool[pool, MEMPOOL.curr] = 0
    machine.io.ctl[IO.free_list] = 0
    seen = steps(machine, 12 + 4)
    assert "sg" not in seen[0]
    assert ["biovecs" in step for step in seen[1:13]] == [False] * 2 + [True] * 10
    assert "request objects" not in seen[13]
    assert seen[14] == {}  # the command went to the free_list
    assert machine.io.ctl[IO.free_list] == 1
    levels = [int(machine.pools.pool[p, MEMPOOL.curr]) for p in (POOL.bio, POOL.biovec, POOL.request, POOL.sg[1])]
    assert levels == [2, 2, 1, 1]


def test_bios_end_in_the_order_of_their_slots():
    machine = completed(10)
    slots = []
    machine.call(d.softirq, 0)
    for _ in range(10):
        slots.append(int(machine.io.bio[machine.vm.cpu[0, CPU.softirq_bio], BIO.slot]))
        machine.call(d.softirq, 0)
    assert slots == list(range(slots[0], slots[0] + 10))


def test_a_completion_frees_no_page_frame():
    """Frames appear when a reclaimer looks at the page again: the completion only clears its writeback."""
    machine = completed(5)
    free, slab_pages = machine.mem.zone[:, ZONE.free].sum(), machine.heap.ctl[SLUB_CTL.pages]
    steps(machine, 9)
    assert machine.mem.zone[:, ZONE.free].sum() - free <= slab_pages - machine.heap.ctl[SLUB_CTL.pages]


def test_a_completion_clears_the_plug_and_runs_the_queue():
    machine = completed(3)
    machine.submit()
    assert machine.io.ctl[IO.plugged] == 1
    steps(machine, 3 + 4)
    assert machine.io.ctl[IO.plugged] == 0
    assert machine.io.ctl[IO.unplug_jiffy] == ms.NEVER
    machine.call(d.run_queue, 0, d.RUN_SOFTIRQ, 0)
    assert machine.io.ctl[IO.device_busy] == 1


def test_the_freed_sense_buffer_is_the_next_command_s():
    """The CPU that completed has first use of what it just freed; so a merged cache without a slot still goes on."""
    machine = d.Machine()
    machine.submit(pages=3)
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 0)
    machine.submit(pages=3)
    machine.starve()
    machine.exhaust(ROLE.sense)
    machine.pools.pool[POOL.bio, MEMPOOL.curr] = 2
    machine.call(d.finish_disk)
    steps(machine, 3 + 4)
    machine.call(d.run_queue, 0, d.RUN_SOFTIRQ, 0)
    assert machine.metric("sense_fail") == 0
    assert machine.io.ctl[IO.device_busy] == 1
