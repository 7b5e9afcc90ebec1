"""What-ifs that lay caches out anew: debugged slots against kernels that were booted so, and larger pages."""

import csv
import gzip
from functools import lru_cache

import pytest

from fastalloc.errors import InputError
from fastalloc.linux import slub_eras as se
from fastalloc.linux.slub_boot import parse_boot_options
from fastalloc.trace.lanes.caches import TracedCache
from fastalloc.trace.replay.laid_out_anew import debug_flags, debugged
from fastalloc.trace.replay.recording import beside, open_recording
from tests.geometry.shared import DATA, shared

RUN = DATA / "traces" / "d_stack_k612.events.parquet"


@pytest.fixture(scope="module")
def recording():
    return open_recording(RUN, beside(RUN, "slabstate"), None, "6.12", "slab_nomerge")


SYSFS = ("object_size", "slab_size", "order", "objs_per_slab", "align")


@lru_cache
def boots(folder: str) -> dict[tuple[str, str], dict[str, dict[str, int]]]:
    """Layouts of every cache, by kernel and boot line of a real kernel."""
    found: dict[tuple[str, str], dict[str, dict[str, int]]] = {}
    with gzip.open(shared(folder) / "geometry.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            if not row["alias_of"]:
                layouts = found.setdefault((row["kernel"], row["boot"]), {})
                layouts[row["cache"]] = {name: int(row[name]) for name in SYSFS}
    return found


@pytest.mark.parametrize(
    ("folder", "kernel", "boot"),
    [
        ("kernel", "v6.1", "slub_debug=FZPU"),
        ("kernel", "v6.1", "slub_debug=Z"),
        ("kernel", "v6.12", "slub_debug=FZPU"),
        ("kernel", "v6.12", "slub_debug=P"),
        ("kernel", "v6.12", "slub_debug=U"),
        ("kernel-7.x", "v7.3", "slab_debug=FZPU"),
    ],
)
@pytest.mark.parametrize("told", [True, False], ids=["align told", "not told"])
def test_debugged_slots_are_those_of_a_kernel_booted_so(folder, kernel, boot, told):
    """From what sysfs says of a kernel booted without, every cache; where it does not say the alignment, most."""
    before, after = boots(folder)[kernel, "nomerge_smp2"], boots(folder)[kernel, boot]
    options = parse_boot_options("", kernel.removeprefix("v"), cpus_present=2)
    flags = debug_flags("debug", boot.partition("=")[2], options)
    same, off = 0, []
    for name in sorted(before.keys() & after.keys()):
        own, real = before[name], after[name]
        cache = TracedCache(name, own["slab_size"], own["object_size"], own["order"], own["objs_per_slab"], 5, 0)
        made = debugged("debug", cache._replace(align=own["align"] if told else 0), flags, options)
        if (made.size, made.order, made.objects) == (real["slab_size"], real["order"], real["objs_per_slab"]):
            same += 1
        else:
            off.append((name, own["object_size"], own["slab_size"], own["align"], made.size, real["slab_size"]))
    assert same >= 150
    assert len(off) <= (0 if told else 0.2 * (same + len(off))), off


def test_a_debugged_cache_has_no_list_of_a_cpu(recording):
    """Each allocation takes list_lock, and caches that were in a slab of several pages grow."""
    before, after = recording.run(["debug=FZPU"], 1)
    assert after.result.counts == before.result.counts
    sums = after.result.caches.sum().row(0, named=True)
    assert sums["alloc_fast"] == 0
    assert sums["list_lock"] >= sums["alloc_slow"]
    assert after.at_once[0] > 1.1 * before.at_once[0]


def test_consistency_checks_alone_leave_the_layout(recording):
    base, checked = recording.configs(["debug=F"])
    layout = [(cache.name, cache.size, cache.order, cache.objects) for cache in base.caches]
    assert [(cache.name, cache.size, cache.order, cache.objects) for cache in checked.caches] == layout


@pytest.mark.parametrize(("value", "bytes_"), [("16k", 16384), ("64k", 65536)])
def test_larger_pages(recording, value, bytes_):
    """A slab is whole pages of that size, laid out by the same rule; pages are counted in 4 kB."""
    before, after = recording.run([f"page_size={value}"], 1)
    assert after.result.counts == before.result.counts
    options = parse_boot_options("slab_nomerge", "6.12", cpus_present=2, page_shift=bytes_.bit_length() - 1)
    for cache in after.result.config.caches:
        assert 4096 << cache.order == bytes_ << se.calculate_order(cache.size, options)
        assert cache.objects == (4096 << cache.order) // cache.size
    assert after.at_once[0] > before.at_once[0]
    (plain,) = recording.configs(["page_size=4k"])[1:]
    assert plain.caches == recording.configs([])[0].caches


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("debug=X", "letters of F Z P U T"),
        ("page_size=8k", "pages are 4k, 16k, 64k"),
        ("page_size=64k,allocator=slab", "pages of 4 kB"),
    ],
)
def test_what_is_no_layout_is_refused(recording, text, why):
    with pytest.raises(InputError, match=why):
        recording.configs([text])
