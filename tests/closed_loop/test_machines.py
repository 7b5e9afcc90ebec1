"""Machines of many shapes under load, every invariant checked at every tick, and where the kernel's pages come from."""

import numpy as np
import pytest

from fastalloc.batch.heap import build_layout
from fastalloc.batch.lane import build_lane
from fastalloc.batch.pressed import pressed
from fastalloc.batch.size import refuse_too_large
from fastalloc.batch.zones import lane_zones
from fastalloc.errors import InputError
from fastalloc.kernels.alloc import state as st
from fastalloc.kernels.alloc.state import KMEM_CACHE, PAGE, ZONE
from fastalloc.kernels.lane.metrics import METRIC, ZONES
from fastalloc.kernels.lane.state import IO
from fastalloc.scenario import Machine
from tests.closed_loop.small import advance, preset

# name -> zones as (node, name, pages, fields)
SHAPES = {
    "34 MB": [(0, "DMA", 512, {}), (0, "DMA32", 8192, {})],
    "Normal alone": [(0, "Normal", 9000, {})],
    "DMA32 alone, with CMA": [(0, "DMA32", 12000, {"cma": 3000, "highatomic": 512})],
    "HighMem": [(0, "DMA", 1000, {}), (0, "Normal", 8000, {}), (0, "HighMem", 9000, {})],
    "Movable": [(0, "DMA", 500, {}), (0, "DMA32", 3000, {}), (0, "Normal", 6000, {}), (0, "Movable", 6000, {})],
    "eight nodes": [(0, "DMA", 500, {}), *((node, "Normal", 1500, {}) for node in range(8))],
    "Movable on another node": [(0, "Normal", 9000, {}), (1, "Movable", 5000, {})],
}
LOAD = {
    "workload.copiers": 10,
    "workload.writers": 3,
    "workload.writer_pages": 6000,
    "workload.tree_files": 400,
    "workload.start_spread_ms": 50,
    "workload.bursts": [
        {"pages": 60, "every_ms": 50.0, "spread_ms": 2.0, "life_ms": 30.0, "cpus": 2},
        {"objects": 100, "object_bytes": 1024, "every_ms": 70.0, "spread_ms": 0.0, "life_ms": 200.0},
    ],
    "machine.shared_core": False,
    "machine.swap_pages": 1 << 16,
    "disk.iops": 5000,
    "disk.bytes_per_second": 400_000_000,
}


def machine(shape: str, cpus: int, kernel: str) -> Machine:
    zones = SHAPES[shape]
    names = {name for _, name, _, _ in zones}
    lists = {"min": 0, "low": 0, "high": 0, "protection": [0] * len(names), "pcp_high": 12, "pcp_batch": 3}
    return Machine.model_validate(
        {
            "name": shape,
            "kernel": kernel,
            "cpus": cpus,
            "min_free_kbytes": 400,
            "zones": [
                {"node": node, "name": name, "present": pages} | lists | more for node, name, pages, more in zones
            ],
        }
    )


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize(("cpus", "kernel"), [(1, "2.6.25"), (3, "6.12.1")])
def test_conservation_and_the_kernels_zones(shape, cpus, kernel):
    own = machine(shape, cpus, kernel)
    scenario = preset("fix", LOAD | {"machine": own.model_dump()})
    scenario = scenario.with_settings({"machine.swap_pages": 1 << 16})
    arrays = advance(0, build_lane(scenario, 0, 1, debug=True), 1500)
    mem, metric = arrays.mem, arrays.out.metric
    zones = lane_zones(own)
    assert [zone.name for zone in zones] == own.classes
    assert mem.zone[:, ZONE.present].tolist() == [zone.frames for zone in zones]
    flags = mem.page[:, PAGE.flags]
    slabs = (flags & st.PG_SLAB) != 0
    assert slabs.any()
    for z, zone in enumerate(zones):
        pages = slice(mem.zone[z, ZONE.start], mem.zone[z, ZONE.start] + zone.frames)
        if zone.name in ("HighMem", "Movable"):
            assert not slabs[pages].any(), "a slab in a zone that the kernel may not use"
            assert ((flags[pages] & st.PG_LRU) != 0).any(), "pages of tasks live there"
        assert 0 <= metric[METRIC.min_free[ZONES.index(zone.name)]] <= zone.frames
    assert metric[METRIC.burst_requests] > 1500
    assert metric[METRIC.bursts] >= 40
    assert metric[METRIC.pages_copied] + metric[METRIC.anonymous_pages] > sum(zone.frames for zone in zones) // 2


