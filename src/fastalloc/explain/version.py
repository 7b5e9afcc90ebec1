"""Which kernel printed a report: the one it names, else those that print so."""

import re
from typing import NamedTuple

from fastalloc.explain.mem_info import MemInfo
from fastalloc.explain.reports import Report
from fastalloc.linux.gfp_masks import candidates, made_by
from fastalloc.linux.mem_info import FIELD_SIGNS, LONG_TERM, TEXT_SIGNS, Sign
from fastalloc.linux.release import (
    BASES,
    EVER,
    MERGE_WINDOW,
    Base,
    Release,
    Span,
    base_name,
    following,
    parse_base,
)
from fastalloc.linux.watermark_rules import DECIDED_BY, UNREAD


class Kernel(NamedTuple):
    """The kernel by whose rules a report is judged.

    ``within``: the versions that print such a report, where the text names none. ``note``: what was assumed.
    """

    release: Release
    in_text: bool
    within: Span
    note: str


def kernel_of(report: Report) -> Kernel:
    """The kernel of a report."""
    if report.release is not None:
        release = report.release
        if release.next:
            signs = signs_of(report)
            # linux-next carries the code of the version after; what it prints tells whether it has come that far.
            after = following(release.base)
            printed = meet([sign.versions for sign in signs if sign.shown])
            if after in printed or release.base not in printed:
                note = f"linux-next of {release.name}: judged by the rules of {base_name(after)}"
                return Kernel(release._replace(base=after, stable=None), True, Span(after, after), note)
        if release.base < BASES[0]:
            note = f"{release.text} is older than 2.6.9, whose rules are used"
            return Kernel(release._replace(base=BASES[0]), True, Span(BASES[0], BASES[0]), note)
        if release.distribution:
            return _of_distribution(report, release)
        if release.commits >= MERGE_WINDOW and following(release.base) > release.base:
            return _of_merge_window(report, release)
        return Kernel(release, True, Span(release.base, release.base), _note(release.base))
    within = meet([sign.versions for sign in signs_of(report)])
    if report.mode is not None:
        within = _of_mask(report, report.mode, within)
    base = _choose(within)
    return Kernel(
        Release(base_name(base), base), False, within, f"no version in the text; reports of {within} look like this"
    )


def _of_mask(report: Report, mode: int, within: Span) -> Span:
    """Of some versions those in which the names beside the mask make it, else those whose names fit it best."""
    names = report.mode_names
    said = [base for base in BASES if base in within and names and made_by(names, mode, base)]
    if said:
        return Span(said[0], EVER.last if said[-1] == BASES[-1] else said[-1])
    masks = candidates(mode, within)
    return Span(masks[0].first, masks[-1].last) if masks else within


def _of_distribution(report: Report, release: Release) -> Kernel:
    """A distribution's kernel, whose name tells where its code began and not what came into it since.

    Names of another numbering than its version's beside the mask, or a field of something that only later versions
    decide by, tell that it has later code: it is judged by the first version that has it.
    """
    table, newest = release.base, _printed_since(report, release.base)
    if newest > table:
        name = base_name(newest)
        note = f"{release.text}, a distribution's kernel, prints what came with {name}: judged by the rules of {name}"
        return Kernel(release._replace(base=newest, stable=None), True, Span(newest, newest), note)
    note = "; ".join(filter(None, ("a distribution's kernel: its base version's rules", _note(table))))
    return Kernel(release, True, Span(table, table), note)


def _of_merge_window(report: Report, release: Release) -> Kernel:
    """A kernel many commits after a version: some of the next one's are in it, and which the name does not tell.

    What it prints may tell that the next one's page allocator is; else its own version's rules are used, and the next
    one's answer stands beside.
    """
    base, after = release.base, following(release.base)
    name, newer = base_name(base), base_name(after)
    came = f"{release.text} is {release.commits} commits after {name}, in the merge window of {newer}"
    printed = meet([sign.versions for sign in signs_of(report) if sign.shown])
    if _printed_since(report, base) >= after or (after in printed and base not in printed):
        note = f"{came}, and prints what came with that: judged by its rules"
        return Kernel(release._replace(base=after, stable=None), True, Span(after, after), note)
    note = f"{came}: judged by the rules of {name}, those of {newer} may hold already"
    return Kernel(release, True, Span(base, after), "; ".join(filter(None, (note, _note(base)))))


def _printed_since(report: Report, table: Base) -> Base:
    """The version, ``table`` or later, that has the numbers of the mask's names and the fields that it decides by."""
    later = [table]
    if report.mode and report.mode_names:
        names = report.mode_names
        said = [base for base in BASES if base >= table and made_by(names, report.mode, base)]
        later += said[:1]
    if report.mem_info is not None:
        shown = set().union(*(names for names, _ in _fields(report.mem_info).values()))
        later += [parse_base(first) for field, first in DECIDED_BY.items() if field in shown]
    return max(later)


def _note(base: Base) -> str:
    """What is to be said of a version that no row of the tables was read in."""
    if base in UNREAD:
        return f"the rules of {base_name(base)} were not read: those of the versions around it are used"
    if base > BASES[-1]:
        return (
            f"{base_name(base)} is newer than {base_name(BASES[-1])}, the newest whose rules are known: those are used"
        )
    return ""


def signs_of(report: Report) -> list[Sign]:
    """What the report shows of its version."""
    found = [sign for sign in TEXT_SIGNS if re.search(sign.what, report.text)]
    if report.mem_info is not None:
        shown = _fields(report.mem_info)
        for sign in FIELD_SIGNS:
            names, whole = shown.get(sign.where, (set(), False))
            if names and (sign.what in names if sign.shown else whole and sign.what not in names):
                found.append(sign)
    return found


def _fields(block: MemInfo) -> dict[str, tuple[set[str], bool]]:
    """The names that each kind of line shows, and whether one of the kind is whole."""
    shown: dict[str, tuple[set[str], bool]] = {}
    if block.totals:
        names = set(block.totals)
        shown["totals"] = (names, {"slab_reclaimable", "writeback", "bounce", "free"} <= names)
    for number, values in block.nodes.items():
        before = shown.get("node", (set(), False))
        shown["node"] = (before[0] | set(values), before[1] or bool(block.node_flags.get(number)))
    for info in block.zones:
        before = shown.get("zone", (set(), False))
        shown["zone"] = (before[0] | set(info.kb) | set(info.counts), before[1] or info.whole)
    return shown


def meet(spans: list[Span]) -> Span:
    """The versions that most of the spans hold; of several such stretches the longest."""
    held = {base: sum(base in one for one in spans) for base in BASES}
    most = max(held.values())
    runs: list[list[Base]] = []
    for base in BASES:
        if held[base] < most:
            continue
        if runs and BASES.index(runs[-1][-1]) + 1 == BASES.index(base):
            runs[-1].append(base)
        else:
            runs.append([base])
    run = max(runs, key=len)
    return Span(run[0], EVER.last if run[-1] == BASES[-1] else run[-1])


def _choose(within: Span) -> Base:
    inside = [base for base in BASES if base in within] or [BASES[-1]]
    served = [base for base in LONG_TERM if base in within]
    return served[-1] if served else inside[-1]


def others(kernel: Kernel) -> list[Base]:
    """The other versions that a report may come from."""
    return [base for base in BASES if base in kernel.within and base != kernel.release.base]
