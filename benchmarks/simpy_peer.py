"""Swapped-out pages a second: fastalloc's whole machine against SimPy with a bio mempool, a request queue and a disk.

The SimPy model takes the sizes of its commands from a lane of fastalloc and its service times from the same rule; it
has no page allocator, no slabs, no reclaim and no CPUs. A loop over a heap does the same without SimPy.
"""

import heapq
from collections.abc import Iterator

import numpy as np
from scipy.stats import ks_2samp

from benchmarks.lanes import FAST_DISK, metrics_of, scenario, timed
from benchmarks.measure import Row, beside, figure, seconds_of
from fastalloc.batch import run_lanes
from fastalloc.batch.lane import build_lane
from fastalloc.compiler.jit import kernel
from fastalloc.kernels.block.scsi import start_disk
from fastalloc.kernels.lane.metrics import EVENT
from fastalloc.kernels.lane.state import COMMAND, IO, REQUEST, VM

QUESTION = (
    "How many swapped pages a second: the whole machine in fastalloc; bio mempool, queue and disk alone in SimPy, by "
    "hand, and as a kernel?"
)
UNIT = "pages/s"
SECONDS = 120
TASKS = 54
BIOS = TASKS * 128  # in the pool: with fewer, tasks that each hold some would wait for each other for ever
SAMPLES = 20_000
SIGNIFICANCE = 1e-3  # of all KS tests together


@kernel
def disk_services(io, vm, sizes, found):
    """Service times of commands of ``sizes`` pages at fastalloc's disk, ns."""
    for i in range(sizes.shape[0]):
        io.request[0, REQUEST.nr_bios] = sizes[i]
        start_disk(io, vm)
        found[i] = io.ctl[IO.disk_done_at] - vm.ctl[VM.now]


def service_ns(pages: int, command_ns: int, page_ns: int, draw: float) -> int:
    """The rule of the disk, for the peers."""
    service = max(command_ns, pages * page_ns)
    return service - service // 32 + int(draw * (service // 16 + 1))


def simpy_pages(
    sizes: list[int], draws: list[float], command_ns: int, page_ns: int, slots: int
) -> tuple[int, list[int]]:
    """Pages written by the SimPy model, and the time of each completion, ns."""
    import simpy

    env = simpy.Environment()
    pool = simpy.Container(env, BIOS, BIOS)
    queue, disk = simpy.Resource(env, slots), simpy.Resource(env, 1)
    work = iter(zip(sizes, draws, strict=True))
    done: list[int] = []

    def reclaimer() -> Iterator:
        for pages, draw in work:
            for _ in range(pages):
                yield pool.get(1)
            with queue.request() as slot:
                yield slot
                with disk.request() as turn:
                    yield turn
                    yield env.timeout(service_ns(pages, command_ns, page_ns, draw))
            done.append(env.now)
            for _ in range(pages):
                yield pool.put(1)

    for _ in range(TASKS):
        env.process(reclaimer())
    env.run()
    return sum(sizes), done


def heap_pages(
    sizes: list[int], draws: list[float], command_ns: int, page_ns: int, slots: int
) -> tuple[int, list[int]]:
    """The same by hand: a heap of completions and counters."""
    free, now, free_slots, disk_free = BIOS, 0, slots, 0
    heap: list[tuple[int, int, int]] = []
    done: list[int] = []
    for number, (pages, draw) in enumerate(zip(sizes, draws, strict=True)):
        while free < pages or free_slots == 0 or len(heap) == TASKS:
            now, _, back = heapq.heappop(heap)
            done.append(now)
            free += back
            free_slots += 1
        for _ in range(pages):
            free -= 1
        free_slots -= 1
        disk_free = max(disk_free, now) + service_ns(pages, command_ns, page_ns, draw)
        heapq.heappush(heap, (disk_free, number, pages))
    done.extend(when for when, _, _ in sorted(heap))
    return sum(sizes), done


