"""Machines as people paste them: what each text betrays is used, and what it does not tell is named."""

import pytest

from fastalloc.errors import InputError
from fastalloc.linux.watermarks import zone_batchsize
from fastalloc.scenario import Machine, import_machine


def imported(tmp_path, text: str, name: str = "posted.txt") -> Machine:
    (tmp_path / name).write_text(text, newline="")
    return import_machine(tmp_path / name)


OF_2_6_24 = """\
Node 0, zone      DMA
  pages free     2014
        min      7
        low      8
        high     10
        scanned  0 (a: 24 i: 0)
        spanned  4096
        present  2791
    nr_free_pages 2014
        protection: (0, 873, 873, 873)
  pagesets
    cpu: 0 pcp: 0
              count: 0
              high:  0
              batch: 1
    cpu: 0 pcp: 1
              count: 0
              high:  0
              batch: 1
  all_unreclaimable: 0
  prev_priority:     12
  start_pfn:         0
Node 0, zone   Normal
  pages free     4968
        min      936
        low      1170
        high     1404
        spanned  225280
        present  223520
        protection: (0, 0, 0, 4000)
  pagesets
    cpu: 0 pcp: 0
              count: 30
              high:  186
              batch: 31
    cpu: 0 pcp: 1
              count: 48
              high:  62
              batch: 15
  start_pfn:         4096
Node 0, zone  HighMem
  pages free     20000
        min      128
        low      271
        high     415
        spanned  130000
        present  128000
        protection: (0, 0, 0, 0)
  pagesets
    cpu: 0 pcp: 0
              count: 30
              high:  186
              batch: 31
  start_pfn:         229376
"""


def old(machine: Machine) -> None:
    assert [(zone.name, zone.present, zone.protection) for zone in machine.zones] == [
        ("DMA", 2791, [0, 873, 873]),
        ("Normal", 223520, [0, 0, 0]),
        ("HighMem", 128000, [0, 0, 0]),
    ]
    assert machine.bits == 32
    assert [(zone.pcp_high, zone.pcp_batch) for zone in machine.zones] == [(0, 1), (186, 31), (186, 31)]
    assert machine.cpus == 1


def test_a_terminal_of_windows_indented(tmp_path):
    text = f"root@box:~# uname -a\nLinux box 2.6.24-19-generic #1 SMP i686 GNU/Linux\n$ cat /proc/zoneinfo\n{OF_2_6_24}"
    text += "root@box:~# cat /proc/meminfo\nMemTotal: 1417244 kB\nHighTotal: 512000 kB\nSwapTotal: 2096440 kB\n"
    machine = imported(tmp_path, "\r\n".join(f"    {line}" for line in text.splitlines()))
    old(machine)
    assert machine.kernel == "2.6.24-19-generic"
    assert machine.swap_pages == 524110


@pytest.mark.parametrize("form", ["{:>6}\t{}", "{:>5}: {}", "{:>4}  {}"], ids=["cat -n", "grep -n", "pager"])
def test_lines_with_their_numbers(tmp_path, form):
    lines = enumerate(OF_2_6_24.splitlines(), 1)
    old(imported(tmp_path, "\n".join(form.format(number, line) for number, line in lines)))


def zone(name: str, present: int, low: int, batch: int) -> str:
    return (
        f"Node 0, zone {name}\n  pages free 10\n        min {low - 9}\n        low {low}\n        high {low + 9}\n"
        f"        spanned {present}\n        present {present}\n        managed {present}\n        cma 0\n"
        "        protection: (0, 0, 0, 0)\n  pagesets\n    cpu: 0\n      count: 3\n      high: 0\n"
        f"      batch: {batch}\n"
    )


@pytest.mark.parametrize("kilobytes", [4, 16, 64])
@pytest.mark.parametrize("kernel", ["2.6.32", "4.4", "5.15.0", "6.8.0", "6.12.5", "7.3"])
def test_batches_betray_the_page_size(tmp_path, kernel, kilobytes):
    """pcp->batch of a zone of 30 GB is of one page size alone [zone_batchsize]."""
    pages = (30 << 20) // kilobytes
    era = ".".join(kernel.split(".")[: 3 if kernel.startswith("2.6") else 2])
    batch = max(1, zone_batchsize(pages, era, kilobytes))
    machine = imported(tmp_path, f"Linux version {kernel} (gcc)\n" + zone("Normal", pages, 9000, batch))
    assert machine.page_kb == kilobytes
    assert ("as the batches of per-CPU lists tell" in machine.source) == (kilobytes != 4)


