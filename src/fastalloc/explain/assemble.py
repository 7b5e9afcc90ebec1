"""Puts the reports of a text together: each head with its version line, its trace and its Mem-Info."""

import re
from bisect import bisect_right
from collections.abc import Callable

from fastalloc.explain.clean import Text
from fastalloc.explain.complete import complete
from fastalloc.explain.events import Event
from fastalloc.explain.events import find as find_events
from fastalloc.explain.interleaved import adding_up, at_once, of_several
from fastalloc.explain.kills import Kills, has_none
from fastalloc.explain.mem_info import (
    MemInfo,
    ZoneInfo,
    read_fields,
    read_flag,
    read_list,
    read_reserve,
)
from fastalloc.explain.reports import Report
from fastalloc.linux.release import Release, parse_release

_COMM_END = re.compile(r"[\]:>]\s*([^\s\]:>][^\]>\n]{0,14}?)\s*:?\s*$")
_SUBJECT = re.compile(r"[>|*\s]*Subject\s*:", re.IGNORECASE)
_NEAR = 80  # lines between a SLUB line and the report of the same request
_PRINTS = re.compile(r"\b(?:warn_alloc\w*|__alloc_pages\w*|dump_header)\b")  # who prints a stack and a Mem-Info
_ENDLESS = re.compile(r"\d{20}")  # no number of 64 bits that counts something is as long
_HEADS = ("failure", "stall", "oom", "vmalloc")


