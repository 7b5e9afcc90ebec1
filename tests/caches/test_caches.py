"""``fastalloc caches``: questions as they were asked on lists, answered by the rules of the kernel in question."""

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastalloc.errors import InputError
from fastalloc.explain.caches.answer import answer, as_text, read_table
from fastalloc.explain.caches.one_size import choices
from fastalloc.explain.caches.setting import changed, setting
from fastalloc.explain.caches.table import check, fitting, is_slab, kmalloc_bytes
from fastalloc.linux import slab_flags as sf
from fastalloc.linux.geometry_slab import later_slabs
from fastalloc.linux.geometry_slub import CacheRequest, calculate_sizes
from fastalloc.linux.slabinfo import SlabRow

DATA = Path(__file__).resolve().parents[1] / "data" / "slabinfo"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def table(name):
    return read_table(DATA / f"{name}.txt")


def by_kind(size, kernel, **machine):
    return {choice.kind: choice for choice in choices(size, setting(kernel, **machine))}


# ------------------------------------------------------------------------------------------------------- one size


@pytest.mark.parametrize(("size", "waste", "own"), [(2312, 1784, 2368), (2896, 1200, 2944)])
def test_what_a_cache_of_ones_own_saves(size, waste, own):
    """The sizes of struct mem_cgroup and its node part, linux-mm 2025: from kmalloc-4k or a cache of their own."""
    found = by_kind(size, "6.15")
    assert (found["kmalloc"].cache, found["kmalloc"].slot, found["kmalloc"].waste) == ("kmalloc-4k", 4096, waste)
    assert found["own cache, SLAB_HWCACHE_ALIGN"].slot == own


def test_sheaves_of_7_3_and_what_they_keep_back():
    found = by_kind(64, "7.3", cpus=4, nodes=2)["own cache"]
    assert (found.sheaf_capacity, found.cpu_objects, found.node_objects) == (60, 120, 600)
    assert found.sheaf_bytes == 512 * (2 * 4 + 20 * 2)
    before = by_kind(64, "6.12")["own cache"]
    assert (before.sheaf_capacity, before.cpu_partial_slabs) == (0, 4)
    assert before.cpu_objects == 64 + 4 * 64
    assert by_kind(64, "2.6.25")["own cache"].cpu_objects == 64
    assert by_kind(64, "3.2")["own cache"].cpu_objects == 64 + 30  # objects up to 5.15, slabs since
    assert by_kind(64, "7.3", boot="slab_debug=Z")["own cache"].sheaf_capacity == 0


def test_who_merges_with_whom():
    assert by_kind(104, "2.6.25")["own cache, SLAB_HWCACHE_ALIGN"].merges_with == "kmalloc-128"
    assert by_kind(104, "2.6.25")["own cache"].merges_with is None
    assert by_kind(104, "4.15")["own cache, SLAB_HWCACHE_ALIGN"].merges_with == "kmalloc-128"
    assert by_kind(104, "4.16")["own cache, SLAB_HWCACHE_ALIGN"].merges_with is None  # usercopy windows
    assert by_kind(104, "2.6.25", boot="slub_nomerge")["own cache, SLAB_HWCACHE_ALIGN"].merges_with is None


@pytest.mark.parametrize(
    ("kernel", "keeps"), [("2.6.30", "slub_nomerge"), ("3.17", "slub_nomerge"), ("3.18", "slab_nomerge")]
)
def test_what_keeps_a_cache_apart_is_what_its_kernel_has(kernel, keeps):
    """SLAB_NO_MERGE came with 6.5, when nothing merged with kmalloc caches any more."""
    text = as_text(answer(setting(kernel), [64], [], [], (False, False)))
    assert f"merges with kmalloc-64, so it shares its slabs; {keeps} or a constructor" in text
    assert "SLAB_NO_MERGE" not in text


def test_caches_of_a_table_that_a_new_one_may_merge_with():
    names = ("kmem_cache", "kmem_cache_node", "kmalloc-128", "kmalloc-rcl-128", "bio-72", "dentry")
    rows = [SlabRow(name, 32, 128, 32, 1, 0) for name in names]

    def may(kernel, boot=""):
        found = {choice.kind: choice.may_merge for choice in choices(128, setting(kernel, boot), rows)}
        return found["own cache, SLAB_HWCACHE_ALIGN"]

    assert may("6.6") == ("bio-72", "dentry")  # a kmalloc cache has a usercopy window, a boot cache's refcount is -1
    assert may("4.15") == ("kmalloc-128", "kmalloc-rcl-128", "bio-72", "dentry")
    assert may("6.6", "slub_debug=Z,dentry") == ("bio-72",)
    assert may("6.6", "slub_debug=Z") == may("6.6", "slub_nomerge") == ()


