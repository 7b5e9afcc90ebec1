"""Text traces as people post them: other pointers, symbols and frames than those of x86-64 under ftrace."""

from pathlib import Path

import numpy as np
import pytest

from fastalloc.errors import InputError
from fastalloc.trace.compact import row_passes
from fastalloc.trace.compact.describe import describe
from fastalloc.trace.compact.holders import holders
from fastalloc.trace.replay.recording import read_trace

DATA = Path(__file__).resolve().parents[1] / "data" / "text_traces"
EVENT = "           init-1     [000] .N..     0.{at:06}: {event}\n"


def described(name):
    return describe(read_trace(DATA / f"{name}.txt"))


def written(path, *events):
    path.write_text("".join(EVENT.format(at=at, event=event) for at, event in enumerate(events)))
    return path


def test_an_object_that_a_module_leaks_is_laid_to_its_call_site():
    """A leak hunt on 5.4: seven objects of a module's cache, none freed, 45 % of each unused under slub_debug."""
    (site,) = holders(read_trace(DATA / "module.txt"), "call-site").rows.to_dicts()
    assert site["holder"] == "memleak_task_test+0x70 [memleak]"
    assert (site["allocs"], site["live_at_end"]) == (7, 7)
    assert (site["bytes_requested"], site["bytes_at_end"]) == (7 * 5678, 7 * 10320)


def test_hashed_pointers_are_refused_with_what_to_do():
    with pytest.raises(InputError, match="nohash-ptr"):
        read_trace(DATA / "module-hashed.txt")


def test_a_boot_trace_of_i386():
    """Pointers of 8 digits are real ones, and kfree(NULL) is printed as (null)."""
    result, trace = described("i386"), read_trace(DATA / "i386.txt")
    totals = result["totals"]
    assert (totals["allocations"], totals["frees"]) == (8, 0)
    assert (totals["total bytes requested"], totals["total bytes allocated"]) == (211, 320)
    assert result["inferred"]["kfree(NULL), left out"] == 1
    assert {"c104deff", "c10c0185"} <= set(trace.kinds["call_site"])


def test_pages_of_a_32_bit_kernel_meet_its_objects(tmp_path):
    """The linear map of i386 begins at 3 GiB: the object of a page lies where that page is."""
    path = written(
        tmp_path / "x.txt",
        "mm_page_alloc: page=f0 pfn=4096 order=0 migratetype=0 gfp_flags=GFP_KERNEL|GFP_COMP",
        "kmem_cache_alloc: call_site=c10b963e ptr=c1000010 bytes_req=60 bytes_alloc=64 gfp_flags=GFP_KERNEL",
    )
    (address,) = read_trace(path).ptrs.tolist()
    assert (address - 0xFFFF888000000000) >> 12 == 4096


def test_hashes_of_a_32_bit_kernel_are_told_by_their_low_bits(tmp_path):
    allocation = "kmalloc: call_site=c10b963e ptr={} bytes_req=60 bytes_alloc=64 gfp_flags=GFP_KERNEL"
    pointers = ("3e4c3799", "157b6ef2", "a69f35fe", "b724443d")
    with pytest.raises(InputError, match="nohash-ptr"):
        read_trace(written(tmp_path / "x.txt", *(allocation.format(pointer) for pointer in pointers)))


@pytest.mark.parametrize(
    ("name", "sites", "events"),
    [("ppc64-perf-g", {"c0000000003ce108"}, 1), ("x86-perf-g", {"alloc_indirect+0x1d", "alloc_fdtable+0x1d"}, 2)],
)
def test_perf_script_with_call_chains(name, sites, events):
    trace = read_trace(DATA / f"{name}.txt")
    assert len(trace.events) == events
    assert set(trace.kinds["call_site"]) == sites


