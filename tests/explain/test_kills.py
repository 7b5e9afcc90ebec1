"""Which OOM a line of the OOM killer belongs to [mm/oom_kill.c: dump_header, oom_kill_process]."""

import random

import pytest

import fastalloc

HEAD = (
    "[ 1000.000000] java invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0\n"
    "[ 1000.000010] CPU: 0 PID: 100 Comm: java Not tainted 5.15.60 #1\n"
)
SHORT = (
    "[ 1000.000020] Mem-Info:\n[ 1000.000030] Node 0 Normal free:7900kB min:8000kB low:10000kB high:12000kB "
    "present:1000000kB managed:980000kB\n[ 1000.000040] lowmem_reserve[]: 0 0 0 0\n"
)
LONE = "[ 9000.000000] Memory cgroup out of memory: Killed process 5000 (nginx) total-vm:100000kB\n"


def verdicts(text: str) -> list[tuple[str, bool]]:
    """Of each report, with whether its head is there."""
    return [(answer.verdict, not answer.report.borrowed) for answer in fastalloc.explain(text)]


@pytest.mark.parametrize(
    "end",
    [
        "[ 1000.000050] Out of memory: Killed process 100 (java) total-vm:1000000kB\n",
        "[ 1000.000050] oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=(null),cpuset=job,mems_allowed=0,global_oom\n",
        "[ 1000.000050] oom-kill:constraint=CONSTRAINT_MEMORY_POLICY,nodemask=0,cpuset=/,mems_allowed=0,global_oom\n",
        "",  # cut: eight thousand seconds tell them apart
    ],
)
def test_a_cgroups_kill_after_a_global_one_is_another(end):
    assert verdicts(HEAD + SHORT + end + LONE) == [("below-mark", True), ("memcg-limit", False)]


def test_without_stamps_a_kill_and_a_distance_tell_them_apart():
    chatter = "eth0: link is up\n" * 200
    for between in ("Out of memory: Killed process 100 (java) total-vm:1000000kB\n", chatter):
        plain = "".join(line.split("] ", 1)[1] + "\n" for line in (HEAD + SHORT).splitlines())
        assert verdicts(plain + between + LONE[15:]) == [("below-mark", True), ("memcg-limit", False)]


def test_what_a_cgroup_says_before_its_kill_is_of_the_head():
    said = "[ 1000.000020] memory: usage 1024kB, limit 1024kB, failcnt 7\n"
    tasks = "".join(f"[ 1000.{at:06}] [ {at}] 0 {at} 257 1 32768 0 0 nginx\n" for at in range(100, 400))
    kill = "[ 1001.000000] Memory cgroup out of memory: Killed process 5000 (nginx) total-vm:100000kB\n"
    assert verdicts(HEAD + said + tasks + kill) == [("memcg-limit", True)]
    assert verdicts(HEAD + kill) == [("memcg-limit", True)]
    # All tasks of a cgroup die together where memory.oom.group says so.
    assert verdicts(HEAD + kill + kill.replace("5000", "5001")) == [("memcg-limit", True)]


def test_a_kill_amid_another_report_takes_nothing_of_it():
    head = HEAD.replace("java invoked oom-killer: gfp_mask=", "java: page allocation failure: order:0, mode:")
    assert verdicts(HEAD + SHORT + head + LONE + SHORT) == [
        ("below-mark", True),
        ("below-mark", True),
        ("memcg-limit", False),
    ]


GLOBAL = "[ 1000.000050] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom\n"
TASKS = "[ 1000.000050] [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n"
KILLED = "[ 1000.000050] Out of memory: Killed process 100 (java) total-vm:1000000kB\n"


@pytest.mark.parametrize(
    "after", [GLOBAL, TASKS, KILLED, GLOBAL + KILLED, TASKS + KILLED, "Tasks state (memory values in pages):\n"]
)
def test_a_mem_info_before_a_list_of_tasks_or_a_kill_is_an_ooms(after):
    """dump_header() prints the tasks and the kill after the Mem-Info; a paste often begins in it."""
    (answer,) = fastalloc.explain(SHORT + after)
    assert (answer.report.kind, answer.verdict) == ("oom", "below-mark")
    assert answer.decision.caller.may_reclaim


@pytest.mark.parametrize("after", ["", LONE.replace("9000", "1000"), "[ 9000.000000] " + KILLED[15:]])
def test_a_mem_info_alone_is_no_ooms(after):
    assert [answer.report.kind for answer in fastalloc.explain(SHORT + after)] == [
        "failure",
        *(["oom"] if after else []),
    ]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Out of memory (oom_kill_allocating_task): Kill process 100 (java) score 0 or sacrifice child", "oom"),
        ("Out of memory (oom_kill_allocating_task): Killed process 100 (java) total-vm:1000000kB", "oom"),
        ("No available memory (MPOL_BIND): kill process 100 (java) score 5 or a child", "failure"),  # no "Kill"
        ("No available memory (MPOL_BIND): Kill process 100 (java) score 5 or sacrifice child", "oom"),
        ("Memory cgroup out of memory (oom_kill_allocating_task): Killed process 100 (java)", "failure"),
    ],
)
def test_the_message_of_a_kill_has_several_forms(message, kind):
    """[mm/oom_kill.c: out_of_memory, sysctl_oom_kill_allocating_task; CONSTRAINT_MEMORY_POLICY to 2.6.35]"""
    answer = fastalloc.explain(f"{SHORT}[ 1000.000050] {message}\n")[0]
    assert answer.report.kind == kind


