"""An allocator of one's own: SLUB of 2.6.25 passes golden cases of one cache; what loses objects or pages is found."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fastalloc import own
from fastalloc.errors import InputError
from fastalloc.kernels.replay import operations as rp
from fastalloc.own import memory as om
from fastalloc.own.allocator import own_allocator
from fastalloc.own.allocator_text import is_allocator, read_allocator
from fastalloc.verify.own.allocator_check import check_allocator
from fastalloc.verify.own.template import allocator_template

pytestmark = pytest.mark.usefixtures("still_clock")
SLUB = (Path(__file__).parent / "slub_2_6_25.py").read_text(encoding="utf-8")
BUDDY = (Path(__file__).parents[2] / "docs" / "own" / "buddy_only.py").read_text(encoding="utf-8")
GOLDEN = Path(__file__).parents[1] / "data" / "golden"
MORE = Path(__file__).parents[2] / ".." / "shared" / "data" / "golden"
SLOTS = {"hand50": {0: 800}, "fifo_single": {0: 520}, "lifo_single": {0: None}, "random_single": {0: 200, 2: 80}}


def slot_sizes(case):
    """Bytes of a slot of each cache of the case without flags, by its number."""
    import json

    manifest = json.loads((case / "manifest.json").read_text())
    plain = {}
    for cache in manifest["caches"]:
        if cache["flags"] == "0x0" and cache["align"] == 0:
            plain[cache["index"]] = -(-cache["size"] // 8) * 8 + (8 if cache["ctor"] else 0)
    return plain


@pytest.mark.parametrize("name", ["hand50", "fifo_single", "lifo_single", "random_single"])
def test_slub_of_2_6_25_passes_golden_cases_of_one_cache(name):
    case = GOLDEN / name if (GOLDEN / name).exists() else MORE / name
    if not case.exists():
        pytest.skip("needs ../shared")
    trace = pl.read_parquet(case / "trace.parquet")
    expected = pl.read_parquet(case / "slub64" / "ops.parquet")
    allocator = own_allocator(BULK, "slub.py")  # which the test without a fault compiles too
    for cache, slot in slot_sizes(case).items():
        assert replayed(allocator, trace, cache, slot) == recorded(trace, expected, cache)


def recorded(trace, expected, cache):
    both = trace.hstack(expected)
    mine = both.filter(pl.col("cache") == cache, pl.col("op").is_in([rp.OP_ALLOC, rp.OP_FREE]))
    return mine.select("res", "slab", "idx").rows()


def replayed(allocator, trace, cache, slot):
    """Result, slab in the order in which they were met, and object of each allocation and free."""
    heap, zone, turns = allocator.arrays(1, 8, 4096), om.new_zone(4096, 1, 4096), np.zeros(1, np.int64)
    call = allocator.compiled
    call["create"](heap, 0, slot, turns)
    place, met, number, rows = {}, 0, {}, []
    for op, cpu, which, obj, gfp in trace.select("op", "cpu", "cache", "obj_id", "gfp").rows():
        turns[0] = 0
        if op == rp.OP_FLUSH and which in (cache, -1):
            call["flush"](heap, zone, 0, cpu, turns)
        elif op == rp.OP_SHRINK and which == cache:
            call["shrink"](heap, zone, 0, turns)
        elif op == rp.OP_ALLOC and which == cache:
            place[obj] = call["alloc"](heap, zone, 0, cpu, gfp, turns)
        elif op != rp.OP_FREE or which != cache:
            continue
        if op in (rp.OP_ALLOC, rp.OP_FREE):
            page = place[obj] >> 12
            if page not in number:
                number[page] = met
                met += 1
            rows.append((1, number[page], place[obj] % 4096 // slot))
        if op == rp.OP_FREE:
            call["free"](heap, zone, 0, cpu, place.pop(obj), turns)
        # A page that was given back and is taken again is another slab.
        number = {page: known for page, known in number.items() if zone.map[page] != 0}
    return rows


PLANTED = {
    "double hand-out": (
        "        heap.cpu[k, PRIVATE] = heap.slot[s * 512 + i - 1, 0]\n        return s * 4096",
        "        return s * 4096",
        "handed out twice",
    ),
    "lost object": (
        "    heap.page[s, FREE] = i\n    heap.page[s, INUSE] -= 1\n    if",
        "    heap.page[s, FREE] = i\n    if",
        "a page leaked, or an object was lost",
    ),
    "leak of a page": ("    give_pages(zone, s, 0)\n", "    pass\n", "but 1 pages are held"),
    "a page that is still in use": (
        "        if heap.page[s, INUSE] == 0:\n            lock",
        "        if heap.page[s, INUSE] <= 1:\n            lock",
        "is not held so, or has an object in use",
    ),
    "outside its page": ("s * 4096 + (i - 1) * heap", "s * 4096 + i * heap", "handed out twice"),
    "an index": ("heap.page[other - 1, NEXT] = s + 1", "heap.page[other + 4096, NEXT] = s + 1", "raised line"),
}
MORE_PLANTED = {
    "a CPU keeps a slab that was shrunk": (
        "    heap.cpu[k, SLAB] = 0\n    heap.page[s, FROZEN] = 0\n",
        "    heap.page[s, FROZEN] = 0\n",
        "lies outside of the pages that are held",
    ),
    "a CPU keeps a free object of a slab that was shrunk": (
        "    if heap.cpu[k, SLAB] > 0:\n        deactivate(heap, zone, c, k)",
        "    i = heap.cpu[k, PRIVATE]\n    if heap.cpu[k, SLAB] > 0:\n        deactivate(heap, zone, c, k)\n"
        "    heap.cpu[k, PRIVATE] = i",
        "address -0x",
    ),
    "a page leaked by shrink": (
        "            discard(heap, zone, s - 1)",
        "            pass",
        "a page leaked, or an object was lost",
    ),
    "shrink forgets a CPU": ("range(len(heap.cpu) // len(heap.cache))", "range(1)", "a page leaked"),
    "the last slot": ("n + 2 if n + 1 < objects else 0", "n + 2", "runs over the end of its pages"),
    "another cache's size": ("// heap.cache[c, SIZE] + 1", "// heap.cache[0, SIZE] + 1", "lies outside of the pages"),
    "caches share a list": ("heap.cache[c, HEAD]", "heap.cache[0, HEAD]", "runs over the end of its pages"),
    "on CPU 1 alone": (
        "        heap.cpu[k, PRIVATE] = heap.slot[s * 512 + i - 1, 0]\n        return s * 4096",
        "        heap.cpu[k, PRIVATE] = heap.slot[s * 512 + i - 1, 0] if cpu == 0 else i\n        return s * 4096",
        "handed out twice",
    ),
    "of one mask alone": (
        "        heap.cpu[k, PRIVATE] = heap.slot[s * 512 + i - 1, 0]\n        return s * 4096",
        "        heap.cpu[k, PRIVATE] = heap.slot[s * 512 + i - 1, 0] if gfp != 0x10 else i\n        return s * 4096",
        "handed out twice",
    ),
    "a page given back twice": ("    give_pages(zone, s, 0)\n", "    give_pages(zone, s, 0)\n" * 2, "is not held so"),
    "a refusal that is not looked at": ("    if s == NOTHING:\n        return NOTHING\n", "", "pages are held"),
    "8 bytes too few": ("heap.cache[c, SIZE] = size", "heap.cache[c, SIZE] = size - 8", "handed out twice"),
    "a loop without end": ("        s = after\n", "        s = s\n", "OverflowError: its loops take more"),
    "chance": (
        "MIN_PARTIAL = 5",
        "import sys\n\nsys.own_test = getattr(sys, 'own_test', 0) + 1\nMIN_PARTIAL = sys.own_test",
        "slub.py: addresses change from one execution of the file to the next",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*PLANTED, *MORE_PLANTED])
def test_a_planted_fault_is_found(name):
    before, after, words = (PLANTED | MORE_PLANTED)[name]
    assert before in SLUB
    (fault,) = check_allocator(SLUB.replace(before, after), "slub.py", {}, 8.0).faults
    assert words in fault.what, fault.what
    assert fault.what.startswith("slub.py: ")
    assert (0 if name == "chance" else 1) <= len(fault.sequence) < 60
    assert fault.smallest


ORDER = "        give_pages(zone, page, order)\n"
ORDERS = {
    "an order": (allocator_template("mine"), ORDER, ORDER.replace("order)", "0)"), "is not held so"),
    "half of the pages": (BUDDY, "(4096 << order) < size", "(8192 << order) < size", "runs over the end of its pages"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_a_fault_of_objects_larger_than_a_page_is_found(name):
    source, before, after, words = ORDERS[name]
    assert before in source
    (fault,) = check_allocator(source.replace(before, after), "mine.py", {}, 8.0).faults
    assert words in fault.what, fault.what


def test_a_refusal_without_a_page_held_is_a_fault():
    text = allocator_template("mine").replace("        slow(zone)\n", "        return NOTHING\n")
    (fault,) = check_allocator(text, "mine.py", {}, 8.0).faults
    assert "was refused although no page is held" in fault.what


def test_a_file_may_call_what_it_imports_where_it_is_executed():
    text = BUDDY.replace("import NOTHING,", "import NOTHING, order_of,")
    own_allocator(text.replace("\nARRAYS", "\nLARGE = order_of(20000)\nARRAYS"), "buddy.py")
    assert own.order_of(20000) == 3


def test_single_pages_need_not_hold_more():
    assert not read_allocator(SLUB, "slub.py").takes_orders
    assert not read_allocator(SLUB.replace("gfp, 0)", "gfp, ONE)").replace("MIN", "ONE = 0\nMIN", 1), "").takes_orders
    assert read_allocator(BUDDY, "buddy.py").takes_orders


@pytest.mark.slow
def test_a_fault_that_shows_late_is_found():
    text = SLUB.replace('"held": (1, 1),', '"held": (1, 1),\n    "asked": (1, 1),')
    before = "        heap.cpu[k, PRIVATE] = heap.slot[s * 512 + i - 1, 0]\n        return s * 4096"
    late = before.replace(", 0]\n", ", 0] if heap.asked[0, 0] < 5000 else i\n")
    text = text.replace(before, late.replace("        heap", "        heap.asked[0, 0] += 1\n        heap", 1))
    (fault,) = check_allocator(text, "slub.py", {}, 8.0).faults
    assert "handed out twice" in fault.what
    assert not fault.smallest
    told = fault.lines(40)
    assert told[1] == "  a sequence, perhaps not the smallest, that shows it, allocator 'of its own':"
    assert len(told) == 83
    assert told[42] == f"     ... {len(fault.sequence) - 80:,} more, with --json"


BULK = f"""{SLUB}

