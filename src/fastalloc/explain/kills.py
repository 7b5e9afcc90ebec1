"""The lines in which the OOM killer says whose limit was hit and whom it kills."""

import re

from fastalloc.explain.clean import Text
from fastalloc.explain.events import Event
from fastalloc.explain.reports import Report

_KILLS = re.compile(r"\s*:\s*Kill")
# Between what is known of an OOM and a line that says a memory cgroup's limit was hit: a trace stands there at most.
_LINES = 160
_SECONDS = 60.0
_CHARGED = re.compile(r"\bmem_cgroup_(?:out_of_memory|oom)")  # in the stack of a cgroup's OOM
_AT_ONCE = 6  # reports that may be printed at once
# The message before "Kill process" and "Killed process"; "No available memory" to 2.6.35 [mm/oom_kill.c:
# out_of_memory, oom_kill_process].
_MESSAGE = re.compile(
    r"(?P<cgroup>cgroup )?(?:[Oo]ut of [Mm]emory(?: \(\w+\))?|No available memory (?:\(\w+\)|in cpuset)):\s*$"
)
_MESSAGE_CHARS = 60
_NO_MEM_INFO = (3, 9, 0)  # since then a cgroup's OOM prints none
_SHOWN_SINCE = "managed"  # in a zone's line since 3.8
_TASKS = 5000  # lines of a list of tasks at most
_TASK = re.compile(r"^\s*\[\s*\d+\s*\]")  # a row of dump_tasks()
_COUNTERS = ("memory", "Memory cgroup stats")  # of a cgroup, before its tasks [mem_cgroup_print_oom_meminfo]


class Kills:
    """Gives each such line to the OOM it is about, in ``reports``; where that one's head is lost, to a new report."""

    def __init__(self, text: Text, reports: list[Report]) -> None:
        self._text = text
        self._reports = reports
        self._listed: tuple[Report, Event] | None = None  # made an OOM by this list of tasks and nothing else

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
        listed = self._of_cgroup(event)
        if listed is not None:
            listed.memcg = said
        report = self._last(event)
        if report is not None and not report.memcg:
            self._give_back(report, event)
            report = report if self._is_open(report, event) else None
        begins = said.startswith(("oom_memcg", "killed as"))
        if said.startswith(_COUNTERS):
            # They come before the tasks, which would make an OOM of the Mem-Info of another report.
            before = self._lost_head(event)
            begins = before is not None and _shows_none(before)
        if said.startswith("Memory cgroup out"):
            begins = _KILLS.match(self._text.string, event.end) is not None
        if report is None and begins:
            report = self._headless(event)
        if report is not None and not report.victim:
            report.memcg = report.memcg or said
            report.end = max(report.end, event.end)

    def _of_cgroup(self, event: Event) -> Report | None:
        """The OOM of a list of tasks that was taken for that of the Mem-Info before it, and is a cgroup's after all.

        From 3.9 dump_header() shows the cgroup's counters or the Mem-Info, never both, so the Mem-Info is of another
        report whose head is lost as well.
        """
        if self._listed is None:
            return None
        report, tasks = self._listed
        first, last = self._text.index(tasks.start), self._text.index(event.start)
        told = report.victim or report.constraint or report.memcg or self._last(event) is not report
        if told or last - first > _TASKS or not self._text.near(tasks.start, event.start, _TASKS + 1, _SECONDS):
            self._listed = None
            return None
        between = sum(1 for line in self._text.lines[first:last] if not _TASK.match(line.text))
        if between > _LINES or not _shows_none(report):
            return None
        self._listed = None
        report.kind = "failure"
        return self._headless(tasks)

    def _give_back(self, report: Report, event: Event) -> None:
        """Gives a Mem-Info that came behind the head of a cgroup's OOM, which has none, to a head that lacks one: the
        two were printed at once."""
        block = report.mem_info
        told = report.victim or report.constraint or not self._text.near(report.end, event.start, _LINES, _SECONDS)
        charged = _CHARGED.search(self._text.string, report.start, event.start) is not None
        if block is None or told or report.borrowed or not charged or not _of_no_cgroup(report):
            return
        for other in reversed(self._reports[-_AT_ONCE:]):
            mine = other.caller == report.caller and not other.borrowed and not other.memcg
            near = self._text.near(other.start, block.start, _LINES, _SECONDS)
            if other is not report and mine and near and other.mem_info is None:
                report.mem_info, other.mem_info = None, block
                other.end = max(other.end, block.last)
                return

    def _is_open(self, report: Report, event: Event) -> bool:
        """The OOM may still say that it is a memory cgroup's: it has neither killed nor said what else confined it.

        One OOM has one constraint, and its kill is the last that it prints [mm/oom_kill.c: constrained_alloc,
        __oom_kill_process]. With a Mem-Info it is the machine's: of a cgroup dump_header() shows the cgroup in its
        place [3.9 and later].
        """
        near = self._text.near(report.end, event.start, _LINES, _SECONDS)
        return near and not report.victim and not report.constraint and not _shows_none(report)

    def _tasks(self, event: Event) -> None:
        """The OOM killer lists the tasks after the Mem-Info, and nobody else lists them [dump_header, dump_tasks]."""
        report = self._of_lost_head(event)
        if report is not None:
            self._listed = report, event

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
        report = self._lost_head(event)
        if report is not None:
            report.kind = "oom"
        return report

    def _lost_head(self, event: Event) -> Report | None:
        report = self._reports[-1] if self._reports else None
        if report is None or report.kind != "failure" or report.borrowed != "no head" or report.mem_info is None:
            return None
        mine = not event.caller or not report.caller or report.caller == event.caller
        return report if mine and self._text.near(report.end, event.start, _LINES, _SECONDS) else None

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


def _of_no_cgroup(report: Report) -> bool:
    """Where the report has a Mem-Info, it is of a kernel whose cgroups' OOMs print none."""
    if report.release is not None:
        return report.release.base >= _NO_MEM_INFO
    return report.mem_info is not None and any(_SHOWN_SINCE in info.kb for info in report.mem_info.zones)


def _shows_none(report: Report) -> bool:
    """The report shows the zones of a Mem-Info, so it is no cgroup's."""
    return report.mem_info is not None and bool(report.mem_info.zones) and _of_no_cgroup(report)


def has_none(report: Report) -> bool:
    """A cgroup's OOM that prints no Mem-Info: one that follows its head is another's."""
    return bool(report.memcg) and report.release is not None and report.release.base >= _NO_MEM_INFO
