"""Faults planted in a copy of the kernels: each changes one rule, and each must be noticed beside the reference.

The kernels run as plain Python, so that nothing is compiled. Not listed, since nothing can notice them here: pages that
shrink_page_list counts twice (only whether any was scanned matters), order of two events that touch different things,
a root of the swap cache's tree with its first child alone (test_reclaim_rules.py has it), a written page that is
dirty or locked, and on a list.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

import fastalloc

HERE = Path(__file__).parents[2]
SOURCES = Path(fastalloc.__file__).parent

# file below kernels/, what stands there, what is put in its place
FAULTS = [
    ("swap/swapfile.py", "cluster_left] = SWAPFILE_CLUSTER - 1", "cluster_left] = SWAPFILE_CLUSTER"),
    ("swap/swapfile.py", "    if found == 0:\n", "    if found != 0:\n"),
    ("swap/swapfile.py", "    if slot == ctl[VM.lowest_slot]:\n", "    if slot < ctl[VM.lowest_slot]:\n"),
    ("swap/swapfile.py", "    if slot > vm.ctl[VM.highest_slot]:\n", "    if slot < vm.ctl[VM.highest_slot]:\n"),
    ("swap/swapfile.py", "task[TASK.search] = ctl[VM.lowest_slot]\n", "task[TASK.search] = ctl[VM.lowest_slot] + 1\n"),
    ("swap/lru.py", "== mapping[MAPPING.first] and", "== 0 and"),
    ("swap/lru.py", "zone[ZONE.inactive_tail] != pfn", "zone[ZONE.inactive_tail] == pfn"),
    ("reclaim/shrink_page_list.py", "ANON_TO_SWAP = g.GFP_ATOMIC | g.NOMEMALLOC", "ANON_TO_SWAP = g.GFP_ATOMIC"),
    ("reclaim/shrink_page_list.py", "TMPFS_TO_SWAP = g.GFP_ATOMIC", "TMPFS_TO_SWAP = g.GFP_ATOMIC | g.NOMEMALLOC"),
    (
        "reclaim/shrink_page_list.py",
        "if referenced and (flags & (st.PG_MAPPED | st.PG_SWAPCACHE)) != 0:",
        "if referenced and (flags & st.PG_SWAPCACHE) != 0:",
    ),
    ("alloc/vmstat.py", "abs(diff) > mem.zone", "abs(diff) >= mem.zone"),
    ("alloc/vmstat.py", "        lag -= diff\n", "        lag = 0\n"),
    ("alloc/vmstat.py", "return max(0, mem.zone[z, ZONE.free] - ", "return mem.zone[z, ZONE.free] - min(0, "),
    ("alloc/vmstat.py", "jiffies] + mem.ctl[MEMCTL.hz]", "jiffies] + mem.ctl[MEMCTL.hz] + 1"),
    ("machine/boot.py", "// ctl[VM.jiffy_ns] + cpu", "// ctl[VM.jiffy_ns]"),
    ("machine/run.py", "            idle_timers(mem, vm)\n", ""),
    ("alloc/rcu.py", "            vmstat_update(mem, vm, cpu)\n", ""),
    ("reclaim/vmscan.py", "(st.PG_REFERENCED | st.PG_MLOCKED)", "st.PG_REFERENCED"),
    ("workload/copiers.py", "        vm.ctl[VM.i_mutex] = 1\n", ""),
    ("workload/copiers.py", "    wake_one(vm, TASK_STATE.i_mutex, vm.ctl[VM.now])\n", ""),
    ("reclaim/page_lists.py", "PAGEVEC_SIZE = 14", "PAGEVEC_SIZE = 15"),
    ("alloc/page_alloc.py", "    pcp_push(mem, cpu, z, pfn, True)\n", "    pcp_push(mem, cpu, z, pfn, False)\n"),
    ("reclaim/vmscan.py", "SWAP_CLUSTER_MAX = 32", "SWAP_CLUSTER_MAX = 31"),
    ("reclaim/vmscan.py", "task[TASK.scan_left] -= taken", "task[TASK.scan_left] = 0"),
    ("reclaim/vmscan.py", "8 * zone[ZONE.high]", "4 * zone[ZONE.high]"),
    ("reclaim/vmscan.py", ">= 6 * (zone", ">= 5 * (zone"),
    ("reclaim/vmscan.py", ">= 3 * (zone", ">= 9 * (zone"),
    ("reclaim/vmscan.py", "count = min(count, mem.zone[z, ZONE.nr_active])", "count = min(count, 31)"),
    ("reclaim/vmscan.py", "priority < DEF_PRIORITY - 2", "priority < DEF_PRIORITY - 1"),
    ("reclaim/vmscan.py", "        if scanned == 0:\n", "        if True:\n"),
    ("reclaim/vmscan.py", "dirty = dirtyable // 10", "dirty = dirtyable // 9"),
    ("reclaim/vmscan.py", "if zone[ZONE.scan_inactive] >= SWAP", "if zone[ZONE.scan_inactive] > SWAP"),
    ("reclaim/writepage.py", "for _ in range(ms.RADIX_STOCK):", "for _ in range(0):"),
    (
        "reclaim/writepage.py",
        "step = RECLAIM.get_request\n    if step == RECLAIM.get_request:",
        "step = 0\n    if True:",
    ),
    ("block/block.py", "limit - limit // 8 - limit // 16 - 1", "limit - limit // 8 - limit // 16 - 2"),
    ("block/block.py", "// 16 - 1):", "// 16 - 1) and ctl[IO.congested] != 0:"),
    ("block/block.py", "    if count + 1 <= limit:\n", "    if count + 1 < limit:\n"),
    ("block/block.py", "jiffies < vm.task[t, TASK.batch_jiffy]", "jiffies <= vm.task[t, TASK.batch_jiffy]"),
    ("block/block.py", "3 * limit // 2", "5 * limit // 4"),
    ("block/elevator.py", "CFQ_QUANTUM = 4", "CFQ_QUANTUM = 5"),
    ("block/elevator.py", "BACK_PENALTY = 2", "BACK_PENALTY = 1"),
    ("block/elevator.py", "r = io.ctl[IO.last_merge]\n    if r >= 0:", "r = -1\n    if r >= 0:"),
    ("block/elevator.py", "request[REQUEST.nomerge] = 1", "request[REQUEST.nomerge] = 0"),
    ("block/elevator.py", ">= ctl[IO.unplug_thresh]", "> ctl[IO.unplug_thresh]"),
    ("block/elevator.py", "ctl[IO.rq_in_driver] == 0", "ctl[IO.rq_in_driver] == 1"),
    ("block/elevator.py", "    ctl[IO.in_flight] -= 1  #", "    ctl[IO.in_flight] -= 0  #"),
    ("block/plug.py", "    if io.ctl[IO.plugged] == 0:\n        io.ctl", "    if True:\n        io.ctl"),
    ("block/plug.py", "        io.ctl[IO.unplug_cpu] = cpu", "        io.ctl[IO.unplug_cpu] = 0"),
    ("block/scsi.py", "while size < segments", "while size <= segments"),
    ("block/scsi.py", "io.ctl[IO.device_busy] < io.ctl[IO.queue_depth]", "io.ctl[IO.device_busy] < 1"),
    ("block/scsi.py", "        scsi_put_command(mem, heap, pools, io, vm, cpu, d)\n", ""),
    ("block/scsi_command.py", "if n < io.ctl[IO.free_list_size]", "if n > io.ctl[IO.free_list_size]"),
    ("block/scsi_command.py", "command_rule] == ms.RULE_RC8", "command_rule] == ms.RULE_FIX"),
    (
        "block/scsi_command.py",
        "if runner == RUN_RECLAIMER:\n        return g.PF_MEMALLOC",
        "if False:\n        return 0",
    ),
    ("block/bio.py", "    rotate_reclaimable_page(mem, pfn)\n", ""),
    ("block/completion.py", "if works & WORK_RUN:", "if False:"),
    (
        "block/completion.py",
        "    blk_remove_plug(io)\n    call_request_fn(vm, cpu, RUN_SOFTIRQ)",
        "    call_request_fn(vm, cpu, RUN_SOFTIRQ)",
    ),
    ("alloc/mempool.py", "if handle < 0 and pool[MEMPOOL.curr] > 0:", "if handle < 0 and pool[MEMPOOL.curr] > 1:"),
    ("alloc/mempool.py", "return mask & ~(g.WAIT | g.IO)", "return mask"),
    ("alloc/radix_tree.py", "call_rcu(mem, heap, vm, cpu, CALLBACK_NODE", "call_rcu(mem, heap, vm, cpu, 2"),
    ("alloc/rcu.py", "BLIMIT = 10\n", "BLIMIT = 9\n"),
    ("alloc/rcu.py", "        c[CPU.rcu_passed] = 0\n", ""),
    ("alloc/page_alloc.py", "        level -= level // 4\n", "        level -= level // 3\n"),
    ("alloc/buddy.py", "    mem.zone[z, ZONE.pages_scanned] = 0\n", ""),
    ("lane/sched.py", "    elif exclusive:\n", "    elif False:\n"),
    ("lane/sched.py", "jiffies + timeout_jiffies\n", "jiffies + timeout_jiffies + 1\n"),
    (
        "lane/cfs.py",
        "vruntime -= calc_delta(vm.ctl[VM.latency], NICE_0_LOAD, c[CPU.load])",
        "vruntime -= vm.ctl[VM.latency]",
    ),
    ("lane/cfs.py", "    c[CPU.buddy] = t\n    granularity", "    granularity"),
    ("lane/cfs.py", "NR_LATENCY = 5", "NR_LATENCY = 4"),
    ("lane/cfs.py", "vm.ctl[VM.latency] // 2  #", "vm.ctl[VM.latency]  #"),
    ("machine/boot.py", "            wake_up_new_task(vm, t)\n", ""),
    ("lane/cfs.py", "    t = leftmost(vm, other)\n", "    t = vm.cpu[other, CPU.tail]\n"),
    ("lane/cfs.py", "LOOKS_MOST = 33", "LOOKS_MOST = 1"),
    ("lane/cfs.py", "IMBALANCE_PCT = 125", "IMBALANCE_PCT = 150"),
    ("lane/cfs.py", "if c[CPU.running] > 1 and c[CPU.rq", "if c[CPU.running] > 2 and c[CPU.rq"),
    ("lane/cfs.py", "        end_idle(vm, cpu, now)\n", "        vm.cpu[cpu, CPU.clock_raw] = now\n"),
    ("lane/rq_clock.py", "max(limit, clock + 1)", "max(limit, clock)"),
    ("lane/rq_clock.py", "clock + passed <= limit", "clock + passed <= 1 << 62"),
    ("lane/rq_clock.py", "    c[CPU.tick_clock] = c[CPU.rq_clock]\n", "    c[CPU.tick_clock] += vm.ctl[VM.jiffy_ns]\n"),
    ("lane/rq_clock.py", "    if vm.ctl[VM.cpu] >= 0 and vm.ctl[VM.cpu] != cpu:\n        return\n", ""),
    ("lane/rq_clock.py", "    if vm.cpu[cpu, CPU.ticking] == 0:\n        tick_idle", "    if True:\n        tick_idle"),
    ("lane/sched.py", "        timer_interrupt(vm, vm.task[due, TASK.cpu], now)\n", ""),
    ("lane/cfs.py", "        tick_rq_clock(vm, cpu, c[CPU.next_tick])  # within", "        pass  # within"),
    ("lane/cfs.py", "    c[CPU.idle_since] = now\n", "    c[CPU.idle_since] = c[CPU.clock_raw] - 1\n"),
    ("lane/cfs.py", "    vm.task[first, TASK.ran] = c[CPU.rq_clock]\n", ""),
    ("machine/run.py", "due if vm.ctl[VM.shared_core] == 0 else now", "now"),
    ("machine/run.py", "vm.ctl[VM.now] + cost > turn_end or ", ""),
    ("machine/run.py", "                vm.cpu[irq_cpu, CPU.rearm] = 1\n", ""),
    ("lane/due.py", "        if requested:\n", "        if True:\n"),
    ("lane/rq_clock.py", "        passed = 0\n", "        pass\n"),
    ("machine/run.py", "        timer_interrupt(vm, io.ctl[IO.unplug_cpu], now)\n", ""),
    ("machine/run.py", "        c[CPU.idle_since] = clock  # a task", "        pass  # a task"),
    ("alloc/rcu.py", "            tick_idle(vm, cpu, now)\n", ""),
    (
        "lane/swap_lock.py",
        "    if vm.ctl[VM.swap_lock] == 1 + cpu:\n        spin_unlock(vm)\n    return False",
        "    return False",
    ),
    ("lane/swap_lock.py", "        vm.ctl[VM.swap_lock] = 1 + cpu\n        return True", "        return False"),
    (
        "workload/copiers.py",
        "congestion_wait(vm, out, t, cpu, 50, jiffies)",
        "congestion_wait(vm, out, t, cpu, 25, jiffies)",
    ),
    ("workload/copiers.py", "GFP_NOWAIT = 0", "GFP_NOWAIT = 0x20"),
    (
        "machine/run.py",
        "elif c[CPU.softirq] != 0 or softirq_due(io, cpu):",
        "elif c[CPU.softirq] != 0 or c[CPU.running] == 0:",
    ),
]


def look(examples=60):
    """Lanes beside the reference, until one differs."""
    from tests.closed_loop.test_reference import RARE, TINY, machines, preset, side_by_side

    for variant in ("fix", "rc8"):
        for machine in RARE:
            side_by_side(preset(variant, TINY | machine), 400, 8)
    for shared_core in (False, True):  # what is done each second
        machine = {"machine.shared_core": shared_core, "run.duration_s": 2.0}
        side_by_side(preset("fix", TINY | RARE[-2] | machine), 1100, 11)
    side_by_side(preset("fix", TINY | RARE[-1] | {"run.duration_s": 3.0}), 2200, 11)  # and at the tick of an idle CPU

    @settings(
        max_examples=examples, phases=[Phase.generate], derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(machines())
    def each(scenario):
        side_by_side(scenario, 300, 6)

    each()


def noticed(folder, fault=None):
    """What a run on a copy of the kernels says in its last line; empty if nothing differs."""
    package = folder / "fastalloc"
    shutil.copytree(SOURCES, package, ignore=shutil.ignore_patterns("__pycache__"))
    if fault:
        name, stands, put = fault
        file = package / "kernels" / name
        text = file.read_text(encoding="utf-8")
        assert text.count(stands) == 1, fault
        file.write_text(text.replace(stands, put), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{folder}:{HERE}", "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.closed_loop.test_reference_faults"]
    ran = subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1)
    return ran.stderr.strip().splitlines()[-1] if ran.returncode else ""


@pytest.mark.slow
def test_without_a_fault_nothing_is_noticed(tmp_path):
    assert noticed(tmp_path) == ""


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}: {fault[1].strip()}")
def test_a_planted_fault_is_noticed(tmp_path, fault):
    assert noticed(tmp_path, fault)


if __name__ == "__main__":  # python -m tests.closed_loop.test_reference_faults
    look()
