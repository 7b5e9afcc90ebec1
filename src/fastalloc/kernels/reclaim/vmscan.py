"""Reclaim: kswapd, direct reclaim, their loops over priorities, zones and lists [mm/vmscan.c of 2.6.25].

A reclaimer can sleep in the middle of everything, so its place is data: ``TASK.reclaim`` says where it resumes and
:func:`reclaim_step` does one step and returns the CPU time it took, in ns.
"""

from fastalloc.compiler.jit import folded, internal, out_of_line
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.buddy import drain_all_pages
from fastalloc.kernels.alloc.state import MEMCTL, PAGE, ZONE
from fastalloc.kernels.alloc.vmstat import set_pgdat_percpu_threshold
from fastalloc.kernels.alloc.watermarks import zone_watermark_ok_safe
from fastalloc.kernels.lane.events import log_event
from fastalloc.kernels.lane.metrics import EVENT, METRIC
from fastalloc.kernels.lane.sched import sleep_on, wake_one
from fastalloc.kernels.lane.state import COST, OUT_CTL, VM
from fastalloc.kernels.lane.tasks import ATTEMPT, PROGRAM, RECLAIM, TASK, TASK_KIND, TASK_STATE
from fastalloc.kernels.reclaim.congestion import congestion_wait
from fastalloc.kernels.reclaim.page_lists import block_start, is_on_list, isolate_lru_pages, putback_lru_pages
from fastalloc.kernels.reclaim.shrink_page_list import search_step, shrink_page
from fastalloc.kernels.reclaim.writepage import write_step, written
from fastalloc.kernels.swap.lru import lru_add, lru_del
from fastalloc.linux import gfp as g

SWAP_CLUSTER_MAX = 32
DEF_PRIORITY = 12


@folded
def begin_reclaim(vm, out, t, cpu):
    """Enter direct reclaim of ``TASK.order``: PF_MEMALLOC until it ends [try_to_free_pages]."""
    task = vm.task[t]
    task[TASK.flags] = g.PF_MEMALLOC
    task[TASK.priority] = DEF_PRIORITY
    task[TASK.reclaimed] = 0
    task[TASK.scanned] = 0
    task[TASK.reclaim] = RECLAIM.priority
    vm.ctl[VM.reclaimers] += 1
    out.metric[METRIC.allocstall] += 1
    if out.ctl[OUT_CTL.full] != 0:
        log_event(vm, out, EVENT.reclaim_begin, cpu, t, task[TASK.priority], task[TASK.order], 0)


@folded
def end_reclaim(mem, vm, out, t, cpu, progress):
    """Leave direct reclaim with its return value; for a block of pages all CPUs' lists are drained [__alloc_pages]."""
    task = vm.task[t]
    if task[TASK.order] > 0:
        drain_all_pages(mem)
    task[TASK.flags] = 0
    task[TASK.reclaim] = RECLAIM.out
    task[TASK.progress] = progress
    task[TASK.attempt] = ATTEMPT.reclaimed
    vm.ctl[VM.reclaimers] -= 1
    if out.ctl[OUT_CTL.full] != 0:
        log_event(vm, out, EVENT.reclaim_end, cpu, t, task[TASK.reclaimed], 0, 0)


@folded
def balance_for(vm, t, order):
    """kswapd begins a balance_pgdat of ``order``."""
    task = vm.task[t]
    task[TASK.order] = order
    task[TASK.priority] = DEF_PRIORITY
    task[TASK.reclaimed] = 0
    task[TASK.total_scanned] = 0
    task[TASK.reclaim] = RECLAIM.priority


@folded
def reclaim_mapped(mem, vm, z, priority):
    """Whether mapped pages leave the active list: distress, the share that is mapped, swappiness and how much longer
    the active list is; always near OOM [calc_reclaim_mapped, zone_is_near_oom]."""
    zone = mem.zone[z]
    if zone[ZONE.pages_scanned] >= 3 * (zone[ZONE.nr_active] + zone[ZONE.nr_inactive]):
        return True
    total = 0
    for i in range(mem.ctl[MEMCTL.nr_zones]):
        total += mem.zone[i, ZONE.present]
    mapped_ratio = vm.ctl[VM.anon_mapped] * 100 // total
    imbalance = zone[ZONE.nr_active] // (zone[ZONE.nr_inactive] + 1) * (vm.ctl[VM.swappiness] + 1) // 100
    imbalance = imbalance * mapped_ratio // 100
    return mapped_ratio // 2 + (100 >> priority) + vm.ctl[VM.swappiness] + imbalance >= 100


