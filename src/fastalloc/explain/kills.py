"""The lines in which the OOM killer says whose limit was hit and whom it kills."""

import re

from fastalloc.explain.clean import Text
from fastalloc.explain.events import Event
from fastalloc.explain.reports import Report

_KILLS = re.compile(r"\s*:\s*Kill")
# Between what is known of an OOM and a line that says a memory cgroup's limit was hit: a trace stands there at most.
_LINES = 160
_SECONDS = 60.0
# The message before "Kill process" and "Killed process"; "No available memory" to 2.6.35 [mm/oom_kill.c:
# out_of_memory, oom_kill_process].
_MESSAGE = re.compile(
    r"(?P<cgroup>cgroup )?(?:[Oo]ut of [Mm]emory(?: \(\w+\))?|No available memory (?:\(\w+\)|in cpuset)):\s*$"
)
_MESSAGE_CHARS = 60
_NO_MEM_INFO = (3, 9, 0)  # since then a cgroup's OOM prints none


class Kills:
    """Gives each such line to the OOM it is about, in ``reports``; where that one's head is lost, to a new report."""

    def __init__(self, text: Text, reports: list[Report]) -> None:
        self._text = text
        self._reports = reports

    def take(self, event: Event) -> bool:
        """False for an event of another kind."""
        said = {"memcg": self._memcg, "global": self._global, "killed": self._killed, "tasks": self._tasks}.get(
            event.kind
        )
        if said is not None:
            said(event)
        return said is not None

    def _memcg(self, event: Event) -> None:
        """A memory cgroup's limit was hit.

        The head is printed at a limited rate and the line of the kill always, so a kill whose head is lost is usual
        [mm/oom_kill.c: oom_kill_process, oom_rs].
        """
        said = " ".join(event.values["memcg"].split())
        report = self._last(event)
        if report is not None and not report.memcg and not self._is_open(report, event):
            report = None
        begins = said.startswith(("oom_memcg", "killed as"))
        if said.startswith("Memory cgroup out"):
            begins = _KILLS.match(self._text.string, event.end) is not None
        if report is None and begins:
            report = self._headless(event)
        if report is not None and not report.victim:
            report.memcg = report.memcg or said
            report.end = max(report.end, event.end)

    def _is_open(self, report: Report, event: Event) -> bool:
        """The OOM may still say that it is a memory cgroup's: it has neither killed nor said what else confined it.

        One OOM has one constraint, and its kill is the last that it prints [mm/oom_kill.c: constrained_alloc,
        __oom_kill_process]. With a Mem-Info it is the machine's: of a cgroup dump_header() shows the cgroup in its
        place [3.9 and later].
        """
        near = self._text.near(report.end, event.start, _LINES, _SECONDS)
        newer = report.release is not None and report.release.base >= _NO_MEM_INFO
        shown = newer and report.mem_info is not None and bool(report.mem_info.zones)
        return near and not report.victim and not report.constraint and not shown

    def _tasks(self, event: Event) -> None:
        """The OOM killer lists the tasks after the Mem-Info, and nobody else lists them [dump_header, dump_tasks]."""
        self._of_lost_head(event)

    def _global(self, event: Event) -> None:
        report = self._of_lost_head(event) or self._last(event)
        if report is None and self._text.string.endswith("oom-kill:constraint=", 0, event.start):
            report = self._headless(event)
        if report is not None and not report.constraint and not report.memcg and not report.victim:
            report.constraint = event.values["global"]
            report.end = max(report.end, event.end)

    def _killed(self, event: Event) -> None:
        message = _MESSAGE.search(self._text.string[max(event.start - _MESSAGE_CHARS, 0) : event.start])
        of_machine = message is not None and message["cgroup"] is None
        report = (self._of_lost_head(event) if of_machine else None) or self._last(event)
        if report is None and message is not None:
            report = self._headless(event)
        if report is not None and not report.victim:
            report.victim = event.values["victim"].strip()
            report.end = max(report.end, event.end)

    def _of_lost_head(self, event: Event) -> Report | None:
        """The latest report, a Mem-Info whose head is lost: what follows it says that it is an OOM's."""
        report = self._reports[-1] if self._reports else None
        if report is None or report.kind != "failure" or report.borrowed != "no head" or report.mem_info is None:
            return None
        mine = not event.caller or not report.caller or report.caller == event.caller
        if not mine or not self._text.near(report.end, event.start, _LINES, _SECONDS):
            return None
        report.kind = "oom"
        return report

    def _headless(self, event: Event) -> Report:
        """An OOM of which only a later line is there."""
        number = self._text.number(event.start)
        report = Report("oom", number, event.start, event.end, event.caller, borrowed="no head")
        self._reports.append(report)
        return report

    def _last(self, event: Event) -> Report | None:
        for report in reversed(self._reports):
            if report.kind == "oom" and (not event.caller or not report.caller or report.caller == event.caller):
                return report
        return None
