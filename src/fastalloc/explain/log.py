"""Answers every memory report of a log."""

import re
from collections import Counter
from collections.abc import Iterator
from os import PathLike
from typing import BinaryIO

from fastalloc.errors import reading
from fastalloc.explain.advice import advise
from fastalloc.explain.answer import Answer
from fastalloc.explain.assemble import read_reports
from fastalloc.explain.clean import clean
from fastalloc.explain.missing import missing_of
from fastalloc.explain.parts import open_log, parts
from fastalloc.explain.reason import reported_because
from fastalloc.explain.refusal import no_report
from fastalloc.explain.reports import Report
from fastalloc.explain.verdict import Decision, decide
from fastalloc.explain.version import Kernel, kernel_of, others
from fastalloc.linux.gfp_masks import eras
from fastalloc.linux.release import Release, base_name
from fastalloc.linux.watermark_rules import rules_of

# One expression each: a fixed beginning is found ten times as fast as either of two.
_HEADS = (
    (re.compile(r"page allocation failure[.:] order:(?P<order>\d+), mode:(?P<mode>0x[0-9a-f]+)"), "failure"),
    (re.compile(r"oom-killer: gfp_mask=(?P<mode>0x[0-9a-f]+)[^\n]*?order=(?P<order>-?\d+)"), "oom"),
)


def explain(source: str | PathLike[str] | BinaryIO) -> list[Answer]:
    """Answers every memory report of a log.

    Args:
        source: a file (plain or gzip), ``-`` for standard input, a binary stream, or the text itself (a string with
            more than one line).

    Returns:
        The answers in the order of the log.

    Raises:
        InputError: the file cannot be read, or holds no report.
    """
    with reading("text" if isinstance(source, str) and "\n" in source else source, "", "cannot be answered"):
        answers = list(iter_answers(source))
    if not answers:
        raise no_report(source)
    return answers


def iter_answers(
    source: str | PathLike[str] | BinaryIO, limit: int = 0, beyond: Counter[str] | None = None
) -> Iterator[Answer]:
    """Answers the reports of a log one by one, in constant memory.

    ``limit``: the most that are answered, 0 for all. The heads of the others are counted in ``beyond``, by order and
    mask: in a log that repeats itself ten thousand times they cost less than an answer each.
    """
    name, stream = open_log(source)
    boot: Release | None = None
    done = 0

    def enough() -> bool:
        return 0 < limit <= done

    with stream:
        for first_line, raw in parts(stream, enough, name):
            if enough():
                if beyond is not None:
                    for pattern, kind in _HEADS:
                        for head in pattern.finditer(raw):
                            beyond[f"{kind} order {head['order']}, mode {head['mode']}"] += 1
                continue
            reports, boot = read_reports(clean(raw, first_line), boot)
            for report in reports:
                if not limit or done < limit:
                    yield answer_of(report, name)
                elif beyond is not None and report.mode is not None:
                    beyond[f"{report.kind} order {report.order}, mode {report.mode:#x}"] += 1
                done += 1


def answer_of(report: Report, source: str = "") -> Answer:
    """Answers one report."""
    kernel = kernel_of(report)
    decision = decide(report, kernel)
    answer = Answer(source, report, kernel, decision, advise(report, decision))
    answer.also = _other_versions(report, kernel, decision)
    answer.if_task = _other_tasks(report, kernel, decision)
    answer.reason = reported_because(report, decision)
    answer.missing = missing_of(report, kernel, decision)
    return answer


def _other_versions(report: Report, kernel: Kernel, decision: Decision) -> list[str]:
    """Where the version is a guess: versions whose rules give another verdict or another shortage."""
    found: dict[str, list[str]] = {}
    mine = _figures(decision)
    judged: dict[object, Decision] = {}
    for base in others(kernel):
        release = Release(base_name(base), base)
        key = (rules_of(release), next(era for era in eras() if base in era))
        if key not in judged:
            judged[key] = decide(report, kernel._replace(release=release))
        other = judged[key]
        if _figures(other) != mine:
            found.setdefault(f"{other.verdict}: {other.why}", []).append(base_name(base))
    return [f"by {names[0]}{' to ' + names[-1] if len(names) > 1 else ''}: {said}" for said, names in found.items()]


def _other_tasks(report: Report, kernel: Kernel, decision: Decision) -> list[str]:
    """The answers where the task had PF_MEMALLOC, was real-time, or a victim: no report tells."""
    caller = decision.caller
    said: list[str] = []
    if not decision.zones or report.kind != "failure" or caller.memalloc or not caller.may_reclaim:
        return said
    tasks: list[tuple[str, dict[str, bool]]] = []
    if not caller.memalloc_known:
        tasks.append(("had PF_MEMALLOC", {"memalloc": True}))
    nested = decision.rules.harder == "NON_BLOCK"
    if not caller.interrupt and not (caller.high if nested else caller.harder):
        tasks.append(("was real-time", {"high": True} if nested else {"harder": True}))
    if decision.rules.victim == "half":
        tasks.append(("was an OOM victim", {"victim": True}))
    elif caller.memalloc_known:
        tasks.append(("was an OOM victim", {"memalloc": True}))
    for words, task in tasks:
        other = decide(report, kernel, task)
        if other.verdict == decision.verdict == "passes-now":
            continue  # a lower mark passes as well: nothing is told by it
        if _figures(other) != _figures(decision) and (other.verdict, other.why) != (decision.verdict, decision.why):
            said.append(f"if the task {words}: {other.verdict}: {other.why}")
    return said


def _figures(decision: Decision) -> tuple[object, ...]:
    return (
        decision.verdict,
        *((zone.node, zone.zone, zone.mark, zone.short_by, zone.verdict) for zone in decision.zones),
    )