@folded
def shrink_active_page(mem, pfn, wanted):
    """An active page goes to the inactive list; a mapped one stays while it is referenced, or not ``wanted``; an
    mlocked one counts as referenced [page_referenced_one]."""
    lru_del(mem, pfn)
    flags = mem.page[pfn, PAGE.flags]
    stays = False
    if (flags & st.PG_MAPPED) != 0:
        stays = not wanted or (flags & (st.PG_REFERENCED | st.PG_MLOCKED)) != 0
        if wanted:
            mem.page[pfn, PAGE.flags] = flags & ~st.PG_REFERENCED
    lru_add(mem, pfn, stays)


@folded
def shrink_active_list(mem, vm, t, z, count):
    """Look at up to ``count`` pages of the active tail, and at the rest of the block of each where task ``t`` reclaims
    for a block; how many pages it was. Mapped ones are wanted as :func:`reclaim_mapped` says, where there is swap.
    """
    wanted = reclaim_mapped(mem, vm, z, vm.task[t, TASK.priority]) and vm.ctl[VM.swap_pages] > 0
    count = min(count, mem.zone[z, ZONE.nr_active])  # none twice: the kernel takes them all off before it looks
    block = 1 << vm.task[t, TASK.order]
    looked = 0
    while looked < count:
        pfn = mem.zone[z, ZONE.active_tail]
        shrink_active_page(mem, pfn, wanted)
        looked += 1
        if block > 1:
            start = block_start(mem, z, pfn, block)
            for other in range(start, start + block):
                if other != pfn and is_on_list(mem, z, other, True):
                    shrink_active_page(mem, other, wanted)
                    looked += 1
    mem.zone[z, ZONE.pages_scanned] += looked
    return looked


@folded
def writeback_limit(mem):
    """Pages under writeback above which reclaimers are throttled: 1.1 x 10 % of dirtyable [throttle_vm_writeout]."""
    free = 0
    dirtyable = 1
    for z in range(mem.ctl[MEMCTL.nr_zones]):
        free += mem.zone[z, ZONE.free] - mem.zone[z, ZONE.vm_stat_lag]  # global_page_state
        dirtyable += mem.zone[z, ZONE.nr_active] + mem.zone[z, ZONE.nr_inactive]
    dirty = (max(0, free) + dirtyable) // 10
    return dirty + dirty // 10


@folded
def begin_shrink_zone(mem, vm, t, z):
    """Work out how much of each list this call scans; small amounts are carried over [shrink_zone]."""
    task = vm.task[t]
    zone = mem.zone[z]
    zone[ZONE.scan_active] += (zone[ZONE.nr_active] >> task[TASK.priority]) + 1
    zone[ZONE.scan_inactive] += (zone[ZONE.nr_inactive] >> task[TASK.priority]) + 1
    task[TASK.nr_active] = 0
    task[TASK.nr_inactive] = 0
    if zone[ZONE.scan_active] >= SWAP_CLUSTER_MAX:
        task[TASK.nr_active] = zone[ZONE.scan_active]
        zone[ZONE.scan_active] = 0
    if zone[ZONE.scan_inactive] >= SWAP_CLUSTER_MAX:
        task[TASK.nr_inactive] = zone[ZONE.scan_inactive]
        zone[ZONE.scan_inactive] = 0
    task[TASK.reclaim] = RECLAIM.shrink


@folded
def zone_done(mem, vm, t):
    """kswapd gives a zone up as unreclaimable after six fruitless scans of it, or where it has no page to scan; also
    one that has too much free to be scanned [balance_pgdat]."""
    task = vm.task[t]
    if task[TASK.kind] == TASK_KIND.kswapd:
        zone = mem.zone[task[TASK.zone] - 1]
        if zone[ZONE.pages_scanned] >= 6 * (zone[ZONE.nr_active] + zone[ZONE.nr_inactive]):
            zone[ZONE.all_unreclaimable] = 1
    task[TASK.reclaim] = RECLAIM.zone


