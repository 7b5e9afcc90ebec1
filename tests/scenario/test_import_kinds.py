"""Machines of other CPUs, and what only some kernels print: page sizes, zones, CMA areas, signs of age."""

import pytest

from fastalloc.scenario import Machine, import_machine

MARKS = "        min 100\n        low 125\n        high 150\n"


def machine(tmp_path, text: str) -> Machine:
    (tmp_path / "posted.txt").write_text(text)
    return import_machine(tmp_path / "posted.txt")


def zone(name: str, pages: int, protection: str, more: str = "") -> str:
    head = f"Node 0, zone {name}\n  pages free 9\n{more}{MARKS}        spanned {pages}\n        present {pages}\n"
    return head + f"        managed {pages}\n        protection: ({protection})\n"


@pytest.mark.parametrize(
    ("uname", "meminfo", "page_kb", "names"),
    [
        ("5.15.0-2-sparc64-smp #1 SMP sparc64", "", 8, ["Normal"]),
        ("6.6.0 #1 SMP loongarch64", "Hugepagesize: 32768 kB\n", 16, ["DMA32", "Normal"]),
        ("5.15.0-100-generic #1 SMP s390x", "", 4, ["DMA", "Normal"]),
        ("6.6.30 #1 SMP riscv64", "", 4, ["DMA32", "Normal"]),
        ("5.15.0-91-generic #1 SMP ppc64le", "", 64, ["Normal"]),
        ("4.19.0-5-powerpc64le #1 SMP ppc64le", "", 64, ["DMA"]),
        ("4.14.195 #0 mips", "", 4, ["Normal", "HighMem"]),
        ("4.19.0-5-powerpc #1 ppc", "", 4, ["DMA", "HighMem"]),
        ("4.9.0-2-m68k #1 m68k", "", 4, ["DMA"]),
        ("5.10.0-8-686-pae #1 SMP i686", "", 4, ["DMA", "Normal", "HighMem"]),
        ("6.8.0-31-generic #31 SMP x86_64", "", 4, ["DMA", "DMA32", "Normal"]),
    ],
)
def test_zones_and_pages_of_a_cpu_whose_memory_alone_is_told(tmp_path, uname, meminfo, page_kb, names):
    """arch/*/mm/init.c: max_zone_pfns; ppc64 has ZONE_DMA alone up to 4.20 and none since 5.0."""
    found = machine(tmp_path, f"Linux box {uname} GNU/Linux\nMemTotal: 8000000 kB\nSwapTotal: 0 kB\n{meminfo}")
    assert [each.name for each in found.zones] == names
    assert found.page_kb == page_kb
    assert abs(sum(each.present for each in found.zones) * page_kb - 8_000_000) < 4 * page_kb


@pytest.mark.parametrize(("kb", "name"), [(8, "sparc64"), (16, "ia64"), (64, "")])
def test_memory_of_all_zones_tells_the_page_size(tmp_path, kb, name):
    text = f"Linux box 3.16.0 #1 SMP {name} GNU/Linux\nMemTotal: {2_000_000 * kb} kB\n"
    text += zone("DMA", 500_000, "0, 5859") + zone("Normal", 1_500_000, "0, 0")
    assert machine(tmp_path, text).page_kb == kb


def test_2_6_18_has_both_dma32_and_highmem(tmp_path):
    """include/linux/mmzone.h of 2.6.18: four zones whatever the build, of which zoneinfo shows the populated ones."""
    text = "Linux version 2.6.18-8.el5PAE (i686)\n"
    text += zone("DMA", 4096, "0, 0, 880, 2032") + zone("Normal", 225_280, "0, 0, 0, 9215")
    found = machine(tmp_path, text + zone("HighMem", 294_896, "0, 0, 0, 0"))
    assert [each.protection for each in found.zones] == [[0, 880, 2032], [0, 0, 9215], [0, 0, 0]]
    assert "does not show" not in found.source


