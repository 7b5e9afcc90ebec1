"""Marks of a machine after a sysctl, against kernels that were told to write them and an independent calculation."""

import csv
from itertools import groupby
from math import isqrt

import pytest

from fastalloc.errors import InputError
from fastalloc.scenario import Machine, import_machine, load_machine, machine_toml
from fastalloc.scenario.machine import factor_of_marks, kbytes_of_marks, own_factor, own_kbytes
from tests.scenario.test_import_reports import POSTED, posted
from tests.scenario.test_machine_import import DUMP, SHARED

TABLES = ("kernel/watermarks.csv", "kernel-7.x/watermarks.csv")


def machine_of(rows: list[dict[str, str]]) -> Machine:
    """The machine of one boot at one setting."""
    zones = [row for row in rows if int(row["managed"])]
    columns = [j for j, name in enumerate(("DMA", "DMA32", "Normal", "Movable", "Device")) if name in
               {row["zone"] for row in zones}]  # fmt: skip
    return Machine.model_validate(
        {
            "name": "m",
            "kernel": rows[0]["kernel_version"],
            "cpus": int(rows[0]["smp"]),
            "zones": [
                {
                    "name": row["zone"],
                    "node": int(row["node"]),
                    "present": int(row["managed"]),
                    **{mark: int(row[mark]) - int(row["boost"]) for mark in ("min", "low", "high")},
                    "protection": [int(row["protection"].split()[j]) for j in columns],
                    "pcp_high": int(row["pcp_high"]),
                    "pcp_batch": int(row["pcp_batch"]),
                }
                for row in zones
            ],
        }
    )


@pytest.mark.parametrize("table", TABLES)
def test_marks_after_a_sysctl(table):
    """Every setting of every boot, from the zones of the boot and what was written alone."""
    if not SHARED.is_dir():
        pytest.skip("the folder of tables is not beside the repository")
    with (SHARED / table).open() as file:
        rows = list(csv.DictReader(file))
    checked = 0
    for _, boot in groupby(rows, key=lambda row: (row["kernel"], row["boot"])):
        settings = [list(group) for _, group in groupby(boot, key=lambda row: row["set_idx"])]
        first = machine_of(settings[0])
        for each in settings[1:]:
            wanted = machine_of(each)
            told = {name: int(each[0][name]) for name in ("min_free_kbytes", "watermark_scale_factor")}
            again = Machine.model_validate(first.model_dump() | told)
            assert [(z.min, z.low, z.high) for z in again.zones] == [(z.min, z.low, z.high) for z in wanted.zones]
            checked += len(wanted.zones)
    assert checked > 100


def test_marks_of_a_posted_machine():
    """linux-mm 2018: Movable has a share as every zone of 64 bits had before 6.6 [is_highmem], so the five min marks
    are those of 9,856 kB, the root of 16 times what lies above the high marks of the zones that GFP_USER may use."""
    machine = import_machine(posted("10-linuxmm2018-numa-movable"))
    buffers = sum(zone.present - zone.high for zone in machine.zones if zone.serves_kernel)
    assert kbytes_of_marks(machine) == isqrt(16 * 4 * buffers) // 4 * 4 == 9856
    again = Machine.model_validate(machine.model_dump() | {"min_free_kbytes": 9856})
    assert [(z.min, z.low, z.high) for z in again.zones] == [(z.min, z.low, z.high) for z in machine.zones]