class Reader:
    """Takes the events of a text one by one and puts the reports together."""

    def __init__(self, text: Text, boot: Release | None, events: list[Event]) -> None:
        self.text = text
        self._begins = [event.start for event in events if event.kind in (*_HEADS, "meminfo")]
        self._blocks = {event.start for event in events if event.kind == "meminfo"}
        self.boot = boot
        self.reports: list[Report] = []
        self.slub: list[dict[str, str]] = []  # without a report so far
        self._last_slub: dict[str, str] | None = None
        self._pending_vmalloc = ""
        self._sysrq_line = -1
        self._kills = Kills(text, self.reports)
        self._stack: tuple[Event, Release | None, str] | None = None  # the latest that no head took

    # ---------------------------------------------------------------------------------------------------- heads

    def take(self, event: Event) -> None:
        """Takes an event; one with a number longer than any that a kernel prints is none."""
        if any(_ENDLESS.search(value) for value in event.values.values()):
            return
        if event.kind in _HEADS:
            if not self._in_subject(event):
                self._head(event)
        elif not self._kills.take(event):
            getattr(self, f"_on_{event.kind}", self._nothing)(event)

    def _in_subject(self, event: Event) -> bool:
        """A mail's own title, or what it goes on with, quotes a head."""
        begin = self.text.start(self.text.index(event.start))
        return _SUBJECT.match(self.text.string, begin) is not None

    def _nothing(self, event: Event) -> None:
        pass

    def _head(self, event: Event) -> None:
        values, kind = event.values, event.kind
        key = {"failure": "mode", "stall": "stallmode", "oom": "oommode"}.get(kind)
        report = Report(kind, self.text.number(event.start), event.start, event.end, event.caller)
        if key:
            if key in values:
                report.mode = int(values[key], 16)
                report.mode_names = values.get(f"{key}names")
            if report.mode is not None and self.text.is_cut(event.end):
                report.mode, report.mode_names = None, None  # the line ends in it: digits may be lost
            order = values.get({"failure": "order", "stall": "stallorder", "oom": "oomorder"}[kind])
            report.order = int(order) if order is not None else (0 if kind == "oom" else None)
            report.nodemask = values.get("oomnodes")
        if kind == "oom":
            invoked = re.search(r"\s+invoked\s+$", self.text.string[max(event.start - 80, 0) : event.start])
            if invoked:
                end = event.start - len(invoked[0])
                report.comm = self._comm_before(end)
                report.start = end - len(report.comm)
        elif kind != "vmalloc":
            report.comm = self._comm_before(event.start)
        after = self.text.string[event.end : event.end + 200]
        nodes = re.match(r",?\s*nodemask=(\([a-z]+\)|[\d,-]+?)(?=[,\s]|$)", after)
        if nodes and kind != "oom":
            report.nodemask = nodes[1]
        if kind == "vmalloc":
            self._vmalloc_head(report, event, after)
            if report.mode is None:
                self._pending_vmalloc = report.vmalloc
                return
        elif kind == "failure" and self._pending_vmalloc:
            report.vmalloc = self._pending_vmalloc
        self._pending_vmalloc = ""
        report.sysrq = kind == "oom" and self._is_asked_for(event)
        self.reports.append(report)
        report.caches += self._slub_near(report)

    def _vmalloc_head(self, report: Report, event: Event, after: str) -> None:
        line = self.text.string[event.start : min(event.until, event.start + 400)]
        line = " ".join(line.split())
        mode = re.search(r"mode:\s*0x([0-9a-f]+)\s*(?:\(([^()]*)\))?", line)
        cause = line[: mode.start()] if mode else line
        report.vmalloc = re.sub(r"(?<=bytes) \S{1,16}:$", "", cause.strip(" ,"))[:160]
        order = re.search(r"page order (\d+)", cause)
        report.order = int(order[1]) if order else 0
        if mode:
            report.mode, report.mode_names = int(mode[1], 16), mode[2]
            nodes = re.search(r"nodemask=(\([a-z]+\)|[\d,-]+?)(?=[,\s]|$)", line)
            report.nodemask = nodes[1] if nodes else None
        report.comm = self._comm_before(event.start)

    def _comm_before(self, start: int) -> str:
        begin = self.text.start(self.text.index(start))
        before = self.text.string[max(begin, start - 200) : start].rstrip()
        before = before[:-1].rstrip() if before.endswith(":") else before
        if len(before) > 15:
            found = _COMM_END.search(before)
            before = found[1] if found else before.split()[-1][-15:]
        return before.strip()

    def _on_version(self, event: Event) -> None:
        values = event.values
        release = parse_release(values["release"], values.get("after", ""))
        if not values.get("after") and self.text.is_cut(event.end):
            release = None  # the line ends in it: digits may be lost
        comm = values.get("comm1") or values.get("comm2") or ""
        waiting = [
            report
            for report in self.reports[-4:]
            if report.release is None and not _done(report) and self._has_stack_to_come(report, event)
        ]
        if event.caller:
            waiting = [report for report in waiting if report.caller == event.caller] or waiting
        if not waiting:
            self._stack = event, release, comm
            return
        same = [report for report in waiting if report.comm and comm.startswith(report.comm[:15])]
        report = same[0] if same else waiting[-1]
        report.release = release
        report.comm = comm or report.comm

    def _has_stack_to_come(self, report: Report, event: Event) -> bool:
        """The stack follows the head at once; all else of a report follows the stack [warn_alloc, dump_header]."""
        headed = report.kind != "show-mem" and report.borrowed == "" and not report.victim
        return headed and self.text.near(report.start, event.start, _NEAR, 60.0)

    def _on_oldversion(self, event: Event) -> None:
        if self.reports and self.reports[-1].release is None:
            self.reports[-1].release = parse_release(event.values["old"])

    def _on_boot(self, event: Event) -> None:
        self.boot = parse_release(event.values["boot"], event.values["bootafter"]) or self.boot

    # ------------------------------------------------------------------------------------------------- Mem-Info

    def _open(self, caller: str) -> Report | None:
        """The latest report, but for one that ended with the kill that is all there is of it."""
        for report in reversed(self.reports):
            if (not caller or report.caller == caller) and (not report.borrowed or report.mem_info is not None):
                return report
        return None

    def _is_asked_for(self, event: Event) -> bool:
        """Within some lines of a SysRq that shows memory or kills nobody failed."""
        return self._sysrq_line >= 0 and 0 <= self.text.index(event.start) - self._sysrq_line < 5

    def _orphan(self, event: Event) -> Report:
        report = Report(
            "failure", self.text.number(event.start), event.start, event.end, event.caller, borrowed="no head"
        )
        report.mem_info = MemInfo(start=event.start)
        report.sysrq = self._is_asked_for(event)
        if report.sysrq:
            report.kind, report.borrowed = "show-mem", ""
        elif self._stack is not None:
            stack, release, comm = self._stack
            if self.text.near(stack.start, event.start, _NEAR, 60.0) and _PRINTS.search(
                self.text.string, stack.end, event.start
            ):
                report.release, report.comm = release, comm
        self.reports.append(report)
        return report

    def _on_meminfo(self, event: Event) -> None:
        report = self._open(event.caller)
        if self._is_asked_for(event) and (report is None or self.text.index(report.start) < self._sysrq_line):
            report = self._orphan(event)
        elif (
            report is None
            or has_none(report)
            or (report.mem_info is not None and (report.mem_info.begun or report.mem_info.zones))
        ):
            # A second block: of an earlier head that still waits (two reports interleaved), else of a lost head.
            waiting = self._waiting(event)
            report = waiting if waiting is not None else self._orphan(event)
        if report.mem_info is None:
            report.mem_info = MemInfo(start=event.start)
        report.mem_info.begun = True
        report.mem_info.last = event.end
        report.end = max(report.end, event.end)

    def _waiting(self, event: Event) -> Report | None:
        here = self.text.index(event.start)
        for report in reversed(self.reports[-6:]):
            near = here - self.text.index(report.start) < 2 * _NEAR
            if (
                report.mem_info is None
                and near
                and report.borrowed == ""
                and not has_none(report)
                and (not event.caller or report.caller == event.caller)
            ):
                return report
        return None

    def _held_up(self, event: Event) -> Report | None:
        """A block that began and has no zone yet: another report came between."""
        here = self.text.index(event.start)
        for report in reversed(self.reports[-6:]):
            block = report.mem_info
            mine = not event.caller or report.caller == event.caller
            if block is not None and block.begun and not block.zones and mine:
                return report if here - self.text.index(block.last) < 2 * _NEAR else None
        return None

    def _filling(self, event: Event, lacks: Callable[[MemInfo], bool]) -> Report | None:
        """The report whose block is being printed and still lacks something: the one that began first.

        A block that ended before the latest head is no longer printed, unless that head's own is still to begin.
        """
        latest = self._open(event.caller)
        to_begin = latest is not None and latest.mem_info is None and self._begins_later(event)
        found = [
            report
            for report in self.reports[-6:]
            if report.mem_info is not None
            and not report.mem_info.listed
            and (not event.caller or report.caller == event.caller)
            and (report is latest or latest is None or report.mem_info.last >= latest.start or to_begin)
            and lacks(report.mem_info)
        ]
        # A zone's reserve is the next that its task prints [show_free_areas].
        able = [
            report for report in found if not (block := report.mem_info) or not block.zones or block.zones[-1].reserve
        ]
        return min(able or found, key=lambda report: report.mem_info.start if report.mem_info else 0, default=None)

    def _begins_later(self, event: Event) -> bool:
        """A "Mem-Info:" comes after the event, before any other head."""
        place = bisect_right(self._begins, event.start)
        return place < len(self._begins) and self._begins[place] in self._blocks

    def _block(self, event: Event, lacks: Callable[[MemInfo], bool] = lambda block: True) -> MemInfo:
        """The block that an event belongs to: one that is being printed, that of the latest head, or of a lost head."""
        report = self._filling(event, lacks)
        if report is None:
            latest = self._open(event.caller)
            open_ = latest is not None and not has_none(latest) and not _done(latest)
            if latest is not None and open_ and (latest.mem_info is None or lacks(latest.mem_info)):
                report = latest
            else:
                report = self._waiting(event) or self._held_up(event) or self._orphan(event)
        if report.mem_info is None:
            report.mem_info = MemInfo(start=event.start)
        report.mem_info.last = event.end
        report.end = max(report.end, event.until if event.until - event.end < 1500 else event.end)
        return report.mem_info

    def _body(self, event: Event) -> str:
        return self.text.string[event.start : min(event.until, event.start + 2500)]

    def _on_totals(self, event: Event) -> None:
        block = self._block(event, lambda block: not block.totals and not block.zones)
        _, counts, _ = read_fields(self._body(event))
        for name, pages in counts.items():
            block.totals.setdefault(name, pages)

    def _on_node(self, event: Event) -> None:
        number = int(event.values["nnode"])
        # All nodes come before the first zone [show_free_areas, 4.8].
        block = self._block(event, lambda block: number not in block.nodes and not block.zones)
        kb, counts, _ = read_fields(self._body(event))
        block.nodes[number] = kb | counts
        flag = read_flag(self._body(event))
        block.node_flags[number] = "" if flag is None else ("yes" if flag else "no")

    def _on_zone(self, event: Event) -> None:
        node, zone = int(event.values.get("znode", 0)), event.values["zone"]
        body = self._body(event)
        kb, counts, whole = read_fields(body)
        if "free" not in kb:
            return
        info = ZoneInfo(node, zone, kb, counts, whole)
        info.all_unreclaimable = read_flag(body)
        block = self._block(event, lambda block: block.find(node, zone) is None)
        block.zones.append(info)
        block.numa = block.numa or "znode" in event.values

    def _zones_of(self, caller: str) -> list[tuple[Report, ZoneInfo]]:
        """The zones of the latest reports, those of the block that began first before the others."""
        blocks = [
            (report.mem_info.start, place, report, report.mem_info)
            for place, report in enumerate(self.reports[-6:])
            if report.mem_info is not None and (not caller or report.caller == caller)
        ]
        return [
            (report, info) for _, _, report, block in sorted(blocks, key=lambda one: one[:2]) for info in block.zones
        ]

    def _on_reserve(self, event: Event) -> None:
        # The reserve follows its zone's line, and a block with lists has none to come [show_free_areas].
        waiting = at_once(
            self.text,
            [
                (report, info)
                for report, info in self._zones_of(event.caller)
                if info.reserve is None and report.mem_info is not None and not report.mem_info.listed
            ],
        )
        numbers = read_reserve(event.values["reserve"])
        if of_several(waiting):
            # A zone keeps the same in both: it is not the line of one that is known to keep other.
            known = {(info.node, info.zone): info.reserve for _, info in self._zones_of(event.caller) if info.reserve}
            fits = [one for one in waiting if known.get((one[1].node, one[1].zone), numbers) == numbers]
            waiting = fits or waiting
        if waiting:
            report, info = waiting[0] if of_several(waiting) else waiting[-1]
            cut = self.text.is_cut(event.end)
            info.reserve = None if cut or not numbers else numbers
            report.end = max(report.end, event.end)

    def _on_list(self, event: Event) -> None:
        node, zone = int(event.values.get("lnode", 0)), event.values["list"]
        waiting = [
            (report, info)
            for report, info in self._zones_of(event.caller)
            if info.node == node and info.zone == zone and info.lists is None
        ]
        # The lists come after all zones: a block with a zone whose reserve is still to come is not there yet.
        ready = [one for one in waiting if one[0].mem_info and all(zone.reserve for zone in one[0].mem_info.zones)]
        lists = read_list(self.text.string[event.end : min(event.until, event.end + 900)])
        # Of blocks printed side by side the order tells; the sum tells one that went on behind another's head.
        beside = at_once(self.text, ready or waiting)
        same = [one for one in adding_up(self.text, event.start, waiting, lists) if one in ready and one not in beside]
        waiting = same or beside
        if waiting:
            report, info = waiting[0]
            info.lists = lists
            assert report.mem_info is not None
            report.mem_info.listed = True
            report.mem_info.last = event.end
            report.end = max(report.end, self.text.line_end(event.end))

    def _on_tail(self, event: Event) -> None:
        report = self._open(event.caller)
        number = re.search(r"(\d+)\s+$", self.text.string[max(event.start - 24, 0) : event.start])
        if report is not None and report.mem_info is not None and number is not None:
            name = " ".join(event.values["tailname"].split())
            report.mem_info.tail.setdefault(name, int(number[1]))
            report.end = max(report.end, event.end)

    def _on_swap(self, event: Event) -> None:
        if self.reports and self.reports[-1].mem_info is not None:
            self.reports[-1].mem_info.swap_kb.setdefault(event.values["swap"], int(event.values["swapkb"]))
            self.reports[-1].end = max(self.reports[-1].end, event.end)

    # ---------------------------------------------------------------------------------------- what else was said

    def _on_sysrq(self, event: Event) -> None:
        self._sysrq_line = self.text.index(event.start)

    def _on_mems(self, event: Event) -> None:
        report = self._open(event.caller)
        if report is not None and report.mems is None:
            report.mems = event.values["mems"].strip(",")

    def _slub_line(self, event: Event) -> dict[str, str]:
        node = event.values["slubnode"]  # -1 is NUMA_NO_NODE: that of the CPU [mm/slub.c: alloc_slab_page]
        return {
            "node": node if node != "-1" else event.values.get("cpunode", ""),
            "gfp": event.values["slubmode"],
            "names": event.values.get("slubmodenames", ""),
            "line": str(self.text.number(event.start)),
            "at": str(self.text.index(event.start)),
            "start": str(event.start),
            "end": str(event.end),
        }

    def _on_slub(self, event: Event) -> None:
        said = self._slub_line(event)
        report = self._open(event.caller)
        if report is not None and self.text.index(event.start) - self.text.index(report.end) < _NEAR:
            report.caches.append(said)
        else:
            self.slub.append(said)
        self._last_slub = said

    def _on_cache(self, event: Event) -> None:
        said = self._last_slub
        if said is not None and "cache" not in said:
            said |= {name: " ".join(value.split()) for name, value in event.values.items()}
            if "slaborder" in said:  # SLAB has one order for a cache and says no slot
                said |= {"deforder": said["slaborder"], "minorder": said["slaborder"], "bufsize": said["objsize"]}
            said["end"] = str(event.end)

    def _slub_near(self, report: Report) -> list[dict[str, str]]:
        here = self.text.index(report.start)
        near = [said for said in self.slub if here - int(said["at"]) < _NEAR]
        self.slub = [said for said in self.slub if said not in near]
        return near


def _done(report: Report) -> bool:
    return report.mem_info is not None and report.mem_info.listed


def read_reports(text: Text, boot: Release | None = None) -> tuple[list[Report], Release | None]:
    """Reads all reports of a text.

    Returns:
        The reports, and the kernel that the log names last ("Linux version"), for the next part of the log.
    """
    events = list(find_events(text))
    reader = Reader(text, boot, events)
    for event in events:
        reader.take(event)
    return complete(reader.reports, reader.slub, text, reader.boot), reader.boot
