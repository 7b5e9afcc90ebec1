"""A memory report as read, before any rule is applied."""

import re
from dataclasses import dataclass, field

from fastalloc.explain.mem_info import MemInfo
from fastalloc.linux.release import Release


@dataclass
class Report:
    """A report as read. ``mode`` is None where the text does not say it."""

    kind: str
    line: int
    start: int
    end: int
    caller: str = ""
    comm: str = ""
    order: int | None = None
    mode: int | None = None
    mode_names: str | None = None
    nodemask: str | None = None
    mems: str | None = None
    release: Release | None = None
    frames: list[tuple[str, bool]] = field(default_factory=list)  # innermost first; False: the unwinder was not sure
    interrupt: bool = False
    mem_info: MemInfo | None = None
    memcg: str = ""
    constraint: str = ""
    sysrq: bool = False
    victim: str = ""
    vmalloc: str = ""
    caches: list[dict[str, str]] = field(default_factory=list)
    borrowed: str = ""  # where order and mask came from, when not from its own head
    unknown_lines: int = 0
    text: str = ""

    @property
    def page_fault(self) -> bool:
        """The OOM killer was called by a page fault: no request is known, and none was tried at a mark.

        It passes a mask and an order of 0 for want of better [mm/oom_kill.c: pagefault_out_of_memory, 2.6.29 to 5.15];
        a request with such a mask may not reclaim and never comes to the killer.
        """
        return self.kind == "oom" and self.mode == 0 and not self.order and not self.memcg and not self.sysrq

    @property
    def this_node(self) -> int | None:
        """The node that a request with __GFP_THISNODE is confined to, where its SLUB line names one that is printed.

        [include/linux/gfp.h: gfp_zonelist, __alloc_pages_node; mm/slub.c: slab_out_of_memory]
        """
        said = {line["node"] for line in self.caches if line["node"]}
        printed = {str(info.node) for info in self.mem_info.zones} if self.mem_info is not None else set()
        return int(said.pop()) if len(said) == 1 and said <= printed else None


# What stands after a function's name in place of an offset [scripts/decode_stacktrace.sh: parse_symbol].
DECODED = r" \([\w./+-]+\.(?:[chS]|rs):\d+[\s)]"
_KNOWN_LINE = re.compile(
    rf"{DECODED}|"
    r"\+0x[0-9a-f]+/0x|\+\d+/\d+\]|Call [Tt]race|Backtrace|Hardware name|</?(?:IRQ|EOI|TASK|SOFTIRQ|NMI)>|Code:|"
    r"R[A-Z0-9]{2}:|E[A-Z]{2}:|Workqueue|Exception stack|^\s*[0-9a-f]{4,}:"
    r"|^\s*[0-9a-f]{8,16}(?:\s+[0-9a-f]{8,16})*\s*$|Stack\s*:|=====|"
    r"\bcpu\s*\d|CPU\s+\d|page allocation|oom-killer|Mem-|:\d+|kB|lowmem_reserve|protections|pages?\b|swap|"
    r"Tasks state|^\s*\[\s*(?:pid\s*|\d+)\]|SL[UA]B:|cache:|node \d+:|Modules linked|Tainted|callbacks suppressed|"
    r"^\s*\.\.\.|^\s*\[\.\.\.\]|Pid:|CPU:|from \w|dump_|oom-kill|Out of memory|Killed process|Task in|memory\+swap|"
    r"Memory cgroup|^\s*(?:anon|file|kernel|slab|sock|shmem)\w* \d+$"
)


def unknown_lines(body: str) -> int:
    """Lines of a report that are none of its own, of a trace or of what else the kernel prints there."""
    return sum(1 for line in body.split("\n") if line.strip() and not _KNOWN_LINE.search(line))
