"""What a trace tells of the caller, as printed and as scripts/decode_stacktrace.sh rewrites it."""

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