@pytest.mark.parametrize(
    "frame",
    [
        "                       0 [unknown] ([unknown])",
        "                  27f1dc .__kmalloc (/boot/vmlinux)",
        "        ffff80001030b5c4 __arm64_sys_read+0x20 ([kernel.kallsyms])",
        "            7f3a1c029d90 std::vector<int, std::allocator<int> >::push_back(int const&)+0x80 (/usr/lib/x.so)",
        "                   19568 do_syscall_64 (inlined)",
        "  slub.c:2345",
        " => __arm64_sys_openat <ffff800010309a94>",
    ],
)
def test_frames_carry_no_event(tmp_path, frame):
    path = tmp_path / "x.txt"
    event = EVENT.format(
        at=1, event="kmalloc: call_site=f ptr=0xffff96b98b8b3100 bytes_req=8 bytes_alloc=8 gfp_flags=0"
    )
    path.write_text(f"{event}{frame}\n\n")
    assert describe(read_trace(path))["totals"]["events"] == 1


@pytest.mark.parametrize("words", ["node=-1 accounted=false", "node=(-1) accounted=false", "node=(-1) accounted"])
def test_nodes_in_brackets_and_masks_of_old_names(tmp_path, words):
    event = "kmalloc: call_site=f+0x1 [m] ptr=0xffff96b98b8b3100 bytes_req=8 bytes_alloc=8 gfp_flags=GFP_NOFS|GFP_ZERO"
    trace = read_trace(written(tmp_path / "x.txt", f"{event} {words}"))
    assert trace.kinds["call_site"].to_list() == ["f+0x1 [m]"]
    assert trace.kinds["gfp_flags"].to_list() == [0xC40 | 0x100]
    assert trace.kinds["node"].to_list() == [-1]


TWICE = "kmalloc: call_site={} ptr=0xffff8880aaaa0000 bytes_req=20000 bytes_alloc=32768 gfp_flags=GFP_KERNEL node=-1"


def test_a_large_kmalloc_that_prints_its_event_twice_is_one(tmp_path):
    """From 6.11 on: ___kmalloc_large_node and __do_kmalloc_node each emit the event of one request."""
    free = "kfree: call_site=foo+0x30/0x40 ptr=0xffff8880aaaa0000"
    events = (TWICE.format("__kmalloc_noprof+0x10/0x20"), TWICE.format("foo+0x10/0x20"), free)
    trace = read_trace(written(tmp_path / "x.txt", *events))
    totals = describe(trace)["totals"]
    assert (totals["allocations"], totals["frees"], totals["net total bytes allocated"]) == (1, 1, 0)
    assert trace.meta["inferred"]["large kmalloc whose event came twice, one left out"] == 1
    assert not [step for step in trace.meta["inferred"] if "a free in between" in step]


def test_two_large_requests_are_two(tmp_path):
    """The call site is no function of the allocator, or the address was freed in between."""
    free = "kfree: call_site=foo+0x30/0x40 ptr=0xffff8880aaaa0000"
    for events in (
        (TWICE.format("bar+0x10/0x20"), TWICE.format("foo+0x10/0x20")),
        (TWICE.format("__kmalloc_noprof+0x10/0x20"), free, TWICE.format("foo+0x10/0x20")),
    ):
        assert describe(read_trace(written(tmp_path / "x.txt", *events)))["totals"]["allocations"] == 2


def test_bpftrace_is_refused():
    with pytest.raises(InputError, match="no event of ftrace"):
        read_trace(DATA / "bpftrace.txt")


def test_a_row_without_a_name_is_marked_in_the_last_column():
    """A trace in which no cache has a name: the kernel's index does not count from the end."""
    pairs = np.zeros((3, 4), np.bool_)
    row_passes.used(np.zeros(7, np.uint8), np.ones(7, np.uint32), np.full(7, -1, np.int32), pairs, True)
    assert pairs.tolist() == [[False] * 4, [False, False, False, True], [False] * 4]
    kind = np.ones(2, np.uint32)
    row_passes.renamed(kind, np.array([-1, 0], np.int32), np.arange(12, dtype=np.uint32).reshape(3, 4))
    assert kind.tolist() == [7, 4]
