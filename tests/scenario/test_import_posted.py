"""A machine is the same whatever a log, a mail, a web page or an editor put around the kernel's lines."""

import json
from collections.abc import Callable
from html import escape

import pytest

from fastalloc.scenario import Machine, import_machine
from fastalloc.scenario.machines import assumed
from tests.scenario.test_machine_import import MODERN_ZONEINFO

REPORT = """\
java: page allocation failure: order:0, mode:0x820(GFP_ATOMIC), nodemask=(null),cpuset=/,mems_allowed=0
CPU: 12 UID: 0 PID: 777 Comm: java Not tainted 6.12.9 #1
Mem-Info:
active_anon:1 inactive_anon:2 isolated_anon:0
Node 0 active_anon:4kB inactive_anon:4kB all_unreclaimable? no
Node 0 DMA free:1464kB boost:0kB min:40200kB low:50240kB high:60280kB reserved_highatomic:0KB managed:4100096kB \
present:4194304kB free_cma:0kB
lowmem_reserve[]: 0 0 865 865
Node 0 Normal free:20000kB boost:0kB min:163840kB low:204800kB high:245760kB reserved_highatomic:64KB \
managed:60745728kB present:60948480kB free_cma:6400kB
lowmem_reserve[]: 0 0 0 0
Node 0 DMA: 10*64kB (U) 2*128kB (M) 0*256kB = 896kB
Node 0 Normal: 100*64kB (UMEH) 10*128kB (H) = 7680kB
Total swap = 6553600kB
"""
TABLES = """\
MemTotal:       16316412 kB
KernelStack:       12000 kB
SwapTotal:       2097148 kB
Percpu:             1000 kB
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> : slabdata
ext4_inode_cache     9     59   1096   29    8 : tunables    0    0    0 : slabdata      2      2      0
kernfs_node_cache  256    259    128   32    1 : tunables    0    0    0 : slabdata      9      9      0
"""
TEXTS = {"zoneinfo": f"Linux version 6.12.5 (gcc)\n{MODERN_ZONEINFO}", "report": REPORT, "tables": TABLES}


def before(prefix: str) -> Callable[[str], str]:
    """Each line behind a prefix, in which N is the line's number."""
    return lambda text: "".join(
        prefix.replace("N", f"{number:02}") + line + "\n" for number, line in enumerate(text.splitlines(), 10)
    )


FORMS: dict[str, Callable[[str], str]] = {
    "syslog": before("Nov 29 05:00:N box kernel: [  123.4567N] "),
    "syslog of a script": before("Nov 29 05:00:N box-a.example collect.sh[2211]: "),
    "a month ends": lambda text: before("Nov 30 23:59:N box x[1]: ")(text).replace(
        "Nov 30 23:59:12", "Dec  1 00:00:00"
    ),
    "iso": before("2026-11-29T05:00:N.123456+01:00 box collect[77]: "),
    "a program's log": before("2026-11-29 05:00:N,123 INFO collector: "),
    "kubectl logs": before("2026-11-29T05:00:N.123456789Z "),
    "kubectl logs --prefix": before("[pod/debugger-x7/debugger] "),
    "containers": before("2026-11-29T05:00:N.123456789Z stdout F "),
    "compose": before("web_1  | "),
    "the task that printed it": before("[    T1234] "),
    "stamp and CPU": before("[   N.456789][   C3] "),
    "dmesg -T": before("[Sun Nov 29 05:00:N 2026] "),
    "dmesg -T, Russian": before("[Вс ноя 29 05:00:N 2026] "),
    "dmesg -x": lambda text: before("kern  :info  : [  123.4567N] ")(text).replace(
        "info  : [  123.456712", "warn  : [  123.456712"
    ),
    "console": before("\x1b[32m[  123.4567N]\x1b[0m "),
    "ssh to many": before("node17: "),
    "grep": before("/proc/zoneinfo:"),
    "diff": before("+"),
    "logcat": before("11-29 05:00:N.123     0     0 W kernel  : "),
    "web page": lambda text: f'<p>see</p><pre class="c"><code>{escape(text)}</code></pre><p>Thanks</p>\n',
    "web page of lines": lambda text: "".join(f"<div>{escape(line)}</div>\n" for line in text.splitlines()),
    "web page of blanks": lambda text: escape(text).replace(" ", "&nbsp;").replace("\n", "<br />\n"),
    "JSON records": lambda text: "".join(json.dumps({"log": line}) + "\n" for line in text.splitlines()),
    "a string of JSON": lambda text: json.dumps({"text": f"\n{text}"}),
    "YAML": lambda text: "text: |\n" + before("  ")(text),
    "prose": lambda text: f"Hello,\nwhy is so little free in Node 0, zone Normal\n\n{text}\nThanks!\n",
}


