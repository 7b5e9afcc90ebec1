"""A machine of 7.3: its sheaves are kept, no constructor is invented, its kernel is named."""

import csv
import gzip
from pathlib import Path

import pytest

from fastalloc.linux.geometry_slub import CacheRequest, calculate_sizes
from fastalloc.linux.slub_eras import SlubOptions
from fastalloc.scenario.imports import import_machine

RAW = Path(__file__).resolve().parents[3] / "shared" / "data" / "kernel-7.x"
ZONEINFO = """Node 0, zone   Normal
  pages free     1000
        min      32
        low      40
        high     48
        spanned  4096
        present  4096
        managed  4096
        protection: (0, 0)
  pagesets
    cpu: 0
              count: 0
              high:  6
              batch: 1
"""
DUMP = f"""== /proc/version
Linux version 7.3.4-amd64 (x) x86_64
== /proc/meminfo
MemTotal:          16384 kB
SwapTotal:             0 kB
== /proc/zoneinfo
{ZONEINFO}== /proc/slabinfo
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables
built                  1      1    264   15    1 : tunables    0    0    0 : slabdata      1      1      0
plain                  1      1    256   16    1 : tunables    0    0    0 : slabdata      1      1      0
kmem_cache             1      1    256   16    1 : tunables    0    0    0 : slabdata      1      1      0
== /sys/kernel/slab
SLABDIR built align=8 object_size=256 slab_size=264 sheaf_capacity=28
SLABDIR plain align=8 object_size=256 slab_size=256 sheaf_capacity=28
SLABDIR kmem_cache align=64 hwcache_align=1 object_size=224 slab_size=256 sheaf_capacity=0
"""


def test_a_constructor_is_told_from_its_free_pointer_alone(tmp_path):
    path = tmp_path / "dump.txt"
    path.write_text(DUMP)
    machine = import_machine(path)
    caches = {cache.name: cache for cache in machine.slab_caches}
    assert {name for name, cache in caches.items() if cache.ctor} == {"built"}
    assert {name: cache.sheaf_capacity for name, cache in caches.items()} == {"built": 28, "plain": 28, "kmem_cache": 0}
    assert machine.kernel == "7.3.4-amd64"
    assert "Linux 7.3.4-amd64" in machine.source


@pytest.mark.parametrize("dump", ["machine_7.3_smp2_m512", "machine_7.3_smp2_m512_nomerge"])
def test_machines_of_7_3(dump):
    path = RAW / "raw" / f"{dump}.txt.gz"
    if not path.exists():
        pytest.skip("shared data is not at hand")
    machine = import_machine(path)
    assert machine.kernel == "7.3.4+deb13-amd64"
    with gzip.open(RAW / "geometry.csv.gz", "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["kernel"] == "v7.3"]
    capacity = {row["cache"]: int(row["sheaf_capacity"]) for row in rows if "debug" not in row["boot"]}
    built = {row["cache"] for row in rows if row["ctor"]}
    assert {cache.name for cache in machine.slab_caches if cache.ctor} <= built
    known = [cache for cache in machine.slab_caches if cache.name in capacity]
    assert len(known) > 150
    assert [cache.name for cache in known if cache.sheaf_capacity != capacity[cache.name]] == []
    for cache in machine.slab_caches:  # and the rules lay each out as it was found
        request = CacheRequest(cache.name, cache.object_size, cache.align, cache.flag_bits, cache.ctor)
        assert calculate_sizes(request, SlubOptions("7.3", 2)).objects > 0
