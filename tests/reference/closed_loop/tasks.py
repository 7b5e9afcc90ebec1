"""What tasks do: copiers write trees into tmpfs and remove them, writers touch anonymous pages [mm/shmem.c]."""

from tests.reference.closed_loop.memory import Logical
from tests.reference.closed_loop.radix_tree import LONGEST_PATH
from tests.reference.closed_loop.sched import Task
from tests.reference.page_alloc import PLAIN, RECLAIMABLE_BIT

GFP_KERNEL, GFP_HIGHUSER_PAGECACHE, GFP_NOWAIT = 0xD0, 0x1200D2, 0
FILE_PAGES_MAX = 64
UNMAP_BATCH = 14


class Allocation:
    """A request of a task that may reclaim: what __alloc_pages does after each failure."""

    def __init__(self, machine, task: Task):
        self.machine = machine
        self.task = task
        self.stage = "fresh"
        self.progress = False
        self.order = 0

    def failed(self):
        """Direct reclaim; with progress a nap of 20 ms and again; without it, nobody is killed here: a tick, afresh."""
        machine, task = self.machine, self.task
        wake = machine.costs["wake"]
        if self.stage != "reclaimed":
            machine.begin_reclaim(task, self.order)
            yield wake
            self.progress = yield from machine.reclaim.try_to_free_pages(task, self.order)
            self.stage = "reclaimed"
        elif self.progress:
            self.stage = "napped"
            machine.congestion_wait(task, 50)
            yield wake
        else:
            self.stage = "fresh"
            machine.sched.sleep_on(task, "start", 1)
            yield wake

    def page(self):
        """A frame."""
        pages = self.machine.allocator
        while True:
            pfn = None
            if self.stage == "fresh":
                pfn = pages.alloc_pages(self.task.cpu, GFP_HIGHUSER_PAGECACHE, 0).page
            elif self.stage == "reclaimed":
                mark = "pages_min" if self.progress else "pages_high"
                pfn = pages.get_page_from_freelist(self.task.cpu, GFP_HIGHUSER_PAGECACHE, 0, mark)
            if pfn is not None:
                self.stage = "fresh"
                return pfn
            self.order = 0
            yield from self.failed()

    def attempt(self, cache):
        """One object, or None."""
        if self.stage == "napped":
            return None
        gfp = GFP_KERNEL | RECLAIMABLE_BIT * (cache is self.machine.caches["radix"])
        thing = cache.alloc(self.task.cpu, gfp, PLAIN)
        if thing is not None:
            self.stage = "fresh"
        self.order = self.machine.allocator.reclaim_order
        return thing

    def object(self, cache):
        """An object of a cache."""
        while (thing := self.attempt(cache)) is None:
            yield from self.failed()
        return thing

    def path(self):
        """The buffer of a path [getname]."""
        return (yield from self.object(self.machine.caches["path"]))

    def preload(self):
        """Fill the stock of whichever CPU this is; another task may fill it meanwhile [shmem_getpage]."""
        while len(self.machine.sched.cpus[self.task.cpu].stock) < LONGEST_PATH:
            node = self.attempt(self.machine.caches["radix"])
            if node is None:
                yield from self.failed()
            else:
                self.machine.sched.cpus[self.task.cpu].stock.append(node)
        self.stage = "fresh"


def mkdir(machine, task: Task, asked: Allocation):
    """The copier's directory: dentry and inode are allocated under the i_mutex of the directory above, which is that of
    all copiers; who waits for it does so in turn, and keeps its turn when another one was faster."""
    path = yield from asked.path()
    waited = False
    while machine.i_mutex:
        machine.sched.sleep_on(task, "i_mutex", exclusive=not waited)
        waited = True
        yield machine.costs["wake"]
        machine.first_is_awake = False
    machine.i_mutex = True
    yield from asked.object(machine.caches["dentry"])
    yield from asked.object(machine.caches["inode"])
    machine.i_mutex = False
    if not machine.first_is_awake and machine.sched.wait_queues.get("i_mutex"):
        machine.first_is_awake = True
        machine.sched.wake_up_one("i_mutex", machine.sched.now)
    machine.putname(task, path)
    yield machine.costs["create_file"]


def copier(machine, task: Task, tree_files: int, tree_pages: int, file_pages):
    """Trees of files, one after the other; ``file_pages(tree, file)`` is a file's length."""
    asked = Allocation(machine, task)
    costs = machine.costs
    yield from mkdir(machine, task, asked)
    tree = 0
    while True:
        files = []
        while len(files) < tree_files and sum(len(file.pages) for file in files) + FILE_PAGES_MAX <= tree_pages:
            path = yield from asked.path()
            dentry = yield from asked.object(machine.caches["dentry"])
            inode = yield from asked.object(machine.caches["inode"])
            machine.putname(task, path)
            file = machine.memory.new_file(inode, dentry)
            yield costs["create_file"]
            for page in range(length := file_pages(tree, len(files))):
                yield from write_page(machine, asked, file)
                if page == length - 1:
                    machine.memory.call_rcu(lambda _cpu: None)  # struct file
                yield costs["copy_page"]
            files.append(file)
        yield 0
        for number, file in enumerate(files):
            path = yield from asked.path()
            machine.memory.call_rcu(lambda cpu, dentry=file.dentry: machine.caches["dentry"].free(cpu, dentry))
            for logical in file.pages:
                machine.memory.truncate(logical)
            machine.caches["inode"].free(task.cpu, file.inode)
            machine.putname(task, path)
            if number == len(files) - 1:
                tree += 1
                machine.event("tree_removed", task, tree)
            yield (1 + len(file.pages)) * costs["remove_page"]


def write_page(machine, asked: Allocation, file):
    """A page more of a file [shmem_getpage, add_to_page_cache]."""
    memory = machine.memory
    while True:
        yield from asked.preload()
        page = memory.new_page((yield from asked.page()))
        if memory.preload(GFP_NOWAIT, PLAIN):
            memory.add_to_page_cache(file, page)
            return
        memory.free_page(page)
        yield machine.costs["wake"]


def writer(machine, task: Task, pages: int):
    """Touch pages one by one, unmap them, 14 at a time, and again."""
    asked = Allocation(machine, task)
    memory, costs = machine.memory, machine.costs
    times = 0
    while True:
        mapped = []
        for _ in range(pages):
            page = memory.new_page((yield from asked.page()))
            page.owner = Logical(page)
            page.anon = page.mapped = page.referenced = page.active = True
            memory.anon_mapped += 1
            page.zone.add(page)
            mapped.append(page.owner)
            yield costs["fault_page"]
        for first in range(0, pages, UNMAP_BATCH):
            batch = mapped[first : first + UNMAP_BATCH]
            for logical in batch:
                memory.truncate(logical)
            if first + UNMAP_BATCH >= pages:
                times += 1
                machine.event("tree_removed", task, times)
            yield len(batch) * costs["unmap_page"]