def imported(tmp_path, data: bytes) -> dict:
    (tmp_path / "posted.txt").write_bytes(data)
    return import_machine(tmp_path / "posted.txt", "m").model_dump(exclude={"source"})


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("text", list(TEXTS))
def test_forms_of_one_text(tmp_path, text, form):
    assert imported(tmp_path, FORMS[form](TEXTS[text]).encode()) == imported(tmp_path, TEXTS[text].encode())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    """As Notepad and PowerShell's redirection write it."""
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    assert imported(tmp_path, (mark + REPORT).encode(encoding)) == imported(tmp_path, REPORT.encode())


def test_a_report_tells_the_page_size_behind_any_prefix(tmp_path):
    found = imported(tmp_path, FORMS["kubectl logs"](REPORT).encode())
    assert (found["page_kb"], found["cpus"]) == (64, 13)
    assert [(zone["present"], zone["cma"], zone["highatomic"]) for zone in found["zones"]] == [
        (64064, 0, 0), (949152, 100, 20),
    ]  # fmt: skip


def test_each_thing_assumed_keeps_its_subject(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 8000000 kB\n")
    told = assumed(import_machine(tmp_path / "meminfo"))
    for subject in ("kernel not told: the rules of", "zones not told: those of", "protection not told: that of"):
        assert any(line.startswith(subject) for line in told), told
    assert not [line for line in told if line.startswith(("the rules", "those", "that"))]


def zone(name: str, present: int, batch: int, spanned: int = 0) -> str:
    return (
        f"Node 0, zone {name}\n  pages free 10\n        min 60\n        low 75\n        high 90\n"
        f"        spanned {spanned or present}\n        present {present}\n        managed {present}\n"
        f"        protection: (0, 0, 0, 0)\n  pagesets\n    cpu: 0\n      count: 3\n      high: 0\n"
        f"      batch: {batch}\n"
    )


def machine(tmp_path, text: str) -> Machine:
    (tmp_path / "posted.txt").write_text(text)
    return import_machine(tmp_path / "posted.txt")


def test_an_excerpt_is_no_other_page_size(tmp_path):
    """A quarter of memory is shown; MemTotal is near that of pages of 16 kB, but CPU, ISA's DMA zone or batches do not
    fit it, nor is it just that."""
    memory, shown = "MemTotal: 15800000 kB\n", zone("Normal", 1_000_000, 63)
    assert machine(tmp_path, f"{memory}Linux version 6.12.5 (gcc)\n{shown}").page_kb == 4
    small = zone("Normal", 1_000_000, 1).replace("batch: 1\n", "")  # cut off before its lists
    assert machine(tmp_path, f"{memory}Linux box 6.1.0 #1 SMP x86_64 GNU/Linux\n{small}").page_kb == 4
    text = f"{memory}{zone('DMA', 3840, 1, 4095).replace('0, 0, 0)', '0, 3867, 15000)')}"
    text += zone("DMA32", 990_000, 63)
    assert machine(tmp_path, text).page_kb == 4, "and Normal is not shown"
    arm = f"Linux box 6.1.0 #1 SMP aarch64 GNU/Linux\n{small}"
    assert "pages of 4 kB assumed" in machine(tmp_path, memory + arm).source
    assert machine(tmp_path, f"MemTotal: 16000000 kB\n{arm}").page_kb == 16


@pytest.mark.parametrize("nodes", [2, 4])
def test_memory_of_other_nodes_is_no_other_page_size(tmp_path, nodes):
    """The first of some nodes: its DMA zone is listed, and MemTotal is almost a multiple of what it manages."""
    shown = "".join(
        zone(*each) for each in (("DMA", 3974, 1, 4095), ("DMA32", 449_237, 63), ("Normal", 15_990_165, 63))
    )
    total = nodes * 65_915_526
    for head in ("Linux box 5.4.0-42-generic #46-Ubuntu SMP x86_64 GNU/Linux\n", ""):
        assert machine(tmp_path, f"{head}MemTotal: {total} kB\n{shown}").page_kb == 4


def test_memory_tells_8_kb_where_it_is_the_zones_own(tmp_path):
    """sparc64 without its name: what is managed is all of MemTotal at 8 kB; at 4 kB it is not, nor on arm64."""
    shown = zone("Normal", 1_020_000, 15)
    assert machine(tmp_path, f"MemTotal: 8160000 kB\n{shown}").page_kb == 8
    assert machine(tmp_path, f"MemTotal: 8190000 kB\n{shown}").page_kb == 4
    arm = "Linux box 6.1.0 #1 SMP aarch64 GNU/Linux\n"
    assert machine(tmp_path, f"{arm}MemTotal: 8160000 kB\n{shown}").page_kb == 16  # by the batch


@pytest.mark.parametrize(
    ("release", "kilobytes"),
    [("5.14.0-427.el9.aarch64+64k", 64), ("6.8.0-31-generic-64k", 64), ("4.18.0-305.el8.ppc64le", 64),
     ("4.18.0-305.el8.aarch64", 64), ("6.6.31+rpt-rpi-2712", 16), ("5.14.0-427.el9.aarch64", 4)],
)  # fmt: skip
def test_a_release_tells_the_page_size(tmp_path, release, kilobytes):
    text = f"Linux box {release} #1 SMP aarch64 GNU/Linux\n{zone('Normal', 3000, 1)}"
    assert machine(tmp_path, text).page_kb == kilobytes


def test_what_is_counted_or_left_out_is_told(tmp_path):
    device = "Node 0, zone Device\n  pages free 0\n        min 0\n        low 0\n        high 0\n        spanned 900\n"
    device += "        present 900\n        managed 900\n        protection: (0, 0, 0, 0)\n  pagesets\n    cpu: 0\n"
    device += "      count: 0\n      high: 0\n      batch: 1\n"
    text = f"MemTotal: 4000000 kB\nHugetlb: 2097152 kB\n{zone('Normal', 1_000_000, 63)}{device}"
    found = machine(tmp_path, text)
    assert [each.name for each in found.zones] == ["Normal"]
    assert "pages of devices are left out" in found.source
    assert "2,097,152 kB of hugetlb pages are counted as memory" in found.source


@pytest.mark.parametrize(
    ("total_kb", "kbytes"),
    [(16_316_412, 67584), (2_000_000, 45056), (1_000_000, 45056), (500_000, 2828), (400_000_000, 67584)],
)
def test_khugepaged_raises_what_the_boot_set(tmp_path, total_kb, kbytes):
    """11 pageblocks of 2 MB a populated zone, at most a twentieth; nothing below 512 MB [mm/khugepaged.c]."""
    found = machine(tmp_path, f"MemTotal: {total_kb} kB\nAnonHugePages: 0 kB\nPercpu: 100 kB\nSwapTotal: 0 kB\n")
    assert f"min_free_kbytes {kbytes}, assumed, as" in found.source
    assert kbytes // 4 - 4 < sum(zone.min for zone in found.zones) <= kbytes // 4
    told = f"MemTotal: {total_kb} kB\nAnonHugePages: 0 kB\nvm.min_free_kbytes = 9000\n"
    assert "min_free_kbytes 9000, told" in machine(tmp_path, told).source
    assert "khugepaged" not in machine(tmp_path, f"MemTotal: {total_kb} kB\n").source


@pytest.mark.parametrize("tells", ["$ getconf PAGESIZE\n65536\n", "Hugepagesize: 524288 kB\n"])
def test_sizes_of_a_report_follow_the_page_size(tmp_path, tells):
    """They are in kB; the lists, which show the size of a page, are cut off."""
    whole = machine(tmp_path, REPORT)
    cut = machine(tmp_path, tells + "".join(line for line in REPORT.splitlines(keepends=True) if "*64kB" not in line))
    assert cut.page_kb == 64
    assert [(each.present, each.min, each.cma) for each in cut.zones] == [
        (each.present, each.min, each.cma) for each in whole.zones
    ]
