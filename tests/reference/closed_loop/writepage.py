"""Pass 2 of a page: bio, biovec, merge or request, submission; each may sleep [mm/page_io.c, block/blk-core.c]."""

from collections import deque

from tests.reference.closed_loop.block import Bio, Request
from tests.reference.closed_loop.radix_tree import LONGEST_PATH
from tests.reference.closed_loop.sched import Task
from tests.reference.page_alloc import Task as Context

GFP_NOIO = 0x10


def mempool_alloc(machine, pool, task: Task):
    """An element for a reclaimer: each round the slab, then the reserve, then 5 s or until one comes back."""
    first = True
    while True:
        element = pool.alloc_round(task.cpu, GFP_NOIO, Context(memalloc=task.memalloc), first)
        if element is not None:
            return element
        if pool.name == "bio":
            machine.event("bio_wait", task, int(task.timed_out and not first))
        first = False
        machine.sched.sleep_on(task, f"{pool.name} pool", machine.mempool_timeout)
        yield machine.costs["wake"]


def swap_writepage(machine, task: Task, page, kept):
    """A locked page that is clean already: a bio for it, and writeback from before it is submitted."""
    pools = machine.pools
    memory_of_bio = yield from mempool_alloc(machine, pools["bio"], task)
    bio = Bio(memory_of_bio, page)
    machine.bios += 1
    bio.vec = yield from mempool_alloc(machine, pools["biovec"], task)
    bio.slot = page.slot
    page.writeback, page.locked = True, False
    kept.append(page)
    machine.memory.writeback += 1
    if not machine.queue.merge(task.cpu, bio, task):
        request = yield from get_request_wait(machine, task, bio)
        machine.queue.add_request(machine.sched.cpus[task.cpu], request)
    task.submitting = False
    yield machine.costs["submit_bio"]


def get_request_wait(machine, task: Task, bio: Bio):
    """A request for the bio; whoever has waited for one is a batcher."""
    queue = machine.queue
    while True:
        if queue.charge(task):
            task.submitting = True
            element = yield from mempool_alloc(machine, machine.pools["request"], task)
            if not queue.is_cfq or task.io_context or link_context(machine, task):
                queue.granted(task)
                return Request(element, deque([bio]))
            # no context: the request goes back, which wakes the first waiter, or the task itself if nobody waits
            nobody_waits = not machine.sched.wait_queues.get("request")
            queue.put_request(task.cpu, Request(element, deque()))
            if nobody_waits:
                cpu = machine.sched.cpus[task.cpu]
                queue.unplug(cpu, "reclaimer")
                cpu.need_resched = True
                task.submitting = False
                yield machine.costs["wake"]
                queue.ioc_set_batching(task)
                continue
        queue.unplug(machine.sched.cpus[task.cpu], "reclaimer")
        machine.event("request_wait", task, queue.count)
        machine.sched.sleep_on(task, "request", exclusive=True)
        task.submitting = False
        yield machine.costs["wake"]
        queue.ioc_set_batching(task)


def link_context(machine, task: Task) -> bool:
    """cfq_cic_link: a task's first request costs a path of 11 radix nodes, for good."""
    if not machine.memory.preload(GFP_NOIO, Context(memalloc=task.memalloc)):
        return False
    for _ in range(LONGEST_PATH):
        machine.memory.node_alloc()
    task.io_context = True
    return True
