"""Refills of sheaves told by the pages and sheaves that the trace shows: examples worked by hand.

``thing`` has slots of 1024 bytes: four a slab of one page, and 12 a sheaf, so a refill of nothing allocates three
slabs.
"""

import pytest

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.infer import DIRECT_MAP
from tests.trace.sheaf_trace import SHEAF, SLAB, Trace


def steps(recording):
    e = recording.trace.events
    return [co.OPS[op] for op in e["op"].tolist() if co.OP_BEGIN_REFILL <= op <= co.OP_INSTALL]


def two_tasks(first_pages, second_pages):
    """Task 1 is preempted before its event; task 2 allocates on the same CPU meanwhile."""
    trace = Trace()
    trace.alloc(1, "other", 5)
    trace.alloc(2, "other", 5, 1)
    trace.pages(2, *first_pages)
    trace.alloc(2, "thing", 102, 3)
    trace.pages(1, *second_pages)
    trace.alloc(1, "thing", 102, 2)
    return trace


def test_a_preempted_task_refills_a_second_sheaf(tmp_path):
    recording, caches = two_tasks((100, 101, 102), (200, 201, 202)).run(tmp_path)
    thing = caches["thing"]
    assert (thing["new"], thing["sheaf_refill"]) == (6, 24)
    # The second sheaf finds the first in use: it is the spare one, and the empty one of the start in the barn.
    assert steps(recording).count("install") == 2


def test_a_refill_may_lose_its_cpu_between_two_slabs(tmp_path):
    """``part`` has nine objects a slab and 28 a sheaf: four slabs, eight objects over. They are on the list once the
    fourth is there: task 2 finds none of them, and allocates four slabs too."""
    trace = Trace()
    trace.pages(1, 200, 201, 202)
    trace.pages(2, 300, 301, 302, 303, cpu=1)
    trace.alloc(2, "part", 303, cpu=1)
    trace.pages(1, 203)
    trace.alloc(1, "part", 203)
    _, caches = trace.run(tmp_path)
    assert caches["part"]["new"] == 8


@pytest.mark.parametrize("pid", [1, 3])
def test_a_refill_may_have_begun_before_any_allocation_on_its_cpu(tmp_path, pid):
    """Its task has no event before: it began where task 2 found nothing either."""
    trace = Trace()
    trace.alloc(2, "other", 5, 1)
    trace.pages(2, 100, 101, 102)
    trace.alloc(2, "thing", 102, 3)
    trace.pages(pid, 200, 201, 202)
    trace.alloc(pid, "thing", 102, 2)
    _, caches = trace.run(tmp_path)
    assert caches["thing"]["new"] == 6


def test_without_its_pages_nothing_tells_of_the_second_refill(tmp_path):
    _, caches = two_tasks((100, 101, 102), ()).run(tmp_path)
    assert (caches["thing"]["new"], caches["thing"]["sheaf_refill"]) == (3, 12)


@pytest.mark.parametrize("wrong", ["order", "mask"])
def test_pages_of_something_else_tell_nothing(tmp_path, wrong):
    trace = two_tasks((100, 101, 102), ())
    last = trace.rows.pop()
    trace.pages(1, 200, 204, 208, **({"order": 2} if wrong == "order" else {"gfp": SLAB & ~0x80000}))
    trace.rows.append(last | {"ts_ns": 10**6})
    _, caches = trace.run(tmp_path)
    assert caches["thing"]["new"] == 3


def test_a_refill_that_the_rules_do_not_explain_is_none(tmp_path):
    """Nobody else allocated: the sheaf cannot have been empty."""
    trace = Trace()
    trace.pages(1, 100, 101, 102)
    trace.alloc(1, "thing", 102, 3)
    trace.pages(1, 200, 201, 202)
    trace.alloc(1, "thing", 102, 2)
    _, caches = trace.run(tmp_path)
    assert caches["thing"]["new"] == 3


@pytest.mark.parametrize("allocated", [3, 4])
def test_what_is_no_new_slab_came_from_the_lists(tmp_path, allocated):
    """Nine objects a slab, 28 a sheaf: of task 2's four slabs 8 objects are left. With them task 1 needs three more
    slabs; where it allocated four it had looked before they came."""
    trace = Trace()
    trace.alloc(1, "other", 5)
    trace.alloc(2, "other", 5, 1)
    trace.pages(2, 100, 101, 102, 103)
    trace.alloc(2, "part", 103)
    trace.pages(1, *range(200, 200 + allocated))
    trace.alloc(1, "part", 103, 1)
    _, caches = trace.run(tmp_path)
    assert caches["part"]["new"] == 4 + allocated


