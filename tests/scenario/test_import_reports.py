"""Machines read from what people post: excerpts, pasted lines, logs, reports of failed allocations."""

import gzip
import random
import re
from pathlib import Path

import pytest

from fastalloc.batch.zones import lane_zones
from fastalloc.errors import InputError
from fastalloc.explain import explain
from fastalloc.explain.machine import machine_of
from fastalloc.linux.watermark_boost import boost_of_marks
from fastalloc.linux.watermark_rules import BOOST_UNPRINTED
from fastalloc.scenario import Machine, import_machine, load_machine, machine_toml
from fastalloc.scenario.machine import kbytes_of_marks
from tests.scenario.test_machine_import import DUMP, MODERN_ZONEINFO, SHARED
from tests.scenario.zoneinfo_text import write_zoneinfo

REPORTS = SHARED / "reports"

# zones as (node, name, present, protection); further fields by name
POSTED = {
    "01-lkml2007-atomic-order0-slab": (
        [(0, "DMA", 2791, [0, 2003]), (0, "DMA32", 512796, [0, 0])],
        {"cpus": 1, "allocator": "slab", "swap_pages": 1463802, "page_kb": 4},
    ),
    "03-bz866988-highmem-i686": (
        [(0, "DMA", 3951, [0, 861, 1000]), (0, "Normal", 220470, [0, 0, 1111]), (0, "HighMem", 35560, [0, 0, 0])],
        {"bits": 32, "kernel": "3.7"},
    ),
    "04-linuxmm2017-kblockd-virtio": (
        [(0, "DMA", 3977, [0, 117]), (0, "DMA32", 34753, [0, 0])],
        {"kernel": "4.9.0-0.rc8.git2.1.fc26.x86_64", "swap_pages": 516095},
    ),
    "05-s390-2018-zoneinfo": (
        [(0, "DMA", 520562, [0, 3988]), (0, "Normal", 1022150, [0, 0])],
        {"cpus": 8, "cache_line": 256, "kernel": "4.20"},
    ),
    "07-zfs9814-arm64-64k": (
        [(3, "Normal", 261883, [0]), (4, "Normal", 261882, [0])],
        {"page_kb": 64, "swap_pages": 65535, "cpus": 4},
    ),
    "09-vmg8825-armv7-router": (
        [(0, "DMA", 2412, [0, 424]), (0, "Normal", 108681, [0, 0])],
        {"bits": 32, "kernel": "4.1.52", "swap_pages": 0},
    ),
    "10-linuxmm2018-numa-movable": (
        [
            (0, "DMA", 3977, [0, 2961, 4928, 5440]),
            (0, "DMA32", 758116, [0, 0, 1967, 2479]),
            (0, "Normal", 503620, [0, 0, 0, 4096]),
            (0, "Movable", 131072, [0, 0, 0, 0]),
            (1, "Normal", 257744, [0, 0, 0, 0]),
        ],
        {},
    ),
    "22-blog-zoneinfo-indented": (
        [(0, "DMA", 3976, [0, 2445, 3369]), (0, "DMA32", 759709, [0, 0, 924]), (0, "Normal", 236760, [0, 0, 0])],
        {"cpus": 4},
    ),
}


def posted(name: str) -> Path:
    if not (REPORTS / name).is_dir():
        pytest.skip("the folder of reports is not beside the repository")
    return REPORTS / name


@pytest.mark.parametrize("name", list(POSTED))
def test_posted_machines(name):
    zones, fields = POSTED[name]
    machine = import_machine(posted(name))
    assert [(zone.node, zone.name, zone.present, zone.protection) for zone in machine.zones] == zones
    assert {field: getattr(machine, field) for field in fields} == fields


def test_slabinfo_alone():
    machine = import_machine(posted("08-rpi6549-kmalloc1k-3072") / "posted.txt")
    assert machine.allocator == "slub"
    assert machine.kernel == "6.6.60"
    assert machine.cache_line == 64
    sizes = {cache.name: cache.object_size for cache in machine.slab_caches}
    assert sizes["kmalloc-1k"] == 3072
    assert "zones not told: those of arm64" in machine.source, "its release ends in -v8"


def test_highatomic_pages_of_a_report():
    """linux-mm 2017: every free block of both zones is of the list kept for GFP_ATOMIC requests of higher order."""
    machine = import_machine(posted("04-linuxmm2017-kblockd-virtio"))
    assert machine.zones[0].highatomic == 230
    assert machine.zones[1].highatomic > 200
    assert "highatomic pages, which are left out where the machine is run" in machine.source


def test_cma_pages_are_told_and_left_out():
    machine = import_machine(posted("05-s390-2018-zoneinfo"))
    assert machine.zones[1].cma == 1024
    assert "1024 CMA pages" in machine.source
    assert lane_zones(machine)[1].frames == 1022150 - 1024


# --------------------------------------------------------------------------------------------- forms of one text


