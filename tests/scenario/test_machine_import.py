"""Machines read from real kernels: the dumps of 2.6.25-rc8, and folders as they are live."""

import gzip
from pathlib import Path

import pytest

from fastalloc.batch.zones import lane_zones
from fastalloc.errors import InputError
from fastalloc.scenario import import_machine, load_machine
from fastalloc.scenario.machines import PRESETS

DUMPS = PRESETS / "machines" / "dumps"
DUMP = DUMPS / "linux-2.6.25-rc8-512m.txt.gz"
# All memory sizes that were dumped lie in a folder beside the repository, where it is kept.
SHARED = Path(__file__).parents[3] / "shared/data"
MORE_DUMPS = SHARED / "linux-2.6.25-rc8/procfs"

# mem MB: DMA min/low/high, its reserve against DMA32, DMA32 present, min/low/high, pcp high/batch
WATERMARKS = {
    64: ((51, 63, 76), 47, 12089, (195, 243, 292), (6, 1)),
    256: ((25, 31, 37), 236, 60569, (479, 598, 718), (90, 15)),
    512: ((17, 21, 25), 489, 125209, (698, 872, 1047), (186, 31)),
    1024: ((12, 15, 18), 994, 254489, (1002, 1252, 1503), (186, 31)),
    4096: ((6, 7, 9), 3000, 768024, (1513, 1891, 2269), (186, 31)),
}


def check(machine, megabytes):
    dma_marks, reserve, present, marks, pcp = WATERMARKS[megabytes]
    dma, dma32, *higher = machine.zones
    assert (dma.min, dma.low, dma.high) == dma_marks
    assert dma.protection[1] == reserve
    assert dma32.present == present
    assert (dma32.min, dma32.low, dma32.high) == marks
    assert (dma32.pcp_high, dma32.pcp_batch) == pcp
    assert (dma.pcp_high, dma.pcp_batch) == (0, 1)
    assert machine.cpus == 2
    assert machine.cache_line == 64
    assert [zone.name for zone in higher] == (["Normal"] if megabytes == 4096 else [])


@pytest.mark.parametrize("megabytes", [256, 512])
def test_dumps_in_the_package(megabytes):
    name = f"linux-2.6.25-rc8-{megabytes}m"
    machine = import_machine(DUMPS / f"{name}.txt.gz", name, kernel="2.6.25-rc8", at_boot=True)
    check(machine, megabytes)
    assert machine == load_machine(name), "the preset is what the importer reads from the dump"


@pytest.mark.parametrize("megabytes", sorted(WATERMARKS))
def test_dumps_of_all_sizes(megabytes):
    path = MORE_DUMPS / f"facts_{megabytes}.txt.gz"
    if not path.exists():
        pytest.skip("the folder of dumps is not beside the repository")
    check(import_machine(path), megabytes)


def test_slab_caches_of_the_dump():
    machine = import_machine(DUMP)
    caches = {cache.name: cache for cache in machine.slab_caches}
    assert len(caches) == 40
    assert caches["kmalloc-128"].object_size == 128
    assert not caches["kmalloc-128"].ctor
    assert caches["radix_tree_node"].ctor
    assert caches["inode_cache"].flags == ["reclaim_account"]
    assert caches["signal_cache"].flags == ["hwcache_align"]
    assert caches["inode_cache"].flag_bits == 0x20000
    assert [cache.name for cache in machine.slab_caches[:3]] == ["kmalloc-96", "kmalloc-192", "kmalloc-8"]


def lines_of_dump() -> list[str]:
    return gzip.decompress(DUMP.read_bytes()).decode().splitlines(keepends=True)


def refused(path) -> str:
    with pytest.raises(InputError) as caught:
        import_machine(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


# What is assumed where a section is missing.
MISSING = {
    "/proc/zoneinfo": "zones not told: those of x86_64 assumed",
    "/proc/meminfo": "swap not told, none assumed",
    "/proc/slabinfo": "no slabinfo: the order in which caches were created is not told",
    "/sys/kernel/slab": "no /sys/kernel/slab: alignment, flags and constructors of caches not told, none assumed",
}


@pytest.mark.parametrize("section", list(MISSING))
def test_missing_section(tmp_path, section):
    path = tmp_path / "dump.txt"
    kept, keep = [], True
    for line in lines_of_dump():
        if line.startswith("== "):
            keep = line.split()[-1] != section
        if keep:
            kept.append(line)
    path.write_text("".join(kept))
    machine = import_machine(path)
    assert MISSING[section] in machine.source
    assert all(other not in machine.source for other in MISSING.values() if other != MISSING[section])


def test_zoneinfo_cut_at_any_line(tmp_path):
    """The last zone is cut off: that the first one is whole tells what is missing."""
    lines = MODERN_ZONEINFO.splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if line.startswith("Node"))
    batch = next(i for i, line in enumerate(lines) if i > last and "batch" in line)
    path = tmp_path / "zoneinfo"
    for end in range(last + 1, batch + 1):
        path.write_text("".join(lines[:end]))
        assert "cut off" in refused(path), end


