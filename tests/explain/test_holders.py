"""Who holds the memory, by the counters."""

from fastalloc.explain.holders import who_holds
from fastalloc.explain.mem_info import MemInfo

COUNTED = {
    "active_anon": 100, "inactive_anon": 50, "isolated_anon": 0, "active_file": 40, "inactive_file": 10,
    "unevictable": 0, "slab_reclaimable": 700, "slab_unreclaimable": 300, "pagetables": 20, "free": 80, "free_pcp": 0,
}  # fmt: skip


def test_every_kind_is_counted_and_the_largest_comes_first():
    said = who_holds(MemInfo(totals=dict(COUNTED)), "")
    assert said.startswith(
        "who holds the memory (reclaimable slab 700 pages, unreclaimable slab 300 pages, anonymous memory 150 pages, "
        "page cache 50 pages, page tables 20 pages): slabtop"
    )


def test_what_no_counter_has_is_what_is_left_of_the_machine():
    # 5000 - 200 pages are managed; 80 are free and 1220 counted, 10 are kernel stacks.
    block = MemInfo(totals=dict(COUNTED), tail={"pages RAM": 5000, "pages reserved": 200})
    block.nodes[0] = {"kernel_stack": 40}
    assert who_holds(block, "").startswith("who holds the memory (in no counter 3490 pages, reclaimable slab 700 pages")
    del block.tail["pages reserved"]  # cut off: nothing can be said
    assert "no counter" not in who_holds(block, "")
    block = MemInfo(totals={**COUNTED}, tail={"pages RAM": 1500, "pages reserved": 200})
    assert "no counter" not in who_holds(block, "")


def test_pools_of_huge_pages_hold_memory_used_or_not():
    text = (
        "Node 0 hugepages_total=3 hugepages_free=2 hugepages_surp=0 hugepages_size=2048kB\n"
        "Node 0 hugepages_total=0 hugepages_free=0 hugepages_surp=0 hugepages_size=1048576kB\n"
    )
    said = who_holds(MemInfo(totals=dict(COUNTED)), text)
    assert said.startswith("who holds the memory (huge pages (1024 of them free) 1536 pages,")
    assert said.endswith("vm.nr_hugepages")
    assert "huge" not in who_holds(MemInfo(totals=dict(COUNTED)), text.replace("total=3", "total=0"))


def test_without_counters_nobody_is_named():
    assert "not in the text" in who_holds(MemInfo(), "")
