"""What is told of the slabs before a trace is held against the machine that it is put into: nodes with gaps in their
numbers, CPUs that divide unevenly, slabs and sheaves of more objects than their cache has, counts that no memory holds.
"""

import time

import numpy as np
import polars as pl
import pytest

from fastalloc.errors import InputError
from fastalloc.kernels.alloc.state import MEMCTL
from fastalloc.kernels.replay.sheaf_events import BARN_EMPTY, BARN_FULL
from fastalloc.trace.lanes.caches import TracedCache
from fastalloc.trace.lanes.lane import unlimited_mem
from fastalloc.trace.lanes.readings import CacheReading, read_readings
from fastalloc.trace.lanes.rebuilt import Evidence, _subsets, draw
from fastalloc.trace.lanes.sheaf_start import Sheaf, table_of
from fastalloc.trace.replay.recording import beside, open_recording
from tests.faults.test_files import FAULTS
from tests.trace.sheaf_trace import Trace

TRACES = FAULTS.parent / "traces"
STATE = FAULTS.parent / "fuzz" / "state" / "small.parquet"
CACHE = TracedCache("thing", 512, 512, 1, 16, 5, 6)


def test_every_cpu_lies_on_a_node_that_there_is():
    for nodes in range(1, 9):
        for cpus in range(1, 70):
            mem = unlimited_mem(nodes, cpus)
            assert (cpus - 1) >> mem.ctl[MEMCTL.cpu_node_shift] < nodes
    spread = {cpus: unlimited_mem(2, cpus).ctl[MEMCTL.cpu_node_shift] for cpus in (2, 4, 6, 8, 16)}
    assert spread == {2: 0, 4: 1, 6: 2, 8: 2, 16: 3}


def test_a_node_may_have_any_number(tmp_path):
    """Nodes 0 and 5, as of a machine in which some have no memory, or one of them alone."""
    table = pl.read_parquet(STATE)
    for moved in (pl.lit(5), pl.when(pl.int_range(pl.len()) % 2 == 0).then("node").otherwise(pl.col("node") + 5)):
        path = tmp_path / "s.parquet"
        table.with_columns(node=moved.cast(table["node"].dtype)).write_parquet(path)
        recording = open_recording(FAULTS / "a.parquet", path, None, "6.1", "")
        assert recording.start.nodes == 6
        plain = open_recording(FAULTS / "a.parquet", STATE, None, "6.1", "")
        ours, theirs = (each.run([])[0].table()["start_slabs"].to_list() for each in (recording, plain))
        assert ours == theirs


@pytest.fixture
def sheaves(tmp_path):
    """Opens a run of 7.3 with one of its tables changed."""

    def opened(name, *changes):
        for file in TRACES.glob("d_w4_k73_smp4.*.parquet"):
            table = pl.read_parquet(file)
            if file.name.split(".")[1] == "events":
                table = table.head(500)
            if file.name.split(".")[1] == name:
                table = table.with_columns(*changes)
            table.write_parquet(tmp_path / file.name)
        path = tmp_path / "d_w4_k73_smp4.events.parquet"
        return open_recording(path, beside(path, "slabstate"), None, "7.3", "")

    return opened


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("allslabs", pl.lit(20_000).alias("objects"), "more objects free than in all"),
        ("allslabs", pl.lit(40_000).alias("objects"), "objects: is not in 0"),
        ("allslabs", (pl.col("objects") + 1).alias("inuse"), "inuse: is more than objects"),
        ("sheafstate", pl.lit(-1).alias("size"), "size: is not in 0 .. sheaf_capacity"),
        ("sheafstate", pl.lit(1024).alias("node"), "node: is not in 0"),
        ("sheafobjects", pl.lit(None, pl.UInt64).alias("ptr"), "ptr: is empty"),
        ("sheafobjects", (pl.col("sheaf") + 8).alias("sheaf"), "a full sheaf of a barn, 0x.*, of which no object"),
        ("sheaftruth", pl.lit(8192).alias("cpu"), "cpu: is not in 0"),
        ("sheaftruth", pl.lit(-1).alias("n"), "n: is not in 0"),
        ("sheaftruth", pl.lit(1 << 20).alias("want"), "want: is not in 0"),
    ],
)
def test_tables_of_sheaves_are_refused_that_fit_no_machine(sheaves, name, change, told):
    with pytest.raises(InputError, match=told):
        sheaves(name, change).run([])


def test_sheaves_of_another_node_have_one(sheaves):
    recording = sheaves("sheafstate", pl.lit(3).alias("node"))
    assert recording.start.nodes == 4
    assert len(recording.run([])) == 1


def test_a_sheaf_without_objects_is_on_no_list_of_full_ones():
    """Of another snapshot than the others, or without the table of their objects, none could be taken from it."""
    rows, handles = table_of(
        [(0, Sheaf(BARN_FULL, 0, 1, []), np.zeros(0, int)), (0, Sheaf(BARN_EMPTY, 0, 1, [8]), np.array([5]))], []
    )
    assert rows.tolist() == [[0, BARN_EMPTY, 0, 1, 0], [0, BARN_FULL, 0, 1, 1]]
    assert handles.tolist() == [5]


def test_a_probe_may_run_on_a_cpu_without_an_event(tmp_path):
    trace = Trace()
    for index in range(8):
        trace.alloc(1, "maple_node", 0x1000, index)
    trace.call(1, "rcu_sheaf_cb", sheaf=64, n=3, cpu=77)
    for index in range(8):
        trace.free(1, "maple_node", 0x1000, index)
    recording, table = trace.run(tmp_path)
    assert recording.trace.meta["cpus"] == 78
    assert table["maple_node"]["objects"] == 0


SLABINFO = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\nthing {}\n"
TAIL = ": tunables 0 0 0 : slabdata {} {} 0"


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        (f"3 16 512 0 2 {TAIL.format(1, 1)}", "no kernel lays out"),
        (f"3 16 0 16 2 {TAIL.format(1, 1)}", "no kernel lays out"),
        (f"3 16 512 16 3 {TAIL.format(1, 1)}", "no kernel lays out"),
        (f"3 16 512 40000 2 {TAIL.format(1, 1)}", "no kernel lays out"),
        (f"3 9999999999 512 16 2 {TAIL.format(1, 1)}", "more than memory holds"),
    ],
)
def test_slabinfo_that_no_kernel_prints(tmp_path, counts, told):
    path = tmp_path / "slabinfo.txt"
    path.write_text(SLABINFO.format(counts))
    with pytest.raises(InputError, match=f"line 3: .*{told}"):
        read_readings(path)


def evidence(**counts):
    reading = CacheReading((10,), (5,), **counts)
    return Evidence(CACHE, [], reading, (0,), False, 64, 1 << 20)


def test_readings_of_more_slabs_than_memory_are_refused(monkeypatch):
    monkeypatch.setenv("FASTALLOC_MEMORY", "1G")
    with pytest.raises(InputError, match="cache thing: 4,000,000,000 slabs on lists take"):
        draw(evidence(partial=(4_000_000_000,)), 0)


def test_readings_that_no_set_of_cpus_explains_end_soon():
    """Slabs of 64 CPUs can be chosen in more ways than there is time for, and 8,192 CPUs nest too deeply."""
    begun = time.process_time()
    assert draw(evidence(partial=(3,), cpu_slabs=1001), 0)
    assert not list(_subsets(list(range(64)), dict.fromkeys(range(64), 1), 63))
    assert list(_subsets(list(range(8192)), {}, 8192))
    assert time.process_time() - begun < 60
