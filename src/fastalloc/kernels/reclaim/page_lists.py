"""The private lists of a reclaimer: pages off the LRU, to be put back or freed [mm/vmscan.c, mm/swap.c of 2.6.25]."""

from fastalloc.compiler.jit import folded
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.buddy import page_zone
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
def isolate_page(mem, vm, t, pfn, last):
    """Take a page off its LRU list and put it behind ``last`` of the task's private list."""
    lru_del(mem, pfn)
    mem.page[pfn, PAGE.flags] |= st.PG_ISOLATED
    mem.page[pfn, PAGE.next] = -1
    if last >= 0:
        mem.page[last, PAGE.next] = pfn
    else:
        vm.task[t, TASK.list] = pfn


@folded
def block_start(mem, z, pfn, block):
    """First page of the aligned block of so many pages that a page is in."""
    start = mem.zone[z, ZONE.start]
    return start + ((pfn - start) & -block)


@folded
def is_on_list(mem, z, pfn, active):
    """Whether a page is on the active or on the inactive list of zone ``z`` [__isolate_lru_page]."""
    if pfn >= mem.page.shape[0] or page_zone(mem, pfn) != z:
        return False
    wanted = st.PG_LRU | (st.PG_ACTIVE if active else 0)
    return (mem.page[pfn, PAGE.flags] & (st.PG_LRU | st.PG_ACTIVE)) == wanted


@folded
def isolate_lru_pages(mem, vm, t, z, count):
    """Take up to ``count`` pages off the inactive tail into the task's private list; where it reclaims for a block of
    pages, also the rest of the block of each that is on the list, wherever it stands, even past ``count``
    [isolate_lru_pages]."""
    taken = 0
    last = -1
    block = 1 << vm.task[t, TASK.order]
    while taken < count:
        pfn = mem.zone[z, ZONE.inactive_tail]
        if pfn < 0:
            break
        isolate_page(mem, vm, t, pfn, last)
        last = pfn
        taken += 1
        if block > 1:
            start = block_start(mem, z, pfn, block)
            for other in range(start, start + block):
                if is_on_list(mem, z, other, False):
                    isolate_page(mem, vm, t, other, last)
                    last = other
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
