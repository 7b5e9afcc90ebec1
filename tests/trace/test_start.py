"""A start without the allocator's exact lists: read, rebuilt from addresses, fitted, and said so."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from fastalloc.cli.replay import replay
from fastalloc.errors import InputError
from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.call_sites import function_of
from fastalloc.trace.compact.columns import read_parquet
from fastalloc.trace.compact.cut import between_readings, cut
from fastalloc.trace.compact.infer import DIRECT_MAP, infer_caches
from fastalloc.trace.compact.rows import rows_of
from fastalloc.trace.compact.tasks import tasks_of
from fastalloc.trace.lanes import rebuilt
from fastalloc.trace.lanes.caches import TracedCache, caches_of_state
from fastalloc.trace.lanes.readings import CacheReading, first_pages, read_readings
from fastalloc.trace.lanes.state_table import read_state
from fastalloc.trace.lanes.touched import PageEvents, old_slabs
from fastalloc.trace.replay.check import check, read_summary
from fastalloc.trace.replay.folder import recorded
from fastalloc.trace.replay.recording import beside, open_recording, read_trace, taken_within
from fastalloc.trace.replay.results import summaries
from tests.geometry.shared import DATA, shared
from tests.trace.test_replay import run_command
from tests.trace.withheld import first_pfn, write_readings

RUN = DATA / "traces" / "d_stack_k612.events.parquet"
TABLE = (
    "cache,slabs,objects,total_objects,partial,cpu_slabs,slabs_cpu_partial\n"
    "dentry,107 N0=7 N1=100,2200 N0=140 N1=2060,2247 N0=147 N1=2100,3 N0=1 N1=2,5,21(2) C3=21(2)\n"
)


def line(cpu, us, what):
    return f"a-{cpu + 1} [00{cpu}] ..... 1.{us:06d}: {what}\n"


def alloc(page, number, base=DIRECT_MAP):
    ptr = base + page * 4096 + 512 * number
    return f"kmem_cache_alloc: call_site=f ptr={ptr:x} bytes_req=512 bytes_alloc=512 gfp_flags=GFP_KERNEL node=-1"


def free(page, number, base=DIRECT_MAP):
    return f"kmem_cache_free: call_site=f ptr={base + page * 4096 + 512 * number:x} name=x"


def given(page):
    return f"mm_page_alloc: page=0 pfn=0x{page:x} order=0 migratetype=0 gfp_flags=GFP_KERNEL"


def gone(page):
    return f"mm_page_free: page=0 pfn=0x{page:x} order=0"


def trace_of(tmp_path, lines, name="t.txt"):
    path = tmp_path / name
    path.write_text("".join(line(*item) for item in lines))
    return read_trace(path)


def test_lists_of_a_later_moment_are_no_start(tmp_path):
    """A boot is traced before anything can read the lists: they come some seconds later, as the marker of their
    snapshot tells. Counted for a start, each slab of them would be there twice."""
    events = pl.read_parquet(RUN)
    marker = {"event": "marker", "src": "trace_marker", "cache": "KTSNAP 1 begin full pre", "cache_resolved": ""}
    of_marker = [pl.lit(text).cast(pl.Categorical).alias(name) for name, text in marker.items()]
    state = beside(RUN, "slabstate")
    known, least = [], []
    for row in (0, len(events) - 1):
        path = tmp_path / f"r{row}.events.parquet"
        mark = events[row].with_columns(of_marker)
        pl.concat([events[:row], mark, events[row:]]).write_parquet(path)
        recording = open_recording(path, state, None, "6.12", "", starts=1)
        known.append(recording.known.exact)
        told = [step for step in recording.steps if "a moment within the trace" in step]
        assert bool(told) == (row > 0)
        (prediction,) = recording.run([])
        least.append(prediction.table()["start_slabs"].sum())
        assert {cache.name: cache.order for cache in recording.caches}["dentry"] == 0
    assert known == [True, False]
    assert least[1] < least[0] / 2


def test_lists_after_what_is_left_out_are_a_start():
    """What came before the first readings is no event of the trace any more, though its clock begins there."""
    events = np.zeros(1, [("time", np.int64)])
    events["time"] = 50
    markers = pl.DataFrame({"ts_ns": [40_000], "text": ["KTSNAP 1 begin full pre"]})
    meta = {"first_ns": 1000, "time_unit_ns": 1000}
    trace = SimpleNamespace(events=events, markers=markers, meta=meta, time_ns=lambda: events["time"] * 1000 + 1000)
    state = pl.DataFrame({"snap": [1]})
    assert not taken_within(trace, state)
    assert taken_within(SimpleNamespace(**vars(trace) | {"markers": markers.with_columns(ts_ns=60_000)}), state)


def test_readings_keep_nodes_and_cpus(tmp_path):
    path = tmp_path / "r.slabs.csv"
    path.write_text(TABLE)
    (tmp_path / "r.zoneinfo").write_text(
        "Node 0, zone DMA\n  start_pfn:           1\nNode 0, zone DMA32\n  start_pfn: 4096\n"
        "Node 1, zone DMA32\n  start_pfn:           0\nNode 1, zone Normal\n  start_pfn:           196608\n"
    )
    readings = read_readings(path)
    assert readings.first_pfn == (0, 196608)
    assert readings.caches["dentry"] == CacheReading((7, 100), (7, 40), (1, 2), 5, {3: 2})
    assert readings.shrunk is False


def test_no_more_slabs_are_partial_than_there_are(tmp_path):
    """Counts are read one after another, and any may be wrong; memory of ours is asked for by them."""
    path = tmp_path / "r.slabs.csv"
    path.write_text(TABLE.replace(",3 N0=1 N1=2,", ",4000002 N0=4000000 N1=2,"))
    assert read_readings(path).caches["dentry"].partial == (7, 2)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [("107 N0", "x N0", "row 2, slabs"), ("2200 N0=140", "2200 N0=940", "row 2, objects"), (",slabs,", ",s,", "slabs")],
)
def test_readings_that_are_none_are_refused(tmp_path, old, new, where):
    path = tmp_path / "r.slabs.csv"
    path.write_text(TABLE.replace(old, new))
    with pytest.raises(InputError, match=where):
        read_readings(path)


def test_slabinfo_is_read_too(tmp_path):
    path = tmp_path / "slabinfo"
    path.write_text(
        "slabinfo - version: 2.1\n# name <active_objs> ...\n"
        "dentry 2200 2247 192 21 1 : tunables 0 0 0 : slabdata 107 107 0\n"
    )
    assert read_readings(path).caches == {"dentry": CacheReading((107,), (47,))}
    statistics = " : globalstat 9 8 7 6 5 4 3 2 1 : cpustat 1111 2222 333 44\n"  # SLAB with CONFIG_DEBUG_SLAB
    path.write_text(path.read_text().replace("2.1\n", "2.1 (statistics)\n").replace("107 0\n", f"107 0{statistics}"))
    assert read_readings(path).caches == {"dentry": CacheReading((107,), (47,))}
    path.write_text("slabinfo - version: 2.1\ndentry 2200\n")
    with pytest.raises(InputError, match="line 2"):
        read_readings(path)


def test_what_addresses_tell_of_old_slabs(tmp_path):
    """Page 16: three free, used up. 17: left after one object, then given back. 18: handed out here. 19: only freed."""
    lines = [(0, 10 + i, alloc(16, i)) for i in range(3)]
    lines += [
        (0, 20, alloc(17, 5)),
        (1, 25, free(17, 0)),
        (1, 26, free(17, 1)),
        (1, 27, free(17, 5)),
        (1, 28, gone(17)),
    ]
    lines += [(0, 30, given(18)), (0, 31, alloc(18, 0)), (1, 40, free(19, 2))]
    trace = trace_of(tmp_path, lines)
    rows = np.flatnonzero(trace.events["op"] <= co.OP_BULK_FREE)
    found = {slab.pfn: slab for slab in old_slabs(trace, PageEvents(trace), rows, 0, 8)}
    assert sorted(found) == [16, 17, 19]
    assert (found[16].least, found[16].most, found[16].cpu) == (3, 3, 0)
    assert found[17].least == 1  # the CPU went on to another slab: the first object was the last that was free
    assert (found[19].least, found[19].most, found[19].row) == (0, 7, -1)


CACHE = TracedCache("x", 512, 512, 0, 8, 5, 4)


@pytest.mark.parametrize("seed", range(12))
def test_every_draw_meets_the_readings(tmp_path, seed):
    lines = [(cpu, 10 + 3 * i, alloc(16 + 4 * cpu + i, 0)) for cpu in (0, 1) for i in range(4)]
    trace = trace_of(tmp_path, sorted(lines, key=lambda item: item[1]))
    rows = np.flatnonzero(trace.events["op"] <= co.OP_BULK_FREE)
    old = old_slabs(trace, PageEvents(trace), rows, 0, 8)
    reading = CacheReading((20,), (30,), (7,), 4, {0: 1, 1: 2})
    evidence = rebuilt.Evidence(CACHE, old, reading, (0,), False, 3, 1 << 20)
    state = rebuilt.state_of(rebuilt.draw(evidence, seed))
    listed = state.filter(pl.col("rec") == "node_partial")
    assert len(listed) == 7
    assert (listed["objects"] - listed["inuse"]).sum() == 30
    on_cpu = state.filter(pl.col("rec") == "cpu_partial")
    assert dict(on_cpu.group_by("cpu").len().iter_rows()) == {0: 1, 1: 2}
    own = state.filter(pl.col("rec") == "cpu_slab")["cpu"].to_list()
    assert sum(1 + {0: 1, 1: 2}.get(cpu, 0) for cpu in own) == 4
    assert state["pfn"].drop_nulls().is_unique().all()


def test_addresses_of_a_kernel_with_kaslr(tmp_path):
    base = 0xFFFF9B1C40000000
    lines = [(0, 10, given(18)), (0, 11, alloc(18, 0)), (0, 12, alloc(18, 1)), (1, 20, free(18, 0))]
    plain = trace_of(tmp_path, lines)
    lines = [(0, 10, given(18)), (0, 11, alloc(18, 0, base)), (0, 12, alloc(18, 1, base)), (1, 20, free(18, 0, base))]
    shifted = trace_of(tmp_path, lines, "s.txt")
    assert shifted.meta["direct_map"] == base
    assert shifted.ptrs.tolist() == plain.ptrs.tolist()
    assert (shifted.events == plain.events).all()


def test_a_part_of_a_trace_keeps_its_tasks():
    trace = read_trace(DATA / "traces" / "d_w4_k73_smp4.events.parquet")
    time = trace.time_ns()
    part = cut(trace, int(time[5000]), int(time[9000]))
    pids, task = tasks_of(trace)
    first = int(np.searchsorted(time, time[5000], side="right"))
    own, which = tasks_of(part)
    assert (own[which] == pids[task][first : first + len(part.events)]).all()


def test_a_recording_is_replayed_between_its_readings(tmp_path):
    marks = [
        (0, 5, "tracing_mark_write: fastalloc: readings begin"),
        (0, 15, "tracing_mark_write: fastalloc: readings end"),
    ]
    lines = [
        (0, 10, alloc(16, 0)),
        *marks,
        (0, 20, alloc(16, 1)),
        (0, 30, "tracing_mark_write: fastalloc: readings begin"),
    ]
    lines.append((0, 40, alloc(16, 2)))
    trace = trace_of(tmp_path, sorted(lines, key=lambda item: item[1]))
    assert len(trace.events) == 3
    part = between_readings(trace)
    assert part.ptrs[part.events["object"]].tolist() == [DIRECT_MAP + 16 * 4096 + 512]
    assert part.events["ago"].tolist() == [0]
    assert len(cut(trace, 0).events) == 3


@pytest.fixture(scope="module")
def withheld(tmp_path_factory):
    folder = tmp_path_factory.mktemp("withheld")
    return open_recording(RUN, None, None, "6.12", "slab_nomerge", slabs=write_readings(RUN, folder))


@pytest.fixture(scope="module")
def predictions(withheld):
    return withheld.run(["min_partial=6", "debug=FZPU"], 1)


def test_a_rebuilt_start_is_as_good_as_the_exact_one(withheld, predictions):
    """Peak and end within 0.5 %, new slabs within 2 %, and the caches as in the kernel."""
    assert not withheld.known.exact
    prediction = predictions[0]
    assert len(prediction.draws) == 3
    checked = check(prediction, read_summary(beside(RUN, "summary")), None)
    error = dict(checked.totals.select("figure", "error").iter_rows())
    assert abs(error["new"]) <= 0.02
    assert abs(error["peak"]) <= 0.005
    assert abs(error["end"]) <= 0.005
    assert ((checked.caches["end"] - checked.caches["end_slabs"]).abs() <= 1).mean() >= 0.9


def test_a_replay_without_lists_never_looks_exact(withheld, tmp_path):
    events = tmp_path / RUN.name
    pl.read_parquet(RUN).head(5000).write_parquet(events)
    run = run_command(replay, events, "--kernel", "6.12", "--starts", 1)
    assert run.exit_code == 0, run.output
    assert "start: NOT KNOWN" in run.output.split("\n\n")[0]
    run = run_command(replay, events, "--kernel", "6.12", "--json", "--starts", 1)
    start = json.loads(run.stdout)["start"]
    assert start["exact"] is False
    assert start["expected_error_percent"]["peak"] > 50
    assert withheld.known.record()["expected_error_percent"] == {"new": 6.0, "peak": 0.5}
    assert "expect the peak within 0.5 %" in withheld.known.words()
    assert "no error bar" in " ".join(withheld.known.notes())


def test_a_change_below_what_the_start_allows_is_not_resolved(withheld, predictions):
    small, large = summaries(withheld, predictions)[1:]
    assert abs(small["peak_change"]) < withheld.known.resolution <= abs(large["peak_change"])
    assert [small["resolved"], large["resolved"]] == [False, True]


@pytest.mark.parametrize("run", ["d_w3_k61_smp4_numa2", pytest.param("d_w4_k61_smp4", marks=pytest.mark.slow)])
def test_recorded_runs_with_their_lists_withheld(run, tmp_path):
    path = shared("kernel", "traces") / f"{run}.events.parquet"
    slabs = write_readings(path, tmp_path)
    zones = "".join(f"Node {node}, zone Normal\n  start_pfn: {pfn}\n" for node, pfn in enumerate(first_pfn(path)))
    (tmp_path / f"{run}.zoneinfo").write_text(zones)
    assert first_pages(slabs) == first_pfn(path)
    recording = open_recording(path, None, None, "6.1", "", slabs=slabs, starts=1)
    checked = check(recording.run([], 1)[0], read_summary(beside(path, "summary")), None)
    error = dict(checked.totals.select("figure", "error").iter_rows())
    assert abs(error["new"]) <= 0.02
    assert abs(error["peak"]) <= 0.005
    assert abs(error["end"]) <= 0.005


@pytest.mark.parametrize("run", ["d_stack_k612", "d_pure_w4_k612_smp2"])
def test_names_that_no_event_gives_follow_from_the_function(run):
    """skbuff_small_head and files_cache both have slots of 704 bytes; of the former none is freed by name."""
    folder = DATA / "traces" if run == "d_stack_k612" else shared("kernel", "traces")
    path = folder / f"{run}.events.parquet"
    caches = caches_of_state(read_state(beside(path, "slabstate")))
    columns = ("name", "bytes_req", "bytes_alloc")
    table = [(cache.name, cache.object_size, cache.size) for cache in caches]
    sizes = pl.DataFrame(table, schema=dict(zip(columns, (pl.String, pl.UInt32, pl.UInt32), strict=True)), orient="row")
    blind, told = rows_of(path, read_parquet(path, resolved=False)), rows_of(path, read_parquet(path))
    steps = infer_caches(blind, None, sizes)
    assert steps["function"] > 100
    truth = told.kinds["resolved"].to_numpy()[told.kind]
    named = np.array([*blind.names, ""])[blind.name]
    objects = (blind.op <= co.OP_BULK_FREE) & (truth != "")
    assert (named[objects] != truth[objects]).sum() <= 2


def test_the_function_of_a_call_site():
    assert function_of("radix_tree_node_alloc.constprop.0+0x5c/0xe0") == "radix_tree_node_alloc"
    assert function_of("x_alloc+0x1 [module]") == "x_alloc"


@pytest.fixture
def folder(tmp_path):
    """What `fastalloc record` leaves, by hand."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "trace.dat").write_bytes(RUN.read_bytes())
    write_readings(RUN, tmp_path).rename(out / "trace.slabs.csv")
    (out / "version").write_text("Linux version 6.12.117+deb12-amd64 (x@y) #1 SMP\n")
    (out / "cmdline").write_text("console=ttyS0 slab_nomerge\n")
    (out / "record.txt").write_text("shrunk=1\nlost=0\n")
    return out


def test_a_recorded_folder_is_replayed_as_it_is(folder):
    shown = json.loads(run_command(replay, folder, "--json", "--starts", 1).stdout)
    assert shown["start"]["from"] == "sysfs"
    assert shown["start"]["shrunk"] is True
    assert recorded(folder)[1:3] == ("6.12", "console=ttyS0 slab_nomerge")


def test_a_folder_that_lost_events_is_refused(folder):
    (folder / "record.txt").write_text("shrunk=1\nlost=7\n")
    with pytest.raises(InputError, match="7 events were lost"):
        recorded(folder)
    (folder / "trace.dat").unlink()
    (folder / "record.txt").unlink()
    with pytest.raises(InputError, match="fastalloc record"):
        recorded(folder)