@pytest.mark.parametrize("kilobytes", [4, 16, 64])
def test_page_sizes(kilobytes):
    """A slab has as many objects as its bytes hold, and what the disk writes is as long."""
    own = machine("34 MB", 2, "6.12").model_dump() | {"page_kb": kilobytes, "swap_pages": 1 << 16}
    era = {"policy.slub_layout": "6.12", "policy.allocator": "cpu-partial"}
    scenario = preset("fix", LOAD | era | {"machine": own})
    layout = build_layout(scenario)
    for row in layout.rows:
        assert row[KMEM_CACHE.objects] == ((kilobytes * 1024) << row[KMEM_CACHE.order]) // row[KMEM_CACHE.size]
    arrays = advance(0, build_lane(scenario, 0, 1, layout=layout, debug=True), 1000)
    assert arrays.out.metric[METRIC.pages_swapped_out] > 0
    assert arrays.io.ctl[IO.page_ns] == 10**9 * kilobytes * 1024 // 400_000_000


def test_slab_and_slob_are_of_4_kb():
    own = machine("34 MB", 2, "6.12").model_dump() | {"page_kb": 64}
    with pytest.raises(InputError, match="pages of 4 kB"):
        preset("fix", {"machine": own, "policy.allocator": "slab"})


def test_a_thousand_cpus():
    own = machine("eight nodes", 1024, "6.12")
    scenario = preset("fix", LOAD | {"machine": own.model_dump()}).with_settings({"machine.swap_pages": 1 << 16})
    arrays = advance(0, build_lane(scenario, 0, 1), 300)
    assert arrays.mem.pcp.shape[0] == 1024
    assert arrays.out.metric[METRIC.pages_copied] > 0


def test_bursts_are_the_same_with_and_without_skipping():
    scenario = preset("fix", LOAD)
    ends = [advance(0, build_lane(scenario, 0, 1, skip=skip), 800).out.metric for skip in (True, False)]
    assert np.array_equal(*ends)


def test_a_burst_of_all_memory_is_refused_in_part():
    """What is granted is what lies between the free pages and the mark of GFP_ATOMIC, and every page comes back."""
    quiet = {"workload.copiers": 1, "workload.writers": 0, "workload.start_spread_ms": 100_000,
             "workload.atomic_objects_per_s": 0, "workload.atomic_pages_per_s": 0}  # fmt: skip
    own = machine("Normal alone", 1, "6.12")
    burst = {"pages": 9000, "every_ms": 1000.0, "spread_ms": 0.0, "life_ms": 100.0}
    scenario = preset("fix", LOAD | quiet | {"machine": own.model_dump(), "workload.bursts": [burst]})
    arrays = build_lane(scenario, 0, 1, debug=True)
    before = int(arrays.mem.zone[0, ZONE.free])
    lists = int(arrays.mem.pcp[0, 0, 0])
    advance(0, arrays, 1050)
    metric = arrays.out.metric
    mark = own.zones[0].min
    mark -= mark // 2
    mark -= mark // 4
    granted = metric[METRIC.burst_requests] - metric[METRIC.burst_refused]
    # down to the mark; the last batch takes free pages below it, and then its pages stay on the CPU's list
    assert abs(granted - (before + lists - mark)) < own.zones[0].pcp_batch
    assert metric[METRIC.bursts_refused] == 1


def large(gigabytes: int, nodes: int, cpus: int) -> Machine:
    row = {"name": "Normal", "present": gigabytes * (1 << 18) // nodes, "pcp_high": 1500, "pcp_batch": 63}
    rows = [row | {"node": node, "min": 0, "low": 0, "high": 0, "protection": [0]} for node in range(nodes)]
    made = {"name": "large", "kernel": "6.12", "cpus": cpus, "min_free_kbytes": 90112, "zones": rows}
    return Machine.model_validate(made | {"swap_pages": 1 << 20})


def test_a_large_machine_runs(monkeypatch):
    """64 CPUs, 256 GB, two nodes: what no task touches costs nothing."""
    load = {name: value for name, value in LOAD.items() if not name.startswith("machine.")}
    scenario = preset("fix", load | {"machine": large(256, 2, 64).model_dump()})
    monkeypatch.setenv("FASTALLOC_MEMORY", "4G")
    refuse_too_large([scenario], 1)
    arrays = advance(0, build_lane(scenario, 0, 1), 100)
    assert arrays.mem.page.shape[0] == 256 << 18
    assert arrays.out.metric[METRIC.pages_copied] > 0


def test_a_machine_of_which_every_page_is_left_out_is_refused():
    own = machine("Normal alone", 1, "6.12").model_dump() | {"min_free_kbytes": None}
    zones = [zone | {"cma": zone["present"]} for zone in own["zones"]]
    with pytest.raises(InputError, match="all pages are CMA"):
        pressed(Machine.model_validate(own | {"zones": zones}))


def test_a_machine_too_large_is_refused_with_what_it_would_take():
    scenario = preset("fix", {"machine": large(16384, 8, 1024).model_dump()})
    with pytest.raises(InputError, match=r"machine.zones.* GiB"):
        refuse_too_large([scenario], 1)