def test_callbacks_in_the_task_s_name_do_not_bound_its_refill(tmp_path):
    """They free what fills the sheaf again, after it was found empty."""
    trace = Trace()
    trace.pages(1, 100, 101, 102)
    for i in range(12):
        trace.alloc(1, "thing", 102 - i // 4, 3 - i % 4)
    for i in range(2):
        trace.free(1, "thing", 102, 3 - i)
        trace.rows[-1]["call_site"] = "rcu_do_batch+0x1bf"
    trace.pages(1, 200, 201, 202)
    trace.alloc(1, "thing", 202, 3)
    _, caches = trace.run(tmp_path)
    assert caches["thing"]["new"] == 6
    for row in trace.rows:
        row["call_site"] = "f+0x1"
    _, caches = trace.run(tmp_path)
    assert caches["thing"]["new"] == 3


def test_an_interrupt_s_allocation_lies_between(tmp_path):
    """Of another cache, in the task's name, after the pages."""
    trace = two_tasks((100, 101, 102), (200, 201, 202))
    last = trace.rows.pop()
    trace.alloc(1, "other", 5, 2)
    trace.rows.append(last | {"ts_ns": 10**6})
    _, caches = trace.run(tmp_path)
    assert caches["thing"]["new"] == 3  # pages that no object names are of the next allocation
    trace = two_tasks((100, 101, 102), (200, 201, 202))
    last = trace.rows.pop()
    trace.alloc(1, "other", 5, 2)
    trace.rows.append(last | {"ts_ns": 10**6})
    for i in range(12):
        trace.rows.append(last | {"ts_ns": 10**6 + 1 + i, "ptr": DIRECT_MAP + (202 << 12) + 1024 * i - 8192})
    _, caches = trace.run(tmp_path)
    assert caches["thing"]["new"] == 6


def test_the_sheaf_made_tells_where_no_page_was_allocated(tmp_path):
    """Of a cache whose refills take less than a slab: the second one takes the rest of the first one's."""
    trace = Trace()
    trace.alloc(1, "thing", 7)
    trace.alloc(2, "thing", 8)
    trace.kmalloc(2, 512, 20, site=SHEAF)
    trace.pages(2, 100)
    trace.alloc(2, "other", 100, 59)
    trace.kmalloc(1, 512, 20, 1, site=SHEAF)
    trace.alloc(1, "other", 100, 58)
    recording, caches = trace.run(tmp_path)
    other = caches["other"]
    assert recording.steps["refills of sheaves told by the sheaf made"] == 1
    assert (other["sheaf_refill"], other["new"]) == (120, 2)
    assert steps(recording)[-2:] == ["refill_lists", "install"]


def test_a_kmalloc_cache_s_sheaf_comes_from_a_slab(tmp_path):
    """kmalloc-512 needs a sheaf, of kmalloc-256: that one has no object, and must not refill for it."""
    trace = Trace()
    trace.kmalloc(1, 256, 30, site=SHEAF)
    trace.kmalloc(1, 512, 40)
    recording, caches = trace.run(tmp_path)
    assert (recording.trace.events["op"] == co.OP_SHEAF_MEMORY).sum() == 1
    assert (caches["kmalloc-256"]["sheaf_refill"], caches["kmalloc-256"]["new"]) == (0, 1)
    assert caches["kmalloc-512"]["sheaf_refill"] == 28
    trace = Trace()
    trace.kmalloc(1, 128, 30, site=SHEAF)
    trace.alloc(1, "thing", 40)
    assert (trace.open(tmp_path).trace.events["op"] != co.OP_SHEAF_MEMORY).all()


def test_a_sheaf_made_for_a_free_is_of_what_was_freed(tmp_path):
    trace = Trace()
    trace.kmalloc(1, 512, 40)
    trace._add(1, "free", src="kfree", ptr=DIRECT_MAP + (40 << 12))
    trace.kmalloc(1, 256, 30, site="__pcs_replace_full_main+0x10c")
    recording, _ = trace.run(tmp_path)
    assert (recording.trace.events["op"] == co.OP_SHEAF_MEMORY).sum() == 1


def test_a_slab_of_a_smaller_order_is_allocated_as_such(tmp_path):
    """A block of order 1 was not to be had: its second try, and mask, give four objects instead of eight; then a slab
    of order 1 fills the sheaf of twelve."""
    trace = Trace()
    trace.pages(1, 100, gfp=SLAB & ~0x10000)
    trace.pages(1, 104, order=1)
    trace.alloc(1, "thing", 104, 0)
    for i in range(4):
        trace.alloc(1, "thing", 100, i)
    readings = tmp_path / "run.slabs.csv"
    readings.write_text(
        "cache,slab_size,object_size,order,objs_per_slab,cpu_partial,min_partial,slabs,objects,total_objects,partial\n"
        "thing,1024,1024,1,8,0,5,0,0,0,0\nother,64,64,0,64,0,5,0,0,0,0\n"
    )
    recording = trace.open(tmp_path, slabs=readings)
    thing = recording.run([])[0].result.caches.filter(cache="thing").row(0, named=True)
    assert (thing["new"], thing["order_fallback"], thing["sheaf_refill"]) == (2, 1, 12)
    assert thing["peak"] == 2
