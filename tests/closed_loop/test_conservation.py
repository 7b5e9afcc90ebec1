"""Nothing is lost and nothing is made: the debug mode after each tick, and a census of every object at intervals.

The debug mode counts pages, slots, pool elements, requests, bios, commands and tasks [DESIGN, rule 9]; the census adds
that each object in use has a holder that can free it, each used swap slot somebody who refers to it, and each logical
page one frame.
"""

import pytest

from fastalloc.batch.lane import build_lane
from fastalloc.kernels.lane.metrics import METRIC
from fastalloc.kernels.lane.state import VM
from fastalloc.kernels.lane.tasks import TASK
from tests.closed_loop.census import held, in_use, logical_pages, swap_slots
from tests.closed_loop.small import OWN_CORES, advance, livelocked_lane, metric, preset, run, small

SHORT_TREES = {"workload.tree_files": 60, "workload.writer_pages": 700, "workload.copiers": 40}
PRESSED = {"machine.min_free_kbytes": 0}
CASES = {
    "as it is": {},
    "nothing in reserve": PRESSED,
    "short trees, writers that wrap around": SHORT_TREES,
    "short trees, nothing in reserve": SHORT_TREES | PRESSED,
    "long files": {"workload.mean_file_pages": 40, "workload.tree_files": 90},
    "one page a file": {"workload.mean_file_pages": 1, "workload.tree_files": 2000},
    "only writers": {"workload.copiers": 0, "workload.writers": 6, "workload.writer_pages": 3000},
    "only copiers": {"workload.writers": 0},
    "depth 16": {"host.queue_depth": 16, "host.can_queue": 16} | PRESSED,
    "depth 16, can_queue 3": {"host.queue_depth": 16, "host.can_queue": 3} | PRESSED,
    "HZ 1000": {"machine.hz": 1000} | PRESSED,
    "HZ 100": {"machine.hz": 100} | PRESSED,
    "one CPU": {"machine.cpus": 1} | PRESSED,
    "four CPUs": {"machine.cpus": 4, "disk.irq_cpu": 3} | PRESSED,
    "CPUs that take turns on a core": {"machine.shared_core": True} | PRESSED,
    "four requests": {"queue.nr_requests": 4},
    "sixteen requests, no merging": {"queue.nr_requests": 16, "queue.merge": False},
    "no merging": {"queue.merge": False} | PRESSED,
    "one segment": {"queue.max_segments": 1},
    "unplugged at once": {"queue.unplug_thresh": 1} | PRESSED,
    "no batching": {"queue.batch_requests": 0, "queue.nr_requests": 16},
    "swap nearly full": {"machine.swap_pages": 2048, "workload.tree_files": 300, "workload.writer_pages": 900},
    "swap full": {"machine.swap_pages": 256},
    "no swap": {"machine.swap_pages": 0, "workload.tree_files": 100, "workload.writer_pages": 600},
    "no free_list": {"host.free_list": 0} | PRESSED,
    "free_list of four": {"host.free_list": 4} | PRESSED,
    "mempool keeps WAIT": {"policy.mempool_rule": "keep-wait"} | PRESSED,
    "kblockd in PF_MEMALLOC": {"policy.kblockd_memalloc": True} | PRESSED,
    "completion delayed": {"disk.completion_delay_us": 1000} | PRESSED,
    "fast disk": {"disk.iops": 20000, "disk.bytes_per_second": 200_000_000} | PRESSED,
    "much noise": {"workload.atomic_objects_per_s": 3000, "workload.atomic_pages_per_s": 3000} | PRESSED,
    "no noise": {"workload.atomic_objects_per_s": 0, "workload.atomic_pages_per_s": 0} | PRESSED,
    "swappiness 0": {"workload.swappiness": 0} | PRESSED,
}
# Corners in which a command or a sense buffer is refused, and a lane where one is: in others the rules are one machine.
REFUSED = {
    "as it is": 4,
    "nothing in reserve": 9,
    "long files": 1,
    "one page a file": 1,
    "only writers": 3,
    "only copiers": 7,
    "depth 16": 7,
    "depth 16, can_queue 3": 9,
    "HZ 1000": 3,
    "HZ 100": 1,
    "four CPUs": 9,
    "unplugged at once": 5,
    "swap nearly full": 5,
    "swap full": 3,
    "no free_list": 1,
    "free_list of four": 1,
    "mempool keeps WAIT": 9,
    "kblockd in PF_MEMALLOC": 9,
    "completion delayed": 3,
    "fast disk": 3,
    "much noise": 8,
    "no noise": 1,
    "swappiness 0": 2,
}
CORNERS = [(case, "rc8") for case in CASES] + [(case, "fix") for case in REFUSED]
VARIANTS = ("rc8", "fix", "nomerge", "ctor", "depth16")
# In lane 0 the rule of the fix is not asked.
LANES = [
    ("rc8", 0),
    ("rc8", 1),
    ("rc8", 2),
    ("fix", 1),
    ("fix", 2),
    ("nomerge", 0),
    ("nomerge", 1),
    ("ctor", 0),
    ("ctor", 1),
]
LANES += [("depth16", 1), ("depth16", 2)]