def test_the_smallest_kmalloc_cache_is_that_of_a_table_that_has_all():
    """ARM of 32 bits, 6.6: kmalloc-64, 128, 192, 256 and so on; there is no kmalloc-96."""
    sizes = {"64": 64, "128": 128, "192": 192, "256": 256, "512": 512, "1k": 1024, "2k": 2048, "4k": 4096, "8k": 8192}
    rows = [SlabRow(f"kmalloc-{name}", 8, size, 4096 // size or 1, 1, 0) for name, size in sizes.items()]
    arm = setting("6.6", bits=32)

    def kmalloc(size, rows, what_ifs=()):
        found = answer(arm, [size], rows, what_ifs, (False, False))["sizes"][0]["choices"]
        return [each["cache"] for each in found if each["kind"] == "kmalloc"]

    assert (kmalloc(20, rows), kmalloc(84, rows)) == (["kmalloc-64"], ["kmalloc-128"])
    assert kmalloc(84, rows, ["cpus=4", "kernel=6.12"]) == ["kmalloc-128"] * 3
    assert (kmalloc(20, rows[:4]), kmalloc(84, [])) == (["kmalloc-32"], ["kmalloc-96"])  # an excerpt tells nothing


def test_more_than_the_largest_kmalloc_cache_is_pages():
    assert by_kind(8193, "6.12")["kmalloc"].cache == "pages"
    assert by_kind(4097, "2.6.29")["kmalloc"].cache == "pages"
    assert by_kind(4097, "2.6.30")["kmalloc"].cache == "kmalloc-8192"
    assert by_kind(8193, "6.12", page_size=65536)["kmalloc"].cache == "kmalloc-16k"


# ---------------------------------------------------------------------------------------------------------- tables


def test_a_slub_table_of_2010_agrees_row_by_row():
    """linux-mm 2010, 8 CPUs: the cap on objects of 2.6.30 gives kmalloc-8192 four objects in a slab of order 3."""
    rows = table("slub-2.6.3x-8-cpus")
    assert all(row.agrees for row in check(rows, setting("2.6.32", cpus=8)))
    old = [row for row in check(rows, setting("2.6.26", cpus=8)) if not row.agrees]
    assert [row.posted.name for row in old] == ["kmalloc-8192"]
    assert any("2.6.30" in cause for cause in old[0].causes)
    chosen, said = fitting(rows, setting("6.12"), kernel=True, cpus=True)
    assert "2.6.30-4.19" in said  # kmalloc-1024 became kmalloc-1k in 4.20
    assert "8-15" in said
    assert chosen.cpus == 8


def test_who_holds_the_memory_and_what_a_smaller_order_would_do():
    result = answer(setting("2.6.32"), [], table("slub-2.6.3x-8-cpus"), ["boot=slub_max_order=0"], (False, False))
    first = result["table"]["largest"][0]
    assert (first["cache"], first["active"], first["idle_objects"]) == ("kmalloc-64", 7_030_122, 425_110)
    assert first["idle_bytes"] == 425_110 * 64
    assert result["table"]["totals"]["high"] == sum(row.pages_a_slab > 1 for row in table("slub-2.6.3x-8-cpus"))
    assert result["table"]["what_ifs"][0]["high"] == 2  # two caches have objects larger than a page


def test_red_zones_explain_a_kmalloc_slot():
    """raspberrypi/linux 6549: kmalloc-1k of 3072 bytes, ten objects in eight pages."""
    rows = table("arm64-6.6-red-zones")
    odd = [row for row in check(rows, setting("6.6", cpus=4)) if not row.agrees]
    assert {row.posted.name for row in odd} == {"kmalloc-1k", "dma-kmalloc-1k"}
    for row in odd:
        assert "red zones (slub_debug=Z)" in row.causes[0]
        assert "1024 + 8 red zone behind + 1024 red zone in front" in row.causes[0]
    assert all(row.agrees for row in check(rows, setting("6.6", "slub_debug=Z", cpus=4)))
    text = as_text(answer(setting("6.6", cpus=4), [], rows, [], (False, False)))
    assert "4 of 6 rows agree" in text
    assert text.startswith("kernel: Linux 6.6\n")


def debugged(kernel):
    """The kmalloc caches of a kernel with full debugging, and others of its orders."""
    options = setting(kernel, "slub_debug=FZPU", cpus=8).options
    found = [calculate_sizes(CacheRequest(f"kmalloc-{size}", size, usersize=size), options, kmalloc=True)
             for size in (8, 64, 128, 256, 512)]  # fmt: skip
    found += [calculate_sizes(CacheRequest(f"x{size}", size), options) for size in (200, 700, 2000)]
    return [SlabRow(each.name, 8, each.size, each.objects, 1 << each.order, 0) for each in found]


def test_debugging_is_found_with_the_kernel():
    """sizeof(struct track) is that of 3.1 to 5.18: a table tells its kernel only beside its boot option."""
    rows = debugged("5.2")
    chosen, said = fitting(rows, setting("6.12"), kernel=True, cpus=True)
    assert all(row.agrees for row in check(rows, chosen))
    assert "slub_debug=FZPU" in chosen.boot
    assert "debugging not told: slub_debug=FZPU fits best" in said
    assert "4.6-5.3 fit best" in said
    told, said = fitting(rows, setting("6.12", "slub_debug=FZPU"), kernel=True, cpus=True)
    assert told == chosen
    assert "debugging" not in said


def test_no_debugging_is_found_where_kmalloc_slots_are_as_named_or_the_kernel_is_told():
    plain = table("slub-2.6.3x-8-cpus")
    assert fitting(plain, setting("6.12"), kernel=True, cpus=True)[0].boot == ""
    assert fitting(debugged("5.2"), setting("5.2"), kernel=False, cpus=True)[0].boot == ""


def test_another_page_size_explains_a_row():
    (row,) = check(table("arm64-64k"), setting("4.14", cpus=32))
    assert "pages of 65536 bytes" in row.causes[0]
    assert check(table("arm64-64k"), setting("4.14", cpus=32, page_size=65536))[0].agrees


def test_a_slab_table_agrees_under_slabs_rules():
    rows = table("slab-2.6.21")
    assert is_slab(rows)
    assert len(rows) == 62
    assert all(row.agrees for row in check(rows, setting("2.6.25")))
    with pytest.raises(InputError, match="SLAB"):
        answer(setting("2.6.25"), [], rows, ["kernel=6.12"], (False, False))


def test_slab_of_4_6_keeps_its_free_list_in_an_object_or_behind_them():
    # 4096 / 224 = 18 with the list in a free object; 4096 / (8 + 1) = 455 > 255 objects.
    assert later_slabs(224, 0) == [(0, 18), (0, 18)]
    assert later_slabs(8, 0) == []
    # 700: 5 objects leave 596 of 4096 > 1/8, order 1 holds 11; of a reclaimable cache order 0 is taken at once.
    assert later_slabs(700, 0)[0] == (1, 11)
    assert later_slabs(700, sf.RECLAIM_ACCOUNT)[0] == (0, 5)
    (row,) = check([SlabRow("nfs_direct_cache", 18, 224, 18, 1, 120, 18, 1)], setting("6.12"))
    assert row.agrees
    text = as_text(answer(setting("6.12"), [], [row.posted], [], (True, True)))
    assert text.startswith("kernel: not told by the table: the rules of SLAB")


def test_a_table_in_a_mail_is_read(tmp_path):
    path = tmp_path / "mail.txt"
    path.write_text(
        "> slabinfo - version: 2.1\n> # name            <active_objs> <num_objs> <objsize> <objperslab>\n"
        "> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> :\n> slabdata <active_slabs> <num_slabs>\n"
        "> nf_conntrack       15716  20349    320   51    4 : tunables    0    0\n"
        ">   0 : slabdata    399    399      0\n"
        "> au_finfo               0      0    192   42    2 : tunables    0    0\n"
        ">   0 : slabdata      0      0      0\n"
        "+    ' : tunables %4u %4u %4u'\n"
    )
    assert [(row.name, row.object_size, row.slabs) for row in read_table(path)] == [
        ("nf_conntrack", 320, 399),
        ("au_finfo", 192, 0),
    ]


def test_one_cause_of_many_rows_is_told_once_at_the_top():
    rows = [SlabRow(f"kmalloc-{size}k", 8, 3072 * size, 10 >> (size - 1), 8, 0, 8, 1) for size in (1, 2)]
    text = as_text(answer(setting("6.6"), [], rows, [], (False, True)))
    assert "--boot slub_debug=Z would explain 2 of the other 2" in text


def test_a_size_asked_twice_is_answered_once():
    result = answer(setting("6.12"), [2312], [], ["own=2312"], (False, False))
    assert [each["size"] for each in result["sizes"]] == [2312]


def test_cpus_explain_a_row():
    row = SlabRow("x", 32, 256, 32, 2, 0, 32, 1)
    (found,) = check([row], setting("2.6.26", cpus=1))
    assert not found.agrees
    assert any("8-" in cause and "CPUs" in cause for cause in found.causes)


@pytest.mark.parametrize(
    ("name", "size"),
    [("kmalloc-8", 8), ("kmalloc-1k", 1024), ("kmalloc-rcl-2k", 2048), ("kmalloc_dma-512", 512), ("kmalloc-cg-96", 96),
     ("dma-kmalloc-1k", 1024), ("kmalloc-rnd-05-1k", 1024), ("kmalloc-192(960:helper-logs)", 192), ("dentry", 0)],
)  # fmt: skip
def test_names_of_kmalloc_caches(name, size):
    assert kmalloc_bytes(name) == size


@pytest.mark.parametrize("folder", ["kernel", "kernel-7.x"])
def test_tables_of_recorded_kernels_agree(folder):
    """Every slabinfo of the recorded boots without debugging or options, beside the rules of its own kernel."""
    path = SHARED / folder / "geometry.csv.gz"
    if not path.exists():
        pytest.skip("shared data is not at hand")
    with (SHARED / folder / "geometry_boots.csv").open() as file:
        boots = {(row["kernel"], row["boot"]): row for row in csv.DictReader(file)}
    tables: dict[tuple[str, str], list[SlabRow]] = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            boot = boots[row["kernel"], row["boot"]]
            if row["is_primary"] != "1" or boot["cpus_possible"] != boot["cpus_online"] or not row["si_objsize"]:
                continue
            numbers = [int(row[f"si_{name}"]) for name in ("objsize", "objperslab", "pagesperslab")]
            tables.setdefault((row["kernel"], row["boot"]), []).append(SlabRow(row["cache"], 0, *numbers, 0))
    assert len(tables) > 10
    for (kernel, name), rows in tables.items():
        boot = boots[kernel, name]
        cpus = 1 + int(boot["cpus_online"].rpartition("-")[2])
        options = " ".join(word for word in boot["boot_args"].split() if word.startswith(("slub_", "slab_")))
        found = check(rows, setting(kernel, options, cpus=max(cpus, 1)))
        wrong = [row for row in found if not row.agrees]
        assert not wrong, (kernel, name, wrong[:3])


# -------------------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize(
    "text", ["kernel=7.9", "kernel", "pages=64k", "page-size=5000", "cpus=many", "cpus=0", "cache-line=100", "bits=16"]
)
def test_a_what_if_that_means_nothing_is_refused(text):
    with pytest.raises(InputError):
        changed(setting("6.12"), text)


def test_what_the_kernel_passes_over_is_told():
    text = as_text(answer(setting("6.1", "slab_max_order=0"), [64], [], [], (False, False)))
    assert "slab_max_order=0: no option of 6.1" in text


def test_a_file_without_slabinfo_is_refused(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("MemTotal: 1 kB\n")
    with pytest.raises(InputError, match="slabinfo"):
        read_table(path)


def test_the_command_starts_without_numba():
    code = (
        "import sys; sys.argv = ['fastalloc', 'caches', '--kernel', '7.3', '--size', '2312', '--json']\n"
        "from fastalloc.cli.main import app\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "assert not {'numba', 'polars'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kernel"]["version"] == "7.3"
    assert [choice["slot"] for choice in result["sizes"][0]["choices"]] == [4096, 2312, 2368]
