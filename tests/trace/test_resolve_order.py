"""The order of operations found from addresses: races made up, and runs of real kernels."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from fastalloc.kernels.alloc.state import DEPTH, SLUB_SLAB
from fastalloc.trace.compact import compact as co
from fastalloc.trace.lanes.lane import NO_SAMPLES
from fastalloc.trace.lanes.slub_lane import SlubRun, run
from fastalloc.trace.order import resolve_order
from fastalloc.trace.order import window as order_window
from fastalloc.trace.replay.check import check, read_summary
from fastalloc.trace.replay.prediction import predict
from fastalloc.trace.replay.recording import beside, open_recording, read_trace
from tests.geometry.shared import DATA, shared

RUN = DATA / "traces" / "d_stack_k612.events.parquet"


@pytest.fixture(scope="module")
def recording():
    return open_recording(RUN, beside(RUN, "slabstate"), None, "6.12", "slab_nomerge")


def figures(result):
    return result.caches.select("cache", "new", "freed", "peak", "end")


PTR = 0xFFFF888000000000


def line(cpu, us, what):
    return f"a-{cpu + 1} [00{cpu}] ..... 1.{us:06d}: {what}\n"


def alloc(page, number, gfp="GFP_KERNEL"):
    ptr = f"{PTR + page * 4096 + 512 * number:x}"
    return f"kmem_cache_alloc: call_site=f ptr={ptr} bytes_req=512 bytes_alloc=512 gfp_flags={gfp} node=-1"


def free(page, number):
    return f"kmem_cache_free: call_site=f ptr={PTR + page * 4096 + 512 * number:x} name=x"


def given(page):
    return f"mm_page_alloc: page=0 pfn=0x{page:x} order=0 migratetype=0 gfp_flags=GFP_KERNEL"


FULL = [(0, 10, given(16)), *((0, 20 + i, alloc(16, i)) for i in range(8))]
RACES = {
    # CPU 0 looked, found its slab full, and waits for pages; then CPU 1 frees an object of that slab.
    "a new slab asked for before a free": ([(1, 50, free(16, 0)), (0, 60, given(17)), (0, 70, alloc(17, 0))], 2, 1),
    # The free came when CPU 0 had looked no more; its slab is then on CPU 1's list.
    "a free before the new slab": ([(1, 50, free(16, 0)), (0, 60, alloc(16, 0))], 1, 0),
}


@pytest.mark.parametrize("case", RACES)
def test_when_a_new_slab_was_asked_for(tmp_path, case):
    lines, slabs, moved = RACES[case]
    path = tmp_path / "t.txt"
    path.write_text("".join(line(*item) for item in FULL + lines))
    recording = open_recording(path, None, None, "6.1", "slub_max_order=0")
    config = recording.configs([])[0]
    assert run(read_trace(path), config, recording.start, NO_SAMPLES).caches["new"].to_list() == [1]
    found = resolve_order.resolve_order(read_trace(path), config, recording.start)
    assert found.caches["moved"].sum() == moved
    assert found.caches["unexplained"].sum() == 0
    assert (found.trace.events["op"] == co.OP_BEGIN).sum() == moved
    assert run(found.trace, config, recording.start, NO_SAMPLES).caches["new"].to_list() == [slabs]


def slab(cpu, page, us, count=8, gfp="GFP_KERNEL"):
    """A slab allocated, and so many of its objects handed out."""
    return [(cpu, us, given(page)), *((cpu, us + 1 + i, alloc(page, i, gfp)) for i in range(count))]


def passed_over(gfp, others):
    """CPU 1 allocates a slab with ``gfp``; three objects of it come back on CPU 0, which allocates ``others`` all the
    same."""
    allocated = [*slab(1, 17, 10, gfp=gfp), *slab(1, 18, 20, 1, gfp), *((0, 30 + i, free(17, i)) for i in range(3))]
    allocated += [line for page in range(others - 1) for line in slab(0, 20 + page, 40 + 10 * page)]
    return allocated + slab(0, 20 + others, 40 + 10 * others, 3)


@pytest.mark.parametrize(
    ("gfp", "others", "reserve"), [("GFP_NOWAIT", 60, 1), ("GFP_KERNEL", 60, 0), ("GFP_NOWAIT", 9, 0)]
)
def test_a_slab_that_others_pass_over_is_from_below_all_watermarks(tmp_path, gfp, others, reserve):
    """Only where its owner could not wait for memory, and where enough follows that nothing else explains."""
    path = tmp_path / "t.txt"
    path.write_text("".join(line(*item) for item in passed_over(gfp, others)))
    recording = open_recording(path, None, None, "6.1", "slub_max_order=0")
    config = recording.configs([])[0]
    found = resolve_order.resolve_order(read_trace(path), config, recording.start)
    assert found.caches["reserve"].sum() == reserve
    assert (found.trace.events["op"] == co.OP_RESERVE).sum() == reserve
    if reserve:
        assert run(read_trace(path), config, recording.start, NO_SAMPLES).caches["new"].to_list() == [others + 1]
        kinds = found.trace.kinds["gfp_flags"].gather(found.trace.meta["entitled"])
        assert (kinds & 0x400 == 0).all()
        co.write_trace(tmp_path / "t.fatrace", found.trace)
        again = co.open_trace(tmp_path / "t.fatrace")
        assert run(again, config, recording.start, NO_SAMPLES).caches["new"].to_list() == [others + 2]


def test_a_mark_is_of_one_new_slab_and_of_no_later_one(tmp_path):
    """A what-if may serve from the private list what the traced kernel allocated: then the mark says nothing."""
    path = tmp_path / "t.txt"
    path.write_text("".join(line(*item) for item in passed_over("GFP_NOWAIT", 60)))
    recording = open_recording(path, None, None, "6.1", "slub_max_order=0")
    config = recording.configs([])[0]
    trace = resolve_order.resolve_order(read_trace(path), config, recording.start).trace
    mark = int(np.flatnonzero(trace.events["op"] == co.OP_RESERVE)[0])
    late = trace.events.copy()
    new, second = mark + 1 + np.flatnonzero(trace.events["op"][mark + 1 :] == co.OP_ALLOC)[:2]
    late[mark : second - 1] = trace.events[mark + 1 : second]
    late[second - 1] = trace.events[second]  # the mark, before what the fast path serves
    late["op"][second - 1] = co.OP_RESERVE
    assert late["kind"][second] == trace.events["kind"][new]
    late.flags.writeable = False
    marked = []
    for events in (trace.events, late):
        lane = SlubRun(dataclasses.replace(trace, events=events), config, recording.start, NO_SAMPLES)
        lane.to(len(events))
        marked.append(int((lane.slub.slab[:, SLUB_SLAB.depth] == DEPTH.none).sum()))
    assert marked == [1, 0]


def test_what_agrees_stays_as_it_is(recording):
    raw = read_trace(RUN, caches=recording.caches)
    found = resolve_order.resolve_order(raw, recording.configs([])[0], recording.start)
    assert not len(found.caches)
    assert not found.steps
    kept = [name for name in co.EVENT.names if name != "ago"]
    assert all((found.trace.events[name] == raw.events[name]).all() for name in kept)


def test_nothing_is_drawn_where_the_order_is_known(recording):
    config = recording.configs([])
    known = np.zeros(len(recording.trace.kinds), bool)
    assert predict(recording.trace, config, recording.start, 5, loose=known)[0].draws.shape[0] == 1
    assert predict(recording.trace, config, recording.start, 5, loose=~known)[0].draws.shape[0] == 5


def test_without_tasks_the_order_is_found_as_well(recording):
    """Addresses alone: a trace that does not say which task ran gives each operation wider limits."""
    raw = read_trace(RUN, caches=recording.caches)
    events = raw.events.copy()
    events["ago"] = 0
    config = recording.configs([])[0]
    found = resolve_order.resolve_order(dataclasses.replace(raw, events=events), config, recording.start)
    assert figures(run(found.trace, config, recording.start, NO_SAMPLES)).equals(
        figures(run(raw, config, recording.start, NO_SAMPLES))
    )


@pytest.mark.parametrize(("name", "kernel"), [("d_w4_k61_smp4", "6.1"), ("d_w4_k612_smp4", "6.12")])
def test_tcp_on_four_cpus_exactly(name, kernel):
    path = shared("kernel", "traces") / f"{name}.events.parquet"
    recording = open_recording(path, beside(path, "slabstate"), None, kernel, "")
    assert recording.steps["operations put where addresses say they were"] > 5
    found = check(recording.run([], 1)[0], read_summary(beside(path, "summary")), None)
    assert found.totals["error"].to_list() == [0, 0, 0]
    assert (found.caches["off_pages"] == 0).all()


# Of one cache, 42,535 and 97,924 operations.
@pytest.mark.parametrize(
    ("name", "kernel"),
    [("d_w4_k61_smp4", "6.1"), pytest.param("d_w3_k61_smp2_nomerge", "6.1", marks=pytest.mark.slow)],
)
def test_what_is_held_at_a_time_changes_nothing(monkeypatch, name, kernel):
    """Neither how many operations of a cache are looked at, nor for how many slabs there is room at first."""
    path = shared("kernel", "traces") / f"{name}.events.parquet"
    found = []
    for window, spare in ((1 << 18, 1 << 12), (1 << 12, 1)):
        monkeypatch.setattr(order_window, "WINDOW", window)
        monkeypatch.setattr(resolve_order, "SPARE", spare)
        found.append(open_recording(path, beside(path, "slabstate"), None, kernel, ""))
    assert found[0].steps == found[1].steps
    assert (found[0].trace.events == found[1].trace.events).all()


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("d_w2_k61_smp2_sym", "6.1"), ("d_w2_k612_smp2_vscsi", "6.12")],
)
def test_swap_with_slabs_that_only_reclaim_may_have(name, kernel):
    path = shared("kernel", "traces") / f"{name}.events.parquet"
    recording = open_recording(path, beside(path, "slabstate"), None, kernel, "")
    row = recording.order.filter(pl.col("cache") == "radix_tree_node").row(0, named=True)
    assert (row["moved"], row["new_slabs"], row["reserve"], row["unexplained"]) == (0, 0, 1, 0)
    found = check(recording.run([], 1)[0], read_summary(beside(path, "summary")), None)
    assert found.totals["within"].all()
    assert found.exact_at_peak == 1
    assert found.totals.filter(pl.col("figure") == "end")["error"].item() == 0