@pytest.mark.parametrize("text", ["        low      8", "        protection: (0, 489,", "SLABDIR :0000016 object_si"])
def test_dump_cut_within_a_line(tmp_path, text):
    whole = "".join(lines_of_dump())
    path = tmp_path / "dump.txt"
    path.write_text(whole[: whole.index(text[:-1]) + len(text)])
    refused(path)


def test_damaged_gzip_and_other_files(tmp_path):
    path = tmp_path / "dump.txt.gz"
    path.write_bytes(DUMP.read_bytes()[:1500])
    assert "gzip" in refused(path)
    path.write_text("nothing of the kind\n")
    assert "tells of no machine" in refused(path)
    assert "no such file" in refused(tmp_path / "none")
    (tmp_path / "root").mkdir()
    assert "tells of no machine" in refused(tmp_path / "root")


MODERN_ZONEINFO = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 1569
  pages free     3840
        boost    0
        min      53
        low      66
        high     79
        promo    92
        spanned  4095
        present  3998
        managed  3840
        cma      0
        protection: (0, 3019, 4683, 4683, 4683)
      nr_free_pages 3840
  pagesets
    cpu: 0
              count:    0
              high:     0
              batch:    1
              high_min: 0
              high_max: 0
  vm stats threshold: 4
  start_pfn:           1
Node 0, zone    DMA32
  pages free     0
        min      0
        low      0
        high     0
        spanned  0
        present  0
        managed  0
        protection: (0, 0, 1663, 1663, 1663)
Node 0, zone   Normal
  pages free     462402
        boost    0
        min      6808
        low      8510
        high     10212
        promo    11914
        spanned  524288
        present  524288
        managed  520001
        cma      0
        protection: (0, 0, 0, 0, 0)
  pagesets
    cpu: 0
              count:    12
              high:     4255
              batch:    63
    cpu: 1
              count:    12
              high:     4255
              batch:    63
"""


def live_folder(tmp_path: Path, zoneinfo: str) -> Path:
    proc, slab = tmp_path / "proc", tmp_path / "sys/kernel/slab"
    proc.mkdir()
    (proc / "zoneinfo").write_text(zoneinfo)
    (proc / "meminfo").write_text("MemTotal:  2097152 kB\nSwapTotal:  8192 kB\n")
    (proc / "slabinfo").write_text(
        "slabinfo - version: 2.1\n# name\nkmalloc-64   64  64  64  64  1 : tunables  0  0  0 : slabdata  1  1  0\n"
    )
    folder = slab / ":0000064"
    folder.mkdir(parents=True)
    for name, value in {"object_size": 64, "slab_size": 64, "align": 8, "ctor": "", "hwcache_align": 1}.items():
        (folder / name).write_text(f"{value}\n")
    (slab / "kmalloc-64").symlink_to(":0000064")
    return tmp_path


def test_live_folder_of_a_later_kernel(tmp_path):
    machine = import_machine(live_folder(tmp_path, MODERN_ZONEINFO), "later")
    dma, normal = machine.zones
    assert (dma.name, dma.present, dma.min) == ("DMA", 3840, 53)
    assert (normal.name, normal.present, normal.high) == ("Normal", 520001, 10212)
    assert dma.protection[:2] == [0, 4683], "the empty DMA32 is left out, so that entry 1 is Normal"
    assert machine.free_pages == {}, "the machine is what the allocator manages, not what was free at the dump"
    assert import_machine(tmp_path, at_boot=True).free_pages == {"DMA": 3840, "Normal": 462402}
    assert machine.swap_pages == 2048
    (cache,) = machine.slab_caches
    assert (cache.name, cache.flags, cache.ctor) == ("kmalloc-64", ["hwcache_align"], False)


def test_nodes_stay_apart(tmp_path):
    second = MODERN_ZONEINFO[MODERN_ZONEINFO.index("Node 0, zone   Normal") :].replace("Node 0", "Node 3")
    machine = import_machine(live_folder(tmp_path, MODERN_ZONEINFO + second))
    assert machine.nodes == [0, 3]
    assert [(zone.node, zone.name, zone.min) for zone in machine.zones] == [
        (0, "DMA", 53),
        (0, "Normal", 6808),
        (3, "Normal", 6808),
    ]
    assert "2 nodes (0, 3), joined into one where the machine is run" in machine.source
    joined = lane_zones(machine)
    assert [(zone.name, zone.frames, zone.min) for zone in joined] == [
        ("DMA", 3840, 53),
        ("Normal", 2 * 520001, 2 * 6808),
    ]


def test_this_machine(tmp_path):
    """The running kernel, if it lets its files be read."""
    try:
        (tmp_path / "slabinfo").write_text(Path("/proc/slabinfo").read_text())
    except OSError:
        pytest.skip("/proc/slabinfo cannot be read here")
    if not Path("/sys/kernel/slab").is_dir():
        pytest.skip("no /sys/kernel/slab here")
    assert import_machine("/").zones


def test_unreadable_file(tmp_path):
    root = live_folder(tmp_path, MODERN_ZONEINFO)
    (root / "proc/meminfo").unlink()
    (root / "proc/meminfo").mkdir()
    with pytest.raises(InputError, match="meminfo"):
        import_machine(root)