@folded
def next_zone(mem, vm, t):
    """Choose the next zone to shrink at this priority, or finish the priority."""
    task = vm.task[t]
    z = task[TASK.zone]
    if task[TASK.kind] == TASK_KIND.kswapd:
        if z > task[TASK.zones_left]:
            task[TASK.reclaim] = RECLAIM.zone_done
            return
        task[TASK.zone] = z + 1
        zone = mem.zone[z]
        if zone[ZONE.present] == 0 or (zone[ZONE.all_unreclaimable] != 0 and task[TASK.priority] != DEF_PRIORITY):
            return
        end_zone = task[TASK.zones_left]
        if not zone_watermark_ok_safe(mem, z, task[TASK.order], zone[ZONE.high], end_zone):
            task[TASK.progress] = 0  # all_zones_ok
        if not zone_watermark_ok_safe(mem, z, task[TASK.order], 8 * zone[ZONE.high], end_zone):
            begin_shrink_zone(mem, vm, t, z)
        else:
            zone_done(mem, vm, t)
        return
    if z < 0:
        task[TASK.reclaim] = RECLAIM.zone_done
        return
    task[TASK.zone] = z - 1
    zone = mem.zone[z]
    if zone[ZONE.present] == 0 or (zone[ZONE.all_unreclaimable] != 0 and task[TASK.priority] != DEF_PRIORITY):
        return
    task[TASK.progress] = 1  # not all unreclaimable
    begin_shrink_zone(mem, vm, t, z)


@internal
def end_balance(mem, vm, t, cpu, jiffies):
    """balance_pgdat is over: kswapd sleeps, or goes on for a larger order that was asked for meanwhile [kswapd]."""
    task = vm.task[t]
    order = vm.ctl[VM.kswapd_max_order]
    vm.ctl[VM.kswapd_max_order] = 0
    if task[TASK.order] < order:
        balance_for(vm, t, order)
        return
    task[TASK.reclaim] = RECLAIM.out
    vm.ctl[VM.reclaimers] -= 1
    set_pgdat_percpu_threshold(mem, 0)
    sleep_on(vm, cpu, TASK_STATE.kswapd, -1, False, jiffies)


@folded
def begin_priority(mem, vm, t, cpu, jiffies):
    """Start a scanning priority; kswapd first finds the highest zone below pages_high, or goes to sleep."""
    task = vm.task[t]
    task[TASK.reclaim] = RECLAIM.zone
    task[TASK.scanned] = 0
    if task[TASK.kind] != TASK_KIND.kswapd:
        task[TASK.zone] = mem.ctl[MEMCTL.nr_zones] - 1
        if task[TASK.program] != PROGRAM.page:  # for an object of the kernel's, as its zonelist is
            task[TASK.zone] -= mem.ctl[MEMCTL.user_zones]
        task[TASK.progress] = 0
        return
    for z in range(mem.ctl[MEMCTL.nr_zones] - 1, -1, -1):
        zone = mem.zone[z]
        if zone[ZONE.present] == 0 or (zone[ZONE.all_unreclaimable] != 0 and task[TASK.priority] != DEF_PRIORITY):
            continue
        if not zone_watermark_ok_safe(mem, z, task[TASK.order], zone[ZONE.high], 0):
            task[TASK.zones_left] = z
            task[TASK.zone] = 0
            task[TASK.progress] = 1
            return
    end_balance(mem, vm, t, cpu, jiffies)


@folded
def end_priority(mem, vm, out, t, cpu, jiffies):
    """All zones of a priority are done: leave, or go one lower, with a nap of 100 ms below priority 10."""
    task = vm.task[t]
    enough = task[TASK.reclaimed] >= SWAP_CLUSTER_MAX
    kswapd = task[TASK.kind] == TASK_KIND.kswapd
    if kswapd:
        task[TASK.total_scanned] += task[TASK.scanned]
    if not kswapd and enough:
        end_reclaim(mem, vm, out, t, cpu, 1)
        return
    balanced = kswapd and task[TASK.progress] != 0
    priority = task[TASK.priority]
    scanned = task[TASK.total_scanned] if kswapd else task[TASK.scanned]
    task[TASK.reclaim] = RECLAIM.priority
    task[TASK.priority] = priority - 1
    if not kswapd and priority == 0:
        task[TASK.reclaim] = RECLAIM.last_nap
        if scanned == 0:
            return
    elif balanced or (kswapd and enough) or priority == 0:
        task[TASK.priority] = DEF_PRIORITY
        task[TASK.reclaimed] = 0
        task[TASK.total_scanned] = 0
        if balanced:
            end_balance(mem, vm, t, cpu, jiffies)
            return
    if scanned > 0 and priority < DEF_PRIORITY - 2 and not balanced:
        congestion_wait(vm, out, t, cpu, 10, jiffies)