@pytest.mark.parametrize(
    ("printed", "kernel"),
    [("", "4.8"), ("        boost 0\n", "5.16"), ("        boost 0\n        promo 175\n", "6.12")],
)
def test_lines_of_a_zone_tell_the_oldest_kernel(tmp_path, printed, kernel):
    """mm/vmstat.c: no promo in 6.11.11, there in 6.12.117; boost in 5.16.10, not in 5.15.100."""
    text = zone("Normal", 400_000, "0, 0", "  per-node stats\n      nr_inactive_anon 1\n" + printed)
    assert machine(tmp_path, text).kernel == kernel


def test_lists_that_had_tuned_themselves(tmp_path):
    """6.7 to 6.12 print the length of the moment alone; high_min is printed since 6.13."""
    lists = "  pagesets\n    cpu: 0\n      count: 1\n      high: 900\n      batch: 63\n"
    words = "tuned themselves"
    assert words in machine(tmp_path, f"Linux version 6.8.1\n{zone('Normal', 400_000, '0, 0')}{lists}").source
    told = machine(tmp_path, f"Linux version 7.2.1\n{zone('Normal', 400_000, '0, 0')}{lists}      high_min: 252\n")
    assert told.zones[0].pcp_high == 252
    assert words not in told.source


def test_memory_of_devices_is_told(tmp_path):
    """It spans pages of which none is present or managed."""
    device = zone("Device", 0, "0, 0, 0").replace("spanned 0", "spanned 524288")
    text = zone("Normal", 400_000, "0, 0, 0")
    assert "pages of devices are left out" in machine(tmp_path, text + device).source
    assert "devices" not in machine(tmp_path, text + zone("Device", 0, "0, 0, 0")).source


def report(present: int, free_cma: int, reserved: int, head: str = "") -> str:
    text = f"{head}Mem-Info:\nNode 0 Normal free:40000kB min:400kB low:500kB high:600kB present:{present}kB "
    text += f"managed:{present}kB free_cma:{free_cma}kB\nlowmem_reserve[]: 0 0\nNode 0 Normal: 9*4kB (U) = 36kB\n"
    return text + f"Total swap = 0kB\n{reserved} pages cma reserved\n"


@pytest.mark.parametrize("free_kb", [80, 0])
def test_cma_pages_in_use_are_not_the_kernels_either(tmp_path, free_kb):
    """mm/page_alloc.c: a request without __GFP_MOVABLE takes no block of type CMA, whoever has its pages."""
    found = machine(tmp_path, "Linux version 4.19.100\n" + report(2_000_000, free_kb, 65536))
    assert found.zones[0].cma == 65536
    assert f"{65536 - free_kb // 4} CMA pages in use assumed in Normal" in found.source


def test_two_machines_in_one_log(tmp_path):
    words = "a later report shows zones of other sizes"
    heads = [
        f"page allocation failure: order:0\nCPU: 1 PID: 0 Comm: x Not tainted {name} #1\n"
        for name in ("4.19.1", "5.10.2")
    ]
    found = machine(tmp_path, report(2_000_000, 0, 0, heads[0]) + report(1_000_000, 0, 0, heads[1]))
    assert (found.kernel, found.zones[0].present) == ("4.19.1", 500_000)
    assert words in found.source
    again = report(2_000_000, 0, 0, heads[0])
    balloon = again.replace("managed:2000000kB", "managed:1900000kB")
    assert words not in machine(tmp_path, again + balloon).source


def test_a_version_called_alpha_is_no_cpu(tmp_path):
    text = zone("Normal", 400_000, "0, 0")
    assert machine(tmp_path, f"Linux version 5.4.0-alpha (gcc)\n{text}").page_kb == 4
    assert machine(tmp_path, f"Linux version 5.4.0-alpha-smp (gcc)\n{text}").page_kb == 8


def test_lines_as_a_list_of_texts(tmp_path):
    text = "Linux version 5.15.0-91-generic\n" + zone("Normal", 400_000, "0, 0")
    quoted = "".join(f'        "{line}",\n' for line in text.splitlines())
    assert machine(tmp_path, quoted).zones == machine(tmp_path, text).zones
