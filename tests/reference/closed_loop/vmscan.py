"""Reclaim: kswapd, direct reclaim, the two passes over a page on its way to swap [mm/vmscan.c, mm/page-writeback.c].

A ``yield`` is CPU time in ns, and a place where something else may run.
"""

from collections import deque

from tests.reference.closed_loop.memory import LruZone, Memory, Page
from tests.reference.closed_loop.sched import Task
from tests.reference.page_alloc import zone_watermark_ok

SWAP_CLUSTER_MAX, DEF_PRIORITY, PAGEVEC_SIZE = 32, 12, 14
SEARCH_STEP = 4 * 257  # slots looked at in one step


class ScanControl:
    """scan_control of one reclaim."""

    def __init__(self, order: int):
        self.order = order  # of the request
        self.nr_scanned = self.nr_reclaimed = 0
        self.freed: list[Page] = []  # the pagevec of pages reclaimed and not yet released


class Reclaim:
    """Of one machine, which gives costs, sleeps, and the way of a page to the disk."""

    def __init__(self, memory: Memory, machine, costs: dict[str, int], swappiness: int):
        self.memory = memory
        self.machine = machine
        self.costs = costs
        self.swappiness = swappiness
        self.kswapd_max_order = 0

    # -- the loops

    def try_to_free_pages(self, task: Task, order: int):
        """Direct reclaim: its value is whether it got anywhere."""
        sc = ScanControl(order)
        progress = False
        for priority in range(DEF_PRIORITY, -1, -1):
            sc.nr_scanned = 0
            yield self.costs["scan_page"]
            progress = yield from self.shrink_zones(task, sc, priority)
            if sc.nr_reclaimed >= SWAP_CLUSTER_MAX:
                progress = True
                break
            if sc.nr_scanned and priority < DEF_PRIORITY - 2:
                self.machine.congestion_wait(task, 10)
            yield 0
        self.end_reclaim(task, sc)
        yield 0
        return progress

    def end_reclaim(self, task: Task, sc: ScanControl) -> None:
        task.memalloc = task.in_reclaim = False
        if sc.order:
            self.memory.allocator.drain_all_pages()
        self.machine.event("reclaim_end", task, sc.nr_reclaimed)

    def shrink_zones(self, task: Task, sc: ScanControl, priority: int):
        """Highest zone first; False when every one of them is given up as unreclaimable."""
        progress = False
        for z in range(len(self.memory.zones) - 1, -1, -1):
            if self.is_skipped(z, priority):
                yield self.costs["scan_page"]
                continue
            progress = True
            yield from self.shrink_zone(task, self.memory.zones[z], sc, priority)
            yield 0
        yield self.costs["scan_page"]
        return progress

    def is_skipped(self, z: int, priority: int) -> bool:
        given_up = self.memory.zones[z].all_unreclaimable and priority != DEF_PRIORITY
        return self.memory.allocator.zones[z].present == 0 or given_up

    def above_high(self, z: int, order: int, times: int, class_zone: int) -> bool:
        zone = self.memory.allocator.zones[z]
        reserve = zone.lowmem_reserve[class_zone]
        free = self.memory.allocator.zone_page_state(z)
        return zone_watermark_ok(free, order, times * zone.pages_high, reserve=reserve, nr_free=zone.nr_free)

    def kswapd(self, task: Task):
        """kswapd's life: asleep until an allocation misses low, then balance_pgdat."""
        while True:
            order = self.kswapd_max_order
            self.machine.begin_balance(task, order)
            yield 0
            while True:
                last_step = yield from self.balance_pgdat(task, order)
                larger, self.kswapd_max_order = self.kswapd_max_order, 0
                if order >= larger:
                    break
                order = larger
                yield last_step
            self.sleep(task)
            yield last_step

    def balance_pgdat(self, task: Task, order: int):
        """Reclaim until every zone is above high. Its value is what its last step costs."""
        while True:  # loop_again
            sc = ScanControl(order)
            total_scanned = 0
            for priority in range(DEF_PRIORITY, -1, -1):
                end_zone = self.zone_to_balance(priority, order)
                if end_zone is None:
                    return self.costs["scan_page"]
                yield self.costs["scan_page"]
                all_zones_ok = True
                for z in range(end_zone + 1):
                    if self.is_skipped(z, priority):
                        yield self.costs["scan_page"]
                        continue
                    if not self.above_high(z, order, 1, end_zone):
                        all_zones_ok = False
                    sc.nr_scanned = 0
                    lru = self.memory.zones[z]
                    if self.above_high(z, order, 8, end_zone):
                        self.give_up(lru)
                        yield self.costs["scan_page"]
                    else:
                        yield from self.shrink_zone(task, lru, sc, priority)
                        self.give_up(lru)
                        yield 0
                    total_scanned += sc.nr_scanned
                yield self.costs["scan_page"]
                if all_zones_ok:
                    return 0
                if total_scanned and priority < DEF_PRIORITY - 2:
                    self.machine.congestion_wait(task, 10)
                yield 0
                if sc.nr_reclaimed >= SWAP_CLUSTER_MAX:
                    break

    def sleep(self, task: Task) -> None:
        task.in_reclaim = False
        self.machine.sched.sleep_on(task, "kswapd")

    def zone_to_balance(self, priority: int, order: int) -> int | None:
        """The highest zone that is not above high, reserves aside."""
        for z in range(len(self.memory.zones) - 1, -1, -1):
            if not self.is_skipped(z, priority) and not self.above_high(z, order, 1, 0):
                return z
        return None

    def give_up(self, lru: LruZone) -> None:
        """shrink_slab has nothing to give here, so six fruitless scans of a zone are enough."""
        if lru.pages_scanned >= 6 * lru.pages:
            lru.all_unreclaimable = True

    # -- a zone

    def shrink_zone(self, task: Task, lru: LruZone, sc: ScanControl, priority: int):
        """Both lists in turn, 32 pages at a time; less than 32 is carried over to the next caller."""
        lru.nr_scan_active += (len(lru.active) >> priority) + 1
        lru.nr_scan_inactive += (len(lru.inactive) >> priority) + 1
        nr_active = nr_inactive = 0
        if lru.nr_scan_active >= SWAP_CLUSTER_MAX:
            nr_active, lru.nr_scan_active = lru.nr_scan_active, 0
        if lru.nr_scan_inactive >= SWAP_CLUSTER_MAX:
            nr_inactive, lru.nr_scan_inactive = lru.nr_scan_inactive, 0
        yield self.costs["scan_page"]
        while nr_active or nr_inactive:
            spent = 0
            if nr_active:
                count = min(nr_active, SWAP_CLUSTER_MAX)
                nr_active -= count
                spent = self.shrink_active_list(lru, sc, count, priority) * self.costs["scan_page"]
            if nr_inactive:
                count = min(nr_inactive, SWAP_CLUSTER_MAX)
                nr_inactive -= count
                yield from self.shrink_inactive_list(task, lru, sc, count, spent)
            elif nr_active:
                yield spent
            else:
                yield spent
                break
        else:
            yield 0
        yield from self.throttle_vm_writeout(task)

    def throttle_vm_writeout(self, task: Task):
        """Wait while more than 11 % of what can be dirty is under writeback."""
        while True:
            free = self.memory.allocator.global_page_state()
            dirty = 10 * (free + sum(lru.pages for lru in self.memory.zones) + 1) // 100
            if self.memory.writeback <= dirty + dirty // 10:
                return
            self.machine.congestion_wait(task, 10)
            yield 0

    def isolate_lru_pages(self, pages: deque[Page], count: int, order: int) -> list[Page]:
        """Pages off the tail of a list, each with the others of its block that are on that list too; the last block may
        take it past ``count``."""
        taken: list[Page] = []
        while pages and len(taken) < count:
            page = pages.pop()
            start = self.memory.allocator.zones[page.zone.number].start
            block = [other for other in pages if order and (other.pfn - start) >> order == (page.pfn - start) >> order]
            for other in block:
                pages.remove(other)
            taken += [page, *sorted(block, key=lambda other: other.pfn)]
        return taken

    def shrink_active_list(self, lru: LruZone, sc: ScanControl, count: int, priority: int) -> int:
        """The oldest active pages turn inactive; a mapped one stays if referenced, or if not wanted."""
        wanted = self.reclaim_mapped(lru, priority) and self.memory.swap.pages > 0
        looked_at = self.isolate_lru_pages(lru.active, count, sc.order)
        for page in looked_at:
            page.active = page.mapped and (not wanted or page.referenced or page.mlocked)
            if page.mapped and wanted:
                page.referenced = False
            lru.add(page)
        lru.pages_scanned += len(looked_at)
        return len(looked_at)

    def reclaim_mapped(self, lru: LruZone, priority: int) -> bool:
        """calc_reclaim_mapped."""
        if lru.pages_scanned >= 3 * lru.pages:  # near OOM
            return True
        mapped = self.memory.anon_mapped * 100 // sum(zone.present for zone in self.memory.allocator.zones)
        imbalance = len(lru.active) // (len(lru.inactive) + 1) * (self.swappiness + 1) // 100 * mapped // 100
        return mapped // 2 + (100 >> priority) + self.swappiness + imbalance >= 100

    def shrink_inactive_list(self, task: Task, lru: LruZone, sc: ScanControl, max_scan: int, spent: int):
        """Batches of 32 off the tail, until ``max_scan`` pages were looked at or none is left."""
        nr_scanned = 0
        while True:
            page_list = self.isolate_lru_pages(lru.inactive, SWAP_CLUSTER_MAX, sc.order)
            lru.pages_scanned += len(page_list)
            nr_scanned += len(page_list)
            for page in page_list:
                page.isolated = True
            yield spent
            spent = 0
            if not page_list:
                return
            for page in (yield from self.shrink_page_list(task, page_list, sc)):
                page.isolated = False
                lru.add(page)
            self.release(sc)
            if nr_scanned >= max_scan:
                yield 0
                return

    def release(self, sc: ScanControl) -> None:
        """The last one reclaimed is freed first, all as cold pages [__pagevec_free]."""
        while sc.freed:
            self.memory.free_page(sc.freed.pop(), cold=True)

    # -- a page

    def shrink_page_list(self, task: Task, page_list: list[Page], sc: ScanControl):
        """Oldest first. Its value: the pages to be put back, in the same order."""
        kept: list[Page] = []
        task.pages_held = page_list
        while page_list:
            page = page_list[0]
            wants_slot = not (page.writeback or page.orphan or page.slot is not None or page.referenced) and (
                page.anon or page.dirty
            )
            if wants_slot or (page.slot is not None and not page.writeback):
                held = self.costs["swap_lock"] if wants_slot else 0
                if not self.machine.take_swap_lock(task, held):
                    yield None  # spins
                    continue
            if wants_slot and (yield from self.find_cluster(task)):
                continue  # things may have changed meanwhile
            page_list.pop(0)
            sc.nr_scanned += 2 if page.mapped or page.slot is not None else 1
            spent = self.costs["scan_page"]
            what, more = self.look_at(task, page)
            spent += more
            if what == "keep":
                kept.append(page)
            elif what == "free":
                sc.nr_reclaimed += 1
                sc.freed.append(page)
                if len(sc.freed) == PAGEVEC_SIZE:
                    self.release(sc)
            task.submitting = what == "write"
            yield spent
            if what == "write":
                yield from self.machine.swap_writepage(task, page, kept)
        return kept

    def find_cluster(self, task: Task):
        """Look for a free cluster if the present one is used up; True: that took time."""
        swap = self.memory.swap
        if swap.cluster_nr or task.cluster_found is not None or not swap.free:
            return False
        search = swap.begin_search()
        if search is None:
            task.cluster_found = False
            return False
        yield 0
        while task.cluster_found is None:
            looked, task.cluster_found = swap.search(search, SEARCH_STEP)
            yield looked * self.costs["swap_slot"]
        return True

    def get_swap_page(self, task: Task) -> tuple[int | None, int]:
        """A slot, and what the look for it cost."""
        slot = self.memory.swap.take(task.cluster_found)
        task.cluster_found = None
        return slot, self.memory.swap.looked * self.costs["swap_slot"] + self.costs["swap_cache"]

    def look_at(self, task: Task, page: Page) -> tuple[str, int]:
        """What becomes of an isolated page: "keep", "free" or "write"; and what that costs."""
        if page.writeback:
            return "keep", 0
        if page.orphan:
            if page.slot is not None:
                self.memory.remove_mapping(page)
            return "free", self.costs["reclaim_page"]
        referenced, page.referenced = page.referenced, False
        if referenced and (page.mapped or page.slot is not None):
            page.active = True
            return "keep", 0
        spent = 0
        if page.anon and page.slot is None:
            slot, spent = self.get_swap_page(task)
            if not self.memory.add_to_swap(page, slot, task):
                page.active = True
                return "keep", spent
        if page.dirty:
            if referenced:
                return "keep", spent
            if page.slot is None:
                slot, spent = self.get_swap_page(task)
                if not self.memory.shmem_writepage(page, slot, task):
                    page.active = True
                return "keep", spent
            page.dirty, page.reclaim, page.locked = False, True, True
            return "write", spent + self.costs["swap_page"]
        self.memory.remove_mapping(page)
        return "free", spent + self.costs["reclaim_page"]