@folded
def shrunk_zone(vm, t):
    """The zone that a task's shrink_zone is at."""
    task = vm.task[t]
    return task[TASK.zone] - 1 if task[TASK.kind] == TASK_KIND.kswapd else task[TASK.zone] + 1


@internal
def shrink_inactive_list(mem, vm, t):
    """Isolate a whole batch, whatever is left; the list of a small zone again and again, until as many pages as asked
    for were looked at, or none is there [shrink_inactive_list]."""
    task = vm.task[t]
    task[TASK.reclaim] = RECLAIM.shrink
    if task[TASK.scan_left] > 0:
        taken = isolate_lru_pages(mem, vm, t, shrunk_zone(vm, t), SWAP_CLUSTER_MAX)
        task[TASK.scan_left] -= taken
        if taken > 0:
            task[TASK.reclaim] = RECLAIM.page_list


@folded
def reclaim_step(mem, heap, pools, io, vm, out, t, cpu, jiffies):
    """Advance a reclaimer by one step; CPU time in ns. It may be asleep afterwards."""
    task = vm.task[t]
    step = task[TASK.reclaim]
    if step == RECLAIM.page_list:
        if task[TASK.list] < 0:
            putback_lru_pages(mem, vm, t, cpu)
            shrink_inactive_list(mem, vm, t)
            return 0
        return shrink_page(mem, heap, vm, out, t, cpu)
    if RECLAIM.bio_alloc <= step <= RECLAIM.request_alloc or step == RECLAIM.request_woken:
        return write_step(mem, heap, pools, io, vm, out, t, cpu, jiffies)
    if step == RECLAIM.slot_search:
        return search_step(vm, t)
    if step == RECLAIM.shrink:
        z = shrunk_zone(vm, t)
        scanned = 0
        if task[TASK.nr_active] > 0:
            count = min(task[TASK.nr_active], SWAP_CLUSTER_MAX)
            task[TASK.nr_active] -= count
            scanned = shrink_active_list(mem, vm, t, z, count)
        if task[TASK.nr_inactive] > 0:
            count = min(task[TASK.nr_inactive], SWAP_CLUSTER_MAX)
            task[TASK.nr_inactive] -= count
            task[TASK.scan_left] = count
            shrink_inactive_list(mem, vm, t)
        elif task[TASK.nr_active] == 0:
            task[TASK.reclaim] = RECLAIM.throttle
        return scanned * vm.costs[COST.scan_page]
    if step == RECLAIM.throttle:
        if vm.ctl[VM.writeback] > writeback_limit(mem):
            congestion_wait(vm, out, t, cpu, 10, jiffies)
            return 0
        zone_done(mem, vm, t)
        return 0
    if step == RECLAIM.zone:
        next_zone(mem, vm, t)
        return vm.costs[COST.scan_page]
    if step == RECLAIM.zone_done:
        end_priority(mem, vm, out, t, cpu, jiffies)
        return 0
    if step == RECLAIM.written:
        written(mem, vm, t)
        return 0
    if step == RECLAIM.last_nap:
        end_reclaim(mem, vm, out, t, cpu, task[TASK.progress])
        return 0
    begin_priority(mem, vm, t, cpu, jiffies)
    return vm.costs[COST.scan_page]


@folded
def begin_balance(mem, vm, out, t):
    """Set kswapd going; the caller has woken it [wakeup_kswapd, balance_pgdat]."""
    task = vm.task[t]
    task[TASK.flags] = g.PF_MEMALLOC
    set_pgdat_percpu_threshold(mem, 1)
    balance_for(vm, t, vm.ctl[VM.kswapd_max_order])
    vm.ctl[VM.reclaimers] += 1
    out.metric[METRIC.kswapd_wakes] += 1
    if out.ctl[OUT_CTL.full] != 0:
        log_event(vm, out, EVENT.kswapd_wake, -1, t, task[TASK.order], 0, 0)


@internal
def wake_for(mem, vm, now):
    """A request has missed pages_low."""
    out_of_line()
    vm.ctl[VM.kswapd_max_order] = max(vm.ctl[VM.kswapd_max_order], mem.ctl[MEMCTL.kswapd_wanted] - 1)
    mem.ctl[MEMCTL.kswapd_wanted] = 0
    wake_one(vm, TASK_STATE.kswapd, now)


@folded
def wakeup_kswapd(mem, vm, now):
    """Wake kswapd if a request has missed pages_low, and tell it the largest order of such [wakeup_kswapd]."""
    if mem.ctl[MEMCTL.kswapd_wanted] != 0:
        wake_for(mem, vm, now)
