"""The request queue's marks, batching, plugging and waking [iopath.md, sections 7 and 8]."""

import pytest

from fastalloc.kernels.lane import state as ms
from fastalloc.kernels.lane.state import BIO, IO, REQUEST, ROLE, VM
from fastalloc.kernels.lane.tasks import CPU, TASK, TASK_STATE
from tests.closed_loop import driver as d


def charged(machine):
    return int(machine.io.ctl[IO.count])


def fill(machine, count, task=1):
    while charged(machine) < count:
        assert machine.call(d.charge, task, machine.jiffies)


def test_congestion_begins_at_113_of_128():
    machine = d.Machine()
    fill(machine, 112)
    assert machine.io.ctl[IO.congested] == 0
    fill(machine, 113)
    assert machine.io.ctl[IO.congested] == 1


def test_congestion_ends_below_103_and_wakes_every_congestion_wait():
    machine = d.Machine()
    fill(machine, 120)
    vm = machine.vm
    for task in (1, 2, 3):
        machine.call(d.run_on, task, 0, 0)
        machine.call(d.nap, 0, 25, 0)
    assert vm.ctl[VM.sleepers[TASK_STATE.congestion]] == 3
    while charged(machine) > 103:
        machine.call(d.uncharge, 0)
    assert machine.io.ctl[IO.congested] == 1
    assert vm.ctl[VM.sleepers[TASK_STATE.congestion]] == 3
    machine.call(d.uncharge, 0)
    assert charged(machine) == 102
    assert machine.io.ctl[IO.congested] == 0
    assert vm.ctl[VM.sleepers[TASK_STATE.congestion]] == 0


def test_below_the_mark_every_released_request_ends_the_naps():
    """clear_bdi_congested wakes without asking whether the queue was congested: "or a write is completed"."""
    machine = d.Machine()
    fill(machine, 5)
    machine.call(d.run_on, 1, 0, 0)
    machine.call(d.nap, 0, 25, 0)
    assert machine.io.ctl[IO.congested] == 0
    machine.call(d.uncharge, 0)
    assert machine.vm.ctl[VM.sleepers[TASK_STATE.congestion]] == 0