def forms() -> dict[str, str]:
    """One zoneinfo as people paste it."""
    lines = MODERN_ZONEINFO.splitlines()
    return {
        "bare": MODERN_ZONEINFO,
        "prompt": "user@host:~$ cat /proc/zoneinfo\n" + MODERN_ZONEINFO + "user@host:~$\n",
        "heading": "### /proc/zoneinfo ###\n" + MODERN_ZONEINFO,
        "indented": "\n".join(f"    {line}" for line in lines),
        "tabs": "\n".join(f"\t{line}" for line in lines),
        "crlf": "\r\n".join(lines),
        "quoted": "\n".join(f"> {line}" for line in lines),
        "quoted twice": "\n".join(f"> > {line}" for line in lines),
        "spaces that do not break": MODERN_ZONEINFO.replace(" ", "\u00a0"),
        "syslog": "\n".join(f"Nov 28 13:51:16 host kernel: [   12.345678] {line}" for line in lines),
        "prose around": f"Hello,\n\nthe machine says:\n\n{MODERN_ZONEINFO}\nAny idea?\n",
    }


@pytest.mark.parametrize("form", list(forms()))
def test_forms_of_one_zoneinfo(tmp_path, form):
    path = tmp_path / "posted.txt"
    path.write_text("Linux version 6.12.5 (gcc)\n" + forms()[form])
    machine = import_machine(path, "m")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/zoneinfo").write_text(MODERN_ZONEINFO)
    (tmp_path / "bare/version").write_text("Linux version 6.12.5 (gcc)\n")
    assert machine.zones == import_machine(tmp_path / "bare", "m").zones
    assert machine.kernel == "6.12.5"
    assert machine.cpus == 2


def test_wrapped_slabinfo(tmp_path):
    path = tmp_path / "mail.txt"
    path.write_text(
        "slabinfo - version: 2.1\n# name            <active_objs> <num_objs>\n"
        "ip_fib_alias           9     59     64   59    1 : tunables  120   60    0 : slabdata\n      1      1      0\n"
        "raid5/md5            256    259   1088    7    2 : tunables   24   12\n    0 : slabdata     37     37      0\n"
    )
    machine = import_machine(path)
    assert machine.allocator == "slab"
    assert {cache.name: cache.object_size for cache in machine.slab_caches} == {"raid5/md5": 1088, "ip_fib_alias": 64}


