"""What the recorder's probes leave in a trace.dat: bulk calls object by object, kfree_rcu, calls of whole sheaves."""

import struct

import pytest

from fastalloc.trace.compact import compact as co
from fastalloc.trace.replay.recording import read_trace
from tests.trace import tracedat_writer as td

PAGE = 0xFFFF888000100000
FIELDS = {
    "fa_bulk_alloc_0": [("int", "n", 4, "i"), ("u32", "flags", 4, "I"), ("u64", "o", 128, "128s"),
                        ("__data_loc char[]", "name", 4, "I")],
    "fa_bulk_alloc_16": [("int", "n", 4, "i"), ("u32", "flags", 4, "I"), ("u64", "o", 384, "384s")],
    "fa_bulk_free_0": [("u64", "n", 8, "Q"), ("u64", "o", 128, "128s")],
    "fa_bulk_free_16": [("u64", "n", 8, "Q"), ("u64", "o", 384, "384s")],
    "fa_kfree_rcu": [("u64", "s", 8, "Q"), ("u8", "n", 1, "B"), ("u64", "o", 8, "Q"),
                     ("__data_loc char[]", "name", 4, "I")],
    "fa_prefill": [("u64", "s", 8, "Q"), ("u64", "sheaf", 8, "Q"), ("u32", "n", 4, "I"), ("u32", "want", 4, "I")],
    "fa_rcu_sheaf": [("u64", "s", 8, "Q"), ("u64", "sheaf", 8, "Q"), ("u32", "n", 4, "I")],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _events(monkeypatch):
    made = {name: (20 + i, fields) for i, (name, fields) in enumerate(FIELDS.items())}
    monkeypatch.setattr(td, "EVENTS", td.EVENTS | made)


def array(numbers, room):
    """Objects of PAGE by their numbers, and what lay behind them in memory."""
    held = [PAGE + 64 * number for number in numbers]
    return struct.pack(f"<{room}Q", *held, *[0xDEAD] * (room - len(held)))


def trace_of(tmp_path, cpu, events=None):
    cpu.close()
    path = tmp_path / "t.dat"
    path.write_bytes(td.write_6([cpu], [td.event_format(name) for name in events or td.EVENTS]))
    return path


def test_a_bulk_call_of_more_objects_than_a_record_holds(tmp_path):
    cpu = td.Cpu()
    cpu.event(1000, td.record("fa_bulk_alloc_0", 20, 0xCC0, array(range(16), 16), "maple_node"))
    cpu.event(1100, td.record("fa_bulk_alloc_16", 20, 0xCC0, array(range(16, 20), 48)))
    cpu.event(1500, td.record("fa_bulk_alloc_0", 0, 0xCC0, array([], 16), "maple_node"))  # refused
    cpu.event(2000, td.record("fa_bulk_free_0", 18, array(range(16), 16)))
    cpu.event(2100, td.record("fa_bulk_free_16", 18, array(range(16, 18), 48)))
    trace = read_trace(trace_of(tmp_path, cpu))
    e = trace.events
    assert trace.meta["bulk_rows"]
    assert e["op"].tolist() == [co.OP_BULK_ALLOC] * 20 + [co.OP_BULK_FREE] * 18
    numbers = ((trace.ptrs[e["object"]] - PAGE) // 64).tolist()
    assert numbers == [*range(20), *reversed(range(18))], "frees go from the last of the array to the first"
    assert set((e["time"].astype(int) * trace.meta["time_unit_ns"]).tolist()) == {0, 1000}, "one time a call"
    assert trace.kinds["cache"].gather(e["kind"])[:16].unique().to_list() == ["maple_node"]


def test_frees_by_kfree_rcu_and_whole_sheaves(tmp_path):
    cpu = td.Cpu()
    cpu.event(1000, td.record("fa_prefill", 0xAA00, 0xBB00, 30, 31))
    cpu.event(1100, td.record("fa_kfree_rcu", 0xAA00, 1, PAGE, "maple_node"))
    cpu.event(1200, td.record("fa_kfree_rcu", 0xAA00, 0, PAGE + 64, "maple_node"))  # the sheaf did not take it
    cpu.event(1300, td.record("fa_rcu_sheaf", 0xAA00, 0xCC00, 32))
    path = trace_of(tmp_path, cpu)
    trace = read_trace(path)
    assert trace.kinds["src"].gather(trace.events["kind"]).to_list() == ["__kfree_rcu_sheaf"]
    assert trace.ptrs[trace.events["object"]].tolist() == [PAGE]
    calls = trace.sheaf_calls
    assert calls is not None
    assert calls.select("ts_ns", "event", "cache", "sheaf", "n", "want").rows() == [
        (1000, "prefill", "maple_node", 0xBB00, 30, 31),
        (1300, "rcu_sheaf_cb", "maple_node", 0xCC00, 32, 0),
    ]


def test_a_recording_without_probes_has_none(tmp_path):
    cpu = td.Cpu()
    cpu.event(1000, td.record("kfree", 0xFFFFFFFF81001000, PAGE))
    assert read_trace(trace_of(tmp_path, cpu, ["kfree"])).sheaf_calls is None
