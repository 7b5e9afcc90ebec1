"""Whose stack it is [lib/dump_stack.c: dump_stack_print_info], and what it tells, decoded or as printed."""

import pytest

import fastalloc

HEAD = (
    "stress-ng: page allocation failure: order:0, mode:0x40c40(GFP_NOFS|__GFP_COMP), nodemask=(null),cpuset=/\n"
    "CPU: 1 PID: 2308 Comm: stress-ng Not tainted 6.6.30 #7\nCall trace:\n"
)
FRAMES = (
    ("warn_alloc", "mm/page_alloc.c:4379 (discriminator 4)"),
    ("__alloc_pages", "mm/page_alloc.c:5279 mm/page_alloc.c:5550"),
    ("new_slab", "./include/linux/gfp.h:238 (discriminator 1) mm/slub.c:1862"),
    ("do_try_to_free_pages", "mm/vmscan.c:6245"),
    ("__alloc_pages", "mm/page_alloc.c:4061"),
    ("el0t_64_sync", "arch/arm64/kernel/entry.S:598"),
)


def report_of(lines: list[str]):
    (answer,) = fastalloc.explain(HEAD + "".join(f" {line}\n" for line in lines))
    return answer


def test_a_decoded_trace_tells_what_the_printed_one_tells():
    printed = report_of([f"{name}+0x1/0x20" for name, _ in FRAMES])
    decoded = report_of([f"{name} ({place}) " for name, place in FRAMES])
    assert decoded.report.frames == printed.report.frames == [(name, True) for name, _ in FRAMES]
    assert decoded.decision.caller.memalloc
    assert decoded.report.unknown_lines == printed.report.unknown_lines == 0


@pytest.mark.parametrize(
    "line", ["? do_try_to_free_pages (mm/vmscan.c:6245)", "do_try_to_free_pages (see mm/vmscan.c)"]
)
def test_a_frame_that_is_not_sure_and_prose_are_none(line):
    got = report_of(["__alloc_pages (mm/page_alloc.c:5550)", line])
    assert not got.decision.caller.memalloc
    assert got.report.frames[:1] == [("__alloc_pages", True)]


FAILURE = "[  500.0] kworker/0:1: page allocation failure: order:0, mode:0x800(GFP_NOWAIT), nodemask=(null),cpuset=/\n"
STACK = "[  {0}] CPU: 0 PID: 1 Comm: {1} Not tainted {2} #1\n[  {0}] Call Trace:\n[  {0}]  {3}\n"
OWN = STACK.format("500.1", "kworker/0:1", "5.4.30", "__alloc_pages_slowpath+0xe9d/0xef0")
IRQ = "<IRQ>\n[  512.0]  net_rx_action+0x100/0x170"


def test_an_interrupt_of_another_stack_is_not_the_callers():
    other = "[  512.0] watchdog: BUG: soft lockup - CPU#1\n" + STACK.format("512.0", "swapper/1", "5.4.30", IRQ)
    (answer,) = fastalloc.explain(FAILURE + OWN + other)
    assert not answer.decision.caller.interrupt
    assert [name for name, _ in answer.report.frames] == ["__alloc_pages_slowpath"]
    (answer,) = fastalloc.explain(FAILURE + OWN + f"[  500.1]  {IRQ}\n")
    assert answer.decision.caller.interrupt


@pytest.mark.parametrize(("far", "release", "comm"), [(False, "5.4.30", "X"), (True, None, "")])
def test_a_stack_long_after_a_head_is_not_its(far, release, comm):
    """A head is followed by its stack; a kill comes after it."""
    head = "vmalloc: allocation failure: 4096 bytes, mode:0x14200c2(GFP_HIGHUSER), nodemask=(null)\n"
    text = head + ("eth0: link is up\n" * 100 if far else "") + STACK.format("9", "X", "5.4.30", "panic+0x1/0x2")
    (answer,) = fastalloc.explain(text)
    assert (answer.report.release.text if answer.report.release else None, answer.report.comm) == (release, comm)


def test_a_panic_after_a_kill_names_neither_its_task_nor_its_kernel():
    kill = "[7516987.98] Memory cgroup out of memory: Killed process 5740 (pause) total-vm:1028kB\n"
    text = kill + "\nAnother machine:\n\n" + STACK.format("261.36", "random", "5.8.0", "panic+0x2a1/0x522")
    head = "[  300.0] random invoked oom-killer: gfp_mask=0x100dca(GFP_HIGHUSER_MOVABLE|__GFP_ZERO), order=0\n"
    got = fastalloc.explain(text + head + STACK.format("300.0", "random", "5.8.0", "dump_header+0x104/0x830"))
    assert [(one.report.comm, one.kernel.in_text) for one in got] == [("", False), ("random", True)]
    # Of one boot the stamps rise: then the kernel of a report nearby is that of the kill too.
    quiet = "[  250.0] eth0: link is up\n" * 4
    got = fastalloc.explain(kill.replace("7516987.98", "   200.00") + quiet + head + OWN.replace("500.1", "300.0"))
    assert [one.kernel.release.text for one in got] == ["5.4.30", "5.4.30"]


@pytest.mark.parametrize(("frame", "known"), [("warn_alloc+0x108/0x190", True), ("usb_probe+0x1/0x20", False)])
def test_a_block_whose_head_is_lost_has_the_stack_before_it(frame, known):
    zone = "Node 0 Normal free:24kB min:172kB low:212kB high:252kB present:15992kB managed:15908kB\n"
    whole = FAILURE + OWN + "Mem-Info:\n" + zone + "lowmem_reserve[]: 0 0\nNode 0 Normal: 6*4kB (H) = 24kB\n"
    text = whole + "This is the original:\n" + STACK.format("9.0", "Y", "5.0.4", frame) + "Mem-Info:\n" + zone
    own, lost = fastalloc.explain(text)
    assert (lost.report.comm, lost.report.release.text) == (("Y", "5.0.4") if known else ("", "5.4.30"))
    assert own.report.release.text == "5.4.30"
    # A mask is borrowed from a head of the same kernel only.
    assert (lost.report.mode is None) == known


def test_a_task_may_have_blanks_in_its_name():
    oom = "invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n"
    for line, comm in ((f"[  5.0] DOM Worker {oom}", "DOM Worker"), (f"host kernel: CPU 0/KVM {oom}", "CPU 0/KVM"),
                       (f"Creating journal (131072 blocks): mkfs.ext4 {oom}", "mkfs.ext4")):  # fmt: skip
        (answer,) = fastalloc.explain(line)
        assert answer.report.comm == comm