@kernel
def kernel_pages(sizes, draws, command_ns, page_ns, slots, done, held):
    """The same as a kernel over flat arrays; completions of one disk come in order, so the heap is a ring."""
    free, now, disk_free, head, pages_done = BIOS, 0, 0, 0, 0
    for number in range(sizes.shape[0]):
        while free < sizes[number] or number - head == slots or number - head == TASKS:
            now = done[head]
            free += held[head]
            head += 1
        free -= sizes[number]
        held[number] = sizes[number]
        service = max(command_ns, sizes[number] * page_ns)
        disk_free = max(disk_free, now) + service - service // 32 + np.int64(draws[number] * (service // 16 + 1))
        done[number] = disk_free
        pages_done += sizes[number]
    return pages_done


def run(quick: bool) -> Iterator[Row]:
    """The service times must be of one distribution, and the peers must agree on all times between completions."""
    repeats = 2 if quick else 7
    wanted = scenario("fix", FAST_DISK | {"run.duration_s": SECONDS, "run.max_events": 1 << 20})
    (lane,) = run_lanes(wanted, [0], seed=1, threads=1, full_events=True)
    sizes = lane.events[lane.events[:, 1] == EVENT.command_start, 4]
    disk = build_lane(wanted, 0, 1)
    command_ns, page_ns = int(disk.io.ctl[IO.command_ns]), int(disk.io.ctl[IO.page_ns])
    random = np.random.default_rng(1)
    draws = random.random(len(sizes))
    disk.io.ctl[IO.disk_head] = 0
    disk.io.command[0, COMMAND.request] = 0
    checks = (1, 128, int(np.median(sizes)))
    for pages in checks:
        own, found = np.full(SAMPLES, pages), np.zeros(SAMPLES, np.int64)
        disk_services(disk.io, disk.vm, own, found)
        peer = [service_ns(pages, command_ns, page_ns, draw) for draw in random.random(SAMPLES)]
        if ks_2samp(found, peer).pvalue < SIGNIFICANCE / len(checks):
            raise SystemExit(f"service times of {pages} pages are not of one distribution")
    asked = sizes.tolist(), draws.tolist(), command_ns, page_ns, int(disk.io.ctl[IO.nr_requests])
    if not np.array_equal(*(np.sort(np.diff(call(*asked)[1], prepend=0)) for call in (simpy_pages, heap_pages))):
        raise SystemExit("the SimPy model and the heap disagree")
    work = f"{len(sizes):,} commands, {int(sizes.sum()):,} pages"
    peers = {}
    for contestant, call in (("SimPy", simpy_pages), ("heapq loop", heap_pages)):
        rates = [int(sizes.sum()) / seconds_of(lambda call=call: call(*asked)) for _ in range(repeats)]
        peers[contestant] = figure(work, contestant, rates, UNIT)
        yield peers[contestant]
    yield from compiled(work, sizes, draws, asked, peers["SimPy"].value, repeats)
    yield from whole_machine(lane, wanted, work, peers, repeats)


def compiled(work, sizes, draws, asked, simpy_rate: float, repeats: int) -> Iterator[Row]:
    """The same model as a kernel: all its completions must be those of the heap."""
    done, held = np.zeros(len(sizes), np.int64), np.zeros(len(sizes), np.int64)
    numbers = asked[2:]
    kernel_pages(sizes, draws, *numbers, done, held)
    if done.tolist() != heap_pages(*asked)[1]:
        raise SystemExit("the kernel and the heap disagree")
    rates = [
        int(sizes.sum()) / seconds_of(lambda: kernel_pages(sizes, draws, *numbers, done, held)) for _ in range(repeats)
    ]
    yield beside(figure(work, "the same model as a kernel", rates, UNIT), simpy_rate, "SimPy")


def whole_machine(lane, wanted, work: str, peers: dict[str, Row], repeats: int) -> Iterator[Row]:
    """The machine that the sizes came from, all of it."""
    swapped = metrics_of(lane)["pages_swapped_out"]
    walls = [timed(wanted, 0, SECONDS)[0] for _ in range(repeats)]
    own = figure(work, "fastalloc, the whole machine", [swapped / wall for wall in walls], UNIT)
    for name, peer in peers.items():
        yield beside(own, peer.value, name)
