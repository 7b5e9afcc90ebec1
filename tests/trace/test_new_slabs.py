"""Where an allocation that needed a new slab, or failed, stands among the others."""

from fastalloc.trace.compact import compact as co
from fastalloc.trace.compact.new_slabs import before_new_slabs
from fastalloc.trace.compact.rows import rows_of
from fastalloc.trace.formats.text import read_text
from fastalloc.trace.replay.recording import open_recording

PTR = 0xFFFF888000000000


def line(cpu, ns, what):
    return f"a-1 [00{cpu}] ..... 1.{ns:09d}: {what}\n"


def alloc(page, size=256, offset=0):
    ptr = "(nil)" if page is None else f"{PTR + page * 4096 + offset:x}"
    return f"kmem_cache_alloc: call_site=f ptr={ptr} bytes_req={size} bytes_alloc={size} gfp_flags=GFP_KERNEL node=-1"


def free(page, offset=0):
    return f"kmem_cache_free: call_site=f ptr={PTR + page * 4096 + offset:x} name=x"


def given(pfn, order):
    return f"mm_page_alloc: page=0 pfn=0x{pfn:x} order={order} migratetype=0 gfp_flags=GFP_KERNEL"


def events_of(tmp_path, *lines):
    path = tmp_path / "t.txt"
    path.write_text("".join(line(*item) for item in lines))
    return path


def moved(tmp_path, *lines):
    rows = rows_of(tmp_path, read_text(events_of(tmp_path, *lines)))
    return rows, before_new_slabs(rows)


def shape(rows):
    times = rows.first + rows.unit * rows.time.astype(int)
    return list(zip(rows.op.tolist(), rows.cpu.tolist(), times.tolist(), strict=True))


def test_an_allocation_with_a_new_slab_stands_before_its_pages(tmp_path):
    rows, count = moved(
        tmp_path, (0, 10, given(8, 1)), (1, 20, free(4)), (0, 30, free(5)), (0, 40, alloc(9)), (0, 50, alloc(8))
    )
    assert count == 1
    assert shape(rows) == [
        (co.OP_ALLOC, 0, 1_000_000_010),
        (co.OP_PAGE_ALLOC, 0, 1_000_000_010),
        (co.OP_FREE, 1, 1_000_000_020),
        (co.OP_FREE, 0, 1_000_000_030),
        (co.OP_ALLOC, 0, 1_000_000_050),
    ]
    assert rows.ptrs[rows.object[0]] == PTR + 9 * 4096


def test_another_cpu_tells_nothing(tmp_path):
    lines = [(0, 10, given(8, 1)), (1, 40, alloc(9)), (0, 50, alloc(8))]
    rows, count = moved(tmp_path, *lines)
    assert count == 0
    assert rows.cpu.tolist() == [cpu for cpu, _, _ in lines]
    assert rows.time.tolist() == [0, 30, 40]


def test_pages_handed_out_twice_are_two_new_slabs(tmp_path):
    rows, count = moved(tmp_path, (0, 10, given(8, 0)), (0, 20, alloc(8)), (0, 30, given(8, 0)), (0, 40, alloc(8)))
    assert count == 2
    assert rows.op.tolist() == [co.OP_ALLOC, co.OP_PAGE_ALLOC] * 2


def test_shortages_and_new_slabs_of_several_cpus_keep_their_turn(tmp_path):
    """Each refusal waits for its block, with what comes from other CPUs in between left where it is."""
    rows, count = moved(
        tmp_path,
        (0, 10, given(0, 3)), (1, 20, given(0, 2)), (2, 30, free(4)), (1, 40, given(64, 0)), (0, 50, given(66, 1)),
        (2, 60, free(5)), (0, 70, alloc(66)), (1, 80, alloc(64)),
    )  # fmt: skip
    assert count == 2
    at = 1_000_000_000
    assert shape(rows) == [
        (co.OP_FREE, 2, at + 30),
        (co.OP_SHORTAGE, 1, at + 40),
        (co.OP_ALLOC, 1, at + 40),
        (co.OP_PAGE_ALLOC, 1, at + 40),
        (co.OP_SHORTAGE, 0, at + 50),
        (co.OP_ALLOC, 0, at + 50),
        (co.OP_PAGE_ALLOC, 0, at + 50),
        (co.OP_FREE, 2, at + 60),
    ]
    assert rows.object[[1, 4]].tolist() == [0, 1]


def test_a_refused_order_becomes_a_shortage(tmp_path):
    """The kernel then allocates the smallest slab: 5 objects of 784 bytes instead of 20."""
    lines = [(0, 10, given(0, 2)), (0, 20, given(64, 0))]
    lines += [(0, 40 + 10 * i, alloc(64, 784, 784 * i)) for i in range(5)]
    lines += [(0, 85, given(68, 2)), *((0, 90 + 10 * i, alloc(68, 784, 784 * i)) for i in range(3))]
    recording = open_recording(events_of(tmp_path, *lines), None, None, "6.1", "slub_min_objects=16")
    assert co.OP_SHORTAGE in recording.trace.events["op"]
    assert recording.caches[0].order == 2
    result = recording.run([], 1)[0].result
    assert result.caches["order_fallback"].sum() == 1
    assert result.caches["new"].sum() == 2  # 5 objects in the small one, 3 in the next
    assert result.caches["peak"].sum() == 2


def test_an_allocation_that_failed_lets_its_full_slab_go(tmp_path):
    """Sixteen objects fill a slab; what is freed of it from elsewhere then belongs to the CPU that frees."""
    full = [(0, i, alloc(64 + i)) for i in range(16)]
    after = [(1, 100, free(64)), (0, 200, alloc(300))]
    allocated = {}
    for name, between in (("failed", [(0, 50, alloc(None))]), ("not asked", [])):
        recording = open_recording(events_of(tmp_path, *full, *between, *after), None, None, "6.1", "")
        result = recording.run([], 1)[0].result
        assert (recording.trace.events["op"] == co.OP_ALLOC_FAILED).sum() == len(between)
        allocated[name] = int(result.caches["new"].sum())
    assert allocated == {"failed": 2, "not asked": 1}