def alloc_bulk(heap, zone, c, cpu, gfp, count, into):
    for i in range(count):
        into[i] = alloc(heap, zone, c, cpu, gfp)
        if into[i] == NOTHING:
            free_bulk(heap, zone, c, cpu, i, into)
            return 0
    return count


def free_bulk(heap, zone, c, cpu, count, addresses):
    for i in range(count):
        free(heap, zone, c, cpu, addresses[i])
"""
PLANTED_IN_BULK = {
    "a part is lost where there is no more": ("            free_bulk(heap, zone, c, cpu, i, into)\n", "", "was lost"),
    "a part is given": ("            return 0", "            return i", "objects: it gives all or none"),
    "one is not freed": (
        "for i in range(count):\n        free(",
        "for i in range(count - 1):\n        free(",
        "was lost",
    ),
    "one is given twice": ("into[i] = alloc(heap", "into[i] = into[0] if i == 3 else alloc(heap", "handed out twice"),
}


@pytest.mark.parametrize("name", PLANTED_IN_BULK)
def test_a_fault_of_bulk_functions_is_found(name):
    before, after, words = PLANTED_IN_BULK[name]
    assert before in BULK
    (fault,) = check_allocator(BULK.replace(before, after), "slub.py", {}, 8.0).faults
    assert words in fault.what, fault.what
    assert any("bulk" in op.words() for op in fault.sequence)


def test_slub_has_no_fault(monkeypatch):
    monkeypatch.setattr("fastalloc.verify.own.allocator_check.LONG", 2400)  # a long one is for faults that show late
    assert check_allocator(BULK, "slub.py", {}, 2.0).faults == []


MANY = "".join(f'"a{i}": (1, 1), ' for i in range(21))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("def flush(heap, zone, c, cpu)", "def flush(heap, zone)", "must be flush(heap, zone, c, cpu)"),
        ('("CACHES", 5)', '("CACHES * 9999999999", 5)', "cache: ARRAYS is a table such as"),
        ("return 0\n    return count", "return\n    return count", "returns nothing: it gives a whole number"),
        ("def alloc_bulk(heap, zone, c, cpu, gfp, count, into)", "def alloc_bulk(heap)", "must be alloc_bulk(heap"),
        ("addresses[i])\n", "addresses[i])\n    return count\n", "returns a value: it gives nothing"),
        ("def free_bulk", "def free_bulks", "free_bulks is no function of an allocator, and none of them calls it"),
        ("def shrink(", "def shrunk(", "has no function shrink(heap, zone, c)"),
        ("def alloc(heap, zone, c, cpu, gfp)", "def alloc(heap, zone, c)", "must be alloc(heap, zone, c, cpu, gfp)"),
        ("heap.cache[c, SIZE] = size", "heap.cash[c, SIZE] = size", "heap has no array 'cash': there are cache, cpu"),
        ("heap.cache[c, SIZE] = size", "heap.cache[c] = size", "an element is heap.NAME[row, column]"),
        ('("CACHES", 5)', '("CACHE", 5)', "cache: ARRAYS is a table"),
        ("ARRAYS = ", "ARRAY = ", "declares no arrays"),
        ('"held": (1, 1),', MANY, "25 arrays; at most 24 can be"),
        ("heap.cache[c, SIZE] = size", "heap.cache = size", "an array cannot be replaced: assign to its elements"),
        ("    slow(zone)\n    if", "    gfp = zone.ctl\n    if", "zone is given to take_pages and give_pages, and to"),
        ("def pages_held(heap):\n    return heap.held[0, 0]", "def pages_held(heap):\n    return", "it gives a whole"),
    ],
)  # fmt: skip
def test_what_is_no_allocator_is_refused(before, after, words):
    assert before in BULK
    with pytest.raises(InputError) as error:
        read_allocator(BULK.replace(before, after, 1), "slub.py")
    assert words in str(error.value)


def test_a_policy_is_no_allocator():
    assert is_allocator(SLUB)
    assert not is_allocator("def keep(cache):\n    return 1\n")
