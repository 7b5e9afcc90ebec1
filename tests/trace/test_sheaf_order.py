"""The order of a 7.x trace found by addresses: examples worked by hand.

``thing`` has four objects a slab and 12 a sheaf. Task 1 refills its sheaf out of the slabs at 100 to 102, which gives
the objects of the last one first: number 3, 2, 1 and 0 of slab 102.
"""

import pytest

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.infer import DIRECT_MAP
from fastalloc.trace.lanes import lane as ln
from fastalloc.trace.lanes import slub_lane
from fastalloc.trace.order.sheaf_order import resolve_sheaf_order
from fastalloc.trace.replay.recording import read_trace
from fastalloc.trace.replay.whatif import as_traced
from tests.trace.sheaf_trace import Trace


def refilled():
    trace = Trace()
    trace.pages(1, 100, 101, 102)
    trace.alloc(1, "thing", 102, 3)
    trace.alloc(1, "thing", 102, 2)
    return trace


def interrupt_frees(trace, index):
    """A callback of call_rcu, in the name of task 1."""
    trace.free(1, "thing", 102, index)
    trace.rows[-1]["call_site"] = "rcu_do_batch+0x1bf"


def resolved(trace, tmp_path):
    recording = trace.open(tmp_path)
    base = as_traced(recording.caches)
    found, steps = resolve_sheaf_order(recording.trace, base, recording.start, read_trace(trace.write(tmp_path)))
    e = found.events
    own = [row for row in e if co.OPS[row["op"]] in ("alloc", "free", "free_locked")]
    pages = [(int(found.ptrs[row["object"]]) - DIRECT_MAP) % 4096 // 1024 for row in own]
    return [f"{co.OPS[row['op']]} {index}" for row, index in zip(own, pages, strict=True)], steps


@pytest.mark.parametrize("second", [3, 0])
def test_an_interrupt_between_an_allocation_and_its_event(tmp_path, second):
    """Object 1 was on top before the free of 3. Where the next allocation gets 3, that free was put on top behind it;
    where it gets 0, what lay below 1, the sheaf was locked and 3 went to its slab."""
    trace = refilled()
    interrupt_frees(trace, 3)
    trace.alloc(1, "thing", 102, 1)
    trace.alloc(1, "thing", 102, second)
    order, steps = resolved(trace, tmp_path)
    if second == 3:
        assert order == ["alloc 3", "alloc 2", "alloc 1", "free 3", "alloc 3"]
        assert steps == {"operations put where addresses say they were": 1}
    else:
        assert order == ["alloc 3", "alloc 2", "free_locked 3", "alloc 1", "alloc 0"]
        assert steps["frees past sheaves that an interrupted call held"] == 1


def test_what_agrees_stays(tmp_path):
    trace = refilled()
    interrupt_frees(trace, 3)
    trace.alloc(1, "thing", 102, 3)
    trace.alloc(1, "thing", 102, 1)
    order, steps = resolved(trace, tmp_path)
    assert (order, steps) == (["alloc 3", "alloc 2", "free 3", "alloc 3", "alloc 1"], {})


def test_what_the_task_did_itself_bounds_an_allocation(tmp_path):
    """The free is its own, before: no order gives it object 1 from below."""
    trace = refilled()
    for _ in range(70):  # more events than interrupts may have hidden
        trace.alloc(1, "other", 5)
        trace.free(1, "other", 5)
    trace.free(1, "thing", 102, 3)
    for _ in range(70):
        trace.alloc(1, "other", 5)
        trace.free(1, "other", 5)
    trace.alloc(1, "thing", 102, 1)
    order, steps = resolved(trace, tmp_path)
    assert order[-1] == "alloc 1"
    assert steps == {"addresses that no order explains": 1}


def test_an_object_freed_past_the_sheaves_is_free_in_its_slab(tmp_path):
    trace = refilled()
    interrupt_frees(trace, 3)
    trace.alloc(1, "thing", 102, 1)
    trace.alloc(1, "thing", 102, 0)
    recording = trace.open(tmp_path)
    base = as_traced(recording.caches)
    found, _ = resolve_sheaf_order(recording.trace, base, recording.start, read_trace(trace.write(tmp_path)))
    table = slub_lane.run(found, base, recording.start, ln.NO_SAMPLES).caches
    thing = table.filter(cache="thing")
    assert thing.select("free_slowpath", "free_fastpath", "objects").row(0) == (1, 0, 3)
