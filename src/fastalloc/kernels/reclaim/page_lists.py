"""The private lists of a reclaimer: pages off the LRU, to be put back or freed [mm/vmscan.c, mm/swap.c of 2.6.25]."""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.page_alloc import free_cold_page
from fastalloc.kernels.alloc.state import PAGE, ZONE
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import TASK
from fastalloc.kernels.swap.lru import lru_add, lru_del

PAGEVEC_SIZE = 14


@folded
def keep_page(mem, vm, t, pfn):
    """Set a page aside, in order, to be put back on the LRU when the batch is over."""
    task = vm.task[t]
    mem.page[pfn, PAGE.next] = -1
    if task[TASK.keep] < 0:
        task[TASK.keep] = pfn
    else:
        mem.page[task[TASK.keep_tail], PAGE.next] = pfn
    task[TASK.keep_tail] = pfn


@folded
def release_pagevec(mem, vm, t, cpu):
    """Free the reclaimed pages gathered so far, the last one first, as cold ones [__pagevec_free]."""
    pfn = vm.task[t, TASK.pvec]
    while pfn >= 0:
        following = mem.page[pfn, PAGE.next]
        free_cold_page(mem, cpu, pfn)
        pfn = following
    vm.task[t, TASK.pvec] = -1
    vm.task[t, TASK.pvec_count] = 0


@folded
def reclaim_page(mem, vm, out, t, cpu, pfn):
    """A page is free at last: into the pagevec, which is released when it holds 14."""
    task = vm.task[t]
    mem.page[pfn, PAGE.next] = task[TASK.pvec]
    task[TASK.pvec] = pfn
    task[TASK.pvec_count] += 1
    task[TASK.reclaimed] += 1
    out.metric[METRIC.pages_reclaimed] += 1
    if task[TASK.pvec_count] == PAGEVEC_SIZE:
        release_pagevec(mem, vm, t, cpu)


@folded
def isolate_lru_pages(mem, vm, t, z, count):
    """Take up to ``count`` pages off the inactive tail into the task's private list [isolate_lru_pages]."""
    taken = 0
    last = -1
    while taken < count:
        pfn = mem.zone[z, ZONE.inactive_tail]
        if pfn < 0:
            break
        lru_del(mem, pfn)
        mem.page[pfn, PAGE.flags] |= st.PG_ISOLATED
        mem.page[pfn, PAGE.next] = -1
        if last >= 0:
            mem.page[last, PAGE.next] = pfn
        else:
            vm.task[t, TASK.list] = pfn
        last = pfn
        taken += 1
    mem.zone[z, ZONE.pages_scanned] += taken
    vm.ctl[VM.lru_ahead] = mem.zone[z, ZONE.inactive_tail]
    return taken


@folded
def putback_lru_pages(mem, vm, t, cpu):
    """End of a batch: survivors go back to the head of their list, the pagevec is released."""
    pfn = vm.task[t, TASK.keep]
    while pfn >= 0:
        following = mem.page[pfn, PAGE.next]
        mem.page[pfn, PAGE.flags] &= ~st.PG_ISOLATED
        lru_add(mem, pfn, (mem.page[pfn, PAGE.flags] & st.PG_ACTIVE) != 0)
        pfn = following
    vm.task[t, TASK.keep] = -1
    release_pagevec(mem, vm, t, cpu)