ROW = "[ 1000.000060] [   5000]     0  5000     4000      800    45056        0             0 nginx\n"
CONSTRAINT = (
    "[ 1000.000070] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/x,"
    "task_memcg=/x,task=nginx,pid=5000,uid=0\n"
)
COUNTERS = "[ 1000.000045] memory: usage 1024kB, limit 1024kB, failcnt 7\n"
MEMCG = LONE.replace("9000.000000", "1000.000080")


@pytest.mark.parametrize(
    "after",
    [
        TASKS + ROW + CONSTRAINT,
        TASKS + ROW + MEMCG,
        TASKS + ROW * 1000 + MEMCG,
        TASKS + ROW + CONSTRAINT + MEMCG,
        COUNTERS + TASKS + ROW,  # cut before the kill
        COUNTERS + TASKS + ROW + CONSTRAINT + MEMCG,
        COUNTERS.replace("memory: usage 1024kB, limit 1024kB, failcnt 7", "Memory cgroup stats for /x:") + TASKS,
    ],
)
def test_a_cgroups_tasks_make_no_global_oom_of_a_mem_info(after):
    """Both heads are lost. Since 3.9 dump_header() shows the Mem-Info or a cgroup's counters, never both
    [mm/oom_kill.c], so the Mem-Info is of another report."""
    first, second = fastalloc.explain(SHORT + after)
    assert (first.report.kind, first.report.borrowed) == ("failure", "no head")
    assert (second.verdict, second.report.borrowed) == ("memcg-limit", "no head")


def test_to_3_8_a_cgroups_oom_has_its_counters_before_a_mem_info():
    """[mm/oom_kill.c: dump_header, 2.6.30 to 3.8]; zones show "managed" from 3.8 on."""
    old = SHORT.replace(" managed:980000kB", "")
    kill = MEMCG.replace("Killed process 5000 (nginx)", "Kill process 5000 (nginx) score 900 or sacrifice child")
    (answer,) = fastalloc.explain(COUNTERS + old + TASKS + ROW + kill)
    assert answer.verdict == "memcg-limit"


def test_a_cgroups_kill_long_after_a_list_of_tasks_is_another():
    global_, other = fastalloc.explain(SHORT + TASKS + ROW + LONE)
    assert (global_.report.kind, global_.verdict, other.verdict) == ("oom", "below-mark", "memcg-limit")


PHP = """php invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
CPU: 2 PID: 901 Comm: php Not tainted 5.15.60 #1
 mem_cgroup_out_of_memory+0x145/0x150
memory: usage 524288kB, limit 524288kB, failcnt 441
Tasks state (memory values in pages):
[    901]    33   901   200000   130000  1105920        0             0 php
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=a,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=php,pid=901
Memory cgroup out of memory: Killed process 901 (php) total-vm:800000kB""".splitlines()
NGINX = """nginx: page allocation failure: order:0, mode:0xa20(GFP_ATOMIC), nodemask=(null),cpuset=/,mems_allowed=0
CPU: 1 PID: 900 Comm: nginx Not tainted 5.15.60 #1
 warn_alloc+0x11a/0x190
Mem-Info:
Node 0 Normal free:1000kB min:8000kB low:10000kB high:12000kB present:1000000kB managed:980000kB
lowmem_reserve[]: 0 0 0 0
Node 0 Normal: 250*4kB (U) = 1000kB""".splitlines()


@pytest.mark.parametrize("seed", range(60))
def test_a_mem_info_beside_a_cgroups_oom_is_the_others(seed):
    """Two CPUs print at once, in any order of lines. Of a cgroup's OOM dump_header() prints no Mem-Info (3.9)."""
    rng, lines = random.Random(seed), []
    sides = [NGINX[:], PHP[:]]
    while any(sides):
        lines.append(rng.choice([side for side in sides if side]).pop(0))
    text = "".join(f"[  500.{at:06}] {line}\n" for at, line in enumerate(lines))
    told = {answer.report.comm: answer.verdict for answer in fastalloc.explain(text)}
    assert told == {"nginx": "below-mark", "php": "memcg-limit"}


def test_a_global_oom_keeps_its_mem_info_beside_a_head_that_has_none():
    """warn_alloc() prints it at a limited rate [show_mem_rs], and a cgroup's kill may come within the minute."""
    head = HEAD.replace("java invoked oom-killer: gfp_mask=", "nginx: page allocation failure: order:0, mode:")
    assert verdicts(head + HEAD + SHORT + MEMCG) == [
        ("no-mem-info", True),
        ("below-mark", True),
        ("memcg-limit", False),
    ]
