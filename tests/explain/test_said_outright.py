"""What a text itself says: a cgroup's limit, a key, a size that vmalloc takes from nobody."""

import pytest

import fastalloc
from tests.explain.small import free_list, oom, reserve, zone

PASSING = (zone("Normal", 11_000, (1000, 1250, 1500)), reserve(0, 0, 0))
SHORT = (zone("Normal", 900, (1000, 1250, 1500)), reserve(0, 0, 0))


def test_no_mark_is_tried_where_a_cgroup_or_a_key_killed():
    killed = "Memory cgroup out of memory: Killed process 1 (X) total-vm:1kB\n"
    memcg = oom("5.15.60", 0, "0xcc0(GFP_KERNEL)", "memory: usage 1024kB, limit 1024kB, failcnt 7\n", killed)
    assert (memcg.verdict, "mark" in memcg.reason) == ("memcg-limit", False)
    assert "cgroup was at its limit" in memcg.reason
    head = "sysrq: SysRq : Manual OOM execution\nX invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0\n"
    (by_hand,) = fastalloc.explain(head + "Mem-Info:\n" + "".join(PASSING))
    assert (by_hand.verdict, by_hand.reason) == ("other", "")
    assert "last try at the high mark failed" in oom("5.15.60", 0, "0xcc0(GFP_KERNEL)", *SHORT).reason


def vmalloc(said: str, ram: int = 0):
    tail = f"Mem-Info:\nactive_anon:1 inactive_anon:1\n free:1\n{ram} pages RAM\n10 pages reserved\n" if ram else ""
    head = f"modprobe: {said}, mode:0xdc0(GFP_KERNEL|__GFP_ZERO), nodemask=(null),cpuset=/,mems_allowed=0\n"
    (answer,) = fastalloc.explain(head + "CPU: 0 PID: 1 Comm: modprobe Not tainted 5.10.0 #1\n" + tail)
    return answer


@pytest.mark.parametrize(
    ("said", "ram", "cause"),
    [
        ("vmalloc: allocation failure: 0 bytes", 0, "size"),
        ("vmalloc error: size 137438957568, exceeds total pages", 0, "size"),
        ("vmalloc: allocation failure: 4096000 bytes", 1009, "size"),  # 1000 pages of 999
        ("vmalloc: allocation failure: 4096000 bytes", 1010, "address-space"),
        ("vmalloc: allocation failure: 4096000 bytes", 0, "address-space"),  # the machine's size is not in the text
        ("vmalloc error: size 4096000, vm_struct allocation failed", 0, "address-space"),
        ("vmalloc size 4096000 allocation failure: failed to map pages", 0, "address-space"),  # 5.13
        ("vmalloc size 137438957568 allocation failure: exceeds total pages", 0, "size"),
    ],
)
def test_a_size_that_vmalloc_refuses_is_no_lack_of_addresses(said, ram, cause):
    answer = vmalloc(said, ram)
    assert (answer.verdict, answer.advice.cause) == ("other", cause)
    assert ("vmalloc=" in answer.advice.first[0]) == (cause == "address-space")


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("vmalloc size 0 allocation failure: page order 9 allocation failed", "5.13"),
        ("vmalloc error: size 0, page order 9, failed to allocate pages", "6.3.1"),
    ],
)
def test_vmalloc_that_gets_no_huge_page_asks_for_single_ones(said, version):
    """[mm/vmalloc.c: __vmalloc_area_node, and __vmalloc_node_range, which tries again with single pages]"""
    head = f"X: {said}, mode:0xcc2(GFP_KERNEL|__GFP_HIGHMEM), nodemask=(null),cpuset=/,mems_allowed=0\n"
    lines = "".join((*PASSING, free_list("Normal", (11_000, "UME"))))
    (answer,) = fastalloc.explain(f"{head}CPU: 0 PID: 1 Comm: X Not tainted {version} #1\nMem-Info:\n{lines}")
    assert (answer.report.order, answer.verdict) == (9, "fragmentation")
    assert "vmalloc then asks again for single pages" in answer.advice.sentence
    assert any("vmalloc makes them itself" in said for said in answer.advice.useless)
    # A page that vmalloc does not get has no such way out.
    single = head.replace("page order 9", "page order 0")
    (alone,) = fastalloc.explain(f"{single}Comm: X\nMem-Info:\n{''.join(SHORT)}")
    assert "asks again" not in alone.advice.sentence


def test_the_words_of_5_13_tell_the_version():
    head = "X: vmalloc size 4096 allocation failure: failed to map pages, mode:0xcc0(GFP_KERNEL), nodemask=(null)\n"
    (answer,) = fastalloc.explain(head)
    assert (answer.kernel.release.name, answer.kernel.in_text) == ("5.13", False)