@pytest.mark.parametrize("limit", [128, 64, 16, 1024])
def test_marks_follow_nr_requests(limit):
    """On at n - n/8 + 1, off below n - n/8 - n/16 - 1, never more than 3n/2."""
    machine = d.Machine(queue__nr_requests=limit)
    fill(machine, limit - limit // 8)
    assert machine.io.ctl[IO.congested] == 0
    fill(machine, limit - limit // 8 + 1)
    assert machine.io.ctl[IO.congested] == 1
    off = limit - limit // 8 - limit // 16 - 1
    while charged(machine) > off:
        machine.call(d.uncharge, 0)
    assert machine.io.ctl[IO.congested] == 1
    machine.call(d.uncharge, 0)
    assert machine.io.ctl[IO.congested] == 0


def test_full_at_128_makes_a_batcher_of_the_first_and_refuses_others():
    machine = d.Machine()
    fill(machine, 127, task=1)
    assert machine.io.ctl[IO.full] == 0
    assert machine.call(d.charge, 2, 0)  # the 128th: full, task 2 is the batcher
    assert machine.io.ctl[IO.full] == 1
    assert not machine.call(d.charge, 1, 0)
    assert not machine.call(d.charge, 3, 0)
    assert machine.call(d.charge, 2, 0)
    assert charged(machine) == 129


def test_a_batcher_has_32_requests():
    machine = d.Machine()
    fill(machine, 127, task=1)
    granted = 0
    while machine.call(d.charge, 2, 0):
        granted += 1
    assert granted == 32
    assert charged(machine) == 127 + 32


@pytest.mark.parametrize(("hz", "jiffies"), [(250, 5), (1000, 20), (100, 2)])
def test_a_batcher_has_20_ms(hz, jiffies):
    machine = d.Machine(machine__hz=hz)
    fill(machine, 127, task=1)
    assert machine.call(d.charge, 2, 100)
    assert machine.call(d.charge, 2, 100 + jiffies - 1)
    assert not machine.call(d.charge, 2, 100 + jiffies)


def test_a_woken_waiter_is_a_batcher_again():
    machine = d.Machine()
    fill(machine, 127, task=1)
    while machine.call(d.charge, 2, 0):
        pass
    machine.call(d.make_batcher, 2, 50)
    assert machine.call(d.charge, 2, 50)


def test_nobody_passes_192():
    machine = d.Machine()
    fill(machine, 127, task=1)
    for task in range(1, 13):
        machine.call(d.make_batcher, task, 0)
        while machine.call(d.charge, task, 0):
            pass
    assert charged(machine) == 192


def test_a_released_request_wakes_one_waiter_in_order_and_not_above_128():
    machine = d.Machine()
    fill(machine, 127, task=1)
    while machine.call(d.charge, 2, 0):
        pass
    for task in (5, 3, 4):
        machine.call(d.run_on, task, 0, 0)
        machine.call(d.wait_for_request, 0, 0)
    sleepers = VM.sleepers[TASK_STATE.request]
    while charged(machine) > 128:
        machine.call(d.uncharge, 0)
        assert machine.vm.ctl[sleepers] == 3
        assert machine.io.ctl[IO.full] == 1
    for left, task in ((2, 5), (1, 3), (0, 4)):
        machine.call(d.uncharge, 0)  # count + 1 <= 128
        assert machine.vm.ctl[sleepers] == left
        assert machine.vm.task[task, TASK.state] == TASK_STATE.runnable
        assert machine.io.ctl[IO.full] == 0


@pytest.mark.parametrize(("hz", "jiffies"), [(250, 1), (1000, 3), (100, 1), (300, 1)])
def test_the_unplug_timer_runs_3_ms_rounded_down_to_jiffies_one_at_least(hz, jiffies):
    machine = d.Machine(machine__hz=hz)
    machine.call(d.plug, 1, 77)
    assert machine.io.ctl[IO.plugged] == 1
    assert machine.io.ctl[IO.unplug_jiffy] == 77 + jiffies
    assert machine.io.ctl[IO.unplug_cpu] == 1


def test_a_plugged_queue_is_not_armed_again():
    machine = d.Machine(machine__hz=1000)
    machine.call(d.plug, 1, 77)
    machine.call(d.plug, 0, 79)
    assert machine.io.ctl[IO.unplug_jiffy] == 80
    assert machine.io.ctl[IO.unplug_cpu] == 1


def test_the_timer_hands_the_queue_to_kblockd_of_its_cpu():
    machine = d.Machine(machine__hz=1000)
    machine.submit(cpu=1)
    machine.call(d.timer_tick, 2, 2_000_000)
    assert machine.vm.cpu[:, CPU.kblockd].tolist() == [0, 0]
    machine.call(d.timer_tick, 3, 3_000_000)
    assert machine.vm.cpu[:, CPU.kblockd].tolist() == [0, 1]
    assert machine.io.ctl[IO.plugged] == 1  # until kblockd runs
    machine.call(d.kblockd, 1)
    assert machine.io.ctl[IO.plugged] == 0
    assert machine.vm.cpu[1, CPU.request_fn] == 1 + d.RUN_KBLOCKD


@pytest.mark.parametrize("thresh", [4, 1, 7])
def test_the_submitter_dispatches_at_unplug_thresh(thresh):
    machine = d.Machine(queue__unplug_thresh=thresh)
    for n in range(1, thresh + 1):
        assert machine.vm.cpu[1, CPU.request_fn] == 0
        machine.submit(cpu=1)
        assert machine.io.ctl[IO.plugged] == (n < thresh)
    assert machine.vm.cpu[1, CPU.request_fn] == 1 + d.RUN_RECLAIMER
    assert machine.io.ctl[IO.unplug_jiffy] == ms.NEVER


def test_requests_in_flight_do_not_count_towards_unplug_thresh():
    machine = d.Machine()
    machine.submit()
    machine.call(d.run_queue, 0, d.RUN_RECLAIMER, 0)
    assert machine.io.ctl[IO.in_flight] == 1
    for n in range(1, 5):
        machine.submit()
        assert (machine.vm.cpu[0, CPU.request_fn] != 0) == (n == 4)


def test_a_merged_bio_is_no_request_and_tests_no_threshold():
    machine = d.Machine()
    machine.submit(pages=100)
    assert charged(machine) == 1
    assert machine.io.ctl[IO.plugged] == 1
    assert machine.io.request[machine.io.ctl[IO.head], REQUEST.nr_bios] == 100


def test_a_request_holds_128_pages_at_most():
    machine = d.Machine()
    machine.slot = 0
    for page in range(130):
        machine.call(d.submit, 1, 0, 5000 + page, 0)
    head = machine.io.ctl[IO.head]
    assert machine.io.request[head, REQUEST.nr_bios] == 128
    assert machine.io.request[machine.io.request[head, REQUEST.next], REQUEST.nr_bios] == 2


def test_bios_merge_in_front_and_neighbours_join():
    machine = d.Machine()
    for slot, merged in ((10, False), (9, True), (12, False), (11, True)):
        assert machine.call(d.submit, 1, 0, slot, 0) == merged
    head = machine.io.ctl[IO.head]
    assert charged(machine) == 1  # 9..10 and 12 became one when 11 came
    assert machine.io.request[head, REQUEST.start] == 9
    assert machine.io.request[head, REQUEST.nr_bios] == 4
    slots, b = [], machine.io.request[head, REQUEST.bio_head]
    while b >= 0:
        slots.append(int(machine.io.bio[b, BIO.slot]))
        b = machine.io.bio[b, BIO.next]
    assert slots == [9, 10, 11, 12]


def test_a_refused_head_takes_no_merge():
    """STARTED: no merge, no overtaking."""
    machine = d.Machine()
    machine.call(d.submit, 1, 0, 50, 0)
    machine.starve()
    machine.exhaust(ROLE.sense)
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 0)
    head = machine.io.ctl[IO.dispatch_head]
    assert machine.io.request[head, REQUEST.started] == 1
    machine.mem.zone[:, 1:4] = 0
    assert not machine.call(d.submit, 1, 0, 51, 0)
    assert machine.io.ctl[IO.dispatch_head] == head
    assert charged(machine) == 2


def test_without_merging_each_page_is_a_request():
    machine = d.Machine(queue__merge=False)
    for page in range(5):
        assert not machine.call(d.submit, 1, 0, 70 + page, 0)
    assert charged(machine) == 5


# ------------------------------------------------------------------------------------------------- merging, CFQ's turn


def bios_at(machine, head):
    found = []
    r = machine.io.ctl[head]
    while r >= 0:
        found.append((int(machine.io.request[r, REQUEST.start]), int(machine.io.request[r, REQUEST.nr_bios])))
        r = machine.io.request[r, REQUEST.next]
    return found


def test_a_full_request_is_asked_once_and_no_other_then():
    """CFQ: the request that ends at the bio refuses, so it gets its own; the next bio there finds the one behind it."""
    machine = d.Machine(queue__max_segments=4)
    for slot in (100, 101, 102, 103):
        machine.call(d.submit, 1, 0, slot, 0)
    assert not machine.call(d.submit, 1, 0, 105, 0)
    machine.io.ctl[IO.last_merge] = -1
    assert not machine.call(d.submit, 1, 0, 104, 0)
    assert bios_at(machine, IO.head) == [(100, 4), (104, 1), (105, 1)]


def test_noop_merges_at_the_front_of_the_last_merge_alone():
    for last, merges in ((False, False), (True, True)):
        machine = d.Machine(queue__elevator="noop")
        machine.call(d.submit, 1, 0, 100, 0)
        if not last:
            machine.io.ctl[IO.last_merge] = -1
        assert machine.call(d.submit, 1, 0, 99, 0) == merges


def test_noop_joins_requests_that_came_one_after_the_other():
    machine = d.Machine(queue__elevator="noop")
    for slot in (100, 102, 101):
        machine.call(d.submit, 1, 0, slot, 0)
    assert bios_at(machine, IO.head) == [(100, 3)]
    machine = d.Machine(queue__elevator="noop")
    for slot in (100, 500, 102, 101):
        machine.call(d.submit, 1, 0, slot, 0)
    assert bios_at(machine, IO.head) == [(100, 2), (500, 1), (102, 1)]


def test_cfq_goes_on_from_where_the_driver_is_and_back_at_twice_the_distance():
    machine = d.Machine()
    ctl = machine.io.ctl
    ctl[IO.last_position] = 1000
    chosen = []
    for slot in (1300, 900, 1150):  # 300; 2 x 100; 150
        machine.call(d.submit, 1, 0, slot, 0)
        chosen.append(int(machine.io.request[ctl[IO.next_rq], REQUEST.start]))
    assert chosen == [1300, 900, 1150]


def test_kblockd_runs_the_queue_after_a_completion_that_leaves_the_driver_nothing():
    """CFQ holds a request that the driver has not seen: kblockd runs the queue, although it is plugged."""
    machine = d.Machine()
    machine.submit()
    machine.call(d.run_queue, 0, d.RUN_KBLOCKD, 0)
    machine.submit()
    assert machine.io.ctl[IO.plugged] == 1
    machine.call(d.finish_disk)
    assert machine.io.ctl[IO.in_flight] == 1
    for _ in range(3):
        assert machine.io.ctl[IO.in_flight] == 1  # until the request is released
        machine.call(d.softirq, 0)
    assert machine.io.ctl[IO.in_flight] == 0
    assert machine.vm.cpu[0, CPU.kblockd] == 2
    machine.vm.cpu[0, CPU.request_fn] = 0
    machine.call(d.kblockd, 0)
    assert machine.io.ctl[IO.plugged] == 0
    assert machine.vm.cpu[0, CPU.request_fn] == 1 + d.RUN_KBLOCKD
