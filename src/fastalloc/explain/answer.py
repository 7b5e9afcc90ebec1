"""A report and what it comes to, as text for a terminal or a mail, as JSON, and in a notebook."""

from dataclasses import dataclass, field
from html import escape
from textwrap import fill
from typing import Any

from fastalloc.explain.reports import Report
from fastalloc.explain.sentence import Advice
from fastalloc.explain.verdict import Decision, several_nodes, zone_name
from fastalloc.explain.version import Kernel
from fastalloc.explain.watermark import ZoneSum, last_try_decided
from fastalloc.linux.watermark_rules import rows_of

CAUSES = {
    "reserve": "the reserve is too small for the burst",
    "fragmentation": "fragmentation: the memory is there, not in one piece",
    "mask": "the mask bars the memory that is free",
    "nodes": "nodes with free memory are closed to it (cpuset, memory policy, __GFP_THISNODE)",
    "boost": "the boost that fragmentation gave the marks",
    "gone": "the memory is truly gone",
    "cgroup": "the limit of a memory cgroup",
    "transient": "a shortage that was over when the report was printed",
    "address-space": "the address range of vmalloc, not memory",
    "size": "the size that was asked for, not memory",
    "marks": "the marks themselves are broken",
    "boot": "the page allocator was not filled yet",
    "none": "no request failed",
    "unknown": "not told by the text",
}
KINDS = {
    "failure": "page allocation failure",
    "oom": "OOM",
    "vmalloc": "vmalloc failure",
    "slub": "SLUB: unable to allocate",
    "show-mem": "memory shown by SysRq",
    "stall": "page allocation stall",
}
_HEADER = ("zone", "free", "unusable", "usable", "min", "mark", "reserve", "needs more than", "short by", "")


@dataclass(repr=False)
class Answer:
    """A report and what it comes to.

    ``decision`` holds the sum of every zone; ``also`` the verdicts that other versions would give where the text
    does not name its kernel; ``missing`` what the report does not say.
    """

    source: str
    report: Report
    kernel: Kernel
    decision: Decision
    advice: Advice
    also: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    reason: str = ""  # why the kernel gave up
    if_task: list[str] = field(default_factory=list)  # the answer where the task was what the report cannot tell

    @property
    def verdict(self) -> str:
        """``below-mark``, ``fragmentation``, ``passes-now``, ``zone-not-allowed``, ``no-mem-info``, ``memcg-limit`` or
        ``other``."""
        return self.decision.verdict

    def __repr__(self) -> str:
        of = f"line {self.report.line}, kernel {self.kernel.release.text}"
        return f"Answer to a report of kind {self.report.kind!r} ({of}): {self.verdict}"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(as_text(self, 100))}</pre>"

    def as_json(self) -> dict[str, Any]:
        """The answer as the command's ``--json`` writes it; sizes in pages."""
        report, caller = self.report, self.decision.caller
        return {
            "source": self.source,
            "line": report.line,
            "kernel": self.kernel.release.text,
            "kernel_in_text": self.kernel.in_text,
            "kernel_within": None if self.kernel.in_text else str(self.kernel.within),
            "kind": report.kind,
            "comm": report.comm,
            "order": report.order,
            "mode": None if report.mode is None else f"{report.mode:#x}",
            "flags": list(caller.flags),
            "names": caller.names,
            "caller": {
                "may_reclaim": caller.may_reclaim,
                "atomic": caller.atomic,
                "high": caller.high,
                "harder": caller.harder,
                "memalloc": caller.memalloc,
                "memalloc_known": caller.memalloc_known,
                "cma_ok": caller.cma_ok,
                "interrupt_seen": caller.interrupt,
            },
            "class_zone": self.decision.class_zone,
            "page_kb": self.decision.page_kb,
            "zones": [zone.as_json() for zone in self.decision.zones],
            "rules": {
                step: {"rule": row.value, "source": row.said} for step, row in rows_of(self.decision.release).items()
            },
            "verdict": self.verdict,
            "why": self.decision.why,
            "reported_because": self.reason,
            "cause": self.advice.cause,
            "sentence": self.advice.sentence,
            "try_first": self.advice.first,
            "would_not_help": self.advice.useless,
            "also": self.also,
            "if_task": self.if_task,
            "missing": self.missing,
            "unknown_lines": report.unknown_lines,
            "caches": [_cache_json(said) for said in report.caches if "cache" in said],
        }


def _cache_json(said: dict[str, str]) -> dict[str, Any]:
    return {
        "cache": said["cache"],
        "gfp": f"{int(said['gfp'], 16):#x}",
        "object_size": int(said["objsize"]),
        "buffer_size": int(said["bufsize"]),
        "default_order": int(said["deforder"]),
        "min_order": int(said["minorder"]),
    }


