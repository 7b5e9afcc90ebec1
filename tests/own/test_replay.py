"""Files of one's own against a recorded trace: what leaves all to the kernel changes nothing, faults stop it."""

import json

import numpy as np
import polars as pl
import pytest

from fastalloc.errors import InputError
from fastalloc.own.compiled import PolicyError
from fastalloc.trace.lanes.own_lane import FIRST_PAGES
from fastalloc.trace.replay.recording import beside, open_recording
from fastalloc.trace.replay.results import write_results
from tests.geometry.shared import DATA

RUN = DATA / "traces" / "d_w4_k73_smp4.events.parquet"
QUIET = """
STATE = {"slab": ["frees"], "cache": ["refills"]}

def free_to(slab, state):
    state.slab.frees += 1
    return -1 if slab.total > 0 else 1

def keep(cache):
    return cache.min_partial

def next_slab(slab, cache):
    return slab.total >= slab.free

def refill(sheaf, state):
    state.cache.refills += 1
    return sheaf.capacity

def flush(sheaf):
    return 0
"""
HALF = """
from fastalloc.own import parameter
share = parameter("share", 2, 1, 8, "of a sheaf's capacity, one in so many")

def refill(sheaf):
    return max(1, sheaf.capacity // share)
"""


@pytest.fixture(scope="module")
def recording():
    return open_recording(RUN, beside(RUN, "slabstate"), None, "7.3", "")


def saved(tmp_path, text, name="mine.py"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_a_policy_that_answers_as_the_kernel_is_the_kernel(recording, tmp_path):
    plain, own = recording.run([f"policy={saved(tmp_path, QUIET)}"])
    assert own.result.caches.equals(plain.result.caches)
    assert (own.result.series == plain.result.series).all()


def test_a_policy_acts_and_its_parameter_is_an_axis(recording, tmp_path):
    file = saved(tmp_path, HALF)
    plain, whole, half = recording.run([f"policy={file},policy.share=1", f"policy={file}"])
    assert whole.result.caches["new"].sum() == plain.result.caches["new"].sum() > half.result.caches["new"].sum()
    write_results(tmp_path / "out", recording, [plain, whole, half], "fastalloc replay x")
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())["own"]
    assert told[f"policy={file},policy.share=1"]["parameters"] == {"share": 1}
    assert told[f"policy={file}"]["text"] == HALF


def test_what_a_replay_cannot_do_is_refused(recording, tmp_path):
    file = saved(tmp_path, HALF)
    for what_if, words in (
        (f"policy={file},policy.share=9", "policy.share: 9 is not within 1 to 8"),
        (f"policy={file},era=cpu-partial", "refill, line 5: is not asked of the rules of cpu-partial"),
        (f"policy={saved(tmp_path, 'def depth(zone): return 1', 'a.py')}", "depth, line 1: is not asked in a replay"),
        ("policy.share=2", "names none: policy=FILE.py"),
        (f"allocator={file}", "has no function create(heap, c, size)"),
        (f"policy={tmp_path / 'none.py'}", "No such file"),
    ):
        with pytest.raises(InputError) as error:
            recording.configs([what_if])
        assert words in str(error.value)


def test_a_policy_that_fails_ends_the_replay(recording, tmp_path):
    file = saved(tmp_path, "def refill(sheaf):\n    return 1 // (sheaf.capacity - sheaf.capacity)\n")
    with pytest.raises(PolicyError, match=r"mine\.py: line 2: ZeroDivisionError.*: refill\(sheaf=\(size="):
        recording.run([f"policy={file}"])


def test_an_allocator_holds_every_object_of_a_trace(recording, tmp_path):
    plain, own = recording.run([f"allocator={saved(tmp_path, BUDDY)}"])
    caches = own.result.caches
    others = ~np.array([name.startswith("kmalloc") for name in caches["cache"]])  # there lie the kernel's own sheaves
    assert (caches["objects"].to_numpy() == plain.result.caches["objects"].to_numpy())[others].all()
    assert 0.99 < own.result.counts["allocations"] / plain.result.counts["allocations"] <= 1
    assert (caches["start_slabs"] + caches["new"] - caches["freed"] == caches["end"]).all()
    assert (np.asarray(caches["alloc_slow"]) + caches["alloc_fast"]).sum() == own.result.counts["allocations"]