@pytest.mark.parametrize("name", list(POSTED))
def test_min_free_kbytes_is_told_by_the_marks(name):
    machine = import_machine(posted(name))
    kbytes = kbytes_of_marks(machine)
    again = Machine.model_validate(machine.model_dump() | {"min_free_kbytes": kbytes})
    kernel = [zone for zone in machine.zones if zone.serves_kernel]
    exact = [(z.min, z.low, z.high) for z in again.zones if z.serves_kernel] == [(z.min, z.low, z.high) for z in kernel]
    # two posts show marks that no single setting gives: memory that came after the marks were set
    assert exact or all(abs(a.min - b.min) <= a.min // 4 for a, b in zip(again.zones, machine.zones, strict=True))


@pytest.mark.parametrize(
    ("kernel", "min_free", "marks"),
    [
        ("2.6.9", 8192, (2048, 4096, 6144)),
        ("2.6.12", 8192, (2048, 2560, 3072)),
        ("2.6.32", 8192, (2048, 2560, 3072)),
        ("4.5", 8192, (2048, 2560, 3072)),
        ("4.6", 1024, (256, 518, 780)),  # 10/10000 of 262,144 pages are 262, more than a quarter of 256
        ("6.12", 8192, (2048, 2560, 3072)),
        ("7.3", 1024, (256, 518, 780)),
    ],
)
def test_marks_by_kernel(kernel, min_free, marks):
    zone = {"name": "Normal", "present": 262144, "min": 0, "low": 0, "high": 0, "protection": [0]}
    machine = Machine.model_validate(
        {"name": "m", "kernel": kernel, "min_free_kbytes": min_free, "zones": [zone | {"pcp_high": 0, "pcp_batch": 1}]}
    )
    assert (machine.zones[0].min, machine.zones[0].low, machine.zones[0].high) == marks


@pytest.mark.parametrize("kilobytes", [4, 16, 64])
@pytest.mark.parametrize("kernel", ["2.6.25", "4.4", "5.4", "6.1", "7.3"])
@pytest.mark.parametrize("megabytes", [34, 512, 262144])
def test_boot_marks(tmp_path, kilobytes, kernel, megabytes):
    """Of a machine of which only the size is told: min is the root of 16 times its lowmem, shared by size."""
    path = tmp_path / "meminfo"
    huge = {4: 2048, 16: 32768, 64: 524288}[kilobytes]
    path.write_text(f"MemTotal: {megabytes << 10} kB\nSwapTotal: 0 kB\nHugepagesize: {huge} kB\n")
    if megabytes * 1024 // kilobytes < 2048:
        with pytest.raises(InputError, match="too little"):
            import_machine(path, kernel=kernel)
        return
    machine = import_machine(path, kernel=kernel)
    kbytes = min(isqrt(16 * (megabytes << 10)), 65536 if kernel < "5.7" else 262144)
    pages = sum(zone.present for zone in machine.zones)
    for zone in machine.zones:
        assert zone.min == kbytes // kilobytes * zone.present // pages
        step = max(zone.min // 4, zone.present // 1000 if kernel >= "4.6" else 0)
        assert (zone.low, zone.high) == (zone.min + step, zone.min + (2 * step if kernel >= "4.6" else zone.min // 2))


def test_scale_factor_is_of_its_time():
    machine = import_machine(DUMP)
    with pytest.raises(ValueError, match=r"since 4\.6"):
        Machine.model_validate(machine.model_dump() | {"kernel": "4.4.1", "watermark_scale_factor": 100})


def marked(name: str, present: int, least: int, step: int) -> str:
    marks = f"        min {least}\n        low {least + step}\n        high {least + 2 * step}\n"
    return f"Node 0, zone {name}\n  pages free 20000\n{marks}        managed {present}\n"


@pytest.mark.parametrize(
    ("kernel", "boosts"),
    [("5.0.0", (13312, 512)), ("5.15.100", (13312, 512)), ("", (13312, 512)), ("4.20.0", (0, 0)), ("5.16.0", (0, 0))],
)
def test_a_boost_that_is_not_printed_is_taken_off(tmp_path, kernel, boosts):
    """Marks of a machine of 8 GB with vm.min_free_kbytes = 67584: low - min is a quarter of min without boost, or a
    page less than that by rounding. 5.16 prints the boost, and before 5.0 there is none."""
    path = tmp_path / "posted.txt"
    zones = (
        marked("DMA", 3956, 33, 8) + marked("DMA32", 742_806, 19_510, 1549) + marked("Normal", 1_268_711, 11_176, 2666)
    )
    path.write_text(f"Linux version {kernel} (gcc)\n{zones}" if kernel else zones)
    machine = import_machine(path)
    assert [zone.min for zone in machine.zones] == [33, 19_510 - boosts[0], 11_176 - boosts[1]]
    assert [(zone.low - zone.min, zone.high - zone.low) for zone in machine.zones] == [(8, 8), (1549,) * 2, (2666,) * 2]
    assert ("watermark boost of 512 pages in the marks of Normal" in machine.source) == bool(boosts[1])
    assert not kernel or kernel in machine.kernel
    assert kernel or machine.kernel == "5.0"


def test_marks_that_show_no_boost_stand(tmp_path):
    """Where watermark_scale_factor decides, low - min is more than a quarter of min and tells nothing."""
    path = tmp_path / "posted.txt"
    path.write_text(
        "Linux version 5.10.0 (gcc)\n" + marked("DMA", 3956, 35, 8) + marked("Normal", 7_000_000, 9000, 7000)
    )
    machine = import_machine(path)
    assert [zone.min for zone in machine.zones] == [35, 9000]
    assert "boost" not in machine.source
    path.write_text(marked("Normal", 63_914_000, 71_024, 17_744))  # of 64 kB, read as 4: a quarter less 48
    assert (import_machine(path).kernel, import_machine(path).zones[0].min) == ("3.8", 71_024)


OF_200 = (("DMA", 3840, 7, 76), ("DMA32", 749_538, 1548, 14_990), ("Normal", 7_426_277, 15_339, 148_525))


def test_marks_show_the_scale_factor(tmp_path):
    """6.1 with watermark_scale_factor = 200: low - min is 200/10000 of each zone, whether sysctl told it or not. A new
    min_free_kbytes leaves these steps; before, they became those of 10."""
    path = tmp_path / "posted.txt"
    head, zones = "Linux version 6.1.0 (gcc)\n", "".join(marked(*each) for each in OF_200)
    for told in ("", "vm.min_free_kbytes = 67584\nvm.watermark_scale_factor = 200\n"):
        path.write_text(f"{head}{told}{zones}")
        machine = import_machine(path)
        assert (own_kbytes(machine), own_factor(machine)) == (67_584, 200)
        assert "told_" not in machine_toml(machine)
        more = Machine.model_validate(machine.model_dump() | {"min_free_kbytes": 75_544})
        assert [zone.low - zone.min for zone in more.zones] == [76, 14_990, 148_525]
        assert own_factor(more) == 200


@pytest.mark.parametrize(
    ("zones", "factor"),
    [
        ((("DMA", 3977, 67, 16), ("DMA32", 757_733, 12_709, 3177)), 10),  # a quarter of min each: 10 as well as 20
        ((("Normal", 4_000_000, 2000, 500),), 1),  # 10/10000 would be 4000
        ((("Normal", 1_000_000, 2000, 990),), 10),  # of 990,000 pages, to which an initrd's came later
        ((("Normal", 1_000_000, 2000, 4900),), 49),
    ],
)
def test_the_scale_factor_nearest_to_the_default(tmp_path, zones, factor):
    path = tmp_path / "posted.txt"
    path.write_text("Linux version 6.1.0 (gcc)\n" + "".join(marked(*each) for each in zones))
    assert factor_of_marks(import_machine(path)) == factor
    path.write_text("Linux version 4.4.0 (gcc)\n" + "".join(marked(*each) for each in zones))
    assert factor_of_marks(import_machine(path)) == 10


def test_what_sysctl_told_beside_older_marks(tmp_path):
    """Two machines with 67,584 kB: marks from before pages came to DMA32 stand as read, sum up to what was set, and
    what sysctl told of it is kept."""
    path, told = tmp_path / "posted.txt", "vm.min_free_kbytes = 67584\nvm.watermark_scale_factor = 12\n"
    zones = (("DMA", 3977, 67, 16), ("DMA32", 757_733, 12_709, 3177), ("Normal", 243_535, 4119, 1029))
    path.write_text("Linux version 5.4.0 (gcc)\n" + "".join(marked(*each) for each in zones))
    assert own_kbytes(import_machine(path)) == kbytes_of_marks(import_machine(path)) == 67_580
    path.write_text(told + path.read_text())
    machine = import_machine(path)
    assert (own_kbytes(machine), own_factor(machine)) == (67_584, 12)
    assert [zone.min for zone in machine.zones] == [67, 12_709, 4119]
    (tmp_path / "m.toml").write_text(machine_toml(machine))
    assert load_machine(tmp_path / "m.toml") == machine
    assert [
        zone.min for zone in Machine.model_validate(machine.model_dump() | {"watermark_scale_factor": 300}).zones
    ] == [16_896 * size // 1_005_245 for _, size, _, _ in zones]