def headline(answer: Answer) -> str:
    """One line: where, what kind, who, order, mask, kernel."""
    report, kernel = answer.report, answer.kernel
    mode = "mask not in the text" if report.mode is None else f"mode {report.mode:#x} ({answer.decision.caller.names})"
    order = "order not in the text" if report.order is None else f"order {report.order}"
    named = kernel.release.text if kernel.in_text else f"{kernel.release.name} assumed ({kernel.within})"
    said = (KINDS[report.kind], report.comm or "unknown task", order, mode, f"kernel {named}")
    return f"{answer.source}:{report.line}: {', '.join(said)}"


def caller_line(answer: Answer) -> str:
    """What the caller may do."""
    caller = answer.decision.caller
    said = ["may reclaim" if caller.may_reclaim else "may not reclaim"]
    if answer.report.page_fault:
        said = ["a page fault, whose request is not known"]
    if caller.memalloc:
        said.append("asked for no mark (memalloc)")
    zone = next((zone for zone in answer.decision.zones if zone.discounts), None)
    if zone is not None:
        said.append(
            "mark lowered by " + ", ".join(part.split(":")[0].removeprefix("without ") for part in zone.discounts)
        )
    elif not caller.memalloc and answer.decision.zones:
        said.append("the full mark")
    if caller.cma_ok:
        said.append("may use CMA")
    if answer.decision.class_zone:
        said.append(f"zones up to {caller.mask_zone}, reserve of class {answer.decision.class_zone}")
    return "; ".join(said)


def zone_rows(answer: Answer) -> list[tuple[str, ...]]:
    """The sum of each zone as cells, for text and HTML alike."""
    several, last_try = several_nodes(answer.decision), last_try_decided(answer.decision.zones)
    return [_cells(zone, zone_name(zone, several), last_try) for zone in answer.decision.zones]


def _cells(zone: ZoneSum, name: str, last_try: bool) -> tuple[str, ...]:
    if zone.available is None:
        return (name, str(zone.free), "", "", _number(zone.min), "", "", "", "", zone.verdict)
    unusable = " ".join(f"{pages} {kind}" for kind, pages in zone.unusable.items() if pages) or "0"
    verdict = zone.verdict
    if zone.short_by_range is not None and zone.short_by_range[0] != zone.short_by_range[1]:
        verdict += f" (short by {zone.short_by_range[0]} to {zone.short_by_range[1]}: highatomic not printed)"
    if zone.halving is not None:
        loop = zone.halving
        verdict += f": order loop at {loop['order']}, left {loop['left']}, needs more than {loop['need_more_than']}"
    elif zone.verdict == "fragmentation":
        verdict += f": largest order {zone.largest_usable_order if zone.largest_usable_order is not None else 'none'}"
    elif last_try and zone.last_try_high is not None:
        last = zone.last_try_high
        verdict += f": at high needs more than {last['need_more_than']}, short by {last['short_by']}"
    return (
        name,
        str(zone.free),
        unusable,
        str(zone.available),
        _number(zone.min),
        "no mark" if zone.mark is None else str(zone.mark),
        "unknown" if zone.lowmem_reserve is None and zone.mark is not None else _number(zone.lowmem_reserve),
        _number(zone.need_more_than),
        _number(zone.short_by),
        verdict,
    )


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def as_text(answer: Answer, width: int = 110) -> str:
    """The whole answer, sentences in lines of at most ``width`` columns; sizes in pages."""

    def wrapped(text: str) -> str:
        return fill(
            text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )

    lines = [headline(answer), f"  {caller_line(answer)}"]
    rows = zone_rows(answer)
    if rows:
        lines += ["", *(f"  {line}" for line in _table([_HEADER, *rows])), f"  (pages of {answer.decision.page_kb} kB)"]
    advice = answer.advice
    lines += [
        "",
        wrapped(advice.sentence),
        wrapped(f"cause: {CAUSES.get(advice.cause, advice.cause)} [{answer.verdict}]"),
    ]
    if answer.reason:
        lines.append(wrapped(f"reported because: {answer.reason}"))
    for title, said in (("try first", advice.first), ("would not help", advice.useless)):
        lines += [wrapped(f"{title}: {one}") for one in said]
    lines += [wrapped(f"by another version: {one}") for one in answer.also]
    lines += [wrapped(one) for one in answer.if_task]
    lines += [wrapped(f"not in the report: {one}") for one in answer.missing]
    if answer.report.unknown_lines:
        lines.append(f"  lines inside the report that were not understood: {answer.report.unknown_lines}")
    return "\n".join(lines) + "\n"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    drawn = []
    for row in rows:
        cells = [cell.ljust(width) if column in (0, len(row) - 1) else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        drawn.append("  ".join(cells).rstrip())
    return drawn