def test_meminfo_alone(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  8000000 kB\nMemAvailable: 100 kB\nSwapTotal: 400000 kB\nVmallocTotal: 34359738367 kB\n")
    machine = import_machine(path)
    assert sum(zone.present for zone in machine.zones) == 2_000_000
    assert [zone.name for zone in machine.zones] == ["DMA", "DMA32", "Normal"]
    assert machine.swap_pages == 100_000
    assert machine.kernel == "3.14", "the oldest that prints MemAvailable"
    assert all(zone.high < zone.present for zone in machine.zones)


def test_sysctls_set_the_marks_that_no_zoneinfo_tells(tmp_path):
    """As a file of the kernel's, or as `sysctl` prints it; zones are those of x86_64 for so much memory."""
    path = tmp_path / "m.txt"
    path.write_text("MemTotal:  8000000 kB\nvm.min_free_kbytes = 40000\nvm.watermark_scale_factor = 100\n")
    machine = import_machine(path, kernel="6.1")
    mins = sum(zone.min for zone in machine.zones)
    assert 10_000 - len(machine.zones) < mins <= 10_000
    assert "watermarks not told: those of min_free_kbytes 40000, told" in machine.source
    for zone in machine.zones:
        assert zone.low - zone.min == max(zone.min // 4, zone.present // 100)


def test_meminfo_of_32_bits(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 2000000 kB\nHighTotal: 1100000 kB\nLowTotal: 900000 kB\nSwapTotal: 0 kB\n")
    machine = import_machine(path)
    assert machine.bits == 32
    assert [zone.name for zone in machine.zones] == ["DMA", "Normal", "HighMem"]
    assert sum(zone.present for zone in machine.zones[:2]) == 225_000


@pytest.mark.parametrize("kilobytes", [4, 16, 64])
def test_page_size_is_betrayed(tmp_path, kilobytes):
    path = tmp_path / "posted.txt"
    pages = 3840 + 520001
    memory = f"MemTotal: {pages * kilobytes - 100} kB\nSwapTotal: 640000 kB\n"
    path.write_text(memory + MODERN_ZONEINFO.replace("spanned  4095", "spanned  4000"))
    machine = import_machine(path)
    assert machine.page_kb == kilobytes
    assert machine.swap_pages == 640_000 // kilobytes
    path.write_text(memory + MODERN_ZONEINFO)  # with the DMA zone of the ISA bus, which is of x86
    assert import_machine(path).page_kb == 4


# ------------------------------------------------------------------------------------------------- round trips


MOST = 1 << 22  # bytes of a text in which a zoneinfo begins


def holds_zoneinfo(path: Path) -> bool:
    """Whether a text, plain or gzip, holds a zoneinfo; traces and tables are told by their names."""
    if path.suffix in (".parquet", ".dat", ".fatrace", ".csv", ".json", ".md", ".c", ".h") or ".ftrace." in path.name:
        return False
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        text = file.read(MOST)
    return re.search(rb"Node \d+, zone +\w+\s*\n(?:.*\n){0,60}?.*pages free ", text) is not None


def all_zoneinfos() -> list[Path]:
    """Every text of the repository and of the folder beside it that holds a zoneinfo, reports' own folders as such."""
    places = [DUMP.parent, SHARED] if SHARED.is_dir() else [DUMP.parent]
    found = [path for place in places for path in sorted(place.rglob("*")) if path.is_file() and holds_zoneinfo(path)]
    return [path.parents[1] if path.parent.name == "proc" else path for path in found]


def round_trip(machine: Machine, folder: Path) -> None:
    """Written as a kernel would and read back: the same zones; and a min_free_kbytes that gives their marks."""
    (folder / "zoneinfo").write_text(write_zoneinfo(machine))
    again = import_machine(folder, "m", kernel=machine.kernel)
    assert again.zones == machine.zones
    assert again.cpus == machine.cpus
    assert again.nodes == machine.nodes
    kbytes = 2 * kbytes_of_marks(machine)
    told = Machine.model_validate(machine.model_dump() | {"min_free_kbytes": kbytes})
    (folder / "zoneinfo").write_text(write_zoneinfo(told))
    assert import_machine(folder, "m", kernel=machine.kernel).zones == told.zones


def test_every_zoneinfo_there_is_round_trips(tmp_path):
    found = all_zoneinfos()
    read = []
    for path in found:
        if path.parent.name == "faults":  # made to be refused
            with pytest.raises(InputError):
                import_machine(path)
            continue
        machine = import_machine(path, "m")
        round_trip(machine, tmp_path)
        read.append(machine.kernel)
    assert len(read) >= (16 if SHARED.is_dir() else 2), found


def test_every_report_round_trips(tmp_path):
    """A machine from the report of a failed allocation, of every report that shows whole zones."""
    paths = [*corpus(), *sorted(REPORTS.glob("*/dmesg.txt"))]
    if not paths:
        pytest.skip("the folder of reports is not beside the repository")
    read = 0
    for path in paths:
        try:
            machine = machine_of(path, explain(path))
        except InputError:
            continue
        round_trip(machine, tmp_path)
        read += 1
    assert read >= 20


def test_machine_file_round_trip(tmp_path):
    machine = import_machine(DUMP, "m")
    (tmp_path / "m.toml").write_text(machine_toml(machine))
    assert load_machine(tmp_path / "m.toml") == machine


def test_a_dump_is_read_plain_and_packed(tmp_path):
    path = tmp_path / "dump.txt"
    path.write_bytes(gzip.decompress(DUMP.read_bytes()))
    assert import_machine(path, "m").zones == import_machine(DUMP, "m").zones


def corpus() -> list[Path]:
    return sorted((REPORTS / "corpus").glob("*/input.txt")) if REPORTS.is_dir() else []


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.parent.name)
def test_reports_that_logs_and_mails_mangled(path):
    """Whatever report shows a zone's size and marks gives a machine, with that zone and those marks."""
    answers = explain(path)
    info = next((answer.report.mem_info for answer in answers if answer.decision.zones), None)
    shown = [zone for zone in info.zones if {"min", "low", "high"} <= set(zone.kb)] if info else []
    if not any(zone.kb.get("managed", zone.kb.get("present", 0)) for zone in shown):
        with pytest.raises(InputError):
            machine_of(path, answers)
        return
    machine = machine_of(path, answers)
    zones = {(zone.node, zone.name): zone for zone in machine.zones}
    for zone in shown:
        size = zone.kb.get("managed", zone.kb.get("present", 0))
        if size:
            found = zones[zone.node, zone.zone]
            assert found.present == size // machine.page_kb
            least, low = ((zone.kb[mark] - zone.kb.get("boost", 0)) // machine.page_kb for mark in ("min", "low"))
            hidden = boost_of_marks(zone.zone, least, low) if machine.base in BOOST_UNPRINTED else 0
            assert found.min == least - hidden


@pytest.mark.parametrize("seed", range(3))
def test_lines_lost_and_torn(tmp_path, seed):
    """A text of which parts are lost gives a machine or says what is wrong; no fault of the reader's own."""
    chance = random.Random(seed)
    whole = ("MemTotal: 2095364 kB\nSwapTotal: 0 kB\n" + MODERN_ZONEINFO).splitlines(keepends=True)
    path = tmp_path / "torn.txt"
    for _ in range(60):
        lines = [line for line in whole if chance.random() > 0.03]
        text = "".join(lines)
        at = chance.randrange(len(text))
        path.write_text(text[:at] + chance.choice(["", "\0", "9" * 25, "-1", "\n"]) + text[at + chance.randrange(3) :])
        try:
            told = import_machine(path).source
        except InputError as error:
            told = error.message
        assert "cannot be read" not in told, told