# Pages of the smallest order that hold an object, one each: the buddy allocator alone.
BUDDY = (DATA.parents[1] / "docs" / "own" / "buddy_only.py").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_allocator_that_fails_ends_the_replay(recording, tmp_path):
    text = BUDDY.replace("return page << 12", "return 0")
    with pytest.raises(PolicyError, match=r"mine\.py: line 15: alloc: address 0x0 of object 137 overlaps an object"):
        recording.run([f"allocator={saved(tmp_path, text)}"])
    gives = "    give_pages(zone, address >> 12, heap.cache[c, 0])"
    divides = "    page = 1 // (cpu - cpu)\n"
    for before, after, words in (
        ("heap.cache[c, 0] = order", "heap.cache[c + 9999, 0] = order", "line 12: IndexError"),
        ("    lock(zone)\n    page", f"    lock(zone)\n{divides}    page", "line 17: ZeroDivisionError"),
        (gives, gives.replace("address >> 12", "1 + (address >> 12)"), "line 24: free: page "),
        (gives, "    pass", "line 34: pages_held: says "),
        ("return page << 12", "return -8", "line 15: alloc: address -0x8 of object [0-9]+ lies outside of the pages"),
        (f"    heap.held[0, 0] -= 1 << heap.cache[c, 0]\n{gives}", "    pass", "line 24: free: [0-9,]+ pages are held"),
    ):
        assert before in BUDDY
        with pytest.raises(PolicyError, match=rf"mine\.py: {words}"):
            recording.run([f"allocator={saved(tmp_path, BUDDY.replace(before, after))}"])


WIDE = (
    BUDDY.replace(
        '"held": (1, 1)}', '"held": (1, 1), "mark": ("CPUS * PAGES", 1), "cpu": ("CPUS", 1), "by": ("PAGES", 1)}'
    )
    .replace(
        "    return page << 12",
        """    heap.by[page, 0] = cpu
    heap.mark[cpu * (len(heap.mark) // len(heap.cpu)) + page, 0] = 1
    return page << 12""",
    )
    .replace(
        "    give_pages(zone, address",
        """    row = heap.by[address >> 12, 0] * (len(heap.mark) // len(heap.cpu)) + (address >> 12)
    assert heap.mark[row, 0] == 1
    heap.mark[row, 0] = 0
    give_pages(zone, address""",
    )
)


@pytest.mark.slow
def test_arrays_of_two_sizes_outgrow_their_lane(recording, tmp_path):
    """A row of CPUS * PAGES is another one's when there are more pages: the lane begins anew with larger arrays."""
    _, one, wide = recording.run(
        [f"allocator={saved(tmp_path, each, name)}" for each, name in ((BUDDY, "a.py"), (WIDE, "b.py"))]
    )
    assert one.result.caches["peak"].sum() > FIRST_PAGES
    assert wide.result.caches.equals(one.result.caches)


def test_a_configuration_runs_one_file(recording, tmp_path):
    mine, other = saved(tmp_path, HALF, "a.py"), saved(tmp_path, BUDDY, "b.py")
    for what_if, words in (
        (f"policy={mine},policy={mine}", "is a second file beside"),
        (f"policy={mine},allocator={other}", "is a second file beside"),
        (f"policy={other}", "b.py: is an allocator: name it as --what-if allocator="),
    ):
        with pytest.raises(InputError) as error:
            recording.configs([what_if])
        assert words in str(error.value)


BULK = f"""{BUDDY}

def alloc_bulk(heap, zone, c, cpu, gfp, count, into):
    slow(zone)
    for i in range(count):
        into[i] = alloc(heap, zone, c, cpu, gfp)
    return count


def free_bulk(heap, zone, c, cpu, count, addresses):
    slow(zone)
    for i in range(count):
        free(heap, zone, c, cpu, addresses[i])
"""


@pytest.mark.slow
def test_bulk_functions_get_the_bulk_calls_of_a_trace(tmp_path):
    run = DATA / "traces" / "d_stack_k612.events.parquet"
    recording = open_recording(run, beside(run, "slabstate"), None, "6.12", "")
    files = [saved(tmp_path, BUDDY, "one.py"), saved(tmp_path, BULK.replace("import NOTHING", "import slow, NOTHING"))]
    _, one, many = recording.run([f"allocator={file}" for file in files])
    same = ("cache", "new", "freed", "peak", "end", "objects", "node_list")
    assert one.result.caches.select(same).equals(many.result.caches.select(same))
    assert one.result.counts == many.result.counts
    assert one.result.caches["alloc_slow"].sum() == one.result.caches["free_slow"].sum() == 0
    calls = many.result.caches.filter(pl.col("alloc_slow") > 0)
    assert calls["cache"].to_list() == ["maple_node"]
    assert 0 < many.result.caches["alloc_slow"].sum() <= 286 / 2
    assert 0 < many.result.caches["free_slow"].sum() <= 114
