"""The stealing band in closed form, through the functions of the closed loop [allocators.md, section 5.3].

Between 3/4 and 3/8 of pages_min a sense buffer still allocates a page and a bio does not: each page allocated there
yields 32 slots of the merged cache, one for the sense buffer and 31 for bios. The result is read from the ledger.
"""

import pytest

from fastalloc.kernels.alloc.mempool import MEMPOOL
from fastalloc.kernels.alloc.state import DEPTH, SLUB_CTL, ZONE
from fastalloc.kernels.lane.metrics import WHO
from fastalloc.kernels.lane.state import POOL, ROLE
from fastalloc.kernels.lane.tasks import TASK
from fastalloc.linux import gfp as g
from tests.closed_loop import driver as d


def one_zone(pages_min, present=6000):
    return [
        {
            "name": "DMA32",
            "present": present,
            "min": pages_min,
            "low": pages_min + pages_min // 4,
            "high": pages_min + pages_min // 2,
            "protection": [0],
            "pcp_high": 0,
            "pcp_batch": 1,
        }
    ]


def contend(pages_min, spare, **settings):
    """A sense buffer, then bios until one must sleep, and again, until neither gets anything; the machine then."""
    machine = d.Machine(machine__zones=one_zone(pages_min), machine__min_free_kbytes=None, **settings)
    machine.leave_free(pages_min - pages_min // 4 + spare)
    moved = True
    while moved:
        sense = machine.call(d.take, ROLE.sense, 0, g.GFP_ATOMIC, 0, WHO.sense)
        moved = sense >= 0
        machine.call(d.run_on, 1, 0, 0)
        machine.vm.task[1, TASK.flags] = g.PF_MEMALLOC  # a reclaimer: NOMEMALLOC takes its privilege away
        handle = 0
        while handle >= 0:
            machine.vm.task[1, TASK.first] = 1
            handle = machine.call(d.take_from_pool, POOL.bio, WHO.bio, 1, 0, 0)
            moved = moved or handle >= 0
    assert machine.heap.ctl[SLUB_CTL.overflow] == 0
    assert machine.pools.pool[POOL.bio, MEMPOOL.curr] == 0
    return machine


def band(pages_min):
    """Pages between 3/4 and 3/8 of min, by the integer rules of zone_watermark_ok."""
    high = pages_min - pages_min // 2
    return (pages_min - pages_min // 4) - (high - high // 4)


@pytest.mark.parametrize("spare", [0, 1, 40])
@pytest.mark.parametrize("pages_min", [4, 7, 16, 101, 256, 512, 724])
def test_bios_that_ride_on_atomic_pages_are_31_times_the_band(pages_min, spare):
    machine = contend(pages_min, spare)
    ledger = machine.out.ledger
    assert ledger[WHO.sense, DEPTH.atomic, WHO.bio] == 31 * band(pages_min)
    assert ledger[WHO.sense, DEPTH.atomic, WHO.sense] == band(pages_min)
    assert ledger[WHO.bio].sum() == 32 * spare  # what bios could still allocate themselves
    # nobody went deeper, and what is left is 3/8 min
    assert not ledger[:, DEPTH.none].any()
    assert machine.mem.zone[0, ZONE.free] == pages_min - pages_min // 4 - band(pages_min)


@pytest.mark.parametrize(
    ("megabytes", "pages_min", "bios"), [(64, 256, 2976), (128, 362, 4216), (256, 512, 5952), (512, 724, 8401)]
)
def test_the_table(megabytes, pages_min, bios):
    assert contend(pages_min, 0).out.ledger[WHO.sense, DEPTH.atomic, WHO.bio] == bios


@pytest.mark.parametrize("settings", [{"policy__slub_nomerge": True}, {"policy__sense_ctor": True}])
def test_unmerged_nobody_rides(settings):
    machine = contend(256, 0, **settings)
    assert not machine.out.ledger[WHO.sense, :, WHO.bio].any()
    assert machine.out.ledger[WHO.sense, DEPTH.atomic, WHO.sense] > 0


def test_with_wait_kept_the_band_begins_at_min():
    """The first try of a mempool that keeps WAIT stops at min: the band is min to 3/8 min."""
    pages_min = 256
    machine = contend(pages_min, pages_min // 4, policy__mempool_rule="keep-wait")
    assert machine.out.ledger[WHO.sense, DEPTH.atomic, WHO.bio] == 31 * (pages_min - 96)