def test_batches_of_small_zones_betray_nothing(tmp_path):
    machine = imported(tmp_path, "Linux version 6.8.0 (gcc)\n" + zone("Normal", 3000, 60, 1))
    assert "pages of 4 kB assumed" in machine.source


def test_getconf_tells_the_page_size(tmp_path):
    machine = imported(tmp_path, "$ getconf PAGESIZE\n65536\n" + zone("Normal", 3000, 60, 1))
    assert machine.page_kb == 64
    assert "pages of 64 kB, as the lines of getconf tell" in machine.source


def test_sysctls_tell_kernel_ratios_and_marks(tmp_path):
    text = "vm.min_free_kbytes = 67584\nvm.watermark_scale_factor = 200\nvm.lowmem_reserve_ratio = 128\t64\t32\t0\t0\n"
    text += "kernel.osrelease = 5.15.0-100-generic\nMemTotal: 65780000 kB\nSwapTotal: 0 kB\n"
    machine = imported(tmp_path, text)
    assert machine.kernel == "5.15.0-100-generic"
    dma, dma32, normal = machine.zones
    assert dma32.protection == [0, 0, normal.present // 64]
    assert dma.protection == [0, dma32.present // 128, (dma32.present + normal.present) // 128]
    assert all(each.low - each.min == max(each.min // 4, each.present * 200 // 10_000) for each in machine.zones)
    assert "lowmem_reserve_ratio 128 64 32 assumed" in machine.source


@pytest.mark.parametrize(
    ("lines", "kbytes"),
    [
        ("#vm.min_free_kbytes = 1048576", None),
        ("  ; vm.min_free_kbytes=1048576", None),
        ("# was: vm.min_free_kbytes = 1048576\nvm.min_free_kbytes = 9000", 9000),
        ("# sysctl vm.min_free_kbytes\nvm.min_free_kbytes = 9000", 9000),
        ("# sysctl -w vm.min_free_kbytes=9000", 9000),
        ("# cat /proc/sys/vm/min_free_kbytes\n9000", 9000),
    ],
)
def test_a_commented_sysctl_is_not_told(tmp_path, lines, kbytes):
    """Lines that begin with # or ; are comments [sysctl.conf(5)], but # is the prompt of root as well."""
    source = imported(tmp_path, f"MemTotal: 8141728 kB\n{lines}\n").source
    assert (f"min_free_kbytes {kbytes}, told" in source) == (kbytes is not None)
    assert ", told" not in source or kbytes


def test_commented_ratios_are_not_told(tmp_path):
    text = "MemTotal: 8141728 kB\n#vm.lowmem_reserve_ratio = 128 64 32 0 0\n"
    assert "lowmem_reserve_ratio 256 256 32 assumed" in imported(tmp_path, text).source


def idle(text: str) -> str:
    """A zone whose CPU has no page in its lists."""
    head, _, tail = text.partition("    cpu: ")
    return head + tail[tail.index("  start_pfn") :]


def test_an_idle_cpu_is_left_out_of_a_zone(tmp_path):
    """zoneinfo_show of 2.6.18 skips a CPU whose lists are all empty: an idle zone has none, and is no cut."""
    zones = OF_2_6_24.split("Node 0")[1:]
    shown = ["Node 0" + each for each in zones]
    found = imported(tmp_path, "".join([*shown[:2], idle(shown[2])]))
    whole = imported(tmp_path, OF_2_6_24)
    assert [(zone.present, zone.min) for zone in found.zones] == [(zone.present, zone.min) for zone in whole.zones]
    assert "1 CPUs assumed: those with pages in their lists" in found.source
    assert "CPUs assumed" not in whole.source
    other = imported(tmp_path, "".join([shown[0], shown[1].replace("cpu: 0", "cpu: 3"), idle(shown[2])]))
    assert other.cpus == 4
    assert imported(tmp_path, f"processor : 0\nprocessor : 1\n{''.join([*shown[:2], idle(shown[2])])}").cpus == 2
    with pytest.raises(InputError, match="no pagesets: the text is cut off"):
        imported(tmp_path, "".join([*shown[:2], idle(shown[2]).partition("  start_pfn")[0]]))


def test_percpu_is_of_4_19(tmp_path):
    assert imported(tmp_path, "MemTotal: 8141728 kB\nPercpu: 512 kB\n").kernel == "4.19"


def test_a_scale_factor_is_of_4_6_at_least(tmp_path):
    machine = imported(tmp_path, "vm.watermark_scale_factor = 200\nMemTotal: 65780000 kB\n")
    assert machine.kernel == "4.6"


def test_memory_of_arm64_alone(tmp_path):
    text = "MemTotal: 15944592 kB\nSwapTotal: 8388592 kB\nZswap: 0 kB\nCmaTotal: 262144 kB\nHugepagesize: 32768 kB\n"
    machine = imported(tmp_path, text)
    assert machine.page_kb == 16
    assert [(each.name, each.present) for each in machine.zones] == [("DMA", 262144), ("Normal", 734393)]
    assert sum(each.cma for each in machine.zones) == 16384
    assert "those of arm64" in machine.source


def test_slabinfo_of_slab_with_its_statistics(tmp_path):
    text = (
        "slabinfo - version: 2.1 (statistics)\n# name <active_objs> <num_objs> <objsize>\n"
        "size-64(DMA)    0   0  64 59 1 : tunables 120 60 8 : slabdata 0 0 0 : globalstat 0 0 0 0 0 0 0 0 0 "
        ": cpustat 0 0 0 0\n"
        "kmem_cache    140 140 192 20 1 : tunables 120 60 8 : slabdata 7 7 0 : globalstat 140 140 7 0 0 0 0 0 0 "
        ": cpustat 70 70 0 0\n"
    )
    machine = imported(tmp_path, text)
    assert machine.allocator == "slab"
    assert [(cache.name, cache.object_size) for cache in machine.slab_caches] == [
        ("kmem_cache", 192), ("size-64(DMA)", 64),
    ]  # fmt: skip


def report(head: str, zones: str, lists: str) -> str:
    return f"{head}\nMem-Info:\nactive_anon:1 inactive_anon:2\n{zones}\n{lists}\nTotal swap = 102396kB\n"


MARKS = (
    "free:20000kB min:16384kB low:20480kB high:24576kB active_anon:4kB present:970752kB managed:945512kB free_cma:400kB"
)


def test_oom_reports_of_3_to_6(tmp_path):
    per_cpu = "Node 0 Normal per-cpu:\nCPU    0: hi:  186, btch:  31 usd:   0\nCPU    3: hi:  186, btch:  31 usd:  12\n"
    text = report(
        "httpd invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0\n"
        "CPU: 3 PID: 2222 Comm: httpd Not tainted 3.10.0-957.el7.x86_64 #1",
        f"{per_cpu}Node 0 Normal {MARKS} all_unreclaimable? yes\nlowmem_reserve[]: 0 0",
        "Node 0 Normal: 950*4kB (UEM) = 3800kB",
    )
    machine = imported(tmp_path, "\n".join(f"[12345.678901] {line}" for line in text.splitlines()))
    assert (machine.kernel, machine.cpus, machine.page_kb) == ("3.10.0-957.el7.x86_64", 4, 4)
    assert (machine.zones[0].present, machine.zones[0].min, machine.zones[0].pcp_batch) == (236378, 4096, 31)

    text = report(
        "kthreadd invoked oom-killer: gfp_mask=0x14000c0(GFP_KERNEL), nodemask=(null),  order=1, oom_score_adj=0\n"
        "CPU: 1 PID: 2 Comm: kthreadd Not tainted 4.14.98-v7+ #1200",
        f"Normal {MARKS}\nlowmem_reserve[]: 0 0",
        "Normal: 5000*4kB (UMEHC) 0*8kB = 20000kB",
    )
    machine = imported(tmp_path, text)
    assert (machine.bits, machine.zones[0].cma, machine.swap_pages) == (32, 100, 25599)

    text = report(
        "node invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0\n"
        "CPU: 0 PID: 1 Comm: node Not tainted 5.4.0-42-generic #46-Ubuntu",
        f"Node 0 DMA32 {MARKS}\nlowmem_reserve[]: 0 0 0 0 0",
        "Node 0 DMA32: 11175*4kB = 44700kB",
    )
    machine = imported(tmp_path, "\n".join(f"[  +0.000003] {line}" for line in text.splitlines()))
    assert machine.page_kb == 4
    assert "pages of" not in machine.source

    marks = MARKS.replace("free:", "boost:2048kB free:").replace("free:20000", "free:1400000")
    text = report(
        "java invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0\n"
        "CPU: 12 UID: 0 PID: 777 Comm: java Not tainted 6.12.9-200.fc39.aarch64 #1",
        f"Node 2 Normal {marks.replace('boost:2048kB free:1400000kB', 'free:1400000kB boost:2048kB')} "
        "reserved_highatomic:524288KB\nlowmem_reserve[]: 0 0 0 0",
        "Node 2 Normal: 100*64kB (UMEH) 10*128kB (H) = 7680kB",
    )
    machine = imported(tmp_path, "\n".join(f"2024-05-01T10:00:00.0+00:00 host kernel: {x}" for x in text.splitlines()))
    assert (machine.page_kb, machine.cpus, machine.nodes) == (64, 13, [2])
    assert (machine.zones[0].min, machine.zones[0].highatomic) == ((16384 - 2048) // 64, 8192)


def test_each_note_of_the_import_is_a_sentence_of_its_own(tmp_path):
    file = tmp_path / "meminfo.txt"
    file.write_text("MemTotal: 4000000 kB\nMemFree: 1000 kB\n")
    for kernel, words in (
        ("6.18.3", "only caches that ask for sheaves have them (maple_node, vm_area_struct), all others move slabs"),
        ("7.1.0", "how 7.0 and 7.1 move slabs was not read: the rules of 7.2 stand in for theirs"),
    ):
        notes = import_machine(file, kernel=kernel).source.split("; ")
        assert any(note.startswith(words) for note in notes), notes
        assert not [note for note in notes if note.startswith(("all others", "it "))]


@pytest.mark.parametrize(
    "line",
    [
        "CPU: 7 PID: 12 Comm: x Kdump: loaded Tainted: G        W  OE    --------- -  - 4.18.0-305.el8.x86_64 #1",
        "CPU: 7 PID: 12 Comm: x Tainted: P           OE  ------------ T 3.10.0-957.el7.x86_64 #1",
        "Pid: 5, comm: x Tainted: G        W  ---------------    2.6.32-754.el6.x86_64 #1",
        "Pid: 0, comm: swapper Not tainted (3.0.0-1 #2)",
    ],
)
def test_a_release_behind_the_letters_of_a_distribution(tmp_path, line):
    text = report(f"java: page allocation failure. order:0, mode:0x20\n{line}", f"Node 0 Normal {MARKS}", "")
    machine = imported(tmp_path, text)
    assert machine.kernel == next(word for word in line.split() if word.strip("(")[0] in "234").strip("(")


def test_what_a_report_shows_tells_its_age(tmp_path):
    """reserved_highatomic came with 5.6, zspages with 6.18; protections[] went with 2.6.10, whose marks are others."""
    lists = "Node 0 Normal: 100*4kB (UME) = 400kB"
    for fields, kernel in (("", "4.4"), ("reserved_highatomic:0KB", "5.6"), ("zspages:4kB", "6.18")):
        machine = imported(tmp_path, report("", f"Node 0 Normal {MARKS} {fields}", lists.replace("UME", "UMEH")))
        assert machine.kernel == kernel
        assert f"kernel not told: the rules of {kernel} assumed" in machine.source
    old_marks = "free:1464kB min:4020kB low:5024kB high:6028kB active:8kB inactive:8kB present:901120kB pages_scanned:0"
    assert imported(tmp_path, f"Normal {old_marks}\nprotections[]: 0 0 0\n").kernel == "2.6.10"


def test_zones_that_are_not_shown_are_told(tmp_path):
    """From 6.1 a report hides the zones above the mask's; an excerpt of zoneinfo leaves some out."""
    words = "protection tells of zones that the text does not show, which are left out"
    shown = f"Node 0 DMA32 {MARKS}\nlowmem_reserve[]: 0 0 4972 4972"
    assert words in imported(tmp_path, report("", shown, "")).source
    assert words in imported(tmp_path, OF_2_6_24[: OF_2_6_24.index("Node 0, zone   Normal")]).source
    shown = f"{shown}\nNode 0 Normal {MARKS}\nlowmem_reserve[]: 0 0 0 0"
    assert words not in imported(tmp_path, report("", shown, "")).source


@pytest.mark.parametrize("before", ["\ufeff", "<pre>", "<pre><code>"])
def test_what_stands_before_the_first_zone(tmp_path, before):
    old(imported(tmp_path, before + OF_2_6_24))


def test_the_first_of_two_snapshots(tmp_path):
    later = OF_2_6_24.replace("min      936", "min      999")
    machine = imported(tmp_path, f"$ cat /proc/zoneinfo\n{OF_2_6_24}$ cat /proc/zoneinfo\n{later}")
    old(machine)
    assert machine.zones[1].min == 936
    assert "several zoneinfos told, the first is read" in machine.source


def test_a_kernel_that_explain_assumed_is_told_as_such(tmp_path):
    from fastalloc.explain import explain
    from fastalloc.explain.machine import machine_of

    path = tmp_path / "report.txt"
    path.write_text(report("java: page allocation failure. order:0, mode:0x20", f"Normal {MARKS}", "Normal: 9*4kB"))
    machine = machine_of(tmp_path / "m.toml", explain(path))
    assert "; kernel not told: the rules of " in machine.source
    assert "; Linux " not in machine.source
