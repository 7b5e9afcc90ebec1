"""What tools print beside events, and how they print a task: no event is lost by it and none invented."""

import numpy as np
import pytest

from fastalloc.errors import InputError
from fastalloc.trace.compact.describe import describe
from fastalloc.trace.formats.text import read_text
from fastalloc.trace.replay.recording import open_recording, read_trace

LINE = "{task} [000] .....   100.{at:06}: {event}\n"
ALLOCATION = "kmalloc: call_site=f+0x1/0x9 ptr={} bytes_req=60 bytes_alloc=64 gfp_flags={}"


def written(path, *events, task="init-1", head=""):
    lines = (LINE.format(task=task, at=at, event=event) for at, event in enumerate(events))
    path.write_text(head + "".join(lines))
    return path


def allocation(ptr="ffff888003a41000", gfp="GFP_KERNEL"):
    return ALLOCATION.format(ptr, gfp)


@pytest.mark.parametrize("head", ["CPU 0 is empty\ncpus=2\n", "CPU  1 is empty\ncpus=2\n", "  unknown option 9\n"])
def test_what_trace_cmd_says_of_a_cpu_without_events(tmp_path, head):
    trace = read_trace(written(tmp_path / "x.txt", allocation(), head=head))
    assert describe(trace)["totals"]["allocations"] == 1


def test_a_cpu_that_is_no_number_is_no_such_line(tmp_path):
    with pytest.raises(InputError, match="line 1: is no event"):
        read_trace(written(tmp_path / "x.txt", allocation(), head="CPU some is empty\n"))


@pytest.mark.parametrize(
    ("task", "pid"),
    [
        ("ktw-111     (    111)", 111),  # trace_options: record-tgid
        ("ktw-113     (-------)", 113),
        ("perf   109/110", 110),  # perf script -F +pid
        ("perf   110", 110),
        ("kworker/0:1-7", 7),
        ("a (12) b-31", 31),
    ],
)
def test_the_task_of_an_event(tmp_path, task, pid):
    (events,) = read_text(written(tmp_path / "x.txt", allocation(), task=task))
    assert events["pid"].to_list() == [pid]


@pytest.mark.parametrize("pages", [0, 40])
def test_hashed_pointers_are_refused_among_any_number_of_pages(tmp_path, pages):
    page = "mm_page_free: page=0000000012345678 pfn=0x1{:04x} order=0"
    events = [page.format(at) for at in range(pages)]
    nothing = ["kfree: call_site=f+0x1/0x9 ptr=0000000000000000"] * pages
    path = written(tmp_path / "x.txt", *events, *nothing, allocation("00000000873301d3"))
    with pytest.raises(InputError, match="nohash-ptr"):
        read_trace(path)
    read_trace(written(tmp_path / "y.txt", *events, *nothing, allocation()))


@pytest.mark.parametrize("flags", ["..... ", ""])
def test_a_clock_that_counts_no_seconds_is_named(tmp_path, flags):
    path = tmp_path / "x.txt"
    path.write_text(f"   ktw-113     [000] {flags} 12147775: {allocation()}\n")  # trace_clock x86-tsc
    with pytest.raises(InputError, match=r"line 1: the clock .* counts no seconds.*trace_clock"):
        read_trace(path)


def test_page_frees_to_3_2_have_another_name(tmp_path):
    freed = "mm_page_free_direct: page=ffffea0003db9f40 pfn=1155800 order=0"
    trace = read_trace(written(tmp_path / "x.txt", allocation(), freed))
    assert describe(trace)["totals"]["page frees"] == 1


@pytest.mark.parametrize("mask", ["GFP_KERNEL|0xZZ", "0x" + "1" * 5000, "1" * 5000, "0x-1"])
def test_a_mask_that_is_no_number_names_its_line(tmp_path, mask):
    with pytest.raises(InputError, match="line 2: a mask of "):
        read_trace(written(tmp_path / "x.txt", allocation(), allocation("ffff888003a42000", mask)))


def test_a_byte_of_1_in_the_name_of_a_task(tmp_path):
    trace = read_trace(written(tmp_path / "x.txt", allocation(), task="a\x01b-9"))
    assert describe(trace)["totals"]["allocations"] == 1


@pytest.mark.parametrize(("head", "name"), [(b"\xfd7zXZ\0", "xz"), (b"BZh91", "bzip2"), (b"PK\3\4", "zip")])
def test_what_is_packed_otherwise_is_named(tmp_path, head, name):
    path = tmp_path / "x"
    path.write_bytes(head + bytes(100))
    with pytest.raises(InputError, match=f"packed by {name}; unpack it first"):
        read_trace(path)


@pytest.mark.parametrize("base", [0xFFFF888000000000, 0xFF11000000000000, 0xC000000000000000])
def test_addresses_meet_pages_wherever_memory_is_mapped(tmp_path, base):
    """x86-64 with four and five levels of page tables; ppc64 [PAGE_OFFSET, arch/powerpc/include/asm/page.h, 6.1]."""
    events = []
    for pfn in range(0x1000, 0x1008):
        events.append(f"mm_page_alloc: page=0 pfn={pfn:#x} order=0 migratetype=0 gfp_flags=GFP_KERNEL|__GFP_COMP")
        events.append(allocation(f"{base + (pfn << 12):016x}"))
    trace = read_trace(written(tmp_path / "x.txt", *events))
    assert np.array_equal(
        trace.ptrs, 0xFFFF888000000000 + (np.arange(0x1000, 0x1008, dtype=np.uint64) << np.uint64(12))
    )


@pytest.mark.parametrize(
    "head", ["# entries-in-buffer/entries-written: 1/1   #P:64\n", "cpus=64\n", "CPU 0 is empty\ncpus=64\n"]
)
def test_slabs_are_laid_out_for_the_cpus_that_there_are(tmp_path, head):
    """min_objects is 4 * (fls(nr_cpu_ids) + 1) [calculate_order, mm/slub.c of 6.1]: 8 on one CPU, 32 on 64."""
    orders = []
    for name, text in (("one", ""), ("many", head)):
        path = written(
            tmp_path / f"{name}.txt",
            ALLOCATION.replace("bytes_alloc=64", "bytes_alloc=1024").format("ffff888003a41000", "GFP_KERNEL"),
            head=text,
        )
        (cache,) = [one for one in open_recording(path, None, None, "6.1", "").caches if one.name == "kmalloc-1k"]
        orders.append(cache.order)
    assert orders == [1, 3]