def watched(scenario, lane, looks=25):
    """A lane run with the debug checks on; at intervals every object, slot and page must have its holder."""
    arrays = build_lane(scenario, lane, 1, debug=True)
    end = scenario.run.duration_s * 1000
    for i in range(1, looks + 1):
        advance(lane, arrays, end * i / looks)
        assert in_use(arrays).tolist() == held(arrays).tolist()
        used, referred = swap_slots(arrays)
        assert used == referred == arrays.vm.ctl[VM.swap_pages] - arrays.vm.ctl[VM.swap_free]
        frames, owners = logical_pages(arrays)
        assert frames == owners
    return arrays


@pytest.mark.parametrize(("variant", "lane"), LANES)
def test_every_variant(variant, lane):
    watched(small(variant), lane)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_in_the_lane_that_livelocks(variant):
    watched(small(variant, OWN_CORES), livelocked_lane())


@pytest.mark.parametrize(("case", "rule"), CORNERS)
def test_every_corner(case, rule):
    lane = REFUSED.get(case, 1)
    arrays = watched(small("rc8", CASES[case] | {"policy.command_rule": rule, "run.duration_s": 12.0}), lane)
    refused = arrays.out.metric[METRIC.sense_fail] + arrays.out.metric[METRIC.cmd_fail]
    assert (refused > 0) == (case in REFUSED)


@pytest.mark.parametrize("variant", ["rc8", "fix", "nomerge", "ctor"])
def test_hugh_shrunk(variant):
    shrunk = {"workload.copiers": 4, "workload.writers": 0, "workload.tree_files": 900, "machine.min_free_kbytes": 500}
    watched(small(variant, shrunk, "hugh-256m"), 0)
    watched(small(variant, shrunk | PRESSED, "hugh-256m"), 1)


OFTEN = [
    ("rc8", 10.0),
    *(pytest.param(variant, 40.0, marks=pytest.mark.slow) for variant in ("rc8", "fix", "nomerge", "ctor")),
]


@pytest.mark.parametrize(("variant", "seconds"), OFTEN)
def test_the_machine_of_the_preset_whole(variant, seconds):
    """512 MB until well into its first episode, checked at every tick."""
    result = run(preset(variant, {"run.duration_s": seconds}), 2, debug=True)
    assert metric(result, "bio_waits") > 0
    if variant == "rc8":
        assert metric(result, "sense_fail") > 100


def test_short_trees_are_removed_and_wrap_around():
    """The corner that removes trees under reclaim is not an empty one: orphans under writeback occur."""
    arrays = watched(small("rc8", SHORT_TREES), 0)
    assert (arrays.vm.task[1 : arrays.vm.ctl[VM.kthreads], TASK.tree] >= 2).all()


def test_swap_that_is_full_stops_nothing_else():
    """With no slot left reclaim activates the page and goes on; nobody is killed, every slot stays in use."""
    arrays = watched(small("rc8", CASES["swap full"]), 0)
    assert arrays.vm.ctl[VM.swap_free] == 0
