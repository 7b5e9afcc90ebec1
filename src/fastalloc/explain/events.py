"""The places in a log's text where something of a memory report stands."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from fastalloc.explain.clean import Text

_ZONE = r"(?:DMA32|DMA|Normal|HighMem|Movable|Device)"


def _node(name: str) -> str:
    return rf"(?:\bNode\s+(?P<{name}>\d+),?\s+)?"


def _mask(name: str) -> str:
    return rf"0x(?P<{name}>[0-9a-fA-F]+)\s*(?:\((?P<{name}names>[^()]*)\))?"


def _rest(name: str, length: int) -> str:
    """What follows on the line, read and not used up: a report may be posted as one line.

    ``length``: no line is longer there [lib/dump_stack.c: dump_stack_print_info, with a task's name of 20 characters
    and a version of 64; init/version.c: linux_banner].
    """
    return rf"(?=(?P<{name}>[^\n]{{0,{length}}}))"


_AFTER = r"""(?=[\s,.;("'`\\\])}|]|$)"""  # what may follow a number that is whole
# In VERBOSE form: a blank of the text is \s+ (a line may be broken there), a token may have blanks inside.
_PATTERNS = {
    "failure": rf"""page\s+allocation\s+failure\s*[.:]\s*order\s*:\s*(?P<order>\d+)\s*,
        (?:\s*mode\s*:\s*{_mask("mode")}{_AFTER})?""",
    "stall": rf"""page\s+allocation\s+stalls?\s+for\s+\d+\s*\w*\s*[,:]\s*order\s*:\s*(?P<stallorder>\d+)\s*,
        \s*mode\s*:\s*{_mask("stallmode")}""",
    "oom": rf"""oom-killer\s*:\s*gfp_mask\s*=\s*{_mask("oommode")}
        (?:\s*,?(?:\s*nodemask=(?P<oomnodes>\S+?),)?\s*order\s*=\s*(?P<oomorder>-?\d+))?(?:{_AFTER}|(?=oom))""",
    "vmalloc": r"""vmalloc(?:\s+error\s*:\s*size\s+\d+|(?:\s+size\s+\d+|\s*:)\s*allocation\s+failure)\s*[,:]""",
    "slub": rf"""SL[UA]B\s*:\s*Unable\s+to\s+allocate\s+memory\s+on\s+
        (?:CPU\s+\d+\s+\(of\s+node\s+(?P<cpunode>\d+)\)\s+on\s+)?
        node\s+(?P<slubnode>-?\d+)\s*[,(]\s*\(?gfp=\s*{_mask("slubmode")}""",
    "cache": r"""cache\s*:\s*(?P<cache>[^\n,]+?)\s*,\s*object\s+size\s*:\s*(?P<objsize>\d+)\s*,\s*(?:
        buffer\s+size\s*:\s*(?P<bufsize>\d+)\s*,\s*default\s+order\s*:\s*(?P<deforder>\d+)\s*,
        \s*min\s+order\s*:\s*(?P<minorder>\d+)|order\s*:\s*(?P<slaborder>\d+))""",
    "version": rf"""(?:CPU\s*:\s*\d+\s+(?:UID\s*:\s*\d+\s+)?P(?:ID|id)\s*:\s*\d+
        \s+C?omm\s*:\s*(?P<comm1>\S[^\n]{{0,40}}?)
        |Pid\s*:\s*\d+\s*,\s*comm\s*:\s*(?P<comm2>\S[^\n]{{0,40}}?))\s+(?:Kdump\s*:\s*loaded\s+)?
        (?:Not\s+tainted|Tainted\s*:(?:\s*\[?[A-Z]+\]?(?:\([A-Z]\))?(?=[\s\d-]))*)\s*(?:-{{3,}}[\s-]*)?
        \(?(?P<release>[2-9]\.\d+[^\s)]*){_rest("after", 130)}""",
    "boot": rf"Linux\s+version\s+(?P<boot>[2-9]\.\d+\S*){_rest('bootafter', 400)}",
    "oldversion": r"(?:Not\s+tainted|Tainted:\s+[A-Z ]+)\s*(?:VLI)?\s*\((?P<old>[2-9]\.\d+[^\s)]*)",
    "meminfo": r"Mem-[Ii]nfo\s*:",
    "totals": r"\b[Aa]ctive(?:_anon)?\s*:\s*\d+(?!\s*\d*[kK]B)\s+(?:in|active)",
    "zone": rf"{_node('znode')}\b(?P<zone>{_ZONE})\s+free\s*:\s*(?=\d)",
    "node": r"\bNode\s+(?P<nnode>\d+),?\s+active_anon\s*:\s*(?=\d)",
    "reserve": r"""(?:lowmem_reserve|protections)\s*\[\s*\]\s*:
        (?P<reserve>(?:[ \t]*\d+\b)*(?:[ \t]*\n[ \t]*\d+(?:[ \t]+\d+)*[ \t]*(?=\n|$))*)""",
    "list": rf"{_node('lnode')}\b(?P<list>{_ZONE})\s*:\s*(?=\d+\s*\*\s*\d)",
    "tail": r"""(?P<tailname>total\s+pagecache\s+pages|pages\s+in\s+swap\s+cache|pages\s+(?:of\s+)?RAM
        |pages\s+HighMem\S*|pages\s+of\s+HIGHMEM|pages\s+reserved|reserved\s+pages|pages\s+cma\s+reserved
        |pages\s+hwpoisoned)""",
    "swap": r"\b(?P<swap>Free|Total)\s+swap\s*[=:]\s*(?P<swapkb>\d+)\s*kB",
    "memcg": r"""(?P<memcg>Memory\s+cgroup\s+out\s+of\s+memory|oom_memcg\s*=|CONSTRAINT_MEMCG
        |killed\s+as\s+a\s+result\s+of\s+limit|\bmemory\s*:\s*usage\s+\d+\s*kB\s*,\s*limit|Memory\s+cgroup\s+stats)""",
    "global": r"(?P<global>CONSTRAINT_NONE|\bglobal_oom\b|CONSTRAINT_CPUSET|CONSTRAINT_MEMORY_POLICY)",
    "sysrq": r"""(?:SysRq\s*:\s*(?:Manual\s+OOM|moom|Show\s+Memory)
        |sysrq\s*:\s*(?:SysRq\s*:\s*)?(?:Manual\s+OOM|Show\s+Memory))""",
    "killed": r"Kill(?:ed)?\s+process\s+(?P<pid>\d+)[ ,]+\(?(?P<victim>[^\n),]+)",
    "tasks": r"tgid\s+total_vm\s+rss|Tasks\s+state\s+\(memory",
    "mems": r"cpuset=(?P<cpuset>\S+?)[ ,]\s*mems_allowed=(?P<mems>[\d,-]+)",
    # What ends a zone's line or list and is read nowhere.
    "other": rf"(?:{_node('pnode')}\b{_ZONE}\s+per-cpu\s*:|(?:Node\s+\d+\s+)?hugepages_total\s*=\s*\d+)",
}
_ALL = re.compile("|".join(f"(?P<E_{name}>{pattern})" for name, pattern in _PATTERNS.items()), re.VERBOSE)
_NAMES = tuple(_PATTERNS)
# Where one of them can begin: found first, because to try them all at every place takes five times as long.
_SPOTS = re.compile(
    "page|oom-killer|vmalloc|SLUB|SLAB|cache|CPU|Pid|Linux|Not|Tainted|Mem-|Active|active|Node|DMA|Normal|HighMem|"
    "Movable|Device|lowmem_reserve|protections|total|reserved|Free|Total|Memory|oom_memcg|CONSTRAINT|killed|memory|"
    "global_oom|SysRq|sysrq|Kill|tgid|Tasks|cpuset|hugepages_total"
)


class Event(NamedTuple):
    """Something of a report. ``end``: where its own match ends; ``until``: where the next event begins."""

    kind: str
    start: int
    end: int
    until: int
    caller: str
    values: dict[str, str]


def _matches(string: str) -> Iterator[re.Match[str]]:
    end = 0
    for spot in _SPOTS.finditer(string):
        if spot.start() >= end:
            found = _ALL.match(string, spot.start())
            if found is not None:
                end = found.end()
                yield found


def find(text: Text) -> Iterator[Event]:
    """All events of a text, in their order."""
    matches = list(_matches(text.string))
    for place, match in enumerate(matches):
        kind = next(name for name in _NAMES if match[f"E_{name}"] is not None)
        until = matches[place + 1].start() if place + 1 < len(matches) else len(text.string)
        values = {name: value for name, value in match.groupdict().items() if value is not None and name[:2] != "E_"}
        yield Event(kind, match.start(), match.end(), until, text.caller(match.start()), values)
